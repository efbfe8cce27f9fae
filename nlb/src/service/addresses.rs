//! Subnets, and the addresses and prefixes that are paired with them.

use std::net::IpAddr;

use super::{
    Context,
    spec::{AddressFamilies, Listener, Named},
};
use crate::{
    annotations::{forms, keys},
    settings::Scheme,
    violation::Violation,
};

pub(super) struct Addresses {
    pub(super) subnets: Option<Vec<Named>>,
    pub(super) eip_allocations: Vec<String>,
    pub(super) private_ipv4: Vec<String>,
    pub(super) ipv6: Vec<String>,
    pub(super) source_nat: bool,
    pub(super) source_nat_prefixes: Vec<String>,
}

pub(super) fn read(
    context: &Context,
    scheme: Scheme,
    families: AddressFamilies,
    listeners: &[Listener],
    found: &mut Vec<Violation>,
) -> Addresses {
    let subnets = named(context, keys::SUBNETS, "subnet-");
    let count = subnets.as_ref().map(Vec::len).filter(|count| *count > 0);
    let items = |key| -> Vec<String> {
        context.annotations.list(key).unwrap_or_default().into_iter().map(str::to_owned).collect()
    };
    let mut deny = |rule, key: &str, problem: &str, remedy: String| {
        let value = context.annotations.text(key).unwrap_or_default();
        found.push(Violation::deny(rule, key, value, problem, remedy));
    };

    let eip_allocations = items(keys::EIP_ALLOCATIONS);
    if !eip_allocations.is_empty() && scheme != Scheme::InternetFacing {
        let remedy = format!("set {}: internet-facing, or remove the addresses", keys::SCHEME);
        deny("eip-scheme", keys::EIP_ALLOCATIONS, "are public addresses of an internal load balancer", remedy);
    }
    let private_ipv4 = items(keys::PRIVATE_IPV4_ADDRESSES);
    if !private_ipv4.is_empty() && scheme != Scheme::Internal {
        let remedy = format!("set {}: internal, or remove the addresses", keys::SCHEME);
        deny(
            "private-scheme",
            keys::PRIVATE_IPV4_ADDRESSES,
            "can be chosen for an internal load balancer only",
            remedy,
        );
    }
    let dualstack = families == AddressFamilies::Dualstack;
    let ipv6 = items(keys::IPV6_ADDRESSES);
    if !ipv6.is_empty() && !dualstack {
        let remedy = format!("set {}: dualstack, or remove the addresses", keys::IP_ADDRESS_TYPE);
        deny("ipv6", keys::IPV6_ADDRESSES, "are IPv6 addresses of an ipv4 load balancer", remedy);
    }
    let source_nat = context.annotations.text(keys::SOURCE_NAT) == Some("on");
    if source_nat && !dualstack {
        let remedy = format!("set {}: dualstack, or {}: off", keys::IP_ADDRESS_TYPE, keys::SOURCE_NAT);
        deny("ipv6", keys::SOURCE_NAT, "needs a dualstack load balancer", remedy);
    }
    let source_nat_prefixes = items(keys::SOURCE_NAT_PREFIXES);
    if !source_nat_prefixes.is_empty() && !dualstack {
        let remedy = format!("set {}: dualstack, or remove the prefixes", keys::IP_ADDRESS_TYPE);
        deny("ipv6", keys::SOURCE_NAT_PREFIXES, "needs a dualstack load balancer", remedy);
    } else if !source_nat_prefixes.is_empty() && !source_nat {
        let remedy = format!("set {}: on, or remove the prefixes", keys::SOURCE_NAT);
        deny("source-nat", keys::SOURCE_NAT_PREFIXES, "are prefixes for IPv6 source NAT, which is off", remedy);
    }
    for (key, given, what) in [
        (keys::EIP_ALLOCATIONS, eip_allocations.len(), "addresses"),
        (keys::PRIVATE_IPV4_ADDRESSES, private_ipv4.len(), "addresses"),
        (keys::IPV6_ADDRESSES, ipv6.len(), "addresses"),
        (keys::SOURCE_NAT_PREFIXES, source_nat_prefixes.len(), "prefixes"),
    ] {
        if let Some(count) = count.filter(|count| given > 0 && given != *count) {
            let problem = format!("has {given} {what} for {count} subnets");
            deny("address-count", key, &problem, "give exactly one for each subnet, in the same order".to_owned());
        }
    }
    warn_of_discovery(context, &eip_allocations, count, found);
    warn_of_udp(context, dualstack && !source_nat, listeners, found);
    Addresses { subnets, eip_allocations, private_ipv4, ipv6, source_nat, source_nat_prefixes }
}

