//! Deregistering, and what comes of it.

use std::collections::BTreeSet;

use super::{
    Kind,
    batches::Refused,
    binding::Binding,
    desk::{Desk, What},
    retry::Alarm,
    spot::{Claim, Spot, SpotState, Stamp, Wrote},
};
use crate::{
    Effect,
    aws::{Call, Fault, Target},
    cluster::BindingRecord,
    effect::{Cause, Priority},
    outbox::Asker,
    settings::planted,
};

impl Binding {
    /// The turn to deregister has come.
    pub fn take_deregister_turn(&mut self, record: &BindingRecord, desk: &mut Desk<'_>) -> Option<Effect> {
        self.deregister.queued = false;
        if self.deregister.flight.is_some() {
            return None;
        }
        self.refresh(record, desk);
        let facts = self.facts()?.clone();
        let removable = self.removable(record, &facts, desk, &mut Alarm::default());
        let needed: BTreeSet<Spot> = removable.keys().cloned().collect();
        let batch = self.deregister.next(&needed);
        if batch.is_empty() {
            return None;
        }
        let mut reasons = batch.iter().filter_map(|spot| removable.get(spot)).map(|removal| removal.because.clone());
        let first = reasons.next()?;
        let others = reasons.count();
        let because = if others == 0 { first } else { format!("{first}, and {others} more targets leave") };
        for spot in &batch {
            if let Some(state) = self.spots.get_mut(spot) {
                state.in_flight = true;
            }
            if removable.get(spot).is_some_and(|removal| removal.braked) {
                self.brake.spend(desk.now);
            }
        }
        let target = |spot: &Spot| Target {
            id: spot.id.to_string(),
            port: spot.port,
            availability_zone: None,
            quic_server_id: None,
        };
        let targets = batch.iter().map(target).collect();
        let call = Call::DeregisterTargets { group: facts.arn.clone(), targets };
        let cause = Cause { object: self.key.clone(), because };
        let effect =
            desk.outbox.send(Asker::Targets, facts.account.clone(), call, Priority::Deregister, cause, desk.now);
        self.deregister.flight = Some(effect.id);
        self.deregister.sent_at = Some(desk.now);
        desk.asks.insert(effect.id, self.ask(What::Deregister(batch)));
        Some(effect)
    }

    /// A deregistration has ended.
    pub fn deregistered(&mut self, sent: &[Spot], result: Result<(), Fault>, desk: &mut Desk<'_>) {
        self.deregister.flight = None;
        let stamp = desk.stamp();
        let result = match result {
            Err(Fault::Unknown(_)) if planted!(desk.settings, DropLostReply) => Ok(()),
            other => other,
        };
        for spot in sent {
            let Some(state) = self.spots.get_mut(spot) else { continue };
            state.in_flight = false;
            match &result {
                Ok(()) => {
                    state.wrote = Wrote::Removed(stamp);
                    reset_holder(state, Claim::Fresh, stamp);
                }
                Err(Fault::Unknown(_)) => {
                    state.wrote = Wrote::RemoveLost(stamp);
                    reset_holder(state, Claim::Undecided, stamp);
                }
                Err(_) => {}
            }
        }
        match result {
            Ok(()) => {
                self.deregister.taken();
                self.drifted = None;
                // There is room now.
                if let Some(full) = &mut self.full {
                    full.again_at = desk.now;
                }
                self.farewell.deregistered(stamp);
            }
            Err(Fault::Refused(refusal)) => {
                let because = refusal.to_string();
                self.deregister.problem = Some(because.clone());
                match Refused::of(&refusal.code) {
                    Refused::Missing => self.group_is_missing(desk, &Kind::Deregister),
                    Refused::Target => {
                        if let Some(alone) = self.deregister.refused(sent, desk.now) {
                            self.deregister.retry.failed(desk.now);
                            self.say(
                                desk,
                                true,
                                "TargetRefused",
                                format!("AWS does not deregister {alone}: {because}"),
                            );
                        }
                    }
                    Refused::Quota | Refused::Group => {
                        self.deregister.retry.failed(desk.now);
                        self.say(desk, true, "DeregistrationRefused", because);
                    }
                }
            }
            Err(fault) => {
                // It may have been done: what is asked before it ends says nothing of what is left.
                if matches!(fault, Fault::Unknown(_)) {
                    self.farewell.deregistered(stamp);
                }
                self.write_faulted(&fault, desk, &Kind::Deregister);
            }
        }
    }
}

/// What was registered for the holder no longer is, or is not known to be.
fn reset_holder(state: &mut SpotState, claim: Claim, stamp: Stamp) {
    if let Some(holder) = &mut state.holder {
        holder.claim = claim;
        holder.registered = None;
        holder.since = stamp;
    }
}
