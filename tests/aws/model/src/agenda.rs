//! What is due when.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    Command, Model,
    elb::target::TargetId,
    store::{BalancerKey, GroupKey, ListenerKey},
};

/// Something to look at when its time has come. Each looks at the state and does what is due there, so that an entry
/// that has become pointless does nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    /// A load balancer becomes active.
    BalancerActive(BalancerKey),
    /// A listener's change reaches the nodes.
    Listener(ListenerKey),
    /// A target's registration, drain or lingering ends.
    Target(GroupKey, TargetId),
    /// A zone's nodes check a target, or give a check up.
    Check(GroupKey, TargetId, String),
    /// Network interfaces of deleted load balancers disappear.
    InterfacesGone,
}

/// Entries by time; those of one time in the order of [`Due`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Agenda(BTreeSet<(Duration, Due)>);

impl Agenda {
    pub(crate) fn add(&mut self, at: Duration, due: Due) {
        self.0.insert((at, due));
    }

    fn pop(&mut self, now: Duration) -> Option<(Duration, Due)> {
        if self.0.first()?.0 > now { None } else { self.0.pop_first() }
    }
}

impl Model {
    /// Does everything that is due up to `now`, each thing at its own time. Time never goes back.
    pub(crate) fn advance(&mut self, now: Duration) {
        let now = now.max(self.now);
        while let Some((at, due)) = self.agenda.pop(now) {
            self.now = self.now.max(at);
            match due {
                Due::BalancerActive(key) => self.balancer_activated(key),
                Due::Listener(key) => self.listener_settled(key),
                Due::Target(group, target) => self.step_target(group, &target),
                Due::Check(group, target, zone) => self.step_check(group, &target, &zone),
                Due::InterfacesGone => self.retiring.retain(|r| r.gone_at > self.now),
            }
        }
        self.now = now;
    }

    /// Lets time pass up to `now` and takes the commands that have come up since the last call, in order.
    pub fn tick(&mut self, now: Duration) -> Vec<Command> {
        self.advance(now);
        self.commands.drain(..).collect()
    }

    /// When [`Model::tick`] has something to do next: in the past when commands are waiting, `None` if only an input can
    /// change anything.
    pub fn deadline(&self) -> Option<Duration> {
        if self.commands.is_empty() { self.agenda.0.first().map(|(at, _)| *at) } else { Some(Duration::ZERO) }
    }
}
