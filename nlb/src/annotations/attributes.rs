//! The attributes of load balancers, target groups and listeners that AWS knows for Network Load Balancers.

use super::parse;

/// Whose attribute it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Of the load balancer.
    LoadBalancer,
    /// Of a target group.
    TargetGroup,
    /// Of a listener.
    Listener,
}

/// What an attribute's value must look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `true` or `false`.
    Boolean,
    /// An integer within bounds.
    Integer {
        /// Smallest.
        min: u32,
        /// Largest.
        max: u32,
    },
    /// `off`, or an integer within bounds.
    OffOr {
        /// Smallest.
        min: u32,
        /// Largest.
        max: u32,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Any text.
    Text,
    /// Belongs to Application Load Balancers; AWS refuses it here.
    NotHere,
}

/// One attribute.
#[derive(Debug, Clone, Copy)]
pub struct Attribute {
    /// Whose.
    pub scope: Scope,
    /// Its key.
    pub key: &'static str,
    /// The form of its value.
    pub form: Form,
    /// What AWS takes when it is not given.
    pub default: &'static str,
}

/// Whether the load balancer may be deleted.
pub const DELETION_PROTECTION: &str = "deletion_protection.enabled";
/// Whether targets of all zones are used from each zone.
pub const CROSS_ZONE: &str = "load_balancing.cross_zone.enabled";
/// Access logs: switch, bucket, prefix.
pub const ACCESS_LOGS: [&str; 3] = ["access_logs.s3.enabled", "access_logs.s3.bucket", "access_logs.s3.prefix"];
/// Whether targets get a proxy protocol v2 header.
pub const PROXY_PROTOCOL: &str = "proxy_protocol_v2.enabled";
/// Whether targets see the address of the client.
pub const PRESERVE_CLIENT_IP: &str = "preserve_client_ip.enabled";
/// Seconds from deregistration until a target leaves the group.
pub const DEREGISTRATION_DELAY: &str = "deregistration_delay.timeout_seconds";
/// Whether connections are closed when that time is over.
pub const DEREGISTRATION_TERMINATION: &str = "deregistration_delay.connection_termination.enabled";
/// Whether a client stays with its target.
pub const STICKINESS: &str = "stickiness.enabled";
/// Whether connections to an unhealthy target are closed.
pub const UNHEALTHY_TERMINATION: &str = "target_health_state.unhealthy.connection_termination.enabled";
/// How long an unhealthy target may finish.
pub const UNHEALTHY_DRAINING: &str = "target_health_state.unhealthy.draining_interval_seconds";
/// How long a TCP connection may be silent.
pub const IDLE_TIMEOUT: &str = "tcp.idle_timeout.seconds";

const fn of(scope: Scope, key: &'static str, form: Form, default: &'static str) -> Attribute {
    Attribute { scope, key, form, default }
}

use Form::{Boolean, Integer, NotHere, OffOr, OneOf, Text};
use Scope::{Listener, LoadBalancer, TargetGroup};

