//! What happens while something else is under way, absent, or not seen yet. Each of these was found by the simulation.

use std::time::Duration;

use registrar_core::{
    Settings,
    aws::{Fault, HealthState, Reply},
    cluster::{GateCondition, GateStatus, Key, Kind, Uid},
    effect::{Action, Request},
    event::{Answer, Outcome, Watched},
};

use super::stage::{NAMESPACE, Place, Stage, seconds};

/// Takes the Service away, and its slices after it.
fn lose_service(stage: &mut Stage) {
    stage.slices_follow = false;
    stage.endpoints_shown = Some(Vec::new());
    stage.remove_service("web");
    let slice = stage.slice();
    stage.tell(Watched::Deleted(Kind::Slice, slice.meta.key.clone(), slice.meta.uid.clone()));
}

fn lost() -> Outcome {
    Outcome::Aws(Err(Fault::Unknown("reset".to_owned())))
}

fn operation(action: &Action) -> &'static str {
    match action {
        Action::Aws { call, .. } => call.operation(),
        Action::Kubernetes(_) => "",
    }
}

#[test]
fn what_a_look_finds_leaves_although_nothing_else_changes() {
    let mut stage = Stage::ready(&Settings::default());
    // Nobody hears of the status, so that no event follows from it.
    stage.meddle = Some(Box::new(|effect| match &effect.action {
        Action::Kubernetes(Request::PatchBindingStatus { .. }) => Some(Outcome::Kubernetes(Ok(Answer::Done))),
        _ => None,
    }));
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(20));
    let stranger = Place { since: stage.now, draining: false, zone: None };
    stage.group().targets.insert(("10.0.0.99".to_owned(), 8080), stranger);
    stage.run(seconds(60));
    assert_eq!(stage.registered(), ["10.0.0.1"]);
}

#[test]
fn a_service_that_stays_away_takes_its_targets_along_after_a_minute() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(20));
    lose_service(&mut stage);
    stage.run(seconds(55));
    assert_eq!(stage.registered(), ["10.0.0.1"]);
    stage.run(seconds(30));
    assert!(stage.registered().is_empty());
}

#[test]
fn a_pod_that_terminates_while_its_service_is_away_is_deregistered_at_once() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod_with("a", "10.0.0.1", |pod| pod.gates.clear());
    stage.add_pod_with("b", "10.0.0.2", |pod| pod.gates.clear());
    stage.run(seconds(20));
    lose_service(&mut stage);
    stage.run(seconds(5));
    stage.terminate("a");
    stage.run(seconds(1));
    assert_eq!(stage.registered(), ["10.0.0.2"]);
}

#[test]
fn an_address_that_a_ready_pod_has_taken_over_stays_until_the_service_is_seen_again() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod_with("a", "10.0.0.1", |pod| pod.gates.clear());
    stage.run(seconds(20));
    lose_service(&mut stage);
    stage.run(seconds(1));
    // All of this in one moment: the binding is worked on once it has come about.
    stage.remove_pod("a");
    stage.add_pod_with("b", "10.0.0.1", |pod| pod.gates.clear());
    let mut slice = stage.slice();
    slice.meta.uid = Uid("slice-2".into());
    stage.put_slice(slice);
    stage.run(seconds(5));
    stage.add_service("web");
    stage.run(seconds(20));
    assert!(stage.deregistered().is_empty(), "{:?}", stage.deregistered());
}

/// The ledger has what was about to be registered. AWS may have refused it, and another cluster may have it by now.
#[test]
fn in_a_shared_group_nothing_is_deregistered_that_no_look_has_shown() {
    for shared in [true, false] {
        let mut stage = Stage::new(&Settings::default());
        stage.furnish();
        if shared {
            stage.share();
        }
        let ledger = vec!["10.0.0.1:8080".to_owned()];
        stage.ledgers.insert(Key::new(NAMESPACE, "web"), ledger);
        stage.meddle = Some(Box::new(|effect| (operation(&effect.action) == "DescribeTargetHealth").then(lost)));
        stage.list_all();
        stage.lead();
        stage.add_pod("a", "10.0.0.1");
        stage.run(seconds(5));
        stage.terminate("a");
        stage.run(seconds(5));
        assert_eq!(stage.deregistered().is_empty(), shared);
    }
}

