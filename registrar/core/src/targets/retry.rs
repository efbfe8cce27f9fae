//! When something that went wrong is tried again.

use std::time::Duration;

use crate::{aws::Fault, settings::Settings};

/// How long to wait after being throttled, or when nothing could be sent: it says nothing of the request itself.
const SOON: Duration = Duration::from_secs(1);

/// When something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retry {
    /// Failures in a row.
    pub failures: u32,
    /// Not before.
    pub at: Duration,
}

impl Retry {
    /// It went well.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// It failed: after 1, 2, 4 s and so on, at most a minute.
    pub fn failed(&mut self, now: Duration) {
        self.at = now + Fault::backoff(self.failures);
        self.failures = self.failures.saturating_add(1);
    }

    /// It failed in this way.
    pub fn faulted(&mut self, fault: &Fault, settings: &Settings, now: Duration) {
        match fault {
            Fault::Throttled { .. } if crate::settings::planted!(settings, ThrottleIsFailure) => {
                self.failures = (self.failures + 3).min(12);
                self.at = now + Duration::from_secs(1 << self.failures);
            }
            // The bucket makes it wait.
            Fault::Throttled { .. } => self.at = now,
            Fault::NotSent(_) => self.at = now + SOON,
            Fault::Refused(_) | Fault::Unknown(_) => self.failed(now),
        }
        let _ = settings;
    }

    /// Whether it may be tried.
    pub fn is_due(&self, now: Duration) -> bool {
        self.at <= now
    }
}

/// Collects moments and keeps the earliest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alarm(pub Option<Duration>);

impl Alarm {
    /// Ring then, or earlier.
    pub fn at(&mut self, moment: Duration) {
        self.0 = Some(self.0.map_or(moment, |before| before.min(moment)));
    }
}
