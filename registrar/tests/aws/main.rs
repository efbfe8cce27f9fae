//! The adapter of the AWS port over real HTTP: against the emulator where the answer is AWS's, against a server that says
//! what it is told where it is nobody's.
#![allow(clippy::expect_used, clippy::panic, clippy::doc_markdown, reason = "a test may fail, and speaks of AWS")]

mod balancers;
mod every_call;
mod faults;
mod identity;
mod network;
mod observing;
mod pages;
mod permissions;
mod reader;
mod signatures;
mod stub;
mod support;
mod surroundings;
mod targets;
