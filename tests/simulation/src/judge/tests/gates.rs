use registrar_core::{
    aws::HealthState::{self, Healthy, Unhealthy},
    cluster::{
        GateStatus::{False, True},
        Record,
    },
};

use super::{
    ADDRESS, History,
    history::{open, pod},
};

/// A pod whose target was registered and turned healthy.
fn registered() -> History {
    let mut history = History::new();
    history.pod("web-1", "u1", ADDRESS, |_| {});
    history.register(&[ADDRESS]);
    history.turns_healthy(ADDRESS, "u1");
    history
}

/// Three pods with open gates.
fn three() -> History {
    let mut history = History::new();
    for (name, uid, address) in [("web-1", "u1", "10.0.0.1"), ("web-2", "u2", "10.0.0.2"), ("web-3", "u3", "10.0.0.3")]
    {
        history.pod(name, uid, address, open);
    }
    history
}

#[track_caller]
fn breaks(history: &History, rules: &[&str]) {
    assert_eq!(history.broken().into_iter().collect::<Vec<_>>(), rules);
}

#[test]
fn a_gate_opens_on_a_look_after_its_own_registration() {
    let mut history = registered();
    history.look(&[(ADDRESS, Healthy)]);
    history.gate("web-1", "u1", True, "Healthy");
    breaks(&history, &[]);
}

#[test]
fn a_look_before_the_registration_opens_nothing() {
    let mut history = History::new();
    history.pod("web-1", "u1", ADDRESS, |_| {});
    history.turns_healthy(ADDRESS, "u1");
    history.look(&[(ADDRESS, Healthy)]);
    history.register(&[ADDRESS]);
    history.gate("web-1", "u1", True, "Healthy");
    breaks(&history, &["S1 fresh verdict"]);
}

#[test]
fn no_look_or_one_that_says_otherwise_opens_nothing() {
    for state in [None, Some(Unhealthy), Some(HealthState::Unavailable), Some(HealthState::Other("new".to_owned()))] {
        let mut history = registered();
        history.look(&state.map(|state| (ADDRESS, state)).into_iter().collect::<Vec<_>>());
        history.gate("web-1", "u1", True, "Healthy");
        breaks(&history, &["S1 fresh verdict"]);
    }
}

#[test]
fn the_health_of_another_pod_at_the_address_opens_nothing() {
    let mut history = registered();
    history.remove_pod("web-1", "u1");
    history.pod("web-2", "u2", ADDRESS, |_| {});
    history.register(&[ADDRESS]);
    history.look(&[(ADDRESS, Healthy)]);
    history.gate("web-2", "u2", True, "Healthy");
    breaks(&history, &["S1 fresh verdict"]);
}

#[test]
fn a_target_that_was_taken_over_opens_the_gate_after_the_wait() {
    let mut history = registered();
    history.remove_pod("web-1", "u1");
    history.pod("web-2", "u2", ADDRESS, |_| {});
    history.register(&[ADDRESS]);
    history.wait(10);
    history.look(&[(ADDRESS, Healthy)]);
    history.gate("web-2", "u2", True, "Healthy");
    breaks(&history, &[]);
}

#[test]
fn two_owners_of_an_address_open_nothing() {
    let mut history = registered();
    history.store(Record::Pod(pod("web-2", "u2", ADDRESS)));
    history.wait(60);
    history.look(&[(ADDRESS, Healthy)]);
    history.gate("web-1", "u1", True, "Healthy");
    breaks(&history, &["S1 fresh verdict"]);
}

#[test]
fn a_uid_that_the_pod_of_this_name_never_had_is_no_pod_of_ours() {
    let mut history = registered();
    history.look(&[(ADDRESS, Healthy)]);
    history.gate("web-1", "u9", False, "Unhealthy");
    breaks(&history, &["S2 right pod"]);
}

#[test]
fn reasons_without_health_hold_only_where_they_hold() {
    let mut history = registered();
    history.gate("web-1", "u1", True, "BindingGone");
    breaks(&history, &["closed list of reasons"]);

    let mut history = registered();
    history.binding(|binding| binding.meta.deleting = true);
    history.gate("web-1", "u1", True, "BindingGone");
    breaks(&history, &[]);

    for (allowed, expected) in [(true, &[][..]), (false, &["closed list of reasons"])] {
        let mut history = registered();
        history.binding(|binding| binding.open_when_not_in_use = allowed);
        history.look(&[(ADDRESS, HealthState::Unused)]);
        history.gate("web-1", "u1", True, "NotInUseAllowed");
        breaks(&history, expected);
    }
}

#[test]
fn what_says_nothing_of_the_target_closes_no_gate() {
    let says_nothing = [HealthState::Unavailable, HealthState::Unused, HealthState::Other("new".to_owned()), Healthy];
    for state in says_nothing {
        let mut history = three();
        history.look(&[("10.0.0.1", state), ("10.0.0.2", Healthy), ("10.0.0.3", Healthy)]);
        history.gate("web-1", "u1", False, "Whatever");
        breaks(&history, &["S12 error is not health"]);
    }
    let mut history = three();
    history.look_fails("AccessDenied");
    history.gate("web-1", "u1", False, "Whatever");
    breaks(&history, &["S12 error is not health"]);

    let mut history = three();
    history.look(&[("10.0.0.1", Unhealthy), ("10.0.0.2", Healthy), ("10.0.0.3", Healthy)]);
    history.gate("web-1", "u1", False, "Unhealthy");
    breaks(&history, &[]);
}

#[test]
fn a_gate_does_not_change_twice_on_one_look() {
    let mut history = registered();
    history.look(&[(ADDRESS, Healthy)]);
    history.gate("web-1", "u1", True, "Healthy");
    history.gate("web-1", "u1", False, "Whatever");
    breaks(&history, &["S13 no flap"]);
}

#[test]
fn most_gates_close_only_on_a_second_look() {
    let bad = [("10.0.0.1", Unhealthy), ("10.0.0.2", Unhealthy), ("10.0.0.3", Healthy)];
    for (looks, expected) in [(1, &["fail open"][..]), (2, &[])] {
        let mut history = three();
        for _ in 0..looks {
            history.look(&bad);
        }
        history.gate("web-1", "u1", False, "Unhealthy");
        breaks(&history, expected);
    }
}
