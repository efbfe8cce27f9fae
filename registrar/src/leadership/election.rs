//! Who leads, as values: client-go's algorithm without its I/O.
//!
//! A lease is a record in the cluster that its holder renews. That it ran out is told by this process's own monotonic
//! clock alone: it has seen the same version of the record for as long as the record says it is good for. What clock the
//! holder has does not matter, and how fast it runs does only by the factor [`CLOCK_RATES`].

use std::time::Duration;

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use registrar_core::event::Fence;

/// The clocks of two replicas may differ in speed by this factor.
pub const CLOCK_RATES: u32 = 2;

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long others wait for a holder that is silent.
    pub duration: Duration,
    /// How long after its last renewal a holder stops by itself.
    pub renew_deadline: Duration,
    /// How often it is renewed.
    pub retry: Duration,
}

/// Times that do not keep two replicas apart.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsafeTiming {
    /// A holder with a slow clock would stop after others with a fast one began.
    #[error(
        "a lease of {duration:?} must be at least {CLOCK_RATES} times the renew deadline of {renew_deadline:?}, because clocks may differ that much"
    )]
    Clocks {
        /// Of the lease.
        duration: Duration,
        /// Of renewing.
        renew_deadline: Duration,
    },
    /// One lost attempt would end the leadership.
    #[error("the renew deadline of {renew_deadline:?} must be more than twice the retry period of {retry:?}")]
    Retry {
        /// Of renewing.
        renew_deadline: Duration,
        /// Between attempts.
        retry: Duration,
    },
    /// Leases count in whole seconds.
    #[error("a lease of {0:?} is not a number of whole seconds, at least 2")]
    Seconds(Duration),
}

impl Timing {
    /// Whether two replicas with these times never lead at once.
    pub fn check(self) -> Result<Self, UnsafeTiming> {
        let Self { duration, renew_deadline, retry } = self;
        if duration.subsec_nanos() != 0 || duration < Duration::from_secs(2) {
            return Err(UnsafeTiming::Seconds(duration));
        }
        if duration < renew_deadline * CLOCK_RATES {
            return Err(UnsafeTiming::Clocks { duration, renew_deadline });
        }
        if renew_deadline <= retry * 2 {
            return Err(UnsafeTiming::Retry { renew_deadline, retry });
        }
        Ok(self)
    }

    /// How long after the last renewal was begun the work of a leader must have ended.
    fn good_for(self) -> Duration {
        self.duration / CLOCK_RATES
    }
}

/// What a candidate does next.
#[derive(Debug, Clone, PartialEq)]
pub enum Bid {
    /// There is no lease: make this one.
    Create(Box<Lease>),
    /// Put this one in the place of the one that was seen; its resource version makes that fail if it has changed.
    Replace(Box<Lease>),
    /// Another one holds it.
    Wait,
}

/// What this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// Somebody else leads, or nobody.
    #[default]
    Following,
    /// This process leads.
    Leading {
        /// Counts the leaderships of this process.
        fence: Fence,
        /// When its work must have ended if it is not renewed.
        until: Duration,
    },
}

/// One candidate.
#[derive(Debug)]
pub struct Election {
    name: String,
    identity: String,
    timing: Timing,
    seen: Option<Seen>,
    /// When the last renewal that succeeded was begun.
    renewed: Option<Duration>,
    fence: Fence,
}

#[derive(Debug)]
struct Seen {
    lease: Lease,
    /// When this version was seen for the first time.
    since: Duration,
}

impl Election {
    /// A candidate that has seen nothing yet. `identity` must be unique among all processes that ever were.
    pub fn new(name: String, identity: String, timing: Timing) -> Self {
        Self { name, identity, timing, seen: None, renewed: None, fence: 0 }
    }

    /// The lease's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long things take.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// What this process is at `now`.
    pub fn standing(&self, now: Duration) -> Standing {
        match self.renewed {
            Some(renewed) if now < renewed + self.timing.renew_deadline => {
                Standing::Leading { fence: self.fence, until: renewed + self.timing.good_for() }
            }
            _ => Standing::Following,
        }
    }

