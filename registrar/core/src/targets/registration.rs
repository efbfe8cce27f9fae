//! Registering and deregistering, and what comes of it.

use std::{collections::BTreeSet, time::Duration};

use nlb::settings::TargetType;

use super::{
    Kind, Turn,
    batches::Refused,
    binding::{Binding, Full},
    desk::{Desk, What},
    group::Facts,
    retry::Alarm,
    spot::{Claim, Holder, Presence, Rejected, Spot, Wrote, ZoneLearned},
};
use crate::{
    Effect,
    aws::{Bucket, Call, Fault, Target},
    cluster::{BindingRecord, GateStatus, Uid},
    effect::{Cause, Priority},
    outbox::Asker,
    settings::planted,
};

/// How old what the watches say of endpoints may be when a target is registered.
const SILENCE: Duration = Duration::from_secs(25);

impl Binding {
    /// Places where something has to be registered, as far as there is room.
    fn missing_targets(&self, desk: &Desk<'_>, alarm: &mut Alarm) -> BTreeSet<Spot> {
        let now = desk.now;
        let mut missing = BTreeSet::new();
        for (spot, _) in self.wanted.iter().filter(|(_, wanted)| !wanted.unproven) {
            let Some(state) = self.spots.get(spot).filter(|state| !state.in_flight) else { continue };
            let needed = match state.presence(now) {
                Presence::Absent => true,
                // A gate opens only after its pod's own registration was acknowledged. Repeating one changes nothing.
                Presence::Present => state.holder.as_ref().is_some_and(|holder| {
                    let claimed = match holder.claim {
                        Claim::Undecided => false,
                        Claim::Fresh | Claim::Takeover => true,
                        Claim::Adopted => !self.is_gate_open(holder, desk),
                    };
                    holder.owner.gated
                        && holder.registered.is_none()
                        && claimed
                        && !matches!(state.wrote, Wrote::RegisterLost(stamp) if state.looked.is_none_or(|look| look.effect <= stamp.effect))
                }),
                Presence::LookFirst | Presence::Unknown => false,
            };
            if !needed {
                continue;
            }
            match &state.rejected {
                Some(rejected) if rejected.again_at > now => alarm.at(rejected.again_at),
                _ => {
                    missing.insert(spot.clone());
                }
            }
        }
        if let Some(most) = desk.settings.most_targets {
            let present = self.present(now);
            let room = most.saturating_sub(present.len());
            let mut new: Vec<&Spot> = missing.iter().filter(|spot| !present.contains(spot)).collect();
            let over: BTreeSet<Spot> = new.drain(room.min(new.len())..).cloned().collect();
            missing.retain(|spot| !over.contains(spot));
        }
        missing
    }

    fn is_gate_open(&self, holder: &Holder, desk: &Desk<'_>) -> bool {
        let pod = desk.cluster.pods.get(&holder.owner.key).filter(|pod| pod.meta.uid == holder.owner.uid);
        let gate = pod.and_then(|pod| self.effective_gate(pod));
        gate.is_some_and(|condition| condition.status == GateStatus::True)
    }

    /// Those of the missing whose endpoints are known to be so at present. Watches that have been silent for long may be
    /// dead; then only what was read since counts.
    fn provable(&self, missing: BTreeSet<Spot>, facts: &Facts, desk: &Desk<'_>) -> BTreeSet<Spot> {
        let heard = desk.cluster.endpoints_heard_at();
        let silent = heard.is_none_or(|at| desk.now.saturating_sub(at) > SILENCE);
        if facts.target_type == TargetType::Instance || !silent {
            return missing;
        }
        let read = self.brake.confirmed(desk.now);
        let same = |spot: &Spot| {
            let wanted = self.wanted.get(spot).map(|wanted| &wanted.owner.uid);
            read.is_some_and(|read| read.get(spot) == wanted)
        };
        missing.into_iter().filter(same).collect()
    }

    /// Whether targets that should be there are not, and nothing is known to be in their way.
    pub fn is_registering(&self, desk: &Desk<'_>) -> bool {
        self.register.flight.is_some() || !self.missing_targets(desk, &mut Alarm::default()).is_empty()
    }

