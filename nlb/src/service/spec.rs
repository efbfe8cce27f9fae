//! What a Service asks AWS for, with the field names that AWS uses.

use std::{collections::BTreeMap, fmt};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{Scheme, TargetType};

/// Address families of a load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressFamilies {
    /// IPv4 only.
    Ipv4,
    /// IPv4 and IPv6.
    Dualstack,
}

impl AddressFamilies {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Dualstack => "dualstack",
        }
    }
}

/// Address family of a target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl AddressFamily {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ipv4 => "ipv4",
            Self::Ipv6 => "ipv6",
        }
    }
}

/// Protocol of a listener or a target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// TLS over TCP, ended by the load balancer.
    Tls,
    /// TCP and UDP on one port.
    TcpUdp,
    /// QUIC over UDP, routed by server id.
    Quic,
    /// TCP and QUIC on one port.
    TcpQuic,
}

impl Protocol {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Tls => "TLS",
            Self::TcpUdp => "TCP_UDP",
            Self::Quic => "QUIC",
            Self::TcpQuic => "TCP_QUIC",
        }
    }

    /// Whether it has a UDP side, QUIC included.
    pub fn has_udp(self) -> bool {
        matches!(self, Self::Udp | Self::TcpUdp | Self::Quic | Self::TcpQuic)
    }

    /// Whether it is QUIC, alone or with TCP.
    pub fn is_quic(self) -> bool {
        matches!(self, Self::Quic | Self::TcpQuic)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Protocol of health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HealthCheckProtocol {
    /// A connection.
    Tcp,
    /// A request.
    Http,
    /// A request over TLS, whose certificate is not looked at.
    Https,
}

impl HealthCheckProtocol {
    /// As AWS writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Http => "HTTP",
            Self::Https => "HTTPS",
        }
    }
}

/// A subnet or security group as it was named: its id, or the value of its `Name` tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub enum Named {
    /// An id.
    Id(String),
    /// The value of a `Name` tag.
    Name(String),
}

/// A load balancer with everything behind it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoadBalancerSpec {
    /// Name; that of an existing load balancer is not changed.
    pub name: String,
    /// Scheme.
    pub scheme: Scheme,
    /// Whether the Service says the scheme. If it does not, that of an existing load balancer holds.
    pub scheme_given: bool,
    /// Address families.
    pub ip_address_type: AddressFamilies,
    /// Subnets; none given means those of the existing load balancer, else discovery by tags.
    pub subnets: Option<Vec<Named>>,
    /// Elastic IP addresses, in the order of the subnets.
    pub eip_allocations: Vec<String>,
    /// Private IPv4 addresses, matched to the subnets by range.
    #[serde(rename = "PrivateIPv4Addresses")]
    pub private_ipv4_addresses: Vec<String>,
    /// IPv6 addresses, matched to the subnets by range.
    #[serde(rename = "IPv6Addresses")]
    pub ipv6_addresses: Vec<String>,
    /// IPv6 source NAT.
    pub enable_prefix_for_ipv6_source_nat: bool,
    /// Prefixes of IPv6 source NAT, in the order of the subnets.
    pub source_nat_ipv6_prefixes: Vec<String>,
    /// Security groups.
    pub security_groups: SecurityGroups,
    /// [`SecurityGroups::None`], in whose place it holds where the load balancer that exists was made without security
    /// groups: it stays so for life, whatever the Service asks for.
    #[serde(skip)]
    pub groupless: SecurityGroups,
    /// Whether inbound rules hold for `PrivateLink`; nothing means to leave it alone.
    pub enforce_security_group_inbound_rules_on_private_link_traffic: Option<bool>,
    /// Attributes that the Service sets.
    pub attributes: BTreeMap<String, String>,
    /// Capacity units to reserve; nothing means to leave it alone.
    pub minimum_load_balancer_capacity: Option<u32>,
    /// Tags of the load balancer.
    pub tags: BTreeMap<String, String>,
    /// Tags that the Service asks for, without those of one resource.
    #[serde(skip)]
    pub asked_tags: BTreeMap<String, String>,
    /// Listeners, in the order of the Service's ports.
    pub listeners: Vec<Listener>,
    /// Target groups, one per listener, in the same order.
    pub target_groups: Vec<TargetGroup>,
    /// Seconds for which pods serve on after they are told to stop; 0 for none.
    pub pod_drain_seconds: u32,
    /// The load balancer that may be given up when a change needs a new one.
    pub allow_replacement: Option<String>,
}

