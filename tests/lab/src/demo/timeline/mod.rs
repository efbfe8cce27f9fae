//! What happened during a rollout, on one clock: pods and their gates as the API told them, targets as the emulator's
//! ordered log has them, and what happened to Sluice itself.
//!
//! [`pods`] and [`targets`] are folds without I/O; [`recorder`] feeds them.

mod pods;
mod recorder;
mod targets;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

pub use self::{
    pods::PodLine,
    recorder::Recorder,
    targets::{Clock, TargetLine},
};

/// All of it. Times are in seconds since 1970, or since another time after [`Timeline::since`].
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeline {
    /// Pods in the order in which they appeared.
    pub pods: Vec<PodLine>,
    /// Targets in the order in which they appeared.
    pub targets: Vec<TargetLine>,
    /// Changes of leader and of certificates.
    pub marks: Vec<Mark>,
}

/// Something that happened at once.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mark {
    /// When.
    pub at: f64,
    /// What, in a few words.
    pub what: String,
}

/// Something that lasted. Without an end it lasts still.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Span {
    /// When it began.
    pub from: f64,
    /// When it ended.
    pub to: Option<f64>,
    /// What it was.
    pub what: String,
}

impl Timeline {
    /// The same with times counted from another one.
    pub fn since(mut self, zero: f64) -> Self {
        for pod in &mut self.pods {
            pod.shift(-zero);
        }
        for span in self.targets.iter_mut().flat_map(|target| target.states.iter_mut().chain(&mut target.standings)) {
            span.from -= zero;
            span.to = span.to.map(|to| to - zero);
        }
        for mark in &mut self.marks {
            mark.at -= zero;
        }
        self
    }
}

/// Seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
