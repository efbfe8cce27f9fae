//! The kinds that are watched, and how their objects become records.

use std::fmt::Debug;

use k8s_openapi::{
    api::{
        core::v1::{Namespace, Node, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Resource, core::DeserializeGuard};
use nlb::targetgroupbinding::TargetGroupBinding;
use registrar_core::{
    Settings,
    cluster::{
        BindingRecord, Key, Kind, NamespaceRecord, NodeRecord, PodRecord, Record, ServiceRecord, SliceRecord, Uid,
    },
};
use serde::de::DeserializeOwned;

/// An object that arrives, in parts.
pub(super) enum Read {
    /// What is kept of it.
    Record(Record),
    /// Nobody needs it.
    Nothing,
    /// It does not have the form of its kind.
    Unreadable { key: Key, error: String },
}

impl From<Option<Record>> for Read {
    fn from(record: Option<Record>) -> Self {
        record.map_or(Self::Nothing, Self::Record)
    }
}

/// An object of a kind that is watched.
pub(super) trait Arrives:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
    const KIND: Kind;
    /// Whether an object can be stored that does not have the form of its kind.
    const MAY_BE_UNREADABLE: bool = false;

    fn read(self, settings: &Settings) -> Read;
}

impl Arrives for Pod {
    const KIND: Kind = Kind::Pod;

    fn read(self, settings: &Settings) -> Read {
        PodRecord::of(&self, &settings.quic_variable).map(Record::Pod).into()
    }
}

impl Arrives for Service {
    const KIND: Kind = Kind::Service;

    fn read(self, settings: &Settings) -> Read {
        ServiceRecord::of(&self, &settings.model).map(Record::Service).into()
    }
}

impl Arrives for EndpointSlice {
    const KIND: Kind = Kind::Slice;

    fn read(self, _: &Settings) -> Read {
        SliceRecord::of(&self).map(Record::Slice).into()
    }
}

impl Arrives for Node {
    const KIND: Kind = Kind::Node;

    fn read(self, _: &Settings) -> Read {
        NodeRecord::of(&self).map(Record::Node).into()
    }
}

impl Arrives for Namespace {
    const KIND: Kind = Kind::Namespace;

    fn read(self, _: &Settings) -> Read {
        NamespaceRecord::of(&self).map(Record::Namespace).into()
    }
}

impl Arrives for DeserializeGuard<TargetGroupBinding> {
    const KIND: Kind = Kind::Binding;
    const MAY_BE_UNREADABLE: bool = true;

    fn read(self, _: &Settings) -> Read {
        match self.0 {
            Ok(binding) => BindingRecord::of(&binding).map(Record::Binding).into(),
            Err(invalid) => Read::Unreadable { key: key(&invalid.metadata), error: invalid.error },
        }
    }
}

/// Namespace and name of an object.
pub(super) fn key(metadata: &ObjectMeta) -> Key {
    let text = |field: &Option<String>| field.as_deref().unwrap_or_default().into();
    Key { namespace: text(&metadata.namespace), name: text(&metadata.name) }
}

/// UID of an object.
pub(super) fn uid(metadata: &ObjectMeta) -> Uid {
    Uid(metadata.uid.as_deref().unwrap_or_default().into())
}
