//! From objects to what a plan depends on.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::Service;
use nlb::{
    service::{self, Ownership, ownership},
    tags::STACK_LABELS,
    targetgroupbinding::TargetGroupBinding,
    violation::{Severity, Violation},
};
use registrar_core::{
    balancers::{Environment, Inputs, Intent, KnownBinding, ManagedFields, backends, managed},
    cluster::{Key, Uid},
};

use crate::status::view::{has_finalizer, hostname};

/// Objects of the cluster, or of files.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Services, ours and others.
    pub services: Vec<Service>,
    /// Bindings.
    pub bindings: Vec<TargetGroupBinding>,
}

/// What is to be planned for a Service.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// A plan can be made.
    Plan(Box<Inputs>, Vec<Violation>),
    /// Nothing is built while the Service is so.
    Refused(Vec<Violation>),
}

/// The task for a Service; nothing for one that is none of ours and never was.
pub fn task(
    service: &Service,
    objects: &Objects,
    environment: &Arc<Environment>,
    shared: Option<&str>,
) -> Option<Task> {
    let settings = environment.settings.as_ref();
    let intent = match ownership::of(service, settings) {
        Ownership::Ours => Intent::Keep,
        Ownership::Related | Ownership::Foreign if has_finalizer(service) => Intent::Remove,
        Ownership::Related | Ownership::Foreign => return None,
    };
    let reading = service::read(service, settings);
    let denied = reading.violations.iter().any(|violation| violation.severity == Severity::Deny);
    if denied && intent == Intent::Keep {
        return Some(Task::Refused(reading.violations));
    }
    let key = key(service);
    let annotations = service.metadata.annotations.as_ref();
    let recorded = ManagedFields::read(
        annotations.and_then(|annotations| annotations.get(managed::ANNOTATION)).map(String::as_str),
    );
    let hostname = hostname(service).map(ToOwned::to_owned);
    let sibling = |name: &str| {
        let is_it = |other: &&Service| other.metadata.name.as_deref() == Some(name) && same_namespace(other, service);
        objects.services.iter().find(is_it).cloned()
    };
    let inputs = Inputs {
        environment: Arc::clone(environment),
        uid: Uid(service.metadata.uid.as_deref().unwrap_or_default().into()),
        intent,
        fresh: !has_finalizer(service) && recorded == ManagedFields::default() && hostname.is_none(),
        backends: backends(service, &reading.spec, settings, sibling),
        spec: Arc::new(reading.spec),
        hostname,
        backend_group: shared.map(ToOwned::to_owned),
        bindings: objects.bindings.iter().filter(|binding| is_of_stack(binding, &key)).map(known).collect(),
        recorded,
        remembered: ManagedFields::default(),
        settled: BTreeSet::new(),
        kept_groups: None,
        service: key,
    };
    Some(Task::Plan(Box::new(inputs), reading.violations))
}

/// A Service of a file as it would be if the file were applied: what only the cluster knows is taken from the Service that
/// is stored under its name.
pub fn applied(mut written: Service, stored: Option<&Service>) -> Service {
    let Some(stored) = stored else { return written };
    let metadata = &mut written.metadata;
    metadata.uid.clone_from(&stored.metadata.uid);
    metadata.finalizers.clone_from(&stored.metadata.finalizers);
    metadata.deletion_timestamp.clone_from(&stored.metadata.deletion_timestamp);
    let record = stored.metadata.annotations.as_ref().and_then(|known| known.get(managed::ANNOTATION));
    if let Some(record) = record {
        metadata.annotations.get_or_insert_default().insert(managed::ANNOTATION.to_owned(), record.clone());
    }
    // Node ports are allocated once and stay.
    let allocated = stored.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let ports = written.spec.as_mut().and_then(|spec| spec.ports.as_mut());
    for port in ports.into_iter().flatten().filter(|port| port.node_port.is_none()) {
        let same = |known: &&k8s_openapi::api::core::v1::ServicePort| {
            known.port == port.port
                && known.protocol.as_deref().unwrap_or("TCP") == port.protocol.as_deref().unwrap_or("TCP")
        };
        port.node_port = allocated.into_iter().flatten().find(same).and_then(|known| known.node_port);
    }
    written.status.clone_from(&stored.status);
    written
}

/// Namespace and name.
pub fn key(service: &Service) -> Key {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Key::new(&text(&service.metadata.namespace), &text(&service.metadata.name))
}

fn same_namespace(one: &Service, other: &Service) -> bool {
    one.metadata.namespace == other.metadata.namespace
}

fn is_of_stack(binding: &TargetGroupBinding, key: &Key) -> bool {
    let [namespace, name] = STACK_LABELS;
    let label = |key: &str| binding.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    label(namespace) == Some(&key.namespace)
        && label(name) == Some(&key.name)
        && binding.metadata.namespace.as_deref() == Some(&key.namespace)
}

fn known(binding: &TargetGroupBinding) -> KnownBinding {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    KnownBinding {
        key: Key::new(&text(&binding.metadata.namespace), &text(&binding.metadata.name)),
        uid: Uid(binding.metadata.uid.as_deref().unwrap_or_default().into()),
        deleting: binding.metadata.deletion_timestamp.is_some(),
        spec: Arc::new(binding.spec.clone()),
    }
}
