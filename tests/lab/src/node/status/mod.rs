//! A pod's status from what its containers do: phase, conditions and container statuses as the kubelet computes them.
//!
//! Rules and messages follow `pkg/kubelet/status/generate.go` of Kubernetes. A terminating pod stays Ready for as long
//! as its containers serve: it is the endpoint slice that says `ready: false, serving: true` of it.

mod conditions;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
        HostIP, Pod, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::address::Addresses;

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit status; 128 and the signal's number where a signal ended it.
    pub code: i32,
    /// `Completed`, `Error` or what the node did to it.
    pub reason: String,
    /// For people; may be empty.
    pub message: String,
}

impl Exit {
    /// An end by itself.
    pub fn with_code(code: i32) -> Self {
        let reason = if code == 0 { "Completed" } else { "Error" };
        Self { code, reason: reason.to_owned(), message: String::new() }
    }
}

/// What a container is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Not running; may have run before.
    Waiting {
        /// One word.
        reason: String,
        /// For people.
        message: String,
    },
    /// Running.
    Running {
        /// Since when.
        since: Timestamp,
    },
    /// Ended.
    Terminated {
        /// How.
        exit: Exit,
        /// From when.
        since: Timestamp,
        /// Until when.
        until: Timestamp,
    },
}

/// Which part a container has in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An init container that runs to completion.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// A regular container.
    Main,
}

/// One container as its node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerView {
    /// Its name.
    pub name: String,
    /// Its image, as written.
    pub image: String,
    /// Its part in the pod.
    pub role: Role,
    /// What it is doing.
    pub state: State,
    /// How it ended last, if it was started again since.
    pub last: Option<State>,
    /// How often it was started again.
    pub restarts: u32,
    /// Whether its startup probe, if it has one, has succeeded.
    pub started: bool,
    /// Whether its readiness probe, if it has one, says so.
    pub ready: bool,
}

impl ContainerView {
    fn is_running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Terminated { exit, .. } => Some(exit),
            _ => None,
        }
    }

    /// Whether the containers after it may start.
    pub fn is_initialized(&self) -> bool {
        match self.role {
            Role::Init => self.exit().is_some_and(|exit| exit.code == 0),
            Role::Sidecar => self.is_running() && self.started,
            Role::Main => true,
        }
    }

    /// Whether it counts as ready.
    pub fn is_ready(&self) -> bool {
        match self.role {
            Role::Init => self.is_initialized(),
            Role::Sidecar | Role::Main => self.is_running() && self.started && self.ready,
        }
    }
}

/// What the node knows about a pod beside its object.
#[derive(Debug, Clone)]
pub struct Observed<'a> {
    /// All containers: init containers in order, then the others.
    pub containers: &'a [ContainerView],
    /// The pod's addresses, once it has some.
    pub pod: Option<Addresses>,
    /// The node's addresses.
    pub host: Addresses,
    /// When the node saw the pod first.
    pub start: Timestamp,
    /// Whether every container was stopped for good because the pod is being deleted.
    pub stopped: bool,
}

/// Computes the status. Conditions of others are left out: a strategic merge keeps them.
pub fn compute(pod: &Pod, observed: &Observed, now: Timestamp) -> PodStatus {
    let phase = phase(pod, observed);
    let pod_ips = observed.pod.map(|pod| pod.all().map(|ip| PodIP { ip: ip.to_string() }).collect());
    let host_ips = observed.host.all().map(|ip| HostIP { ip: ip.to_string() }).collect();
    let statuses = |roles: &[Role]| -> Option<Vec<_>> {
        let chosen = observed.containers.iter().filter(|c| roles.contains(&c.role));
        Some(chosen.map(|c| container_status(pod, c)).collect()).filter(|list: &Vec<_>| !list.is_empty())
    };
    PodStatus {
        conditions: Some(conditions::all(pod, observed, phase, now)),
        container_statuses: statuses(&[Role::Main]),
        init_container_statuses: statuses(&[Role::Init, Role::Sidecar]),
        host_ip: Some(observed.host.v4.to_string()),
        host_ips: Some(host_ips),
        phase: Some(phase.to_owned()),
        pod_ip: observed.pod.map(|pod| pod.v4.to_string()),
        pod_ips,
        start_time: Some(Time(observed.start)),
        ..PodStatus::default()
    }
}

fn restart_policy(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always")
}

/// Whether a container that ended with this code is started again.
pub fn restarts(pod: &Pod, role: Role, code: i32) -> bool {
    match (role, restart_policy(pod)) {
        (Role::Sidecar, _) | (Role::Main, "Always") => true,
        (_, "Never") | (Role::Init, _) if code == 0 => false,
        (_, "Never") => false,
        _ => code != 0,
    }
}

