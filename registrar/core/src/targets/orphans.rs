//! Gates that no live binding explains. They open, for ever and not once: a pod must not wait for what does not exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nlb::{readiness_gate::ReadinessGate, settings::TargetType};

use super::{
    binding::Binding,
    desk::{Ask, Desk, What},
    gates::opened,
    retry::Retry,
};
use crate::{
    cluster::{BindingRecord, Change, Cluster, GateCondition, GateStatus, Key, PodRecord, Uid},
    effect::{About, Priority, Request},
    event::Denial,
    services::{Promise, Services},
};

/// How long a gate waits for its binding to be seen: admission may have named it after one that is only just made, or
/// promised.
const PATIENCE: Duration = Duration::from_secs(5);
/// For how long an answer that there is no such binding counts.
const ANSWERED: Duration = Duration::from_secs(10);

/// A name of a binding that gates are named after and that there is no binding for.
#[derive(Debug, Default)]
struct Orphan {
    since: Duration,
    asking: bool,
    absent: Option<Duration>,
    retry: Retry,
    /// Patches under way and done, by pod.
    flights: BTreeSet<Uid>,
    done: BTreeMap<Uid, Duration>,
}

/// All such names.
#[derive(Debug, Default)]
pub struct Orphans {
    names: BTreeMap<Key, Orphan>,
    due: Option<Duration>,
}

/// Whether a binding that is there explains a gate of its name.
fn explains(binding: &BindingRecord) -> bool {
    binding.spec.target_type != Some(TargetType::Instance)
}

fn closed(pod: &PodRecord, binding: &Key) -> bool {
    let gate = pod.gate(&binding.name).and_then(|gate| gate.condition.as_ref());
    !pod.is_leaving() && gate.is_none_or(|gate| gate.status != GateStatus::True)
}

impl Orphans {
    /// This process may act from now on.
    pub fn began(&mut self, cluster: &Cluster, now: Duration) {
        self.names.clear();
        self.due = None;
        let names: Vec<Key> = cluster.gate_names().cloned().collect();
        for name in names {
            self.note(&name, cluster, now);
        }
    }

    /// Something has changed.
    pub fn watched(&mut self, change: &Change, cluster: &Cluster, now: Duration) {
        for key in &change.bindings {
            self.note(key, cluster, now);
        }
    }

    fn note(&mut self, key: &Key, cluster: &Cluster, now: Duration) {
        let explained = cluster.bindings.get(key).is_some_and(explains);
        if explained || !cluster.gated(key).any(|pod| closed(pod, key)) {
            self.names.remove(key);
            return;
        }
        let orphan = self.names.entry(key.clone()).or_insert_with(|| Orphan { since: now, ..Orphan::default() });
        let due = (orphan.since + PATIENCE).max(now);
        self.due = Some(self.due.map_or(due, |before| before.min(due)));
    }

    /// When to work again.
    pub fn deadline(&self) -> Option<Duration> {
        self.due
    }

    /// Opens gates that have waited long enough.
    pub fn work(&mut self, bindings: &BTreeMap<Key, Binding>, services: &Services, desk: &mut Desk<'_>) {
        if self.due.is_none_or(|due| due > desk.now) {
            return;
        }
        let mut due: Option<Duration> = None;
        let mut ring = |at: Duration| due = Some(due.map_or(at, |before| before.min(at)));
        for (key, orphan) in &mut self.names {
            let now = desk.now;
            if orphan.since + PATIENCE > now {
                ring(orphan.since + PATIENCE);
                continue;
            }
            let promise = services.promised(key);
            let condition = match promise {
                Some(Promise::Building) => {
                    ring(now + Duration::from_secs(1));
                    continue;
                }
                Some(Promise::Failed(because)) => opened("BuildFailed", because.clone()),
                Some(Promise::Stalled(because)) => opened("BuildDeadline", because.clone()),
                None => opened("BindingGone", format!("there is no binding {} for it", key.name)),
            };
            let instance = bindings.contains_key(key);
            let confirmed = instance || orphan.absent.is_some_and(|at| now.saturating_sub(at) < ANSWERED);
            if !confirmed {
                ring(ask(key, orphan, desk));
                continue;
            }
            orphan.done.retain(|_, at| now.saturating_sub(*at) < Duration::from_secs(30));
            for pod in desk.cluster.gated(key).filter(|pod| closed(pod, key)) {
                let uid = &pod.meta.uid;
                if orphan.flights.contains(uid) || orphan.done.contains_key(uid) {
                    continue;
                }
                release(key, pod, condition.clone(), desk.outbox, desk.asks);
                orphan.flights.insert(uid.clone());
            }
            // Whatever failed or comes later is looked at again.
            ring(now + Duration::from_secs(2));
        }
        self.due = due;
    }

