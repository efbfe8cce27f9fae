//! EndpointSlices.

use std::{net::IpAddr, sync::Arc};

use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};
use nlb::service::spec::AddressFamily;

use super::{Meta, Uid};

/// Label with the name of the Service that a slice is of.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label that says who made a slice, and its value for the controller of the cluster.
const MANAGED_BY: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");

/// An endpoint slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceRecord {
    /// Identity.
    pub meta: Meta,
    /// The Service that it is of (`kubernetes.io/service-name`).
    pub service: Arc<str>,
    /// Whether the endpoint slice controller made it.
    pub by_controller: bool,
    /// Address family; nothing for `FQDN`, which is never a target.
    pub family: Option<AddressFamily>,
    /// Ports: name, number, protocol. A port without a number is left out.
    pub ports: Vec<(Arc<str>, u16, String)>,
    /// Endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint of a slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// First address.
    pub address: IpAddr,
    /// `ready`; nothing counts as true, as the API says.
    pub ready: bool,
    /// `serving`; nothing counts as `ready`.
    pub serving: bool,
    /// `terminating`; nothing counts as false.
    pub terminating: bool,
    /// The pod that it names: name and UID. Nothing if it names none, or one of another namespace.
    pub pod: Option<(Arc<str>, Uid)>,
    /// Node.
    pub node: Option<Arc<str>>,
    /// Zone.
    pub zone: Option<Arc<str>>,
}

impl SliceRecord {
    /// Reads a slice; nothing if it has no name or UID, or is of no Service.
    pub fn of(slice: &EndpointSlice) -> Option<Self> {
        let meta = Meta::of(&slice.metadata)?;
        let label = |key: &str| slice.metadata.labels.as_ref().and_then(|labels| labels.get(key));
        let family = match slice.address_type.as_str() {
            "IPv4" => Some(AddressFamily::Ipv4),
            "IPv6" => Some(AddressFamily::Ipv6),
            _ => None,
        };
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            let number = port.port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((port.name.as_deref().unwrap_or_default().into(), number, protocol))
        });
        Some(Self {
            service: label(SERVICE_NAME)?.as_str().into(),
            by_controller: label(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1),
            family,
            ports: ports.collect(),
            endpoints: slice.endpoints.iter().filter_map(|endpoint| Endpoint::of(endpoint, &meta)).collect(),
            meta,
        })
    }
}

impl Endpoint {
    /// Reads an endpoint; nothing if its first address is none.
    fn of(endpoint: &SliceEndpoint, slice: &Meta) -> Option<Self> {
        let address: IpAddr = endpoint.addresses.first()?.parse().ok()?;
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let pod = endpoint.target_ref.as_ref().filter(|target| {
            let namespace = target.namespace.as_deref().unwrap_or(&slice.key.namespace);
            target.kind.as_deref() == Some("Pod") && *namespace == *slice.key.namespace
        });
        Some(Self {
            address,
            ready,
            serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(ready),
            terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
            pod: pod.and_then(|pod| Some((pod.name.as_deref()?.into(), Uid(pod.uid.as_deref()?.into())))),
            node: endpoint.node_name.as_deref().map(Into::into),
            zone: endpoint.zone.as_deref().map(Into::into),
        })
    }
}
