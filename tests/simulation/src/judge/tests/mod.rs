//! Histories that break each rule, each beside one that keeps it.

mod gates;
mod history;
mod processes;
mod targets;

pub(crate) use history::{ADDRESS, GROUP, History};
