//! Which subnets a load balancer gets, and why others do not fit.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use nlb::{
    annotations::keys,
    service::spec::{AddressFamilies, Named},
    settings::Scheme,
};

use super::{
    Gap, Inputs, Problem,
    network::{Network, Unread, in_vpc, tagged},
};
use crate::aws::{Call, Subnet, SubnetMapping};

/// Free addresses that a load balancer needs in a subnet.
const ADDRESSES: u32 = 8;
const CLUSTER_TAG: &str = "kubernetes.io/cluster/";

/// The tag by which subnets are found for a scheme.
pub fn role_tag(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Internal => "kubernetes.io/role/internal-elb",
        Scheme::InternetFacing => "kubernetes.io/role/elb",
    }
}

/// The subnets for a new load balancer, or for one whose Service names them, with the addresses in them.
pub(crate) fn choose(inputs: &Inputs, scheme: Scheme, network: &Network) -> Result<Vec<SubnetMapping>, Gap> {
    let subnets = match &inputs.spec.subnets {
        Some(wanted) => explicit(inputs, wanted, network)?,
        None => discovered(inputs, scheme, network)?,
    };
    with_addresses(inputs, &subnets)
}

/// The subnets that a load balancer has, with the IPv6 addresses and prefixes that the Service chooses in them: they may be
/// chosen once it is there.
pub(crate) fn keep(inputs: &Inputs, present: Vec<SubnetMapping>, network: &Network) -> Result<Vec<SubnetMapping>, Gap> {
    if inputs.spec.ipv6_addresses.is_empty() && inputs.spec.source_nat_ipv6_prefixes.is_empty() {
        return Ok(present);
    }
    let ids: Vec<&str> = present.iter().map(|mapping| mapping.subnet_id.as_str()).collect();
    // In the order of ids, as they were when they were discovered.
    let mut subnets = by_ids(&ids, network)?.to_vec();
    subnets.sort_by(|one, other| one.id.cmp(&other.id));
    let chosen = ipv6_of(inputs, &subnets)?;
    let with = |mapping: SubnetMapping| match chosen.get(&mapping.subnet_id).cloned() {
        Some(Ipv6 { address, prefix }) => {
            SubnetMapping { ipv6_address: address, source_nat_ipv6_prefix: prefix, ..mapping }
        }
        None => mapping,
    };
    Ok(present.into_iter().map(with).collect())
}

/// Subnets by their ids, for the ranges that they have.
pub(crate) fn by_ids<'a>(ids: &[&str], network: &'a Network) -> Result<&'a [Subnet], Unread> {
    let mut ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
    ids.sort();
    Ok(network.subnets(&Call::DescribeSubnets { ids, filters: Vec::new() })?.unwrap_or_default())
}

