//! What goes wrong, and what comes of it.

use std::{cell::RefCell, rc::Rc, time::Duration};

use registrar_core::{
    Event, Settings,
    aws::{Call, Fault},
    cluster::{Key, Kind, Record},
    effect::{Action, Request},
    event::{Denial, Outcome, Watched},
};

use super::stage::{GROUP, NAMESPACE, Stage, refused, seconds};

fn fail(stage: &mut Stage, operation: &'static str, mut fault: impl FnMut() -> Option<Fault> + 'static) {
    stage.meddle = Some(Box::new(move |effect| match &effect.action {
        Action::Aws { call, .. } if call.operation() == operation => fault().map(|fault| Outcome::Aws(Err(fault))),
        _ => None,
    }));
}

#[test]
fn one_bad_target_is_named_and_every_other_one_is_registered() {
    let mut stage = Stage::ready(&Settings::default());
    stage.meddle = Some(Box::new(|effect| match &effect.action {
        Action::Aws { call: Call::RegisterTargets { targets, .. }, .. } => {
            let bad = targets.iter().any(|target| target.id == "10.0.0.77");
            bad.then(|| Outcome::Aws(Err(refused("ValidationError", "The IP address is not good"))))
        }
        _ => None,
    }));
    for index in 0..200 {
        stage.add_pod(&format!("pod-{index}"), &format!("10.0.0.{index}"));
    }
    stage.run(seconds(30));
    assert_eq!(stage.registered().len(), 199);
    assert_eq!(stage.events("TargetRefused").len(), 1);
    assert!(stage.events("TargetRefused")[0].contains("10.0.0.77"));
    assert_eq!(stage.gate("pod-77").1, "TargetRefused");
    let calls = stage.calls("RegisterTargets").len();
    assert!(calls <= 1 + 2 * 8 + 6, "{calls} calls");
}

#[test]
fn an_address_outside_the_vpc_is_registered_for_all_zones_once_aws_asks_for_it() {
    let mut stage = Stage::ready(&Settings::default());
    stage.meddle = Some(Box::new(|effect| match &effect.action {
        Action::Aws { call: Call::RegisterTargets { targets, .. }, .. } => {
            let outside = targets.iter().find(|t| t.id == "172.16.0.1" && t.availability_zone.is_none());
            outside.map(|target| {
                let message = format!(
                    "You must specify a valid Availability Zone or select 'all' for all enabled Availability zones, since \
                     the IP address '{}' is outside the VPC",
                    target.id
                );
                Outcome::Aws(Err(refused("ValidationError", &message)))
            })
        }
        _ => None,
    }));
    stage.add_pod("in", "10.0.0.1");
    stage.add_pod("out", "172.16.0.1");
    stage.run(seconds(10));
    assert!(stage.is_open("in") && stage.is_open("out"));
    let zones: Vec<_> = stage.group().targets.values().map(|place| place.zone.clone()).collect();
    assert_eq!(zones, [None, Some("all".to_owned())]);
}

#[test]
fn throttling_is_never_counted_as_failure() {
    let mut stage = Stage::ready(&Settings::default());
    let left = Rc::new(RefCell::new(6));
    fail(&mut stage, "RegisterTargets", move || {
        let mut left = left.borrow_mut();
        *left -= 1;
        (*left >= 0).then(|| Fault::Throttled { code: "Throttling".to_owned() })
    });
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(60));
    assert!(stage.is_open("a"));
}

#[test]
fn a_registration_whose_reply_was_lost_is_repeated() {
    for takes_place in [false, true] {
        let mut stage = Stage::ready(&Settings::default());
        stage.meddled_takes_place = takes_place;
        let mut first = true;
        fail(&mut stage, "RegisterTargets", move || {
            std::mem::take(&mut first).then(|| Fault::Unknown("reset".to_owned()))
        });
        stage.add_pod("a", "10.0.0.1");
        stage.run(seconds(20));
        assert!(stage.is_open("a"), "took place: {takes_place}");
    }
}

#[test]
fn after_a_deregistration_whose_reply_was_lost_comes_a_look() {
    for takes_place in [false, true] {
        let mut stage = Stage::ready(&Settings::default());
        stage.add_pod("a", "10.0.0.1");
        stage.add_pod("b", "10.0.0.2");
        stage.run(seconds(20));
        stage.meddled_takes_place = takes_place;
        let mut first = true;
        fail(&mut stage, "DeregisterTargets", move || {
            std::mem::take(&mut first).then(|| Fault::Unknown("reset".to_owned()))
        });
        let before = stage.sent.len();
        stage.terminate("a");
        stage.run(seconds(20));
        assert_eq!(stage.registered(), ["10.0.0.2"]);
        let operations: Vec<&str> = stage.sent[before..]
            .iter()
            .filter_map(|(_, effect)| match &effect.action {
                Action::Aws { call, .. } => Some(call.operation()),
                Action::Kubernetes(_) => None,
            })
            .take(3)
            .collect();
        let repeated = if takes_place { "DescribeTargetHealth" } else { "DeregisterTargets" };
        assert_eq!(operations, ["DeregisterTargets", "DescribeTargetHealth", repeated], "took place: {takes_place}");
    }
}

