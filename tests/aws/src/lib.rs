//! The data plane and DNS of the AWS emulator.

pub mod dataplane;
pub mod dns;
