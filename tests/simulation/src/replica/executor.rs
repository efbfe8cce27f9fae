//! Carries effects out: the checks before one is sent, its way there, what it meets, and its way back.

use std::time::Duration;

use registrar_core::{
    Effect, Event,
    aws::{Call, Fault, HealthState, Refusal, Reply},
    effect::Action,
    event::{Denial, Outcome},
};

use crate::{
    crash::Moment,
    fact::{Fact, Number},
    weather::{Falsified, Fate},
    world::{Happening, World},
};

/// How long a call may take at most, on the clock of the one who calls.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

fn not_sent(effect: &Effect, why: &str) -> Outcome {
    match effect.action {
        Action::Aws { .. } => Outcome::Aws(Err(Fault::NotSent(why.to_owned()))),
        Action::Kubernetes(_) => Outcome::Kubernetes(Err(Denial::NotSent(why.to_owned()))),
    }
}

fn unknown(effect: &Effect, why: &str) -> Outcome {
    match effect.action {
        Action::Aws { .. } => Outcome::Aws(Err(Fault::Unknown(why.to_owned()))),
        Action::Kubernetes(_) => Outcome::Kubernetes(Err(Denial::Unknown(why.to_owned()))),
    }
}

impl World {
    /// An effect is about to leave its process.
    pub(crate) fn depart(&mut self, number: Number, effect: Box<Effect>) {
        let now = self.now;
        let replica = &self.replicas[number];
        let incarnation = replica.incarnation;
        let local = replica.clock.local(now);
        let gives_up = effect.deadline.min(local + CALL_TIMEOUT);
        let leads = replica.leading.filter(|leading| Some(leading.fence) == effect.fence);
        let is_aws = matches!(effect.action, Action::Aws { .. });
        let refused = if local >= effect.deadline {
            Some("no time left")
        } else if replica.stopping {
            Some("the process ends")
        } else if effect.fence.is_some() && leads.is_none_or(|leading| leading.until < gives_up) {
            Some("the lease is gone or too short")
        } else if is_aws && replica.without_credentials > now {
            Some("no credentials")
        } else {
            None
        };
        if let Some(why) = refused {
            let outcome = not_sent(&effect, why);
            self.after(Duration::from_millis(1), Happening::Ended(number, incarnation, effect, Box::new(outcome)));
            return;
        }
        let gives_up = replica.clock.world(gives_up);
        self.tell(&Fact::Sent { replica: number, effect: &effect });
        if self.crash_at(number, Moment::NotApplied) {
            return;
        }
        let fate = self.fate(&effect);
        let mut on_its_way = self.choices.millis(1, 25);
        if let Fate::Slow(by) = fate {
            on_its_way += by;
        }
        if fate == Fate::RequestLost || now + on_its_way >= gives_up {
            let outcome = unknown(&effect, "the connection was closed");
            let at = if fate == Fate::RequestLost { now + on_its_way } else { gives_up };
            self.at(at, Happening::Ended(number, incarnation, effect, Box::new(outcome)));
            return;
        }
        self.after(on_its_way, Happening::Arrive(number, incarnation, effect, fate, gives_up));
    }

    /// An effect arrives where it is carried out, whether or not its process still lives.
    pub(crate) fn arrive(
        &mut self,
        number: Number,
        incarnation: u64,
        effect: Box<Effect>,
        fate: Fate,
        gives_up: Duration,
    ) {
        let mut outcome = match &effect.action {
            Action::Aws { call, .. } => Outcome::Aws(self.deal_with(number, &effect, call, fate)),
            Action::Kubernetes(request) => {
                let outcome = match fate {
                    Fate::Conflict => Err(Denial::Conflict),
                    Fate::FailedBefore => Err(Denial::Unknown("500 before".to_owned())),
                    _ => self.ask(request),
                };
                if fate == Fate::Twice {
                    _ = self.ask(request);
                }
                self.tell(&Fact::Asked { replica: number, effect: &effect, outcome: &outcome });
                Outcome::Kubernetes(outcome)
            }
        };
        if matches!(fate, Fate::ReplyLost | Fate::FailedAfter) {
            outcome = unknown(&effect, "the answer was lost");
        }
        if self.is_current(number, incarnation) && self.crash_at(number, Moment::Applied) {
            return;
        }
        let back = self.now + self.choices.millis(1, 25);
        let (at, outcome) =
            if back < gives_up { (back, outcome) } else { (gives_up, unknown(&effect, "the deadline has passed")) };
        self.at(at, Happening::Ended(number, incarnation, effect, Box::new(outcome)));
    }

    fn deal_with(&mut self, number: Number, effect: &Effect, call: &Call, fate: Fate) -> Result<Reply, Fault> {
        let refusal =
            |code: &str| Err(Fault::Refused(Refusal { code: code.to_owned(), message: "ordered".to_owned() }));
        let mut outcome = match fate {
            Fate::Throttled => Err(Fault::Throttled { code: "Throttling".to_owned() }),
            Fate::FailedBefore => Err(Fault::Unknown("503 ServiceUnavailable".to_owned())),
            Fate::Refused(code) => refusal(code),
            _ => self.call(call).outcome,
        };
        if fate == Fate::Twice {
            _ = self.call(call);
        }
        if let (Fate::Falsified(how), Ok(Reply::TargetHealth(states))) = (fate, &mut outcome) {
            for state in states {
                (state.state, state.reason) = match how {
                    Falsified::Unavailable => (HealthState::Unavailable, Some("Elb.InternalError".to_owned())),
                    Falsified::Unheard => (HealthState::Other("quarantined".to_owned()), None),
                    Falsified::NotInUse => (HealthState::Unused, Some("Target.NotInUse".to_owned())),
                };
            }
        }
        self.tell(&Fact::Called { replica: number, effect, call, outcome: &outcome });
        outcome
    }

    /// An effect has come to its end, as its process sees it.
    pub(crate) fn ended(&mut self, number: Number, effect: &Effect, outcome: Outcome) {
        self.step(number, Event::Ended { id: effect.id, outcome });
        self.crash_at(number, Moment::ReplyRead);
    }
}
