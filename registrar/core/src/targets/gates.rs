//! What pods are told of the health of their targets.

use std::time::Duration;

use super::{
    binding::Binding,
    desk::Desk,
    group::Facts,
    pods::LeftOut,
    retry::Alarm,
    spot::{Presence, Spot, SpotState, Stamp, Verdict, Wanted},
};
use crate::{
    aws::HealthState,
    cluster::{BindingRecord, GateCondition, GateStatus, Key, PodRecord, Uid},
    settings::planted,
};

/// How long a gate without a condition waits for the end of its target's first checks before it is written that they have
/// not come to one: a gate without a condition is closed.
const UNSAID: Duration = Duration::from_secs(1);
/// How long most of a group has to be unhealthy before gates close.
const CONFIRMED: Duration = Duration::from_secs(10);

/// What is to become of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Aim {
    Leave,
    Set(GateCondition),
}

/// A closed gate.
fn closed(reason: &str, message: impl Into<String>) -> GateCondition {
    GateCondition { status: GateStatus::False, reason: reason.to_owned(), message: message.into() }
}

/// An open gate; without a reason by health.
pub fn opened(reason: &str, message: impl Into<String>) -> GateCondition {
    GateCondition { status: GateStatus::True, reason: reason.to_owned(), message: message.into() }
}

/// What a fresh verdict makes of a gate that is as it is.
fn by_verdict(verdict: &Verdict, is_open: bool, record: &BindingRecord, lenient: bool) -> Aim {
    let reason = verdict.reason.as_deref().unwrap_or_default();
    let words = || closed(reason, verdict.description.as_deref().unwrap_or_default());
    match &verdict.state {
        HealthState::Healthy => Aim::Set(opened("", "")),
        HealthState::Unavailable | HealthState::Other(_) if lenient => Aim::Set(opened("", "")),
        HealthState::Unused if reason == "Target.NotInUse" && record.open_when_not_in_use => {
            Aim::Set(opened("NotInUseAllowed", "no listener refers to the target group, and the binding allows that"))
        }
        // These say nothing of health: an open gate stays open, and one that is closed says why.
        HealthState::Unused | HealthState::Unavailable | HealthState::Draining | HealthState::Other(_) if is_open => {
            Aim::Leave
        }
        HealthState::Draining => Aim::Leave,
        HealthState::Other(state) => Aim::Set(closed(
            if reason.is_empty() { "UnknownTargetState" } else { reason },
            format!("the target is in the state {state}, which is not known here"),
        )),
        HealthState::Initial
        | HealthState::Unhealthy
        | HealthState::UnhealthyDraining
        | HealthState::Unused
        | HealthState::Unavailable => Aim::Set(words()),
    }
}

impl Binding {
    /// What a pod's gate says, with what is being written or was written last in front of what the cache has.
    pub fn effective_gate<'a>(&'a self, pod: &'a PodRecord) -> Option<&'a GateCondition> {
        self.gates.effective(&self.key, pod)
    }

    /// Sets what has to be set.
    pub fn set_gates(&mut self, record: &BindingRecord, facts: &Facts, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        self.gates.tidy(&self.key, desk);
        let mut aims: Vec<(Key, Uid, GateCondition, bool)> = Vec::new();
        let (mut open, mut closing, mut sick, mut healthy) = (0, 0, 0, 0);
        for (spot, wanted) in &self.wanted {
            let Some(state) = self.spots.get(spot) else { continue };
            if state.fresh_verdict(facts.takeover, true).is_some_and(|verdict| verdict.state == HealthState::Healthy) {
                healthy += 1;
            }
            let Some(pod) = gated_pod(wanted, desk) else { continue };
            let current = self.effective_gate(pod);
            let is_open = current.is_some_and(|condition| condition.status == GateStatus::True);
            let listed = state.verdict.as_ref().is_some_and(|verdict| !verdict.is_gone());
            open += usize::from(is_open && listed);
            // What a look says of a target counts here even where it is no verdict on the pod: it bears on all of them.
            sick += usize::from(is_open && state.verdict.as_ref().is_some_and(Verdict::is_bad));
            let Aim::Set(aim) = self.aim(record, facts, (spot, wanted, state), current, desk, alarm) else { continue };
            if current != Some(&aim) || self.gates.is_supposed(&pod.meta.uid) {
                let closes = is_open && aim.status != GateStatus::True;
                closing += usize::from(closes);
                aims.push((pod.meta.key.clone(), pod.meta.uid.clone(), aim, closes));
            }
        }
        // Pods with an open gate and without a target count as sick: they serve as little.
        let bare = desk.cluster.gated(&self.key).filter(|pod| {
            let open = self.effective_gate(pod).is_some_and(|condition| condition.status == GateStatus::True);
            open && !pod.is_leaving() && !self.has_target(pod)
        });
        let bare = bare.count();
        let hold = self.is_failing_open((open + bare, closing, sick + bare), healthy, desk, alarm);
        let hold = hold && !planted!(desk.settings, FlipOnReadError);
        aims.retain(|(.., closes)| !(*closes && hold));
        self.add_left_out(desk, &mut aims);
        for (pod, uid, condition, _) in aims {
            self.set_gate(&pod, &uid, condition, desk, alarm);
        }
    }

