//! What has been read of AWS for one Service, and how each answer changes it.

use std::collections::BTreeMap;

use nlb::tags::STACK;

use super::network::Network;
use crate::aws::{
    Arn, Call, CapacityReservation, Fault, Forward, HealthCheck, Listener, ListenerQuery, LoadBalancer,
    LoadBalancerQuery, ModifyListener, Permission, Reply, SecurityGroup, TargetGroup, TargetGroupQuery, TargetHealth,
    Zone,
};

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// What is known. An entry that is not there has not been read; one that is `None` is known to be absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Load balancers by name.
    pub load_balancers: BTreeMap<String, Option<LoadBalancer>>,
    /// Listeners by load balancer.
    pub listeners: BTreeMap<Arn, Vec<Listener>>,
    /// Target groups that listeners refer to, by load balancer.
    pub attached: BTreeMap<Arn, Vec<Arn>>,
    /// Target groups.
    pub groups: BTreeMap<Arn, Option<TargetGroup>>,
    /// Target groups by name.
    pub group_names: BTreeMap<String, Option<Arn>>,
    /// Tags of load balancers, target groups and listeners.
    pub tags: BTreeMap<Arn, Tags>,
    /// Attributes of load balancers, target groups and listeners.
    pub attributes: BTreeMap<Arn, BTreeMap<String, String>>,
    /// Certificates of listeners, each with whether it is the default one.
    pub certificates: BTreeMap<Arn, Vec<(String, bool)>>,
    /// Capacity reservations of load balancers.
    pub capacity: BTreeMap<Arn, CapacityReservation>,
    /// Security groups that carry the tag of the Service's stack.
    pub security_groups: Option<Vec<SecurityGroup>>,
    /// Targets of groups that are being replaced.
    pub health: BTreeMap<Arn, Vec<TargetHealth>>,
    /// What is shared by all Services: subnets and the like.
    pub network: Network,
}

impl Observed {
    /// Everything is to be read again, but not what is shared.
    pub fn forget(&mut self) {
        let network = std::mem::take(&mut self.network);
        *self = Self { network, ..Self::default() };
    }

    fn balancer_mut(&mut self, arn: &Arn) -> Option<&mut LoadBalancer> {
        self.load_balancers.values_mut().flatten().find(|found| found.arn == *arn)
    }

    fn listener_mut(&mut self, arn: &Arn) -> Option<&mut Listener> {
        self.listeners.values_mut().flatten().find(|found| found.arn == *arn)
    }

    fn security_group_mut(&mut self, id: &str) -> Option<&mut SecurityGroup> {
        self.security_groups.iter_mut().flatten().find(|found| found.id == id)
    }

    fn learn_group(&mut self, group: &TargetGroup) {
        self.group_names.insert(group.name.clone(), Some(group.arn.clone()));
        self.groups.insert(group.arn.clone(), Some(group.clone()));
    }

    fn learn_groups(&mut self, groups: &[TargetGroup]) {
        for group in groups {
            self.learn_group(group);
        }
    }

    fn forget_group(&mut self, arn: &Arn) {
        self.groups.insert(arn.clone(), None);
        for found in self.group_names.values_mut() {
            found.take_if(|found| found == arn);
        }
        for attached in self.attached.values_mut() {
            attached.retain(|attached| attached != arn);
        }
    }

    fn forget_balancer(&mut self, arn: &Arn) {
        for found in self.load_balancers.values_mut() {
            found.take_if(|found| found.arn == *arn);
        }
        self.listeners.remove(arn);
        self.attached.remove(arn);
        for group in self.groups.values_mut().flatten() {
            group.load_balancers.retain(|other| other != arn);
        }
    }
}

/// Takes in what a call came to. A write that may have been done, or that was refused because something is not as it was
/// thought to be, makes everything be read again.
pub fn fold(observed: &mut Observed, call: &Call, result: &Result<Reply, Fault>) {
    match result {
        Ok(reply) if call.is_read() => read(observed, call, reply),
        Ok(reply) => written(observed, call, reply),
        Err(Fault::Throttled { .. } | Fault::NotSent(_)) => {}
        Err(fault) if call.is_read() => unreadable(observed, call, fault),
        Err(fault) if is_gone(call, fault) => written(observed, call, &Reply::Done),
        Err(_) => observed.forget(),
    }
}

/// Whether a fault tells what was asked, as a reply does: that something is not there, or that it has gone already.
pub fn is_answer(call: &Call, fault: &Fault) -> bool {
    match call {
        Call::DescribeLoadBalancers(LoadBalancerQuery::Name(_)) => fault.is("LoadBalancerNotFound"),
        Call::DescribeTargetGroups(TargetGroupQuery::Name(_) | TargetGroupQuery::Arns(_))
        | Call::DescribeTargetHealth { .. } => fault.is("TargetGroupNotFound"),
        _ if call.is_read() => !Network::is_not_of(call) && fault.code().is_some_and(is_about_the_question),
        _ => is_gone(call, fault),
    }
}

