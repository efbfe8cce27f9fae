//! Security groups: a managed one, those that are named, or none.

use std::collections::BTreeMap;

use super::{
    Context, addresses,
    spec::{AddressFamilies, Ingress, SecurityGroups, Source},
};
use crate::{
    annotations::{forms, keys},
    names, tags,
    violation::Violation,
};

pub(super) struct Groups {
    /// What the Service asks for.
    pub(super) asked: SecurityGroups,
    /// What holds if its load balancer was made without any.
    pub(super) groupless: SecurityGroups,
}

pub(super) fn read(
    context: &Context,
    families: AddressFamilies,
    tags: &dyn Fn(&str) -> BTreeMap<String, String>,
    found: &mut Vec<Violation>,
) -> Groups {
    let source_ranges = addresses::source_ranges(context, families, found);
    let manage = context.annotations.boolean(keys::MANAGE_BACKEND_RULES);
    Groups {
        asked: asked(context, families, &source_ranges, tags, found),
        groupless: SecurityGroups::None { source_ranges, manage_backend_rules: manage.unwrap_or(true) },
    }
}

fn asked(
    context: &Context,
    families: AddressFamilies,
    ranges: &[String],
    tags: &dyn Fn(&str) -> BTreeMap<String, String>,
    found: &mut Vec<Violation>,
) -> SecurityGroups {
    let annotations = &context.annotations;
    let disabled = annotations.boolean(keys::DISABLE_SECURITY_GROUPS) == Some(true);
    let manage = annotations.boolean(keys::MANAGE_BACKEND_RULES);
    if manage == Some(true) && !context.settings.enable_backend_security_group {
        found.push(Violation::deny(
            "backend-rules",
            keys::MANAGE_BACKEND_RULES,
            "true",
            "cannot be kept: the shared security group is switched off (enableBackendSecurityGroup)",
            "remove the annotation",
        ));
    }
    let groups = addresses::named(context, keys::SECURITY_GROUPS, "sg-").filter(|groups| !groups.is_empty());
    if disabled || !context.settings.features.nlb_security_group {
        let why = if disabled { keys::DISABLE_SECURITY_GROUPS } else { "setting features.nlbSecurityGroup" };
        no_effect(
            context,
            &[keys::SECURITY_GROUPS, keys::PREFIX_LISTS, keys::ICMP, keys::PRIVATE_LINK_RULES],
            why,
            found,
        );
        return SecurityGroups::None { source_ranges: ranges.to_vec(), manage_backend_rules: manage.unwrap_or(true) };
    }
    if let Some(groups) = groups {
        no_effect(context, &[keys::SOURCE_RANGES, keys::PREFIX_LISTS, keys::ICMP], keys::SECURITY_GROUPS, found);
        if context.spec.load_balancer_source_ranges.as_ref().is_some_and(|ranges| !ranges.is_empty()) {
            let problem = format!("has no effect beside {}: clients are let in by those groups", keys::SECURITY_GROUPS);
            let value =
                context.spec.load_balancer_source_ranges.iter().flatten().cloned().collect::<Vec<_>>().join(",");
            let remedy = "write the ranges into the groups";
            found.push(Violation::warn("no-effect", "spec.loadBalancerSourceRanges", &value, problem, remedy));
        }
        let default = context.settings.enable_manage_backend_security_group_rules;
        return SecurityGroups::Given { groups, manage_backend_rules: manage.unwrap_or(default) };
    }
    if let Some(written) = annotations.text(keys::MANAGE_BACKEND_RULES)
        && manage.is_some()
    {
        let problem = format!(
            "has no effect without {}, unless the load balancer was made without security groups: rules towards the \
             targets are always kept",
            keys::SECURITY_GROUPS
        );
        found.push(Violation::warn("no-effect", keys::MANAGE_BACKEND_RULES, written, problem, "remove the annotation"));
    }
    SecurityGroups::Managed {
        group_name: names::security_group(&context.identity()),
        ingress: ingress(context, families, ranges),
        tags: tags(tags::SECURITY_GROUP),
        backend_group: context.settings.enable_backend_security_group,
    }
}

fn no_effect(context: &Context, keys: &[&'static str], because: &str, found: &mut Vec<Violation>) {
    for key in keys {
        if let Some(value) = context.annotations.text(key) {
            let problem = format!("has no effect beside {because}");
            found.push(Violation::warn("no-effect", *key, value, problem, "remove the annotation"));
        }
    }
}

/// What a managed group lets in: each Service port from each range and prefix list, and ICMP from the ranges if asked for.
fn ingress(context: &Context, families: AddressFamilies, ranges: &[String]) -> Vec<Ingress> {
    let lists = context.annotations.list(keys::PREFIX_LISTS).unwrap_or_default();
    let ranges = match (ranges.is_empty() && lists.is_empty(), families) {
        (true, AddressFamilies::Ipv4) => vec!["0.0.0.0/0".to_owned()],
        (true, AddressFamilies::Dualstack) => vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()],
        (false, _) => ranges.to_vec(),
    };
    let ranges: Vec<Source> = ranges
        .into_iter()
        .map(|range| {
            if forms::cidr(&range).is_some_and(|(ip, _)| ip.is_ipv6()) {
                Source::Ipv6(range)
            } else {
                Source::Ipv4(range)
            }
        })
        .collect();
    let lists: Vec<Source> = lists.into_iter().map(|list| Source::PrefixList(list.to_owned())).collect();
    let icmp = context.annotations.text(keys::ICMP) == Some("on");
    let mut ingress = Vec::new();
    for port in &context.ports {
        let number = i32::from(port.number);
        let ip_protocol = match port.protocol() {
            "TCP" => "tcp",
            "UDP" => "udp",
            _ => continue,
        };
        ingress.extend(ranges.iter().chain(&lists).map(|source| Ingress {
            ip_protocol,
            from_port: number,
            to_port: number,
            source: source.clone(),
        }));
    }
    if icmp {
        // "Fragmentation needed" is type 3 code 4, and "packet too big" of IPv6 type 2 code 0.
        ingress.extend(ranges.iter().map(|source| match source {
            Source::Ipv6(_) => Ingress { ip_protocol: "icmpv6", from_port: 2, to_port: 0, source: source.clone() },
            _ => Ingress { ip_protocol: "icmp", from_port: 3, to_port: 4, source: source.clone() },
        }));
    }
    let mut seen = std::collections::BTreeSet::new();
    ingress.retain(|rule| seen.insert(rule.clone()));
    ingress
}

/// Whether inbound rules hold for `PrivateLink`.
pub(super) fn private_link(context: &Context) -> Option<bool> {
    match context.annotations.text(keys::PRIVATE_LINK_RULES)? {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}
