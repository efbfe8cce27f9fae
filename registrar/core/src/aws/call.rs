//! What can be asked of AWS.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Arn, Target};

/// A call. Each variant is one operation of ELBv2 or EC2; lists that AWS pages are followed by the port, except where a
/// `marker` is part of the call.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the fields bear the names that AWS gives them")]
pub enum Call {
    /// `DescribeTargetHealth`, of all targets of a group.
    DescribeTargetHealth { group: Arn },
    /// `RegisterTargets`, at most [`Call::MOST_TARGETS`].
    RegisterTargets { group: Arn, targets: Vec<Target> },
    /// `DeregisterTargets`, at most [`Call::MOST_TARGETS`].
    DeregisterTargets { group: Arn, targets: Vec<Target> },

    /// `DescribeLoadBalancers`.
    DescribeLoadBalancers(LoadBalancerQuery),
    /// `CreateLoadBalancer`.
    CreateLoadBalancer(CreateLoadBalancer),
    /// `DeleteLoadBalancer`.
    DeleteLoadBalancer { load_balancer: Arn },
    /// `DescribeLoadBalancerAttributes`.
    DescribeLoadBalancerAttributes { load_balancer: Arn },
    /// `ModifyLoadBalancerAttributes`.
    ModifyLoadBalancerAttributes { load_balancer: Arn, attributes: BTreeMap<String, String> },
    /// `SetSubnets`.
    SetSubnets(SetSubnets),
    /// `SetSecurityGroups`.
    SetSecurityGroups { load_balancer: Arn, security_groups: Vec<String>, enforce_on_private_link: Option<bool> },
    /// `SetIpAddressType`: `ipv4` or `dualstack`.
    SetIpAddressType { load_balancer: Arn, ip_address_type: String },
    /// `DescribeCapacityReservation`.
    DescribeCapacityReservation { load_balancer: Arn },
    /// `ModifyCapacityReservation`; nothing resets it.
    ModifyCapacityReservation { load_balancer: Arn, capacity_units: Option<u32> },

    /// `DescribeTargetGroups`.
    DescribeTargetGroups(TargetGroupQuery),
    /// `CreateTargetGroup`.
    CreateTargetGroup(CreateTargetGroup),
    /// `ModifyTargetGroup`: its health check.
    ModifyTargetGroup { group: Arn, health_check: HealthCheck },
    /// `DeleteTargetGroup`.
    DeleteTargetGroup { group: Arn },
    /// `DescribeTargetGroupAttributes`.
    DescribeTargetGroupAttributes { group: Arn },
    /// `ModifyTargetGroupAttributes`.
    ModifyTargetGroupAttributes { group: Arn, attributes: BTreeMap<String, String> },

    /// `DescribeListeners`.
    DescribeListeners(ListenerQuery),
    /// `CreateListener`.
    CreateListener(CreateListener),
    /// `ModifyListener`.
    ModifyListener(ModifyListener),
    /// `DeleteListener`.
    DeleteListener { listener: Arn },
    /// `DescribeListenerAttributes`.
    DescribeListenerAttributes { listener: Arn },
    /// `ModifyListenerAttributes`.
    ModifyListenerAttributes { listener: Arn, attributes: BTreeMap<String, String> },
    /// `DescribeListenerCertificates`.
    DescribeListenerCertificates { listener: Arn },
    /// `AddListenerCertificates`.
    AddListenerCertificates { listener: Arn, certificates: Vec<String> },
    /// `RemoveListenerCertificates`.
    RemoveListenerCertificates { listener: Arn, certificates: Vec<String> },

    /// `DescribeTags` of ELBv2, of at most [`Call::MOST_TAGGED`] resources.
    DescribeTags { resources: Vec<Arn> },
    /// `AddTags`.
    AddTags { resource: Arn, tags: BTreeMap<String, String> },
    /// `RemoveTags`.
    RemoveTags { resource: Arn, keys: Vec<String> },

