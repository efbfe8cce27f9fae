//! Changes of a Service that AWS cannot make in place, or that have no effect.

use k8s_openapi::api::core::v1::Service;

use super::{
    LoadBalancerSpec, Ownership, ownership, read,
    spec::{AddressFamilies, TargetGroup},
};
use crate::{
    annotations::{
        self, Annotations, Kind, TABLE,
        attributes::{DELETION_PROTECTION, PROXY_PROTOCOL},
        keys, parse,
    },
    settings::ModelSettings,
    violation::Violation,
};

/// The number of addresses that AWS adds to a load balancer and never takes away.
const SECONDARY_IPS: &str = "secondary_ips.auto_assigned.per_subnet";

/// What is to be said of a change.
pub(super) fn check(old: &Service, new: &Service, settings: &ModelSettings) -> Vec<Violation> {
    if ownership::of(old, settings) != Ownership::Ours || new.metadata.deletion_timestamp.is_some() {
        return Vec::new();
    }
    let change = Change {
        old: read(old, settings).spec,
        new: read(new, settings).spec,
        before: Annotations::new(old.metadata.annotations.as_ref()),
        after: Annotations::new(new.metadata.annotations.as_ref()),
        settings,
    };
    if ownership::of(new, settings) != Ownership::Ours {
        return vec![change.leaves()];
    }
    let mut found = Vec::new();
    change.load_balancer(&mut found);
    change.creation_only(&mut found);
    change.target_groups(&mut found);
    found
}

struct Change<'a> {
    old: LoadBalancerSpec,
    new: LoadBalancerSpec,
    before: Annotations<'a>,
    after: Annotations<'a>,
    settings: &'a ModelSettings,
}

