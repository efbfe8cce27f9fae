//! Which targets of a shared group are this cluster's: a list in a ConfigMap, in the peer's format, written before targets
//! are registered. What it does not have is never deregistered.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    binding::Binding,
    desk::{Desk, What},
    group::Facts,
    retry::{Alarm, Retry},
    spot::{Presence, SETTLING, Spot},
};
use crate::{
    cluster::BindingRecord,
    effect::{Priority, Request},
    event::Denial,
};

/// The ledger of a shared group.
#[derive(Debug, Default)]
pub struct Ledger {
    /// What is stored; nothing if it has not been read.
    stored: Option<BTreeSet<String>>,
    /// Since when looks have not shown entries that are not wanted.
    absent: BTreeMap<String, Duration>,
    flight: bool,
    retry: Retry,
}

impl Ledger {
    /// Whether it has a target.
    pub fn has(&self, spot: &Spot) -> bool {
        self.stored.as_ref().is_some_and(|stored| stored.contains(&spot.to_string()))
    }

    /// Whether targets may be registered as far as the ledger goes.
    pub fn covers(&self, facts: &Facts, spots: &BTreeSet<Spot>) -> bool {
        !facts.shared || spots.iter().all(|spot| self.has(spot))
    }

    /// Whether it has been read, or there is none to read.
    pub fn is_known(&self, facts: &Facts) -> bool {
        !facts.shared || self.stored.is_some()
    }

    /// Whether it has nothing.
    pub fn is_empty(&self) -> bool {
        self.stored.as_ref().is_none_or(BTreeSet::is_empty)
    }
}

impl Binding {
    /// Reads the ledger, and writes what is about to be registered into it.
    pub fn keep_ledger(&mut self, record: &BindingRecord, facts: &Facts, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        if !facts.shared || self.ledger.flight {
            return;
        }
        if !self.ledger.retry.is_due(desk.now) {
            alarm.at(self.ledger.retry.at);
            return;
        }
        let Some(stored) = self.ledger.stored.clone() else {
            self.ledger.flight = true;
            let request = Request::GetLedger { binding: self.key.clone() };
            let because = "what this cluster has in a shared group has to be known first";
            desk.request(self.ask(What::Ledger), request, Priority::Register, because);
            return;
        };
        if self.looks.last.is_none() {
            return;
        }
        let new = self.about_to_register(record, desk);
        let over = self.over(&stored, desk, alarm);
        let kept = stored.iter().filter(|entry| !over.contains(*entry)).cloned();
        let due: BTreeSet<String> = kept.chain(new.iter().map(Spot::to_string)).collect();
        if due == stored {
            return;
        }
        self.put_ledger(due, desk, "its own targets in a shared group change");
    }

    /// Entries that are neither wanted nor registered, and so no longer ours. AWS may not show for a while what is there:
    /// an entry goes when it has been absent for so long.
    fn over(&mut self, stored: &BTreeSet<String>, desk: &Desk<'_>, alarm: &mut Alarm) -> BTreeSet<String> {
        let needed = self.spots.iter().filter(|(spot, state)| {
            self.wanted.contains_key(*spot) || state.in_flight || state.presence(desk.now) != Presence::Absent
        });
        let needed: BTreeSet<String> = needed.map(|(spot, _)| spot.to_string()).collect();
        let before = std::mem::take(&mut self.ledger.absent);
        let mut over = BTreeSet::new();
        for entry in stored.iter().filter(|entry| !needed.contains(*entry)) {
            let since = before.get(entry).copied().unwrap_or(desk.now);
            if desk.now.saturating_sub(since) >= SETTLING {
                over.insert(entry.clone());
            } else {
                alarm.at(since + SETTLING);
            }
            self.ledger.absent.insert(entry.clone(), since);
        }
        over
    }

    fn put_ledger(&mut self, due: BTreeSet<String>, desk: &mut Desk<'_>, because: &str) {
        self.ledger.flight = true;
        let targets: Vec<String> = due.into_iter().collect();
        let request = Request::PutLedger { binding: self.key.clone(), targets: Some(targets.clone()) };
        desk.request(self.ask(What::PutLedger(targets)), request, Priority::Register, because);
    }

    /// Takes the ledger away, when the binding goes. Whether there is nothing to wait for.
    pub fn close_ledger(&mut self, facts: &Facts, desk: &mut Desk<'_>, alarm: &mut Alarm) -> bool {
        if !facts.shared || (self.ledger.is_empty() && self.ledger.stored.is_some()) {
            return true;
        }
        if self.ledger.flight {
            return false;
        }
        if !self.ledger.retry.is_due(desk.now) {
            alarm.at(self.ledger.retry.at);
            return false;
        }
        self.ledger.flight = true;
        let request = Request::PutLedger { binding: self.key.clone(), targets: None };
        desk.request(self.ask(What::PutLedger(Vec::new())), request, Priority::Register, "the binding goes");
        false
    }

    /// The ledger has been read, or not.
    pub fn ledger_read(&mut self, result: Result<Option<Vec<String>>, Denial>, desk: &Desk<'_>) {
        self.ledger.flight = false;
        match result {
            Ok(targets) => {
                self.ledger.retry.clear();
                self.ledger.stored = Some(targets.unwrap_or_default().into_iter().collect());
            }
            Err(Denial::NotFound) => self.ledger.stored = Some(BTreeSet::new()),
            Err(_) => self.ledger.retry.failed(desk.now),
        }
    }

    /// The ledger has been written, or not.
    pub fn ledger_written(&mut self, targets: Vec<String>, done: bool, desk: &Desk<'_>) {
        self.ledger.flight = false;
        if done {
            self.ledger.retry.clear();
            self.ledger.stored = Some(targets.into_iter().collect());
        } else {
            // Somebody else wrote it, or it may have been written: read it again.
            self.ledger.stored = None;
            self.ledger.retry.failed(desk.now);
        }
    }
}
