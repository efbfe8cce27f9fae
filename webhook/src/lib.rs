//! The admission webhook: what is answered ([`admission`]) and by what ([`snapshot`]), around which is a server
//! ([`server`], [`certificates`], [`caches`]) and a command line ([`cli`]).

pub mod admission;
mod aside;
pub mod caches;
pub mod certificates;
pub mod cli;
pub mod lint;
pub mod metrics;
pub mod model;
pub mod serve;
pub mod server;
pub mod snapshot;
pub mod tls;