#[test]
fn a_registration_without_a_reply_that_shows_late_leaves_with_its_pod() {
    for shared in [true, false] {
        let mut stage = Stage::ready(&Settings::default());
        if shared {
            stage.share();
        }
        stage.run(seconds(10));
        stage.meddled_takes_place = true;
        let mut looks = 0;
        stage.meddle = Some(Box::new(move |effect| match operation(&effect.action) {
            "RegisterTargets" => Some(lost()),
            "DescribeTargetHealth" => {
                looks += 1;
                (looks <= 3).then(|| Outcome::Aws(Ok(Reply::TargetHealth(Vec::new()))))
            }
            _ => None,
        }));
        stage.add_pod_with("a", "10.0.0.1", |pod| pod.gates.clear());
        stage.run(seconds(1));
        assert_eq!(stage.registered(), ["10.0.0.1"]);
        stage.terminate("a");
        stage.remove_pod("a");
        stage.run(seconds(20));
        assert!(stage.registered().is_empty(), "shared: {shared}");
    }
}

#[test]
fn a_binding_made_anew_finds_gates_as_they_are_and_not_as_a_late_cache_has_them() {
    let mut stage = Stage::ready(&Settings::default());
    stage.health_delay = seconds(1000);
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(5));
    assert_eq!(stage.gate("a").0, GateStatus::False);
    // From now on patches are made, and the watch on pods says nothing of them.
    stage.meddle = Some(Box::new(|effect| match &effect.action {
        Action::Kubernetes(Request::PatchGate { .. }) => Some(Outcome::Kubernetes(Ok(Answer::Done))),
        _ => None,
    }));
    let patches = |stage: &Stage| {
        let gates = stage.sent.iter().filter_map(|(_, effect)| match &effect.action {
            Action::Kubernetes(Request::PatchGate { condition, .. }) => {
                Some((condition.status, condition.reason.clone()))
            }
            _ => None,
        });
        gates.collect::<Vec<_>>()
    };
    let before = patches(&stage).len();
    stage.delete_binding("web");
    stage.run(seconds(3));
    assert_eq!(patches(&stage)[before..], [(GateStatus::True, "BindingGone".to_owned())]);
    stage.add_binding("web", super::stage::GROUP, |_| {});
    stage.run(seconds(10));
    assert_eq!(patches(&stage).len(), before + 1, "{:?}", patches(&stage));
}

#[test]
fn a_gate_that_was_opened_while_there_was_no_binding_is_not_closed_by_one_that_is_made() {
    let mut stage = Stage::ready(&Settings::default());
    stage.health_delay = seconds(1000);
    stage.delete_binding("web");
    stage.run(seconds(1));
    stage.meddle = Some(Box::new(|effect| match &effect.action {
        Action::Kubernetes(Request::PatchGate { .. }) => Some(Outcome::Kubernetes(Ok(Answer::Done))),
        _ => None,
    }));
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(10));
    stage.add_binding("web", super::stage::GROUP, |_| {});
    stage.run(seconds(10));
    let statuses = stage.sent.iter().filter_map(|(_, effect)| match &effect.action {
        Action::Kubernetes(Request::PatchGate { condition, .. }) => Some(condition.status),
        _ => None,
    });
    assert_eq!(statuses.collect::<Vec<_>>(), [GateStatus::True]);
}

