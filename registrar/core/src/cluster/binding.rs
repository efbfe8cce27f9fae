//! TargetGroupBindings.

use std::sync::Arc;

use nlb::{
    annotations::{Annotations, keys, parse},
    tags::{BINDING_FINALIZER, STACK_LABELS},
    targetgroupbinding::{TargetGroupBinding, TargetGroupBindingSpec, TargetGroupBindingStatus},
};

use super::{Key, Meta, created};

/// A binding.
#[derive(Debug, Clone, PartialEq)]
pub struct BindingRecord {
    /// Identity.
    pub meta: Meta,
    /// `metadata.generation`.
    pub generation: i64,
    /// Whether our finalizer is on it.
    pub has_finalizer: bool,
    /// Creation, seconds since the Unix epoch; said in messages, never decided by.
    pub created: i64,
    /// Its spec.
    pub spec: Arc<TargetGroupBindingSpec>,
    /// The Service whose model it is of, by its stack labels; nothing for one that a user made.
    pub stack: Option<Key>,
    /// `elbv2.k8s.aws/gate-not-in-use: allow`.
    pub open_when_not_in_use: bool,
    /// `elbv2.k8s.aws/gate-timeout`, in seconds.
    pub gate_timeout: Option<u32>,
    /// The status as it is stored, so that an equal one is not written again.
    pub status: Option<Arc<TargetGroupBindingStatus>>,
}

impl BindingRecord {
    /// Reads a binding; nothing if it has no name or UID. What its annotations misspell counts as not written: admission
    /// says so.
    pub fn of(binding: &TargetGroupBinding) -> Option<Self> {
        let meta = Meta::of(&binding.metadata)?;
        let annotations = Annotations::new(binding.metadata.annotations.as_ref());
        let label = |key: &str| binding.metadata.labels.as_ref().and_then(|labels| labels.get(key));
        let [namespace, name] = STACK_LABELS;
        let stack = label(namespace).zip(label(name)).map(|(namespace, name)| Key::new(namespace, name));
        Some(Self {
            created: created(&binding.metadata),
            generation: binding.metadata.generation.unwrap_or_default(),
            has_finalizer: binding.metadata.finalizers.iter().flatten().any(|name| name == BINDING_FINALIZER),
            spec: Arc::new(binding.spec.clone()),
            stack: stack.filter(|stack| stack.namespace == meta.key.namespace),
            open_when_not_in_use: annotations.text(keys::GATE_NOT_IN_USE) == Some("allow"),
            gate_timeout: annotations.text(keys::GATE_TIMEOUT).and_then(|text| parse::duration(text).ok()),
            status: binding.status.clone().map(Arc::new),
            meta,
        })
    }
}