impl Change<'_> {
    /// The Service is ours no longer, so its load balancer goes.
    fn leaves(&self) -> Violation {
        let (key, value) = match (self.before.text(keys::TYPE), self.after.text(keys::TYPE)) {
            (before, after) if before != after => (keys::TYPE, after.unwrap_or_default()),
            _ if self.before.text(keys::TARGET_TYPE) != self.after.text(keys::TARGET_TYPE) => {
                (keys::TARGET_TYPE, self.after.text(keys::TARGET_TYPE).unwrap_or_default())
            }
            _ => ("spec.type", ""),
        };
        let protected = |attributes: &std::collections::BTreeMap<String, String>| {
            attributes.get(DELETION_PROTECTION).is_some_and(|value| parse::boolean(value) == Ok(true))
        };
        if protected(&self.old.attributes) && protected(&self.new.attributes) {
            let problem = "takes the Service from its load balancer, which is protected against deletion";
            let remedy = format!("set {}: {DELETION_PROTECTION}=false first", keys::ATTRIBUTES);
            Violation::deny("deletion-protection", key, value, problem, remedy)
        } else {
            let problem = format!("takes the Service from its load balancer {}, which is deleted", self.old.name);
            Violation::warn("deletes-load-balancer", key, value, problem, "")
        }
    }

    /// Whether another scheme is asked for. A Service that says none keeps that of its load balancer.
    fn changes_scheme(&self) -> bool {
        self.new.scheme_given && self.old.scheme != self.new.scheme
    }

    fn load_balancer(&self, found: &mut Vec<Violation>) {
        if self.changes_scheme() {
            let current = self.before.text(keys::NAME).unwrap_or(&self.old.name);
            let problem = "needs a new load balancer with another DNS name";
            let remedy = if self.new.allow_replacement.as_deref() == Some(current) {
                format!("{} allows it: {current} is given up", keys::ALLOW_REPLACEMENT)
            } else {
                format!("it waits until {}: \"{current}\" allows it", keys::ALLOW_REPLACEMENT)
            };
            found.push(Violation::warn(
                "replaces-load-balancer",
                keys::SCHEME,
                self.new.scheme.as_str(),
                problem,
                remedy,
            ));
        }
        let number =
            |spec: &LoadBalancerSpec| spec.attributes.get(SECONDARY_IPS).and_then(|value| value.parse::<u32>().ok());
        if let Some((before, after)) = number(&self.old).zip(number(&self.new)).filter(|(before, after)| after < before)
        {
            let value = format!("{SECONDARY_IPS}={after}");
            let problem = format!("is less than the {before} of before, and AWS never takes these addresses away");
            let remedy = format!("write {before} or more");
            found.push(Violation::deny("secondary-ips", keys::ATTRIBUTES, &value, problem, remedy));
        }
    }

    fn creation_only(&self, found: &mut Vec<Violation>) {
        let becomes_dualstack =
            self.old.ip_address_type == AddressFamilies::Ipv4 && self.new.ip_address_type == AddressFamilies::Dualstack;
        let replaced = self.changes_scheme();
        for row in TABLE.iter().filter(|row| row.change == annotations::Change::CreationOnly) {
            let key = row.key;
            let same = match row.kind {
                Kind::Boolean => self.before.boolean(key).unwrap_or(false) == self.after.boolean(key).unwrap_or(false),
                Kind::List(_) => self.before.list(key).unwrap_or_default() == self.after.list(key).unwrap_or_default(),
                _ => self.before.text(key) == self.after.text(key),
            };
            // They are given to AWS when the load balancer becomes dualstack.
            let first_time = key == keys::IPV6_ADDRESSES && becomes_dualstack;
            if !same && !first_time && !replaced {
                let value = self.after.text(key).unwrap_or_default();
                let problem = "is read when the load balancer is made, a change has no effect on the one that exists";
                let remedy = match self.before.text(key) {
                    Some(before) => format!("put back \"{}\"", crate::violation::excerpt(before)),
                    None => "remove the annotation".to_owned(),
                };
                found.push(Violation::warn("creation-only", key, value, problem, remedy));
            }
        }
    }

    fn target_groups(&self, found: &mut Vec<Violation>) {
        for old in &self.old.target_groups {
            let Some(new) = self.new.target_groups.iter().find(|new| new.service_port == old.service_port) else {
                continue;
            };
            if let Some((key, value)) = self.replaced_by(old, new) {
                let problem = format!(
                    "replaces target group {}; the new one is filled before the old one goes, but running pods have no gate for it",
                    old.name
                );
                found.push(Violation::warn("replaces-target-group", key, &value, problem, ""));
            } else if old.ip_address_type != new.ip_address_type {
                let problem = format!("changes the address family of target group {}, which AWS cannot", old.name);
                found.push(Violation::warn("no-effect", "spec.ipFamilies", "", problem, "make a new Service"));
            }
            let proxy = |group: &TargetGroup| {
                group.attributes.get(PROXY_PROTOCOL).is_some_and(|value| parse::boolean(value) == Ok(true))
            };
            if proxy(old) != proxy(new) {
                let key = [keys::PROXY_PROTOCOL, keys::PROXY_PROTOCOL_PORTS]
                    .into_iter()
                    .find(|key| self.before.text(key) != self.after.text(key))
                    .unwrap_or(keys::TARGET_GROUP_ATTRIBUTES);
                let value = self.after.text(key).unwrap_or_default();
                let problem =
                    format!("switches the proxy protocol of port {} for all targets at once", old.service_port);
                found.push(Violation::warn("proxy-protocol", key, value, problem, "make sure that the pods read both"));
            }
        }
    }

    /// The key and value for which a target group is replaced by another one, if it is.
    fn replaced_by(&self, old: &TargetGroup, new: &TargetGroup) -> Option<(&'static str, String)> {
        if old.target_type != new.target_type {
            return Some((keys::TARGET_TYPE, new.target_type.as_str().to_owned()));
        }
        if old.protocol != new.protocol {
            let changed =
                [keys::BACKEND_PROTOCOL, keys::QUIC_PORTS, keys::TCP_UDP_LISTENER, keys::SSL_CERT, keys::SSL_PORTS]
                    .into_iter()
                    .find(|key| self.before.text(key) != self.after.text(key));
            return Some(match changed {
                Some(key) => (key, self.after.text(key).unwrap_or_default().to_owned()),
                None => ("spec.ports", new.protocol.as_str().to_owned()),
            });
        }
        if self.settings.features.advanced_health_checks {
            return None;
        }
        let (old, new) = (&old.health_check, &new.health_check);
        if old.health_check_protocol != new.health_check_protocol {
            Some((keys::HEALTH_CHECK_PROTOCOL, new.health_check_protocol.as_str().to_owned()))
        } else if old.health_check_interval_seconds != new.health_check_interval_seconds {
            Some((keys::HEALTH_CHECK_INTERVAL, new.health_check_interval_seconds.to_string()))
        } else {
            None
        }
    }
}
