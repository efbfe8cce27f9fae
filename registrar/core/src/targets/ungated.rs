//! Pods that a binding selects and that should have its gate and do not: nobody waits for their targets in a rollout.

use std::collections::{BTreeMap, BTreeSet};

use nlb::{readiness_gate::ReadinessGate, settings::TargetType};

use super::{binding::Binding, desk::Desk, pods::LeftOut};
use crate::{
    cluster::{BindingRecord, Key, PodRecord, ServiceRecord, Uid},
    effect::About,
};

/// How many pods of one binding get an Event of their own at once; the others are counted in one on the binding.
const EACH: usize = 10;

/// Pods without a gate.
#[derive(Debug, Default)]
pub struct Ungated {
    /// All that are selected and have none, whether they should or not.
    pub gateless: Vec<Key>,
    /// Those that should, by reason.
    pub counts: BTreeMap<&'static str, usize>,
    /// Those of which it has been said.
    announced: BTreeSet<Uid>,
}

impl Ungated {
    /// What was said is kept when everything else begins anew.
    pub fn inherit(&mut self, before: Self) {
        self.announced = before.announced;
    }
}

/// Why a pod has no gate. Times of creation are the API server's, and serve to explain only.
fn reason(pod: &PodRecord, binding: &BindingRecord, service: Option<&ServiceRecord>) -> (&'static str, String) {
    let name = &binding.meta.key.name;
    if let Err(error) = ReadinessGate::of_binding(name) {
        return ("NoGateName", error.to_string());
    }
    if service.is_some_and(|service| pod.created < service.created) {
        let message = "it was created before the Service; restart it to get the gate".to_owned();
        return ("CreatedBeforeService", message);
    }
    if pod.created < binding.created {
        let message = format!("it was created before binding {name}; restart it to get the gate");
        return ("CreatedBeforeBinding", message);
    }
    let message = "the webhook did not see it, or the namespace was labelled later; restart it to get the gate";
    ("NotInjected", message.to_owned())
}

impl Binding {
    /// Says which endpoints can be no targets for a reason that somebody has to do something about.
    pub fn report_left_out(&mut self, desk: &mut Desk<'_>) {
        let kinds = [
            (
                LeftOut::HostNetwork,
                "HostNetworkRefused",
                "use their node's network: such an address is not the pod's alone",
            ),
            (LeftOut::NoServerId, "QuicServerIdMissing", "have no QUIC server id in any container"),
        ];
        for (kind, reason, what) in kinds {
            let mut names = self.left_out.iter().filter(|(_, because)| **because == kind).map(|(pod, _)| &*pod.name);
            let Some(first) = names.next() else {
                self.said.remove(reason);
                continue;
            };
            let others = names.count();
            let pods = if others == 0 { first.to_owned() } else { format!("{first} and {others} more") };
            if !self.said.contains_key(reason) {
                self.say(desk, true, reason, format!("pods that {what} are not registered: {pods}"));
            }
        }
        let mut ids: BTreeMap<&str, &Key> = BTreeMap::new();
        let collision = self.wanted.values().find_map(|wanted| {
            let id = wanted.quic_server_id.as_deref()?;
            let other = ids.insert(id, &wanted.owner.key)?;
            (*other != wanted.owner.key)
                .then(|| format!("pods {} and {} have the QUIC server id {id}", other.name, wanted.owner.key.name))
        });
        match collision {
            Some(message) => self.say(desk, true, "QuicServerIdCollision", format!("{message}; restart one of them")),
            None => {
                self.said.remove("QuicServerIdCollision");
            }
        }
    }

    /// Counts them, and says it once of each.
    pub fn report_ungated(&mut self, record: &BindingRecord, desk: &mut Desk<'_>) {
        self.ungated.counts.clear();
        let of_pods = self.facts().is_some_and(|facts| facts.target_type == TargetType::Ip);
        let namespace = desk.cluster.namespaces.get(&Key::new("", &self.key.namespace));
        if !of_pods || record.meta.deleting || !namespace.is_some_and(|namespace| namespace.gates_wanted) {
            return;
        }
        let service = desk.cluster.services.get(&Key::new(&self.key.namespace, &record.spec.service_ref.name));
        let mut new = Vec::new();
        let mut present = BTreeSet::new();
        for key in &self.ungated.gateless {
            let Some(pod) = desk.cluster.pods.get(key) else { continue };
            if pod.gates_declined || pod.host_network || pod.is_leaving() {
                continue;
            }
            let (word, message) = reason(pod, record, service);
            *self.ungated.counts.entry(word).or_default() += 1;
            present.insert(pod.meta.uid.clone());
            if !self.ungated.announced.contains(&pod.meta.uid) {
                new.push((pod.meta.key.clone(), pod.meta.uid.clone(), word, message));
            }
        }
        self.ungated.announced.retain(|uid| present.contains(uid));
        let others = new.len().saturating_sub(EACH);
        for (index, (pod, uid, word, message)) in new.into_iter().enumerate() {
            if index < EACH {
                let message = format!("no readiness gate of binding {} ({word}): {message}", self.key.name);
                desk.publish(&self.key, About::Pod(pod, uid.clone()), true, "UngatedPod", message);
            }
            self.ungated.announced.insert(uid);
        }
        if others > 0 {
            let message = format!("{others} more pods have no readiness gate of this binding; restart them to get it");
            self.said.remove("UngatedPods");
            self.say(desk, true, "UngatedPods", message);
        }
    }
}
