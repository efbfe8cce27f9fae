//! Rules about gates.

use std::{collections::BTreeSet, time::Duration};

use nlb::readiness_gate::ReadinessGate;
use registrar_core::{
    aws::HealthState,
    cluster::{GateCondition, GateStatus, Key, PodRecord, Uid},
    effect::{Action, Request},
};

use super::{
    books::Books,
    view::{Look, View},
};
use crate::{
    fact::{Fact, Number, TargetKey},
    plane::{INTERVAL, TARGET_PORT, THRESHOLD},
};

/// Reasons for an open gate that speak of no health.
const WITHOUT_HEALTH: [&str; 5] = ["BindingGone", "BuildFailed", "BuildDeadline", "NotInUseAllowed", "GateTimeout"];

/// A gate that a registrar wants changed.
struct Patch<'a> {
    replica: Number,
    view: &'a View,
    pod: &'a Key,
    uid: &'a Uid,
    condition_type: &'a str,
    /// The binding that the gate is named after.
    binding: String,
    condition: &'a GateCondition,
}

fn patch<'a>(books: &'a Books, fact: &'a Fact<'_>) -> Option<Patch<'a>> {
    let Fact::Wants { replica, effect } = fact else { return None };
    let Action::Kubernetes(Request::PatchGate { pod, uid, condition_type, condition, .. }) = &effect.action else {
        return None;
    };
    let binding = ReadinessGate::parse(condition_type)?.binding().to_owned();
    Some(Patch { replica: *replica, view: &books.views[*replica], pod, uid, condition_type, binding, condition })
}

impl Patch<'_> {
    fn opens(&self) -> bool {
        self.condition.status == GateStatus::True
    }

    fn without_health(&self) -> bool {
        WITHOUT_HEALTH.contains(&self.condition.reason.as_str())
    }

    fn says(&self) -> String {
        let (pod, uid) = (&self.pod.name, &self.uid.0);
        format!("gate {} of pod {pod} ({uid}) to {:?}: {}", self.binding, self.condition.status, self.condition.reason)
    }

    fn pod(&self) -> Option<&PodRecord> {
        self.view.pod(self.pod).filter(|pod| pod.meta.uid == *self.uid)
    }

    /// The gate as this registrar was told it is, unless it has closed it itself since.
    fn is_open(&self) -> bool {
        let closed = self.view.wanted_gates.get(&(self.uid.clone(), self.condition_type.to_owned()));
        if closed.is_some_and(|(status, _)| *status == GateStatus::False) {
            return false;
        }
        let gate = self.pod().and_then(|pod| pod.gates.iter().find(|gate| *gate.binding == *self.binding));
        gate.and_then(|gate| gate.condition.as_ref()).is_some_and(|c| c.status == GateStatus::True)
    }

    fn group(&self) -> Option<&str> {
        self.view.binding(&self.pod.namespace, &self.binding)?.spec.target_group_arn.as_deref()
    }

    fn target(&self) -> Option<TargetKey> {
        let address = self.pod()?.addresses.first()?.to_string();
        Some(TargetKey { group: self.group()?.to_owned(), address, port: TARGET_PORT })
    }
}

/// S1: open on health only after a look, asked for after this pod's own registration was acknowledged and while it was the
/// sole owner of its address as far as the registrar knew, has said healthy, by checks that this pod has answered. Where the target was healthy
/// before it became this pod's, it must have been this pod's for as long as it takes to notice a change.
///
/// By whose answers it was decided is not asked of a pod that is terminating or gone in storage: its address may have
/// passed on without the registrar's having been told, and no gate of such a pod makes anybody ready.
pub(super) fn fresh_verdict(books: &Books, _: Duration, fact: &Fact<'_>) -> Option<String> {
    let patch = patch(books, fact).filter(|p| p.opens() && !p.without_health())?;
    let Some(key) = patch.target() else {
        return Some(format!("{}, but it knows of no target of this pod", patch.says()));
    };
    let looks = patch.view.looks.get(&key.group).map(Vec::as_slice).unwrap_or_default();
    let reasons: Vec<String> = looks.iter().rev().filter_map(|look| unfit(books, &patch, &key, look)).collect();
    if !looks.is_empty() && reasons.len() < looks.len() {
        return None;
    }
    let why = reasons.first().map_or("it has never looked", String::as_str);
    Some(format!("{} on {}:{}, but {why}", patch.says(), key.address, key.port))
}

