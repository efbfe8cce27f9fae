//! The managed security group: made, and its rules kept equal to what the Service asks for. It is owned wholly.

use super::{Change, Planner, Resource, Verb, removed_fields, tag_fields};
use crate::{
    aws::{Call, Permission, Source},
    balancers::{survey::managed_security_group, written::same_rule},
};

/// What managed security groups say they are for.
const DESCRIPTION: &str = "[k8s] Managed SecurityGroup for LoadBalancer";

impl Planner<'_> {
    pub(super) fn security_group(&mut self) {
        let Some(wanted) = self.desired.security_groups.first() else { return };
        let resource = Resource::new("security group", &wanted.group_name);
        let found = managed_security_group(self.observed);
        let present = found.map(|group| group.permissions.as_slice()).unwrap_or_default();
        if found.is_none() {
            let call = Call::CreateSecurityGroup {
                name: wanted.group_name.clone(),
                description: DESCRIPTION.to_owned(),
                vpc_id: self.inputs.environment.vpc_id.clone(),
                tags: wanted.tags.clone(),
            };
            self.aws(Verb::Create, resource.clone(), Vec::new(), call);
        }
        let missing: Vec<Permission> = without(&wanted.ip_permissions, present);
        let excess: Vec<Permission> = without(present, &wanted.ip_permissions);
        let most = self.inputs.environment.options.rules_per_security_group;
        let group_id = wanted.group_id.clone();
        let authorize = (!missing.is_empty())
            .then(|| Call::AuthorizeSecurityGroupIngress { group_id: group_id.clone(), permissions: missing.clone() });
        let revoke = (!excess.is_empty())
            .then(|| Call::RevokeSecurityGroupIngress { group_id: group_id.clone(), permissions: excess.clone() });
        // What is let in is let in before anything is shut out, unless there is no room for both.
        let crowded = present.len() + missing.len() > most;
        let mut rules = vec![
            (authorize, missing.iter().map(|rule| Change::set("IpPermissions", describe(rule))).collect::<Vec<_>>()),
            (revoke, excess.iter().map(|rule| Change::new("IpPermissions", Some(describe(rule)), None)).collect()),
        ];
        if crowded {
            rules.reverse();
        }
        for (call, changes) in rules {
            if let Some(call) = call {
                self.aws(Verb::Change, resource.clone(), changes, call);
            }
        }
        if let Some(found) = found {
            let (added, removed) = self.tag_changes(&found.tags, &wanted.tags);
            if !added.is_empty() {
                let changes = tag_fields(&found.tags, &added);
                let call = Call::CreateEc2Tags { resource: found.id.clone(), tags: added };
                self.aws(Verb::Change, resource.clone(), changes, call);
            }
            if !removed.is_empty() {
                let changes = removed_fields(&found.tags, &removed);
                let call = Call::DeleteEc2Tags { resource: found.id.clone(), keys: removed };
                self.aws(Verb::Change, resource, changes, call);
            }
        }
    }
}

/// The rules of `one` that are not among those of `other`.
pub(in crate::balancers) fn without(one: &[Permission], other: &[Permission]) -> Vec<Permission> {
    one.iter().filter(|rule| !other.iter().any(|present| same_rule(rule, present))).cloned().collect()
}

/// A rule as a person reads it: `tcp 80 from 0.0.0.0/0`.
pub(in crate::balancers) fn describe(rule: &Permission) -> String {
    let source = match &rule.source {
        Source::Ipv4(id) | Source::Ipv6(id) | Source::PrefixList(id) | Source::Group(id) => id,
    };
    match (rule.from_port, rule.to_port) {
        (Some(from), Some(to)) if from == to => format!("{} {from} from {source}", rule.ip_protocol),
        (Some(from), Some(to)) => format!("{} {from}-{to} from {source}", rule.ip_protocol),
        _ => format!("{} from {source}", rule.ip_protocol),
    }
}