/// Whether a refusal of EC2 is about what was asked for, and not about who asked.
fn is_about_the_question(code: &str) -> bool {
    code.starts_with("Invalid")
}

/// Whether a deletion was refused because there is nothing to delete.
pub(crate) fn is_gone(call: &Call, fault: &Fault) -> bool {
    match call {
        Call::DeleteLoadBalancer { .. } => fault.is("LoadBalancerNotFound"),
        Call::DeleteTargetGroup { .. } => fault.is("TargetGroupNotFound"),
        Call::DeleteListener { .. } => fault.is("ListenerNotFound"),
        Call::DeleteSecurityGroup { .. } => fault.is("InvalidGroup.NotFound"),
        _ => false,
    }
}

fn read(observed: &mut Observed, call: &Call, reply: &Reply) {
    match (call, reply) {
        (
            Call::DescribeLoadBalancers(LoadBalancerQuery::Name(name)),
            Reply::LoadBalancers { load_balancers: found, .. },
        ) => {
            observed.load_balancers.insert(name.clone(), found.first().cloned());
        }
        (
            Call::DescribeTargetGroups(TargetGroupQuery::LoadBalancer(balancer)),
            Reply::TargetGroups { target_groups: found, .. },
        ) => {
            observed.learn_groups(found);
            observed.attached.insert(balancer.clone(), found.iter().map(|group| group.arn.clone()).collect());
        }
        (
            Call::DescribeTargetGroups(TargetGroupQuery::Name(name)),
            Reply::TargetGroups { target_groups: found, .. },
        ) => {
            observed.learn_groups(found);
            observed.group_names.entry(name.clone()).or_default();
        }
        (
            Call::DescribeTargetGroups(TargetGroupQuery::Arns(arns)),
            Reply::TargetGroups { target_groups: found, .. },
        ) => {
            observed.learn_groups(found);
            for arn in arns {
                observed.groups.entry(arn.clone()).or_default();
            }
        }
        (Call::DescribeListeners(ListenerQuery::LoadBalancer(balancer)), Reply::Listeners(found)) => {
            observed.listeners.insert(balancer.clone(), found.clone());
        }
        (Call::DescribeTags { .. }, Reply::Tags(found)) => {
            observed.tags.extend(found.iter().map(|(arn, tags)| (arn.clone(), tags.clone())));
        }
        (
            Call::DescribeLoadBalancerAttributes { load_balancer: arn }
            | Call::DescribeTargetGroupAttributes { group: arn }
            | Call::DescribeListenerAttributes { listener: arn },
            Reply::Attributes(found),
        ) => {
            observed.attributes.insert(arn.clone(), found.clone());
        }
        (Call::DescribeListenerCertificates { listener }, Reply::Certificates(found)) => {
            observed.certificates.insert(listener.clone(), found.clone());
        }
        (Call::DescribeCapacityReservation { load_balancer }, Reply::CapacityReservation(found)) => {
            observed.capacity.insert(load_balancer.clone(), found.clone());
        }
        (Call::DescribeTargetHealth { group }, Reply::TargetHealth(found)) => {
            observed.health.insert(group.clone(), found.clone());
        }
        (Call::DescribeSecurityGroups { filters, .. }, Reply::SecurityGroups(found))
            if filters.iter().any(|filter| filter.name == format!("tag:{STACK}")) =>
        {
            observed.security_groups = Some(found.clone());
        }
        _ => observed.network.learn(call, Ok(reply)),
    }
}

fn unreadable(observed: &mut Observed, call: &Call, fault: &Fault) {
    match call {
        Call::DescribeLoadBalancers(LoadBalancerQuery::Name(name)) if fault.is("LoadBalancerNotFound") => {
            observed.load_balancers.insert(name.clone(), None);
        }
        Call::DescribeTargetGroups(TargetGroupQuery::Name(name)) if fault.is("TargetGroupNotFound") => {
            observed.group_names.insert(name.clone(), None);
        }
        Call::DescribeTargetGroups(TargetGroupQuery::Arns(arns)) if fault.is("TargetGroupNotFound") => {
            for arn in arns {
                observed.forget_group(arn);
            }
        }
        Call::DescribeTargetHealth { group } if fault.is("TargetGroupNotFound") => observed.forget_group(group),
        _ => match fault {
            // Something that was there a moment ago is gone, or the other way round.
            Fault::Refused(refusal) if refusal.code.ends_with("NotFound") && Network::is_not_of(call) => {
                observed.forget();
            }
            Fault::Refused(refusal) if is_about_the_question(&refusal.code) => {
                observed.network.learn(call, Err(refusal));
            }
            _ => {}
        },
    }
}

