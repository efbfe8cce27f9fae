//! Which subnets and addresses a load balancer gets.

use std::{collections::BTreeSet, net::Ipv4Addr};

use ipnet::Ipv4Net;

use crate::{
    Model, Value,
    fault::{Code, Result},
    schema::{Input, Kind, TEXT, optional},
    value::record,
};

/// A load balancer's place in one zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) zone: String,
    pub(crate) subnet: String,
    /// Where it listens and where its checks and flows come from.
    pub(crate) address: Ipv4Addr,
    /// Elastic IP, by allocation id.
    pub(crate) allocation: Option<String>,
    /// Whether the caller asked for `address`.
    pub(crate) chosen: bool,
    /// Id of the network interface.
    pub(crate) interface: String,
}

/// A place that a caller asks for.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) subnet: String,
    zone: String,
    allocation: Option<String>,
    address: Option<Ipv4Addr>,
}

impl Wanted {
    /// Whether an existing place is what is asked for.
    pub(super) fn fits(&self, mapping: &Mapping) -> bool {
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

impl Model {
    /// Reads `Subnets` or `SubnetMappings`, in the order of the zones' names.
    pub(super) fn read_mappings(&self, input: &Input, internal: bool) -> Result<Vec<Wanted>> {
        let (subnets, mappings) = (input.texts("Subnets"), input.records("SubnetMappings"));
        if !subnets.is_empty() && !mappings.is_empty() {
            return Code::ValidationError.refuse("You must specify either subnets or subnet mappings, not both");
        }
        let mut wanted = Vec::new();
        for id in subnets {
            wanted.push(self.want(id, None, None)?);
        }
        for mapping in mappings {
            let (allocation, address) = (mapping.text("AllocationId"), mapping.text("PrivateIPv4Address"));
            if mapping.has("IPv6Address") || mapping.has("SourceNatIpv6Prefix") {
                return Code::InvalidConfigurationRequest
                    .refuse("IPv6 addresses need subnets with an associated IPv6 CIDR block");
            }
            if internal && allocation.is_some() {
                return Code::InvalidConfigurationRequest
                    .refuse("Elastic IP addresses are not supported for load balancers with the scheme 'internal'");
            }
            if !internal && address.is_some() {
                return Code::InvalidConfigurationRequest.refuse(
                    "Private IPv4 addresses can be specified only for load balancers with the scheme 'internal'",
                );
            }
            wanted.push(self.want(mapping.text("SubnetId").unwrap_or_default(), allocation, address)?);
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

    fn want(&self, id: &str, allocation: Option<&str>, address: Option<&str>) -> Result<Wanted> {
        let Some(subnet) = self.world.subnet(id) else {
            return Code::SubnetNotFound.refuse(format!("The subnet ID '{id}' does not exist"));
        };
        if let Some(id) = allocation
            && !self.elastic.contains_key(id)
        {
            return Code::AllocationIdNotFound.refuse(format!("The allocation IDs '{id}' are not available for use"));
        }
        let address = match address {
            None => None,
            Some(text) => match text.parse::<Ipv4Addr>() {
                Ok(address) if subnet.cidr.contains(&address) => Some(address),
                _ => {
                    return Code::InvalidConfigurationRequest
                        .refuse(format!("The IP address '{text}' is not in the range of the subnet '{id}'"));
                }
            },
        };
        let allocation = allocation.map(str::to_owned);
        Ok(Wanted { subnet: id.to_owned(), zone: subnet.zone.clone(), allocation, address })
    }

    /// Gives addresses. Places in `present` that fit are kept with theirs.
    pub(super) fn place(&mut self, wanted: Vec<Wanted>, present: &[Mapping]) -> Result<Vec<Mapping>> {
        let mut used = self.used_addresses();
        let mut placed = Vec::new();
        for want in wanted {
            if let Some(kept) = present.iter().find(|m| want.fits(m)) {
                placed.push(kept.clone());
                continue;
            }
            if let Some(held) = want.allocation.as_ref().and_then(|id| self.holder_of(id)) {
                return Code::ResourceInUse.refuse(format!("The allocation is in use by load balancer '{held}'"));
            }
            let chosen = want.address.is_some();
            let address = match want.address {
                Some(address) if used.contains(&address) => {
                    return Code::InvalidConfigurationRequest
                        .refuse(format!("The IP address '{address}' in the subnet '{}' is in use", want.subnet));
                }
                Some(address) => address,
                None => self.free_address(&want.subnet, &used)?,
            };
            used.insert(address);
            let interface = format!("eni-{}{}", self.random.hex(16), self.random.hex(1));
            let (zone, subnet, allocation) = (want.zone, want.subnet, want.allocation);
            placed.push(Mapping { zone, subnet, address, allocation, chosen, interface });
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

    fn used_addresses(&self) -> BTreeSet<Ipv4Addr> {
        let balancers = self.balancers.iter().flat_map(|(_, b)| b.mappings.iter().map(|m| m.address));
        let retiring = self.retiring.iter().map(|r| r.mapping.address);
        let instances = self.world.instances.iter().map(|i| i.address);
        balancers.chain(retiring).chain(instances).collect()
    }

    /// The lowest free address in the upper half of a subnet.
    fn free_address(&self, subnet: &str, used: &BTreeSet<Ipv4Addr>) -> Result<Ipv4Addr> {
        let free = self.world.subnet(subnet).and_then(|s| upper_half(s.cidr).find(|a| !used.contains(a)));
        free.ok_or_else(|| {
            Code::InvalidSubnet.because(format!(
                "Not enough IP space available in {subnet}. ELB requires at least 8 free IP addresses in each subnet."
            ))
        })
    }

    /// The load balancer that has an elastic IP.
    pub(crate) fn holder_of(&self, allocation: &str) -> Option<&str> {
        let has = |m: &Mapping| m.allocation.as_deref() == Some(allocation);
        self.balancers.find(|b| b.mappings.iter().any(has)).map(|(_, b)| b.arn.as_str())
    }

    pub(super) fn show_mappings(&self, mappings: &[Mapping]) -> Value {
        let show = |mapping: &Mapping| {
            let elastic = mapping.allocation.as_ref().and_then(|id| Some((id, self.elastic.get(id)?)));
            let address = if let Some((id, elastic)) = elastic {
                Some(record! { "IpAddress": elastic.address, "AllocationId": id.as_str() })
            } else {
                mapping.chosen.then(|| record! { "PrivateIPv4Address": mapping.address })
            };
            record! {
                "ZoneName": mapping.zone.as_str(),
                "SubnetId": mapping.subnet.as_str(),
                "LoadBalancerAddresses": Value::List(address.into_iter().collect()),
            }
        };
        mappings.iter().map(show).collect()
    }
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
