//! What the security groups of targets let in from load balancers.
//!
//! The rules follow from which bindings exist, in the whole cluster, and never from which pods there are: a roll-out changes
//! no rule. Ours bear [`DESCRIPTION`]; only such rules are ever taken away.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nlb::targetgroupbinding::{Networking, NetworkingPeer, NetworkingProtocol};

use super::{
    Environment, Problem,
    network::{in_vpc, tagged},
    plan::without,
    security_groups::network_of,
    written::same_rule,
};
use crate::aws::{Call, Filter, Instance, Permission, SecurityGroup, Source};

/// What our rules say they are for. The peer's say the same.
pub const DESCRIPTION: &str = "elbv2.k8s.aws/targetGroupBinding=shared";
/// Instances in one question.
const INSTANCES: usize = 100;
/// Addresses in one question: a filter takes 200 values.
pub const ADDRESSES: usize = 200;
/// The filter for groups that let in another.
const REFERS_TO: &str = "ip-permission.group-id";

/// Rules that are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// The rules, sorted.
    pub rules: Vec<Permission>,
    /// Whether some port of some binding is not known. Nothing is taken away then.
    pub incomplete: bool,
}

impl Wanted {
    /// The rules for bindings with their networking. `numbers` gives the numbers that the name of a container port stands
    /// for at present, for the binding of that index.
    ///
    /// Rules from a security group are one per protocol, from the lowest port to the highest, unless each port is to have
    /// its own (`exact`); rules from ranges name their ports.
    pub fn of<'a>(
        networking: impl IntoIterator<Item = &'a Networking>,
        exact: bool,
        numbers: impl Fn(usize, &str) -> Vec<u16>,
    ) -> Self {
        let mut wanted = Self::default();
        let mut spans: BTreeMap<(&'static str, Source), Vec<(i32, i32)>> = BTreeMap::new();
        for (index, networking) in networking.into_iter().enumerate() {
            for rule in networking.ingress.iter().flatten() {
                let mut ports: Vec<(&'static str, i32, i32)> = Vec::new();
                for port in &rule.ports {
                    let protocol = match port.protocol {
                        Some(NetworkingProtocol::Udp) => "udp",
                        Some(NetworkingProtocol::Tcp) | None => "tcp",
                    };
                    match &port.port {
                        None => ports.push((protocol, 0, 65535)),
                        Some(IntOrString::Int(number)) => ports.push((protocol, *number, *number)),
                        Some(IntOrString::String(name)) => {
                            let numbers = numbers(index, name);
                            wanted.incomplete |= numbers.is_empty();
                            ports.extend(numbers.into_iter().map(|port| (protocol, i32::from(port), i32::from(port))));
                        }
                    }
                }
                if rule.ports.is_empty() {
                    ports.push(("tcp", 0, 65535));
                }
                for source in rule.from.iter().filter_map(source) {
                    for (protocol, from, to) in &ports {
                        spans.entry((protocol, source.clone())).or_default().push((*from, *to));
                    }
                }
            }
        }
        for ((protocol, source), mut ports) in spans {
            ports.sort_unstable();
            ports.dedup();
            if matches!(source, Source::Group(_)) && !exact {
                let lowest = ports.iter().map(|(from, _)| *from).min().unwrap_or_default();
                let highest = ports.iter().map(|(_, to)| *to).max().unwrap_or_default();
                ports = vec![(lowest, highest)];
            }
            wanted.rules.extend(ports.into_iter().map(|(from, to)| Permission {
                ip_protocol: protocol.to_owned(),
                from_port: Some(from),
                to_port: Some(to),
                source: source.clone(),
                description: Some(DESCRIPTION.to_owned()),
            }));
        }
        wanted.rules.sort();
        wanted
    }
}

fn source(peer: &NetworkingPeer) -> Option<Source> {
    match (&peer.security_group, &peer.ip_block) {
        (Some(group), _) if group.group_id.starts_with('$') => None,
        (Some(group), _) => Some(Source::Group(group.group_id.clone())),
        (None, Some(block)) => {
            let range = network_of(&block.cidr);
            Some(if range.contains(':') { Source::Ipv6(range) } else { Source::Ipv4(range) })
        }
        (None, None) => None,
    }
}

/// What is to be written to a security group of targets, in this order.
pub fn changes(wanted: &Wanted, found: &SecurityGroup, most: usize) -> Result<Vec<Call>, Problem> {
    let ours: Vec<Permission> = found.permissions.iter().filter(|rule| is_ours(rule)).cloned().collect();
    // A rule of somebody else that lets in the same is as good.
    let mut missing = without(&wanted.rules, &found.permissions);
    let mut excess = if wanted.incomplete { Vec::new() } else { without(&ours, &wanted.rules) };
    let foreign = found.permissions.len() - ours.len();
    if foreign + wanted.rules.len() > most {
        let packed = packed(&wanted.rules);
        if foreign + packed.len() > most {
            let message = format!(
                "security group {} needs {} inbound rules besides the {foreign} of others, AWS takes {most} in one group",
                found.id,
                packed.len()
            );
            let remedy = "let load balancers have security groups, whose rules take one line each, or ask AWS for more";
            return Err(Problem::new("SecurityGroupRules", message, remedy));
        }
        missing = without(&packed, &found.permissions);
        excess = if wanted.incomplete { Vec::new() } else { without(&ours, &packed) };
    }
    let authorize = (!missing.is_empty())
        .then(|| Call::AuthorizeSecurityGroupIngress { group_id: found.id.clone(), permissions: missing.clone() });
    let revoke = (!excess.is_empty())
        .then(|| Call::RevokeSecurityGroupIngress { group_id: found.id.clone(), permissions: excess.clone() });
    // What is let in is let in before anything is shut out, unless there is no room for both.
    let crowded = found.permissions.len() + missing.len() > most;
    let calls = if crowded { [revoke, authorize] } else { [authorize, revoke] };
    Ok(calls.into_iter().flatten().collect())
}

/// One rule per protocol and source, from the lowest port to the highest.
fn packed(rules: &[Permission]) -> Vec<Permission> {
    let mut packed: Vec<Permission> = Vec::new();
    for rule in rules {
        let same = |other: &&mut Permission| other.ip_protocol == rule.ip_protocol && other.source == rule.source;
        match packed.iter_mut().find(same) {
            Some(other) => {
                other.from_port = other.from_port.min(rule.from_port);
                other.to_port = other.to_port.max(rule.to_port);
            }
            None => packed.push(rule.clone()),
        }
    }
    packed
}

/// Whether a group has any of our rules.
pub fn has_ours(found: &SecurityGroup) -> bool {
    found.permissions.iter().any(is_ours)
}

fn is_ours(rule: &Permission) -> bool {
    rule.description.as_deref() == Some(DESCRIPTION)
}

/// The questions for the interfaces of nodes.
pub fn instance_reads(instances: &BTreeSet<String>) -> Vec<Call> {
    let ids: Vec<String> = instances.iter().cloned().collect();
    ids.chunks(INSTANCES).map(|ids| Call::DescribeInstances { ids: ids.to_vec() }).collect()
}

/// The question for the interfaces that these addresses of pods are on.
pub fn pod_interfaces(environment: &Environment, addresses: Vec<String>) -> Call {
    let on_one_of = Filter { name: "addresses.private-ip-address".to_owned(), values: addresses };
    Call::DescribeNetworkInterfaces { filters: vec![in_vpc(&environment.vpc_id), on_one_of] }
}

/// The question for security groups that let in another.
pub fn referring_groups(environment: &Environment, group: &str) -> Call {
    let refers = Filter { name: REFERS_TO.to_owned(), values: vec![group.to_owned()] };
    Call::DescribeSecurityGroups { ids: Vec::new(), filters: vec![in_vpc(&environment.vpc_id), refers] }
}

/// Whether filters are those of [`referring_groups`].
pub fn asks_who_refers(filters: &[Filter]) -> bool {
    filters.iter().any(|filter| filter.name == REFERS_TO)
}

/// The question for security groups that say that they are of the cluster.
pub fn cluster_groups(environment: &Environment) -> Call {
    let key = cluster_tag(environment);
    let filters = vec![in_vpc(&environment.vpc_id), Filter { name: "tag-key".to_owned(), values: vec![key] }];
    Call::DescribeSecurityGroups { ids: Vec::new(), filters }
}

/// The question for the group that all load balancers share towards their targets.
pub fn shared_group(environment: &Environment) -> Call {
    let filters = vec![
        in_vpc(&environment.vpc_id),
        tagged(nlb::tags::CLUSTER, &[&environment.settings.cluster_name]),
        tagged(nlb::tags::BACKEND_RESOURCE, &[nlb::tags::BACKEND_GROUP]),
    ];
    Call::DescribeSecurityGroups { ids: Vec::new(), filters }
}

/// The call that makes it.
pub fn create_shared_group(environment: &Environment) -> Call {
    let settings = &environment.settings;
    let own = [
        (nlb::tags::CLUSTER.to_owned(), settings.cluster_name.clone()),
        (nlb::tags::BACKEND_RESOURCE.to_owned(), nlb::tags::BACKEND_GROUP.to_owned()),
    ];
    Call::CreateSecurityGroup {
        name: nlb::names::backend_security_group(&settings.cluster_name),
        description: "[k8s] Shared Backend SecurityGroup for LoadBalancer".to_owned(),
        vpc_id: environment.vpc_id.clone(),
        tags: settings.default_tags.clone().into_iter().chain(own).collect(),
    }
}

fn cluster_tag(environment: &Environment) -> String {
    format!("kubernetes.io/cluster/{}", environment.settings.cluster_name)
}

/// The security groups that get the rules: those of the nodes' first interfaces, and those of pods that have interfaces of
/// their own, given as what is on each (`pods`). Of several on one interface it is the one that the operator's tags choose,
/// else the one of the cluster, else the one with the lowest id.
pub fn endpoint_groups<'a>(
    environment: &Environment,
    instances: &'a [Instance],
    pods: impl IntoIterator<Item = &'a Vec<String>>,
    known: &[SecurityGroup],
) -> BTreeSet<String> {
    let nodes = instances
        .iter()
        .filter(|instance| instance.state != "terminated")
        .filter_map(|instance| instance.interfaces.first())
        .map(|interface| &interface.security_groups);
    let rank = |id: &&String| {
        let tags = known.iter().find(|group| group.id == **id).map(|group| &group.tags);
        let wanted = &environment.options.endpoint_group_tags;
        let by_operator = !wanted.is_empty()
            && tags.is_some_and(|tags| wanted.iter().all(|(key, value)| tags.get(key) == Some(value)));
        let of_cluster = tags.is_some_and(|tags| tags.contains_key(&cluster_tag(environment)));
        (!by_operator, !of_cluster, (*id).clone())
    };
    nodes.chain(pods).filter_map(|groups| groups.iter().min_by_key(rank).cloned()).collect()
}

