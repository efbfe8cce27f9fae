//! From what a Service asks for and what AWS has, to an ordered list of steps.
//!
//! Everything here is a function of values:
//!
//! - [`Inputs`] says what is wanted, [`Observed`] what has been read. [`next_reads`] says what must still be read, [`fold`]
//!   takes in what a call came to.
//! - [`Desired`] is the complete model of a Service: what `registrar plan --offline` prints.
//! - [`plan`] gives the steps from the one to the other. They stand in the order in which they are to be carried out; each
//!   is safe to be the last one before a crash and can be carried out twice. A step that needs the id of something that an
//!   earlier one makes names it by a logical id (`$LoadBalancer`); the plan is made anew after each step, with what the
//!   replies said folded in, so the first step of a plan never has one.
//!
//! Resources are found by deterministic names and by the ARNs that bindings record, and are touched only if their tags say
//! that they belong to the Service.

mod desired;
pub mod endpoint_rules;
mod inputs;
pub mod managed;
mod network;
mod observed;
mod placement;
mod plan;
mod security_groups;
mod step;
mod subnets;
mod survey;
mod written;

use std::fmt;

use serde::Serialize;

pub use desired::{Binding, Desired, LoadBalancer, SecurityGroup, TargetGroup};
pub use inputs::{Backend, Environment, Inputs, Intent, KnownBinding, Options, backends};
pub use managed::ManagedFields;
pub use network::Network;
pub use observed::{Observed, Tags, fold, is_answer};
pub use plan::{Plan, plan, prepare};
pub use step::{Change, Operation, Resource, Step, Verb, Wait};
pub use subnets::role_tag;
pub use survey::{hostname, next_reads};

use crate::aws::Call;

/// Why something cannot be done, and what would help.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// One word, the reason of a condition.
    pub reason: &'static str,
    /// What is wrong, on which object.
    pub message: String,
    /// What to do about it; empty if nothing can be said.
    pub remedy: String,
}

impl Problem {
    pub(crate) fn new(reason: &'static str, message: String, remedy: &str) -> Self {
        Self { reason, message, remedy: remedy.to_owned() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "; {}", self.remedy) }
    }
}

/// Why a part of the model is not known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Gap {
    /// It has not been read yet.
    Unread(Box<Call>),
    /// It cannot be had.
    Problem(Problem),
}

impl From<network::Unread> for Gap {
    fn from(unread: network::Unread) -> Self {
        Self::Unread(unread.0)
    }
}
