//! Gates that no live binding explains. They open, for ever and not once: a pod must not wait for what does not exist.

use std::{collections::BTreeMap, time::Duration};

use nlb::settings::TargetType;

use super::{
    binding::Binding,
    desk::{Ask, Desk, What},
    gates::opened,
    patches::Gates,
    retry::{Alarm, Retry},
};
use crate::{
    cluster::{BindingRecord, Change, Cluster, GateCondition, GateStatus, Key, PodRecord, Uid},
    effect::{Priority, Request},
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
}

/// All such names.
#[derive(Debug, Default)]
pub struct Orphans {
    names: BTreeMap<Key, Orphan>,
    /// What was written to gates of names that no binding is at work for.
    gates: BTreeMap<Key, Gates>,
    due: Option<Duration>,
}

/// Whether a binding that is there explains a gate of its name.
fn explains(binding: &BindingRecord) -> bool {
    binding.spec.target_type != Some(TargetType::Instance)
}

fn closed(pod: &PodRecord, gate: Option<&GateCondition>) -> bool {
    !pod.is_leaving() && gate.is_none_or(|gate| gate.status != GateStatus::True)
}

fn closed_as_cached(pod: &PodRecord, binding: &Key) -> bool {
    closed(pod, pod.gate(&binding.name).and_then(|gate| gate.condition.as_ref()))
}

/// How long what was written is kept at most without being looked through.
const KEPT: Duration = Duration::from_secs(30);

impl Orphans {
    /// This process may act from now on.
    pub fn began(&mut self, cluster: &Cluster, now: Duration) {
        self.names.clear();
        self.due = None;
        for gates in self.gates.values_mut() {
            gates.interrupted(now);
        }
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
        if explained || !cluster.gated(key).any(|pod| closed_as_cached(pod, key)) {
            self.names.remove(key);
            return;
        }
        let orphan = self.names.entry(key.clone()).or_insert_with(|| Orphan { since: now, ..Orphan::default() });
        let due = (orphan.since + PATIENCE).max(now);
        self.ring(due);
    }

    /// A binding is no longer at work: what was written to its gates is known here from now on.
    pub fn keep(&mut self, key: &Key, gates: Gates, now: Duration) {
        if !gates.is_empty() {
            self.gates.insert(key.clone(), gates);
            self.ring(now + KEPT);
        }
    }

    /// A binding is at work: it has to know what was written to its gates.
    pub fn give(&mut self, key: &Key) -> Gates {
        self.gates.remove(key).unwrap_or_default()
    }

    fn ring(&mut self, at: Duration) {
        self.due = Some(self.due.map_or(at, |before| before.min(at)));
    }

    /// When to work again.
    pub fn deadline(&self) -> Option<Duration> {
        self.due
    }

    /// Opens gates that have waited long enough.
    pub fn work(&mut self, bindings: &mut BTreeMap<Key, Binding>, services: &Services, desk: &mut Desk<'_>) {
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
            let gates = match bindings.get_mut(key) {
                Some(binding) => &mut binding.gates,
                None => self.gates.entry(key.clone()).or_default(),
            };
            let cluster = desk.cluster;
            for pod in cluster.gated(key) {
                if closed(pod, gates.effective(key, pod)) || gates.is_supposed(&pod.meta.uid) {
                    let because = format!("{}: {}", condition.reason, condition.message);
                    gates.set(key, pod, condition.clone(), because, desk, &mut Alarm::default());
                }
            }
            // Whatever failed or comes later is looked at again.
            ring(now + Duration::from_secs(2));
        }
        self.gates.retain(|key, gates| {
            gates.tidy(key, desk);
            !gates.is_empty()
        });
        if !self.gates.is_empty() {
            ring(desk.now + KEPT);
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

    /// A patch of a gate that no binding is at work for has ended.
    pub fn patched(
        &mut self,
        key: &Key,
        uid: &Uid,
        condition: &GateCondition,
        result: &Result<(), Denial>,
        desk: &mut Desk<'_>,
    ) {
        if let Some(gates) = self.gates.get_mut(key) {
            gates.ended(key, uid, condition, result, desk);
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
