//! What is kept of Kubernetes objects: records of what decisions need, and no more, so that ten thousand pods fit.
//!
//! The shell reads a record from each object that a watch brings (`of` of each record) and drops the object.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};
use nlb::{service::spec::AddressFamily, targetgroupbinding::TargetGroupBindingSpec};

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace; empty for objects of the cluster.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// The UID of an object: what tells it from another of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub Arc<str>);

/// A resource version as a number, 0 if it is none. API servers of one cluster count in one row
/// (KEP-5504), so of two versions of one object the larger is the newer.
pub type Revision = u64;

/// The kinds that are watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Services.
    Service,
    /// TargetGroupBindings.
    Binding,
    /// EndpointSlices.
    Slice,
    /// Pods.
    Pod,
    /// Nodes, where instance targets are switched on.
    Node,
    /// Namespaces.
    Namespace,
}

/// A record of any kind.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A Service.
    Service(ServiceRecord),
    /// A binding.
    Binding(BindingRecord),
    /// An endpoint slice.
    Slice(SliceRecord),
    /// A pod.
    Pod(PodRecord),
    /// A node.
    Node(NodeRecord),
    /// A namespace.
    Namespace(NamespaceRecord),
}

/// What every record has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Namespace and name.
    pub key: Key,
    /// UID.
    pub uid: Uid,
    /// Resource version.
    pub revision: Revision,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// A Service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceRecord {
    /// Identity.
    pub meta: Meta,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    pub service_type: String,
    /// Whether it selects pods.
    pub has_selector: bool,
    /// `externalTrafficPolicy: Local`.
    pub local_traffic_only: bool,
    /// Creation, seconds since the Unix epoch; said in messages, never decided by.
    pub created: i64,
    /// The object itself without what nobody reads, for Services that are ours or have our finalizer.
    pub object: Option<Arc<Service>>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; empty if there is one port only.
    pub name: String,
    /// Number.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port of the pods, by number or name.
    pub target_port: IntOrString,
    /// Port of the nodes.
    pub node_port: Option<u16>,
}

/// A binding.
#[derive(Debug, Clone, PartialEq)]
pub struct BindingRecord {
    /// Identity.
    pub meta: Meta,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether our finalizer is on it.
    pub has_finalizer: bool,
    /// Its spec.
    pub spec: Arc<TargetGroupBindingSpec>,
    /// The Service whose model it is of, by its stack labels; nothing for one that a user made.
    pub stack: Option<Key>,
    /// `elbv2.k8s.aws/gate-not-in-use: allow`.
    pub open_when_not_in_use: bool,
    /// `elbv2.k8s.aws/gate-timeout`, in seconds.
    pub gate_timeout: Option<u32>,
    /// The status as it is stored, so that an equal one is not written again.
    pub status: Option<Arc<nlb::targetgroupbinding::TargetGroupBindingStatus>>,
}

/// An endpoint slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceRecord {
    /// Identity.
    pub meta: Meta,
    /// The Service that it is of (`kubernetes.io/service-name`).
    pub service: Arc<str>,
    /// Whether the endpoint slice controller made it.
    pub by_controller: bool,
    /// Address family; nothing for `FQDN`, which is never a target.
    pub family: Option<AddressFamily>,
    /// Ports: name, number, protocol. A port without a number is left out.
    pub ports: Vec<(Arc<str>, u16, String)>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// First address.
    pub address: IpAddr,
    /// `ready`; nothing counts as true, as the API says.
    pub ready: bool,
    /// `serving`; nothing counts as `ready`.
    pub serving: bool,
    /// `terminating`; nothing counts as false.
    pub terminating: bool,
    /// The pod that it names: name and UID. Nothing if it names none, or one of another namespace.
    pub pod: Option<(Arc<str>, Uid)>,
    /// Node.
    pub node: Option<Arc<str>>,
    /// Zone.
    pub zone: Option<Arc<str>>,
}

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct PodRecord {
    /// Identity.
    pub meta: Meta,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// Whether it shares its node's address.
    pub host_network: bool,
    /// Whether it has succeeded or failed.
    pub finished: bool,
    /// Condition `ContainersReady`.
    pub containers_ready: bool,
    /// Condition `Ready`.
    pub ready: bool,
    /// Our readiness gates with what their conditions say.
    pub gates: Vec<GateRecord>,
    /// Whether a readiness gate of somebody else is not true.
    pub held_by_foreign_gate: bool,
    /// `elbv2.k8s.aws/pod-readiness-gate-inject: disabled` on the pod.
    pub gates_declined: bool,
    /// Node.
    pub node: Option<Arc<str>>,
    /// QUIC server ids by container port; port 0 stands for any.
    pub quic_server_ids: BTreeMap<u16, String>,
    /// Creation, seconds since the Unix epoch; said in messages, never decided by.
    pub created: i64,
}

/// One of our readiness gates on a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateRecord {
    /// Name of the binding.
    pub binding: Arc<str>,
    /// What its condition says; nothing if there is none yet.
    pub condition: Option<GateCondition>,
}

/// What a gate's condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateCondition {
    /// Status.
    pub status: GateStatus,
    /// `reason`, for example `Elb.InitialHealthChecking`.
    pub reason: String,
    /// `message`.
    pub message: String,
}

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateStatus {
    /// Open.
    True,
    /// Closed.
    False,
    /// Not known, which closes it as well.
    Unknown,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRecord {
    /// Identity.
    pub meta: Meta,
    /// The instance that its providerID ends in; nothing if it is no `aws:///<zone>/i-...`.
    pub instance: Option<String>,
    /// Labels.
    pub labels: Arc<BTreeMap<String, String>>,
    /// `spec.unschedulable`.
    pub cordoned: bool,
    /// Keys of its taints, with their effects.
    pub taints: Vec<(String, String)>,
    /// Condition `Ready`.
    pub ready: GateStatus,
}

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRecord {
    /// Identity.
    pub meta: Meta,
    /// `elbv2.k8s.aws/pod-readiness-gate-inject: enabled`.
    pub gates_wanted: bool,
}
