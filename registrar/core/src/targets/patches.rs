//! Patches of gates: what was written, until the cache has it.

use std::{collections::BTreeMap, time::Duration};

use nlb::readiness_gate::ReadinessGate;

use super::{
    desk::{Ask, Desk, What},
    retry::{Alarm, Retry},
};
use crate::{
    cluster::{GateCondition, GateStatus, Key, PodRecord, Uid},
    effect::{About, EffectId, Priority, Request},
    event::Denial,
};

/// For how long what was written is believed although the cache says otherwise.
const BELIEVED: Duration = Duration::from_secs(30);

/// A gate of one pod.
#[derive(Debug, Clone, Default)]
struct PodGate {
    flight: Option<(EffectId, GateCondition)>,
    /// What was written last, and until when it is believed, unless the cache has it before.
    written: Option<(GateCondition, Duration)>,
    /// Whether it will never be heard if what is taken for written was: then nothing is undone on that ground, and whatever
    /// is to be there is written again.
    supposed: bool,
    retry: Retry,
    /// The pod is gone or replaced, whatever the cache says.
    over: bool,
}

/// The gates of one name, as far as more is known of them than the cache has. They belong to pods and outlive the
/// binding that they are named after: one that is made anew finds them as they are, not as a cache that is behind
/// remembers them.
#[derive(Debug, Default)]
pub struct Gates {
    pods: BTreeMap<Uid, PodGate>,
}

impl Gates {
    /// What a pod's gate says, with what is being written or was written last in front of what the cache has.
    pub fn effective<'a>(&'a self, name: &Key, pod: &'a PodRecord) -> Option<&'a GateCondition> {
        let cached = pod.gate(&name.name)?.condition.as_ref();
        let Some(gate) = self.pods.get(&pod.meta.uid) else { return cached };
        let flight = gate.flight.as_ref().map(|(_, condition)| condition);
        flight.or(gate.written.as_ref().map(|(condition, _)| condition)).or(cached)
    }

    /// Whether it is not sure that a pod's gate is as it is taken to be.
    pub fn is_supposed(&self, pod: &Uid) -> bool {
        self.pods.get(pod).is_some_and(|gate| gate.supposed && gate.flight.is_none())
    }

    /// Whether nothing is known that the cache does not have.
    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }

    /// Queues a patch of a gate, unless one is under way or it failed a moment ago.
    pub fn set(
        &mut self,
        name: &Key,
        pod: &PodRecord,
        condition: GateCondition,
        because: String,
        desk: &mut Desk<'_>,
        alarm: &mut Alarm,
    ) {
        let moves = self.effective(name, pod).map(|current| current.status) != Some(condition.status);
        let uid = &pod.meta.uid;
        let gate = self.pods.entry(uid.clone()).or_default();
        if gate.over || gate.flight.is_some() {
            return;
        }
        if !gate.retry.is_due(desk.now) {
            alarm.at(gate.retry.at);
            return;
        }
        let Ok(condition_type) = ReadinessGate::of_binding(&name.name) else { return };
        let request = Request::PatchGate {
            pod: pod.meta.key.clone(),
            uid: uid.clone(),
            condition_type: condition_type.to_string(),
            condition: condition.clone(),
            moves,
        };
        let what = What::Gate(uid.clone(), condition.clone());
        let ask = Ask { binding: name.clone(), uid: Uid("".into()), what };
        let id = desk.request(ask, request, Priority::Gates, because);
        gate.flight = Some((id, condition));
    }

    /// A patch of a gate has ended.
    pub fn ended(
        &mut self,
        name: &Key,
        uid: &Uid,
        condition: &GateCondition,
        result: &Result<(), Denial>,
        desk: &mut Desk<'_>,
    ) {
        let pod = desk.cluster.gated(name).find(|pod| pod.meta.uid == *uid);
        let Some(gate) = self.pods.get_mut(uid) else { return };
        gate.flight = None;
        match result {
            Ok(()) => {
                let before = gate.written.take().map(|(before, _)| before);
                gate.retry.clear();
                gate.written = Some((condition.clone(), desk.now + BELIEVED));
                gate.supposed = false;
                let cached = pod.and_then(|pod| pod.gate(&name.name)).and_then(|gate| gate.condition.clone());
                let before = before.or(cached).map(|before| before.status);
                if let Some(pod) = pod.filter(|_| before != Some(condition.status)) {
                    let about = About::Pod(pod.meta.key.clone(), uid.clone());
                    publish(name, about, condition, before, desk);
                }
            }
            // Another pod has the name, or none: nobody waits for this gate.
            Err(Denial::Replaced | Denial::NotFound) => gate.over = true,
            Err(Denial::Conflict) => gate.retry.at = desk.now + Duration::from_millis(200),
            Err(Denial::NotSent(_)) => gate.retry.at = desk.now + Duration::from_secs(1),
            Err(denial) => {
                if matches!(denial, Denial::Unknown(_)) {
                    if condition.status == GateStatus::True {
                        gate.written = Some((condition.clone(), desk.now + BELIEVED));
                    }
                    gate.supposed = gate.written.is_some();
                }
                gate.retry.failed(desk.now);
            }
        }
    }

    /// Nothing will be heard of the patches under way, time may have passed, and others may have written: gates that were
    /// opened are supposed to be open still, and of the others the cache knows best.
    pub fn interrupted(&mut self, now: Duration) {
        for gate in self.pods.values_mut() {
            let last = gate.flight.take().map(|(_, condition)| condition);
            let last = last.or(gate.written.take().map(|(condition, _)| condition));
            gate.written = last.filter(|last| last.status == GateStatus::True).map(|opened| (opened, now + BELIEVED));
            gate.supposed = gate.written.is_some();
        }
    }

    /// Drops what the cache has caught up with, and pods that are gone.
    pub fn tidy(&mut self, name: &Key, desk: &Desk<'_>) {
        if self.pods.is_empty() {
            return;
        }
        let cached: BTreeMap<&Uid, Option<&GateCondition>> = desk
            .cluster
            .gated(name)
            .map(|pod| (&pod.meta.uid, pod.gate(&name.name).and_then(|gate| gate.condition.as_ref())))
            .collect();
        self.pods.retain(|uid, gate| {
            let cached = cached.get(uid);
            gate.written = gate.written.take().filter(|(condition, until)| {
                // A pod that a list from the past does not have comes back as it was then.
                let caught_up = cached.map_or(desk.cluster.pods.is_gone(uid), |cached| *cached == Some(condition));
                !caught_up && desk.now < *until
            });
            gate.supposed &= gate.written.is_some();
            if cached.is_none() {
                return gate.flight.is_some() || gate.written.is_some();
            }
            // How often it failed counts until it has not failed for a while.
            let failed = gate.retry.failures > 0 && desk.now < gate.retry.at + BELIEVED;
            gate.flight.is_some() || gate.written.is_some() || gate.over || failed || !gate.retry.is_due(desk.now)
        });
    }
}

fn publish(name: &Key, about: About, condition: &GateCondition, before: Option<GateStatus>, desk: &mut Desk<'_>) {
    let message = format!("{}: {}", condition.reason, condition.message);
    match (condition.status, before) {
        (GateStatus::True, _) if condition.reason.is_empty() => {
            let message = format!("the target of binding {} is healthy", name.name);
            desk.publish(name, about, false, "TargetHealthy", message);
        }
        (GateStatus::True, _) => desk.publish(name, about, false, "GateReleased", message),
        (_, Some(GateStatus::True)) => desk.publish(name, about, true, "TargetUnhealthy", message),
        _ => {}
    }
}
