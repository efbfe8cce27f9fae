//! The simulated cluster: storage, and those who write to it besides the registrars.

pub(crate) mod api;
pub(crate) mod etcd;
pub(crate) mod fake;
pub(crate) mod kubelet;
pub(crate) mod slices;
pub(crate) mod workload;

use std::{collections::BTreeMap, sync::Arc};

use registrar_core::cluster::{GateRecord, Key, Meta, PodRecord};

/// A key from its two parts.
pub(crate) fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: Arc::from(namespace), name: Arc::from(name) }
}

/// A pod as it is created: nothing has happened to it.
pub(crate) fn created(meta: Meta, gates: Vec<GateRecord>) -> PodRecord {
    PodRecord {
        meta,
        addresses: Vec::new(),
        own_interface: false,
        host_network: false,
        finished: false,
        containers_ready: false,
        ready: false,
        gates,
        held_by_foreign_gate: false,
        gates_declined: false,
        node: None,
        quic_server_ids: BTreeMap::new(),
        created: 0,
    }
}