    /// `DescribeSubnets` of EC2; by ids, or by filters if there are none.
    DescribeSubnets { ids: Vec<String>, filters: Vec<Filter> },
    /// `DescribeRouteTables`.
    DescribeRouteTables { filters: Vec<Filter> },
    /// `DescribeVpcs`.
    DescribeVpcs { ids: Vec<String> },
    /// `DescribeAvailabilityZones`, by zone ids.
    DescribeAvailabilityZones { zone_ids: Vec<String> },
    /// `DescribeSecurityGroups`; by ids, or by filters if there are none.
    DescribeSecurityGroups { ids: Vec<String>, filters: Vec<Filter> },
    /// `CreateSecurityGroup`, tagged as it is made.
    CreateSecurityGroup { name: String, description: String, vpc_id: String, tags: BTreeMap<String, String> },
    /// `DeleteSecurityGroup`.
    DeleteSecurityGroup { group_id: String },
    /// `AuthorizeSecurityGroupIngress`.
    AuthorizeSecurityGroupIngress { group_id: String, permissions: Vec<Permission> },
    /// `RevokeSecurityGroupIngress`.
    RevokeSecurityGroupIngress { group_id: String, permissions: Vec<Permission> },
    /// `CreateTags` of EC2.
    CreateEc2Tags { resource: String, tags: BTreeMap<String, String> },
    /// `DeleteTags` of EC2.
    DeleteEc2Tags { resource: String, keys: Vec<String> },
    /// `DescribeInstances`.
    DescribeInstances { ids: Vec<String> },
    /// `DescribeNetworkInterfaces`.
    DescribeNetworkInterfaces { filters: Vec<Filter> },
}

impl Call {
    /// Targets in one call: unpublished, the peer's practice (200).
    pub const MOST_TARGETS: usize = 200;
    /// Resources of one `DescribeTags`, and ARNs of one `DescribeLoadBalancers`.
    pub const MOST_TAGGED: usize = 20;

