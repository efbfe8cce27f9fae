//! Nodes.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::Node;

use super::{GateStatus, Meta};

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

/// The label of nodes that are no instances of the cluster's, with what they are.
const COMPUTE_TYPE: &str = "eks.amazonaws.com/compute-type";

impl NodeRecord {
    /// Whether each of its pods has a network interface of its own, and it is no instance whose interfaces they share.
    pub fn is_fargate(&self) -> bool {
        self.labels.get(COMPUTE_TYPE).is_some_and(|value| value == "fargate")
    }

    /// Reads a node; nothing if it has no name or UID.
    pub fn of(node: &Node) -> Option<Self> {
        let spec = node.spec.as_ref();
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let ready = conditions.into_iter().find(|condition| condition.type_ == "Ready");
        let taints = spec.and_then(|spec| spec.taints.as_ref()).into_iter().flatten();
        Some(Self {
            meta: Meta::of(&node.metadata)?,
            instance: spec.and_then(|spec| spec.provider_id.as_deref()).and_then(instance),
            labels: Arc::new(node.metadata.labels.clone().unwrap_or_default()),
            cordoned: spec.is_some_and(|spec| spec.unschedulable == Some(true)),
            taints: taints.map(|taint| (taint.key.clone(), taint.effect.clone())).collect(),
            ready: ready.map_or(GateStatus::Unknown, |condition| GateStatus::of(&condition.status)),
        })
    }
}

/// The instance of a providerID: `aws:///<zone>/i-...`.
fn instance(provider_id: &str) -> Option<String> {
    let last = provider_id.strip_prefix("aws://")?.rsplit('/').next()?;
    let digits = last.strip_prefix("i-")?;
    let fine = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    fine.then(|| last.to_owned())
}
