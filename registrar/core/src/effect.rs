//! What the core wants done.

use std::{collections::BTreeMap, fmt, time::Duration};

use nlb::targetgroupbinding::{TargetGroupBindingSpec, TargetGroupBindingStatus};

use crate::{
    aws::{Account, Call},
    cluster::{GateCondition, Key, Uid},
    event::Fence,
};

/// Names an effect in its [`crate::Event::Ended`]. Never used twice in a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectId(pub u64);

/// Something to do now: budget and order are decided already.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// Its name.
    pub id: EffectId,
    /// What to do.
    pub action: Action,
    /// How urgent, for an executor that cannot do all at once.
    pub priority: Priority,
    /// When to give up, on the monotonic clock.
    pub deadline: Duration,
    /// For writes: the leadership that they were decided under. They are sent only while it lasts, with time to spare.
    pub fence: Option<Fence>,
    /// Why, for the log: every write has a cause.
    pub cause: Cause,
}

/// From the most urgent to the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Targets that must go.
    Deregister,
    /// Targets that are missing.
    Register,
    /// Health that gates wait for, and the gates.
    Gates,
    /// Load balancers.
    LoadBalancers,
    /// Looking for drift.
    Drift,
}

/// Why something is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// The binding or Service that it is done for.
    pub object: Key,
    /// In words: `pod web-1 (uid ...) is terminating`.
    pub because: String,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}: {}", self.object.namespace, self.object.name, self.because)
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Call AWS.
    Aws {
        /// In which account.
        account: Account,
        /// The call.
        call: Call,
    },
    /// Ask the API server.
    Kubernetes(Request),
}

impl Action {
    /// Whether it changes nothing, so that it needs no leadership.
    pub fn is_read(&self) -> bool {
        match self {
            Self::Aws { call, .. } => call.is_read(),
            Self::Kubernetes(request) => matches!(
                request,
                Request::GetBinding { .. } | Request::ListEndpoints { .. } | Request::GetLedger { .. }
            ),
        }
    }
}

/// A request to the API server. Every write to an object that may be replaced carries its UID.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each field is what its name says")]
pub enum Request {
    /// Read a Service's endpoint slices and the pods they name, from storage and not from a cache.
    ListEndpoints { service: Key },
    /// Whether a binding is there, read from storage and not from a cache: [`crate::event::Answer::Done`] or
    /// [`crate::event::Denial::NotFound`].
    GetBinding { binding: Key },
    /// Set the condition of a readiness gate. `lastTransitionTime` is the shell's, and moves when `moves` says so.
    PatchGate { pod: Key, uid: Uid, condition_type: String, condition: GateCondition, moves: bool },
    /// Write the status of a binding. A condition whose `lastTransitionTime` is the Unix epoch has moved: the shell puts
    /// its clock there.
    PatchBindingStatus { binding: Key, uid: Uid, status: Box<TargetGroupBindingStatus> },
    /// Fill fields of a binding's spec that are absent (target type, address type, VPC, ARN, protocol).
    ResolveBinding { binding: Key, uid: Uid, spec: Box<TargetGroupBindingSpec> },
    /// Put our finalizer on a binding, or take it off.
    SetBindingFinalizer { binding: Key, uid: Uid, present: bool },
    /// Create a binding, or make it equal to this, by server-side apply.
    ApplyBinding { binding: Key, labels: BTreeMap<String, String>, spec: Box<TargetGroupBindingSpec> },
    /// Delete a binding.
    DeleteBinding { binding: Key, uid: Uid },
    /// Put our finalizer on a Service, or take it off.
    SetServiceFinalizer { service: Key, uid: Uid, present: bool },
    /// Write the load balancer's hostname (nothing clears it) and our conditions into the status of a Service.
    PatchServiceStatus { service: Key, uid: Uid, hostname: Option<String>, conditions: Vec<ServiceCondition> },
    /// Write the annotation that records which fields we set.
    SetManagedFields { service: Key, uid: Uid, fields: String },
    /// Read the ledger of a shared group.
    GetLedger { binding: Key },
    /// Write the ledger of a shared group; nothing deletes it.
    PutLedger { binding: Key, targets: Option<Vec<String>> },
    /// Publish an Event about an object.
    Publish(Notice),
}

/// A condition of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceCondition {
    /// Type.
    pub condition_type: &'static str,
    /// Status.
    pub status: bool,
    /// One word.
    pub reason: String,
    /// A sentence with the remedy.
    pub message: String,
}

/// An Event for a person to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The object that it is about.
    pub about: About,
    /// Whether something is wrong.
    pub warning: bool,
    /// One word: `TargetHealthy`, `FailOpen`, `BackendNotFound`, ...
    pub reason: &'static str,
    /// A sentence.
    pub message: String,
}

/// The object that an Event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// A pod.
    Pod(Key, Uid),
    /// A binding.
    Binding(Key, Uid),
    /// A Service.
    Service(Key, Uid),
}