fn written(observed: &mut Observed, call: &Call, reply: &Reply) {
    match call {
        Call::CreateLoadBalancer(create) => {
            let Reply::LoadBalancers { load_balancers, .. } = reply else { return observed.forget() };
            let Some(made) = load_balancers.first() else { return observed.forget() };
            observed.load_balancers.insert(create.name.clone(), Some(made.clone()));
            observed.tags.insert(made.arn.clone(), create.tags.clone());
            observed.listeners.entry(made.arn.clone()).or_default();
            observed.attached.entry(made.arn.clone()).or_default();
        }
        Call::DeleteLoadBalancer { load_balancer } => observed.forget_balancer(load_balancer),
        Call::SetSubnets(set) => {
            if let Some(found) = observed.balancer_mut(&set.load_balancer) {
                let zone = |mapping: &_| Zone { name: String::new(), mapping: Clone::clone(mapping) };
                found.zones = set.subnet_mappings.iter().map(zone).collect();
                if let Some(on) = set.enable_prefix_for_ipv6_source_nat {
                    found.enable_prefix_for_ipv6_source_nat = Some(on);
                }
            }
        }
        Call::SetSecurityGroups { load_balancer, security_groups, enforce_on_private_link } => {
            if let Some(found) = observed.balancer_mut(load_balancer) {
                found.security_groups.clone_from(security_groups);
                if enforce_on_private_link.is_some() {
                    found.enforce_on_private_link = *enforce_on_private_link;
                }
            }
        }
        Call::SetIpAddressType { load_balancer, ip_address_type } => {
            if let Some(found) = observed.balancer_mut(load_balancer) {
                found.ip_address_type.clone_from(ip_address_type);
            }
        }
        Call::ModifyCapacityReservation { load_balancer, capacity_units } => {
            let states = match reply {
                Reply::CapacityReservation(said) => said.states.clone(),
                _ => Vec::new(),
            };
            let said = CapacityReservation { capacity_units: *capacity_units, states };
            observed.capacity.insert(load_balancer.clone(), said);
        }
        Call::ModifyLoadBalancerAttributes { load_balancer: arn, attributes }
        | Call::ModifyTargetGroupAttributes { group: arn, attributes }
        | Call::ModifyListenerAttributes { listener: arn, attributes } => {
            observed.attributes.entry(arn.clone()).or_default().extend(attributes.clone());
        }
        Call::AddTags { resource, tags } => {
            observed.tags.entry(resource.clone()).or_default().extend(tags.clone());
        }
        Call::RemoveTags { resource, keys } => {
            observed.tags.entry(resource.clone()).or_default().retain(|key, _| !keys.contains(key));
        }
        Call::CreateTargetGroup(create) => {
            let Reply::TargetGroups { target_groups, .. } = reply else { return observed.forget() };
            let Some(made) = target_groups.first() else { return observed.forget() };
            observed.learn_group(made);
            observed.tags.insert(made.arn.clone(), create.tags.clone());
        }
        Call::ModifyTargetGroup { group, health_check } => {
            if let Some(Some(found)) = observed.groups.get_mut(group) {
                merge_check(&mut found.health_check, health_check);
            }
        }
        Call::DeleteTargetGroup { group } => observed.forget_group(group),
        _ => written_listener(observed, call, reply),
    }
}

fn written_listener(observed: &mut Observed, call: &Call, reply: &Reply) {
    match call {
        Call::CreateListener(create) => {
            let Reply::Listeners(made) = reply else { return observed.forget() };
            let Some(made) = made.first() else { return observed.forget() };
            observed.tags.insert(made.arn.clone(), create.tags.clone());
            attach(observed, &create.load_balancer, &create.forward);
            let listeners = observed.listeners.entry(create.load_balancer.clone()).or_default();
            listeners.retain(|listener| listener.arn != made.arn);
            listeners.push(made.clone());
        }
        Call::ModifyListener(change) => {
            let balancer = observed.listener_mut(&change.listener).map(|found| {
                merge_listener(found, change);
                found.load_balancer.clone()
            });
            if let (Some(balancer), Some(forward)) = (balancer, &change.forward) {
                attach(observed, &balancer, forward);
            }
            // The default certificate is one of those of the listener.
            if change.certificate.is_some() {
                observed.certificates.remove(&change.listener);
            }
        }
        Call::DeleteListener { listener } => {
            for listeners in observed.listeners.values_mut() {
                listeners.retain(|found| found.arn != *listener);
            }
        }
        Call::AddListenerCertificates { listener, certificates } => {
            let known = observed.certificates.entry(listener.clone()).or_default();
            known.extend(certificates.iter().map(|certificate| (certificate.clone(), false)));
        }
        Call::RemoveListenerCertificates { listener, certificates } => {
            let known = observed.certificates.entry(listener.clone()).or_default();
            known.retain(|(certificate, default)| *default || !certificates.contains(certificate));
        }
        _ => written_security_group(observed, call, reply),
    }
}