#[test]
fn checks_of_the_pod_before_decide_nothing_although_they_had_not_come_to_an_end() {
    let mut stage = Stage::new(&Settings::default());
    stage.furnish();
    // It was registered for somebody else, and some of its checks have passed.
    let checking = Place { since: stage.now, draining: false, zone: None };
    stage.group().targets.insert(("10.0.0.1".to_owned(), 8080), checking);
    stage.add_pod("a", "10.0.0.1");
    stage.list_all();
    stage.lead();
    stage.run(seconds(25));
    assert_eq!(stage.gate("a").0, GateStatus::False, "three checks, ten seconds apart, may not all have been its own");
    stage.run(seconds(15));
    assert!(stage.is_open("a"));
}

#[test]
fn a_finalizer_waits_for_a_look_asked_for_after_a_deregistration_without_a_reply() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(20));
    // The look of every ten seconds is on its way, and says that the target drains: somebody else has deregistered it.
    let draining = (HealthState::Draining, Some("Target.DeregistrationInProgress"));
    stage.group().state.insert("10.0.0.1".to_owned(), draining);
    stage.late = Some("DescribeTargetHealth");
    stage.run(seconds(11));
    stage.group().state.clear();
    stage.meddle = Some(Box::new(|effect| match operation(&effect.action) {
        "DeregisterTargets" | "DescribeTargetHealth" => Some(lost()),
        _ => None,
    }));
    stage.delete_binding("web");
    stage.run(seconds(1));
    assert_eq!(stage.deregistered(), ["10.0.0.1"]);
    stage.let_arrive();
    stage.run(seconds(1));
    assert!(stage.bindings.contains_key(&Key::new(NAMESPACE, "web")), "nothing has been seen since");
}

/// An open gate as a leader before has left it.
fn open_gate(reason: &str) -> GateCondition {
    GateCondition { status: GateStatus::True, reason: reason.to_owned(), message: String::new() }
}

#[test]
fn a_target_that_turned_bad_counts_as_one_of_most_although_its_gate_was_not_opened_by_health() {
    let mut stage = Stage::new(&Settings::default());
    stage.furnish();
    for (name, address, reason) in [("a", "10.0.0.1", ""), ("b", "10.0.0.2", "BindingGone")] {
        stage.add_pod_with(name, address, |pod| pod.gates[0].condition = Some(open_gate(reason)));
        let place = Place { since: Duration::ZERO, draining: false, zone: None };
        stage.group().targets.insert((address.to_owned(), 8080), place);
        stage.group().unhealthy.insert(address.to_owned());
    }
    stage.now = seconds(100);
    stage.list_all();
    stage.lead();
    stage.run(seconds(5));
    assert!(stage.is_open("a"), "{:?}", stage.gate("a"));
    assert_eq!(stage.events("FailOpen").len(), 1);
}

#[test]
fn gates_that_one_look_holds_open_do_not_close_because_it_opens_another() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.add_pod("b", "10.0.0.2");
    stage.add_pod("c", "10.0.0.3");
    stage.add_pod("d", "10.0.0.4");
    stage.run(seconds(20));
    // One that is open is without a target: its endpoint is taken away and its pod is not known to leave.
    stage.slices_follow = false;
    let mut slice = stage.slice();
    slice.endpoints.retain(|endpoint| endpoint.address.to_string() != "10.0.0.1");
    stage.endpoints_shown = Some(slice.endpoints.clone());
    stage.put_slice(slice);
    stage.run(seconds(40));
    assert_eq!(stage.registered(), ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    // This one waits, and the look that opens its gate says that another is bad.
    let unhealthy = (HealthState::Unhealthy, Some("Target.FailedHealthChecks"));
    stage.group().state.insert("10.0.0.3".to_owned(), unhealthy.clone());
    stage.run(seconds(15));
    assert!(!stage.is_open("c"));
    stage.group().state.clear();
    stage.group().state.insert("10.0.0.2".to_owned(), unhealthy);
    let looks = stage.calls("DescribeTargetHealth").len();
    while stage.calls("DescribeTargetHealth").len() == looks {
        stage.run(Duration::from_millis(50));
    }
    stage.run(Duration::from_millis(200));
    assert_eq!(stage.calls("DescribeTargetHealth").len(), looks + 1, "{:?}", stage.calls("DescribeTargetHealth"));
    assert!(stage.is_open("b") && stage.is_open("c"), "{:?} {:?}", stage.gate("b"), stage.gate("c"));
    stage.run(seconds(20));
    assert!(!stage.is_open("b"));
}

