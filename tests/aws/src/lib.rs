//! The emulator: the rules of [`aws_model`] served over HTTP, sockets and DNS.

mod engine;

pub use engine::Engine;
