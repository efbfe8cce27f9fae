//! How a request can fail, as its client sees it.

use std::{fmt, io};

use serde::{Deserialize, Serialize};

/// What went wrong, told apart by how far the request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The name had no address.
    Unresolved,
    /// This machine had no address, port or open file left for it: nothing was sent, and nobody else is to blame.
    Unsent,
    /// The connect was answered with a reset, or with "unreachable".
    Refused,
    /// The connect was not answered in time.
    Timeout,
    /// The connection was accepted, then reset, closed or silent before the first byte of an answer. Behind a proxy this
    /// is what a target that refuses looks like.
    NoFirstByte,
    /// The connection was reset in the middle of the answer.
    Reset,
    /// The connection was closed, or fell silent, in the middle of the answer.
    Cut,
    /// The answer was not that of an echo server: another status, or no host name.
    Wrong,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unresolved => "unresolved",
            Self::Unsent => "unsent",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::NoFirstByte => "no first byte",
            Self::Reset => "reset",
            Self::Cut => "cut",
            Self::Wrong => "wrong answer",
        })
    }
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What went wrong.
    pub kind: Kind,
    /// What the system or the answer said.
    pub detail: String,
}

impl Failure {
    /// A failure of a kind.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// What an error of `connect` means.
    pub fn of_connect(error: &io::Error) -> Self {
        use io::ErrorKind as E;
        let kind = match error.kind() {
            E::ConnectionRefused | E::ConnectionReset | E::HostUnreachable | E::NetworkUnreachable => Kind::Refused,
            E::TimedOut => Kind::Timeout,
            // No address, port, file or memory, or a source that is not ours.
            _ => Kind::Unsent,
        };
        Self::new(kind, error.to_string())
    }
}