fn phase(pod: &Pod, observed: &Observed) -> &'static str {
    let main = || observed.containers.iter().filter(|c| c.role == Role::Main);
    let failed_for_good = |c: &&ContainerView| c.exit().is_some_and(|e| !restarts(pod, c.role, e.code) && e.code != 0);
    let of_ended = || if main().all(|c| c.exit().is_some_and(|e| e.code == 0)) { "Succeeded" } else { "Failed" };
    if observed.stopped {
        return of_ended();
    }
    if observed.containers.iter().filter(|c| c.role == Role::Init).any(|c| failed_for_good(&c)) {
        return "Failed";
    }
    let never_ran = |c: &ContainerView| matches!(c.state, State::Waiting { .. }) && c.last.is_none();
    if main().any(never_ran) {
        return "Pending";
    }
    let over = main().all(|c| c.exit().is_some_and(|e| !restarts(pod, Role::Main, e.code)));
    if over { of_ended() } else { "Running" }
}

fn container_status(pod: &Pod, view: &ContainerView) -> ContainerStatus {
    let id = format!("lab://{}/{}/{}", pod.metadata.uid.as_deref().unwrap_or_default(), view.name, view.restarts);
    let never_ran = matches!(view.state, State::Waiting { .. }) && view.last.is_none();
    ContainerStatus {
        name: view.name.clone(),
        image: view.image.clone(),
        image_id: format!("lab://{}", view.image),
        container_id: (!never_ran).then(|| id.clone()),
        ready: view.is_ready(),
        restart_count: i32::try_from(view.restarts).unwrap_or(i32::MAX),
        started: Some(view.is_running() && view.started),
        state: Some(container_state(&view.state, &id)),
        last_state: view.last.as_ref().map(|state| container_state(state, &id)),
        ..ContainerStatus::default()
    }
}

