//! Watches of a registrar: each a stream of its own, in order within itself and late by itself.

use std::time::Duration;

use registrar_core::{
    Event,
    cluster::{Kind, Record},
    event::Watched,
};

use crate::{
    cluster::etcd::{Change, KINDS},
    fact::{Fact, Number},
    world::{Happening, World},
};

/// Where a watch stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watch {
    /// Counts connections: what an earlier one had under way is lost.
    epoch: u64,
    connected: bool,
    /// How many changes of the kind it has told.
    told: usize,
    /// How many changes of the kind are on their way.
    sent: usize,
    /// When the last of what is on its way arrives.
    last: Duration,
    /// It tells nothing before.
    stalled: Duration,
    /// Whether a list has been completed over it.
    listed: bool,
}

/// What a watch brings.
#[derive(Debug, Clone)]
pub(crate) enum Brought {
    /// The n-th change of the kind.
    Change(usize),
    /// A list begins.
    Restarted,
    /// An object of a list.
    Item(Box<Record>),
    /// The list is complete; it shows so many changes.
    Listed(usize),
}

impl World {
    pub(crate) fn begin_watches(&mut self, number: Number) {
        for kind in KINDS {
            self.replicas[number].watches.insert(kind, Watch::default());
            let after = self.choices.millis(5, 200);
            let incarnation = self.replicas[number].incarnation;
            self.after(after, Happening::Reconnect(number, incarnation, kind, true));
        }
    }

    /// Breaks a watch. It comes back where it was, or with a new list.
    pub(crate) fn disconnect(&mut self, number: Number, kind: Kind, relist: bool, down: Duration) {
        let incarnation = self.replicas[number].incarnation;
        let Some(watch) = self.replicas[number].watches.get_mut(&kind) else { return };
        watch.epoch += 1;
        watch.connected = false;
        watch.sent = watch.told;
        let relist = relist || !watch.listed;
        self.after(down, Happening::Reconnect(number, incarnation, kind, relist));
    }

    /// A watch tells nothing for a while; then all at once.
    pub(crate) fn stall(&mut self, number: Number, kind: Kind, time: Duration) {
        let until = self.now + time;
        if let Some(watch) = self.replicas[number].watches.get_mut(&kind) {
            watch.stalled = watch.stalled.max(until);
        }
    }

    /// A watch is connected again.
    pub(crate) fn reconnect(&mut self, number: Number, kind: Kind, relist: bool) {
        let now = self.now;
        if self.weather.api_down > now {
            let incarnation = self.replicas[number].incarnation;
            let again = self.weather.api_down.saturating_sub(now) + self.choices.millis(10, 800);
            self.after(again, Happening::Reconnect(number, incarnation, kind, relist));
            return;
        }
        let Some(watch) = self.replicas[number].watches.get_mut(&kind) else { return };
        if watch.connected {
            return;
        }
        watch.connected = true;
        watch.last = now;
        if relist {
            self.list(number, kind);
        }
        self.send_changes(number, kind);
    }

    /// A list, object by object. One that a lagging server answers shows the past.
    fn list(&mut self, number: Number, kind: Kind) {
        let all = self.etcd.log(kind).len();
        let behind =
            if self.scene.stale_lists && self.choices.chance(500) { self.choices.below(8) as usize } else { 0 };
        let past = self.weather.past[number % 2].filter(|(_, until)| *until > self.now);
        let changes = match past {
            Some((as_of, _)) => self.etcd.log(kind).iter().take_while(|change| change.at <= as_of).count(),
            None => all.saturating_sub(behind),
        };
        let items = self.etcd.snapshot(kind, changes);
        self.bring(number, kind, Brought::Restarted);
        if self.choices.chance(300) {
            let dawdles = self.choices.millis(100, 2500);
            if let Some(watch) = self.replicas[number].watches.get_mut(&kind) {
                watch.last += dawdles;
            }
        }
        for item in items {
            self.bring(number, kind, Brought::Item(Box::new(item)));
        }
        self.bring(number, kind, Brought::Listed(changes));
        // A server that is behind stays so for a while.
        let catches_up = if behind > 0 { self.choices.millis(0, 5000) } else { Duration::ZERO };
        if let Some(watch) = self.replicas[number].watches.get_mut(&kind) {
            watch.sent = changes;
            watch.last += catches_up;
            if let Some((_, until)) = past {
                watch.last = watch.last.max(until);
            }
        }
    }

    /// Puts what a watch has not sent yet on its way.
    fn send_changes(&mut self, number: Number, kind: Kind) {
        let all = self.etcd.log(kind).len();
        let Some(watch) = self.replicas[number].watches.get_mut(&kind) else { return };
        if !watch.connected {
            return;
        }
        let from = watch.sent;
        watch.sent = all;
        for index in from..all {
            self.bring(number, kind, Brought::Change(index));
        }
    }

    fn bring(&mut self, number: Number, kind: Kind, brought: Brought) {
        let lag = self.choices.millis(2, 120) + self.weather.view_lag[number % 2];
        let now = self.now;
        let replica = &mut self.replicas[number];
        let incarnation = replica.incarnation;
        let Some(watch) = replica.watches.get_mut(&kind) else { return };
        let at = (now + lag).max(watch.last).max(watch.stalled);
        watch.last = at;
        let epoch = watch.epoch;
        self.at(at, Happening::Brought(number, incarnation, kind, epoch, brought));
    }

    /// Something has arrived over a watch.
    pub(crate) fn brought(&mut self, number: Number, kind: Kind, epoch: u64, brought: Brought) {
        let Some(watch) = self.replicas[number].watches.get_mut(&kind) else { return };
        if watch.epoch != epoch {
            return;
        }
        let watched = match brought {
            Brought::Restarted => Watched::Restarted(kind),
            Brought::Item(record) => Watched::Applied(*record),
            Brought::Listed(changes) => {
                watch.told = changes;
                watch.listed = true;
                let log = self.etcd.log(kind);
                let revision =
                    changes.checked_sub(1).and_then(|last| log.get(last)).map_or(0, |change| change.revision);
                self.tell(&Fact::Listed { replica: number, kind, revision });
                Watched::Listed(kind)
            }
            Brought::Change(index) => {
                watch.told = index + 1;
                let Some(change) = self.etcd.log(kind).get(index) else { return };
                told(kind, change)
            }
        };
        self.step(number, Event::Watched(watched));
    }

    /// Storage has changed: whoever watches the kind will hear of it.
    pub(crate) fn notify(&mut self, kind: Kind) {
        for number in 0..self.replicas.len() {
            if self.replicas[number].state.is_some() {
                self.send_changes(number, kind);
            }
        }
    }
}

fn told(kind: Kind, change: &Change) -> Watched {
    match &change.record {
        Some(record) => Watched::Applied(record.clone()),
        None => Watched::Deleted(kind, change.key.clone(), change.uid.clone()),
    }
}
