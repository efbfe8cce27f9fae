//! What the registrar decides, without I/O.
//!
//! [`State::step`] takes what has happened ([`Event`]) and the time, and gives what is to be done ([`Effect`]). It does not
//! wait, has no clock and no source of chance, and goes through its maps in one order: equal events give equal effects. The
//! shell turns watches into events and carries effects out; the simulation does the same with a simulated cluster.
//!
//! `now` is a monotonic duration since the start of the process. No decision reads a wall clock.

#![allow(clippy::doc_markdown, reason = "names of AWS operations and Kubernetes kinds are the vocabulary here")]

pub mod aws;
pub mod balancers;
pub mod cluster;
pub mod effect;
pub mod event;
pub mod outbox;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod services;
pub mod settings;
mod state;
pub mod targets;

pub use effect::Effect;
pub use event::Event;
pub use settings::Settings;
pub use state::{Report, State};

/// The outbox of this core: its turns are those of bindings.
pub type Outbox = outbox::Outbox<targets::Turn>;
