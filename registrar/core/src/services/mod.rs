//! Load balancers of Services: the machine that runs the plans of `balancers` inside [`crate::State::step`].
//!
//! How it is driven (all of it by [`crate::State`], in this order within one step):
//!
//! - [`Services::watched`] for every change of a Service, binding, namespace or node that is taken into the cache, whether
//!   this process leads or not, so that what is derived from objects is warm when leadership comes. It emits nothing.
//! - [`Services::began`] when this process may act: it leads, and every cache is complete. Nothing is under way then,
//!   whatever was before: forget what was observed in AWS and what is in flight.
//! - [`Services::ended`] when an effect that was queued with [`crate::outbox::Asker::Services`] has ended.
//! - [`Services::tick`] at the end of every step while this process may act: queue what is to be done. It has to be cheap
//!   when nothing is due.
//! - [`Services::deadline`] says when `tick` wants to be called next, if nothing else happens.
//!
//! Effects are queued with `outbox.aws(Asker::Services, ...)` and `outbox.kubernetes(Asker::Services, ...)`, which give the
//! id that `ended` gets. The outbox keeps to budgets, fences and priorities.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    Outbox,
    cluster::{Change, Cluster, Key},
    effect::EffectId,
    event::Outcome,
    settings::Settings,
    targets::Targets,
};

/// What is known of a target group that is announced and has no binding yet. Gates are named after such groups by
/// admission, before they exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promise {
    /// It is being built: gates wait.
    Building,
    /// It could not be built, in words; nothing refers to it. Gates open, reason `BuildFailed`.
    Failed(String),
    /// Building it has made no progress for 5 minutes, in words; nothing refers to it. Gates open, reason
    /// `BuildDeadline`.
    Stalled(String),
}

/// All Services that are ours.
#[derive(Debug, Default)]
pub struct Services {
    promises: BTreeMap<Key, Promise>,
}

impl Services {
    /// None yet.
    pub fn new(settings: &Settings) -> Self {
        let _ = settings;
        Self::default()
    }

    /// Something in the cluster has changed.
    pub fn watched(&mut self, change: &Change, cluster: &Cluster, now: Duration) {
        let _ = (change, cluster, now);
    }

    /// This process may act from now on, and nothing is under way.
    pub fn began(&mut self, cluster: &Cluster, now: Duration) {
        let _ = (cluster, now);
    }

    /// An effect has ended.
    pub fn ended(&mut self, id: EffectId, outcome: Outcome, cluster: &Cluster, outbox: &mut Outbox, now: Duration) {
        let _ = (id, outcome, cluster, outbox, now);
    }

    /// Queues what is to be done. `targets` tells how the targets of bindings are.
    pub fn tick(&mut self, cluster: &Cluster, targets: &Targets, outbox: &mut Outbox, now: Duration) {
        let _ = (cluster, targets, outbox, now);
    }

    /// When [`Self::tick`] is wanted next.
    pub fn deadline(&self) -> Option<Duration> {
        None
    }

    /// What is known of the target group that a binding of this namespace and name is going to stand for. Nothing if no
    /// Service is going to have one. Asked only where no such binding exists.
    pub fn promised(&self, binding: &Key) -> Option<&Promise> {
        self.promises.get(binding)
    }
}