    /// The operation, as AWS names it.
    pub fn operation(&self) -> &'static str {
        match self {
            Self::DescribeTargetHealth { .. } => "DescribeTargetHealth",
            Self::RegisterTargets { .. } => "RegisterTargets",
            Self::DeregisterTargets { .. } => "DeregisterTargets",
            Self::DescribeLoadBalancers(_) => "DescribeLoadBalancers",
            Self::CreateLoadBalancer(_) => "CreateLoadBalancer",
            Self::DeleteLoadBalancer { .. } => "DeleteLoadBalancer",
            Self::DescribeLoadBalancerAttributes { .. } => "DescribeLoadBalancerAttributes",
            Self::ModifyLoadBalancerAttributes { .. } => "ModifyLoadBalancerAttributes",
            Self::SetSubnets(_) => "SetSubnets",
            Self::SetSecurityGroups { .. } => "SetSecurityGroups",
            Self::SetIpAddressType { .. } => "SetIpAddressType",
            Self::DescribeCapacityReservation { .. } => "DescribeCapacityReservation",
            Self::ModifyCapacityReservation { .. } => "ModifyCapacityReservation",
            Self::DescribeTargetGroups(_) => "DescribeTargetGroups",
            Self::CreateTargetGroup(_) => "CreateTargetGroup",
            Self::ModifyTargetGroup { .. } => "ModifyTargetGroup",
            Self::DeleteTargetGroup { .. } => "DeleteTargetGroup",
            Self::DescribeTargetGroupAttributes { .. } => "DescribeTargetGroupAttributes",
            Self::ModifyTargetGroupAttributes { .. } => "ModifyTargetGroupAttributes",
            Self::DescribeListeners(_) => "DescribeListeners",
            Self::CreateListener(_) => "CreateListener",
            Self::ModifyListener(_) => "ModifyListener",
            Self::DeleteListener { .. } => "DeleteListener",
            Self::DescribeListenerAttributes { .. } => "DescribeListenerAttributes",
            Self::ModifyListenerAttributes { .. } => "ModifyListenerAttributes",
            Self::DescribeListenerCertificates { .. } => "DescribeListenerCertificates",
            Self::AddListenerCertificates { .. } => "AddListenerCertificates",
            Self::RemoveListenerCertificates { .. } => "RemoveListenerCertificates",
            Self::DescribeTags { .. } => "DescribeTags",
            Self::AddTags { .. } => "AddTags",
            Self::RemoveTags { .. } => "RemoveTags",
            Self::DescribeSubnets { .. } => "DescribeSubnets",
            Self::DescribeRouteTables { .. } => "DescribeRouteTables",
            Self::DescribeVpcs { .. } => "DescribeVpcs",
            Self::DescribeAvailabilityZones { .. } => "DescribeAvailabilityZones",
            Self::DescribeSecurityGroups { .. } => "DescribeSecurityGroups",
            Self::CreateSecurityGroup { .. } => "CreateSecurityGroup",
            Self::DeleteSecurityGroup { .. } => "DeleteSecurityGroup",
            Self::AuthorizeSecurityGroupIngress { .. } => "AuthorizeSecurityGroupIngress",
            Self::RevokeSecurityGroupIngress { .. } => "RevokeSecurityGroupIngress",
            Self::CreateEc2Tags { .. } => "CreateTags",
            Self::DeleteEc2Tags { .. } => "DeleteTags",
            Self::DescribeInstances { .. } => "DescribeInstances",
            Self::DescribeNetworkInterfaces { .. } => "DescribeNetworkInterfaces",
        }
    }

    /// Whether it only reads.
    pub fn is_read(&self) -> bool {
        self.operation().starts_with("Describe")
    }

    /// The bucket that AWS counts it in.
    pub fn bucket(&self) -> Bucket {
        match self {
            Self::RegisterTargets { .. } | Self::DeregisterTargets { .. } => Bucket::Targets,
            Self::DescribeSubnets { .. }
            | Self::DescribeRouteTables { .. }
            | Self::DescribeVpcs { .. }
            | Self::DescribeAvailabilityZones { .. }
            | Self::DescribeSecurityGroups { .. }
            | Self::DescribeInstances { .. }
            | Self::DescribeNetworkInterfaces { .. } => Bucket::Ec2Describe,
            Self::CreateSecurityGroup { .. }
            | Self::DeleteSecurityGroup { .. }
            | Self::AuthorizeSecurityGroupIngress { .. }
            | Self::RevokeSecurityGroupIngress { .. }
            | Self::CreateEc2Tags { .. }
            | Self::DeleteEc2Tags { .. } => Bucket::Ec2Write,
            call if call.is_read() => Bucket::Describe,
            call if call.operation().starts_with("Modify") => Bucket::Modify,
            _ => Bucket::Other,
        }
    }
}

/// The request-rate buckets of an account and region.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bucket {
    /// `Describe*` of ELBv2.
    Describe,
    /// `RegisterTargets` and `DeregisterTargets`.
    Targets,
    /// `Modify*` of ELBv2.
    Modify,
    /// The other writes of ELBv2.
    Other,
    /// Reads of EC2.
    Ec2Describe,
    /// Writes of EC2.
    Ec2Write,
}

/// Which load balancers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadBalancerQuery {
    /// By name; one that is not there is a fault with the code `LoadBalancerNotFound`.
    Name(String),
    /// By ARN; as by name.
    Arn(Arn),
    /// A page of all.
    All {
        /// Where the page begins; nothing for the first.
        marker: Option<String>,
    },
}

/// Which target groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetGroupQuery {
    /// By name; one that is not there is a fault with the code `TargetGroupNotFound`.
    Name(String),
    /// By ARN; as by name.
    Arns(Vec<Arn>),
    /// Those that the listeners of a load balancer refer to.
    LoadBalancer(Arn),
    /// A page of all.
    All {
        /// Where the page begins; nothing for the first.
        marker: Option<String>,
    },
}

/// Which listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenerQuery {
    /// All of a load balancer.
    LoadBalancer(Arn),
    /// By ARN.
    Arn(Arn),
}

