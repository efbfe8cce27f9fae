//! The data plane: listeners, flows and health checks on real sockets.

pub mod dial;

pub mod relay;
