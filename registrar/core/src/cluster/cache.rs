//! The cluster as the watches have told it, with indexes so that a change touches only what depends on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use nlb::settings::TargetType;

use super::{
    BindingRecord, Key, Kind, Meta, NamespaceRecord, NodeRecord, PodRecord, Record, ServiceRecord, SliceRecord, Store,
    store::{Before, Recorded, Taken},
};
use crate::event::Watched;

/// A change that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Kind of the object.
    pub kind: Kind,
    /// Which.
    pub key: Key,
    /// How.
    pub how: How,
    /// Bindings that depend on it, as it was and as it is.
    pub bindings: BTreeSet<Key>,
}

/// How something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is there, new or otherwise than before.
    Applied,
    /// It was deleted.
    Deleted,
    /// It was not in a list that is complete now. That is weaker than a deletion: the list may be older than what was
    /// seen before.
    Swept,
}

/// The cluster.
#[derive(Debug, Default)]
pub struct Cluster {
    /// Services.
    pub services: Store<ServiceRecord>,
    /// Bindings.
    pub bindings: Store<BindingRecord>,
    /// Endpoint slices.
    pub slices: Store<SliceRecord>,
    /// Pods.
    pub pods: Store<PodRecord>,
    /// Nodes.
    pub nodes: Store<NodeRecord>,
    /// Namespaces.
    pub namespaces: Store<NamespaceRecord>,
    slices_of: Index,
    bindings_of: Index,
    instance_bindings: BTreeSet<Key>,
    bindings_by_group: BTreeMap<Arc<str>, BTreeSet<Key>>,
    /// Pods by the binding that one of their gates is named after.
    gated: Index,
    /// Services by the pods that their slices name, with how often they do. A pod that is there stays on record once no
    /// slice names it any more: its end is still news to those who had it as a target.
    services_of_pod: BTreeMap<Key, BTreeMap<Arc<str>, u32>>,
    pods_at: BTreeMap<IpAddr, BTreeSet<Key>>,
    /// When a watch last said something, by kind.
    heard: BTreeMap<Kind, Duration>,
    #[cfg(feature = "planted-bugs")]
    planted: Option<crate::planted::Bug>,
}

type Index = BTreeMap<Key, BTreeSet<Key>>;

impl Cluster {
    #[cfg(feature = "planted-bugs")]
    pub(crate) fn plant(&mut self, bug: Option<crate::planted::Bug>) {
        self.planted = bug;
    }

    /// Whether every kind that is needed has been listed in this process. `nodes`: whether nodes are needed.
    pub fn is_complete(&self, nodes: bool) -> bool {
        self.services.is_listed()
            && self.bindings.is_listed()
            && self.slices.is_listed()
            && self.pods.is_listed()
            && self.namespaces.is_listed()
            && (!nodes || self.nodes.is_listed())
    }

    /// Slices of a Service.
    pub fn slices_of(&self, service: &Key) -> impl Iterator<Item = &SliceRecord> {
        self.slices_of.get(service).into_iter().flatten().filter_map(|key| self.slices.get(key))
    }

    /// Bindings that refer to a Service.
    pub fn bindings_of(&self, service: &Key) -> impl Iterator<Item = &BindingRecord> {
        self.bindings_of.get(service).into_iter().flatten().filter_map(|key| self.bindings.get(key))
    }

    /// Bindings that name a target group by its ARN.
    pub fn bindings_of_group(&self, arn: &str) -> impl Iterator<Item = &BindingRecord> {
        self.bindings_by_group.get(arn).into_iter().flatten().filter_map(|key| self.bindings.get(key))
    }

    /// Pods with the gate of a binding, whether there is such a binding or not.
    pub fn gated(&self, binding: &Key) -> impl Iterator<Item = &PodRecord> {
        self.gated.get(binding).into_iter().flatten().filter_map(|key| self.pods.get(key))
    }

    /// All names of bindings that gates are named after.
    pub fn gate_names(&self) -> impl Iterator<Item = &Key> {
        self.gated.keys()
    }

    /// Pods with an address, whatever their state.
    pub fn pods_at(&self, address: IpAddr) -> impl Iterator<Item = &PodRecord> {
        self.pods_at.get(&address).into_iter().flatten().filter_map(|key| self.pods.get(key))
    }

    /// When both watches that endpoints are proven by have last said something; nothing if one never has.
    pub fn endpoints_heard_at(&self) -> Option<Duration> {
        let heard = |kind| self.heard.get(&kind).copied();
        Some(heard(Kind::Slice)?.min(heard(Kind::Pod)?))
    }