fn explicit(inputs: &Inputs, wanted: &[Named], network: &Network) -> Result<Vec<Subnet>, Gap> {
    let vpc = &inputs.environment.vpc_id;
    let problem = |message: String, remedy: &str| {
        Gap::Problem(Problem::new("Subnets", format!("{}: {message}", keys::SUBNETS), remedy))
    };
    let ids: Vec<String> =
        wanted.iter().filter_map(|one| if let Named::Id(id) = one { Some(id.clone()) } else { None }).collect();
    let names: BTreeSet<&str> =
        wanted.iter().filter_map(|one| if let Named::Name(name) = one { Some(name.as_str()) } else { None }).collect();
    let mut by_id = Vec::new();
    if !ids.is_empty() {
        let call = Call::DescribeSubnets { ids: ids.clone(), filters: Vec::new() };
        match network.subnets(&call)? {
            Ok(found) => by_id.extend(found.iter()),
            Err(refusal) => return Err(problem(refusal.message.clone(), "name subnets that exist")),
        }
    }
    let mut by_name = Vec::new();
    if !names.is_empty() {
        let names: Vec<&str> = names.iter().copied().collect();
        let filters = vec![in_vpc(vpc), tagged("Name", &names)];
        by_name.extend(network.subnets(&Call::DescribeSubnets { ids: Vec::new(), filters })?.unwrap_or_default());
    }
    by_name.sort_by(|one, other| one.id.cmp(&other.id));
    let mut chosen: Vec<Subnet> = Vec::new();
    for one in wanted {
        let found = match one {
            Named::Id(id) => by_id.iter().find(|subnet| subnet.id == *id),
            Named::Name(name) => by_name.iter().find(|subnet| {
                subnet.tags.get("Name") == Some(name) && !chosen.iter().any(|chosen| chosen.id == subnet.id)
            }),
        };
        let Some(found) = found else {
            let what = match one {
                Named::Id(id) => format!("subnet {id} does not exist"),
                Named::Name(name) => {
                    format!("there are fewer subnets with the Name tag \"{name}\" in {vpc} than are asked for")
                }
            };
            return Err(problem(what, "name subnets that exist"));
        };
        if found.vpc_id != *vpc {
            return Err(problem(
                format!("subnet {} is in {}, the cluster in {vpc}", found.id, found.vpc_id),
                "name subnets of the cluster's VPC",
            ));
        }
        chosen.push((*found).clone());
    }
    let mut zones = BTreeMap::new();
    for subnet in &chosen {
        if let Some(other) = zones.insert(subnet.zone.clone(), subnet.id.clone()) {
            let message = format!("{other} and {} are both in zone {}", subnet.id, subnet.zone);
            return Err(problem(message, "name one subnet per zone"));
        }
        if inputs.spec.ip_address_type == AddressFamilies::Dualstack && subnet.ipv6_cidrs.is_empty() {
            let message = format!("{} has no IPv6 range, but the load balancer is dualstack", subnet.id);
            return Err(problem(message, "associate an IPv6 range with it, or name another subnet"));
        }
    }
    let locales = locales(&chosen, network)?;
    if locales.values().collect::<BTreeSet<_>>().len() > 1 {
        let list: Vec<String> = locales.iter().map(|(id, locale)| format!("{id} ({locale})")).collect();
        let message = format!("subnets of different kinds of zones: {}", list.join(", "));
        return Err(problem(message, "name subnets of one kind of zone"));
    }
    if chosen.is_empty() {
        return Err(problem("names no subnet".to_owned(), "name at least one, or remove the annotation"));
    }
    Ok(chosen)
}

/// Where each subnet is: in ordinary zones, in one local or wavelength zone, on an outpost.
fn locales(subnets: &[Subnet], network: &Network) -> Result<BTreeMap<String, String>, Unread> {
    let zones: BTreeSet<&str> = subnets.iter().map(|subnet| subnet.zone_id.as_str()).collect();
    if zones.is_empty() {
        return Ok(BTreeMap::new());
    }
    let types = network.zone_types(zones.into_iter().map(str::to_owned).collect())?;
    let locale = |subnet: &Subnet| match &subnet.outpost {
        Some(_) => "outpost".to_owned(),
        None => types.get(&subnet.zone_id).cloned().unwrap_or_else(|| "availability-zone".to_owned()),
    };
    Ok(subnets.iter().map(|subnet| (subnet.id.clone(), locale(subnet))).collect())
}

