//! Token buckets as values.

use std::time::Duration;

use crate::settings::Rate;

/// A token bucket, kept as the time at which it would be full to the brim with debts paid (the "generic cell rate
/// algorithm"), so that nothing has to be refilled.
///
/// Being throttled although our own count had tokens left means that somebody else draws from the same bucket: the rate is
/// halved, down to an eighth, and doubled again after each quiet while.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    burst: u32,
    interval: Duration,
    /// When the bucket is full again, if nothing more is taken.
    full_at: Duration,
    slowdown: u32,
    changed_at: Duration,
}

/// How much slower than configured, at most.
const SLOWEST: u32 = 8;
/// How long without being throttled before the rate doubles again.
const QUIET: Duration = Duration::from_secs(10);

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate: Rate) -> Self {
        let interval = Duration::from_secs_f64(1.0 / rate.per_second.max(0.001));
        Self { burst: rate.burst.max(1), interval, full_at: Duration::ZERO, slowdown: 1, changed_at: Duration::ZERO }
    }

    /// From when on a token may be taken that leaves `reserve` behind.
    pub fn ready_at(&self, reserve: u32) -> Duration {
        let spare = self.burst.saturating_sub(1 + reserve.min(self.burst - 1));
        self.full_at.saturating_sub(self.interval * self.slowdown * spare)
    }

    /// Takes a token.
    pub fn spend(&mut self, now: Duration) {
        if self.slowdown > 1 && now.saturating_sub(self.changed_at) >= QUIET {
            self.slowdown /= 2;
            self.changed_at = now;
        }
        self.full_at = self.full_at.max(now) + self.interval * self.slowdown;
    }

    /// AWS has said that the bucket is empty.
    pub fn throttled(&mut self, now: Duration) {
        if self.slowdown == 1 || now.saturating_sub(self.changed_at) >= Duration::from_secs(1) {
            self.slowdown = (self.slowdown * 2).min(SLOWEST);
        }
        self.changed_at = now;
        self.full_at = self.full_at.max(now + self.interval * self.slowdown * self.burst);
    }

    /// Tokens that are left.
    pub fn level(&self, now: Duration) -> u32 {
        let interval = self.interval * self.slowdown;
        let owed = self.full_at.saturating_sub(now).as_nanos().div_ceil(interval.as_nanos().max(1));
        self.burst.saturating_sub(u32::try_from(owed).unwrap_or(u32::MAX))
    }

    /// How many at once.
    pub fn burst(&self) -> u32 {
        self.burst
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn drain(bucket: &mut TokenBucket, now: Duration, reserve: u32) -> u32 {
        let mut taken = 0;
        while bucket.ready_at(reserve) <= now && taken < 1000 {
            bucket.spend(now);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = TokenBucket::new(Rate { burst: 40, per_second: 10.0 });
        assert_eq!(bucket.level(SECOND), 40);
        assert_eq!(drain(&mut bucket, SECOND, 0), 40);
        assert_eq!(bucket.level(SECOND), 0);
        assert_eq!(drain(&mut bucket, SECOND * 2, 0), 10);
        assert_eq!(drain(&mut bucket, SECOND * 100, 0), 40, "it does not grow past its burst");
    }

    #[test]
    fn a_reserve_is_left_for_what_is_more_urgent() {
        let mut bucket = TokenBucket::new(Rate { burst: 40, per_second: 10.0 });
        assert_eq!(drain(&mut bucket, SECOND, 20), 20);
        assert_eq!(drain(&mut bucket, SECOND, 0), 20);
    }

    #[test]
    fn throttling_empties_the_bucket_and_slows_it_for_a_while() {
        let mut bucket = TokenBucket::new(Rate { burst: 10, per_second: 10.0 });
        bucket.throttled(SECOND);
        assert_eq!(bucket.level(SECOND), 0);
        assert_eq!(drain(&mut bucket, SECOND * 2, 0), 5, "half the rate");
        let mut taken = 0;
        for tenth in 20..400 {
            taken = taken.max(drain(&mut bucket, SECOND / 10 * tenth, 0));
        }
        assert_eq!(drain(&mut bucket, SECOND * 60, 0), 10);
        assert_eq!(drain(&mut bucket, SECOND * 61, 0), 10, "as configured again");
    }
}
