//! Which subnets and addresses a load balancer gets.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{Ipv4Net, Ipv6Net};

use super::families::Families;
use crate::{
    Model, Value,
    fault::{Code, Result},
    schema::{Fields, Input, Kind, TEXT, optional},
    value::record,
};

/// A load balancer's place in one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) zone: String,
    pub(crate) subnet: String,
    /// Where it listens and where its checks and flows come from.
    pub(crate) address: Ipv4Addr,
    /// The same with IPv6, when the load balancer is dualstack.
    pub(crate) ipv6: Option<Ipv6Place>,
    /// Elastic IP, by allocation id.
    pub(crate) allocation: Option<String>,
    /// Whether the caller asked for `address`.
    pub(crate) chosen: bool,
    /// Id of the network interface.
    pub(crate) interface: String,
}

/// What a dualstack load balancer has in a zone beside its IPv4 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ipv6Place {
    pub(crate) address: Ipv6Addr,
    /// Whether the caller asked for `address`.
    chosen: bool,
    /// The prefix for source NAT, while that is on.
    prefix: Option<Ipv6Net>,
}

impl Mapping {
    /// Its address of the family of another.
    pub(crate) fn address_facing(&self, other: IpAddr) -> Option<IpAddr> {
        match other {
            IpAddr::V4(_) => Some(self.address.into()),
            IpAddr::V6(_) => self.ipv6.map(|ipv6| ipv6.address.into()),
        }
    }

    /// All of its addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        [Some(self.address.into()), self.ipv6.map(|ipv6| ipv6.address.into())].into_iter().flatten()
    }
}

/// A place that a caller asks for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) subnet: String,
    zone: String,
    allocation: Option<String>,
    address: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
    /// For source NAT; none means any.
    prefix: Option<Ipv6Net>,
}

impl Wanted {
    /// Whether an existing place is what is asked for.
    pub(super) fn fits(&self, mapping: &Mapping) -> bool {
        self.fits_ipv4(mapping)
            && self.ipv6.is_none_or(|wanted| mapping.ipv6.is_some_and(|has| has.address == wanted))
            && self.prefix.is_none_or(|wanted| mapping.ipv6.is_some_and(|has| has.prefix == Some(wanted)))
    }

    fn fits_ipv4(&self, mapping: &Mapping) -> bool {
        self.subnet == mapping.subnet
            && self.allocation == mapping.allocation
            && self.address == mapping.chosen.then_some(mapping.address)
    }
}

pub(super) const MAPPINGS: Kind = Kind::list(&Kind::Record(&[
    optional("SubnetId", TEXT),
    optional("AllocationId", TEXT),
    optional("PrivateIPv4Address", TEXT),
    optional("IPv6Address", TEXT),
    optional("SourceNatIpv6Prefix", TEXT),
]));

/// The length of a prefix for source NAT.
const PREFIX_BITS: u8 = 80;

impl Model {
    /// Reads `Subnets` or `SubnetMappings`, in the order of the zones' names.
    pub(super) fn read_mappings(&self, input: &Input, internal: bool, families: Families) -> Result<Vec<Wanted>> {
        let (subnets, mappings) = (input.texts("Subnets"), input.records("SubnetMappings"));
        if !subnets.is_empty() && !mappings.is_empty() {
            return Code::ValidationError.refuse("You must specify either subnets or subnet mappings, not both");
        }
        let mut wanted = Vec::new();
        for id in subnets {
            wanted.push(self.want(id, families)?);
        }
        for mapping in mappings {
            wanted.push(self.want_mapping(mapping, internal, families)?);
        }
        if wanted.is_empty() {
            return Code::ValidationError.refuse("At least one subnet must be specified");
        }
        wanted.sort_by(|a, b| a.zone.cmp(&b.zone));
        if wanted.windows(2).any(|pair| pair[0].zone == pair[1].zone) {
            return Code::InvalidConfigurationRequest
                .refuse("A load balancer cannot be attached to multiple subnets in the same Availability Zone");
        }
        Ok(wanted)
    }