/// Why a look does not justify opening a gate.
fn unfit(books: &Books, patch: &Patch<'_>, key: &TargetKey, look: &Look) -> Option<String> {
    let sent = look.sent_at;
    if look.answered_at.is_none() {
        return Some("the answer has not arrived".to_owned());
    }
    if look.states.get(key).is_none_or(|(state, _)| *state != HealthState::Healthy) {
        return Some(format!("the look of {sent:?} says {:?}", look.states.get(key)));
    }
    // Acknowledged to whomever: an open gate of this pod tells the next leader of it.
    let acknowledged = books.acknowledged.get(key).into_iter().flatten();
    if !acknowledged.clone().any(|a| a.owners.contains(patch.uid) && a.at <= sent) {
        let known: Vec<_> = acknowledged.map(|a| (a.at, &a.owners)).collect();
        return Some(format!("no registration for it was acknowledged before the look of {sent:?}, but {known:?}"));
    }
    let owners = look.owners.get(&key.address);
    if owners.is_none_or(|owners| owners.len() != 1 || !owners.contains(patch.uid)) {
        return Some(format!("it knew of {owners:?} as owners of {} at {sent:?}", key.address));
    }
    let Some(since) = books.owner_since(&key.address, patch.uid) else {
        return Some(format!("it never had {}", key.address));
    };
    if books.is_leaving(patch.uid) {
        return None;
    }
    let own = Some(patch.uid.clone());
    let decided = look.decided_by.get(key);
    if decided.is_some_and(|by| by.len() == 1 && by.contains(&own)) {
        return None;
    }
    // The wait is measured by the registrar's clock, which may be fast.
    let wait = INTERVAL * THRESHOLD * 100 / books.rates[patch.replica].max(100);
    if sent >= since + wait {
        return None;
    }
    Some(format!("the checks that decided were answered by {decided:?}, and it owns the address since {since:?} only"))
}

/// S2: a patch carries a UID that the pod of this name has, as far as this registrar was told.
pub(super) fn right_pod(books: &Books, _: Duration, fact: &Fact<'_>) -> Option<String> {
    let patch = patch(books, fact)?;
    let known = patch.view.pod(patch.pod);
    let gone = patch.view.gone.contains(patch.uid);
    if known.is_some_and(|pod| pod.meta.uid == *patch.uid) || gone {
        return None;
    }
    Some(format!("{}, but it knows {:?} by this name", patch.says(), known.map(|pod| &pod.meta.uid)))
}

/// True without health only for the reasons of the closed list, each where it holds.
pub(super) fn closed_list(books: &Books, _: Duration, fact: &Fact<'_>) -> Option<String> {
    let patch = patch(books, fact).filter(|p| p.opens() && p.without_health())?;
    let binding = patch.view.binding(&patch.pod.namespace, &patch.binding);
    let state = patch.target().and_then(|key| {
        let look = patch.view.last_look(&key.group)?;
        look.states.get(&key).map(|(state, _)| state.clone())
    });
    let holds = match patch.condition.reason.as_str() {
        "BindingGone" => binding.is_none_or(|binding| binding.meta.deleting),
        "NotInUseAllowed" => {
            binding.is_some_and(|binding| binding.open_when_not_in_use) && state == Some(HealthState::Unused)
        }
        "GateTimeout" => binding.is_some_and(|binding| binding.gate_timeout.is_some()),
        // There are no load balancers of Services here.
        _ => false,
    };
    (!holds).then(|| format!("{}, but the binding is {binding:?} and the target {state:?}", patch.says()))
}

