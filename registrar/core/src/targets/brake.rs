//! What has to leave a group, and the brake: what is not proven to be gone leaves in small numbers, or after a second look
//! at the cluster that no cache answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use nlb::settings::TargetType;

use super::{
    Kind, Turn,
    binding::{ABSENCE, Binding},
    desk::{Desk, What},
    group::Facts,
    retry::{Alarm, Retry},
    spot::{Presence, Spot, SpotState, Wrote},
};
use crate::{
    aws::{Bucket, HealthState},
    cluster::{BindingRecord, Key, PodRecord, SliceRecord, Uid},
    effect::{Priority, Request},
    settings::planted,
};

/// A removal that may be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Why, in words.
    pub because: String,
    /// Whether it counts against the brake.
    pub braked: bool,
}

/// How sure it is that a target has to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reason {
    /// Its pod is terminating or gone, which is never undone.
    Proven(String),
    /// Its pod is there and is not ready, or its endpoint says so.
    NotReady(String),
    /// No endpoint names it, and nothing says why.
    Vanished(String),
}

/// The brake on removals.
#[derive(Debug, Clone, Default)]
pub struct Brake {
    /// Removals without proof in this window.
    spent: usize,
    window: Option<Duration>,
    /// What the last second look found: places that are still wanted.
    fresh: Option<(Duration, BTreeMap<Spot, Uid>)>,
    looking: bool,
    retry: Retry,
    /// What is held back, for the status.
    pub held: usize,
}

/// The window in which removals without proof are counted together.
const WINDOW: Duration = Duration::from_mins(1);
/// For how long a second look counts.
const FRESH: Duration = Duration::from_secs(10);
/// How long an endpoint has to be away before its pod, which lives and is ready, is taken out: longer if many are.
const AWAY: Duration = Duration::from_secs(3);
const MANY_AWAY: Duration = Duration::from_secs(10);
/// How long registrations that are missing are waited for before targets without proof leave.
const REGISTER_FIRST: Duration = Duration::from_secs(15);
/// How long most nodes have to be bad before they leave.
const NODES_AWAY: Duration = Duration::from_secs(30);

impl Brake {
    /// A removal without proof is made.
    pub fn spend(&mut self, now: Duration) {
        if self.window.is_none_or(|since| now.saturating_sub(since) >= WINDOW) {
            self.window = Some(now);
            self.spent = 0;
        }
        self.spent += 1;
    }

    fn spent(&self, now: Duration) -> usize {
        let open = self.window.is_some_and(|since| now.saturating_sub(since) < WINDOW);
        if open { self.spent } else { 0 }
    }

    /// What a second look has found, if that was a moment ago: places that are wanted, with whose they are.
    pub fn confirmed(&self, now: Duration) -> Option<&BTreeMap<Spot, Uid>> {
        self.fresh.as_ref().filter(|(at, _)| now.saturating_sub(*at) < FRESH).map(|(_, wanted)| wanted)
    }
}

/// Whether something is registered at a place for all that is known, so that it is worth deregistering. In a group that
/// others share the ledger has what was about to be registered, once, and a call without a reply may never have been made:
/// there a look has to show it.
fn may_be_there(state: &SpotState, facts: &Facts, now: Duration) -> bool {
    if facts.shared && matches!(state.wrote, Wrote::RegisterLost(_)) && !state.shown {
        return false;
    }
    match state.presence(now) {
        Presence::Present => true,
        // It was wanted a moment ago, so it may well be registered.
        Presence::Unknown => state.holder.is_some() && !facts.shared,
        Presence::Absent => state.may_appear(now),
        Presence::LookFirst => false,
    }
}

