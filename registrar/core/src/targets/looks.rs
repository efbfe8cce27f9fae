//! Looking at the health of a group: when, and what is learned.

use std::time::Duration;

use super::{
    Kind, Turn,
    binding::Binding,
    desk::{Desk, What},
    group::Facts,
    retry::{Alarm, Retry},
    spot::{Claim, Presence, Spot, SpotState, Stamp, Verdict, Wrote},
};
use crate::{
    Effect,
    aws::{Bucket, Call, Fault, HealthState, TargetHealth},
    cluster::{BindingRecord, GateStatus},
    effect::{Cause, EffectId, Priority},
    outbox::Asker,
    settings::planted,
};

/// Looks at a group.
#[derive(Debug, Default)]
pub struct Looks {
    /// The one under way.
    pub flight: Option<EffectId>,
    /// Turns that are queued, by priority.
    queued: Vec<Priority>,
    /// The last one that was answered.
    pub last: Option<Stamp>,
    /// When the next may be made, after a fault.
    pub retry: Retry,
    /// What AWS last said against it.
    pub problem: Option<String>,
}

/// How often a group is looked at in which nothing waits, per group that there is: it keeps all of them together at a
/// fraction of the request rate.
const QUIET_SHARE: Duration = Duration::from_millis(400);
/// The same for a group that is alone.
const QUIET_LEAST: Duration = Duration::from_secs(10);

/// How long it takes to repair what a look finds, a second look at the cluster included.
const REPAIR: Duration = Duration::from_secs(20);

/// How long after a registration the first look is made: what is acknowledged meanwhile is seen by the same look, and no
/// target has passed its checks before.
const GATHER: Duration = Duration::from_millis(50);

/// For how long targets without a gate are looked at more often after they were registered.
const WATCHED: Duration = Duration::from_mins(10);

/// How long until the next look, for a gate that has been waiting for so long.
fn pace(waiting: Duration) -> Duration {
    match waiting.as_secs() {
        0 => Duration::from_millis(300),
        1..10 => Duration::from_secs(1),
        10..300 => Duration::from_secs(2),
        _ => (waiting / 60).clamp(Duration::from_secs(5), Duration::from_mins(1)),
    }
}

/// How long until the next look, for a write that was acknowledged so long ago and is not to be seen: 1, 2, 4, 8 s.
fn settling_pace(since: Duration) -> Duration {
    match since.as_secs() {
        0 => Duration::from_secs(1),
        1..3 => Duration::from_secs(2),
        3..7 => Duration::from_secs(4),
        _ => Duration::from_secs(8),
    }
}

impl Binding {
    /// When the group is to be looked at next, and how urgent that is.
    fn next_look(&self, record: &BindingRecord, desk: &Desk<'_>) -> (Duration, Priority) {
        let now = desk.now;
        let Some(last) = self.looks.last else {
            let urgent = self.stirred || record.meta.deleting || self.waiting_gates(desk).next().is_some();
            return (now, if urgent { Priority::Gates } else { Priority::Drift });
        };
        // So that what is found is repaired within the period, too.
        let period = desk.settings.audit_period.saturating_sub(REPAIR);
        let groups = u32::try_from(desk.cluster.bindings.len()).unwrap_or(u32::MAX);
        let gated = self.spots.values().any(|state| state.holder.as_ref().is_some_and(|holder| holder.owner.gated));
        // Whether such a target is registered at all is not known: it may be draining.
        let unsure =
            self.wanted.keys().filter_map(|spot| self.spots.get(spot)).filter_map(|state| state.verdict.as_ref()).any(
                |verdict| !verdict.is_gone() && matches!(verdict.state, HealthState::Unavailable | HealthState::Unused),
            );
        let quiet = if gated || unsure { (QUIET_SHARE * groups).max(QUIET_LEAST).min(period) } else { period };
        let mut next = (last.at + quiet, Priority::Drift);
        let mut soon = |at: Duration| {
            if at < next.0 || next.1 == Priority::Drift {
                next = (at.min(next.0), Priority::Gates);
            }
        };
        for state in self.spots.values() {
            if state.is_settling(now)
                && let Wrote::Registered(stamp) | Wrote::RegisterLost(stamp) | Wrote::RemoveLost(stamp) = state.wrote
            {
                let unseen = stamp.effect >= last.effect;
                let first = if matches!(state.wrote, Wrote::Registered(_)) { stamp.at + GATHER } else { stamp.at };
                soon(if unseen { first } else { last.at + settling_pace(now.saturating_sub(stamp.at)) });
            }
        }
        for (state, since) in self.waiting_gates(desk) {
            // Until it is registered there is nothing to be seen of it.
            if state.in_flight || state.is_vacant(now) {
                continue;
            }
            let unseen = state.wrote_after(last).map(|at| at + GATHER);
            soon(unseen.unwrap_or_else(|| last.at + pace(now.saturating_sub(since))));
        }
        // Nobody waits for targets without a gate, but how they fare is worth knowing while they are new.
        for state in self.wanted.iter().filter(|(_, w)| !w.owner.gated).filter_map(|(spot, _)| self.spots.get(spot)) {
            let is = |health: HealthState| state.verdict.as_ref().is_some_and(|verdict| verdict.state == health);
            let since = match (state.wrote, &state.holder) {
                _ if is(HealthState::Healthy) => continue,
                (Wrote::Registered(stamp) | Wrote::RegisterLost(stamp), _) => stamp.at,
                // Somebody else may have registered it a moment ago, who led before.
                (_, Some(holder)) if is(HealthState::Initial) => holder.since.at,
                _ => continue,
            };
            let age = now.saturating_sub(since);
            if age < WATCHED {
                soon(last.at + pace(age).max(Duration::from_secs(2)));
            }
        }
        if record.meta.deleting {
            soon(if self.farewell.is_unseen(last) { now } else { last.at + Duration::from_secs(2) });
        }
        if self.fail_open.is_some() {
            soon(last.at + Duration::from_secs(2));
        }
        next
    }

