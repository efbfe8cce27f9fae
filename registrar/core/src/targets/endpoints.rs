//! From what the cluster says to places in the group, each with its holder.

use std::collections::BTreeMap;

use nlb::settings::TargetType;

use super::{
    binding::Binding,
    desk::Desk,
    group::Facts,
    nodes,
    pods::{self, Reading},
    spot::{Claim, Holder, Owner, Presence, Spot, SpotState, Wanted},
};
use crate::{
    Settings,
    cluster::{BindingRecord, Cluster, Key, PodRecord, ServicePort, SliceRecord},
};

/// Where endpoints are read from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// The caches.
    Cache(&'a Cluster),
    /// An answer that no cache gave.
    Answer(&'a [SliceRecord], &'a [PodRecord]),
}

/// Addresses that there should be for a port of the binding's Service.
pub fn addresses_of(
    record: &BindingRecord,
    facts: &Facts,
    port: &ServicePort,
    settings: &Settings,
    source: Source<'_>,
) -> Reading {
    let question = pods::Question { binding: &record.meta.key, port, facts, settings };
    match source {
        Source::Cache(cluster) => {
            let service = Key::new(&record.meta.key.namespace, &record.spec.service_ref.name);
            pods::read(question, cluster.slices_of(&service), |key| cluster.pods.get(key))
        }
        Source::Answer(slices, pods) => {
            let pods: BTreeMap<&Key, &PodRecord> = pods.iter().map(|pod| (&pod.meta.key, pod)).collect();
            pods::read(question, slices.iter(), |key| pods.get(key).copied())
        }
    }
}

impl Binding {
    /// Reads from the cluster what targets there should be, and gives each place its holder.
    pub fn refresh(&mut self, record: &BindingRecord, desk: &Desk<'_>) {
        let Some(facts) = self.facts().cloned() else { return };
        let expired = self.backend.is_given_up(desk.now) && !self.wanted.is_empty();
        if !std::mem::take(&mut self.stale) && !expired {
            return;
        }
        self.read_endpoints(record, &facts, desk);
        let stamp = desk.stamp();
        for (spot, wanted) in &mut self.wanted {
            wanted.contested |= is_contested(spot, wanted, desk);
            // What is not known here was not listed when the group was last looked at.
            let unlisted = || SpotState { looked: self.looks.last, ..SpotState::default() };
            let state = self.spots.entry(spot.clone()).or_insert_with(unlisted);
            state.leaving_since = None;
            match &mut state.holder {
                Some(holder) if holder.owner.uid == wanted.owner.uid => {
                    holder.owner = wanted.owner.clone();
                    if wanted.contested {
                        holder.since = stamp;
                        holder.claim = Claim::Takeover;
                    }
                }
                _ => {
                    let claim = match state.presence(desk.now) {
                        _ if wanted.contested => Claim::Takeover,
                        Presence::Absent if !state.in_flight => Claim::Fresh,
                        _ => Claim::Undecided,
                    };
                    #[cfg(feature = "planted-bugs")]
                    let claim = match desk.settings.planted {
                        Some(crate::planted::Bug::NoTakeoverWait) => Claim::Fresh,
                        Some(crate::planted::Bug::NoUid | crate::planted::Bug::TrustCachedHealthy) => Claim::Adopted,
                        _ => claim,
                    };
                    state.rejected = None;
                    let owner = wanted.owner.clone();
                    state.holder = Some(Holder { owner, since: stamp, claim, registered: None, waiting_since: None });
                }
            }
        }
        for (spot, state) in &mut self.spots {
            if !self.wanted.contains_key(spot) {
                state.leaving_since.get_or_insert(desk.now);
            }
        }
    }

    fn read_endpoints(&mut self, record: &BindingRecord, facts: &Facts, desk: &Desk<'_>) {
        let service_key = Key::new(&self.key.namespace, &record.spec.service_ref.name);
        let service = desk.cluster.services.get(&service_key);
        let port = service.and_then(|service| service.port(&record.spec.service_ref.port));
        let (Some(service), Some(port)) = (service, port) else {
            let what = if service.is_none() { "Service" } else { "port" };
            self.backend.missing.get_or_insert((desk.now, what));
            self.ungated.gateless.clear();
            if self.backend.is_given_up(desk.now) {
                self.wanted.clear();
                self.terminating.clear();
                self.left_out.clear();
            } else {
                self.read_without_service(record, facts, desk);
            }
            return;
        };
        self.backend.missing = None;
        if self.backend.service.as_ref() != Some(&service.meta.uid) {
            if self.backend.service.is_some() {
                self.backend.replaced_at = Some(desk.now);
            }
            self.backend.service = Some(service.meta.uid.clone());
        }
        let reading = match facts.target_type {
            TargetType::Ip => addresses_of(record, facts, port, desk.settings, Source::Cache(desk.cluster)),
            TargetType::Instance => {
                let local = service.local_traffic_only && desk.settings.local_nodes_only;
                nodes::read(service, port, record.spec.node_selector.as_ref(), local, desk.cluster)
            }
        };
        self.backend.port = Some(port.clone());
        self.wanted = reading.wanted;
        self.terminating = reading.terminating;
        self.left_out = reading.left_out;
        self.ungated.gateless = reading.gateless;
    }

    /// Absent for an instant is not absent: targets stay but for those whose pods go. What its slices say holds meanwhile,
    /// for they may tell of its return before it is seen itself.
    fn read_without_service(&mut self, record: &BindingRecord, facts: &Facts, desk: &Desk<'_>) {
        let gone = |wanted: &Wanted| is_leaving(wanted, desk);
        let leaving = self.wanted.iter().filter(|(_, wanted)| gone(wanted));
        self.terminating = leaving.map(|(spot, wanted)| (spot.clone(), wanted.owner.key.clone())).collect();
        self.wanted.retain(|_, wanted| !gone(wanted));
        for wanted in self.wanted.values_mut() {
            wanted.unproven = true;
        }
        if let Some(port) = self.backend.port.as_ref().filter(|_| facts.target_type == TargetType::Ip) {
            let shown = addresses_of(record, facts, port, desk.settings, Source::Cache(desk.cluster));
            self.terminating.extend(shown.terminating);
            self.wanted.extend(shown.wanted);
        }
    }
}

fn is_leaving(wanted: &Wanted, desk: &Desk<'_>) -> bool {
    let Owner { key, uid, .. } = &wanted.owner;
    desk.cluster.pods.is_gone(uid)
        || desk.cluster.pods.get(key).is_some_and(|pod| pod.meta.uid == *uid && pod.is_leaving())
}

/// Whether another pod that may still answer has the address too.
fn is_contested(spot: &Spot, wanted: &Wanted, desk: &Desk<'_>) -> bool {
    let Ok(address) = spot.id.parse() else { return false };
    desk.cluster.pods_at(address).any(|pod| !pod.finished && pod.meta.uid != wanted.owner.uid)
}
