//! What the core is told.

use std::time::Duration;

use crate::{
    aws::{Fault, Reply},
    cluster::{Key, Kind, PodRecord, Record, SliceRecord, Uid},
    effect::EffectId,
};

/// Something that has happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A watch said something.
    Watched(Watched),
    /// An effect has come to its end.
    Ended {
        /// Which.
        id: EffectId,
        /// How.
        outcome: Outcome,
    },
    /// This process leads, or goes on leading.
    Leading {
        /// Counts leaderships: an effect that was decided under another one is not carried out.
        fence: Fence,
        /// Until when, if nothing is heard, on the monotonic clock.
        until: Duration,
    },
    /// This process does not lead.
    Following,
    /// The process ends: nothing new is begun.
    Stopping,
    /// Time has passed; see [`crate::State::deadline`].
    Tick,
}

/// Number of a leadership of this process.
pub type Fence = u64;

/// What a watch says.
#[derive(Debug, Clone, PartialEq)]
pub enum Watched {
    /// A list begins anew. What is known stays in force until the list is complete; then what was not in it is gone.
    Restarted(Kind),
    /// An object is there, or has changed.
    Applied(Record),
    /// An object is gone. The UID is that of its last state.
    Deleted(Kind, Key, Uid),
    /// The list is complete.
    Listed(Kind),
    /// The cluster does not know the kind, or does not let us see it, in words for a person. It counts as complete and
    /// empty only for kinds that a feature could do without.
    Absent(Kind, String),
}

/// How an effect ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A call to AWS.
    Aws(Result<Reply, Fault>),
    /// A request to the API server.
    Kubernetes(Result<Answer, Denial>),
}

/// What the API server answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The endpoint slices of a Service as they are now, and the pods that they name, by reads that no cache answers.
    Endpoints {
        /// Slices.
        slices: Vec<SliceRecord>,
        /// Pods of the namespace that the slices name.
        pods: Vec<PodRecord>,
    },
    /// The targets that this cluster has registered in a shared group, as the ledger has them; nothing if there is none.
    Ledger(Option<Vec<String>>),
}

/// Why the API server did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// 404: it is not there.
    #[error("not found")]
    NotFound,
    /// 409, or a test of the patch failed: it has changed meanwhile.
    #[error("changed meanwhile")]
    Conflict,
    /// 422 on the UID: another object has the name now.
    #[error("replaced by another of its name")]
    Replaced,
    /// 403: a permission or a policy is in the way.
    #[error("forbidden: {0}")]
    Forbidden(String),
    /// Any other refusal.
    #[error("refused: {0}")]
    Refused(String),
    /// No answer: it may have been done.
    #[error("no answer: {0}")]
    Unknown(String),
    /// It was never sent.
    #[error("not sent: {0}")]
    NotSent(String),
}