    /// Whether the load balancer has a target for a pod that is to have one.
    fn has_target(&self, pod: &PodRecord) -> bool {
        self.spots.iter().any(|(spot, state)| {
            let own = self.wanted.contains_key(spot)
                && state.holder.as_ref().is_some_and(|holder| holder.owner.uid == pod.meta.uid);
            own && state.verdict.as_ref().is_some_and(|verdict| !verdict.is_gone())
        })
    }

    /// The brake on gates. If most of a group turns unhealthy in one look, it is more likely a health check or a security
    /// group than the pods, and with none healthy the load balancer sends to all: open gates stay open until a later look
    /// has confirmed it and somebody is healthy. What one look has held back no gate that it opens sets free: that takes
    /// another look.
    fn is_failing_open(
        &mut self,
        (open, closing, sick): (usize, usize, usize),
        healthy: usize,
        desk: &mut Desk<'_>,
        alarm: &mut Alarm,
    ) -> bool {
        if closing == 0 || sick * 2 <= open {
            if closing == 0 {
                self.fail_open = None;
                self.said.remove("FailOpen");
            }
            let looked_since = |since| self.looks.last.is_some_and(|look| look.at > since);
            return self.fail_open.is_some_and(|since| healthy == 0 || !looked_since(since));
        }
        let since = *self.fail_open.get_or_insert(desk.now);
        let confirmed = self.looks.last.is_some_and(|look| look.at >= since + CONFIRMED);
        if healthy > 0 && confirmed {
            return false;
        }
        alarm.at(desk.now + Duration::from_secs(1));
        let message = "most targets turned unhealthy at once: open gates stay open, as the load balancer sends to all \
                       when none is healthy; look at the health check and at security groups";
        self.say(desk, true, "FailOpen", message.to_owned());
        true
    }

    /// What is to become of the gate of the pod at a spot.
    fn aim(
        &self,
        record: &BindingRecord,
        facts: &Facts,
        (spot, wanted, state): (&Spot, &Wanted, &SpotState),
        current: Option<&GateCondition>,
        desk: &Desk<'_>,
        alarm: &mut Alarm,
    ) -> Aim {
        let is_open = current.is_some_and(|condition| condition.status == GateStatus::True);
        let timed_out = Self::timed_out(record, state, is_open, desk, alarm);
        // Somebody has to be told once something goes wrong, but not before it is given a moment to go well.
        let first_said = |condition: GateCondition, alarm: &mut Alarm| {
            let since = state.holder.as_ref().map_or(desk.now, |holder| holder.since.at);
            let is_time = desk.now.saturating_sub(since) >= UNSAID;
            // A look that is under way may say more in a moment.
            if current.is_some() || is_time && self.looks.flight.is_none() {
                return Aim::Set(condition);
            }
            if !is_time {
                alarm.at(since + UNSAID);
            }
            Aim::Leave
        };
        if is_open && current.is_some_and(|condition| condition.reason == "GateTimeout") {
            let healthy = state.fresh_verdict(facts.takeover, false).filter(|v| v.state == HealthState::Healthy);
            return healthy.map_or(Aim::Leave, |_| Aim::Set(opened("", "")));
        }
        if wanted.contested {
            let message = format!("another pod has the address {} too; it opens when only one is left", spot.id);
            return if is_open { Aim::Leave } else { first_said(closed("AddressContested", message), alarm) };
        }
        if let Some(rejected) = state.rejected.as_ref().filter(|_| !is_open) {
            return timed_out.unwrap_or_else(|| Aim::Set(closed("TargetRefused", rejected.because.clone())));
        }
        let lenient = planted!(desk.settings, UnavailableIsHealthy);
        if let Some(verdict) = state.fresh_verdict(facts.takeover, is_open) {
            let aim = by_verdict(verdict, is_open, record, lenient);
            return match (aim, timed_out) {
                (Aim::Set(condition), Some(release)) if condition.status != GateStatus::True => release,
                (Aim::Set(condition), None) if verdict.state == HealthState::Initial => first_said(condition, alarm),
                (aim, _) => aim,
            };
        }
        #[cfg(feature = "planted-bugs")]
        if desk.settings.planted == Some(crate::planted::Bug::FlipOnReadError) && is_open && state.verdict.is_none() {
            return Aim::Set(closed("Elb.InternalError", ""));
        }
        if let Some(release) = timed_out {
            return release;
        }
        if is_open {
            return Aim::Leave;
        }
        if let Some(full) = self.full.as_ref().filter(|_| state.presence(desk.now) == Presence::Absent) {
            return Aim::Set(closed("TargetQuotaReached", full.because.clone()));
        }
        if state.presence(desk.now) == Presence::Absent {
            if let Some(complaint) = self.authority.obstacle(desk.settings) {
                return first_said(closed("NotAuthorised", complaint), alarm);
            }
            if desk.settings.most_targets.is_some_and(|most| self.present(desk.now).len() >= most) {
                return first_said(closed("TargetLimitReached", "the configured number of targets is reached"), alarm);
            }
        }
        let message = "its target is being registered, or its checks have not come to an end since";
        first_said(closed("Elb.RegistrationInProgress", message), alarm)
    }