/// S12: only a look that says not healthy, or not registered, closes an open gate. What says nothing of the target closes
/// none.
pub(super) fn error_is_not_health(books: &Books, _: Duration, fact: &Fact<'_>) -> Option<String> {
    let patch = patch(books, fact).filter(|p| !p.opens() && p.is_open())?;
    let key = patch.target()?;
    let Some(look) = patch.view.last_look(&key.group) else {
        return Some(format!("{}, but it has never looked", patch.says()));
    };
    (!says_bad(look, &key)).then(|| {
        let says = look.states.get(&key);
        format!("{}, but the look of {:?} says {says:?}", patch.says(), look.sent_at)
    })
}

/// Whether a look says that a target is not healthy, or not registered.
fn says_bad(look: &Look, key: &TargetKey) -> bool {
    match look.states.get(key) {
        None => true,
        Some((HealthState::Unused, reason)) => reason.as_deref() == Some("Target.NotRegistered"),
        Some((state, _)) => matches!(
            state,
            HealthState::Unhealthy | HealthState::UnhealthyDraining | HealthState::Draining | HealthState::Initial
        ),
    }
}

/// S13: between two changes of a gate lies a new look.
pub(super) fn no_flap(books: &Books, _: Duration, fact: &Fact<'_>) -> Option<String> {
    let patch = patch(books, fact).filter(|p| !p.without_health())?;
    let name = (patch.uid.clone(), patch.condition_type.to_owned());
    let (status, since) = patch.view.wanted_gates.get(&name)?;
    let group = patch.group()?;
    let changes = (*status == GateStatus::True) != patch.opens();
    let looked = patch.view.answered(group).any(|look| look.answered_at.is_some_and(|at| at > *since));
    (changes && !looked)
        .then(|| format!("{}, without a look since it was wanted {status:?} at {since:?}", patch.says()))
}

/// The brake on gates: when most of a group turns bad in one look, open gates wait for a second one.
pub(super) fn fail_open(books: &Books, _: Duration, fact: &Fact<'_>) -> Option<String> {
    let patch = patch(books, fact).filter(|p| !p.opens() && p.is_open())?;
    let key = patch.target()?;
    let mut looks = patch.view.answered(&key.group).rev();
    let last = looks.next()?;
    let before = looks.next();
    let open: BTreeSet<TargetKey> = patch
        .view
        .pods()
        .filter(|pod| pod.meta.key.namespace == patch.pod.namespace && !pod.meta.deleting)
        .filter(|pod| {
            let gate = pod.gates.iter().find(|gate| *gate.binding == *patch.binding);
            gate.and_then(|gate| gate.condition.as_ref()).is_some_and(|c| c.status == GateStatus::True)
        })
        // One that it has closed after an earlier look, and was not told of yet, did not turn in this one.
        .filter(|pod| {
            let gate = (pod.meta.uid.clone(), patch.condition_type.to_owned());
            let wanted = patch.view.wanted_gates.get(&gate);
            pod.meta.uid == *patch.uid
                || wanted.is_none_or(|(status, at)| {
                    *status == GateStatus::True || last.answered_at.is_some_and(|answered| *at >= answered)
                })
        })
        .filter_map(|pod| pod.addresses.first())
        .map(|address| TargetKey { address: address.to_string(), ..key.clone() })
        .collect();
    let bad = open.iter().filter(|key| says_bad(last, key)).count();
    let listed = last.states.iter().filter(|(_, (state, _))| *state != HealthState::Draining).map(|(key, _)| key);
    let all = listed.chain(&open).collect::<BTreeSet<_>>().len();
    let most = all >= 2 && bad * 2 > all;
    let confirmed = before.is_some_and(|look| says_bad(look, &key));
    (most && !confirmed).then(|| format!("{}, with {bad} of {all} targets, on one look", patch.says()))
}
