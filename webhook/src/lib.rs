//! The admission webhook: what is answered ([`admission`]) and by what ([`snapshot`]).

pub mod admission;
pub mod snapshot;
