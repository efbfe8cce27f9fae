//! The registrar: what turns watches into events of the core and carries its effects out.

pub mod aws;
