//! Targets and gates: what is registered where, what its health says, and what the pods are told of it.

#![expect(clippy::unused_self, reason = "what is behind these comes next")]

use std::time::Duration;

use crate::{
    Effect, Outbox, Settings,
    cluster::{Change, Cluster, Key},
    effect::EffectId,
    event::Outcome,
    services::Services,
};

/// What a binding wants a token for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    binding: Key,
}

/// How many targets of a binding are how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Targets that there should be.
    pub desired: usize,
    /// Of these, how many AWS has.
    pub registered: usize,
    /// Of these, how many are healthy.
    pub healthy: usize,
}

/// How a binding is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingReport {
    /// Which.
    pub binding: Key,
    /// Its targets.
    pub counts: Counts,
    /// Gates that are not open.
    pub pending_gates: usize,
    /// Pods without the gate that they should have, by reason.
    pub ungated: Vec<(&'static str, usize)>,
}

/// All bindings.
#[derive(Debug)]
pub struct Targets {}

impl Targets {
    /// None yet.
    pub fn new(settings: &Settings) -> Self {
        let _ = settings;
        Self {}
    }

    /// How many targets of a binding are how, as far as AWS has been asked; nothing if it has not been, in this leadership.
    pub fn counts(&self, binding: &Key) -> Option<Counts> {
        let _ = binding;
        None
    }

    pub(crate) fn watched(&mut self, change: &Change, cluster: &Cluster, now: Duration) {
        let _ = (change, cluster, now);
    }

    pub(crate) fn began(&mut self, cluster: &Cluster, now: Duration) {
        let _ = (cluster, now);
    }

    pub(crate) fn rested(&mut self) {}

    pub(crate) fn ended(
        &mut self,
        id: EffectId,
        outcome: Outcome,
        cluster: &Cluster,
        outbox: &mut Outbox,
        now: Duration,
    ) {
        let _ = (id, outcome, cluster, outbox, now);
    }

    pub(crate) fn tick(&mut self, cluster: &Cluster, services: &Services, outbox: &mut Outbox, now: Duration) {
        let _ = (cluster, services, outbox, now);
    }

    pub(crate) fn take_turn(
        &mut self,
        turn: &Turn,
        cluster: &Cluster,
        outbox: &mut Outbox,
        now: Duration,
    ) -> Option<Effect> {
        let _ = (turn, cluster, outbox, now);
        None
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        None
    }

    pub(crate) fn report(&self, cluster: &Cluster) -> Vec<BindingReport> {
        let _ = cluster;
        Vec::new()
    }
}
