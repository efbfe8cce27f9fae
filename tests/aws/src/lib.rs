//! The emulator: the rules of [`aws_model`] served over HTTP, sockets and DNS.

pub mod dataplane;
pub mod dns;
mod engine;

pub use engine::Engine;
