//! The security groups of a load balancer, what the managed one lets in, and what its targets must let in from it.

use std::collections::BTreeSet;

use ipnet::IpNet;
use nlb::{
    annotations::{attributes::PRESERVE_CLIENT_IP, keys, parse},
    service::spec::{self, AddressFamily, Named, SecurityGroups},
    settings::{Scheme, TargetType},
    targetgroupbinding::{
        IpBlock, Networking, NetworkingPeer, NetworkingPort, NetworkingProtocol, NetworkingRule, SecurityGroup,
    },
};

use super::{
    Gap, Inputs, Observed, Problem,
    network::{in_vpc, tagged},
    placement::may_be_replaced,
    subnets,
};
use crate::aws::{Call, LoadBalancer, Permission, Source};

/// Stands for the managed group while it has no id.
pub(crate) const MANAGED: &str = "$ManagedLBSecurityGroup";
/// Stands for the group that all load balancers share towards their targets while it has no id.
pub(crate) const SHARED: &str = "$backend-sg";

/// How a load balancer has its security groups: as the Service asks, unless the one that exists was made without any, or
/// with some where the Service asks for none. That holds for its life.
pub(crate) fn mode(inputs: &Inputs, existing: Option<&LoadBalancer>) -> SecurityGroups {
    let without = existing.is_some_and(|found| found.security_groups.is_empty() && !may_be_replaced(inputs, found));
    if without {
        return inputs.spec.groupless.clone();
    }
    inputs.kept_groups.as_ref().unwrap_or(&inputs.spec.security_groups).clone()
}

/// The groups of the load balancer, by id where it is known.
pub(crate) fn of_balancer(
    inputs: &Inputs,
    observed: &Observed,
    mode: &SecurityGroups,
    managed: Option<&str>,
) -> Result<Vec<String>, Gap> {
    let shared = || inputs.backend_group.clone().unwrap_or_else(|| SHARED.to_owned());
    let mut ids = match mode {
        SecurityGroups::Managed { .. } => vec![managed.unwrap_or(MANAGED).to_owned()],
        SecurityGroups::Given { groups, .. } => given(inputs, observed, groups)?,
        SecurityGroups::None { .. } => Vec::new(),
    };
    match mode {
        SecurityGroups::Managed { backend_group: true, .. }
        | SecurityGroups::Given { manage_backend_rules: true, .. } => ids.push(shared()),
        _ => {}
    }
    Ok(ids)
}

/// Whether a load balancer of this mode needs the shared group.
pub(crate) fn needs_shared(mode: &SecurityGroups) -> bool {
    matches!(
        mode,
        SecurityGroups::Managed { backend_group: true, .. } | SecurityGroups::Given { manage_backend_rules: true, .. }
    )
}

fn given(inputs: &Inputs, observed: &Observed, groups: &[Named]) -> Result<Vec<String>, Gap> {
    let names: BTreeSet<&str> =
        groups.iter().filter_map(|one| if let Named::Name(name) = one { Some(name.as_str()) } else { None }).collect();
    let mut by_name = Vec::new();
    if !names.is_empty() {
        let names: Vec<&str> = names.into_iter().collect();
        let filters = vec![in_vpc(&inputs.environment.vpc_id), tagged("Name", &names)];
        let call = Call::DescribeSecurityGroups { ids: Vec::new(), filters };
        by_name.extend(observed.network.security_groups(&call)?.unwrap_or_default());
    }
    let mut ids: Vec<String> = Vec::new();
    let mut missing = Vec::new();
    for group in groups {
        match group {
            Named::Id(id) => ids.push(id.clone()),
            Named::Name(name) => {
                let of_name = |group: &&&crate::aws::SecurityGroup| group.tags.get("Name") == Some(name);
                let mut found: Vec<_> = by_name.iter().filter(of_name).map(|group| group.id.clone()).collect();
                found.sort();
                if found.is_empty() {
                    missing.push(name.as_str());
                }
                ids.extend(found.into_iter().next());
            }
        }
    }
    if missing.is_empty() {
        ids.dedup();
        return Ok(ids);
    }
    let message = format!(
        "{}: no security group of {} has the Name tag {}",
        keys::SECURITY_GROUPS,
        inputs.environment.vpc_id,
        missing.join(", ")
    );
    Err(Gap::Problem(Problem::new("SecurityGroups", message, "name groups that exist, or give their ids")))
}