impl Binding {
    /// What may be deregistered now, with the cause of each. Everything that is in the way of the rest rings the alarm
    /// or asks for a second look.
    pub fn removable(
        &mut self,
        record: &BindingRecord,
        facts: &Facts,
        desk: &Desk<'_>,
        alarm: &mut Alarm,
    ) -> BTreeMap<Spot, Removal> {
        let now = desk.now;
        self.brake.held = 0;
        let sure = |because: String| Removal { because, braked: false };
        if record.meta.deleting {
            let own = self.own_spots(facts, desk);
            return own.into_iter().map(|spot| (spot, sure("the binding is being deleted".to_owned()))).collect();
        }
        if self.rival.is_some() {
            return BTreeMap::new();
        }
        if self.authority.is_withdrawn(desk.settings) {
            let own = self.own_spots(facts, desk);
            let because = "the target group's tags no longer allow this namespace";
            return own.into_iter().map(|spot| (spot, sure(because.to_owned()))).collect();
        }
        if !self.authority.allows_removal(desk.settings) {
            return BTreeMap::new();
        }
        let mut removals = BTreeMap::new();
        let mut doubted = Vec::new();
        for (spot, state) in &self.spots {
            if self.wanted.contains_key(spot) || state.in_flight || !self.may_remove(spot, facts, desk) {
                continue;
            }
            if !may_be_there(state, facts, now) {
                continue;
            }
            match self.reason(spot, state, facts, desk) {
                Reason::Proven(because) => {
                    removals.insert(spot.clone(), sure(because));
                }
                Reason::NotReady(because) => doubted.push((spot.clone(), because, false)),
                Reason::Vanished(because) => doubted.push((spot.clone(), because, true)),
            }
        }
        if !doubted.is_empty() {
            self.brake(doubted, &mut removals, facts, desk, alarm);
        }
        removals
    }

    /// Lets through of the doubted what may go.
    fn brake(
        &mut self,
        doubted: Vec<(Spot, String, bool)>,
        removals: &mut BTreeMap<Spot, Removal>,
        facts: &Facts,
        desk: &Desk<'_>,
        alarm: &mut Alarm,
    ) {
        let now = desk.now;
        if self.backend.missing.is_some() && !self.backend.is_given_up(now) {
            self.brake.held = doubted.len();
            return;
        }
        let away =
            |state: Option<&SpotState>| now.saturating_sub(state.and_then(|state| state.leaving_since).unwrap_or(now));
        if self.full.is_none() && self.is_registering(desk) {
            let longest = doubted.iter().map(|(spot, ..)| away(self.spots.get(spot))).max().unwrap_or_default();
            if longest < REGISTER_FIRST {
                alarm.at(now + REGISTER_FIRST.saturating_sub(longest));
                self.brake.held = doubted.len();
                return;
            }
        }
        let is_healthy = |spot: &Spot| {
            let verdict = self.spots.get(spot).and_then(|state| state.verdict.as_ref());
            verdict.is_some_and(|verdict| verdict.state == HealthState::Healthy)
        };
        let present = self.present(now);
        let healthy = present.iter().filter(|spot| is_healthy(spot)).count();
        let leaving_healthy = doubted.iter().filter(|(spot, ..)| is_healthy(spot)).count();
        let leaves = |spot: &Spot| removals.contains_key(spot) || doubted.iter().any(|(other, ..)| other == spot);
        // What was registered and is not to be seen yet may not come to be: it makes up for nobody.
        let is_seen = |spot: &Spot| self.spots.get(spot).is_some_and(|state| !state.may_appear(now));
        let stay = present.iter().filter(|spot| !leaves(spot) && is_seen(spot)).count();
        let stay_healthy = healthy.saturating_sub(
            leaving_healthy + removals.keys().filter(|spot| present.contains(spot) && is_healthy(spot)).count(),
        );
        let recently = |at: Option<Duration>| at.is_some_and(|at| now.saturating_sub(at) < WINDOW);
        let shaken = recently(self.backend.replaced_at) || recently(self.backend.swept_at);
        let many = stay == 0
            || (leaving_healthy > 0 && stay_healthy == 0)
            || self.brake.spent(now) + leaving_healthy > (healthy / 4).max(1)
            || shaken;
        let many = many && !planted!(desk.settings, NoBrake);
        // A Service that now selects other pods: those that live and serve stay until the others do.
        let of_wanted = |test: &dyn Fn(&SpotState) -> bool| {
            self.wanted.keys().filter_map(|spot| self.spots.get(spot)).filter(|state| test(state)).count()
        };
        let arrived = of_wanted(&|state| state.verdict.as_ref().is_some_and(|v| v.state == HealthState::Healthy));
        let coming = of_wanted(&|state| {
            state.presence(now) == Presence::Present
                && state.verdict.as_ref().is_none_or(|verdict| verdict.state == HealthState::Initial)
        });
        let swapping = coming > 0 && arrived < leaving_healthy && self.full.is_none();
        // The slices that a registrar knew before it led may be older than what the one before it acted on.
        let may_lag = facts.target_type == TargetType::Ip && recently(self.backend.led_at);
        for (spot, because, vanished) in doubted {
            let many = many || vanished && may_lag && !planted!(desk.settings, NoBrake);
            let patience = match (facts.target_type, vanished, many) {
                (TargetType::Instance, _, true) => NODES_AWAY,
                (TargetType::Instance, _, false) | (TargetType::Ip, false, _) => Duration::ZERO,
                (TargetType::Ip, true, true) => MANY_AWAY,
                (TargetType::Ip, true, false) => AWAY,
            };
            let away = away(self.spots.get(&spot));
            if swapping && vanished && away < desk.settings.swap_patience && is_healthy(&spot) {
                alarm.at(now + Duration::from_secs(1));
                self.brake.held += 1;
                continue;
            }
            if away < patience && !planted!(desk.settings, NoBrake) {
                alarm.at(now + patience.saturating_sub(away));
                self.brake.held += 1;
                continue;
            }
            if many && facts.target_type == TargetType::Ip {
                match self.brake.confirmed(now) {
                    Some(wanted) if !wanted.contains_key(&spot) => {}
                    _ => {
                        self.brake.held += 1;
                        alarm.at(now.max(self.brake.retry.at));
                        continue;
                    }
                }
            }
            removals.insert(spot, Removal { because, braked: !many });
        }
    }