fn discovered(inputs: &Inputs, scheme: Scheme, network: &Network) -> Result<Vec<Subnet>, Gap> {
    let vpc = &inputs.environment.vpc_id;
    let role = role_tag(scheme);
    let filters = vec![in_vpc(vpc), tagged(role, &["", "1"])];
    let by_role = network.subnets(&Call::DescribeSubnets { ids: Vec::new(), filters })?.unwrap_or_default();
    let mut table = Explanation::new();
    let mut candidates = by_role.to_vec();
    if candidates.is_empty() {
        let all = network.subnets(&every(vpc))?.unwrap_or_default();
        if inputs.environment.options.subnet_discovery_by_reachability {
            let public = public_subnets(all, network.route_tables(vpc)?);
            let wanted = scheme == Scheme::InternetFacing;
            candidates = all.iter().filter(|subnet| public.contains(&subnet.id) == wanted).cloned().collect();
            let why = match scheme {
                Scheme::InternetFacing => "no tag of the role, and no route to an internet gateway",
                Scheme::Internal => "no tag of the role, and a route to an internet gateway",
            };
            all.iter().filter(|subnet| public.contains(&subnet.id) != wanted).for_each(|subnet| table.add(subnet, why));
        } else {
            table.add_all(all, &format!("no tag {role}: 1"));
        }
    }
    let locales = locales(&candidates, network)?;
    let ordinary = locales.values().any(|locale| locale == "availability-zone");
    candidates.retain(|subnet| match excluded(inputs, subnet, ordinary, &locales) {
        Some(why) => {
            table.add(subnet, &why);
            false
        }
        None => true,
    });
    let own = format!("{CLUSTER_TAG}{}", inputs.settings().cluster_name);
    candidates.sort_by(|one, other| {
        let rank = |subnet: &Subnet| (subnet.zone.clone(), !subnet.tags.contains_key(&own), subnet.id.clone());
        rank(one).cmp(&rank(other))
    });
    candidates.dedup_by(|later, first| later.zone == first.zone);
    candidates.sort_by(|one, other| one.id.cmp(&other.id));
    if !candidates.is_empty() {
        return Ok(candidates);
    }
    if !by_role.is_empty() {
        // Those without the tag have a line too.
        table.add_all(network.subnets(&every(vpc))?.unwrap_or_default(), &format!("no tag {role}: 1"));
    }
    let message = format!("no subnet of {vpc} fits an {} load balancer{table}", scheme.as_str());
    let remedy = format!("tag one subnet per zone with {role}: 1, or name them in {}", keys::SUBNETS);
    Err(Gap::Problem(Problem::new("Subnets", message, &remedy)))
}

fn every(vpc: &str) -> Call {
    Call::DescribeSubnets { ids: Vec::new(), filters: vec![in_vpc(vpc)] }
}

/// Why a subnet that was found is not taken.
fn excluded(inputs: &Inputs, subnet: &Subnet, ordinary: bool, locales: &BTreeMap<String, String>) -> Option<String> {
    let own = format!("{CLUSTER_TAG}{}", inputs.settings().cluster_name);
    let others: Vec<&str> = subnet.tags.keys().filter_map(|key| key.strip_prefix(CLUSTER_TAG)).collect();
    if inputs.environment.options.subnets_cluster_tag_check && !others.is_empty() && !subnet.tags.contains_key(&own) {
        return Some(format!("belongs to other clusters ({}), and has no tag {own}", others.join(", ")));
    }
    if subnet.free_addresses < ADDRESSES {
        return Some(format!("{} free addresses, {ADDRESSES} are needed", subnet.free_addresses));
    }
    if inputs.spec.ip_address_type == AddressFamilies::Dualstack && subnet.ipv6_cidrs.is_empty() {
        return Some("no IPv6 range, which a dualstack load balancer needs".to_owned());
    }
    let locale = locales.get(&subnet.id).map_or("availability-zone", String::as_str);
    (ordinary && locale != "availability-zone").then(|| format!("in a zone of another kind ({locale})"))
}

/// Subnets whose route table, or the main one if none names them, leads to an internet gateway.
fn public_subnets(subnets: &[Subnet], tables: &[crate::aws::RouteTable]) -> BTreeSet<String> {
    let leads_out = |table: &&crate::aws::RouteTable| table.gateways.iter().any(|gateway| gateway.starts_with("igw-"));
    let is_public = |subnet: &&Subnet| {
        let own = tables.iter().find(|table| table.subnets.contains(&subnet.id));
        own.or_else(|| tables.iter().find(|table| table.main)).as_ref().is_some_and(leads_out)
    };
    subnets.iter().filter(is_public).map(|subnet| subnet.id.clone()).collect()
}

/// Each subnet with the rule that excluded it.
struct Explanation(BTreeMap<String, String>);

impl Explanation {
    fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn add_all(&mut self, subnets: &[Subnet], why: &str) {
        for subnet in subnets {
            self.add(subnet, why);
        }
    }