/// The rules of the managed group. More than fit are packed: neighbouring ports of one source become a range.
pub(crate) fn managed_rules(ingress: &[spec::Ingress], most: usize) -> Result<Vec<Permission>, Problem> {
    let mut rules: Vec<Permission> = ingress
        .iter()
        .map(|rule| Permission {
            ip_protocol: rule.ip_protocol.to_owned(),
            from_port: Some(rule.from_port),
            to_port: Some(rule.to_port),
            source: match &rule.source {
                spec::Source::Ipv4(range) => Source::Ipv4(network_of(range)),
                spec::Source::Ipv6(range) => Source::Ipv6(network_of(range)),
                spec::Source::PrefixList(id) => Source::PrefixList(id.clone()),
            },
            description: None,
        })
        .collect();
    rules.sort();
    rules.dedup();
    if fullest(&rules).0 <= most {
        return Ok(rules);
    }
    let packed = packed(rules);
    let (count, family) = fullest(&packed);
    if count <= most {
        return Ok(packed);
    }
    let message = format!(
        "the load balancer's security group needs {count} inbound rules for {family}, AWS takes {most} in one group"
    );
    let remedy = format!(
        "name fewer ranges in spec.loadBalancerSourceRanges, or put them into a prefix list ({})",
        keys::PREFIX_LISTS
    );
    Err(Problem::new("SecurityGroupRules", message, &remedy))
}

/// The family with most rules, and how many: AWS counts each apart, and whatever is no range in both.
fn fullest(rules: &[Permission]) -> (usize, &'static str) {
    let other = |range: fn(&Source) -> bool| rules.iter().filter(|rule| !range(&rule.source)).count();
    let ipv4 = other(|source| matches!(source, Source::Ipv6(_)));
    let ipv6 = other(|source| matches!(source, Source::Ipv4(_)));
    if ipv6 > ipv4 { (ipv6, "IPv6") } else { (ipv4, "IPv4") }
}

/// Rules with neighbouring and overlapping ports of one protocol and source as one. ICMP has no ports and stays as it is.
fn packed(mut rules: Vec<Permission>) -> Vec<Permission> {
    rules.sort_by(|one, other| {
        (&one.ip_protocol, &one.source, one.from_port).cmp(&(&other.ip_protocol, &other.source, other.from_port))
    });
    let mut packed: Vec<Permission> = Vec::new();
    for rule in rules {
        let joins = |last: &Permission| {
            matches!(rule.ip_protocol.as_str(), "tcp" | "udp")
                && last.ip_protocol == rule.ip_protocol
                && last.source == rule.source
                && last.to_port.zip(rule.from_port).is_some_and(|(end, start)| start <= end.saturating_add(1))
        };
        match packed.last_mut() {
            Some(last) if joins(last) => last.to_port = last.to_port.max(rule.to_port),
            _ => packed.push(rule),
        }
    }
    packed
}

/// A range as AWS keeps it: without the bits of a host.
pub(crate) fn network_of(range: &str) -> String {
    range.parse::<IpNet>().map_or_else(|_| range.to_owned(), |range| range.trunc().to_string())
}