    /// Asks for what has to leave, and for a second look where one is wanted.
    pub fn plan_removals(&mut self, record: &BindingRecord, facts: &Facts, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        if let Some((since, _)) = self.backend.missing {
            alarm.at((since + ABSENCE).max(desk.now + Duration::from_secs(1)));
        }
        let mut later = Alarm::default();
        let removals = self.removable(record, facts, desk, &mut later);
        // What is held for want of a second look rings at once, and the look is what it waits for.
        match later.0 {
            Some(at) if at <= desk.now => {
                let because =
                    format!("{} targets would leave at once and nothing proves that they have to", self.brake.held);
                self.look_twice(record, &because, desk, alarm);
            }
            Some(at) => alarm.at(at),
            None => {}
        }
        if removals.is_empty() || self.deregister.flight.is_some() || self.deregister.queued {
            return;
        }
        let due = self.deregister.due_at();
        if due > desk.now {
            alarm.at(due);
            return;
        }
        self.deregister.queued = true;
        let turn = Turn { binding: self.key.clone(), kind: Kind::Deregister };
        desk.turn(&facts.account, Bucket::Targets, Priority::Deregister, &self.key, turn);
    }

    pub fn look_twice(&mut self, record: &BindingRecord, because: &str, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        if self.brake.looking {
            return;
        }
        if !self.brake.retry.is_due(desk.now) {
            alarm.at(self.brake.retry.at);
            return;
        }
        self.brake.looking = true;
        let service = Key::new(&self.key.namespace, &record.spec.service_ref.name);
        desk.request(self.ask(What::Endpoints), Request::ListEndpoints { service }, Priority::Deregister, because);
    }

    /// A second look has come back.
    pub fn looked_twice(
        &mut self,
        record: &BindingRecord,
        found: Option<(&[SliceRecord], &[PodRecord])>,
        desk: &Desk<'_>,
    ) {
        self.brake.looking = false;
        let Some((slices, pods)) = found else {
            self.brake.retry.failed(desk.now);
            return;
        };
        let Some(facts) = self.facts() else { return };
        let service_key = Key::new(&self.key.namespace, &record.spec.service_ref.name);
        let service = desk.cluster.services.get(&service_key);
        // The Service may be back and not seen yet: then its slices say so.
        let port =
            service.and_then(|service| service.port(&record.spec.service_ref.port)).or(self.backend.port.as_ref());
        let wanted = match port.filter(|_| facts.target_type == TargetType::Ip) {
            Some(port) => {
                let source = super::endpoints::Source::Answer(slices, pods);
                let reading = super::endpoints::addresses_of(record, facts, port, desk.settings, source);
                reading.wanted.into_iter().map(|(spot, wanted)| (spot, wanted.owner.uid)).collect()
            }
            None => BTreeMap::new(),
        };
        let disagrees = self.spots.keys().any(|spot| !self.wanted.contains_key(spot) && wanted.contains_key(spot));
        self.brake.fresh = Some((desk.now, wanted));
        // The caches are behind, or ahead: wait for them before looking again.
        if disagrees {
            self.brake.retry.failed(desk.now);
        } else {
            self.brake.retry.clear();
            self.brake.retry.at = desk.now + FRESH;
        }
    }