/// Whether a rule is among others, whatever they say they are for.
pub fn has_rule(rules: &[Permission], rule: &Permission) -> bool {
    rules.iter().any(|known| same_rule(known, rule))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn networking(value: &serde_json::Value) -> Networking {
        serde_json::from_value(json!({ "ingress": value })).unwrap()
    }

    fn from_group(ports: &serde_json::Value) -> Networking {
        networking(&json!([{"from": [{"securityGroup": {"groupID": "sg-lb"}}], "ports": ports}]))
    }

    fn rule(protocol: &str, from: i32, to: i32, source: Source) -> Permission {
        Permission {
            ip_protocol: protocol.to_owned(),
            from_port: Some(from),
            to_port: Some(to),
            source,
            description: Some(DESCRIPTION.to_owned()),
        }
    }

    fn lb() -> Source {
        Source::Group("sg-lb".to_owned())
    }

    fn group(permissions: Vec<Permission>) -> SecurityGroup {
        SecurityGroup {
            id: "sg-node".to_owned(),
            name: "node".to_owned(),
            vpc_id: "vpc".to_owned(),
            permissions,
            tags: BTreeMap::new(),
        }
    }

    #[test]
    fn ports_from_a_security_group_become_one_rule_per_protocol() {
        let bindings = [
            from_group(&json!([{"protocol": "TCP", "port": 8443}])),
            from_group(&json!([{"protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 53}])),
        ];
        let wanted = Wanted::of(&bindings, false, |_, _| Vec::new());
        assert_eq!(wanted.rules, [rule("tcp", 80, 8443, lb()), rule("udp", 53, 53, lb())]);
        let exact = Wanted::of(&bindings, true, |_, _| Vec::new());
        assert_eq!(exact.rules.len(), 3);
    }

    #[test]
    fn no_ports_mean_all_of_tcp() {
        let wanted = Wanted::of(&[from_group(&json!([]))], false, |_, _| Vec::new());
        assert_eq!(wanted.rules, [rule("tcp", 0, 65535, lb())]);
    }

    #[test]
    fn rules_from_ranges_name_their_ports_and_are_written_as_aws_keeps_them() {
        let bindings = [networking(&json!([
            {"from": [{"ipBlock": {"cidr": "10.1.2.3/8"}}, {"ipBlock": {"cidr": "fd00::1/8"}}],
             "ports": [{"port": 80}, {"port": 8443}]},
        ]))];
        let wanted = Wanted::of(&bindings, false, |_, _| Vec::new());
        let v4 = || Source::Ipv4("10.0.0.0/8".to_owned());
        let v6 = || Source::Ipv6("fd00::/8".to_owned());
        assert_eq!(
            wanted.rules,
            [
                rule("tcp", 80, 80, v4()),
                rule("tcp", 80, 80, v6()),
                rule("tcp", 8443, 8443, v4()),
                rule("tcp", 8443, 8443, v6())
            ]
        );
    }

    #[test]
    fn a_named_port_without_a_number_takes_no_rule_away() {
        let bindings = [from_group(&json!([{"protocol": "TCP", "port": "http"}]))];
        let wanted = Wanted::of(&bindings, false, |_, _| Vec::new());
        assert!(wanted.incomplete);
        let found = group(vec![rule("tcp", 8080, 8080, lb())]);
        assert_eq!(changes(&wanted, &found, 60).unwrap(), []);
        let wanted = Wanted::of(&bindings, false, |_, name| if name == "http" { vec![8080] } else { Vec::new() });
        assert_eq!(changes(&wanted, &found, 60).unwrap(), []);
    }

    #[test]
    fn what_is_wanted_is_let_in_before_the_rest_is_shut_out_and_foreign_rules_stay() {
        let foreign = Permission { description: None, ..rule("tcp", 22, 22, Source::Ipv4("10.0.0.0/8".to_owned())) };
        let found = group(vec![foreign, rule("tcp", 80, 80, lb())]);
        let wanted = Wanted::of(&[from_group(&json!([{"port": 80}, {"port": 81}]))], false, |_, _| Vec::new());
        let calls = changes(&wanted, &found, 60).unwrap();
        let operations: Vec<_> = calls.iter().map(Call::operation).collect();
        assert_eq!(operations, ["AuthorizeSecurityGroupIngress", "RevokeSecurityGroupIngress"]);
        let Call::RevokeSecurityGroupIngress { permissions, .. } = &calls[1] else { panic!("{calls:?}") };
        assert_eq!(permissions, &[rule("tcp", 80, 80, lb())]);
        let crowded = changes(&wanted, &found, 2).unwrap();
        assert_eq!(crowded[0].operation(), "RevokeSecurityGroupIngress");
    }

    #[test]
    fn more_rules_than_fit_are_packed_and_more_than_that_are_refused_with_their_number() {
        let ports: Vec<_> = (1..=5).map(|n| json!({"port": n * 100})).collect();
        let bindings = [networking(&json!([{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": ports}]))];
        let wanted = Wanted::of(&bindings, false, |_, _| Vec::new());
        let calls = changes(&wanted, &group(Vec::new()), 3).unwrap();
        let Call::AuthorizeSecurityGroupIngress { permissions, .. } = &calls[0] else { panic!("{calls:?}") };
        assert_eq!(permissions, &[rule("tcp", 100, 500, Source::Ipv4("10.0.0.0/8".to_owned()))]);
        let foreign = vec![Permission { description: None, ..rule("tcp", 22, 22, lb()) }; 3];
        let problem = changes(&wanted, &group(foreign), 3).unwrap_err().to_string();
        assert!(
            problem.starts_with("security group sg-node needs 1 inbound rules besides the 3 of others"),
            "{problem}"
        );
    }

    #[test]
    fn of_several_groups_on_an_interface_the_clusters_own_is_taken_and_else_the_first() {
        let environment = Environment {
            settings: std::sync::Arc::new(nlb::settings::ModelSettings {
                cluster_name: "lab".to_owned(),
                ..nlb::settings::ModelSettings::default()
            }),
            ..Environment::default()
        };
        let instance = |groups: &[&str]| Instance {
            id: "i-1".to_owned(),
            state: "running".to_owned(),
            interfaces: vec![crate::aws::NetworkInterface {
                id: "eni-1".to_owned(),
                description: String::new(),
                addresses: Vec::new(),
                security_groups: groups.iter().map(|id| (*id).to_owned()).collect(),
            }],
        };
        let mut own = group(Vec::new());
        own.tags.insert("kubernetes.io/cluster/lab".to_owned(), "owned".to_owned());
        for (groups, expected) in
            [(&["sg-a"][..], "sg-a"), (&["sg-a", "sg-node"], "sg-node"), (&["sg-c", "sg-b"], "sg-b")]
        {
            let chosen = endpoint_groups(&environment, &[instance(groups)], &[], std::slice::from_ref(&own));
            assert_eq!(chosen.into_iter().collect::<Vec<_>>(), [expected]);
        }
    }
}
