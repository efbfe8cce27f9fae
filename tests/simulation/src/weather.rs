//! What goes wrong on the way to AWS and to the API server, and for how long.

use std::time::Duration;

use registrar_core::{Effect, effect::Action};

use crate::world::World;

/// What a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing.
    Fine,
    /// It takes its time.
    Slow(Duration),
    /// It never arrives.
    RequestLost,
    /// It is carried out, and nobody hears of it.
    ReplyLost,
    /// A 5xx, with nothing done.
    FailedBefore,
    /// A 5xx, with everything done.
    FailedAfter,
    /// AWS: over the rate.
    Throttled,
    /// It arrives twice.
    Twice,
    /// AWS: refused with a code.
    Refused(&'static str),
    /// AWS: health that says nothing of the target.
    Falsified(Falsified),
    /// API server: somebody else was faster.
    Conflict,
}

/// Health that says nothing of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Falsified {
    /// `unavailable`.
    Unavailable,
    /// A state that nobody has heard of.
    Unheard,
    /// `unused`, not in use.
    NotInUse,
}

/// Where a storm blows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To AWS; only one operation, if one is named.
    Aws(Option<&'static str>),
    /// To the API server.
    Kubernetes,
}

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Storm {
    pub(crate) way: Way,
    pub(crate) fate: Fate,
    pub(crate) per_mille: u32,
    pub(crate) until: Duration,
}

/// Everything that goes wrong now.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    pub(crate) storms: Vec<Storm>,
    /// Until when no API server answers.
    pub(crate) api_down: Duration,
    /// How far the API server of each registrar is behind storage.
    pub(crate) view_lag: [Duration; 2],
    /// What the API server of each registrar shows whoever lists: the state of a time that is past, until another.
    pub(crate) past: [Option<(Duration, Duration)>; 2],
    /// How far the endpoint slice controller is behind.
    pub(crate) slices_lag: Duration,
}

impl World {
    /// What an effect meets on its way.
    pub(crate) fn fate(&mut self, effect: &Effect) -> Fate {
        let now = self.now;
        if matches!(effect.action, Action::Kubernetes(_)) && self.weather.api_down > now {
            return Fate::RequestLost;
        }
        self.weather.storms.retain(|storm| storm.until > now);
        for index in 0..self.weather.storms.len() {
            let storm = self.weather.storms[index];
            let meets = match (&effect.action, storm.way) {
                (Action::Aws { call, .. }, Way::Aws(only)) => only.is_none_or(|name| name == call.operation()),
                (Action::Kubernetes(_), Way::Kubernetes) => true,
                _ => false,
            };
            if meets && self.choices.chance(storm.per_mille) {
                return storm.fate;
            }
        }
        Fate::Fine
    }
}
