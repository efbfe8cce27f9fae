//! The judgement on a Service that is about to be stored.

use k8s_openapi::api::core::v1::Service;

use super::{Ownership, ownership, read, read_undecided, update};
use crate::{
    settings::ModelSettings,
    violation::{Severity, Violation, ratchet},
};

/// What is to be said of Services that are not ours: what only makes sense if ours was meant.
const RULES_FOR_OTHERS: [&str; 3] = ["unclaimed", "unknown-key", "misplaced-key"];

/// Everything that is wrong with a Service, and with the change that leads to it if there is an old one.
///
/// Only a Service that is ours, or was, has violations that deny; and on an update only those that the old object did
/// not have, so that nothing that is stored becomes impossible to edit. A Service that was ours may have a load balancer of
/// another scheme than the default one.
pub fn review(old: Option<&Service>, new: &Service, settings: &ModelSettings) -> Vec<Violation> {
    let was_ours = old.is_some_and(|old| ownership::of(old, settings) == Ownership::Ours);
    let mut violations = match ownership::of(new, settings) {
        Ownership::Ours if was_ours => read_undecided(new, settings).violations,
        Ownership::Ours => read(new, settings).violations,
        Ownership::Related => of_others(new, settings),
        Ownership::Foreign => Vec::new(),
    };
    if let Some(old) = old {
        if ownership::of(old, settings) != Ownership::Foreign {
            ratchet(&read(old, settings).violations, &mut violations);
        }
        violations.extend(update::check(old, new, settings));
    }
    violations
}

fn of_others(service: &Service, settings: &ModelSettings) -> Vec<Violation> {
    let mut violations = read(service, settings).violations;
    violations.retain(|violation| RULES_FOR_OTHERS.contains(&violation.rule));
    for violation in &mut violations {
        violation.severity = Severity::Warn;
    }
    violations
}
