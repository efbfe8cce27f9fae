//! The judge: hears every fact, and complains of those that break a rule.
//!
//! What is known from the facts so far stands in [`books::Books`]; each rule is a function from that and the next fact to a
//! complaint. A rule judges what a registrar wants when it wants it, by what that registrar could know.

mod books;
mod gates;
mod process;
mod targets;
mod view;

use std::time::Duration;

use self::books::Books;
use crate::{fact::Fact, scene::Scene};

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// When.
    pub at: Duration,
    /// Which rule.
    pub rule: &'static str,
    /// What happened.
    pub what: String,
}

/// A rule: complains of a fact.
type Rule = fn(&Books, Duration, &Fact<'_>) -> Option<String>;

/// All rules that are about single facts, by their names.
const RULES: &[(&str, Rule)] = &[
    ("S1 fresh verdict", gates::fresh_verdict),
    ("S2 right pod", gates::right_pod),
    ("closed list of reasons", gates::closed_list),
    ("S12 error is not health", gates::error_is_not_health),
    ("S13 no flap", gates::no_flap),
    ("fail open", gates::fail_open),
    ("S3 proven endpoint", targets::proven_endpoint),
    ("S4 authorised", targets::authorised),
    ("S5 own removals only", targets::own_removals),
    ("S6 no premature removal", targets::premature_removal),
    ("S7 brake", targets::brake),
    ("S11 finalizer", targets::finalizer),
    ("S8 synced first", process::synced_first),
    ("S9 one writer", process::one_writer),
    ("S14 budget", process::budget),
];

/// The judge.
#[derive(Debug)]
pub(crate) struct Judge {
    books: Books,
    complaints: Vec<Complaint>,
    now: Duration,
}

impl Judge {
    pub(crate) fn new(scene: &Scene) -> Self {
        Self { books: Books::new(&scene.rates, scene.enforced), complaints: Vec::new(), now: Duration::ZERO }
    }

    pub(crate) fn hear(&mut self, now: Duration, fact: &Fact<'_>) {
        self.now = now;
        for (name, rule) in RULES {
            if let Some(what) = rule(&self.books, now, fact) {
                self.complain(name, what);
            }
        }
        self.books.write(now, fact);
    }

    /// Sets the time of complaints that follow from no fact.
    pub(crate) fn hear_clock(&mut self, now: Duration) {
        self.now = now;
    }

    pub(crate) fn complain(&mut self, rule: &'static str, what: String) {
        self.complaints.push(Complaint { at: self.now, rule, what });
    }

    pub(crate) const fn is_broken(&self) -> bool {
        !self.complaints.is_empty()
    }

    /// The first complaint: what came after it may be its consequence.
    pub(crate) fn verdict(self) -> Option<Complaint> {
        self.complaints.into_iter().next()
    }

    /// How often each gate was opened or closed, and each target registered and deregistered.
    pub(crate) fn counts(&self) -> &books::Counts {
        &self.books.counts
    }
}

#[cfg(test)]
mod tests;