    fn want(&self, id: &str, families: Families) -> Result<Wanted> {
        let Some(subnet) = self.world.subnet(id) else {
            return Code::SubnetNotFound.refuse(format!("The subnet ID '{id}' does not exist"));
        };
        if families.dualstack && subnet.ipv6.is_none() {
            return Code::InvalidSubnet.refuse(format!("The subnet '{id}' has no associated IPv6 CIDR block"));
        }
        let (subnet, zone) = (id.to_owned(), subnet.zone.clone());
        Ok(Wanted { subnet, zone, allocation: None, address: None, ipv6: None, prefix: None })
    }

    fn want_mapping(&self, mapping: &Fields, internal: bool, families: Families) -> Result<Wanted> {
        let id = mapping.text("SubnetId").unwrap_or_default();
        let mut wanted = self.want(id, families)?;
        if let Some(allocation) = mapping.text("AllocationId") {
            if internal {
                return Code::InvalidConfigurationRequest
                    .refuse("Elastic IP addresses are not supported for load balancers with the scheme 'internal'");
            }
            if !self.elastic.contains_key(allocation) {
                return Code::AllocationIdNotFound
                    .refuse(format!("The allocation IDs '{allocation}' are not available for use"));
            }
            wanted.allocation = Some(allocation.to_owned());
        }
        if let Some(text) = mapping.text("PrivateIPv4Address") {
            if !internal {
                return Code::InvalidConfigurationRequest.refuse(
                    "Private IPv4 addresses can be specified only for load balancers with the scheme 'internal'",
                );
            }
            wanted.address = Some(self.in_subnet(id, text)?);
        }
        if let Some(text) = mapping.text("IPv6Address") {
            if !families.dualstack {
                return Code::InvalidConfigurationRequest.refuse(
                    "IPv6 addresses can be specified only for load balancers with the IP address type 'dualstack'",
                );
            }
            wanted.ipv6 = Some(self.in_subnet(id, text)?);
        }
        if let Some(text) = mapping.text("SourceNatIpv6Prefix") {
            if !families.source_nat {
                return Code::InvalidConfigurationRequest
                    .refuse("Source NAT prefixes can be specified only with EnablePrefixForIpv6SourceNat 'on'");
            }
            wanted.prefix = if text == "auto_assigned" { None } else { Some(self.prefix_in(id, text)?) };
        }
        Ok(wanted)
    }

    /// The places that a load balancer has, with other families perhaps.
    pub(super) fn same_places(&self, present: &[Mapping], families: Families) -> Result<Vec<Wanted>> {
        let same = |mapping: &Mapping| {
            let wanted = self.want(&mapping.subnet, families)?;
            let address = mapping.chosen.then_some(mapping.address);
            Ok(Wanted { allocation: mapping.allocation.clone(), address, ..wanted })
        };
        present.iter().map(same).collect()
    }

    /// An address that the caller chooses in a subnet.
    fn in_subnet<A: std::str::FromStr + Copy + Into<IpAddr>>(&self, subnet: &str, text: &str) -> Result<A> {
        let within = |address: &A| self.world.subnet(subnet).is_some_and(|s| s.contains((*address).into()));
        text.parse().ok().filter(within).ok_or_else(|| {
            Code::InvalidConfigurationRequest
                .because(format!("The IP address '{text}' is not in the range of the subnet '{subnet}'"))
        })
    }

    fn prefix_in(&self, subnet: &str, text: &str) -> Result<Ipv6Net> {
        let range = self.world.subnet(subnet).and_then(|s| s.ipv6);
        let fits = |prefix: &Ipv6Net| {
            prefix.prefix_len() == PREFIX_BITS
                && prefix.trunc() == *prefix
                && range.is_some_and(|range| range.contains(prefix))
        };
        text.parse().ok().filter(fits).ok_or_else(|| {
            Code::InvalidConfigurationRequest
                .because(format!("The prefix '{text}' is not a range of {PREFIX_BITS} bits in the subnet '{subnet}'"))
        })
    }

