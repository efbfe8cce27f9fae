//! The one clock of decisions: time since the start of the process, which nobody can set back.

use std::time::Duration;

use tokio::time::Instant;

/// Tells the time since it was made. Copies agree.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Begins at zero, now.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time since its start.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The instant at which it says `time`; for waiting.
    pub fn instant(&self, time: Duration) -> Instant {
        // Far beyond the life of a process is as good as never.
        self.start.checked_add(time).unwrap_or_else(|| self.start + Duration::from_hours(24 * 365))
    }
}