/// Security groups of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "Mode", rename_all_fields = "PascalCase")]
pub enum SecurityGroups {
    /// One that is made for the Service and owned wholly, plus the shared one towards the targets if that is switched on.
    Managed {
        /// Its name.
        group_name: String,
        /// What it lets in.
        ingress: Vec<Ingress>,
        /// Its tags.
        tags: BTreeMap<String, String>,
        /// Whether the targets let the shared group in rather than this one.
        backend_group: bool,
    },
    /// Those that the Service names.
    Given {
        /// As they are named.
        groups: Vec<Named>,
        /// Whether the shared group is added and the targets let it in.
        manage_backend_rules: bool,
    },
    /// None, for the life of the load balancer; targets let address ranges in.
    None {
        /// Ranges that may connect; empty means the VPC or everybody, depending on scheme and client address.
        source_ranges: Vec<String>,
        /// Whether rules for them are kept at the targets.
        manage_backend_rules: bool,
    },
}

/// Something that a managed security group lets in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ingress {
    /// `tcp`, `udp`, `icmp` or `icmpv6`.
    pub ip_protocol: &'static str,
    /// First port, or ICMP type.
    pub from_port: i32,
    /// Last port, or ICMP code.
    pub to_port: i32,
    /// From where.
    #[serde(flatten)]
    pub source: Source,
}

/// From where something is let in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Source {
    /// An IPv4 range.
    #[serde(rename = "CidrIp")]
    Ipv4(String),
    /// An IPv6 range.
    #[serde(rename = "CidrIpv6")]
    Ipv6(String),
    /// A prefix list.
    #[serde(rename = "PrefixListId")]
    PrefixList(String),
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listener {
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// TLS policy, TLS listeners only.
    pub ssl_policy: Option<String>,
    /// Certificates, the default one first, TLS listeners only.
    pub certificates: Vec<String>,
    /// ALPN policy, TLS listeners only; nothing means to leave it alone.
    pub alpn_policy: Option<String>,
    /// Where connections go. One entry without a weight is the usual case.
    pub default_actions: Forward,
    /// Attributes that the Service sets.
    pub attributes: BTreeMap<String, String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// Where a listener's connections go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Forward {
    /// Target groups with their weights.
    pub target_groups: Vec<Weighted>,
    /// Whether a client stays with its target group; nothing means to leave it alone.
    pub sticky: Option<bool>,
}

/// A target group of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Weighted {
    /// Which.
    #[serde(flatten)]
    pub group: GroupRef,
    /// Share of connections, 0 to 999; nothing for a listener with one target group.
    pub weight: Option<u16>,
    /// Whether TLS ends at the load balancer, where the action says so.
    pub decrypt: Option<bool>,
}

/// A target group that a listener refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all_fields = "PascalCase")]
pub enum GroupRef {
    /// One of [`LoadBalancerSpec::target_groups`], by its resource id.
    Own(String),
    /// One that somebody else made.
    #[serde(rename = "TargetGroupArn")]
    Arn(String),
    /// That of another Service in the namespace, see [`super::backend_target_group`].
    Service {
        /// Name of the Service.
        name: String,
        /// Its port.
        port: IntOrString,
    },
}

/// A target group with its binding.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TargetGroup {
    /// `<namespace>/<service>:<port>`, the value of the tag that it is found by.
    pub resource: String,
    /// Name of the target group and of its binding.
    pub name: String,
    /// Number of the Service port, for the binding's `serviceRef`.
    pub service_port: u16,
    /// Port; nothing while a node port is not allocated yet.
    pub port: Option<u16>,
    /// Protocol.
    pub protocol: Protocol,
    /// What its targets are.
    pub target_type: TargetType,
    /// Address family of its targets.
    pub ip_address_type: AddressFamily,
    /// Health check.
    #[serde(flatten)]
    pub health_check: HealthCheck,
    /// Attributes that the Service sets.
    pub attributes: BTreeMap<String, String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Whether it is shared with other clusters.
    pub multi_cluster: bool,
    /// Labels of the nodes that become targets, `instance` only.
    pub node_selector: BTreeMap<String, String>,
    /// What targets must let in from the load balancer.
    pub target_ports: Vec<TargetPort>,
}

/// A port that targets must let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TargetPort {
    /// `TCP` or `UDP`.
    pub protocol: &'static str,
    /// Its number, or the name of a container port.
    pub port: IntOrString,
}

/// How targets are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheck {
    /// Protocol.
    pub health_check_protocol: HealthCheckProtocol,
    /// `traffic-port` or a number.
    pub health_check_port: String,
    /// Path, http and https only.
    pub health_check_path: Option<String>,
    /// Status codes that count as healthy, http and https only; nothing means to leave it alone.
    pub matcher: Option<String>,
    /// Seconds between two checks.
    pub health_check_interval_seconds: i32,
    /// Seconds after which a check has failed; nothing means to leave it alone.
    pub health_check_timeout_seconds: Option<i32>,
    /// Passed checks until an unhealthy target is healthy.
    pub healthy_threshold_count: i32,
    /// Failed checks until a target is unhealthy.
    pub unhealthy_threshold_count: i32,
}
