//! The data plane on real sockets: where connections go, what ends them, and what health checks make of targets.
#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail")]

mod connections;
mod draining;
mod health;
mod lab;
mod naming;
mod peers;
mod routing;
