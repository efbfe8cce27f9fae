//! What the model of a load balancer depends on besides the objects in the cluster. Both binaries read it from the same
//! values, so that what admission predicts is what the controller makes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Whether a load balancer has public addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Scheme {
    /// Private addresses only.
    #[serde(rename = "internal")]
    Internal,
    /// Public addresses.
    #[serde(rename = "internet-facing")]
    InternetFacing,
}

impl Scheme {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::InternetFacing => "internet-facing",
        }
    }

    /// That which it is not.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Internal => Self::InternetFacing,
            Self::InternetFacing => Self::Internal,
        }
    }
}

/// What a target is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TargetType {
    /// A node, by its instance id and a node port.
    Instance,
    /// A pod, by its address.
    Ip,
}

impl TargetType {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Ip => "ip",
        }
    }
}

/// The settings that the model depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ModelSettings {
    /// Name of the cluster, part of names and tags.
    pub cluster_name: String,
    /// AWS region; certificates of other regions are refused if it is known.
    pub region: Option<String>,
    /// `spec.loadBalancerClass` of the Services that are ours.
    pub load_balancer_class: String,
    /// Target type of Services that do not say.
    pub default_target_type: TargetType,
    /// Scheme of new load balancers whose Service does not say.
    pub default_scheme: Scheme,
    /// SSL policy of Services that do not say.
    pub default_ssl_policy: String,
    /// Tags on everything that is made.
    pub default_tags: BTreeMap<String, String>,
    /// Keys of tags that others set; they are neither set nor removed.
    pub external_managed_tags: BTreeSet<String>,
    /// Whether load balancers get the security group that their targets let in.
    pub enable_backend_security_group: bool,
    /// Whether a Service with security groups of its own gets rules towards its targets, if it does not say.
    pub enable_manage_backend_security_group_rules: bool,
    /// How long an NLB goes on sending new connections to a target that was deregistered, or to a target group that its
    /// listener no longer names, in seconds: the `auto` of the drain delay, and for how long a group that was replaced
    /// stays.
    pub drain_floor_seconds: u32,
    /// Switches.
    pub features: Features,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            cluster_name: String::new(),
            region: None,
            load_balancer_class: "service.k8s.aws/nlb".to_owned(),
            default_target_type: TargetType::Instance,
            default_scheme: Scheme::Internal,
            default_ssl_policy: "ELBSecurityPolicy-2016-08".to_owned(),
            default_tags: BTreeMap::new(),
            external_managed_tags: BTreeSet::new(),
            enable_backend_security_group: true,
            enable_manage_backend_security_group_rules: false,
            drain_floor_seconds: 120,
            features: Features::default(),
        }
    }
}

/// Switches of the model, each with the peer's default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Features {
    /// Only Services of type `LoadBalancer` are ours.
    pub service_type_load_balancer_only: bool,
    /// Target type `ip` may be used.
    pub ip_target_type: bool,
    /// TCP and UDP of one port number are merged where the Service does not say.
    pub tcp_udp_listener: bool,
    /// Matcher and timeout of health checks are set.
    pub advanced_health_checks: bool,
    /// New load balancers get security groups.
    pub nlb_security_group: bool,
    /// Capacity reservations are made.
    pub capacity_reservation: bool,
    /// Listeners may forward to several target groups by weight.
    pub weighted_target_groups: bool,
    /// TLS listeners whose Service does not say get the ALPN policy `None`.
    pub enhanced_default_behavior: bool,
    /// Tags that a Service asks for win over the configured default tags.
    pub default_tags_low_priority: bool,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            service_type_load_balancer_only: false,
            ip_target_type: true,
            tcp_udp_listener: false,
            advanced_health_checks: true,
            nlb_security_group: true,
            capacity_reservation: true,
            weighted_target_groups: true,
            enhanced_default_behavior: false,
            default_tags_low_priority: false,
        }
    }
}
