//! `/mutate-v1-pod-drain`: pods behind a target group go on serving for as long as new connections may arrive.

use nlb::{
    annotations::{self, Object, keys},
    drain, prediction,
};
use serde_json::json;

use super::{
    Decision, Request,
    patch::{Builder, Step},
    pod::{Container, Pod},
};
use crate::snapshot::Snapshot;

pub(super) fn decide(request: &Request<Pod>, pod: &Pod, snapshot: &Snapshot) -> Decision {
    let Some(spec) = &pod.spec else { return Decision::default() };
    let facts = pod.facts();
    let relevant = snapshot.relevant(&request.namespace, &facts);
    let floor = snapshot.settings.drain_floor_seconds;
    let seconds = prediction::drain_seconds(&facts, floor, &relevant.services, &relevant.bindings);
    let (containers, init) = (some(spec.containers.as_ref()), some(spec.init_containers.as_ref()));
    let grace = spec.termination_grace_period_seconds;
    let plan =
        drain::plan_of(containers.iter().map(Container::facts), init.iter().map(Container::facts), grace, seconds);

    // The API server refuses a pod whose own hook outlasts its grace period. A longer period would hide the mistake.
    let own_grace = drain::lengthened(grace, 0);
    let refused_anyway = plan.hooked.iter().any(|hooked| hooked.sleeps.is_some_and(|sleeps| sleeps > own_grace));

    let mut patch = Builder::default();
    if !refused_anyway {
        lengthen(&plan, containers, init, &mut patch);
    }
    // A hook on pods never denies, so that a value that cannot be read is a warning, and the floor holds.
    let violations: Vec<_> = annotations::check(Object::Pod, pod.annotations().into_iter().flatten())
        .into_iter()
        .filter(|violation| violation.key == keys::POD_DRAIN_OF_POD)
        .collect();
    let warnings = violations.iter().map(ToString::to_string).chain(drain::warnings(&plan, grace, floor)).collect();
    Decision { patch: patch.build(), warnings, violations, ..Decision::default() }
}

/// What a plan makes of a pod.
fn lengthen(plan: &drain::Plan, containers: &[Container], init: &[Container], patch: &mut Builder) {
    for (list, containers, positions) in
        [("containers", containers, &plan.containers), ("initContainers", init, &plan.init_containers)]
    {
        for position in positions {
            let place = [Step::Field("spec"), Step::Field(list), Step::Entry(*position), Step::Field("lifecycle")];
            let hook = json!({"sleep": {"seconds": plan.sleep}});
            if containers.get(*position).is_some_and(|container| container.lifecycle.is_some()) {
                patch.set(&[&place[..], &[Step::Field("preStop")]].concat(), hook);
            } else {
                patch.set(&place, json!({"preStop": hook}));
            }
        }
    }
    if let Some(grace) = plan.grace {
        patch.set(&[Step::Field("spec"), Step::Field("terminationGracePeriodSeconds")], json!(grace));
    }
}

fn some<'a, 'b>(containers: Option<&'a Vec<Container<'b>>>) -> &'a [Container<'b>] {
    containers.map(Vec::as_slice).unwrap_or_default()
}
