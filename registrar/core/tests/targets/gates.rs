//! What opens and closes a gate.

use std::time::Duration;

use registrar_core::{
    Settings,
    aws::HealthState,
    cluster::GateStatus,
    effect::{Action, Request},
};

use super::stage::{Stage, seconds};

#[test]
fn a_gate_opens_when_the_load_balancer_says_healthy_and_not_before() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(3));
    assert_eq!(stage.registered(), ["10.0.0.1"]);
    assert_eq!(stage.gate("a"), (GateStatus::False, "Elb.InitialHealthChecking".to_owned()));
    stage.run(seconds(5));
    assert_eq!(stage.gate("a"), (GateStatus::True, String::new()));
    assert_eq!(stage.condition("web", "Ready"), ("True".into(), "AllHealthy".into(), "1/1".into()));
    assert!(stage.bindings.values().all(|binding| binding.has_finalizer));
}

#[test]
fn a_hundred_pods_at_once_cost_at_most_eight_calls() {
    let mut stage = Stage::ready(&Settings::default());
    stage.health_delay = seconds(0);
    stage.run(seconds(60));
    let before = stage.sent.len();
    for index in 0..100 {
        stage.add_pod(&format!("pod-{index}"), &format!("10.0.1.{index}"));
    }
    stage.run(seconds(1));
    assert!((0..100).all(|index| stage.is_open(&format!("pod-{index}"))));
    let calls = stage.sent[before..].iter().filter(|(_, effect)| matches!(effect.action, Action::Aws { .. }));
    let calls = calls.count();
    assert!(calls <= 8, "{calls} calls");
}

#[test]
fn a_gate_closes_when_its_target_fails_and_opens_when_it_recovers() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.add_pod("b", "10.0.0.2");
    stage.run(seconds(20));
    assert!(stage.is_open("a") && stage.is_open("b"));
    stage.group().unhealthy.insert("10.0.0.1".to_owned());
    stage.run(seconds(20));
    assert_eq!(stage.gate("a"), (GateStatus::False, "Target.FailedHealthChecks".to_owned()));
    assert!(stage.is_open("b"));
    stage.group().unhealthy.clear();
    stage.run(seconds(5));
    assert!(stage.is_open("a"));
    assert_eq!(stage.registered().len(), 2, "health is no reason to deregister");
}

#[test]
fn when_all_targets_fail_at_once_gates_stay_open_and_it_is_said() {
    let mut stage = Stage::ready(&Settings::default());
    for index in 0..4 {
        stage.add_pod(&format!("pod-{index}"), &format!("10.0.0.{index}"));
    }
    stage.run(seconds(20));
    stage.group().unhealthy = (0..4).map(|index| format!("10.0.0.{index}")).collect();
    stage.run(seconds(60));
    assert!((0..4).all(|index| stage.is_open(&format!("pod-{index}"))));
    assert_eq!(stage.condition("web", "Healthy").1, "FailOpen");
    assert_eq!(stage.events("FailOpen").len(), 1);
    stage.group().unhealthy.remove("10.0.0.0");
    stage.run(seconds(60));
    assert!(stage.is_open("pod-0") && !stage.is_open("pod-1"), "one is healthy, so the others are not needed");
}

#[test]
fn states_that_say_nothing_of_health_neither_open_nor_close_a_gate() {
    let states = [
        (HealthState::Unused, Some("Target.NotInUse")),
        (HealthState::Unavailable, Some("Elb.InternalError")),
        (HealthState::Other("brand-new".to_owned()), None),
    ];
    for state in states {
        let mut stage = Stage::ready(&Settings::default());
        stage.add_pod("open", "10.0.0.1");
        stage.run(seconds(20));
        stage.group().state.insert("10.0.0.1".to_owned(), state.clone());
        stage.group().state.insert("10.0.0.2".to_owned(), state.clone());
        stage.add_pod("closed", "10.0.0.2");
        stage.run(seconds(60));
        assert!(stage.is_open("open"), "{state:?}");
        assert!(!stage.is_open("closed"), "{state:?}");
    }
}

#[test]
fn a_pod_that_takes_over_an_address_waits_for_a_verdict_of_its_own() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("old", "10.0.0.1");
    stage.add_pod("other", "10.0.0.2");
    stage.run(seconds(20));
    // The address goes to another pod within one moment, so that nothing is deregistered in between.
    stage.slices_follow = false;
    let address = stage.pod("old").addresses.clone();
    stage.remove_pod("old");
    stage.add_pod("new", "10.0.0.9");
    stage.slices_follow = true;
    stage.change_pod("new", |pod| pod.addresses = address);
    stage.run(seconds(15));
    assert!(!stage.is_open("new"), "healthy is what the old pod was");
    stage.run(seconds(30));
    assert!(stage.is_open("new"));
    assert!(stage.deregistered().is_empty());
}

