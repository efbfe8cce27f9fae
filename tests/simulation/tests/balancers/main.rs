//! Plans of load balancers, carried out against the emulator's model.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::doc_markdown,
    reason = "a test may fail, and speaks of AWS"
)]

mod adoption;
mod bench;
mod caution;
mod crash;
mod families;
mod life;
mod messages;
mod security_groups;
mod services;
mod stage;
mod vectors;
mod weather;
