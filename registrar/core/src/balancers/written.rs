//! What is known after a write, from what was written and what was answered.

use super::observed::Observed;
use crate::aws::{
    Arn, Call, CapacityReservation, Forward, HealthCheck, Listener, ModifyListener, Permission, Reply, SecurityGroup,
    Zone,
};

/// Takes in a write that was done.
pub(super) fn written(observed: &mut Observed, call: &Call, reply: &Reply) {
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
                if let Some(kind) = &set.ip_address_type {
                    found.ip_address_type.clone_from(kind);
                }
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