    /// Queues a registration if something is missing.
    pub fn plan_registrations(
        &mut self,
        record: &BindingRecord,
        facts: &Facts,
        desk: &mut Desk<'_>,
        alarm: &mut Alarm,
    ) {
        if self.register.flight.is_some() || self.register.queued || !self.may_register(record, desk) {
            return;
        }
        let missing = self.missing_targets(desk, alarm);
        if missing.is_empty() || !self.ledger.covers(facts, &missing) {
            return;
        }
        if self.provable(missing, facts, desk).is_empty() {
            let because = "targets are to be registered and the watches have been silent";
            self.look_twice(record, because, desk, alarm);
            return;
        }
        let due = self.register.due_at().max(self.full.as_ref().map_or(Duration::ZERO, |full| full.again_at));
        if due > desk.now {
            alarm.at(due);
            return;
        }
        self.register.queued = true;
        let turn = Turn { binding: self.key.clone(), kind: Kind::Register };
        desk.turn(&facts.account, Bucket::Targets, Priority::Register, &self.key, turn);
    }

    /// Targets that the ledger has to have before they are registered.
    pub fn about_to_register(&self, record: &BindingRecord, desk: &Desk<'_>) -> BTreeSet<Spot> {
        if !self.may_register(record, desk) {
            return BTreeSet::new();
        }
        self.missing_targets(desk, &mut Alarm::default())
    }

    /// The turn to register has come.
    pub fn take_register_turn(&mut self, record: &BindingRecord, desk: &mut Desk<'_>) -> Option<Effect> {
        self.register.queued = false;
        if self.register.flight.is_some() || !self.may_register(record, desk) {
            return None;
        }
        self.refresh(record, desk);
        let facts = self.facts()?.clone();
        let missing = self.missing_targets(desk, &mut Alarm::default());
        if !self.ledger.covers(&facts, &missing) {
            return None;
        }
        let missing = self.provable(missing, &facts, desk);
        let batch = self.register.next(&missing);
        let mut targets = Vec::with_capacity(batch.len());
        let mut sent = Vec::with_capacity(batch.len());
        for spot in batch {
            let (Some(wanted), Some(state)) = (self.wanted.get(&spot), self.spots.get_mut(&spot)) else { continue };
            let absent = state.presence(desk.now) == Presence::Absent;
            if let Some(holder) = state.holder.as_mut().filter(|_| absent) {
                // Nothing is registered there: what comes is this holder's.
                holder.registered = None;
                if !wanted.contested {
                    holder.claim = Claim::Fresh;
                }
            }
            state.in_flight = true;
            let zone = match state.zone {
                Some(ZoneLearned::All) => Some("all"),
                Some(ZoneLearned::Own) => None,
                None => wanted.zone,
            };
            targets.push(Target {
                id: spot.id.to_string(),
                port: spot.port,
                availability_zone: zone.map(str::to_owned),
                quic_server_id: wanted.quic_server_id.clone(),
            });
            sent.push((spot, wanted.owner.uid.clone()));
        }
        let first = self.wanted.get(&sent.first()?.0)?;
        let because = match sent.as_slice() {
            [(spot, uid)] => format!("{} (uid {uid}) is ready and {spot} is not registered", first.owner.key.name),
            many => {
                let (spot, uid) = many.first()?;
                let others = many.len() - 1;
                format!(
                    "{} (uid {uid}) is ready and {spot} is not registered, and {others} more like it",
                    first.owner.key.name
                )
            }
        };
        let call = Call::RegisterTargets { group: facts.arn.clone(), targets };
        let cause = Cause { object: self.key.clone(), because };
        let effect = desk.outbox.send(Asker::Targets, facts.account.clone(), call, Priority::Register, cause, desk.now);
        self.register.flight = Some(effect.id);
        self.register.sent_at = Some(desk.now);
        desk.asks.insert(effect.id, self.ask(What::Register(sent)));
        Some(effect)
    }

    /// A registration has ended.
    pub fn registered(&mut self, sent: &[(Spot, Uid)], result: Result<(), Fault>, desk: &mut Desk<'_>) {
        self.register.flight = None;
        let stamp = desk.stamp();
        let lost = matches!(&result, Err(Fault::Unknown(_)));
        for (spot, uid) in sent {
            let Some(state) = self.spots.get_mut(spot) else { continue };
            state.in_flight = false;
            if result.is_ok() {
                state.wrote = Wrote::Registered(stamp);
                state.shown = false;
                state.rejected = None;
                if let Some(holder) = state.holder.as_mut().filter(|holder| holder.owner.uid == *uid) {
                    holder.registered = Some(stamp);
                    holder.waiting_since.get_or_insert(desk.now);
                }
            } else if lost {
                state.wrote = Wrote::RegisterLost(stamp);
                state.shown = false;
            }
        }
        match result {
            Ok(()) => {
                self.register.taken();
                self.drifted = None;
                self.full = None;
                self.group_missing_since = None;
            }
            Err(Fault::Refused(refusal)) => {
                let batch: Vec<Spot> = sent.iter().map(|(spot, _)| spot.clone()).collect();
                self.registration_refused(&batch, &refusal.code, &refusal.message, desk);
            }
            Err(fault) => self.write_faulted(&fault, desk, &Kind::Register),
        }
    }