    /// Whether it may be removed at all: in a shared group only what the ledger says is ours.
    fn may_remove(&self, spot: &Spot, facts: &Facts, desk: &Desk<'_>) -> bool {
        if planted!(desk.settings, RemoveForeign) {
            return true;
        }
        !facts.shared || self.ledger.has(spot)
    }

    fn reason(&self, spot: &Spot, state: &SpotState, facts: &Facts, desk: &Desk<'_>) -> Reason {
        if facts.target_type == TargetType::Instance {
            return super::nodes::reason(spot, desk.cluster);
        }
        // What a slice says of its endpoint is no proof by itself: whoever may write slices could say it of all.
        if let Some(key) = self.terminating.get(spot) {
            let known = desk.cluster.pods.get(key).filter(|pod| {
                state.holder.as_ref().is_none_or(|holder| pod.meta.uid == holder.owner.uid) && pod.is_leaving()
            });
            if known.is_some() {
                return Reason::Proven(format!("pod {} at {spot} is terminating", key.name));
            }
            if state.holder.as_ref().is_none_or(|holder| !desk.cluster.pods.is_gone(&holder.owner.uid)) {
                return Reason::NotReady(format!("the endpoint of pod {} at {spot} is terminating", key.name));
            }
        }
        let Some(holder) = &state.holder else {
            let address = spot.id.parse().ok();
            // Targets are pods of the binding's namespace: who else has had the address proves nothing of whose it was.
            let own = |pod: &&PodRecord| pod.meta.key.namespace == self.key.namespace;
            let going =
                address.and_then(|address| desk.cluster.pods_at(address).filter(own).find(|pod| pod.is_leaving()));
            return match going {
                Some(pod) => Reason::Proven(format!("pod {} at {spot} is terminating", pod.meta.key.name)),
                None => Reason::Vanished(format!("no endpoint of the Service is at {spot}")),
            };
        };
        let (name, uid) = (&holder.owner.key.name, &holder.owner.uid);
        if desk.cluster.pods.is_gone(uid) {
            return Reason::Proven(format!("pod {name} (uid {uid}) at {spot} is gone"));
        }
        match desk.cluster.pods.get(&holder.owner.key).filter(|pod| pod.meta.uid == *uid) {
            Some(pod) if pod.is_leaving() => {
                let how = if pod.meta.deleting { "is terminating" } else { "has ended" };
                Reason::Proven(format!("pod {name} (uid {uid}) at {spot} {how}"))
            }
            Some(pod) if !pod.containers_ready => {
                Reason::NotReady(format!("containers of pod {name} (uid {uid}) at {spot} are not ready"))
            }
            Some(pod) if pod.held_by_foreign_gate => {
                Reason::NotReady(format!("a readiness gate of somebody else holds pod {name} (uid {uid}) at {spot}"))
            }
            Some(_) => Reason::Vanished(format!("pod {name} (uid {uid}) at {spot} is no endpoint of the Service")),
            None => Reason::Vanished(format!("pod {name} (uid {uid}) at {spot} is not to be seen")),
        }
    }

    /// What this binding has in the group.
    fn own_spots(&self, facts: &Facts, desk: &Desk<'_>) -> BTreeSet<Spot> {
        let present = self.spots.iter().filter(|(_, state)| !state.in_flight && may_be_there(state, facts, desk.now));
        let own = present.filter(|(spot, state)| self.is_own(spot, state, facts, desk));
        own.map(|(spot, _)| spot.clone()).collect()
    }

    /// Whether a target is this binding's: all are in a group of its own, in a shared one those in the ledger. Where
    /// another binding has the group, or the namespace may not use it, only what this one is known to want there.
    pub fn is_own(&self, spot: &Spot, state: &SpotState, facts: &Facts, desk: &Desk<'_>) -> bool {
        if self.rival.is_some() || self.has_heir(facts, desk) {
            return state.holder.as_ref().is_some_and(|holder| holder.registered.is_some());
        }
        if self.authority.is_withdrawn(desk.settings) {
            return state.holder.is_some();
        }
        !facts.shared || self.ledger.has(spot)
    }

    /// Whether another binding that is not being deleted has the same group.
    fn has_heir(&self, facts: &Facts, desk: &Desk<'_>) -> bool {
        let mut others = desk.cluster.bindings_of_group(facts.arn.as_str());
        !facts.shared && others.any(|other| other.meta.key != self.key && !other.meta.deleting && other.has_finalizer)
    }
}