    /// Gives addresses. Places in `present` that fit are kept with theirs.
    pub(super) fn place(
        &mut self,
        wanted: Vec<Wanted>,
        present: &[Mapping],
        families: Families,
    ) -> Result<Vec<Mapping>> {
        let mut used = self.used_addresses();
        let mut placed = Vec::new();
        for want in wanted {
            if let Some(kept) = present.iter().find(|m| want.fits_ipv4(m)) {
                let ipv6 = self.ipv6_place(&want, Some(kept), kept.address, families)?;
                placed.push(Mapping { ipv6, ..kept.clone() });
                continue;
            }
            if let Some(held) = want.allocation.as_ref().and_then(|id| self.holder_of(id)) {
                return Code::ResourceInUse.refuse(format!("The allocation is in use by load balancer '{held}'"));
            }
            let chosen = want.address.is_some();
            let address = match want.address {
                Some(address) if used.contains(&address) => return Err(in_use(address.into(), &want.subnet)),
                Some(address) => address,
                None => self.free_address(&want.subnet, &used)?,
            };
            used.insert(address);
            let ipv6 = self.ipv6_place(&want, None, address, families)?;
            let interface = format!("eni-{}{}", self.random.hex(16), self.random.hex(1));
            let (zone, subnet, allocation) = (want.zone, want.subnet, want.allocation);
            placed.push(Mapping { zone, subnet, address, ipv6, allocation, chosen, interface });
        }
        let others = self.balancers.iter().map(|(_, b)| b.mappings.len()).sum::<usize>() - present.len();
        if others + placed.len() > self.settings.quota_interfaces as usize {
            return Code::InvalidConfigurationRequest.refuse(format!(
                "The maximum number of network interfaces of Network Load Balancers '{}' has been reached in VPC '{}'",
                self.settings.quota_interfaces, self.world.vpc.id
            ));
        }
        Ok(placed)
    }

    /// The IPv6 side of a place. What is there stays: an address for as long as the load balancer is dualstack, a prefix
    /// until another is asked for.
    fn ipv6_place(
        &self,
        want: &Wanted,
        kept: Option<&Mapping>,
        beside: Ipv4Addr,
        families: Families,
    ) -> Result<Option<Ipv6Place>> {
        if !families.dualstack {
            return Ok(None);
        }
        let has = kept.and_then(|mapping| mapping.ipv6);
        let used = || -> BTreeSet<Ipv6Addr> {
            let instances = self.world.instances.iter().filter_map(|i| self.world.ipv6_of(i.address));
            self.all_places().filter_map(|m| Some(m.ipv6?.address)).chain(instances).collect()
        };
        let (address, chosen) = match (want.ipv6, has) {
            (Some(wanted), Some(has)) if wanted != has.address => {
                return Code::InvalidConfigurationRequest.refuse(format!(
                    "The IPv6 address '{}' in the subnet '{}' cannot be changed to '{wanted}'",
                    has.address, want.subnet
                ));
            }
            (_, Some(has)) => (has.address, has.chosen),
            (Some(wanted), None) if used().contains(&wanted) => return Err(in_use(wanted.into(), &want.subnet)),
            (Some(wanted), None) => (wanted, true),
            (None, None) => {
                let used = used();
                let first = self.world.subnet(&want.subnet).and_then(|s| s.ipv6_of(beside));
                // Above its last 32 bits nobody has addresses but who chose them.
                let mut candidates = first.into_iter().flat_map(|first| {
                    (0..u128::from(u16::MAX)).map(move |n| Ipv6Addr::from(u128::from(first) + (n << 32)))
                });
                let free = candidates.find(|address| !used.contains(address));
                (free.ok_or_else(|| no_space(&want.subnet))?, false)
            }
        };
        let prefix = if families.source_nat { Some(self.source_nat_prefix(want, has)?) } else { None };
        Ok(Some(Ipv6Place { address, chosen, prefix }))
    }