/// Addresses are paired with subnets by position, and discovered subnets come in the order of their ids.
fn warn_of_discovery(context: &Context, eips: &[String], subnets: Option<usize>, found: &mut Vec<Violation>) {
    if !eips.is_empty() && subnets.is_none() && !context.annotations.has(keys::SUBNETS) {
        let value = context.annotations.text(keys::EIP_ALLOCATIONS).unwrap_or_default();
        let problem = "are paired with discovered subnets in the order of subnet ids";
        let remedy = format!("name the subnets in {} to choose the order", keys::SUBNETS);
        found.push(Violation::warn("eip-order", keys::EIP_ALLOCATIONS, value, problem, remedy));
    }
}

fn warn_of_udp(context: &Context, unprepared: bool, listeners: &[Listener], found: &mut Vec<Violation>) {
    if unprepared && listeners.iter().any(|listener| listener.protocol.has_udp()) {
        let value = context.annotations.text(keys::IP_ADDRESS_TYPE).unwrap_or_default();
        let problem = "is dualstack with a UDP listener but without IPv6 source NAT, which AWS wants for it";
        let remedy = format!("set {}: \"on\"", keys::SOURCE_NAT);
        found.push(Violation::warn("source-nat", keys::IP_ADDRESS_TYPE, value, problem, remedy));
    }
}

/// A list of ids and names; nothing if the annotation is absent.
pub(super) fn named(context: &Context, key: &str, prefix: &str) -> Option<Vec<Named>> {
    let name = |text: &str| {
        if text.starts_with(prefix) { Named::Id(text.to_owned()) } else { Named::Name(text.to_owned()) }
    };
    Some(context.annotations.list(key)?.into_iter().map(name).collect())
}

/// The ranges from which clients may connect, as far as they can be read: those of the spec, else of the annotation.
pub(super) fn source_ranges(context: &Context, families: AddressFamilies, found: &mut Vec<Violation>) -> Vec<String> {
    let of_spec: Vec<&str> = context
        .spec
        .load_balancer_source_ranges
        .iter()
        .flatten()
        .map(|range| range.trim())
        .filter(|range| !range.is_empty())
        .collect();
    let of_annotation = context.annotations.list(keys::SOURCE_RANGES).unwrap_or_default();
    let (key, ranges) = if of_spec.is_empty() {
        (keys::SOURCE_RANGES, of_annotation)
    } else {
        if !of_annotation.is_empty() {
            let value = context.annotations.text(keys::SOURCE_RANGES).unwrap_or_default();
            let problem = "has no effect beside spec.loadBalancerSourceRanges";
            found.push(Violation::warn("no-effect", keys::SOURCE_RANGES, value, problem, "remove the annotation"));
        }
        ("spec.loadBalancerSourceRanges", of_spec)
    };
    let mut wrong = Vec::new();
    let mut ipv6 = Vec::new();
    let mut read = Vec::new();
    for range in ranges {
        match forms::cidr(range) {
            None => wrong.push(range),
            Some((IpAddr::V6(_), _)) if families == AddressFamilies::Ipv4 => ipv6.push(range),
            Some(_) => read.push(range.to_owned()),
        }
    }
    if !wrong.is_empty() && key != keys::SOURCE_RANGES {
        let remedy = "write ranges such as 10.0.0.0/8";
        found.push(Violation::deny("value", key, &wrong.join(","), "is not an address range", remedy));
    }
    if !ipv6.is_empty() {
        let remedy = format!("set {}: dualstack, or remove the IPv6 ranges", keys::IP_ADDRESS_TYPE);
        let problem = "are IPv6 ranges of an ipv4 load balancer";
        found.push(Violation::deny("ipv6", key, &ipv6.join(","), problem, remedy));
    }
    read
}
