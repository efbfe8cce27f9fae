//! The conditions of a pod that its node answers for.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{Observed, Role, State};

/// The four conditions that a node answers for. Those of others are left out.
pub(super) fn all(pod: &Pod, observed: &Observed, phase: &str, now: Timestamp) -> Vec<PodCondition> {
    let containers_ready = containers_ready(observed, phase);
    let ready = match &containers_ready {
        Verdict { status: true, .. } => gates_open(pod),
        no => no.clone(),
    };
    let placed = Verdict::from(observed.pod.is_some());
    [
        ("PodReadyToStartContainers", placed),
        ("Initialized", initialized(observed)),
        ("ContainersReady", containers_ready),
        ("Ready", ready),
    ]
    .into_iter()
    .map(|(type_, verdict)| condition(pod, type_, verdict, now))
    .collect()
}

#[derive(Debug, Clone)]
struct Verdict {
    status: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl From<bool> for Verdict {
    fn from(status: bool) -> Self {
        Self { status, reason: None, message: None }
    }
}

impl Verdict {
    fn no(reason: &'static str, message: String) -> Self {
        Self { status: false, reason: Some(reason), message: Some(message).filter(|m| !m.is_empty()) }
    }
}

fn containers_ready(observed: &Observed, phase: &str) -> Verdict {
    match phase {
        "Succeeded" => return Verdict::no("PodCompleted", String::new()),
        "Failed" => return Verdict::no("PodFailed", String::new()),
        _ => {}
    }
    // A sidecar counts like a regular container; an init container that ran to completion does not.
    let unready: Vec<_> =
        observed.containers.iter().filter(|c| c.role != Role::Init && !c.is_ready()).map(|c| c.name.as_str()).collect();
    if unready.is_empty() {
        return true.into();
    }
    Verdict::no("ContainersNotReady", format!("containers with unready status: [{}]", unready.join(" ")))
}

fn initialized(observed: &Observed) -> Verdict {
    let main_ran = observed
        .containers
        .iter()
        .any(|c| c.role == Role::Main && (c.last.is_some() || !matches!(c.state, State::Waiting { .. })));
    let incomplete: Vec<_> =
        observed.containers.iter().filter(|c| !c.is_initialized()).map(|c| c.name.as_str()).collect();
    if main_ran || incomplete.is_empty() {
        return true.into();
    }
    Verdict::no("ContainersNotInitialized", format!("containers with incomplete status: [{}]", incomplete.join(" ")))
}

fn gates_open(pod: &Pod) -> Verdict {
    let conditions: BTreeMap<_, _> = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .map(|c| (c.type_.as_str(), c.status.as_str()))
        .collect();
    let gates = pod.spec.iter().flat_map(|s| s.readiness_gates.iter().flatten());
    let closed: Vec<_> = gates
        .filter_map(|gate| match conditions.get(gate.condition_type.as_str()) {
            Some(&"True") => None,
            Some(status) => Some(format!(
                "the status of pod readiness gate \"{}\" is not \"True\", but {status}",
                gate.condition_type
            )),
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{}\" does not exist.",
                gate.condition_type
            )),
        })
        .collect();
    if closed.is_empty() { true.into() } else { Verdict::no("ReadinessGatesNotReady", closed.join(", ")) }
}

fn condition(pod: &Pod, type_: &str, verdict: Verdict, now: Timestamp) -> PodCondition {
    let status = if verdict.status { "True" } else { "False" };
    let before =
        pod.status.iter().flat_map(|s| s.conditions.iter().flatten()).find(|c| c.type_ == type_ && c.status == status);
    PodCondition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
        ..PodCondition::default()
    }
}