#[test]
fn a_pod_of_another_namespace_that_terminates_proves_nothing_of_a_target() {
    let mut stage = Stage::new(&Settings::default());
    stage.furnish();
    stage.slices_follow = false;
    stage.endpoints_shown = Some(Vec::new());
    let place = Place { since: Duration::ZERO, draining: false, zone: None };
    stage.group().targets.insert(("10.0.0.1".to_owned(), 8080), place);
    stage.add_pod_with("a", "10.0.0.1", |pod| {
        pod.meta.key = Key::new("other", "a");
        pod.meta.deleting = true;
    });
    stage.list_all();
    stage.lead();
    stage.run(seconds(5));
    assert_eq!(stage.registered(), ["10.0.0.1"], "no second look has been had");
    stage.run(seconds(30));
    assert!(stage.registered().is_empty());
}

#[test]
fn a_target_of_unavailable_health_is_looked_at_again_before_the_audit() {
    let mut stage = Stage::new(&Settings::default());
    stage.furnish();
    // It drains, and for a moment AWS says of no target how it is.
    let draining = Place { since: Duration::ZERO, draining: true, zone: None };
    stage.group().targets.insert(("10.0.0.1".to_owned(), 8080), draining);
    stage.group().state.insert("10.0.0.1".to_owned(), (HealthState::Unavailable, Some("Elb.InternalError")));
    stage.add_pod_with("a", "10.0.0.1", |pod| pod.gates.clear());
    stage.list_all();
    stage.lead();
    stage.run(seconds(5));
    assert!(stage.registered().is_empty());
    stage.group().state.clear();
    stage.run(seconds(15));
    assert_eq!(stage.registered(), ["10.0.0.1"]);
}

#[test]
fn a_target_that_looks_hide_after_a_removal_without_a_reply_leaves_nevertheless() {
    for shared in [true, false] {
        let mut stage = Stage::ready(&Settings::default());
        if shared {
            stage.share();
        }
        stage.run(seconds(10));
        let (mut looks, mut removals) = (0, 0);
        stage.meddle = Some(Box::new(move |effect| match operation(&effect.action) {
            "DeregisterTargets" => {
                removals += 1;
                (removals == 1).then(lost)
            }
            "DescribeTargetHealth" => {
                looks += 1;
                (looks <= 3).then(|| Outcome::Aws(Ok(Reply::TargetHealth(Vec::new()))))
            }
            _ => None,
        }));
        stage.add_pod_with("a", "10.0.0.1", |pod| pod.gates.clear());
        stage.run(Duration::from_millis(300));
        assert_eq!(stage.registered(), ["10.0.0.1"]);
        stage.terminate("a");
        stage.remove_pod("a");
        stage.run(seconds(25));
        assert!(stage.registered().is_empty(), "shared: {shared}");
    }
}

#[test]
fn a_target_without_a_gate_is_looked_at_until_it_is_healthy_although_its_registration_had_no_reply() {
    let mut stage = Stage::ready(&Settings::default());
    stage.run(seconds(60));
    stage.meddled_takes_place = true;
    stage.meddle = Some(Box::new(|effect| (operation(&effect.action) == "RegisterTargets").then(lost)));
    stage.add_pod_with("a", "10.0.0.1", |pod| pod.gates.clear());
    stage.run(seconds(2));
    stage.meddle = None;
    stage.run(seconds(10));
    assert_eq!(stage.condition("web", "Healthy"), ("True".into(), "AllHealthy".into(), "1/1".into()));
}
