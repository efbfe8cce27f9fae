//! What AWS answers, cut down to what is used.

use std::collections::BTreeMap;

use super::{
    Arn, Target,
    call::{Forward, HealthCheck, Permission, SubnetMapping},
};

/// An answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// Done; nothing is said.
    Done,
    /// Of `DescribeTargetHealth`.
    TargetHealth(Vec<TargetHealth>),
    /// Of `DescribeLoadBalancers` and `CreateLoadBalancer`.
    LoadBalancers {
        /// Those found.
        load_balancers: Vec<LoadBalancer>,
        /// There are more.
        next_marker: Option<String>,
    },
    /// Of `DescribeTargetGroups`, `CreateTargetGroup` and `ModifyTargetGroup`.
    TargetGroups {
        /// Those found.
        target_groups: Vec<TargetGroup>,
        /// There are more.
        next_marker: Option<String>,
    },
    /// Of `DescribeListeners`, `CreateListener` and `ModifyListener`.
    Listeners(Vec<Listener>),
    /// Of the operations on attributes of load balancers, target groups and listeners.
    Attributes(BTreeMap<String, String>),
    /// Of `DescribeListenerCertificates`: ARNs, with whether each is the default one.
    Certificates(Vec<(String, bool)>),
    /// Of `DescribeTags`.
    Tags(BTreeMap<Arn, BTreeMap<String, String>>),
    /// Of `DescribeCapacityReservation` and `ModifyCapacityReservation`.
    CapacityReservation(CapacityReservation),
    /// Of `DescribeSubnets`.
    Subnets(Vec<Subnet>),
    /// Of `DescribeRouteTables`.
    RouteTables(Vec<RouteTable>),
    /// Of `DescribeVpcs`.
    Vpcs(Vec<Vpc>),
    /// Of `DescribeAvailabilityZones`: zone ids with their types (`availability-zone`, `local-zone`, ...).
    ZoneTypes(BTreeMap<String, String>),
    /// Of `DescribeSecurityGroups`.
    SecurityGroups(Vec<SecurityGroup>),
    /// Of `CreateSecurityGroup`: its id.
    SecurityGroupId(String),
    /// Of `DescribeInstances`.
    Instances(Vec<Instance>),
    /// Of `DescribeNetworkInterfaces`.
    NetworkInterfaces(Vec<NetworkInterface>),
}

/// What the load balancer says of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetHealth {
    /// Which.
    pub target: Target,
    /// State.
    pub state: HealthState,
    /// `Elb.InitialHealthChecking`, `Target.FailedHealthChecks`, ...
    pub reason: Option<String>,
    /// In words.
    pub description: Option<String>,
}

/// `TargetHealthStateEnum`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthState {
    /// Being programmed, or first checks under way.
    Initial,
    /// Takes new flows.
    Healthy,
    /// New flows avoid it.
    Unhealthy,
    /// Unhealthy, with old flows living on.
    UnhealthyDraining,
    /// No checks are run: not registered, or in no listener, or its zone is not enabled.
    Unused,
    /// Deregistered, delay not over.
    Draining,
    /// Health is not known.
    Unavailable,
    /// Something that AWS has added since.
    Other(String),
}

impl HealthState {
    /// Reads what AWS writes.
    pub fn of(text: &str) -> Self {
        match text {
            "initial" => Self::Initial,
            "healthy" => Self::Healthy,
            "unhealthy" => Self::Unhealthy,
            "unhealthy.draining" => Self::UnhealthyDraining,
            "unused" => Self::Unused,
            "draining" => Self::Draining,
            "unavailable" => Self::Unavailable,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// A load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadBalancer {
    /// ARN.
    pub arn: Arn,
    /// Name.
    pub name: String,
    /// `network`, `application`, ...
    pub load_balancer_type: String,
    /// DNS name as AWS writes it.
    pub dns_name: String,
    /// `internal` or `internet-facing`.
    pub scheme: String,
    /// `ipv4` or `dualstack`.
    pub ip_address_type: String,
    /// VPC.
    pub vpc_id: String,
    /// `provisioning`, `active`, `active_impaired`, `failed`.
    pub state: String,
    /// Why it is in that state.
    pub state_reason: Option<String>,
    /// Its zones.
    pub zones: Vec<Zone>,
    /// Security groups; empty for one that was made without.
    pub security_groups: Vec<String>,
    /// Whether inbound rules hold for `PrivateLink`, where that is said.
    pub enforce_on_private_link: Option<bool>,
    /// Whether IPv6 source NAT is on, where that is said.
    pub enable_prefix_for_ipv6_source_nat: Option<bool>,
}

/// A zone of a load balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// `ap-northeast-2a`.
    pub name: String,
    /// The subnet, with the addresses that were given.
    pub mapping: SubnetMapping,
}

/// A target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetGroup {
    /// ARN.
    pub arn: Arn,
    /// Name.
    pub name: String,
    /// Protocol.
    pub protocol: String,
    /// Port.
    pub port: Option<u16>,
    /// VPC.
    pub vpc_id: Option<String>,
    /// `ip`, `instance`, `alb` or `lambda`.
    pub target_type: String,
    /// `ipv4` or `ipv6`; nothing means `ipv4`.
    pub ip_address_type: Option<String>,
    /// Health check.
    pub health_check: HealthCheck,
    /// Load balancers whose listeners refer to it.
    pub load_balancers: Vec<Arn>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// ARN.
    pub arn: Arn,
    /// Of which load balancer.
    pub load_balancer: Arn,
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: String,
    /// Where its connections go; nothing for an action that is no forward.
    pub forward: Option<Forward>,
    /// TLS: policy.
    pub ssl_policy: Option<String>,
    /// TLS: default certificate.
    pub certificate: Option<String>,
    /// TLS: ALPN policy.
    pub alpn_policy: Option<String>,
}

/// A capacity reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapacityReservation {
    /// Units that are asked for.
    pub capacity_units: Option<u32>,
    /// State per zone: `provisioned`, `pending`, `rebalancing`, `failed`.
    pub states: Vec<String>,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Id.
    pub id: String,
    /// VPC.
    pub vpc_id: String,
    /// Zone, by name.
    pub zone: String,
    /// Zone, by id.
    pub zone_id: String,
    /// IPv4 range.
    pub cidr: String,
    /// IPv6 ranges that are associated.
    pub ipv6_cidrs: Vec<String>,
    /// Free IPv4 addresses.
    pub free_addresses: u32,
    /// Outpost, if it is on one.
    pub outpost: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A route table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteTable {
    /// Whether it is the VPC's main one.
    pub main: bool,
    /// Subnets that use it by name.
    pub subnets: Vec<String>,
    /// Gateways of its routes (`igw-...`, `local`, ...).
    pub gateways: Vec<String>,
}

/// A VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vpc {
    /// Id.
    pub id: String,
    /// Ranges that are associated, both families.
    pub cidrs: Vec<String>,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroup {
    /// Id.
    pub id: String,
    /// Name.
    pub name: String,
    /// VPC.
    pub vpc_id: String,
    /// Inbound rules, one per source.
    pub permissions: Vec<Permission>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Id.
    pub id: String,
    /// `running`, `stopped`, ...
    pub state: String,
    /// Its interfaces, the primary one first.
    pub interfaces: Vec<NetworkInterface>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInterface {
    /// Id.
    pub id: String,
    /// Description, for example `ELB net/<name>/<id>`.
    pub description: String,
    /// Private addresses, both families, and prefixes with their length.
    pub addresses: Vec<String>,
    /// Security groups.
    pub security_groups: Vec<String>,
}
