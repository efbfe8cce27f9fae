//! The load balancer itself: identity, scheme, families, attributes, capacity, tags; and the rules about the Service as
//! a whole.

use std::collections::BTreeMap;

use super::{
    Context, LoadBalancerSpec, addresses, listeners, security_groups,
    spec::{AddressFamilies, Listener, TargetGroup},
    target_groups,
};
use crate::{
    annotations::{
        attributes::{ACCESS_LOGS, CROSS_ZONE, DEREGISTRATION_DELAY, DEREGISTRATION_TERMINATION},
        keys, parse,
    },
    drain::{self, Delay},
    names,
    settings::{Scheme, TargetType},
    tags,
    violation::Violation,
};

/// How many listeners AWS takes on one load balancer; the quota cannot be raised.
const MOST_LISTENERS: usize = 50;

pub(super) fn read(context: &Context, existing: Option<Scheme>, found: &mut Vec<Violation>) -> LoadBalancerSpec {
    check_service(context, found);
    let given = given_scheme(context, found);
    let scheme = given.or(existing).unwrap_or(context.settings.default_scheme);
    let families = families(context, found);
    let asked_tags = asked_tags(context, found);
    let stack = context.stack();
    let tags = |resource: &str| tags::of_resource(context.settings, &asked_tags, &stack, resource);

    let listener_ports = listeners::ports(context, found);
    let target_groups = target_groups::read(context, &listener_ports, &asked_tags, scheme, found);
    let listeners = listeners::read(context, &listener_ports, &target_groups, &tags, found);
    check_counts(&listeners, found);
    let addresses = addresses::read(context, scheme, families, &listeners, found);
    let groups = security_groups::read(context, families, &tags, found);
    let pod_drain_seconds = pod_drain(context, &target_groups, found);

    LoadBalancerSpec {
        name: match context.annotations.text(keys::NAME) {
            Some(name) => name.to_owned(),
            None => names::load_balancer(&context.identity(), scheme.as_str()),
        },
        scheme,
        scheme_given: given.is_some(),
        ip_address_type: families,
        subnets: addresses.subnets,
        eip_allocations: addresses.eip_allocations,
        private_ipv4_addresses: addresses.private_ipv4,
        ipv6_addresses: addresses.ipv6,
        enable_prefix_for_ipv6_source_nat: addresses.source_nat,
        source_nat_ipv6_prefixes: addresses.source_nat_prefixes,
        enforce_security_group_inbound_rules_on_private_link_traffic: security_groups::private_link(context),
        security_groups: groups.asked,
        groupless: groups.groupless,
        attributes: attributes(context, found),
        minimum_load_balancer_capacity: capacity(context, found),
        tags: tags(tags::LOAD_BALANCER),
        listeners,
        target_groups,
        pod_drain_seconds,
        allow_replacement: context.annotations.text(keys::ALLOW_REPLACEMENT).map(str::to_owned),
        asked_tags,
    }
}

/// What is wrong with the Service as such.
fn check_service(context: &Context, found: &mut Vec<Violation>) {
    let spec = context.spec;
    if spec.type_.as_deref() == Some("ExternalName") {
        let remedy = "use a Service with a selector";
        found.push(Violation::warn(
            "no-targets",
            "spec.type",
            "ExternalName",
            "has no endpoints, so nothing is registered",
            remedy,
        ));
    } else if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) && context.target_type == TargetType::Ip {
        let problem = "is empty, so no pod is selected and nothing is registered: only endpoints of selected pods are";
        found.push(Violation::warn("no-targets", "spec.selector", "", problem, "select the pods"));
    }
    if spec.ports.as_ref().is_none_or(Vec::is_empty) {
        found.push(Violation::warn(
            "no-targets",
            "spec.ports",
            "",
            "is empty, so the load balancer gets no listener",
            "add a port",
        ));
    }
    for (index, entry) in spec.ports.iter().flatten().enumerate() {
        if u16::try_from(entry.port).is_ok_and(|number| number > 0) {
            continue;
        }
        let key = format!("spec.ports[{index}].port");
        found.push(Violation::deny("port", key, &entry.port.to_string(), "is not a port number", "write 1 to 65535"));
    }
    if spec.load_balancer_ip.as_deref().is_some_and(|address| !address.is_empty()) {
        let remedy = format!("use {} or {}", keys::EIP_ALLOCATIONS, keys::PRIVATE_IPV4_ADDRESSES);
        let value = spec.load_balancer_ip.as_deref().unwrap_or_default();
        found.push(Violation::warn(
            "no-effect",
            "spec.loadBalancerIP",
            value,
            "has no effect on this load balancer",
            remedy,
        ));
    }
    if spec.session_affinity.as_deref() == Some("ClientIP") && context.target_type == TargetType::Ip {
        let problem = "has no effect on connections that reach pods through the load balancer";
        let remedy = format!("use {}: stickiness.enabled=true", keys::TARGET_GROUP_ATTRIBUTES);
        found.push(Violation::warn("no-effect", "spec.sessionAffinity", "ClientIP", problem, remedy));
    }
}

