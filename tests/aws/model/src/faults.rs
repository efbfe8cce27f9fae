//! Replies that go wrong: by chance, or as a test has ordered.

use std::time::Duration;

use crate::{
    Event, Model, Service,
    fault::{Code, Fault},
};

/// What goes wrong with a call.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    /// No effect, this answer.
    Refuse(Fault),
    /// Full effect, no answer.
    Lose,
    /// Full effect, this answer.
    FailAfter(Fault),
    /// Full effect, late answer.
    Delay(Duration),
}

/// A fault as a test orders it, for the next `times` calls that it fits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Order {
    /// Operation that it befalls; any if absent.
    #[serde(default)]
    pub action: Option<String>,
    /// How many calls it befalls.
    #[serde(default = "once")]
    pub times: u32,
    /// What happens to them.
    pub effect: OrderedEffect,
}

const fn once() -> u32 {
    1
}

/// What an [`Order`] does to a call.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum OrderedEffect {
    /// The call takes effect and its connection closes without an answer.
    Lose,
    /// The call takes effect and answers 500 `InternalFailure`.
    FailAfter,
    /// The call answers 500 `InternalFailure` without effect.
    FailBefore,
    /// The call answers 503 `ServiceUnavailable` without effect.
    Unavailable,
    /// The call is refused with a code that its service knows.
    Refuse {
        /// The code, for example `Throttling` or `AccessDenied`.
        code: String,
    },
    /// The call takes effect and its answer is late.
    Delay {
        /// By how many seconds of model time.
        seconds: u32,
    },
}

/// An order that cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// No such error code.
    #[error("fault: no operation answers the code `{0}`; GET /v1/operations lists the codes")]
    Code(String),
    /// No such operation.
    #[error("fault: there is no operation `{0}`; GET /v1/operations lists them")]
    Action(String),
}

impl Model {
    /// Puts an order behind those that wait. Orders befall calls before chance does.
    pub fn order(&mut self, order: Order, now: Duration) -> Result<(), OrderError> {
        self.advance(now);
        if let Some(action) = &order.action
            && !Service::ALL.into_iter().any(|s| crate::operations::table(s).iter().any(|op| op.name == *action))
        {
            return Err(OrderError::Action(action.clone()));
        }
        if let OrderedEffect::Refuse { code } = &order.effect
            && refusal(code).is_none()
        {
            return Err(OrderError::Code(code.clone()));
        }
        self.note(Event::Control { who: "fault".to_owned(), value: format!("{order:?}") });
        self.orders.push(order);
        Ok(())
    }

    /// What shall go wrong with this call.
    pub(crate) fn next_effect(&mut self, service: Service, action: &str) -> Option<Effect> {
        let fits = |order: &Order| order.times > 0 && order.action.as_deref().is_none_or(|a| a == action);
        if let Some(order) = self.orders.iter_mut().find(|order| fits(order)) {
            order.times -= 1;
            let effect = order.effect.clone();
            self.orders.retain(|order| order.times > 0);
            return Some(match effect {
                OrderedEffect::Lose => Effect::Lose,
                OrderedEffect::FailAfter => Effect::FailAfter(internal(service)),
                OrderedEffect::FailBefore => Effect::Refuse(internal(service)),
                OrderedEffect::Unavailable => Effect::Refuse(unavailable()),
                OrderedEffect::Refuse { code } => Effect::Refuse(refusal(&code).unwrap_or_else(|| internal(service))),
                OrderedEffect::Delay { seconds } => Effect::Delay(Duration::from_secs(seconds.into())),
            });
        }
        let settings = &self.settings;
        if self.random.chance(settings.lose_replies.0) {
            return Some(Effect::Lose);
        }
        let after = self.random.chance(settings.fail_after.0);
        if after || self.random.chance(settings.fail_before.0) {
            let fault = if self.random.chance(0.5) { internal(service) } else { unavailable() };
            return Some(if after { Effect::FailAfter(fault) } else { Effect::Refuse(fault) });
        }
        None
    }

    /// How long this reply takes.
    pub(crate) fn latency(&mut self) -> Duration {
        let slow = self.random.chance(self.settings.latency_slow_share.0);
        if slow { self.settings.latency_slow } else { self.random.within(self.settings.latency) }
    }
}

fn refusal(code: &str) -> Option<Fault> {
    let code = Code::ALL.iter().find(|c| c.wire() == code)?;
    Some(code.because(match code {
        Code::Throttling | Code::ThrottlingException => "Rate exceeded",
        Code::AccessDenied => "User is not authorized to perform this action",
        _ => "Ordered by the test",
    }))
}

fn internal(service: Service) -> Fault {
    let code = if service == Service::Ec2 { Code::InternalError } else { Code::InternalFailure };
    code.because("An internal error has occurred")
}

fn unavailable() -> Fault {
    Code::ServiceUnavailable.because("Service is unavailable, please try again")
}
