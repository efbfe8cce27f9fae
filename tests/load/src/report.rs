//! What a run of the generator says in the end, and how it is counted.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    failure::{Failure, Kind},
    request::Answered,
};

/// Failures that are kept with all that is known about them; all are counted.
const EXAMPLES: usize = 50;

/// One run. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Of this form: 1.
    pub version: u32,
    /// What was asked, as `http://name:port`.
    pub target: String,
    /// Requests a second that were asked for.
    pub rate: u32,
    /// When it began, since 1970.
    pub began: f64,
    /// From the first request to the end of the last.
    pub lasted: f64,
    /// Requests that were begun, and by now have ended.
    pub requests: u64,
    /// Those that a pod answered.
    pub answered: u64,
    /// Those that failed.
    pub failed: u64,
    /// The failures by kind.
    pub kinds: BTreeMap<Kind, u64>,
    /// The answers by pod.
    pub pods: BTreeMap<String, u64>,
    /// From connect to the first byte of an answer.
    pub first_byte: Spread,
    /// Each second of the run. A request belongs to the one in which it was begun.
    pub seconds: Vec<Second>,
    /// The first failures.
    pub failures: Vec<Example>,
}

impl Report {
    /// Failures of some kinds together.
    pub fn count(&self, kinds: &[Kind]) -> u64 {
        kinds.iter().filter_map(|kind| self.kinds.get(kind)).sum()
    }

    /// The failures in words: `12 (no first byte 11, reset 1)`, or `0`.
    pub fn failures_in_words(&self) -> String {
        if self.kinds.is_empty() {
            return self.failed.to_string();
        }
        let kinds: Vec<_> = self.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        format!("{} ({})", self.failed, kinds.join(", "))
    }
}

/// One second.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Second {
    /// Answers by pod.
    pub answered: BTreeMap<String, u64>,
    /// Failures by kind.
    pub failed: BTreeMap<Kind, u64>,
}

/// A few of many durations, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Spread {
    /// Half were shorter.
    pub p50: f64,
    /// 99 of 100 were shorter.
    pub p99: f64,
    /// None was longer.
    pub max: f64,
}

impl Spread {
    fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        let at = |per_cent: usize| {
            let index = (durations.len().saturating_sub(1)) * per_cent / 100;
            durations.get(index).map_or(0.0, |d| d.as_secs_f64() * 1000.0)
        };
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// When the request was begun, from the beginning of the run.
    pub at: f64,
    /// The address that was connected to.
    pub address: String,
    /// What went wrong.
    pub kind: Kind,
    /// What was said.
    pub detail: String,
}

/// How a run goes, while it lasts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// Requests that have ended.
    pub requests: u64,
    /// Failures by kind.
    pub failed: BTreeMap<Kind, u64>,
    /// Answers by pod, of the second before the running one.
    pub pods: BTreeMap<String, u64>,
}

/// Counts how requests end.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    seconds: Vec<Second>,
    first_bytes: Vec<Duration>,
    failures: Vec<Example>,
    ended: u64,
}

impl Tally {
    /// Counts a request that was begun `at` this time of the run.
    pub(crate) fn count(&mut self, at: Duration, address: &str, ended: Result<Answered, Failure>) {
        let index = usize::try_from(at.as_secs()).unwrap_or(usize::MAX - 1);
        if self.seconds.len() <= index {
            self.seconds.resize_with(index + 1, Second::default);
        }
        self.ended += 1;
        let second = &mut self.seconds[index];
        match ended {
            Ok(answered) => {
                self.first_bytes.push(answered.first_byte);
                *second.answered.entry(answered.pod).or_default() += 1;
            }
            Err(Failure { kind, detail }) => {
                *second.failed.entry(kind).or_default() += 1;
                if self.failures.len() < EXAMPLES {
                    self.failures.push(Example { at: at.as_secs_f64(), address: address.to_owned(), kind, detail });
                }
            }
        }
    }

    pub(crate) fn progress(&self) -> Progress {
        let last = self.seconds.len().checked_sub(2).and_then(|index| self.seconds.get(index));
        Progress {
            requests: self.ended,
            failed: sum(self.seconds.iter().map(|second| &second.failed)),
            pods: last.map(|second| second.answered.clone()).unwrap_or_default(),
        }
    }

    pub(crate) fn report(self, target: String, rate: u32, began: f64, lasted: Duration) -> Report {
        let kinds = sum(self.seconds.iter().map(|second| &second.failed));
        let pods = sum(self.seconds.iter().map(|second| &second.answered));
        Report {
            version: 1,
            target,
            rate,
            began,
            lasted: lasted.as_secs_f64(),
            requests: self.ended,
            answered: pods.values().sum(),
            failed: kinds.values().sum(),
            kinds,
            pods,
            first_byte: Spread::of(self.first_bytes),
            seconds: self.seconds,
            failures: self.failures,
        }
    }
}

fn sum<'a, K: Ord + Clone + 'a>(maps: impl Iterator<Item = &'a BTreeMap<K, u64>>) -> BTreeMap<K, u64> {
    let mut total = BTreeMap::new();
    for (key, count) in maps.flatten() {
        *total.entry(key.clone()).or_default() += count;
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_in_the_second_in_which_they_began_by_pod_and_by_kind() {
        let mut tally = Tally::default();
        let answered = |pod: &str, ms| Ok(Answered { pod: pod.to_owned(), first_byte: Duration::from_millis(ms) });
        let failed = |kind| Err(Failure::new(kind, "why"));
        tally.count(Duration::from_millis(2100), "a", answered("web-2", 30));
        tally.count(Duration::from_millis(10), "a", answered("web-1", 10));
        tally.count(Duration::from_millis(990), "a", answered("web-1", 20));
        tally.count(Duration::from_millis(1500), "b", failed(Kind::Reset));
        tally.count(Duration::from_millis(2500), "b", failed(Kind::NoFirstByte));
        assert_eq!(tally.progress().requests, 5);
        let report = tally.report("http://x:80".to_owned(), 2, 7.0, Duration::from_secs(3));
        assert_eq!((report.requests, report.answered, report.failed), (5, 3, 2));
        assert_eq!(report.pods, [("web-1".to_owned(), 2), ("web-2".to_owned(), 1)].into());
        assert_eq!(report.seconds.len(), 3);
        assert_eq!(report.seconds[0].answered, [("web-1".to_owned(), 2)].into());
        assert_eq!(report.seconds[1].failed, [(Kind::Reset, 1)].into());
        assert_eq!(report.count(&[Kind::Reset, Kind::NoFirstByte, Kind::Refused]), 2);
        assert_eq!(report.failures_in_words(), "2 (no first byte 1, reset 1)");
        assert_eq!(report.failures[0].address, "b");
        assert!((report.first_byte.p50 - 20.0).abs() < 1e-9 && (report.first_byte.max - 30.0).abs() < 1e-9);
        let text = serde_json::to_string(&report).expect("JSON");
        assert!(text.contains("\"no-first-byte\":1"), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).expect("its own form"), report);
    }
}