fn given_scheme(context: &Context, found: &mut Vec<Violation>) -> Option<Scheme> {
    let internal = context.annotations.boolean(keys::INTERNAL);
    if let Some(written) = context.annotations.text(keys::INTERNAL) {
        let (rule, problem) = if context.annotations.has(keys::SCHEME) {
            ("no-effect", "has no effect beside the scheme")
        } else {
            ("old-form", "is an old form")
        };
        let scheme = if internal == Some(false) { Scheme::InternetFacing } else { Scheme::Internal };
        let remedy = format!("write {}: {} instead", keys::SCHEME, scheme.as_str());
        found.push(Violation::warn(rule, keys::INTERNAL, written, problem, remedy));
    }
    match context.annotations.text(keys::SCHEME) {
        Some("internal") => Some(Scheme::Internal),
        Some("internet-facing") => Some(Scheme::InternetFacing),
        // A scheme that cannot be read has been denied.
        Some(_) => None,
        None => internal.map(|internal| if internal { Scheme::Internal } else { Scheme::InternetFacing }),
    }
}

fn families(context: &Context, found: &mut Vec<Violation>) -> AddressFamilies {
    let families = match context.annotations.text(keys::IP_ADDRESS_TYPE) {
        Some("dualstack") => AddressFamilies::Dualstack,
        _ => AddressFamilies::Ipv4,
    };
    let written = context.spec.ip_families.iter().flatten().map(String::as_str).collect::<Vec<_>>().join(",");
    if context.has_ipv6() && families == AddressFamilies::Ipv4 {
        let problem = "has IPv6, which an ipv4 load balancer cannot reach";
        let remedy = format!("set {}: dualstack, or ipFamilies: [IPv4]", keys::IP_ADDRESS_TYPE);
        found.push(Violation::deny("ipv6", "spec.ipFamilies", &written, problem, remedy));
    } else if context.has_ipv6() && context.spec.ip_families.iter().flatten().any(|family| family == "IPv4") {
        let problem =
            "has both families; a target group has one, so only the IPv6 addresses of the pods become targets";
        let remedy = "write ipFamilies: [IPv4] to have the IPv4 addresses instead";
        found.push(Violation::warn("ipv6-only", "spec.ipFamilies", &written, problem, remedy));
    }
    families
}

fn asked_tags(context: &Context, found: &mut Vec<Violation>) -> BTreeMap<String, String> {
    let asked = context.annotations.map(keys::TAGS).unwrap_or_default();
    if context.annotations.has(keys::TAGS) {
        let problems = tags::check_against_settings(keys::TAGS, &asked, context.settings);
        let too_many = problems.iter().any(|violation| violation.rule == tags::TOO_MANY);
        found.extend(problems);
        if too_many {
            return BTreeMap::new();
        }
    }
    asked
}

