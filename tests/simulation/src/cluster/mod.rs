//! The simulated cluster: storage, and those who write to it besides the registrars.

pub(crate) mod api;
pub(crate) mod etcd;
pub(crate) mod fake;
pub(crate) mod kubelet;
pub(crate) mod slices;
pub(crate) mod workload;

use std::sync::Arc;

use registrar_core::cluster::Key;

/// A key from its two parts.
pub(crate) fn key(namespace: &str, name: &str) -> Key {
    Key { namespace: Arc::from(namespace), name: Arc::from(name) }
}