    /// Places whose gate waits for health, with since when.
    fn waiting_gates<'a>(&'a self, desk: &'a Desk<'_>) -> impl Iterator<Item = (&'a SpotState, Duration)> + 'a {
        self.wanted.iter().filter(|(_, wanted)| wanted.owner.gated).filter_map(|(spot, wanted)| {
            let pod = desk.cluster.pods.get(&wanted.owner.key).filter(|pod| pod.meta.uid == wanted.owner.uid)?;
            let open = self.effective_gate(pod).is_some_and(|condition| condition.status == GateStatus::True)
                && !self.gates.is_supposed(&pod.meta.uid);
            let state = self.spots.get(spot)?;
            let since = state.holder.as_ref()?.waiting_since;
            (!open).then_some((state, since.unwrap_or(desk.now)))
        })
    }

    /// Queues a look if one is due.
    pub fn plan_look(&mut self, record: &BindingRecord, facts: &Facts, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        if self.looks.flight.is_some() {
            return;
        }
        let (at, priority) = self.next_look(record, desk);
        let at = at.max(self.looks.retry.at);
        if at > desk.now {
            alarm.at(at);
            return;
        }
        // One that is queued already, as urgent or more, will do.
        if self.looks.queued.iter().any(|queued| *queued <= priority) {
            return;
        }
        self.looks.queued.push(priority);
        let turn = Turn { binding: self.key.clone(), kind: Kind::Look(priority) };
        desk.turn(&facts.account, Bucket::Describe, priority, &self.key, turn);
    }

    /// The turn to look has come.
    pub fn take_look_turn(
        &mut self,
        record: &BindingRecord,
        priority: Priority,
        desk: &mut Desk<'_>,
    ) -> Option<Effect> {
        self.looks.queued.retain(|queued| *queued != priority);
        // Another turn, more urgent than this one, may have come first.
        if self.looks.flight.is_some() || self.next_look(record, desk).0 > desk.now {
            return None;
        }
        let facts = self.facts()?.clone();
        let call = Call::DescribeTargetHealth { group: facts.arn.clone() };
        let because = match priority {
            Priority::Drift => "the health of its targets is looked at from time to time",
            _ => "somebody waits for the health of its targets",
        };
        let cause = Cause { object: self.key.clone(), because: because.to_owned() };
        let effect = desk.outbox.send(Asker::Targets, facts.account, call, priority, cause, desk.now);
        self.looks.flight = Some(effect.id);
        let asked = Stamp { effect: effect.id, at: desk.now };
        desk.asks.insert(effect.id, self.ask(What::Look(asked)));
        Some(effect)
    }

    /// A look has been answered, or not.
    pub fn looked(&mut self, asked: Stamp, result: Result<Vec<TargetHealth>, Fault>, desk: &mut Desk<'_>) {
        self.looks.flight = None;
        match result {
            Ok(healths) => {
                self.looks.retry.clear();
                self.looks.problem = None;
                self.group_missing_since = None;
                self.looks.last = Some(asked);
                self.farewell.looked(asked);
                self.fold(asked, healths, desk);
            }
            Err(Fault::Throttled { .. }) if !planted!(desk.settings, ThrottleIsFailure) => {
                self.throttled_at = Some(desk.now);
            }
            Err(fault) => {
                if fault.is("TargetGroupNotFound") {
                    self.farewell.not_found(asked);
                    self.group_is_missing(desk, &Kind::Look(Priority::Gates));
                } else {
                    self.looks.retry.faulted(&fault, desk.settings, desk.now);
                }
                if planted!(desk.settings, FinalizerOnValidationError) && fault.is("ValidationError") {
                    self.farewell.gone();
                }
                if planted!(desk.settings, FlipOnReadError) {
                    self.fold(asked, Vec::new(), desk);
                }
                self.looks.problem = Some(fault.to_string());
            }
        }
    }

    fn fold(&mut self, asked: Stamp, healths: Vec<TargetHealth>, desk: &mut Desk<'_>) {
        let now = desk.now;
        let mut said: std::collections::BTreeMap<Spot, Verdict> = std::collections::BTreeMap::new();
        for health in healths {
            said.insert(Spot::of(&health.target), Verdict::of(health));
        }
        for spot in said.keys() {
            // What is found here and is not wanted has to leave from now on.
            let leaving_since = (!self.wanted.contains_key(spot)).then_some(now);
            self.spots.entry(spot.clone()).or_insert_with(|| SpotState { leaving_since, ..SpotState::default() });
        }
        self.drifted = None;
        let first = self.spots.values().all(|state| state.looked.is_none());
        let mut lost = None;
        let mut found = None;
        for (spot, state) in &mut self.spots {
            let before = state.presence(now);
            state.looked = Some(asked);
            state.verdict = said.remove(spot);
            let listed = state.verdict.as_ref().is_some_and(|verdict| !verdict.is_gone());
            let registered = match state.wrote {
                Wrote::Registered(stamp) | Wrote::RegisterLost(stamp) => stamp.effect < asked.effect,
                _ => false,
            };
            if listed && registered {
                state.shown = true;
            }
            let after = state.presence(now);
            let is_wanted = self.wanted.contains_key(spot);
            match (before, after) {
                (Presence::Present, Presence::Absent) if is_wanted && !state.in_flight => lost = Some(spot.clone()),
                (Presence::Absent | Presence::Unknown, Presence::Present) if !is_wanted && !first => {
                    found = Some(spot.clone());
                }
                _ => {}
            }
            let vacant = state.is_vacant(now);
            let open = state.holder.as_ref().and_then(|holder| {
                let pod = desk.cluster.pods.get(&holder.owner.key).filter(|pod| pod.meta.uid == holder.owner.uid)?;
                Some(pod.gate(&self.key.name)?.is_open_by_health())
            });
            let Some(holder) = state.holder.as_mut().filter(|holder| holder.since.effect < asked.effect) else {
                continue;
            };
            let contested = self.wanted.get(spot).is_some_and(|wanted| wanted.contested);
            match holder.claim {
                _ if contested => {}
                Claim::Undecided if vacant => holder.claim = Claim::Fresh,
                Claim::Undecided if !listed => holder.claim = Claim::Takeover,
                Claim::Undecided if !holder.owner.gated || open == Some(true) => holder.claim = Claim::Adopted,
                // Even where checks have not come to an end, some of those that decide may have been another's.
                Claim::Undecided => holder.claim = Claim::Takeover,
                Claim::Takeover | Claim::Fresh | Claim::Adopted => {}
            }
            if holder.owner.gated && open != Some(true) {
                holder.waiting_since.get_or_insert(now);
            } else {
                holder.waiting_since = None;
            }
        }
        if let Some(spot) = lost {
            let message = format!("{spot} was deregistered by somebody else, and is registered again");
            self.drifted = Some(message.clone());
            self.said.remove("DriftRepaired");
            self.say(desk, true, "DriftRepaired", message);
        } else if let Some(spot) = found.filter(|_| self.facts().is_some_and(|facts| !facts.shared)) {
            let message = format!("{spot} was registered by somebody else, and is deregistered");
            self.drifted = Some(message);
        }
    }
}