    /// Takes in what a watch says; what has come of it.
    pub fn take(&mut self, watched: Watched, now: Duration) -> Vec<Change> {
        let kind = match &watched {
            Watched::Applied(record) => record.kind(),
            Watched::Restarted(kind)
            | Watched::Deleted(kind, ..)
            | Watched::Listed(kind)
            | Watched::Absent(kind, _) => *kind,
        };
        self.heard.insert(kind, now);
        match watched {
            Watched::Restarted(kind) => {
                self.restart(kind);
                #[cfg(feature = "planted-bugs")]
                if self.planted == Some(crate::planted::Bug::ClearOnRelist) {
                    return self.clear(kind, now);
                }
                Vec::new()
            }
            Watched::Applied(record) => self.apply(record, now).into_iter().collect(),
            Watched::Deleted(kind, key, uid) => {
                let removed = match kind {
                    Kind::Service => self.services.delete(&key, &uid, now).map(Record::Service),
                    Kind::Binding => self.bindings.delete(&key, &uid, now).map(Record::Binding),
                    Kind::Slice => self.slices.delete(&key, &uid, now).map(Record::Slice),
                    Kind::Pod => self.pods.delete(&key, &uid, now).map(Record::Pod),
                    Kind::Node => self.nodes.delete(&key, &uid, now).map(Record::Node),
                    Kind::Namespace => self.namespaces.delete(&key, &uid, now).map(Record::Namespace),
                };
                removed.map(|record| self.removed(&record, How::Deleted)).into_iter().collect()
            }
            Watched::Listed(kind) => self.listed(kind),
            Watched::Absent(kind, _) => match kind {
                Kind::Node | Kind::Namespace => {
                    self.restart(kind);
                    self.listed(kind)
                }
                _ => Vec::new(),
            },
        }
    }

    fn restart(&mut self, kind: Kind) {
        match kind {
            Kind::Service => self.services.restart(),
            Kind::Binding => self.bindings.restart(),
            Kind::Slice => self.slices.restart(),
            Kind::Pod => self.pods.restart(),
            Kind::Node => self.nodes.restart(),
            Kind::Namespace => self.namespaces.restart(),
        }
    }

    fn listed(&mut self, kind: Kind) -> Vec<Change> {
        let swept: Vec<Record> = match kind {
            Kind::Service => self.services.complete().into_iter().map(Record::Service).collect(),
            Kind::Binding => self.bindings.complete().into_iter().map(Record::Binding).collect(),
            Kind::Slice => self.slices.complete().into_iter().map(Record::Slice).collect(),
            Kind::Pod => self.pods.complete().into_iter().map(Record::Pod).collect(),
            Kind::Node => self.nodes.complete().into_iter().map(Record::Node).collect(),
            Kind::Namespace => self.namespaces.complete().into_iter().map(Record::Namespace).collect(),
        };
        swept.iter().map(|record| self.removed(record, How::Swept)).collect()
    }

    #[cfg(feature = "planted-bugs")]
    fn clear(&mut self, kind: Kind, now: Duration) -> Vec<Change> {
        let cleared: Vec<Record> = match kind {
            Kind::Slice => self.slices.clear(now).into_iter().map(Record::Slice).collect(),
            Kind::Pod => self.pods.clear(now).into_iter().map(Record::Pod).collect(),
            _ => Vec::new(),
        };
        cleared.iter().map(|record| self.removed(record, How::Deleted)).collect()
    }

    fn apply(&mut self, record: Record, now: Duration) -> Option<Change> {
        #[cfg(feature = "planted-bugs")]
        let any =
            matches!(self.planted, Some(crate::planted::Bug::AcceptOlderRevision | crate::planted::Bug::ClearOnRelist));
        #[cfg(not(feature = "planted-bugs"))]
        let any = false;
        let (kind, key) = (record.kind(), record.meta().key.clone());
        let mut change = Change { kind, key: key.clone(), how: How::Applied, bindings: BTreeSet::new() };
        // What depended on the old state is told too, and its index entries go before the new ones come.
        let Before(old) = match record {
            Record::Service(record) => taken(&mut self.services, record, any, now).map(Record::Service)?,
            Record::Binding(record) => taken(&mut self.bindings, record, any, now).map(Record::Binding)?,
            Record::Slice(record) => taken(&mut self.slices, record, any, now).map(Record::Slice)?,
            Record::Pod(record) => taken(&mut self.pods, record, any, now).map(Record::Pod)?,
            Record::Node(record) => taken(&mut self.nodes, record, any, now).map(Record::Node)?,
            Record::Namespace(record) => taken(&mut self.namespaces, record, any, now).map(Record::Namespace)?,
        };
        if let Some(old) = &old {
            self.dependent(old, &mut change.bindings);
            self.index(old, false);
        }
        let new = match kind {
            Kind::Service => self.services.get(&key).cloned().map(Record::Service),
            Kind::Binding => self.bindings.get(&key).cloned().map(Record::Binding),
            Kind::Slice => self.slices.get(&key).cloned().map(Record::Slice),
            Kind::Pod => self.pods.get(&key).cloned().map(Record::Pod),
            Kind::Node => self.nodes.get(&key).cloned().map(Record::Node),
            Kind::Namespace => self.namespaces.get(&key).cloned().map(Record::Namespace),
        };
        if let Some(new) = &new {
            self.index(new, true);
            self.dependent(new, &mut change.bindings);
        }
        Some(change)
    }

