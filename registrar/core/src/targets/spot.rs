//! A place in a target group, and what is known of what is there.

use std::{fmt, time::Duration};

use crate::{
    aws::{HealthState, Target, TargetHealth},
    cluster::{Key, Uid},
    effect::EffectId,
};

/// What identifies a target within its group: an address or instance id, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Spot {
    /// Address or instance id.
    pub id: Box<str>,
    /// Port.
    pub port: u16,
}

impl Spot {
    /// That of a target.
    pub fn of(target: &Target) -> Self {
        Self { id: target.id.as_str().into(), port: target.port }
    }
}

/// As the ledger of a shared group has it.
impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.id, self.port)
    }
}

/// A moment, as a place in the row of effects and as a time. An effect whose id is larger than the stamp's was sent after
/// it; equal times say nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// The last effect that was sent before it.
    pub effect: EffectId,
    /// When.
    pub at: Duration,
}

/// Whose target it is, or is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The pod or node.
    pub key: Key,
    /// Its UID: a later one of that name is another owner.
    pub uid: Uid,
    /// Whether it is a pod with a gate that health opens.
    pub gated: bool,
}

/// What there should be at a spot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// For whom.
    pub owner: Owner,
    /// Whether another live pod has the address too. The target stays and no gate opens until one of the two is gone.
    pub contested: bool,
    /// Whether it stays only because its Service has not been away for long: nothing is registered on such grounds.
    pub unproven: bool,
    /// `all` for an address outside the VPC's subnets.
    pub zone: Option<&'static str>,
    /// For QUIC groups.
    pub quic_server_id: Option<String>,
}

/// What the load balancer last said of a spot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// State.
    pub state: HealthState,
    /// Reason, as AWS writes it.
    pub reason: Option<String>,
    /// In words.
    pub description: Option<String>,
}

impl Verdict {
    /// That of an answer.
    pub fn of(health: TargetHealth) -> Self {
        Self { state: health.state, reason: health.reason, description: health.description }
    }

    /// Whether it says of a target that is registered that it is not healthy, or not yet: this closes an open gate.
    pub fn is_bad(&self) -> bool {
        matches!(self.state, HealthState::Initial | HealthState::Unhealthy | HealthState::UnhealthyDraining)
    }

    /// Whether it says that the target is not, or not any longer, registered.
    pub fn is_gone(&self) -> bool {
        match self.state {
            HealthState::Draining => true,
            HealthState::Unused => self.reason.as_deref() == Some("Target.NotRegistered"),
            _ => false,
        }
    }
}

/// The last write at a spot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// None by this process in this leadership.
    Nothing,
    /// Registered, acknowledged then.
    Registered(Stamp),
    /// It was sent and nothing was heard: it may be registered.
    RegisterLost(Stamp),
    /// Deregistered, acknowledged then.
    Removed(Stamp),
    /// It was sent and nothing was heard: look before it is repeated.
    RemoveLost(Stamp),
}

impl Wrote {
    fn stamp(self) -> Option<Stamp> {
        match self {
            Self::Nothing => None,
            Self::Registered(stamp) | Self::RegisterLost(stamp) | Self::Removed(stamp) | Self::RemoveLost(stamp) => {
                Some(stamp)
            }
        }
    }
}

/// How an owner came to its spot, as far as it bears on whose health is seen there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nobody has looked since: it may be registered for somebody else.
    Undecided,
    /// Nothing was registered there: the verdict is going to be on this owner.
    Fresh,
    /// It was registered already, for somebody else as far as we know: the verdict is on this owner only after as many
    /// checks as turn it.
    Takeover,
    /// It was registered already, and the owner's gate was open, or it has none: nothing has to be shown.
    Adopted,
}

/// Who has a spot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Who.
    pub owner: Owner,
    /// When it was first seen to have it alone.
    pub since: Stamp,
    /// How it came to it.
    pub claim: Claim,
    /// When its registration was acknowledged.
    pub registered: Option<Stamp>,
    /// Since when its gate waits.
    pub waiting_since: Option<Duration>,
}

/// A target that AWS does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// In AWS's words.
    pub because: String,
    /// How often.
    pub times: u32,
    /// When it is tried again.
    pub again_at: Duration,
}

/// What is known of a spot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpotState {
    /// Who has it.
    pub holder: Option<Holder>,
    /// What was last said of it, and the look that said it. Nothing: it was not listed then.
    pub verdict: Option<Verdict>,
    /// The last look that was asked after it came to be known here.
    pub looked: Option<Stamp>,
    /// The last write.
    pub wrote: Wrote,
    /// Whether a look has shown it since it was registered.
    pub shown: bool,
    /// Whether a write is under way.
    pub in_flight: bool,
    /// Since when it should not be there.
    pub leaving_since: Option<Duration>,
    /// AWS does not take it.
    pub rejected: Option<Rejected>,
    /// The zone that AWS asked for, by its refusal, in place of the one that we would give.
    pub zone: Option<ZoneLearned>,
}

/// What a refusal has taught about the zone of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZoneLearned {
    /// It is outside the VPC: `all`.
    All,
    /// It is within: none is given.
    Own,
}