fn attributes(context: &Context, found: &mut Vec<Violation>) -> BTreeMap<String, String> {
    let annotations = &context.annotations;
    let mut attributes = annotations.map(keys::ATTRIBUTES).unwrap_or_default();
    if let Some(written) = annotations.text(keys::ACCESS_LOG_ENABLED) {
        let remedy = format!("write {}: {}={written}", keys::ATTRIBUTES, ACCESS_LOGS[0]);
        found.push(Violation::warn("old-form", keys::ACCESS_LOG_ENABLED, written, "is an old form", remedy));
    }
    let enabled = annotations.boolean(keys::ACCESS_LOG_ENABLED) == Some(true);
    if enabled {
        attributes.insert(ACCESS_LOGS[0].to_owned(), "true".to_owned());
    }
    for (key, attribute) in [(keys::ACCESS_LOG_BUCKET, ACCESS_LOGS[1]), (keys::ACCESS_LOG_PREFIX, ACCESS_LOGS[2])] {
        let Some(value) = annotations.text(key) else { continue };
        if enabled {
            attributes.insert(attribute.to_owned(), value.to_owned());
        } else {
            let problem = format!("has no effect unless {} is \"true\"", keys::ACCESS_LOG_ENABLED);
            let remedy = format!("write {}: {attribute}={value}", keys::ATTRIBUTES);
            found.push(Violation::warn("no-effect", key, value, problem, remedy));
        }
    }
    let switched_on = attributes.get(ACCESS_LOGS[0]).is_some_and(|value| parse::boolean(value) == Ok(true));
    if switched_on && attributes.get(ACCESS_LOGS[1]).is_none_or(String::is_empty) {
        let key = if enabled { keys::ACCESS_LOG_ENABLED } else { keys::ATTRIBUTES };
        let problem = "switches access logs on without a bucket";
        let remedy = format!("add {}=<bucket> to {}", ACCESS_LOGS[1], keys::ATTRIBUTES);
        found.push(Violation::warn("access-log-bucket", key, "", problem, remedy));
    }
    if let Some(written) = annotations.text(keys::CROSS_ZONE) {
        let remedy = format!("write {}: {CROSS_ZONE}={written}", keys::ATTRIBUTES);
        found.push(Violation::warn("old-form", keys::CROSS_ZONE, written, "is an old form", remedy));
    }
    if let Some(cross_zone) = annotations.boolean(keys::CROSS_ZONE) {
        let before = attributes.insert(CROSS_ZONE.to_owned(), cross_zone.to_string());
        if let Some(before) = before.filter(|before| *before != cross_zone.to_string()) {
            let problem = format!("has no effect: {} says {cross_zone}", keys::CROSS_ZONE);
            let remedy = format!("remove {}", keys::CROSS_ZONE);
            found.push(Violation::warn(
                "no-effect",
                keys::ATTRIBUTES,
                &format!("{CROSS_ZONE}={before}"),
                problem,
                remedy,
            ));
        }
    }
    attributes
}

fn capacity(context: &Context, found: &mut Vec<Violation>) -> Option<u32> {
    let written = context.annotations.text(keys::CAPACITY)?;
    if !context.settings.features.capacity_reservation {
        let problem = "has no effect: capacity reservations are switched off (features.capacityReservation)";
        found.push(Violation::warn("no-effect", keys::CAPACITY, written, problem, "remove the annotation"));
        return None;
    }
    let units = context.annotations.map(keys::CAPACITY)?.remove("CapacityUnits")?;
    u32::try_from(parse::integer(&units).ok()?).ok()
}

fn check_counts(listeners: &[Listener], found: &mut Vec<Violation>) {
    if listeners.len() > MOST_LISTENERS {
        let problem = format!("makes {} listeners, AWS takes {MOST_LISTENERS} on one load balancer", listeners.len());
        found.push(Violation::deny(
            "too-many-listeners",
            "spec.ports",
            "",
            problem,
            "spread the ports over several Services",
        ));
    }
}

/// The seconds for which the Service's pods serve on after they are told to stop.
fn pod_drain(context: &Context, groups: &[TargetGroup], found: &mut Vec<Violation>) -> u32 {
    let written = context.annotations.text(keys::POD_DRAIN);
    if context.target_type != TargetType::Ip {
        if let Some(written) = written {
            let problem = "has no effect: targets are nodes, not pods";
            found.push(Violation::warn(
                "no-effect",
                keys::POD_DRAIN,
                written,
                problem,
                format!("set {}: ip", keys::TARGET_TYPE),
            ));
        }
        return 0;
    }
    let floor = context.settings.drain_floor_seconds;
    let delay: Delay = written.and_then(|written| written.parse().ok()).unwrap_or(Delay::Auto);
    let seconds = delay.seconds(floor);
    // Without the annotation nothing was asked for, and whether the namespace wants the drain is not known here.
    let Some(written) = written else { return seconds };
    let mut said = std::collections::BTreeSet::new();
    for group in groups {
        let delay = group.attributes.get(DEREGISTRATION_DELAY).and_then(|delay| delay.parse().ok()).unwrap_or(300);
        let terminates = match group.attributes.get(DEREGISTRATION_TERMINATION) {
            Some(value) => parse::boolean(value) == Ok(true),
            None => group.protocol == super::spec::Protocol::Udp,
        };
        for contradiction in drain::contradictions_of_service(seconds, floor, delay, terminates) {
            let problem = contradiction.to_string();
            if said.insert(problem.clone()) {
                found.push(Violation::warn("drain", keys::POD_DRAIN, written, problem, ""));
            }
        }
    }
    seconds
}