/// `CreateLoadBalancer` of a Network Load Balancer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateLoadBalancer {
    /// Name.
    pub name: String,
    /// `internal` or `internet-facing`.
    pub scheme: String,
    /// `ipv4` or `dualstack`.
    pub ip_address_type: String,
    /// One per zone.
    pub subnet_mappings: Vec<SubnetMapping>,
    /// Empty for none, for life.
    pub security_groups: Vec<String>,
    /// `on` or `off`; nothing where it does not apply.
    pub enable_prefix_for_ipv6_source_nat: Option<bool>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A subnet with the addresses in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SubnetMapping {
    /// The subnet.
    pub subnet_id: String,
    /// An Elastic IP address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocation_id: Option<String>,
    /// A private address of the subnet.
    #[serde(rename = "PrivateIPv4Address", skip_serializing_if = "Option::is_none")]
    pub private_ipv4_address: Option<String>,
    /// An IPv6 address of the subnet.
    #[serde(rename = "IPv6Address", skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<String>,
    /// `auto_assigned` or a /80.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_nat_ipv6_prefix: Option<String>,
}

/// `SetSubnets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetSubnets {
    /// Of which load balancer.
    pub load_balancer: Arn,
    /// One per zone.
    pub subnet_mappings: Vec<SubnetMapping>,
    /// `ipv4` or `dualstack`, if that is to change.
    pub ip_address_type: Option<String>,
    /// As in [`CreateLoadBalancer`].
    pub enable_prefix_for_ipv6_source_nat: Option<bool>,
}

/// How targets are checked. What is nothing is not sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HealthCheck {
    /// `TCP`, `HTTP` or `HTTPS`.
    pub protocol: Option<String>,
    /// `traffic-port` or a number.
    pub port: Option<String>,
    /// Path.
    pub path: Option<String>,
    /// Status codes (`Matcher.HttpCode`).
    pub matcher: Option<String>,
    /// Seconds.
    pub interval_seconds: Option<i32>,
    /// Seconds.
    pub timeout_seconds: Option<i32>,
    /// Checks.
    pub healthy_threshold: Option<i32>,
    /// Checks.
    pub unhealthy_threshold: Option<i32>,
}

/// `CreateTargetGroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateTargetGroup {
    /// Name.
    pub name: String,
    /// Protocol, `TCP` and so on.
    pub protocol: String,
    /// Port.
    pub port: u16,
    /// VPC.
    pub vpc_id: String,
    /// `ip` or `instance`.
    pub target_type: String,
    /// `ipv4` or `ipv6`.
    pub ip_address_type: String,
    /// Health check.
    pub health_check: HealthCheck,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// Where a listener's connections go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forward {
    /// Target groups with their weights.
    pub groups: Vec<(Arn, Option<u16>)>,
    /// Whether a client stays with its target group.
    pub sticky: Option<bool>,
}

/// `CreateListener`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateListener {
    /// Of which load balancer.
    pub load_balancer: Arn,
    /// Protocol.
    pub protocol: String,
    /// Port.
    pub port: u16,
    /// Where its connections go.
    pub forward: Forward,
    /// TLS: policy.
    pub ssl_policy: Option<String>,
    /// TLS: default certificate.
    pub certificate: Option<String>,
    /// TLS: ALPN policy.
    pub alpn_policy: Option<String>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// `ModifyListener`. What is nothing is not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModifyListener {
    /// Which.
    pub listener: Arn,
    /// Protocol.
    pub protocol: Option<String>,
    /// Port.
    pub port: Option<u16>,
    /// Where its connections go.
    pub forward: Option<Forward>,
    /// TLS: policy.
    pub ssl_policy: Option<String>,
    /// TLS: default certificate.
    pub certificate: Option<String>,
    /// TLS: ALPN policy.
    pub alpn_policy: Option<String>,
}

/// A filter of EC2: any of the values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `vpc-id`, `tag:<key>`, ...
    pub name: String,
    /// Values.
    pub values: Vec<String>,
}

/// A rule of a security group, with one source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Permission {
    /// `tcp`, `udp`, `icmp`, `icmpv6` or `-1`.
    pub ip_protocol: String,
    /// First port, or ICMP type; nothing for all protocols.
    pub from_port: Option<i32>,
    /// Last port, or ICMP code.
    pub to_port: Option<i32>,
    /// From where.
    #[serde(flatten)]
    pub source: Source,
    /// What the rule says it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// From where a rule lets in.
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
    /// A security group.
    #[serde(rename = "GroupId")]
    Group(String),
}