#[test]
fn two_pods_with_one_address_keep_each_other_closed() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.add_pod("b", "10.0.0.1");
    stage.run(seconds(120));
    assert!(!stage.is_open("a") && !stage.is_open("b"));
    assert_eq!(stage.registered(), ["10.0.0.1"]);
    stage.remove_pod("b");
    stage.run(seconds(60));
    assert!(stage.is_open("a"));
}

#[test]
fn an_open_gate_is_adopted_with_no_write_to_aws() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(20));
    let (pods, groups, bindings) = (stage.pods.clone(), stage.groups.clone(), stage.bindings.clone());
    let mut next = Stage::new(&Settings::default());
    next.now = seconds(1000);
    next.revision = stage.revision;
    next.furnish();
    next.groups = groups;
    for binding in bindings.into_values() {
        next.put_binding(binding);
    }
    for pod in pods.into_values() {
        next.put_pod(pod);
    }
    next.list_all();
    next.lead();
    next.run(seconds(1200));
    assert_eq!(next.writes(), Vec::<String>::new());
}

#[test]
fn the_gate_of_a_binding_that_does_not_exist_opens() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod_with("a", "10.0.0.1", |pod| pod.gates[0].binding = "gone".into());
    stage.run(seconds(10));
    assert_eq!(stage.gate("a"), (GateStatus::True, "BindingGone".to_owned()));
}

#[test]
fn a_pod_without_the_gate_that_it_should_have_is_told_of_once() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod_with("a", "10.0.0.1", |pod| pod.gates.clear());
    stage.run(seconds(10));
    assert_eq!(stage.events("UngatedPod").len(), 1);
    stage.run(seconds(600));
    assert_eq!(stage.events("UngatedPod").len(), 1);
    let report = stage.state.report();
    assert_eq!(report.bindings[0].ungated, [("NotInjected", 1)]);
}

#[test]
fn a_gate_opens_without_health_only_where_the_binding_asks_for_it() {
    let cases: [(bool, Option<u32>, Option<&str>); 3] =
        [(false, None, None), (true, None, Some("NotInUseAllowed")), (false, Some(60), Some("GateTimeout"))];
    for (open_when_not_in_use, gate_timeout, opened) in cases {
        let mut stage = Stage::new(&Settings::default());
        stage.furnish();
        stage.add_binding("web", super::stage::GROUP, |record| {
            record.open_when_not_in_use = open_when_not_in_use;
            record.gate_timeout = gate_timeout;
        });
        stage.list_all();
        stage.lead();
        stage.group().state.insert("10.0.0.1".to_owned(), (HealthState::Unused, Some("Target.NotInUse")));
        stage.add_pod("a", "10.0.0.1");
        stage.run(seconds(50));
        assert_eq!(stage.is_open("a"), open_when_not_in_use);
        stage.run(seconds(600));
        assert_eq!(stage.is_open("a"), opened.is_some());
        if let Some(reason) = opened {
            assert_eq!(stage.gate("a").1, reason);
        }
    }
}

#[test]
fn a_gate_that_waits_is_looked_at_less_often_as_time_goes_by() {
    let mut stage = Stage::ready(&Settings::default());
    stage.health_delay = seconds(1_000_000);
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(7200));
    let looks = stage.calls("DescribeTargetHealth");
    let within = |from: u64, to: u64| looks.iter().filter(|(at, _)| *at >= seconds(from) && *at < seconds(to)).count();
    assert!((20..=40).contains(&within(20, 80)), "{} in the first minute", within(20, 80));
    let second_hour = within(3600, 7200);
    assert!(second_hour <= 361, "{second_hour}: no more often than a group in which nobody waits");
}

#[test]
fn a_target_whose_checks_end_within_a_second_costs_its_gate_one_write() {
    let mut stage = Stage::ready(&Settings::default());
    stage.health_delay = Duration::from_millis(500);
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(5));
    assert!(stage.is_open("a"));
    let writes = stage.sent.iter().filter(
        |(_, effect)| matches!(&effect.action, Action::Kubernetes(Request::PatchGate { pod, .. }) if &*pod.name == "a"),
    );
    assert_eq!(writes.count(), 1);
}

#[test]
fn nobody_looks_for_a_target_while_it_is_being_registered_and_somebody_does_right_after() {
    let mut stage = Stage::ready(&Settings::default());
    stage.run(seconds(1));
    stage.late = Some("RegisterTargets");
    let before = stage.sent.len();
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(3));
    let operations = |stage: &Stage| -> Vec<&str> {
        let calls = stage.sent[before..].iter().filter_map(|(_, effect)| match &effect.action {
            Action::Aws { call, .. } => Some(call.operation()),
            Action::Kubernetes(_) => None,
        });
        calls.collect()
    };
    assert_eq!(operations(&stage), ["RegisterTargets"]);
    stage.let_arrive();
    stage.run(Duration::from_millis(60));
    assert_eq!(operations(&stage), ["RegisterTargets", "DescribeTargetHealth"]);
}
