//! `/mutate-v1-pod`: a readiness gate for each target group of pods that is going to select the pod.

use nlb::prediction;
use serde_json::json;

use super::{
    Decision, Request,
    patch::{Builder, Step},
    pod::Pod,
};
use crate::snapshot::Snapshot;

const GATES: &str = "readinessGates";

pub(super) fn decide(request: &Request<Pod>, pod: &Pod, snapshot: &Snapshot) -> Decision {
    let facts = pod.facts();
    let relevant = snapshot.relevant(&request.namespace, &facts);
    let gates = prediction::gates(&facts, &relevant.services, &relevant.bindings);

    let present = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.as_ref());
    let types: Vec<String> = present.into_iter().flatten().map(|gate| gate.condition_type.clone()).collect();
    let surplus: Vec<usize> = gates.surplus(&types).collect();
    let missing: Vec<_> = gates.missing(&types).map(|gate| json!({"conditionType": gate.to_string()})).collect();

    let mut patch = Builder::default();
    match &pod.spec {
        Some(_) => {
            let list = [Step::Field("spec"), Step::Field(GATES)];
            patch.remove(&list, surplus);
            patch.append(&list, present.is_some(), missing);
        }
        None if !missing.is_empty() => patch.set(&[Step::Field("spec")], json!({GATES: missing})),
        None => {}
    }
    let warnings = gates.ungated.iter().map(|reason| format!("no readiness gate: {reason}")).collect();
    Decision { patch: patch.build(), warnings, ungated: gates.ungated.len(), ..Decision::default() }
}