fn written_security_group(observed: &mut Observed, call: &Call, reply: &Reply) {
    match call {
        Call::CreateSecurityGroup { name, vpc_id, tags, .. } => {
            let Reply::SecurityGroupId(id) = reply else { return observed.forget() };
            observed.security_groups.get_or_insert_default().push(SecurityGroup {
                id: id.clone(),
                name: name.clone(),
                vpc_id: vpc_id.clone(),
                permissions: Vec::new(),
                tags: tags.clone(),
            });
        }
        Call::DeleteSecurityGroup { group_id } => {
            observed.security_groups.iter_mut().for_each(|groups| groups.retain(|group| group.id != *group_id));
        }
        Call::AuthorizeSecurityGroupIngress { group_id, permissions } => {
            if let Some(group) = observed.security_group_mut(group_id) {
                authorize(&mut group.permissions, permissions);
            }
        }
        Call::RevokeSecurityGroupIngress { group_id, permissions } => {
            if let Some(group) = observed.security_group_mut(group_id) {
                revoke(&mut group.permissions, permissions);
            }
        }
        Call::CreateEc2Tags { resource, tags } => {
            if let Some(group) = observed.security_group_mut(resource) {
                group.tags.extend(tags.clone());
            }
        }
        Call::DeleteEc2Tags { resource, keys } => {
            if let Some(group) = observed.security_group_mut(resource) {
                group.tags.retain(|key, _| !keys.contains(key));
            }
        }
        _ => {}
    }
}

/// Rules that were let in, by what makes a rule: protocol, ports and source.
pub(crate) fn authorize(rules: &mut Vec<Permission>, added: &[Permission]) {
    revoke(rules, added);
    rules.extend(added.iter().cloned());
}

/// Rules that were taken away.
pub(crate) fn revoke(rules: &mut Vec<Permission>, removed: &[Permission]) {
    rules.retain(|rule| !removed.iter().any(|removed| same_rule(rule, removed)));
}

/// Whether two rules let in the same. What they say they are for is no part of it.
pub(crate) fn same_rule(one: &Permission, other: &Permission) -> bool {
    (&one.ip_protocol, one.from_port, one.to_port, &one.source)
        == (&other.ip_protocol, other.from_port, other.to_port, &other.source)
}

fn attach(observed: &mut Observed, balancer: &Arn, forward: &Forward) {
    for (group, _) in &forward.groups {
        let attached = observed.attached.entry(balancer.clone()).or_default();
        if !attached.contains(group) {
            attached.push(group.clone());
        }
        if let Some(Some(found)) = observed.groups.get_mut(group)
            && !found.load_balancers.contains(balancer)
        {
            found.load_balancers.push(balancer.clone());
        }
    }
}

fn merge_check(known: &mut HealthCheck, set: &HealthCheck) {
    let HealthCheck {
        protocol,
        port,
        path,
        matcher,
        interval_seconds,
        timeout_seconds,
        healthy_threshold,
        unhealthy_threshold,
    } = set.clone();
    known.protocol = protocol.or(known.protocol.take());
    known.port = port.or(known.port.take());
    known.path = path.or(known.path.take());
    known.matcher = matcher.or(known.matcher.take());
    known.interval_seconds = interval_seconds.or(known.interval_seconds);
    known.timeout_seconds = timeout_seconds.or(known.timeout_seconds);
    known.healthy_threshold = healthy_threshold.or(known.healthy_threshold);
    known.unhealthy_threshold = unhealthy_threshold.or(known.unhealthy_threshold);
}

fn merge_listener(known: &mut Listener, change: &ModifyListener) {
    if let Some(protocol) = &change.protocol {
        if protocol != "TLS" {
            (known.ssl_policy, known.certificate, known.alpn_policy) = (None, None, None);
        }
        known.protocol.clone_from(protocol);
    }
    known.port = change.port.unwrap_or(known.port);
    known.forward = change.forward.clone().or(known.forward.take());
    known.ssl_policy = change.ssl_policy.clone().or(known.ssl_policy.take());
    known.certificate = change.certificate.clone().or(known.certificate.take());
    known.alpn_policy = change.alpn_policy.clone().or(known.alpn_policy.take());
}