impl Default for SpotState {
    fn default() -> Self {
        Self {
            holder: None,
            verdict: None,
            looked: None,
            wrote: Wrote::Nothing,
            shown: false,
            in_flight: false,
            leaving_since: None,
            rejected: None,
            zone: None,
        }
    }
}

/// Whether something is registered at a spot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Yes, or it may be.
    Present,
    /// No, or it is draining.
    Absent,
    /// A removal's reply was lost and nobody has looked since.
    LookFirst,
    /// Nobody has looked.
    Unknown,
}

/// For how long AWS may not show what it has acknowledged.
pub const SETTLING: Duration = Duration::from_mins(1);

impl SpotState {
    /// When the last write was answered, if that came after a look was asked.
    pub fn wrote_after(&self, look: Stamp) -> Option<Duration> {
        self.wrote.stamp().filter(|stamp| stamp.effect >= look.effect).map(|stamp| stamp.at)
    }

    /// Whether a look was asked after the last write.
    fn looked_since_write(&self) -> bool {
        match (self.looked, self.wrote.stamp()) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(look), Some(write)) => look.effect > write.effect,
        }
    }

    /// Whether something is registered here. Looks may lag behind writes that were acknowledged: until they have had time
    /// to settle, the write is believed.
    pub fn presence(&self, now: Duration) -> Presence {
        let settling = |stamp: Stamp| now.saturating_sub(stamp.at) < SETTLING;
        let listed = self.verdict.as_ref().is_some_and(|verdict| !verdict.is_gone());
        let seen = if listed { Presence::Present } else { Presence::Absent };
        match self.wrote {
            Wrote::Registered(_) | Wrote::RegisterLost(_) if !self.looked_since_write() => Presence::Present,
            Wrote::Registered(stamp) if !listed && !self.shown && settling(stamp) => Presence::Present,
            Wrote::Removed(_) if !self.looked_since_write() => Presence::Absent,
            // Only what is asked later can contradict it.
            Wrote::Removed(stamp) if listed && self.looked.is_none_or(|look| look.at < stamp.at + SETTLING) => {
                Presence::Absent
            }
            Wrote::RemoveLost(_) if !self.looked_since_write() => Presence::LookFirst,
            Wrote::Nothing if self.looked.is_none() => Presence::Unknown,
            _ => seen,
        }
    }

    /// Whether it was acknowledged, or removed without a reply, and no look has shown it yet.
    pub fn is_settling(&self, now: Duration) -> bool {
        match self.wrote {
            Wrote::Registered(stamp) | Wrote::RegisterLost(stamp) => {
                !self.shown && now.saturating_sub(stamp.at) < SETTLING
            }
            Wrote::RemoveLost(_) => !self.looked_since_write() || self.may_appear(now),
            _ => false,
        }
    }

    /// Whether a registration that looks do not show may come to be seen, or to be seen again: replies get lost, and what
    /// was seen once may be hidden for a while. So a removal without a reply may have taken nothing away, although the look
    /// after it shows nothing; only one that shows it draining tells that it was made.
    pub fn may_appear(&self, now: Duration) -> bool {
        let recent = match self.wrote {
            Wrote::Registered(stamp) | Wrote::RegisterLost(stamp) => now.saturating_sub(stamp.at) < SETTLING,
            Wrote::RemoveLost(stamp) => self.verdict.is_none() && now.saturating_sub(stamp.at) < SETTLING,
            _ => false,
        };
        recent && self.verdict.as_ref().is_none_or(Verdict::is_gone)
    }

    /// Whether nothing is registered here for sure: whoever comes now finds no checks of another.
    pub fn is_vacant(&self, now: Duration) -> bool {
        self.presence(now) == Presence::Absent && !self.may_appear(now)
    }

    /// What was last said of it, if the look was asked after its holder was registered and had it alone for long enough:
    /// only then is it a verdict on the holder.
    ///
    /// `takeover` is how long checks take to turn a verdict; nothing if that is not known, which is for ever. `is_open`:
    /// whether the holder's gate is open, so that the verdict can only close it.
    pub fn fresh_verdict(&self, takeover: Option<Duration>, is_open: bool) -> Option<&Verdict> {
        let holder = self.holder.as_ref()?;
        let looked = self.looked?;
        let verdict = self.verdict.as_ref()?;
        if looked.effect <= holder.since.effect {
            return None;
        }
        let since_registered = || holder.registered.is_some_and(|registered| looked.effect > registered.effect);
        let counts = match holder.claim {
            Claim::Undecided => false,
            Claim::Adopted => is_open || since_registered(),
            Claim::Fresh => since_registered(),
            Claim::Takeover => since_registered() && takeover.is_some_and(|wait| looked.at >= holder.since.at + wait),
        };
        counts.then_some(verdict)
    }

    /// Whether nothing is known of a place that nobody wants that would be missed. What AWS says of it later is news.
    pub fn is_forgettable(&self, now: Duration) -> bool {
        let settled = |stamp: Stamp| now.saturating_sub(stamp.at) >= SETTLING;
        !self.in_flight
            && !self.may_appear(now)
            && self.presence(now) == Presence::Absent
            && self
                .wrote
                .stamp()
                .is_none_or(|stamp| settled(stamp) || (self.looked_since_write() && self.verdict.is_none()))
    }
}
