//! The custom resource that ties a target group to the pods or nodes behind a Service: `elbv2.k8s.aws/v1beta1`,
//! structurally the peer's, so that its manifests and stored objects are ours.

pub mod crd;
mod rules;
mod schema;

use k8s_openapi::apimachinery::pkg::{
    apis::meta::v1::{Condition, LabelSelector},
    util::intstr::IntOrString,
};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use rules::{check, duplicates, review};

use crate::{service::spec::AddressFamily, settings::TargetType};

/// Which target group gets which pods or nodes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema, CustomResource)]
#[serde(rename_all = "camelCase")]
#[kube(
    group = "elbv2.k8s.aws",
    version = "v1beta1",
    kind = "TargetGroupBinding",
    plural = "targetgroupbindings",
    namespaced,
    derive = "PartialEq",
    derive = "Default",
    status = "TargetGroupBindingStatus",
    doc = "TargetGroupBinding ties a target group to the pods or nodes behind a Service."
)]
pub struct TargetGroupBindingSpec {
    /// ARN of the target group.
    #[serde(rename = "targetGroupARN", default, skip_serializing_if = "Option::is_none")]
    pub target_group_arn: Option<String>,
    /// Name of the target group, looked up once when there is no ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_group_name: Option<String>,
    /// Whether other clusters register targets in the group too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub multi_cluster_target_group: Option<bool>,
    /// What the targets are; taken from the target group when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_type: Option<TargetType>,
    /// Protocol of the target group; taken from it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_group_protocol: Option<TargetGroupProtocol>,
    /// The Service whose pods or node ports become targets.
    pub service_ref: ServiceReference,
    /// What the security groups of the targets let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networking: Option<Networking>,
    /// Nodes that become targets, for target type instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub node_selector: Option<LabelSelector>,
    /// Address family of the target group; taken from it when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_address_type: Option<AddressFamily>,
    /// VPC of the target group; taken from it when absent.
    #[serde(rename = "vpcID", default, skip_serializing_if = "Option::is_none")]
    pub vpc_id: Option<String>,
    /// Role that is assumed for a target group of another account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam_role_arn_to_assume: Option<String>,
    /// External id that is given when the role is assumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assume_role_external_id: Option<String>,
}

/// Protocol of a target group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TargetGroupProtocol {
    /// HTTP, of an Application Load Balancer.
    Http,
    /// HTTPS, of an Application Load Balancer.
    Https,
    /// TCP.
    Tcp,
    /// TLS.
    Tls,
    /// UDP.
    Udp,
    /// TCP and UDP.
    TcpUdp,
    /// QUIC.
    Quic,
    /// TCP and QUIC.
    TcpQuic,
}

/// A port of a Service in the same namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceReference {
    /// Name of the Service.
    pub name: String,
    /// Number or name of the port.
    #[schemars(schema_with = "schema::int_or_string")]
    pub port: IntOrString,
}

impl Default for ServiceReference {
    fn default() -> Self {
        Self { name: String::new(), port: IntOrString::Int(0) }
    }
}

/// What the security groups of the targets let in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Networking {
    /// Rules for traffic to the targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<NetworkingRule>>,
}

/// Each of these ports from each of these places.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NetworkingRule {
    /// From where.
    pub from: Vec<NetworkingPeer>,
    /// To which ports.
    pub ports: Vec<NetworkingPort>,
}

/// From where: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkingPeer {
    /// A range of addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_block: Option<IpBlock>,
    /// A security group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security_group: Option<SecurityGroup>,
}

/// A range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct IpBlock {
    /// IPv4 or IPv6 range, for example 10.0.0.0/8.
    pub cidr: String,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct SecurityGroup {
    /// Id of the security group.
    #[serde(rename = "groupID")]
    pub group_id: String,
}

/// A port, or all of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NetworkingPort {
    /// Protocol, TCP when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<NetworkingProtocol>,
    /// Number, or name of a container port for target type ip; all ports when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::int_or_string")]
    pub port: Option<IntOrString>,
}

/// Protocol of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum NetworkingProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What was made of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetGroupBindingStatus {
    /// The generation that the conditions are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Option<Vec<Condition>>,
}
