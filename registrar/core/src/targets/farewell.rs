//! The end of a binding: its targets leave, its gates open, and then its finalizer goes.

use std::time::Duration;

use super::{
    binding::Binding,
    desk::{Desk, What},
    gates::opened,
    group::{Facts, Resolution},
    retry::{Alarm, Retry},
    spot::Stamp,
};
use crate::{
    cluster::{BindingRecord, GateStatus, Key, Uid},
    effect::{Priority, Request},
};

/// How far apart two answers that there is no such group have to be.
const APART: Duration = Duration::from_secs(5);
/// After how long it is said what is in the way.
const BLOCKED: Duration = Duration::from_mins(15);

/// The end of a binding.
#[derive(Debug, Default)]
pub struct Farewell {
    since: Option<Duration>,
    removed: Option<Stamp>,
    looked: Option<Stamp>,
    missing: Option<Duration>,
    group_gone: bool,
    flight: bool,
    retry: Retry,
}

impl Farewell {
    /// A deregistration was acknowledged.
    pub fn deregistered(&mut self, stamp: Stamp) {
        self.removed = Some(stamp);
    }

    /// A look was answered.
    pub fn looked(&mut self, asked: Stamp) {
        self.looked = Some(asked);
        self.missing = None;
        self.group_gone = false;
    }

    /// AWS says that there is no such group. It is believed when it is said twice.
    pub fn not_found(&mut self, asked: Stamp) {
        let first = *self.missing.get_or_insert(asked.at);
        self.group_gone |= asked.at >= first + APART;
    }

    /// There is no such group.
    pub fn gone(&mut self) {
        self.group_gone = true;
    }

    /// Whether targets were deregistered after a look was asked.
    pub fn is_unseen(&self, look: Stamp) -> bool {
        self.removed.is_some_and(|removed| removed.effect >= look.effect)
    }

    fn has_looked(&self) -> bool {
        self.looked.is_some_and(|looked| self.removed.is_none_or(|removed| looked.effect > removed.effect))
    }
}

impl Binding {
    /// Works on a binding that is being deleted.
    pub fn take_leave(&mut self, record: &BindingRecord, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        if !record.has_finalizer {
            return;
        }
        let since = *self.farewell.since.get_or_insert(desk.now);
        let done = match self.resolution.clone() {
            Resolution::Known(facts) => self.clear_group(record, &facts, desk, alarm),
            // A binding that could never be worked on has nothing in any group.
            Resolution::Problem(problem) => matches!(problem.reason, "NoTargetGroup" | "TargetGroupMismatch"),
            Resolution::Ask => self.farewell.group_gone,
        };
        if done {
            self.let_go(desk, alarm);
        } else if desk.now >= since + BLOCKED {
            let message = match (&self.deregister.problem, &self.looks.problem, self.problem()) {
                (Some(problem), ..) | (None, Some(problem), _) => problem.clone(),
                (.., Some(problem)) => problem.message,
                _ => "its targets have not left the target group yet".to_owned(),
            };
            self.say(desk, true, "CleanupBlocked", message);
        } else {
            alarm.at(since + BLOCKED);
        }
    }

    /// Takes the targets out. Whether none is left.
    fn clear_group(&mut self, record: &BindingRecord, facts: &Facts, desk: &mut Desk<'_>, alarm: &mut Alarm) -> bool {
        if self.farewell.group_gone {
            return self.close_ledger(facts, desk, alarm);
        }
        if !self.ledger.is_known(facts) {
            self.keep_ledger(record, facts, desk, alarm);
        }
        self.plan_removals(record, facts, desk, alarm);
        self.plan_look(record, facts, desk, alarm);
        let busy = self.register.flight.is_some() || self.deregister.flight.is_some();
        let clear = self.farewell.has_looked()
            && !busy
            && self.ledger.is_known(facts)
            && !self.spots.iter().any(|(spot, state)| {
                let listed = state.verdict.as_ref().is_some_and(|verdict| !verdict.is_gone());
                (listed || state.may_appear(desk.now)) && self.is_own(spot, state, facts, desk)
            });
        clear && self.close_ledger(facts, desk, alarm)
    }

    fn let_go(&mut self, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        self.release_gates(desk, alarm);
        if self.farewell.flight {
            return;
        }
        if !self.farewell.retry.is_due(desk.now) {
            alarm.at(self.farewell.retry.at);
            return;
        }
        self.farewell.flight = true;
        let (binding, uid) = (self.key.clone(), self.uid.clone());
        let request = Request::SetBindingFinalizer { binding, uid, present: false };
        let because = "none of its targets is left in the target group";
        desk.request(self.ask(What::Finalizer(false)), request, Priority::Register, because);
    }

    /// Opens every gate that is named after the binding.
    fn release_gates(&mut self, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        let closed: Vec<(Key, Uid)> = desk
            .cluster
            .gated(&self.key)
            .filter(|pod| !pod.is_leaving())
            .filter(|pod| self.effective_gate(pod).is_none_or(|gate| gate.status != GateStatus::True))
            .map(|pod| (pod.meta.key.clone(), pod.meta.uid.clone()))
            .collect();
        for (pod, uid) in closed {
            let message = format!("binding {} is being deleted", self.key.name);
            self.set_gate(&pod, &uid, opened("BindingGone", message), desk, alarm);
        }
    }

    /// The finalizer has been taken off, or not.
    pub fn let_gone(&mut self, done: bool, desk: &Desk<'_>) {
        self.farewell.flight = false;
        if done {
            // The watch says so in a moment; asking again would do no harm.
            self.farewell.retry.at = desk.now + Duration::from_secs(10);
        } else {
            self.farewell.retry.failed(desk.now);
        }
    }
}