    fn removed(&mut self, record: &Record, how: How) -> Change {
        let mut change = Change { kind: record.kind(), key: record.meta().key.clone(), how, bindings: BTreeSet::new() };
        self.dependent(record, &mut change.bindings);
        self.index(record, false);
        if let Record::Pod(pod) = record {
            self.forget_services_of(&pod.meta.key);
        }
        change
    }

    /// Forgets the Services whose slices do not name a pod any more.
    fn forget_services_of(&mut self, pod: &Key) {
        if let Some(services) = self.services_of_pod.get_mut(pod) {
            services.retain(|_, count| *count > 0);
            if services.is_empty() {
                self.services_of_pod.remove(pod);
            }
        }
    }

    /// Bindings that depend on an object.
    fn dependent(&self, record: &Record, found: &mut BTreeSet<Key>) {
        match record {
            Record::Service(service) => {
                found.extend(self.bindings_of.get(&service.meta.key).into_iter().flatten().cloned());
            }
            Record::Binding(binding) => {
                found.insert(binding.meta.key.clone());
            }
            Record::Slice(slice) => {
                let service = slice.meta.key.sibling(&slice.service);
                found.extend(self.bindings_of.get(&service).into_iter().flatten().cloned());
            }
            Record::Pod(pod) => {
                self.dependent_on_pod(&pod.meta.key, found);
                for gate in &pod.gates {
                    found.insert(pod.meta.key.sibling(&gate.binding));
                }
                // Who has an address alone depends on who else has it.
                for other in pod.addresses.iter().filter(|_| !pod.host_network).filter_map(|at| self.pods_at.get(at)) {
                    for other in other.iter().filter(|other| **other != pod.meta.key) {
                        self.dependent_on_pod(other, found);
                    }
                }
            }
            Record::Node(_) => found.extend(self.instance_bindings.iter().cloned()),
            Record::Namespace(namespace) => {
                let names = self.bindings.in_namespace(&namespace.meta.key.name);
                found.extend(names.map(|binding| binding.meta.key.clone()));
            }
        }
    }

    fn dependent_on_pod(&self, pod: &Key, found: &mut BTreeSet<Key>) {
        for service in self.services_of_pod.get(pod).into_iter().flat_map(BTreeMap::keys) {
            found.extend(self.bindings_of.get(&pod.sibling(service)).into_iter().flatten().cloned());
        }
    }

    fn index(&mut self, record: &Record, present: bool) {
        match record {
            Record::Service(_) | Record::Node(_) | Record::Namespace(_) => {}
            Record::Binding(binding) => {
                let key = &binding.meta.key;
                let service = Key::new(&key.namespace, &binding.spec.service_ref.name);
                link(&mut self.bindings_of, &service, key, present);
                if let Some(arn) = binding.spec.target_group_arn.as_deref().filter(|arn| !arn.is_empty()) {
                    link(&mut self.bindings_by_group, &Arc::from(arn), key, present);
                }
                if present && binding.spec.target_type != Some(TargetType::Ip) {
                    self.instance_bindings.insert(key.clone());
                } else {
                    self.instance_bindings.remove(key);
                }
            }
            Record::Slice(slice) => {
                let service = slice.meta.key.sibling(&slice.service);
                link(&mut self.slices_of, &service, &slice.meta.key, present);
                for (pod, _) in slice.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref()) {
                    let pod = slice.meta.key.sibling(pod);
                    let services = self.services_of_pod.entry(pod.clone()).or_default();
                    let count = services.entry(Arc::clone(&slice.service)).or_default();
                    *count = if present { *count + 1 } else { count.saturating_sub(1) };
                    if self.pods.get(&pod).is_none() {
                        self.forget_services_of(&pod);
                    }
                }
            }
            Record::Pod(pod) => {
                for gate in &pod.gates {
                    link(&mut self.gated, &pod.meta.key.sibling(&gate.binding), &pod.meta.key, present);
                }
                for address in pod.addresses.iter().filter(|_| !pod.host_network) {
                    link(&mut self.pods_at, address, &pod.meta.key, present);
                }
            }
        }
    }
}

fn link<K: Ord + Clone>(index: &mut BTreeMap<K, BTreeSet<Key>>, from: &K, to: &Key, present: bool) {
    if present {
        index.entry(from.clone()).or_default().insert(to.clone());
    } else if let Some(set) = index.get_mut(from) {
        set.remove(to);
        if set.is_empty() {
            index.remove(from);
        }
    }
}

fn taken<R: Recorded>(store: &mut Store<R>, record: R, any: bool, now: Duration) -> Taken<R> {
    #[cfg(feature = "planted-bugs")]
    if any {
        return store.apply_any(record, now);
    }
    let _ = any;
    store.apply(record, now)
}

macro_rules! recorded {
    ($($record:ty),*) => {$(
        impl Recorded for $record {
            fn meta(&self) -> &Meta {
                &self.meta
            }
            fn meta_mut(&mut self) -> &mut Meta {
                &mut self.meta
            }
        }
    )*};
}
recorded!(ServiceRecord, BindingRecord, SliceRecord, PodRecord, NodeRecord, NamespaceRecord);