    fn source_nat_prefix(&self, want: &Wanted, has: Option<Ipv6Place>) -> Result<Ipv6Net> {
        let own = has.and_then(|has| has.prefix);
        let used: BTreeSet<_> =
            self.all_places().filter_map(|m| m.ipv6?.prefix).filter(|prefix| Some(*prefix) != own).collect();
        match (want.prefix, own) {
            (Some(wanted), _) if used.contains(&wanted) => Code::InvalidConfigurationRequest
                .refuse(format!("The prefix '{wanted}' in the subnet '{}' is in use", want.subnet)),
            (Some(wanted), _) => Ok(wanted),
            (None, Some(own)) => Ok(own),
            // The first one has the addresses of instances and pods.
            (None, None) => {
                let range = self.world.subnet(&want.subnet).and_then(|s| s.ipv6);
                let mut all = range.and_then(|range| range.subnets(PREFIX_BITS).ok()).into_iter().flatten().skip(1);
                all.find(|prefix| !used.contains(prefix)).ok_or_else(|| no_space(&want.subnet))
            }
        }
    }

    /// The places of all load balancers, those included that are being given up.
    fn all_places(&self) -> impl Iterator<Item = &Mapping> {
        let live = self.balancers.iter().flat_map(|(_, b)| &b.mappings);
        live.chain(self.retiring.iter().map(|r| &r.mapping))
    }

    fn used_addresses(&self) -> BTreeSet<Ipv4Addr> {
        let instances = self.world.instances.iter().map(|i| i.address);
        self.all_places().map(|m| m.address).chain(instances).collect()
    }

    /// The lowest free address in the upper half of a subnet.
    fn free_address(&self, subnet: &str, used: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr> {
        let free = self.world.subnet(subnet).and_then(|s| upper_half(s.cidr).find(|a| !used.contains(a)));
        free.ok_or_else(|| no_space(subnet))
    }

    /// The load balancer that has an elastic IP.
    pub(crate) fn holder_of(&self, allocation: &str) -> Option<&str> {
        let has = |m: &Mapping| m.allocation.as_deref() == Some(allocation);
        self.balancers.find(|b| b.mappings.iter().any(has)).map(|(_, b)| b.arn.as_str())
    }

    pub(super) fn show_mappings(&self, mappings: &[Mapping]) -> Value {
        let show = |mapping: &Mapping| {
            let elastic = mapping.allocation.as_ref().and_then(|id| Some((id, self.elastic.get(id)?)));
            let private = mapping.chosen.then_some(mapping.address);
            let ipv6 = mapping.ipv6.filter(|ipv6| ipv6.chosen).map(|ipv6| ipv6.address);
            let address = record! {
                ? "IpAddress": elastic.map(|(_, elastic)| elastic.address),
                ? "AllocationId": elastic.map(|(id, _)| id.as_str()),
                ? "PrivateIPv4Address": private,
                ? "IPv6Address": ipv6,
            };
            let is_chosen = elastic.is_some() || private.is_some() || ipv6.is_some();
            let prefix = mapping.ipv6.and_then(|ipv6| ipv6.prefix);
            record! {
                "ZoneName": mapping.zone.as_str(),
                "SubnetId": mapping.subnet.as_str(),
                "LoadBalancerAddresses": Value::List(is_chosen.then_some(address).into_iter().collect()),
                ? "SourceNatIpv6Prefixes": prefix.map(|prefix| Value::List(vec![prefix.to_string().into()])),
            }
        };
        mappings.iter().map(show).collect()
    }
}

fn in_use(address: IpAddr, subnet: &str) -> crate::fault::Fault {
    Code::InvalidConfigurationRequest.because(format!("The IP address '{address}' in the subnet '{subnet}' is in use"))
}

fn no_space(subnet: &str) -> crate::fault::Fault {
    Code::InvalidSubnet.because(format!(
        "Not enough IP space available in {subnet}. ELB requires at least 8 free IP addresses in each subnet."
    ))
}

/// The addresses that load balancers are given: from the middle of the range to the one before broadcast.
pub(crate) fn upper_half(range: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
    let middle = first + (last - first) / 2 + 1;
    (middle..last).map(Ipv4Addr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_half_leaves_the_lower_half_and_the_broadcast_address_alone() {
        let all: Vec<_> = upper_half("192.168.11.0/24".parse().expect("a range")).collect();
        assert_eq!(all.first(), Some(&Ipv4Addr::new(192, 168, 11, 128)));
        assert_eq!(all.last(), Some(&Ipv4Addr::new(192, 168, 11, 254)));
        assert_eq!(upper_half("10.0.0.0/31".parse().expect("a range")).count(), 0);
    }
}
