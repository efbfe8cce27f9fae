//! Which pods are targets: endpoint slices, merged, with proof for every endpoint.

use std::collections::BTreeMap;

use nlb::targetgroupbinding::TargetGroupProtocol;

use super::{
    group::Facts,
    spot::{Owner, Spot, Wanted},
};
use crate::{
    cluster::{Endpoint, Key, PodRecord, ServicePort, SliceRecord, Uid},
    settings::{Settings, planted},
};

/// What the endpoints of a Service say.
#[derive(Debug, Default)]
pub struct Reading {
    /// Targets that there should be.
    pub wanted: BTreeMap<Spot, Wanted>,
    /// Places whose pod is said to terminate.
    pub terminating: BTreeMap<Spot, Key>,
    /// Endpoints that are no targets although their pods are alive, and why.
    pub left_out: BTreeMap<Key, LeftOut>,
    /// Pods that are selected and have no gate of the binding.
    pub gateless: Vec<Key>,
}

/// Why an endpoint is no target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeftOut {
    /// Nothing proves that the address is the pod's.
    Unproven(&'static str),
    /// The pod uses its node's address.
    HostNetwork,
    /// Its containers are not ready.
    NotReady,
    /// A readiness gate of somebody else is not open.
    ForeignGate,
    /// A QUIC group, and the pod has no server id.
    NoServerId,
}

impl LeftOut {
    /// One word, for metrics and conditions.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unproven(_) => "UnprovenEndpoint",
            Self::HostNetwork => "HostNetwork",
            Self::NotReady => "NotReady",
            Self::ForeignGate => "ForeignGate",
            Self::NoServerId => "NoQuicServerId",
        }
    }
}

/// What is asked of an endpoint slice's endpoints.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The binding.
    pub binding: &'a Key,
    /// The port of the Service.
    pub port: &'a ServicePort,
    /// What is known of the group.
    pub facts: &'a Facts,
    /// Settings.
    pub settings: &'a Settings,
}

/// Reads the endpoints of a Service.
pub fn read<'a>(
    question: Question<'_>,
    slices: impl Iterator<Item = &'a SliceRecord>,
    pod: impl Fn(&Key) -> Option<&'a PodRecord>,
) -> Reading {
    let mut reading = Reading::default();
    for slice in slices.filter(|slice| slice.family == Some(question.facts.family)) {
        let port = slice.ports.iter().find(|(name, _, protocol)| {
            **name == *question.port.name && fits(question.facts.protocol, &question.port.protocol, protocol)
        });
        let Some((_, port, _)) = port else { continue };
        for endpoint in &slice.endpoints {
            take(question, &mut reading, slice, *port, endpoint, &pod);
        }
    }
    reading.gateless.sort();
    reading.gateless.dedup();
    for wanted in reading.wanted.values() {
        reading.left_out.remove(&wanted.owner.key);
    }
    reading
}

/// A group that takes TCP and UDP takes the Service's port of either protocol; slices have both under names of their own.
fn fits(group: Option<TargetGroupProtocol>, of_service: &str, of_slice: &str) -> bool {
    match group {
        Some(TargetGroupProtocol::TcpUdp | TargetGroupProtocol::TcpQuic) => true,
        _ => of_service == of_slice,
    }
}

fn take<'a>(
    question: Question<'_>,
    reading: &mut Reading,
    slice: &SliceRecord,
    port: u16,
    endpoint: &Endpoint,
    pod: &impl Fn(&Key) -> Option<&'a PodRecord>,
) {
    let spot = Spot { id: endpoint.address.to_string().into(), port };
    let Some((name, uid)) = &endpoint.pod else {
        return;
    };
    let key = slice.meta.key.sibling(name);
    let record = pod(&key);
    let pod = match prove(question, slice, endpoint, uid, record) {
        Ok(pod) => pod,
        Err(Unproved::Leaving) => {
            reading.terminating.insert(spot, key);
            return;
        }
        Err(Unproved::Because(because)) => {
            reading.left_out.insert(key, because);
            return;
        }
    };
    let gate = pod.gate(&question.binding.name);
    if gate.is_none() {
        reading.gateless.push(key.clone());
    }
    if endpoint.terminating {
        reading.terminating.insert(spot, key);
        return;
    }
    // Not ready only because gates of ours are closed is as good as ready: that is how a gate can ever open. The pod's own
    // conditions are newer than what the slice says of them.
    let ready = endpoint.ready || (pod.containers_ready && !pod.held_by_foreign_gate);
    if !ready {
        let because = if pod.containers_ready { LeftOut::ForeignGate } else { LeftOut::NotReady };
        reading.left_out.insert(key, because);
        return;
    }
    let quic = matches!(question.facts.protocol, Some(TargetGroupProtocol::Quic | TargetGroupProtocol::TcpQuic));
    let server_id = || pod.quic_server_ids.get(&port).or_else(|| pod.quic_server_ids.get(&0)).cloned();
    let quic_server_id = if quic { server_id() } else { None };
    if quic && quic_server_id.is_none() {
        reading.left_out.insert(key, LeftOut::NoServerId);
        return;
    }
    let owner = Owner { key, uid: pod.meta.uid.clone(), gated: gate.is_some() };
    let zone = zone(question, endpoint);
    let wanted = Wanted { owner, contested: false, unproven: false, zone, quic_server_id };
    match reading.wanted.get_mut(&spot) {
        // Two pods with one address, both proven: neither is known to answer there.
        Some(other) if other.owner.uid != wanted.owner.uid => other.contested = true,
        Some(_) => {}
        None => {
            reading.wanted.insert(spot, wanted);
        }
    }
}

enum Unproved {
    /// Its pod is on its way out.
    Leaving,
    Because(LeftOut),
}

/// The five proofs: the slice is the endpoint controller's; it names a pod of its namespace; the pod of that name has that
/// UID; the address is the pod's own; and the pod can have one (it is not ended, and not on its node's network).
fn prove<'a>(
    question: Question<'_>,
    slice: &SliceRecord,
    endpoint: &Endpoint,
    uid: &Uid,
    record: Option<&'a PodRecord>,
) -> Result<&'a PodRecord, Unproved> {
    let because = |text| Err(Unproved::Because(LeftOut::Unproven(text)));
    if !slice.by_controller {
        return because("the slice was not made by the endpoint slice controller");
    }
    let Some(pod) = record else { return because("the pod is not known yet") };
    if planted!(question.settings, MatchByName) {
        return Ok(pod);
    }
    if pod.meta.uid != *uid {
        return because("the pod of this name is another one");
    }
    if pod.host_network {
        return Err(Unproved::Because(LeftOut::HostNetwork));
    }
    if !pod.addresses.contains(&endpoint.address) {
        return because("the address is not the pod's");
    }
    if pod.is_leaving() {
        return Err(Unproved::Leaving);
    }
    Ok(pod)
}

/// `all` for what is outside the VPC: AWS wants the zone of such an address named, and refuses one for those within.
fn zone(question: Question<'_>, endpoint: &Endpoint) -> Option<&'static str> {
    let vpc = question.settings.vpc.as_ref()?;
    let elsewhere = question.facts.vpc.as_ref().is_some_and(|id| *id != vpc.id);
    let within = vpc.subnets.iter().any(|subnet| subnet.contains(&endpoint.address));
    (elsewhere || (!within && !vpc.subnets.is_empty())).then_some("all")
}
