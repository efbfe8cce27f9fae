//! The simulation: the registrar's unchanged core against a simulated cluster and the emulator's model.
//!
//! Everything is a value in one loop with a virtual clock; a run is determined by its [`Choices`]. What happens is told to a
//! judge, fact by fact, who complains of the first that breaks a rule.

#![allow(clippy::doc_markdown, reason = "names of AWS operations and Kubernetes kinds are the vocabulary here")]

pub mod aws;
mod choice;
mod cluster;
mod crash;
pub mod enumerate;
mod fact;
mod judge;
mod plane;
mod replica;
pub mod run;
mod scene;
mod settle;
pub mod shrink;
mod trace;
mod weather;
mod world;

pub use choice::Choices;
pub use crash::{CrashPoint, Moment};
pub use judge::Complaint;
pub use scene::{
    Scene,
    reference::{Reference, all as references},
};
pub use trace::Trace;
