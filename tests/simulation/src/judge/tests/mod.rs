//! Histories that break each rule, each beside one that keeps it.

#![allow(clippy::needless_pass_by_value, reason = "histories read better without references")]

mod gates;
mod history;
mod processes;
mod targets;

pub(crate) use history::{ADDRESS, GROUP, History};