fn container_state(state: &State, id: &str) -> ContainerState {
    match state {
        State::Waiting { reason, message } => ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.clone()),
                message: Some(message.clone()).filter(|m| !m.is_empty()),
            }),
            ..ContainerState::default()
        },
        State::Running { since } => ContainerState {
            running: Some(ContainerStateRunning { started_at: Some(Time(*since)) }),
            ..ContainerState::default()
        },
        State::Terminated { exit, since, until } => ContainerState {
            terminated: Some(ContainerStateTerminated {
                exit_code: exit.code,
                reason: Some(exit.reason.clone()),
                message: Some(exit.message.clone()).filter(|m| !m.is_empty()),
                started_at: Some(Time(*since)),
                finished_at: Some(Time(*until)),
                container_id: Some(id.to_owned()),
                ..ContainerStateTerminated::default()
            }),
            ..ContainerState::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use serde_json::json;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const V4_ONLY: Addresses = Addresses { v4: Ipv4Addr::new(192, 168, 11, 7), v6: None };

    fn pod(restart_policy: &str, gate: Option<&str>) -> Pod {
        let conditions: Vec<_> =
            gate.iter().map(|status| json!({"type": "example.com/gate", "status": status})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [], "restartPolicy": restart_policy,
                     "readinessGates": [{"conditionType": "example.com/gate"}]},
            "status": {"conditions": conditions},
        }))
        .expect("a pod")
    }

    fn running(name: &str, role: Role, ready: bool) -> ContainerView {
        let state = State::Running { since: NOW };
        let (name, image) = (name.to_owned(), "echo".to_owned());
        ContainerView { name, image, role, state, last: None, restarts: 0, started: true, ready }
    }

    fn ended(name: &str, role: Role, code: i32) -> ContainerView {
        let state = State::Terminated { exit: Exit::with_code(code), since: NOW, until: NOW };
        ContainerView { state, ..running(name, role, false) }
    }

    fn waiting(name: &str, role: Role) -> ContainerView {
        let state = State::Waiting { reason: "ContainerCreating".to_owned(), message: String::new() };
        ContainerView { state, ..running(name, role, false) }
    }

    fn status_of(pod: &Pod, containers: &[ContainerView], stopped: bool) -> PodStatus {
        let observed = Observed { containers, pod: Some(V4_ONLY), host: V4_ONLY, start: NOW, stopped };
        compute(pod, &observed, NOW)
    }

    fn condition_of(status: &PodStatus, type_: &str) -> (bool, String) {
        let all = status.conditions.as_ref().expect("conditions");
        let found = all.iter().find(|c| c.type_ == type_).expect("the condition");
        (found.status == "True", found.reason.clone().unwrap_or_default())
    }

    #[test]
    fn ips_are_the_ipv4_address_and_after_it_the_ipv6_address_if_there_is_one() {
        let both = |v6: u16| Addresses { v6: Some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, v6)), ..V4_ONLY };
        let v4 = "192.168.11.7";
        let cases = [
            (None, V4_ONLY, vec![], vec![v4]),
            (Some(V4_ONLY), V4_ONLY, vec![v4], vec![v4]),
            (Some(both(1)), both(2), vec![v4, "2001:db8::1"], vec![v4, "2001:db8::2"]),
        ];
        for (pod_has, host, pod_ips, host_ips) in cases {
            let observed = Observed { containers: &[], pod: pod_has, host, start: NOW, stopped: false };
            let status = compute(&pod("Always", None), &observed, NOW);
            assert_eq!(status.pod_ip.as_deref(), pod_ips.first().copied());
            assert_eq!(status.host_ip.as_deref(), Some(v4));
            assert_eq!(status.pod_ips.iter().flatten().map(|p| p.ip.as_str()).collect::<Vec<_>>(), pod_ips);
            assert_eq!(status.host_ips.iter().flatten().map(|h| h.ip.as_str()).collect::<Vec<_>>(), host_ips);
        }
    }

    #[test]
    fn ready_needs_every_container_and_every_readiness_gate() {
        let (good, bad) = ([running("a", Role::Main, true)], [running("a", Role::Main, false)]);
        let cases = [
            (&good, None, false, "ReadinessGatesNotReady"),
            (&good, Some("False"), false, "ReadinessGatesNotReady"),
            (&good, Some("True"), true, ""),
            (&bad, Some("True"), false, "ContainersNotReady"),
        ];
        for (containers, gate, ready, reason) in cases {
            let status = status_of(&pod("Always", gate), containers, false);
            assert_eq!(condition_of(&status, "Ready"), (ready, reason.to_owned()), "gate {gate:?}");
            assert_eq!(condition_of(&status, "ContainersReady").0, containers[0].ready);
        }
    }

    #[test]
    fn deletion_alone_does_not_make_a_serving_pod_unready() {
        let mut pod = pod("Always", Some("True"));
        pod.metadata.deletion_timestamp = Some(Time(NOW));
        assert!(condition_of(&status_of(&pod, &[running("a", Role::Main, true)], false), "Ready").0);
        let stopped = status_of(&pod, &[ended("a", Role::Main, 0)], true);
        assert_eq!(condition_of(&stopped, "Ready"), (false, "PodCompleted".to_owned()));
    }

    #[test]
    fn phase_follows_containers_and_restart_policy() {
        use Role::{Init, Main, Sidecar};
        let crashed = ContainerView { last: Some(ended("a", Main, 1).state), ..waiting("a", Main) };
        let cases: [(&str, Vec<ContainerView>, &str); 11] = [
            ("Always", vec![waiting("a", Main)], "Pending"),
            ("Always", vec![running("i", Init, false), waiting("a", Main)], "Pending"),
            ("Always", vec![ended("i", Init, 0), running("a", Main, false)], "Running"),
            ("Always", vec![ended("a", Main, 0)], "Running"),
            ("Always", vec![crashed], "Running"),
            ("OnFailure", vec![ended("a", Main, 1)], "Running"),
            ("OnFailure", vec![ended("a", Main, 0)], "Succeeded"),
            ("Never", vec![ended("a", Main, 0), running("b", Main, true)], "Running"),
            ("Never", vec![ended("a", Main, 0), ended("b", Main, 3)], "Failed"),
            ("Never", vec![ended("i", Init, 1), waiting("a", Main)], "Failed"),
            ("Never", vec![running("s", Sidecar, true), ended("a", Main, 0)], "Succeeded"),
        ];
        for (n, (policy, containers, phase)) in cases.into_iter().enumerate() {
            let status = status_of(&pod(policy, None), &containers, false);
            assert_eq!(status.phase.as_deref(), Some(phase), "case {n}");
        }
    }

    #[test]
    fn containers_wait_for_init_containers_and_started_sidecars() {
        let cases = [
            (vec![running("i", Role::Init, false), waiting("a", Role::Main)], false),
            (vec![ended("i", Role::Init, 1), waiting("a", Role::Main)], false),
            (vec![ended("i", Role::Init, 0), waiting("a", Role::Main)], true),
            (vec![running("s", Role::Sidecar, false), waiting("a", Role::Main)], true),
            (vec![waiting("s", Role::Sidecar), waiting("a", Role::Main)], false),
        ];
        for (n, (containers, done)) in cases.into_iter().enumerate() {
            let status = status_of(&pod("Always", None), &containers, false);
            assert_eq!(condition_of(&status, "Initialized").0, done, "case {n}");
        }
    }

    #[test]
    fn transition_time_moves_only_with_the_status() {
        let before = Timestamp::UNIX_EPOCH;
        let later = before + jiff::SignedDuration::from_secs(60);
        let mut pod = pod("Always", Some("True"));
        pod.status = Some(status_of(&pod, &[running("a", Role::Main, true)], false));
        for (ready, moved) in [(true, false), (false, true)] {
            let containers = [running("a", Role::Main, ready)];
            let observed =
                Observed { containers: &containers, pod: Some(V4_ONLY), host: V4_ONLY, start: NOW, stopped: false };
            let status = compute(&pod, &observed, later);
            let time = status.conditions.expect("conditions")[2].last_transition_time.clone().expect("a time").0;
            assert_eq!(time == later, moved, "ContainersReady is {ready}");
        }
    }
}