    fn timed_out(
        record: &BindingRecord,
        state: &SpotState,
        is_open: bool,
        desk: &Desk<'_>,
        alarm: &mut Alarm,
    ) -> Option<Aim> {
        let timeout = Duration::from_secs(record.gate_timeout?.into());
        let since = state.holder.as_ref()?.waiting_since.filter(|_| !is_open)?;
        if desk.now.saturating_sub(since) < timeout {
            alarm.at(since + timeout);
            return None;
        }
        let message =
            format!("its target was not healthy within {} s, and the binding asks to go on", timeout.as_secs());
        Some(Aim::Set(opened("GateTimeout", message)))
    }

    /// Pods that are no targets although they could be are told why.
    fn add_left_out(&self, desk: &Desk<'_>, aims: &mut Vec<(Key, Uid, GateCondition, bool)>) {
        for (key, because) in &self.left_out {
            let condition = match because {
                LeftOut::NoServerId => {
                    closed("QuicServerIdMissing", "no container of the pod has a QUIC server id; it is not registered")
                }
                LeftOut::HostNetwork => closed("HostNetwork", "pods on their node's network are not registered"),
                LeftOut::Unproven(_) | LeftOut::NotReady | LeftOut::ForeignGate => continue,
            };
            let Some(pod) = desk.cluster.pods.get(key).filter(|pod| pod.gate(&self.key.name).is_some()) else {
                continue;
            };
            let current = self.effective_gate(pod);
            if current != Some(&condition) && current.is_none_or(|current| current.status != GateStatus::True) {
                aims.push((key.clone(), pod.meta.uid.clone(), condition, false));
            }
        }
    }

    /// Queues a patch of a gate, unless one is under way or it failed a moment ago.
    pub fn set_gate(&mut self, pod: &Key, uid: &Uid, condition: GateCondition, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        let cluster = desk.cluster;
        let Some(record) = cluster.pods.get(pod).filter(|record| record.meta.uid == *uid) else { return };
        let because = match condition.status {
            GateStatus::True if condition.reason.is_empty() => format!("the target of pod {} is healthy", pod.name),
            _ => format!("the target of pod {} is not healthy: {}", pod.name, condition.reason),
        };
        self.gates.set(&self.key, record, condition, because, desk, alarm);
    }

    /// Whether a look is so new that gates follow it: used by the status.
    pub fn last_look(&self) -> Option<Stamp> {
        self.looks.last
    }
}

/// The pod of a spot, if it has a gate that is still worth setting.
fn gated_pod<'a>(wanted: &Wanted, desk: &'a Desk<'_>) -> Option<&'a PodRecord> {
    let pod = desk.cluster.pods.get(&wanted.owner.key)?;
    let same = pod.meta.uid == wanted.owner.uid || planted!(desk.settings, NoUid);
    (wanted.owner.gated && same && !pod.is_leaving()).then_some(pod)
}
