//! The registrar: what turns watches ([`watches`]) into events of the core and carries its effects out ([`executor`],
//! [`kubernetes`], [`aws`]), around the one task that decides ([`decisions`]), while it leads ([`leadership`]).

pub mod aws;
pub mod cli;
pub mod clock;
pub mod decisions;
pub mod executor;
pub mod flags;
pub mod kubernetes;
pub mod leadership;
pub mod metrics;
pub mod plan;
pub mod run;
pub mod settings;
pub mod status;
pub mod watches;
