//! What the machine of one Service sees of the rest.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::{
    api::core::v1::{self as core, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use crate::{
    balancers::{Environment, Network, Problem},
    cluster::{BindingRecord, Cluster, Key, ServicePort, ServiceRecord},
};

/// What a machine sees.
pub(super) struct View<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) environment: &'a Arc<Environment>,
    pub(super) network: &'a mut Network,
    /// Since when the network is known.
    pub(super) network_at: &'a mut Duration,
    pub(super) bindings: &'a BTreeMap<Key, BTreeSet<Key>>,
    pub(super) shared_group: Option<String>,
    pub(super) shared_problem: Option<Problem>,
    pub(super) services: usize,
    pub(super) now: Duration,
}

impl View<'_> {
    /// Reads VPC and subnets anew, unless that was done within this time: all Services share what is known of them.
    pub(super) fn forget_network(&mut self, older_than: Duration) {
        if self.now >= *self.network_at + older_than {
            self.network.forget();
            *self.network_at = self.now;
        }
    }

    /// Bindings of the stack of a Service.
    pub(super) fn bindings_of(&self, service: &Key) -> impl Iterator<Item = &BindingRecord> {
        self.bindings.get(service).into_iter().flatten().filter_map(|key| self.cluster.bindings.get(key))
    }

    /// New connections reach a target group no more when no listener has referred to it for this long.
    pub(super) fn settled_after(&self) -> Duration {
        Duration::from_secs(u64::from(self.environment.settings.drain_floor_seconds))
    }

    /// How long an unchanged Service is left alone: 4 to 5 minutes. With more than 60 of them a look at each takes a share
    /// of what AWS allows.
    pub(super) fn audit_period(&self, service: &Key) -> Duration {
        let each = Duration::from_secs(4 * self.services as u64);
        let period = each.clamp(Duration::from_mins(4), Duration::from_mins(48));
        // Those that began together do not look together.
        let spread = service
            .name
            .bytes()
            .chain(service.namespace.bytes())
            .fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        period + period * (spread % 64) / 256
    }
}

/// A Service that a listener of another forwards to, as far as its target group depends on it.
pub(super) fn backend(record: &ServiceRecord) -> Service {
    let port = |port: &ServicePort| core::ServicePort {
        name: (!port.name.is_empty()).then(|| port.name.clone()),
        port: i32::from(port.port),
        protocol: Some(port.protocol.clone()),
        target_port: Some(port.target_port.clone()),
        node_port: port.node_port.map(i32::from),
        ..core::ServicePort::default()
    };
    Service {
        metadata: ObjectMeta {
            namespace: Some(record.meta.key.namespace.to_string()),
            name: Some(record.meta.key.name.to_string()),
            uid: Some(record.meta.uid.to_string()),
            ..ObjectMeta::default()
        },
        spec: Some(core::ServiceSpec {
            type_: Some(record.service_type.clone()),
            ports: Some(record.ports.iter().map(port).collect()),
            ..core::ServiceSpec::default()
        }),
        status: None,
    }
}