    /// When leadership ends if nothing succeeds before; nothing if there is none.
    pub fn ends(&self) -> Option<Duration> {
        Some(self.renewed? + self.timing.renew_deadline)
    }

    /// The lease as this process wrote it last, while nothing hints that it has changed: a renewal needs no read then.
    pub fn own(&self) -> Option<&Lease> {
        self.renewed?;
        Some(&self.seen.as_ref()?.lease)
    }

    /// Takes in the lease as it was read, which was complete at `now`, and says what to do. `wall` is written into the
    /// lease for people and other clients, and decides nothing.
    pub fn bid(&mut self, read: Option<Lease>, now: Duration, wall: MicroTime) -> Bid {
        let Some(lease) = read else {
            self.seen = None;
            return Bid::Create(Box::new(self.claim(Lease::default(), wall)));
        };
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        if self.seen.as_ref().is_none_or(|seen| version(&seen.lease) != version(&lease)) {
            self.seen = Some(Seen { lease: lease.clone(), since: now });
        }
        let since = self.seen.as_ref().map_or(now, |seen| seen.since);
        let spec = lease.spec.as_ref();
        let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        let seconds = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
        let good_for = u64::try_from(seconds).map_or(self.timing.duration, Duration::from_secs);
        if !holder.is_empty() && holder != self.identity && now < since + good_for {
            return Bid::Wait;
        }
        Bid::Replace(Box::new(self.claim(lease, wall)))
    }

