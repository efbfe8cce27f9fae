//! When a probe is due and what its results mean, as the kubelet has it.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

/// Which of a container's probes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Others wait for it; failing restarts the container.
    Startup,
    /// Decides whether the container is ready.
    Readiness,
    /// Failing restarts the container.
    Liveness,
}

impl Kind {
    /// The word that the kubelet uses in Events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Readiness => "Readiness",
            Self::Liveness => "Liveness",
        }
    }
}

/// The numbers of a probe, with the API's defaults where they are absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// From the container's start to the first probe.
    pub initial_delay: Duration,
    /// From one probe to the next.
    pub period: Duration,
    /// How long one probe may take.
    pub timeout: Duration,
    success_threshold: u32,
    failure_threshold: u32,
}

impl Timing {
    /// Reads a probe.
    pub fn of(probe: &Probe) -> Self {
        let seconds = |value: Option<i32>, default: u32| {
            Duration::from_secs(u64::from(value.and_then(|v| u32::try_from(v).ok()).unwrap_or(default)))
        };
        let count = |value: Option<i32>, default| value.and_then(|v| u32::try_from(v).ok()).unwrap_or(default).max(1);
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10).max(Duration::from_secs(1)),
            timeout: seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1)),
            success_threshold: count(probe.success_threshold, 1),
            failure_threshold: count(probe.failure_threshold, 3),
        }
    }
}

/// Counts results in a row and says when the verdict is reached.
#[derive(Debug)]
pub struct Tracker {
    timing: Timing,
    last: Option<bool>,
    run: u32,
}

impl Tracker {
    /// Nothing observed yet.
    pub fn new(timing: Timing) -> Self {
        Self { timing, last: None, run: 0 }
    }

    /// Takes one result; the verdict, if as many results in a row as its threshold asks for agree.
    pub fn observe(&mut self, success: bool) -> Option<bool> {
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let threshold = if success { self.timing.success_threshold } else { self.timing.failure_threshold };
        (self.run >= threshold).then_some(success)
    }
}

/// How long a container waits before it is started for the `restarts`-th time: nothing at first, then 10 s, doubled each
/// time, at most five minutes.
pub fn restart_delay(restarts: u32) -> Duration {
    const FIRST: Duration = Duration::from_secs(10);
    const MOST: Duration = Duration::from_mins(5);
    match restarts.checked_sub(2) {
        None => Duration::ZERO,
        Some(n) => FIRST.saturating_mul(1_u32.checked_shl(n).unwrap_or(u32::MAX)).min(MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_numbers_have_the_defaults_of_the_api() {
        let timing = Timing::of(&Probe::default());
        assert_eq!((timing.initial_delay, timing.period, timing.timeout).0, Duration::ZERO);
        assert_eq!(timing.period, Duration::from_secs(10));
        assert_eq!(timing.timeout, Duration::from_secs(1));
        assert_eq!((timing.success_threshold, timing.failure_threshold), (1, 3));
    }

    #[test]
    fn verdict_needs_as_many_equal_results_in_a_row_as_its_threshold() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut tracker = Tracker::new(Timing::of(&probe));
        let observed = [
            (true, None),
            (false, None),
            (true, None),
            (true, Some(true)),
            (true, Some(true)),
            (false, None),
            (false, None),
            (false, Some(false)),
        ];
        for (n, (result, verdict)) in observed.into_iter().enumerate() {
            assert_eq!(tracker.observe(result), verdict, "result {n}");
        }
    }

    #[test]
    fn restarts_wait_ten_seconds_doubled_up_to_five_minutes() {
        let delays: Vec<_> = (1..=8).map(|n| restart_delay(n).as_secs()).collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(restart_delay(u32::MAX).as_secs(), 300);
    }
}
