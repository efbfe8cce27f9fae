//! What a binding has at hand while it is worked on.

use std::{collections::BTreeMap, time::Duration};

use super::{Turn, spot::Spot};
use crate::{
    Outbox, Settings,
    aws::{Account, Bucket},
    cluster::{Cluster, GateCondition, Key, Uid},
    effect::{About, Cause, EffectId, Notice, Priority, Request},
    outbox::Asker,
    targets::spot::Stamp,
};

/// What an effect under way is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// For which binding.
    pub binding: Key,
    /// Which life of it.
    pub uid: Uid,
    /// What.
    pub what: What,
}

/// What an effect under way is.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// A look at the health of all targets.
    Look(Stamp),
    /// Targets being registered.
    Register(Vec<(Spot, Uid)>),
    /// Targets being deregistered.
    Deregister(Vec<Spot>),
    /// A second look at the endpoints.
    Endpoints,
    /// A gate being set.
    Gate(Uid, GateCondition),
    /// The status being written.
    Status,
    /// Absent fields of the spec being filled.
    Resolve,
    /// The finalizer being put on or taken off.
    Finalizer(bool),
    /// The ledger being read.
    Ledger,
    /// The ledger being written, with what.
    PutLedger(Vec<String>),
    /// Groups being described.
    Groups(Account, Vec<(Key, Uid)>),
    /// Tags being read.
    Tags(Account, Vec<(Key, Uid)>),
    /// Whether a binding is there that gates are named after and that is not in the cache.
    Orphan,
    /// Nothing that anybody waits for.
    Nothing,
}

/// What a binding has at hand while it is worked on.
pub struct Desk<'a> {
    /// Settings.
    pub settings: &'a Settings,
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Where effects are queued.
    pub outbox: &'a mut Outbox,
    /// What effects under way are for.
    pub asks: &'a mut BTreeMap<EffectId, Ask>,
    /// The time.
    pub now: Duration,
}

impl Desk<'_> {
    /// This moment.
    pub fn stamp(&self) -> Stamp {
        Stamp { effect: self.outbox.last(), at: self.now }
    }

    /// Queues a request to the API server.
    pub fn request(&mut self, ask: Ask, request: Request, priority: Priority, because: impl Into<String>) -> EffectId {
        let cause = Cause { object: ask.binding.clone(), because: because.into() };
        let id = self.outbox.kubernetes(Asker::Targets, request, priority, cause);
        self.asks.insert(id, ask);
        id
    }

    /// Publishes an Event.
    pub fn publish(&mut self, binding: &Key, about: About, warning: bool, reason: &'static str, message: String) {
        let because = format!("{reason}: {message}");
        let notice = Notice { about, warning, reason, message };
        let cause = Cause { object: binding.clone(), because };
        let id = self.outbox.kubernetes(Asker::Targets, Request::Publish(notice), Priority::Drift, cause);
        let ask = Ask { binding: binding.clone(), uid: Uid("".into()), what: What::Nothing };
        self.asks.insert(id, ask);
    }

    /// Queues a turn.
    pub fn turn(&mut self, account: &Account, bucket: Bucket, priority: Priority, object: &Key, turn: Turn) {
        self.outbox.turn(account.clone(), bucket, priority, object.clone(), turn);
    }
}