#[test]
fn a_failed_look_changes_no_gate() {
    let faults = [
        Fault::Unknown("timeout".to_owned()),
        refused("HealthUnavailable", "internal"),
        refused("AccessDenied", "no"),
        refused("BrandNewCode", "?"),
        Fault::NotSent("no credentials".to_owned()),
    ];
    for fault in faults {
        let mut stage = Stage::ready(&Settings::default());
        stage.add_pod("a", "10.0.0.1");
        stage.run(seconds(20));
        stage.add_pod("b", "10.0.0.2");
        let said = fault.clone();
        fail(&mut stage, "DescribeTargetHealth", move || Some(said.clone()));
        stage.run(seconds(120));
        assert!(stage.is_open("a") && !stage.is_open("b"), "{fault}");
        stage.meddle = None;
        stage.run(seconds(70));
        assert!(stage.is_open("b"), "{fault}: no wait is longer than a minute");
    }
}

#[test]
fn a_full_group_takes_what_it_can_and_removals_go_on() {
    let mut stage = Stage::ready(&Settings::default());
    for index in 0..3 {
        stage.add_pod(&format!("old-{index}"), &format!("10.0.0.{index}"));
    }
    stage.run(seconds(20));
    let registered = Rc::new(RefCell::new(3_usize));
    let count = Rc::clone(&registered);
    stage.meddle = Some(Box::new(move |effect| match &effect.action {
        Action::Aws { call: Call::RegisterTargets { targets, .. }, .. } => {
            let mut count = count.borrow_mut();
            if *count + targets.len() > 5 {
                return Some(Outcome::Aws(Err(refused(
                    "TooManyTargets",
                    "The maximum number of targets has been reached",
                ))));
            }
            *count += targets.len();
            None
        }
        Action::Aws { call: Call::DeregisterTargets { targets, .. }, .. } => {
            *count.borrow_mut() -= targets.len();
            None
        }
        _ => None,
    }));
    for index in 0..4 {
        stage.add_pod(&format!("new-{index}"), &format!("10.0.1.{index}"));
    }
    stage.run(seconds(30));
    assert_eq!(stage.registered().len(), 5);
    assert_eq!(stage.condition("web", "Registered").1, "TargetQuotaReached");
    stage.terminate("old-0");
    stage.terminate("old-1");
    stage.run(seconds(70));
    assert_eq!(stage.registered().len(), 5);
    assert!(!stage.registered().contains(&"10.0.0.0".to_owned()));
}

#[test]
fn a_gate_whose_patch_fails_delays_no_other() {
    let denials = [
        (Denial::Conflict, true),
        (Denial::Unknown("timeout".to_owned()), true),
        (Denial::Forbidden("policy".to_owned()), true),
        (Denial::Replaced, false),
        (Denial::NotFound, false),
    ];
    for (denial, again) in denials {
        let mut stage = Stage::ready(&Settings::default());
        let mut times = 0;
        let said = denial.clone();
        stage.meddle = Some(Box::new(move |effect| match &effect.action {
            Action::Kubernetes(Request::PatchGate { pod, .. }) if &*pod.name == "a" => {
                times += 1;
                (times <= 2).then(|| Outcome::Kubernetes(Err(said.clone())))
            }
            _ => None,
        }));
        stage.health_delay = seconds(0);
        stage.add_pod("a", "10.0.0.1");
        stage.add_pod("b", "10.0.0.2");
        stage.run(seconds(1));
        assert!(stage.is_open("b"), "{denial}");
        stage.run(seconds(10));
        assert_eq!(stage.is_open("a"), again, "{denial}");
    }
}

#[test]
fn a_gate_whose_patch_is_refused_is_tried_less_and_less_often() {
    let mut stage = Stage::ready(&Settings::default());
    let times = Rc::new(RefCell::new(0));
    let count = Rc::clone(&times);
    stage.meddle = Some(Box::new(move |effect| match &effect.action {
        Action::Kubernetes(Request::PatchGate { .. }) => {
            *count.borrow_mut() += 1;
            Some(Outcome::Kubernetes(Err(Denial::Forbidden("policy".to_owned()))))
        }
        _ => None,
    }));
    stage.health_delay = seconds(0);
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(120));
    // After 1, 2, 4 and so on to 60 seconds.
    assert!((5..=9).contains(&*times.borrow()), "{}", times.borrow());
}

#[test]
fn a_group_that_is_gone_lets_its_binding_go_after_two_answers_and_no_sooner() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(20));
    stage.groups.remove(GROUP);
    stage.delete_binding("web");
    stage.run(seconds(4));
    assert!(stage.bindings.contains_key(&Key::new(NAMESPACE, "web")));
    stage.run(seconds(30));
    assert!(stage.bindings.is_empty());
}

