//! Namespaces.

use k8s_openapi::api::core::v1::Namespace;
use nlb::readiness_gate::INJECT_LABEL;

use super::Meta;

/// A namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceRecord {
    /// Identity.
    pub meta: Meta,
    /// `elbv2.k8s.aws/pod-readiness-gate-inject: enabled`.
    pub gates_wanted: bool,
}

impl NamespaceRecord {
    /// Reads a namespace; nothing if it has no name or UID.
    pub fn of(namespace: &Namespace) -> Option<Self> {
        let label = namespace.metadata.labels.as_ref().and_then(|labels| labels.get(INJECT_LABEL));
        Some(Self { meta: Meta::of(&namespace.metadata)?, gates_wanted: label.is_some_and(|value| value == "enabled") })
    }
}
