//! Attributes: every key with its default and what it takes.

use std::collections::BTreeMap;

use crate::fault::{Code, Result};

/// Attributes with their values, all keys present.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attributes(BTreeMap<&'static str, String>);

impl Attributes {
    pub(crate) fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    pub(crate) fn is(&self, key: &str, value: &str) -> bool {
        self.get(key) == value
    }

    /// The value of a numeric attribute; `None` for `off`.
    pub(crate) fn number(&self, key: &str) -> Option<u32> {
        self.get(key).parse().ok()
    }

    pub(super) fn set(&mut self, key: &'static str, value: String) {
        self.0.insert(key, value);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(key, value)| (*key, value.as_str()))
    }
}

/// One attribute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute {
    pub(super) key: &'static str,
    default: &'static str,
    takes: Takes,
}

/// What an attribute takes.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Any,
    Bool,
    Number(u32, u32),
    OffOr(u32, u32),
    OneOf(&'static [&'static str]),
}

const fn attribute(key: &'static str, default: &'static str, takes: Takes) -> Attribute {
    Attribute { key, default, takes }
}

pub(super) const BALANCER: &[Attribute] = &[
    attribute("access_logs.s3.enabled", "false", Takes::Bool),
    attribute("access_logs.s3.bucket", "", Takes::Any),
    attribute("access_logs.s3.prefix", "", Takes::Any),
    attribute("deletion_protection.enabled", "false", Takes::Bool),
    attribute(
        "dns_record.client_routing_policy",
        "any_availability_zone",
        Takes::OneOf(&["any_availability_zone", "partial_availability_zone_affinity", "availability_zone_affinity"]),
    ),
    attribute("ipv6.deny_all_igw_traffic", "false", Takes::Bool),
    attribute("load_balancing.cross_zone.enabled", "false", Takes::Bool),
    attribute("secondary_ips.auto_assigned.per_subnet", "0", Takes::Number(0, 7)),
    attribute("zonal_shift.config.enabled", "false", Takes::Bool),
];

pub(super) const GROUP: &[Attribute] = &[
    attribute(TERMINATE_DEREGISTERED, "false", Takes::Bool),
    attribute(DEREGISTRATION_DELAY, "300", Takes::Number(0, 3600)),
    attribute(
        "load_balancing.cross_zone.enabled",
        "use_load_balancer_configuration",
        Takes::OneOf(&["true", "false", "use_load_balancer_configuration"]),
    ),
    attribute("preserve_client_ip.enabled", "true", Takes::Bool),
    attribute("proxy_protocol_v2.enabled", "false", Takes::Bool),
    attribute("stickiness.enabled", "false", Takes::Bool),
    attribute("stickiness.type", "source_ip", Takes::OneOf(&["source_ip"])),
    attribute("target_group_health.dns_failover.minimum_healthy_targets.count", "1", Takes::OffOr(1, 1000)),
    attribute("target_group_health.dns_failover.minimum_healthy_targets.percentage", "off", Takes::OffOr(1, 100)),
    attribute("target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "1", Takes::Number(1, 1000)),
    attribute(
        "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage",
        "off",
        Takes::OffOr(1, 100),
    ),
    attribute(TERMINATE_UNHEALTHY, "true", Takes::Bool),
    attribute(DRAINING_INTERVAL, "0", Takes::Number(0, 360_000)),
];

pub(super) const LISTENER_TCP: &[Attribute] = &[attribute("tcp.idle_timeout.seconds", "350", Takes::Number(60, 6000))];

pub(crate) const DEREGISTRATION_DELAY: &str = "deregistration_delay.timeout_seconds";
pub(crate) const TERMINATE_DEREGISTERED: &str = "deregistration_delay.connection_termination.enabled";
pub(crate) const TERMINATE_UNHEALTHY: &str = "target_health_state.unhealthy.connection_termination.enabled";
pub(crate) const DRAINING_INTERVAL: &str = "target_health_state.unhealthy.draining_interval_seconds";

fn defaults(table: &[Attribute]) -> Attributes {
    Attributes(table.iter().map(|a| (a.key, a.default.to_owned())).collect())
}

pub(super) fn balancer_defaults(internal: bool) -> Attributes {
    let mut attributes = defaults(BALANCER);
    if internal {
        attributes.set("ipv6.deny_all_igw_traffic", "true".to_owned());
    }
    attributes
}

/// Client addresses are preserved unless targets are IP addresses behind TCP or TLS; flows to UDP groups end with the
/// deregistration delay.
pub(super) fn group_defaults(target_type: &str, protocol: &str) -> Attributes {
    let mut attributes = defaults(GROUP);
    if target_type == "ip" && matches!(protocol, "TCP" | "TLS") {
        attributes.set("preserve_client_ip.enabled", "false".to_owned());
    }
    if matches!(protocol, "UDP" | "TCP_UDP") {
        attributes.set(TERMINATE_DEREGISTERED, "true".to_owned());
    }
    attributes
}

/// TLS listeners have a fixed idle timeout of 350 s, UDP ones of 120 s; neither is an attribute.
pub(super) fn listener_table(protocol: &str) -> &'static [Attribute] {
    if matches!(protocol, "TCP" | "TCP_UDP") { LISTENER_TCP } else { &[] }
}

pub(super) fn listener_defaults(protocol: &str) -> Attributes {
    defaults(listener_table(protocol))
}

/// The known attribute of this key, if the value fits it.
pub(super) fn check(table: &'static [Attribute], kind: &str, key: &str, value: &str) -> Result<&'static str> {
    let Some(attribute) = table.iter().find(|a| a.key == key) else {
        return Code::ValidationError.refuse(format!("{kind} attribute key '{key}' is not recognized"));
    };
    let number = value.parse::<u32>().ok().filter(|_| value.bytes().all(|b| b.is_ascii_digit()));
    let expected = match attribute.takes {
        Takes::Any => return Ok(attribute.key),
        Takes::Bool if matches!(value, "true" | "false") => return Ok(attribute.key),
        Takes::Bool => "must be 'true' or 'false'".to_owned(),
        Takes::Number(min, max) | Takes::OffOr(min, max) if number.is_some_and(|n| (min..=max).contains(&n)) => {
            return Ok(attribute.key);
        }
        Takes::OffOr(..) if value == "off" => return Ok(attribute.key),
        Takes::Number(min, max) => format!("must be between '{min}' and '{max}'"),
        Takes::OffOr(min, max) => format!("must be 'off' or between '{min}' and '{max}'"),
        Takes::OneOf(words) if words.contains(&value) => return Ok(attribute.key),
        Takes::OneOf(words) => format!("must be one of '{}'", words.join("', '")),
    };
    Code::InvalidConfigurationRequest
        .refuse(format!("The value '{value}' of attribute '{key}' is not valid: it {expected}"))
}
