//! What is counted. No label holds a name that a user chose.

use std::fmt::Write as _;

use nlb::{
    annotations::{Object, keys},
    violation::{Severity, Violation},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::admission::Hook;

/// Seconds: a review takes tens of microseconds, and at most the deadline of its body.
const BUCKETS: [f64; 12] = [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

/// A word out of a fixed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word(pub &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0)
    }
}

/// Labels of a review.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Review {
    path: Word,
    operation: Word,
    outcome: Word,
}

/// Labels of a duration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Path {
    path: Word,
}

/// Labels of a violation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Broken {
    /// The annotation, without what a user may append to it.
    key: Word,
    rule: Word,
    severity: Word,
}

/// Labels of cached objects.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Kind {
    kind: Word,
}

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    reviews: Family<Review, Counter>,
    durations: Family<Path, Histogram, fn() -> Histogram>,
    violations: Family<Broken, Counter>,
    ungated: Counter,
    /// When the certificate that is served ends, in seconds since 1970.
    pub certificate_not_after: Gauge,
    /// Certificates that took the place of another one.
    pub certificate_loads: Counter,
    /// Certificates that could not be used.
    pub certificate_failures: Counter,
    cached: Family<Kind, Gauge>,
}

impl Metrics {
    /// Metrics under `sluice_webhook_`.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("sluice_webhook");
        let histogram: fn() -> Histogram = || Histogram::new(BUCKETS);
        let metrics = Self {
            reviews: Family::default(),
            durations: Family::new_with_constructor(histogram),
            violations: Family::default(),
            ungated: Counter::default(),
            certificate_not_after: Gauge::default(),
            certificate_loads: Counter::default(),
            certificate_failures: Counter::default(),
            cached: Family::default(),
        };
        registry.register("reviews", "Reviews by what came of them", metrics.reviews.clone());
        registry.register(
            "review_duration_seconds",
            "Time from the head of a review to its answer",
            metrics.durations.clone(),
        );
        registry.register("violations", "What was wrong with objects", metrics.violations.clone());
        registry.register("ungated_gates", "Gates that pods should have got and did not", metrics.ungated.clone());
        registry.register(
            "certificate_not_after_timestamp_seconds",
            "End of the certificate that is served",
            metrics.certificate_not_after.clone(),
        );
        registry.register("certificate_loads", "Certificates replaced", metrics.certificate_loads.clone());
        registry.register(
            "certificate_failures",
            "Certificates that could not be used",
            metrics.certificate_failures.clone(),
        );
        registry.register("cached_objects", "Objects that are known", metrics.cached.clone());
        metrics
    }

    /// Counts a request and how long it took.
    pub fn review(&self, hook: Hook, operation: &'static str, outcome: &'static str, seconds: f64) {
        let path = Word(hook.path());
        self.reviews.get_or_create(&Review { path, operation: Word(operation), outcome: Word(outcome) }).inc();
        self.durations.get_or_create(&Path { path }).observe(seconds);
    }

    /// Counts gates that were left out.
    pub fn ungated(&self, gates: usize) {
        self.ungated.inc_by(gates as u64);
    }

    /// Counts violations.
    pub fn violations(&self, object: Object, violations: &[Violation]) {
        for violation in violations {
            let key = match keys::find(object, &violation.key) {
                Some(row) => row.key,
                None if violation.key.starts_with("spec.") => "spec",
                None => "unknown",
            };
            let severity = match violation.severity {
                Severity::Deny => "deny",
                Severity::Warn => "warn",
            };
            let labels = Broken { key: Word(key), rule: Word(violation.rule), severity: Word(severity) };
            self.violations.get_or_create(&labels).inc();
        }
    }

    /// Shows how many objects of a kind are known.
    pub fn cached(&self, kind: &'static str, objects: usize) {
        self.cached.get_or_create(&Kind { kind: Word(kind) }).set(i64::try_from(objects).unwrap_or(i64::MAX));
    }
}