/// What a binding says that targets must let in; nothing where no rules are kept.
pub(crate) fn networking(
    inputs: &Inputs,
    observed: &Observed,
    mode: &SecurityGroups,
    managed: Option<&str>,
    group: &spec::TargetGroup,
    balancer_subnets: &[String],
) -> Result<Option<Networking>, Gap> {
    let from = match mode {
        _ if needs_shared(mode) => inputs.backend_group.as_deref().unwrap_or(SHARED),
        SecurityGroups::Managed { .. } => managed.unwrap_or(MANAGED),
        SecurityGroups::Given { .. } | SecurityGroups::None { manage_backend_rules: false, .. } => return Ok(None),
        SecurityGroups::None { source_ranges, .. } => {
            let ingress = by_ranges(inputs, observed, source_ranges, group, balancer_subnets)?;
            return Ok(Some(Networking { ingress: Some(ingress) }));
        }
    };
    let peer = NetworkingPeer {
        security_group: Some(SecurityGroup { group_id: from.to_owned() }),
        ..NetworkingPeer::default()
    };
    let ports = if inputs.environment.options.exact_endpoint_rules {
        let mut ports = vec![NetworkingPort { protocol: Some(NetworkingProtocol::Tcp), port: None }];
        if group.protocol.has_udp() {
            ports.push(NetworkingPort { protocol: Some(NetworkingProtocol::Udp), port: None });
        }
        ports
    } else {
        group.target_ports.iter().map(port).collect()
    };
    Ok(Some(Networking { ingress: Some(vec![NetworkingRule { from: vec![peer], ports }]) }))
}

fn port(port: &spec::TargetPort) -> NetworkingPort {
    let protocol = if port.protocol == "UDP" { NetworkingProtocol::Udp } else { NetworkingProtocol::Tcp };
    NetworkingPort { protocol: Some(protocol), port: Some(port.port.clone()) }
}

/// Rules for a load balancer without security groups: clients where targets see their addresses, else the subnets that the
/// load balancer is in; and its health checks, which always come from there.
fn by_ranges(
    inputs: &Inputs,
    observed: &Observed,
    source_ranges: &[String],
    group: &spec::TargetGroup,
    balancer_subnets: &[String],
) -> Result<Vec<NetworkingRule>, Gap> {
    let ids: Vec<&str> = balancer_subnets.iter().map(String::as_str).collect();
    let of_family = |range: &String| range.contains(':') == (group.ip_address_type == AddressFamily::Ipv6);
    let mut subnet_ranges = Vec::new();
    if !ids.is_empty() {
        for subnet in subnets::by_ids(&ids, &observed.network)? {
            let ranges = std::iter::once(&subnet.cidr).chain(&subnet.ipv6_cidrs);
            subnet_ranges.extend(ranges.filter(|range| of_family(range)).cloned());
        }
    }
    let keeps_client = match group.attributes.get(PRESERVE_CLIENT_IP).map(|value| parse::boolean(value)) {
        Some(Ok(kept)) => kept,
        _ => group.target_type == TargetType::Instance,
    };
    let sources = if !group.protocol.has_udp() && !keeps_client {
        subnet_ranges.clone()
    } else if !source_ranges.is_empty() {
        source_ranges.iter().filter(|range| of_family(range)).cloned().collect()
    } else if inputs.spec.scheme == Scheme::Internal && keeps_client {
        let vpc = observed.network.vpc(&inputs.environment.vpc_id)?;
        vpc.map(|vpc| vpc.cidrs.iter().filter(|range| of_family(range)).cloned().collect()).unwrap_or_default()
    } else {
        vec![if group.ip_address_type == AddressFamily::Ipv6 { "::/0" } else { "0.0.0.0/0" }.to_owned()]
    };
    let peers = |ranges: &[String]| -> Vec<NetworkingPeer> {
        let peer = |range: &String| NetworkingPeer {
            ip_block: Some(IpBlock { cidr: range.clone() }),
            ..NetworkingPeer::default()
        };
        ranges.iter().map(peer).collect()
    };
    let both = matches!(group.protocol, spec::Protocol::TcpUdp | spec::Protocol::TcpQuic);
    let (traffic, apart) = group.target_ports.split_at_checked(if both { 2 } else { 1 }).unwrap_or_default();
    let mut rules = vec![NetworkingRule { from: peers(&sources), ports: traffic.iter().map(port).collect() }];
    let open = sources.iter().any(|range| range == "0.0.0.0/0" || range == "::/0");
    if !apart.is_empty() || !open && sources != subnet_ranges {
        let checked = apart.first().or(traffic.first()).map(port);
        rules.push(NetworkingRule { from: peers(&subnet_ranges), ports: checked.into_iter().collect() });
    }
    Ok(rules)
}