    fn registration_refused(&mut self, batch: &[Spot], code: &str, message: &str, desk: &mut Desk<'_>) {
        let because = format!("{code}: {message}");
        self.register.problem = Some(because.clone());
        match Refused::of(code) {
            Refused::Quota => {
                if self.register.overfull(batch) {
                    let times = self.full.as_ref().map_or(0, |full| full.times) + 1;
                    let again_at = desk.now + Fault::backoff(times);
                    self.full = Some(Full { because: because.clone(), again_at, times });
                    self.say(desk, true, "TargetQuotaReached", because);
                }
            }
            Refused::Missing => self.group_is_missing(desk, &Kind::Register),
            Refused::Group => {
                self.register.retry.failed(desk.now);
                self.say(desk, true, "RegistrationRefused", because);
            }
            Refused::Target => {
                if self.learn_zones(batch, message) {
                    return;
                }
                if planted!(desk.settings, NoHalving) {
                    self.register.retry.failed(desk.now);
                    return;
                }
                if let Some(alone) = self.register.refused(batch, desk.now) {
                    let Some(state) = self.spots.get_mut(&alone) else { return };
                    let times = state.rejected.as_ref().map_or(0, |rejected| rejected.times);
                    let again_at = desk.now + Fault::backoff(times);
                    state.rejected = Some(Rejected { because: because.clone(), times: times + 1, again_at });
                    if times == 0 {
                        let owner = self.wanted.get(&alone).map(|wanted| wanted.owner.key.name.to_string());
                        let of = owner.map(|name| format!(" of {name}")).unwrap_or_default();
                        self.said.remove("TargetRefused");
                        self.say(desk, true, "TargetRefused", format!("AWS refuses target {alone}{of}: {because}"));
                    }
                }
            }
        }
    }

    /// Takes from a refusal which addresses are outside the VPC, or within. Whether something new was learned.
    fn learn_zones(&mut self, batch: &[Spot], message: &str) -> bool {
        let outside = message.contains("outside the VPC") || message.contains("not in the VPC");
        let within = message.contains("is within the VPC");
        if !outside && !within {
            return false;
        }
        let learned = if outside { ZoneLearned::All } else { ZoneLearned::Own };
        let mut news = false;
        for address in message.split('\'').skip(1).step_by(2) {
            for spot in batch.iter().filter(|spot| *spot.id == *address) {
                if let Some(state) = self.spots.get_mut(spot)
                    && state.zone.is_none()
                {
                    state.zone = Some(learned);
                    news = true;
                }
            }
        }
        news
    }

    /// A write has failed in a way that says nothing of its targets.
    pub fn write_faulted(&mut self, fault: &Fault, desk: &mut Desk<'_>, kind: &Kind) {
        if matches!(fault, Fault::Throttled { .. }) {
            self.throttled_at = Some(desk.now);
        }
        let batches = if *kind == Kind::Register { &mut self.register } else { &mut self.deregister };
        batches.faulted(fault, desk.settings, desk.now);
    }

    /// AWS says that there is no such group: it may be too new to be seen everywhere, or gone.
    pub fn group_is_missing(&mut self, desk: &mut Desk<'_>, kind: &Kind) {
        let since = *self.group_missing_since.get_or_insert(desk.now);
        let retry = match kind {
            Kind::Register => &mut self.register.retry,
            Kind::Deregister => &mut self.deregister.retry,
            _ => &mut self.looks.retry,
        };
        if desk.now.saturating_sub(since) < super::spot::SETTLING {
            let wait = Fault::backoff(retry.failures.min(3));
            *retry = super::retry::Retry { failures: retry.failures + 1, at: desk.now + wait };
        } else {
            retry.failed(desk.now);
            let arn = self.facts().map(|facts| facts.arn.to_string()).unwrap_or_default();
            let message = format!("AWS has no target group {arn}; it is looked for again every minute");
            self.say(desk, true, "TargetGroupNotFound", message);
        }
    }
}
