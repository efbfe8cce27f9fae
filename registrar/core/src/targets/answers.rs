//! What comes back, to whom it is for.

use super::{
    binding::Binding,
    desk::{Desk, What},
};
use crate::{
    aws::{Fault, Reply},
    cluster::BindingRecord,
    event::{Answer, Denial, Outcome},
};

/// What AWS has answered.
pub fn aws(outcome: Outcome) -> Result<Reply, Fault> {
    match outcome {
        Outcome::Aws(result) => result,
        Outcome::Kubernetes(_) => Err(Fault::Unknown("an answer of the wrong kind".to_owned())),
    }
}

/// What the API server has answered.
pub fn kubernetes(outcome: Outcome) -> Result<Answer, Denial> {
    match outcome {
        Outcome::Kubernetes(result) => result,
        Outcome::Aws(_) => Err(Denial::Unknown("an answer of the wrong kind".to_owned())),
    }
}

/// Gives a binding what it has asked for.
pub fn dispatch(
    binding: &mut Binding,
    record: Option<&BindingRecord>,
    what: What,
    outcome: Outcome,
    desk: &mut Desk<'_>,
) {
    let wrong = || Fault::Unknown("an answer of the wrong kind".to_owned());
    match what {
        What::Look(asked) => {
            let result = aws(outcome).and_then(|reply| match reply {
                Reply::TargetHealth(healths) => Ok(healths),
                _ => Err(wrong()),
            });
            binding.looked(asked, result, desk);
        }
        What::Register(sent) => binding.registered(&sent, aws(outcome).map(|_| ()), desk),
        What::Deregister(sent) => binding.deregistered(&sent, aws(outcome).map(|_| ()), desk),
        What::Endpoints => {
            let answer = kubernetes(outcome);
            let found = match &answer {
                Ok(Answer::Endpoints { slices, pods }) => Some((slices.as_slice(), pods.as_slice())),
                // A Service that is not there has no endpoints.
                Err(Denial::NotFound) => Some(([].as_slice(), [].as_slice())),
                _ => None,
            };
            if let Some(record) = record {
                binding.looked_twice(record, found, desk);
            }
        }
        What::Status => binding.status_written(&kubernetes(outcome).map(|_| ()), desk),
        What::Resolve => {
            binding.filling = false;
            if kubernetes(outcome).is_err() {
                binding.fill_retry.failed(desk.now);
            }
        }
        What::Finalizer(true) => {
            binding.finalizer.in_flight = false;
            if kubernetes(outcome).is_ok() {
                binding.finalizer.acknowledged = true;
            } else {
                binding.finalizer.retry.failed(desk.now);
            }
        }
        What::Finalizer(false) => {
            let result = kubernetes(outcome);
            binding.let_gone(matches!(result, Ok(_) | Err(Denial::NotFound | Denial::Replaced)), desk);
        }
        What::Ledger => {
            let result = kubernetes(outcome).map(|answer| match answer {
                Answer::Ledger(targets) => targets,
                _ => None,
            });
            binding.ledger_read(result, desk);
        }
        What::PutLedger(targets) => binding.ledger_written(targets, kubernetes(outcome).is_ok(), desk),
        What::Groups(..) | What::Tags(..) | What::Gate(..) | What::Orphan | What::Nothing => {}
    }
}