    fn add(&mut self, subnet: &Subnet, why: &str) {
        self.0.entry(subnet.id.clone()).or_insert_with(|| format!("{} ({}): {why}", subnet.id, subnet.zone));
    }
}

impl std::fmt::Display for Explanation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str(": it has none");
        }
        self.0.values().try_for_each(|line| write!(f, "\n  {line}"))
    }
}

/// The subnets with the addresses that the Service chooses in them: Elastic IP addresses and prefixes by position, others
/// by the range that they are in.
fn with_addresses(inputs: &Inputs, subnets: &[Subnet]) -> Result<Vec<SubnetMapping>, Gap> {
    let spec = &inputs.spec;
    counted(keys::EIP_ALLOCATIONS, &spec.eip_allocations, subnets)?;
    counted(keys::PRIVATE_IPV4_ADDRESSES, &spec.private_ipv4_addresses, subnets)?;
    let mut ipv6 = ipv6_of(inputs, subnets)?;
    let mut mappings = Vec::new();
    for (index, subnet) in subnets.iter().enumerate() {
        let Ipv6 { address, prefix } = ipv6.remove(&subnet.id).unwrap_or_default();
        let ranges = std::slice::from_ref(&subnet.cidr);
        mappings.push(SubnetMapping {
            subnet_id: subnet.id.clone(),
            allocation_id: spec.eip_allocations.get(index).cloned(),
            private_ipv4_address: within(
                keys::PRIVATE_IPV4_ADDRESSES,
                &spec.private_ipv4_addresses,
                ranges,
                &subnet.id,
            )?,
            ipv6_address: address,
            source_nat_ipv6_prefix: prefix,
        });
    }
    Ok(mappings)
}

/// What the Service chooses of IPv6 in a subnet.
#[derive(Debug, Clone, Default)]
struct Ipv6 {
    address: Option<String>,
    prefix: Option<String>,
}

fn ipv6_of(inputs: &Inputs, subnets: &[Subnet]) -> Result<BTreeMap<String, Ipv6>, Gap> {
    let spec = &inputs.spec;
    counted(keys::IPV6_ADDRESSES, &spec.ipv6_addresses, subnets)?;
    counted(keys::SOURCE_NAT_PREFIXES, &spec.source_nat_ipv6_prefixes, subnets)?;
    let of = |(index, subnet): (usize, &Subnet)| {
        let address = within(keys::IPV6_ADDRESSES, &spec.ipv6_addresses, &subnet.ipv6_cidrs, &subnet.id)?;
        let prefix = spec.source_nat_ipv6_prefixes.get(index).cloned();
        Ok((subnet.id.clone(), Ipv6 { address, prefix }))
    };
    subnets.iter().enumerate().map(of).collect()
}

/// Whether as many are given as there are subnets, or none.
fn counted(key: &str, given: &[String], subnets: &[Subnet]) -> Result<(), Gap> {
    if given.is_empty() || given.len() == subnets.len() {
        return Ok(());
    }
    let ids: Vec<&str> = subnets.iter().map(|subnet| subnet.id.as_str()).collect();
    Err(unpaired(key, &format!("{} for {} subnets ({})", given.len(), subnets.len(), ids.join(", "))))
}

/// The one of the addresses that is in a subnet, if there are any.
fn within(key: &str, addresses: &[String], ranges: &[String], subnet: &str) -> Result<Option<String>, Gap> {
    let found = addresses.iter().find(|address| ranges.iter().any(|range| contains(range, address)));
    if found.is_none() && !addresses.is_empty() {
        return Err(unpaired(key, &format!("none is in {} of {subnet}", ranges.join(", "))));
    }
    Ok(found.cloned())
}

fn unpaired(key: &str, message: &str) -> Gap {
    Gap::Problem(Problem::new("Addresses", format!("{key}: {message}"), "give exactly one for each subnet"))
}

fn contains(range: &str, address: &str) -> bool {
    match (range.parse::<IpNet>(), address.parse::<IpAddr>()) {
        (Ok(range), Ok(address)) => range.contains(&address),
        _ => false,
    }
}