#[test]
fn a_validation_error_is_no_proof_that_a_group_is_gone() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(20));
    stage.meddle = Some(Box::new(|effect| match &effect.action {
        Action::Aws { .. } => Some(Outcome::Aws(Err(refused("ValidationError", "is not a valid target group ARN")))),
        Action::Kubernetes(_) => None,
    }));
    stage.delete_binding("web");
    stage.run(seconds(20 * 60));
    assert!(stage.bindings.contains_key(&Key::new(NAMESPACE, "web")));
    assert_eq!(stage.events("CleanupBlocked").len(), 1);
}

#[test]
fn what_somebody_else_changes_is_repaired_within_five_minutes() {
    let mut stage = Stage::ready(&Settings::default());
    for index in 0..3 {
        stage.add_pod(&format!("pod-{index}"), &format!("10.0.0.{index}"));
    }
    stage.run(seconds(30));
    let now = stage.now;
    let foreign = super::stage::Place { since: now, draining: false, zone: None };
    stage.group().targets.insert(("10.9.9.9".to_owned(), 8080), foreign);
    stage.group().targets.remove(&("10.0.0.1".to_owned(), 8080));
    stage.run(seconds(310));
    assert_eq!(stage.registered(), ["10.0.0.0", "10.0.0.1", "10.0.0.2"]);
    assert_eq!(stage.events("DriftRepaired").len(), 1);
}

#[test]
fn a_target_that_aws_does_not_show_yet_is_not_registered_again() {
    let mut stage = Stage::ready(&Settings::default());
    stage.run(seconds(5));
    let hidden = Rc::new(RefCell::new(true));
    let hide = Rc::clone(&hidden);
    stage.meddle = Some(Box::new(move |effect| match &effect.action {
        Action::Aws { call: Call::DescribeTargetHealth { .. }, .. } if *hide.borrow() => {
            Some(Outcome::Aws(Ok(registrar_core::aws::Reply::TargetHealth(Vec::new()))))
        }
        _ => None,
    }));
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(30));
    assert_eq!(stage.calls("RegisterTargets").len(), 1);
    *hidden.borrow_mut() = false;
    stage.run(seconds(10));
    assert!(stage.is_open("a"));
    assert_eq!(stage.calls("RegisterTargets").len(), 1);
}

#[test]
fn no_write_is_begun_without_a_lease_that_lasts() {
    let mut stage = Stage::new(&Settings::default());
    stage.furnish();
    stage.list_all();
    let until = stage.now + Duration::from_millis(500);
    stage.step(Event::Leading { fence: 7, until });
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(5));
    assert!(stage.writes().is_empty());
    let until = stage.now + seconds(8);
    stage.step(Event::Leading { fence: 7, until });
    stage.run(seconds(1));
    assert!(!stage.writes().is_empty());
    for (at, effect) in stage.sent.iter().filter(|(_, effect)| !effect.action.is_read()) {
        assert_eq!(effect.fence, Some(7));
        assert!(effect.deadline <= until && effect.deadline > *at);
    }
    stage.step(Event::Following);
    let sent = stage.sent.len();
    stage.add_pod("b", "10.0.0.2");
    stage.run(seconds(60));
    assert_eq!(stage.sent.len(), sent);
}

#[test]
fn a_stale_relist_removes_no_target() {
    let mut stage = Stage::ready(&Settings::default());
    for index in 0..8 {
        stage.add_pod(&format!("pod-{index}"), &format!("10.0.0.{index}"));
    }
    stage.run(seconds(30));
    // A list from before the pods: it has neither them nor their slice.
    for kind in [Kind::Slice, Kind::Pod] {
        stage.tell(Watched::Restarted(kind));
        stage.tell(Watched::Listed(kind));
    }
    stage.run(seconds(120));
    assert!(stage.deregistered().is_empty());
}

#[test]
fn an_earlier_life_of_a_pod_is_not_registered_again() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.add_pod("b", "10.0.0.2");
    stage.run(seconds(20));
    let old = stage.pod("a").clone();
    let slice = stage.slice();
    stage.terminate("a");
    stage.run(seconds(1));
    stage.remove_pod("a");
    stage.run(seconds(5));
    stage.tell(Watched::Applied(Record::Pod(old)));
    stage.tell(Watched::Applied(Record::Slice(slice)));
    stage.run(seconds(60));
    assert_eq!(stage.calls("RegisterTargets").len(), 1, "both pods, once");
    assert_eq!(stage.registered(), ["10.0.0.2"]);
}

#[test]
fn ten_quiet_minutes_bring_no_write() {
    let mut stage = Stage::ready(&Settings::default());
    for index in 0..5 {
        stage.add_pod(&format!("pod-{index}"), &format!("10.0.0.{index}"));
    }
    stage.run(seconds(120));
    let before = stage.writes().len();
    stage.run(seconds(600));
    assert_eq!(stage.writes().len(), before);
}
