//! The registrar.
fn main() {}
