//! What happens in a run, as the judge sees it. The world tells every fact once, in order.

use std::net::Ipv4Addr;

use registrar_core::{
    Effect, Event,
    aws::{Call, Fault, Reply},
    cluster::{Kind, Revision, Uid},
    event::{Answer, Denial},
};

use crate::cluster::etcd::Change;

/// Number of a registrar.
pub(crate) type Number = usize;

/// A target of a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TargetKey {
    /// ARN of the group.
    pub(crate) group: String,
    /// Address.
    pub(crate) address: String,
    pub(crate) port: u16,
}

/// Who may bind a group, as its tags say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// The namespaces in the list, which may hold `*`.
    Namespaces(Vec<String>),
    /// There is no tag.
    Untagged,
}

/// One thing that has happened.
#[derive(Debug, Clone)]
pub(crate) enum Fact<'a> {
    /// An object was stored or removed.
    Stored(Kind, &'a Change),
    /// A process has begun.
    Booted(Number),
    /// A process has ended, with whatever was in it.
    Died(Number),
    /// A process is told something.
    Told { replica: Number, event: &'a Event },
    /// A process is about to be told that its list of a kind is complete; it shows the storage as of this revision.
    Listed { replica: Number, kind: Kind, revision: Revision },
    /// The core of a process wants something done.
    Wants { replica: Number, effect: &'a Effect },
    /// A process sends what was wanted.
    Sent { replica: Number, effect: &'a Effect },
    /// AWS has dealt with a call; this is its answer, whether or not it arrives.
    Called { replica: Number, effect: &'a Effect, call: &'a Call, outcome: &'a Result<Reply, Fault> },
    /// The API server has dealt with a request; this is its answer, whether or not it arrives.
    Asked { replica: Number, effect: &'a Effect, outcome: &'a Result<Answer, Denial> },
    /// An address belongs to a pod's network, or to none.
    Held { address: Ipv4Addr, by: Option<&'a Uid> },
    /// A load balancer's check of a target came back, from this pod.
    Probed { key: &'a TargetKey, zone: &'a str, by: Option<&'a Uid>, passed: bool },
    /// What the API of the load balancer says of a target has changed.
    Target { key: &'a TargetKey, from: &'a str, to: &'a str },
    /// The tags of a group have changed.
    Tagged { group: &'a str, allowed: &'a Allowed },
    /// The lease has a new holder, or none.
    LeasedTo(Option<Number>),
    /// The world has lost its last fault, and the desired state holds.
    Calm,
}
