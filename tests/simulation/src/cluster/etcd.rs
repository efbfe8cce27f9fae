//! Storage: objects, and a log of their changes for each kind, all numbered in one row.

use std::{collections::BTreeMap, time::Duration};

use registrar_core::cluster::{
    BindingRecord, Key, Kind, Meta, PodRecord, Record, Revision, ServiceRecord, SliceRecord, Uid,
};

/// A change of an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) revision: Revision,
    pub(crate) at: Duration,
    pub(crate) key: Key,
    pub(crate) uid: Uid,
    /// What it is now; nothing if it is gone.
    pub(crate) record: Option<Record>,
}

/// The lease of the registrars.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) holder: Option<usize>,
    /// Counts its changes.
    pub(crate) version: u64,
}

/// All kinds that are watched.
pub(crate) const KINDS: [Kind; 6] = [Kind::Service, Kind::Binding, Kind::Slice, Kind::Pod, Kind::Node, Kind::Namespace];

/// The store.
#[derive(Debug, Default)]
pub(crate) struct Etcd {
    revision: Revision,
    objects: BTreeMap<(Kind, Key), Record>,
    logs: BTreeMap<Kind, Vec<Change>>,
    pub(crate) lease: Lease,
    pub(crate) ledgers: BTreeMap<Key, Vec<String>>,
}

fn meta_mut(record: &mut Record) -> &mut Meta {
    match record {
        Record::Service(r) => &mut r.meta,
        Record::Binding(r) => &mut r.meta,
        Record::Slice(r) => &mut r.meta,
        Record::Pod(r) => &mut r.meta,
        Record::Node(r) => &mut r.meta,
        Record::Namespace(r) => &mut r.meta,
    }
}

impl Etcd {
    /// Stores an object under a new revision, unless it is there already as it is.
    pub(crate) fn put(&mut self, mut record: Record, at: Duration) -> Option<Change> {
        let of_kind = record.kind();
        let key = record.meta().key.clone();
        if let Some(present) = self.objects.get(&(of_kind, key.clone())) {
            meta_mut(&mut record).revision = present.meta().revision;
            if *present == record {
                return None;
            }
        }
        self.revision += 1;
        meta_mut(&mut record).revision = self.revision;
        self.objects.insert((of_kind, key.clone()), record.clone());
        let uid = record.meta().uid.clone();
        let change = Change { revision: self.revision, at, key, uid, record: Some(record) };
        self.logs.entry(of_kind).or_default().push(change.clone());
        Some(change)
    }

    /// Removes an object.
    pub(crate) fn remove(&mut self, of_kind: Kind, key: &Key, at: Duration) -> Option<Change> {
        let record = self.objects.remove(&(of_kind, key.clone()))?;
        self.revision += 1;
        let change =
            Change { revision: self.revision, at, key: key.clone(), uid: record.meta().uid.clone(), record: None };
        self.logs.entry(of_kind).or_default().push(change.clone());
        Some(change)
    }

    pub(crate) fn log(&self, of_kind: Kind) -> &[Change] {
        self.logs.get(&of_kind).map(Vec::as_slice).unwrap_or_default()
    }

    /// The objects of a kind as they were after so many of its changes.
    pub(crate) fn snapshot(&self, of_kind: Kind, changes: usize) -> Vec<Record> {
        let mut objects: BTreeMap<&Key, &Record> = BTreeMap::new();
        for change in self.log(of_kind).iter().take(changes) {
            match &change.record {
                Some(record) => _ = objects.insert(&change.key, record),
                None => _ = objects.remove(&change.key),
            }
        }
        objects.into_values().cloned().collect()
    }

    pub(crate) fn get(&self, of_kind: Kind, key: &Key) -> Option<&Record> {
        self.objects.get(&(of_kind, key.clone()))
    }

    pub(crate) fn pod(&self, key: &Key) -> Option<&PodRecord> {
        if let Some(Record::Pod(pod)) = self.get(Kind::Pod, key) { Some(pod) } else { None }
    }

    pub(crate) fn binding(&self, key: &Key) -> Option<&BindingRecord> {
        if let Some(Record::Binding(binding)) = self.get(Kind::Binding, key) { Some(binding) } else { None }
    }

    pub(crate) fn service(&self, key: &Key) -> Option<&ServiceRecord> {
        if let Some(Record::Service(service)) = self.get(Kind::Service, key) { Some(service) } else { None }
    }

    pub(crate) fn pods(&self) -> impl Iterator<Item = &PodRecord> {
        self.of_kind(Kind::Pod).filter_map(|record| if let Record::Pod(pod) = record { Some(pod) } else { None })
    }

    pub(crate) fn bindings(&self) -> impl Iterator<Item = &BindingRecord> {
        let all = self.of_kind(Kind::Binding);
        all.filter_map(|record| if let Record::Binding(binding) = record { Some(binding) } else { None })
    }

    pub(crate) fn slices<'a>(&'a self, service: &'a Key) -> impl Iterator<Item = &'a SliceRecord> {
        let all = self.of_kind(Kind::Slice);
        all.filter_map(|record| if let Record::Slice(slice) = record { Some(slice) } else { None })
            .filter(|slice| slice.meta.key.namespace == service.namespace && slice.service == service.name)
    }

    fn of_kind(&self, wanted: Kind) -> impl Iterator<Item = &Record> {
        self.objects.iter().filter(move |((kind, _), _)| *kind == wanted).map(|(_, record)| record)
    }
}
