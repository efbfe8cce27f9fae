//! The model as its callers see it: requests, time and connections in, replies, commands and answers out.

#![allow(clippy::expect_used, clippy::panic, clippy::doc_markdown, reason = "a test may fail, and speaks of AWS")]

mod families;
mod operations;
mod properties;
mod routing;
mod support;
mod targets;
