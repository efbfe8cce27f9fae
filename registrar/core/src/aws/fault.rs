//! How a call fails, in the one way that matters to what comes next: whether it may have been done.

use std::time::Duration;

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// AWS said no: nothing was done.
    #[error("{0}")]
    Refused(Refusal),
    /// Over the request rate: nothing was done, and it says nothing of the request. Never counted as a failure.
    #[error("throttled: {code}")]
    Throttled {
        /// `Throttling`, `ThrottlingException`, `RequestLimitExceeded`, ...
        code: String,
    },
    /// No answer, or one that cannot be read, or a 5xx: it may have been done. Read before repeating what removes.
    #[error("no reply that can be relied on: {0}")]
    Unknown(String),
    /// It was never sent: no credentials, no lease, no time left.
    #[error("not sent: {0}")]
    NotSent(String),
}

/// An error reply of AWS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The code as it came, for example `TargetGroupNotFound`. Codes that no model names are passed on.
    pub code: String,
    /// The message.
    pub message: String,
}

impl Fault {
    /// The code of a refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => Some(&refusal.code),
            _ => None,
        }
    }

    /// Whether AWS refused with this code.
    pub fn is(&self, code: &str) -> bool {
        self.code() == Some(code)
    }

    /// How a wait grows: 1, 2, 4 s and so on, at most a minute, whatever the fault.
    pub fn backoff(attempt: u32) -> Duration {
        Duration::from_secs(1 << attempt.min(6)).min(Duration::from_mins(1))
    }
}