    /// Whether there is such a binding has been answered.
    pub fn answered(&mut self, key: &Key, result: &Result<(), Denial>, desk: &mut Desk<'_>) {
        let Some(orphan) = self.names.get_mut(key) else { return };
        orphan.asking = false;
        match result {
            Err(Denial::NotFound) => {
                orphan.absent = Some(desk.now);
                orphan.retry.clear();
            }
            // It is there: the cache is behind.
            Ok(()) => {
                orphan.since = desk.now;
                orphan.retry.clear();
            }
            Err(_) => orphan.retry.failed(desk.now),
        }
        self.due = Some(desk.now);
    }

    /// A gate has been opened, or not.
    pub fn released(
        &mut self,
        key: &Key,
        uid: &Uid,
        condition: &GateCondition,
        result: &Result<(), Denial>,
        desk: &mut Desk<'_>,
    ) {
        let Some(orphan) = self.names.get_mut(key) else { return };
        orphan.flights.remove(uid);
        if result.is_ok() {
            orphan.done.insert(uid.clone(), desk.now);
            if let Some(pod) = desk.cluster.gated(key).find(|pod| pod.meta.uid == *uid) {
                let message = format!("{}: {}", condition.reason, condition.message);
                desk.publish(key, About::Pod(pod.meta.key.clone(), uid.clone()), false, "GateReleased", message);
            }
        } else if matches!(result, Err(Denial::NotFound | Denial::Replaced)) {
            orphan.done.insert(uid.clone(), desk.now);
        }
    }
}

fn ask(key: &Key, orphan: &mut Orphan, desk: &mut Desk<'_>) -> Duration {
    if orphan.asking {
        return desk.now + Duration::from_secs(1);
    }
    if !orphan.retry.is_due(desk.now) {
        return orphan.retry.at;
    }
    orphan.asking = true;
    let request = Request::GetBinding { binding: key.clone() };
    let ask = Ask { binding: key.clone(), uid: Uid("".into()), what: What::Orphan };
    desk.request(ask, request, Priority::Gates, "pods have its gate and it is not to be seen");
    desk.now + Duration::from_secs(1)
}

fn release(
    key: &Key,
    pod: &PodRecord,
    condition: GateCondition,
    outbox: &mut crate::Outbox,
    asks: &mut BTreeMap<crate::effect::EffectId, Ask>,
) {
    let Ok(name) = ReadinessGate::of_binding(&key.name) else { return };
    let uid = pod.meta.uid.clone();
    let request = Request::PatchGate {
        pod: pod.meta.key.clone(),
        uid: uid.clone(),
        condition_type: name.to_string(),
        condition: condition.clone(),
        moves: true,
    };
    let because = format!("{}: {}", condition.reason, condition.message);
    let cause = crate::effect::Cause { object: key.clone(), because };
    let id = outbox.kubernetes(crate::outbox::Asker::Targets, request, Priority::Gates, cause);
    asks.insert(id, Ask { binding: key.clone(), uid: Uid("".into()), what: What::Gate(uid, condition) });
}
