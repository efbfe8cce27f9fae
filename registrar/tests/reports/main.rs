//! `registrar plan` and `registrar status` as processes, against an API server that says what it is told and the emulator.
#![allow(clippy::expect_used, clippy::panic, clippy::doc_markdown, reason = "a test may fail, and speaks of AWS")]

mod cluster;
mod offline;
mod online;
mod schema;
mod table;