/// Every attribute, in the order of the reference.
#[rustfmt::skip]
pub static ATTRIBUTES: &[Attribute] = &[
    of(LoadBalancer, DELETION_PROTECTION, Boolean, "false"),
    of(LoadBalancer, CROSS_ZONE, Boolean, "false"),
    of(LoadBalancer, ACCESS_LOGS[0], Boolean, "false"),
    of(LoadBalancer, ACCESS_LOGS[1], Text, ""),
    of(LoadBalancer, ACCESS_LOGS[2], Text, ""),
    of(LoadBalancer, "ipv6.deny_all_igw_traffic", Boolean, "true if internal"),
    of(LoadBalancer, "zonal_shift.config.enabled", Boolean, "false"),
    of(LoadBalancer, "dns_record.client_routing_policy",
        OneOf(&["any_availability_zone", "partial_availability_zone_affinity", "availability_zone_affinity"]), "any_availability_zone"),
    of(LoadBalancer, "secondary_ips.auto_assigned.per_subnet", Integer { min: 0, max: 7 }, "0"),
    of(LoadBalancer, "idle_timeout.timeout_seconds", NotHere, ""),
    of(LoadBalancer, "client_keep_alive.seconds", NotHere, ""),
    of(LoadBalancer, "connection_logs.s3.enabled", NotHere, ""),
    of(LoadBalancer, "connection_logs.s3.bucket", NotHere, ""),
    of(LoadBalancer, "connection_logs.s3.prefix", NotHere, ""),
    of(LoadBalancer, "routing.http.desync_mitigation_mode", NotHere, ""),
    of(LoadBalancer, "routing.http.drop_invalid_header_fields.enabled", NotHere, ""),
    of(LoadBalancer, "routing.http.preserve_host_header.enabled", NotHere, ""),
    of(LoadBalancer, "routing.http.xff_client_port.enabled", NotHere, ""),
    of(LoadBalancer, "routing.http.xff_header_processing.mode", NotHere, ""),
    of(LoadBalancer, "routing.http.x_amzn_tls_version_and_cipher_suite.enabled", NotHere, ""),
    of(LoadBalancer, "routing.http2.enabled", NotHere, ""),
    of(LoadBalancer, "waf.fail_open.enabled", NotHere, ""),
    of(TargetGroup, DEREGISTRATION_DELAY, Integer { min: 0, max: 3600 }, "300"),
    of(TargetGroup, DEREGISTRATION_TERMINATION, Boolean, "false (TCP, TLS), true (UDP)"),
    of(TargetGroup, PRESERVE_CLIENT_IP, Boolean, "false for ip targets of TCP and TLS, else true"),
    of(TargetGroup, PROXY_PROTOCOL, Boolean, "false"),
    of(TargetGroup, STICKINESS, Boolean, "false"),
    of(TargetGroup, "stickiness.type", OneOf(&["source_ip"]), "source_ip"),
    of(TargetGroup, CROSS_ZONE, OneOf(&["true", "false", "use_load_balancer_configuration"]), "use_load_balancer_configuration"),
    of(TargetGroup, "target_group_health.dns_failover.minimum_healthy_targets.count", OffOr { min: 1, max: u32::MAX }, "1"),
    of(TargetGroup, "target_group_health.dns_failover.minimum_healthy_targets.percentage", OffOr { min: 1, max: 100 }, "off"),
    of(TargetGroup, "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", Integer { min: 1, max: u32::MAX }, "1"),
    of(TargetGroup, "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage", OffOr { min: 1, max: 100 }, "off"),
    of(TargetGroup, UNHEALTHY_TERMINATION, Boolean, "true"),
    of(TargetGroup, UNHEALTHY_DRAINING, Integer { min: 0, max: 360_000 }, "0"),
    of(TargetGroup, "slow_start.duration_seconds", NotHere, ""),
    of(TargetGroup, "load_balancing.algorithm.type", NotHere, ""),
    of(TargetGroup, "load_balancing.algorithm.anomaly_mitigation", NotHere, ""),
    of(TargetGroup, "stickiness.lb_cookie.duration_seconds", NotHere, ""),
    of(TargetGroup, "stickiness.app_cookie.cookie_name", NotHere, ""),
    of(TargetGroup, "stickiness.app_cookie.duration_seconds", NotHere, ""),
    of(Listener, IDLE_TIMEOUT, Integer { min: 60, max: 6000 }, "350"),
];

/// The attribute of this key.
pub fn find(scope: Scope, key: &str) -> Option<&'static Attribute> {
    ATTRIBUTES.iter().find(|attribute| attribute.scope == scope && attribute.key == key)
}

/// The known attribute that a mistyped key probably was meant to be.
pub fn nearest(scope: Scope, key: &str) -> Option<&'static str> {
    if key.len() > 120 {
        return None;
    }
    let candidates = ATTRIBUTES.iter().filter(|attribute| attribute.scope == scope && attribute.form != NotHere);
    let (distance, key) = candidates
        .map(|attribute| (strsim::osa_distance(&key.to_ascii_lowercase(), attribute.key), attribute.key))
        .min_by_key(|(distance, _)| *distance)?;
    (distance <= key.len() / 3).then_some(key)
}

/// What is wrong with a value: the problem, and what would be right.
pub fn check(attribute: &Attribute, value: &str) -> Option<(String, String)> {
    let integer = |min: u32, max: u32| value.parse::<u32>().is_ok_and(|number| (min..=max).contains(&number));
    let range = |min: u32, max: u32| if max == u32::MAX { format!("{min} or more") } else { format!("{min} to {max}") };
    let (fine, wanted) = match attribute.form {
        Boolean => (parse::boolean(value).is_ok(), "true or false".to_owned()),
        Integer { min, max } => (integer(min, max), range(min, max)),
        OffOr { min, max } => (value == "off" || integer(min, max), format!("off, or {}", range(min, max))),
        OneOf(words) => (words.contains(&value), words.join(", ")),
        Text => (true, String::new()),
        NotHere => {
            let problem = format!("{} belongs to Application Load Balancers, AWS refuses it here", attribute.key);
            return Some((problem, format!("remove {}", attribute.key)));
        }
    };
    if fine {
        return None;
    }
    let tip = if value.ends_with(',') { " (a comma at the very end becomes part of the value)" } else { "" };
    let problem = format!("{} is \"{}\"{tip}, not {wanted}", attribute.key, crate::violation::excerpt(value));
    Some((problem, format!("write {}=<{wanted}>", attribute.key)))
}
