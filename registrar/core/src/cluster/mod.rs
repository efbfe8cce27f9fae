//! What is kept of Kubernetes objects: records of what decisions need, and no more, so that ten thousand pods fit.
//!
//! The shell reads a record from each object that a watch brings (`of` of each record) and drops the object.

mod binding;
mod cache;
mod namespace;
mod node;
mod pod;
mod service;
mod slice;
mod store;

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

pub use self::{
    binding::BindingRecord,
    cache::{Change, Cluster, How},
    namespace::NamespaceRecord,
    node::NodeRecord,
    pod::{GateCondition, GateRecord, GateStatus, PodRecord},
    service::{ServicePort, ServiceRecord},
    slice::{Endpoint, SliceRecord},
    store::{Entry, Store},
};

/// Namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Namespace; empty for objects of the cluster.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

impl Key {
    /// Of these.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Another object of the same namespace.
    #[must_use]
    pub fn sibling(&self, name: &Arc<str>) -> Self {
        Self { namespace: Arc::clone(&self.namespace), name: Arc::clone(name) }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// The UID of an object: what tells it from another of the same name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uid(pub Arc<str>);

impl std::fmt::Display for Uid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

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

impl Record {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Record::Service(_) => Kind::Service,
            Record::Binding(_) => Kind::Binding,
            Record::Slice(_) => Kind::Slice,
            Record::Pod(_) => Kind::Pod,
            Record::Node(_) => Kind::Node,
            Record::Namespace(_) => Kind::Namespace,
        }
    }

    /// Its identity.
    pub fn meta(&self) -> &Meta {
        match self {
            Record::Service(record) => &record.meta,
            Record::Binding(record) => &record.meta,
            Record::Slice(record) => &record.meta,
            Record::Pod(record) => &record.meta,
            Record::Node(record) => &record.meta,
            Record::Namespace(record) => &record.meta,
        }
    }
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

impl Meta {
    /// Reads it. An object that the API server has stored always has a name and a UID; one without is nothing.
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        let (name, uid) = (meta.name.as_deref()?, meta.uid.as_deref()?);
        Some(Self {
            key: Key::new(meta.namespace.as_deref().unwrap_or_default(), name),
            uid: Uid(uid.into()),
            revision: meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default(),
            deleting: meta.deletion_timestamp.is_some(),
        })
    }
}

/// Creation, seconds since the Unix epoch. It is said in messages, and never decided by.
fn created(meta: &ObjectMeta) -> i64 {
    meta.creation_timestamp.as_ref().map(|time| time.0.as_second()).unwrap_or_default()
}
