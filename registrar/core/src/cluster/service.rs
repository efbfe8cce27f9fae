//! Services.

use std::sync::Arc;

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};
use nlb::{
    service::{Ownership, ownership},
    settings::ModelSettings,
    tags::SERVICE_FINALIZER,
};

use super::{Meta, created};

/// A Service.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceRecord {
    /// Identity.
    pub meta: Meta,
    /// Ports.
    pub ports: Vec<ServicePort>,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    pub service_type: String,
    /// Whether it selects pods.
    pub has_selector: bool,
    /// `externalTrafficPolicy: Local`.
    pub local_traffic_only: bool,
    /// Creation, seconds since the Unix epoch; said in messages, never decided by.
    pub created: i64,
    /// The object itself without what nobody reads, for Services that are ours or have our finalizer.
    pub object: Option<Arc<Service>>,
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Name; empty if there is one port only.
    pub name: String,
    /// Number.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// Port of the pods, by number or name.
    pub target_port: IntOrString,
    /// Port of the nodes.
    pub node_port: Option<u16>,
}

impl ServiceRecord {
    /// Reads a Service; nothing if it has no name or UID.
    pub fn of(service: &Service, settings: &ModelSettings) -> Option<Self> {
        let meta = Meta::of(&service.metadata)?;
        let spec = service.spec.as_ref();
        let ports = spec.and_then(|spec| spec.ports.as_ref()).into_iter().flatten();
        let finalized = service.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == SERVICE_FINALIZER);
        let kept = finalized || ownership::of(service, settings) == Ownership::Ours;
        Some(Self {
            meta,
            ports: ports.filter_map(ServicePort::of).collect(),
            service_type: spec.and_then(|spec| spec.type_.clone()).unwrap_or_else(|| "ClusterIP".to_owned()),
            has_selector: spec.and_then(|spec| spec.selector.as_ref()).is_some_and(|selector| !selector.is_empty()),
            local_traffic_only: spec.and_then(|spec| spec.external_traffic_policy.as_deref()) == Some("Local"),
            created: created(&service.metadata),
            object: kept.then(|| Arc::new(trimmed(service))),
        })
    }

    /// The port of this number or name.
    pub fn port(&self, wanted: &IntOrString) -> Option<&ServicePort> {
        self.ports.iter().find(|port| match wanted {
            IntOrString::Int(number) => i32::from(port.port) == *number,
            IntOrString::String(name) => port.name == *name,
        })
    }
}

impl ServicePort {
    fn of(port: &k8s_openapi::api::core::v1::ServicePort) -> Option<Self> {
        let number = u16::try_from(port.port).ok()?;
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            port: number,
            protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
            target_port: port.target_port.clone().unwrap_or(IntOrString::Int(port.port)),
            node_port: port.node_port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0),
        })
    }
}

fn trimmed(service: &Service) -> Service {
    let mut kept = service.clone();
    kept.metadata.managed_fields = None;
    if let Some(annotations) = &mut kept.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    kept
}
