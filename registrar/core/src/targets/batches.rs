//! Writes in batches, halved where AWS refuses them.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use super::{retry::Retry, spot::Spot};
use crate::{
    aws::{Call, Fault},
    effect::EffectId,
};

/// Between two writes of one kind to one group, so that what changes together is written together.
pub const SPACING: Duration = Duration::from_millis(100);
/// Refusals in a row, with nothing taken between, after which it is not single targets that are refused.
const MOST_REFUSALS: u32 = 16;

/// Writes of one kind to one group.
#[derive(Debug, Default)]
pub struct Batches {
    /// The one under way.
    pub flight: Option<EffectId>,
    /// A turn is queued.
    pub queued: bool,
    /// When the next may be made.
    pub retry: Retry,
    /// When the last one was sent.
    pub sent_at: Option<Duration>,
    /// What AWS last said against them.
    pub problem: Option<String>,
    suspects: VecDeque<BTreeSet<Spot>>,
    refusals: u32,
}

/// What a refusal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// One of the targets may be bad.
    Target,
    /// There is no room.
    Quota,
    /// The group is not there, or not yet.
    Missing,
    /// It has nothing to do with the targets: permissions, credentials.
    Group,
}

impl Refused {
    /// What a code says. One that is not known may be about a target: then others go on.
    pub fn of(code: &str) -> Self {
        match code {
            "TooManyTargets" | "TooManyUniqueTargetGroupsPerLoadBalancer" => Self::Quota,
            "TargetGroupNotFound" | "TargetGroupNotFoundException" => Self::Missing,
            code if code.starts_with("AccessDenied")
                || code.starts_with("ExpiredToken")
                || code.ends_with("TokenId")
                || code.ends_with("ClientException")
                || ["UnauthorizedOperation", "OptInRequired", "SignatureDoesNotMatch", "RequestExpired"]
                    .contains(&code)
                || ["IncompleteSignature", "MissingAuthenticationToken", "AuthFailure"].contains(&code) =>
            {
                Self::Group
            }
            _ => Self::Target,
        }
    }
}

impl Batches {
    /// When the next may be sent.
    pub fn due_at(&self) -> Duration {
        self.retry.at.max(self.sent_at.map_or(Duration::ZERO, |at| at + SPACING))
    }

    /// The next batch of what is needed: the oldest suspects, or as much as one call takes.
    pub fn next(&mut self, needed: &BTreeSet<Spot>) -> Vec<Spot> {
        while let Some(suspects) = self.suspects.pop_front() {
            let batch: Vec<Spot> = suspects.intersection(needed).take(Call::MOST_TARGETS).cloned().collect();
            if !batch.is_empty() {
                return batch;
            }
        }
        needed.iter().take(Call::MOST_TARGETS).cloned().collect()
    }

    /// A batch was taken.
    pub fn taken(&mut self) {
        self.retry.clear();
        self.problem = None;
        self.refusals = 0;
    }

    /// A batch was refused for what may be one of its targets. Gives that target if it was alone.
    pub fn refused(&mut self, batch: &[Spot], now: Duration) -> Option<Spot> {
        self.refusals += 1;
        if let [alone] = batch {
            return Some(alone.clone());
        }
        if self.refusals >= MOST_REFUSALS {
            self.suspects.clear();
            self.refusals = 0;
            self.retry.failed(now);
            return None;
        }
        let (first, second) = batch.split_at(batch.len() / 2);
        self.suspects.push_back(first.iter().cloned().collect());
        self.suspects.push_back(second.iter().cloned().collect());
        None
    }

    /// There was no room for a batch: half of it is tried next. Gives whether there was room for none at all.
    pub fn overfull(&mut self, batch: &[Spot]) -> bool {
        self.suspects.clear();
        if batch.len() > 1 {
            self.suspects.push_back(batch.iter().take(batch.len() / 2).cloned().collect());
        }
        batch.len() <= 1
    }

    /// Something else went wrong.
    pub fn faulted(&mut self, fault: &Fault, settings: &crate::Settings, now: Duration) {
        self.retry.faulted(fault, settings, now);
        if !matches!(fault, Fault::Throttled { .. }) {
            self.problem = Some(fault.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spots(numbers: std::ops::Range<u32>) -> BTreeSet<Spot> {
        numbers.map(|number| Spot { id: format!("10.0.{}.{}", number / 256, number % 256).into(), port: 80 }).collect()
    }

    /// Calls until every good target is taken, with `bad` refused.
    fn calls(count: u32, bad: &[u32]) -> (usize, BTreeSet<Spot>) {
        let mut batches = Batches::default();
        let mut needed = spots(0..count);
        let bad: BTreeSet<Spot> = bad.iter().flat_map(|number| spots(*number..number + 1)).collect();
        let (mut calls, mut named) = (0, BTreeSet::new());
        while !needed.is_empty() && calls < 1000 {
            let batch = batches.next(&needed);
            calls += 1;
            if batch.iter().any(|spot| bad.contains(spot)) {
                if let Some(alone) = batches.refused(&batch, Duration::ZERO) {
                    needed.remove(&alone);
                    named.insert(alone);
                }
            } else {
                batches.taken();
                for spot in &batch {
                    assert!(needed.remove(spot));
                }
            }
        }
        (calls, named)
    }

    #[test]
    fn one_bad_target_costs_two_calls_for_each_halving() {
        for bad in [0, 1, 77, 100, 199] {
            let (calls, _) = calls(200, &[bad]);
            assert!(calls <= 1 + 2 * 8, "{calls} calls with target {bad} bad");
        }
    }

    #[test]
    fn every_bad_target_is_named_and_every_other_taken() {
        let (calls, named) = calls(200, &[3, 50, 51, 120, 199]);
        assert!(calls < 80, "{calls}");
        assert_eq!(named.len(), 5, "{named:?}");
    }

    #[test]
    fn when_all_are_refused_it_is_no_single_target() {
        let mut batches = Batches::default();
        let needed = spots(0..200);
        let mut calls = 0;
        while batches.retry.failures == 0 {
            let batch = batches.next(&needed);
            batches.refused(&batch, Duration::ZERO);
            calls += 1;
        }
        assert!(calls <= 16, "{calls}");
    }

    #[test]
    fn codes_that_no_table_has_are_about_a_target() {
        assert_eq!(Refused::of("SomethingNew"), Refused::Target);
        assert_eq!(Refused::of("AccessDeniedException"), Refused::Group);
        assert_eq!(Refused::of("ExpiredToken"), Refused::Group);
        assert_eq!(Refused::of("TargetGroupNotFound"), Refused::Missing);
    }
}
