//! Which settings were made on behalf of a Service, so that one that is taken from the Service goes back to its default,
//! and the names of what was made, so that nothing is lost by a crash.
//!
//! Stored on the Service as the annotation [`ANNOTATION`]. It is written before the first change and is absent where the
//! peer's load balancer was taken over and nothing has been changed since.

use std::collections::{BTreeMap, BTreeSet};

use nlb::{
    annotations::{
        attributes::{self, DEREGISTRATION_TERMINATION, PRESERVE_CLIENT_IP, Scope},
        parse,
    },
    service::{
        LoadBalancerSpec,
        spec::{Protocol, TargetGroup},
    },
    settings::{Scheme, TargetType},
};
use serde::{Deserialize, Serialize};

/// The annotation.
pub const ANNOTATION: &str = "elbv2.k8s.aws/managed-fields";

/// What was set, and what was made.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ManagedFields {
    /// Names of load balancers.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub load_balancers: BTreeSet<String>,
    /// Names of target groups.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub target_groups: BTreeSet<String>,
    /// Keys of attributes of the load balancer.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub attributes: BTreeSet<String>,
    /// Keys of attributes of target groups, by resource.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub target_group_attributes: BTreeMap<String, BTreeSet<String>>,
    /// Keys of attributes of listeners, by port.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub listener_attributes: BTreeMap<u16, BTreeSet<String>>,
    /// Ports of listeners whose ALPN policy was set.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub alpn_policies: BTreeSet<u16>,
    /// Ports of listeners whose stickiness was set.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub stickiness: BTreeSet<u16>,
    /// Whether capacity was reserved.
    #[serde(skip_serializing_if = "is_false")]
    pub capacity: bool,
    /// Whether it was set that inbound rules hold for `PrivateLink`, or do not.
    #[serde(skip_serializing_if = "is_false")]
    pub private_link: bool,
    /// Keys of tags that the Service asked for.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde calls")]
fn is_false(value: &bool) -> bool {
    !value
}

impl ManagedFields {
    /// Reads the annotation. One that cannot be read counts as absent: fields that it spoke of are left alone.
    pub fn read(annotation: Option<&str>) -> Self {
        annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// The text of the annotation.
    pub fn write(&self) -> String {
        // Its keys are strings and numbers, for which JSON has a form.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What a spec sets.
    pub fn of(spec: &LoadBalancerSpec, groups: &[&TargetGroup]) -> Self {
        let keys = |map: &BTreeMap<String, String>| map.keys().cloned().collect::<BTreeSet<_>>();
        let ports = |wanted: fn(&nlb::service::spec::Listener) -> bool| {
            spec.listeners.iter().filter(|listener| wanted(listener)).map(|listener| listener.port).collect()
        };
        Self {
            load_balancers: BTreeSet::new(),
            target_groups: BTreeSet::new(),
            attributes: keys(&spec.attributes),
            target_group_attributes: groups
                .iter()
                .map(|group| {
                    let mut keys = keys(&group.attributes);
                    // It is always set, so it needs no record.
                    keys.remove(attributes::PROXY_PROTOCOL);
                    (group.resource.clone(), keys)
                })
                .filter(|(_, keys)| !keys.is_empty())
                .collect(),
            listener_attributes: spec
                .listeners
                .iter()
                .map(|listener| (listener.port, keys(&listener.attributes)))
                .filter(|(_, keys)| !keys.is_empty())
                .collect(),
            alpn_policies: ports(|listener| listener.alpn_policy.is_some()),
            stickiness: ports(|listener| listener.default_actions.sticky.is_some()),
            capacity: spec.minimum_load_balancer_capacity.is_some(),
            private_link: spec.enforce_security_group_inbound_rules_on_private_link_traffic.is_some(),
            tags: keys(&spec.asked_tags),
        }
    }

    /// What either of two records says.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.load_balancers.extend(other.load_balancers.iter().cloned());
        all.target_groups.extend(other.target_groups.iter().cloned());
        all.attributes.extend(other.attributes.iter().cloned());
        for (resource, keys) in &other.target_group_attributes {
            all.target_group_attributes.entry(resource.clone()).or_default().extend(keys.iter().cloned());
        }
        for (port, keys) in &other.listener_attributes {
            all.listener_attributes.entry(*port).or_default().extend(keys.iter().cloned());
        }
        all.alpn_policies.extend(&other.alpn_policies);
        all.stickiness.extend(&other.stickiness);
        all.capacity |= other.capacity;
        all.private_link |= other.private_link;
        all.tags.extend(other.tags.iter().cloned());
        all
    }
}

/// A value as AWS writes it: booleans in any of their spellings are `true` or `false`.
pub(crate) fn normal(scope: Scope, key: &str, value: &str) -> String {
    match (attributes::find(scope, key).map(|attribute| attribute.form), parse::boolean(value)) {
        (Some(attributes::Form::Boolean), Ok(value)) => value.to_string(),
        (Some(attributes::Form::OneOf(words)), Ok(value)) if words.contains(&"true") => value.to_string(),
        _ => value.to_owned(),
    }
}

/// What an attribute of a load balancer goes back to; nothing where AWS has no way back.
pub(crate) fn balancer_default(key: &str, scheme: Scheme) -> Option<String> {
    match key {
        "ipv6.deny_all_igw_traffic" => Some((scheme == Scheme::Internal).to_string()),
        // AWS never takes these addresses away, and has no empty bucket.
        "secondary_ips.auto_assigned.per_subnet" => None,
        _ => literal_default(Scope::LoadBalancer, key),
    }
}

/// What an attribute of a target group goes back to.
pub(crate) fn group_default(key: &str, group: &TargetGroup) -> Option<String> {
    match key {
        DEREGISTRATION_TERMINATION => Some(matches!(group.protocol, Protocol::Udp | Protocol::TcpUdp).to_string()),
        PRESERVE_CLIENT_IP => {
            let hidden = group.target_type == TargetType::Ip && matches!(group.protocol, Protocol::Tcp | Protocol::Tls);
            Some((!hidden).to_string())
        }
        _ => literal_default(Scope::TargetGroup, key),
    }
}

/// What an attribute of a listener goes back to.
pub(crate) fn listener_default(key: &str) -> Option<String> {
    literal_default(Scope::Listener, key)
}

fn literal_default(scope: Scope, key: &str) -> Option<String> {
    let default = attributes::find(scope, key)?.default;
    (!default.is_empty()).then(|| default.to_owned())
}