    fn claim(&self, mut lease: Lease, wall: MicroTime) -> Lease {
        lease.metadata = ObjectMeta { name: Some(self.name.clone()), ..lease.metadata };
        let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            spec.acquire_time = Some(wall.clone());
            spec.lease_transitions = Some(spec.lease_transitions.map_or(0, |n| n.saturating_add(1)));
        }
        spec.holder_identity = Some(self.identity.clone());
        spec.lease_duration_seconds = i32::try_from(self.timing.duration.as_secs()).ok();
        spec.renew_time = Some(wall);
        lease
    }

    /// The bid was stored, as `lease`. `begun` is the time before it was sent, `now` the time after.
    pub fn won(&mut self, lease: Lease, begun: Duration, now: Duration) {
        if self.standing(now) == Standing::Following {
            self.fence += 1;
        }
        self.renewed = Some(begun);
        self.seen = Some(Seen { lease, since: now });
    }

    /// Somebody else holds the lease, or took it in the meantime.
    pub fn lost(&mut self) {
        self.renewed = None;
    }

    /// An attempt came to no known end: the lease may have changed, and is read before the next one. Whether this
    /// process still leads is a matter of time.
    pub fn unsure(&mut self, now: Duration) {
        if self.standing(now) == Standing::Following {
            self.renewed = None;
        }
        // Only the version is forgotten: whoever holds it is not given more time by our not knowing.
        if let Some(seen) = self.seen.as_mut().filter(|_| self.renewed.is_some()) {
            seen.lease.metadata.resource_version = None;
        }
    }

    /// Whether the lease is known as it is stored, so that a renewal may go without reading it.
    pub fn is_sure(&self) -> bool {
        self.own().is_some_and(|lease| lease.metadata.resource_version.is_some())
    }

    /// The lease as it is given up, so that the next one need not wait; nothing if `lease` is another's.
    pub fn released(&self, mut lease: Lease, wall: MicroTime) -> Option<Lease> {
        let spec = lease.spec.as_mut()?;
        if spec.holder_identity.as_deref() != Some(&self.identity) {
            return None;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(wall);
        Some(lease)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing {
        duration: Duration::from_secs(20),
        renew_deadline: Duration::from_secs(8),
        retry: Duration::from_secs(2),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn candidate(identity: &str) -> Election {
        Election::new("lease".to_owned(), identity.to_owned(), TIMING)
    }

    /// Any time: nothing may depend on it.
    fn wall(seconds: i64) -> MicroTime {
        MicroTime(jiff::Timestamp::from_second(seconds).unwrap())
    }

    fn held_by(holder: &str, version: &str) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(20),
            renew_time: Some(wall(0)),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { resource_version: Some(version.to_owned()), ..ObjectMeta::default() };
        Lease { metadata, spec: Some(spec) }
    }

    #[test]
    fn lease_of_another_is_taken_only_after_it_was_seen_unchanged_for_its_duration() {
        let mut us = candidate("us");
        assert_eq!(us.bid(Some(held_by("them", "1")), at(100), wall(0)), Bid::Wait);
        assert_eq!(us.bid(Some(held_by("them", "1")), at(119), wall(1_000_000)), Bid::Wait);
        assert_eq!(us.bid(Some(held_by("them", "2")), at(119), wall(0)), Bid::Wait, "renewed");
        assert_eq!(us.bid(Some(held_by("them", "2")), at(138), wall(0)), Bid::Wait);
        assert!(matches!(us.bid(Some(held_by("them", "2")), at(139), wall(-5)), Bid::Replace(_)));
    }

    #[test]
    fn released_or_missing_lease_is_taken_at_once() {
        let mut us = candidate("us");
        let Bid::Create(created) = us.bid(None, at(0), wall(0)) else { panic!("create") };
        assert_eq!(created.spec.unwrap().holder_identity.as_deref(), Some("us"));
        let Bid::Replace(taken) = us.bid(Some(held_by("", "1")), at(0), wall(0)) else { panic!("replace") };
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("1"), "optimistic concurrency");
        assert_eq!(taken.spec.unwrap().lease_transitions, Some(0));
    }

    #[test]
    fn leader_stops_by_itself_before_another_with_twice_its_speed_may_begin() {
        let mut us = candidate("us");
        us.won(held_by("us", "1"), at(10), at(13));
        let Standing::Leading { fence: 1, until } = us.standing(at(13)) else { panic!("leads") };
        assert_eq!(until, at(20), "half of the lease, from before the renewal was sent");
        assert_eq!(us.ends(), Some(at(18)));
        assert_eq!(us.standing(at(18)), Standing::Following);
    }

    #[test]
    fn each_leadership_has_its_own_fence_and_a_renewal_keeps_it() {
        let mut us = candidate("us");
        us.won(held_by("us", "1"), at(0), at(0));
        us.won(held_by("us", "2"), at(2), at(2));
        assert!(matches!(us.standing(at(2)), Standing::Leading { fence: 1, .. }));
        us.lost();
        assert_eq!(us.standing(at(2)), Standing::Following);
        us.won(held_by("us", "5"), at(3), at(3));
        assert!(matches!(us.standing(at(3)), Standing::Leading { fence: 2, .. }));
        // A process that slept through its own deadline does not go on where it was.
        us.won(held_by("us", "6"), at(60), at(60));
        assert!(matches!(us.standing(at(60)), Standing::Leading { fence: 3, .. }));
    }

    #[test]
    fn attempt_without_an_answer_ends_no_leadership_but_the_next_one_reads_first() {
        let mut us = candidate("us");
        us.won(held_by("us", "1"), at(0), at(0));
        assert!(us.is_sure());
        us.unsure(at(3));
        assert!(!us.is_sure());
        assert!(matches!(us.standing(at(3)), Standing::Leading { .. }));
        us.unsure(at(8));
        assert_eq!(us.standing(at(8)), Standing::Following);
        // The reply was lost, the renewal was not: our own lease is no obstacle.
        assert!(matches!(us.bid(Some(held_by("us", "2")), at(9), wall(0)), Bid::Replace(_)));
    }

    #[test]
    fn only_our_own_lease_is_released() {
        let us = candidate("us");
        assert_eq!(us.released(held_by("them", "1"), wall(0)), None);
        let released = us.released(held_by("us", "1"), wall(0)).unwrap().spec.unwrap();
        assert_eq!((released.holder_identity.as_deref(), released.lease_duration_seconds), (Some(""), Some(1)));
    }

    #[test]
    fn times_that_do_not_keep_replicas_apart_are_refused() {
        assert_eq!(TIMING.check(), Ok(TIMING));
        for wrong in [
            Timing { duration: at(15), ..TIMING },
            Timing { retry: at(4), ..TIMING },
            Timing { duration: Duration::from_millis(20_500), ..TIMING },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
