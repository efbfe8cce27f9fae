use std::sync::Arc;

use registrar_core::{
    aws::HealthState::{Draining, Healthy},
    cluster::{Record, Uid},
    effect::{Action, Request},
};

use super::{
    ADDRESS, GROUP, History,
    history::{pod, slice},
};
use crate::{
    cluster::key,
    fact::{Allowed, Fact},
};

#[track_caller]
fn breaks(history: &History, rules: &[&str]) {
    assert_eq!(history.broken().into_iter().collect::<Vec<_>>(), rules);
}

fn allow(history: &mut History, namespace: &str) {
    let allowed = Allowed::Namespaces(vec![namespace.to_owned()]);
    history.tell(&Fact::Tagged { group: GROUP, allowed: &allowed });
}

/// Four pods, of which the first is changed, all registered and healthy.
fn four(change: impl Fn(&mut registrar_core::cluster::PodRecord)) -> History {
    let mut history = History::new();
    let addresses = ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"];
    for (n, address) in addresses.iter().enumerate() {
        let (name, uid) = (format!("web-{n}"), format!("u{n}"));
        history.pod(&name, &uid, address, |pod| {
            if n == 0 {
                change(pod);
            }
        });
    }
    history.register(&addresses);
    history.look(&addresses.map(|address| (address, Healthy)));
    history
}

#[test]
fn only_proven_endpoints_are_registered() {
    let mut history = History::new();
    history.pod("web-1", "u1", ADDRESS, |_| {});
    history.register(&[ADDRESS]);
    breaks(&history, &[]);
    history.register(&["10.9.9.9"]);
    breaks(&history, &["S3 proven endpoint"]);
}

#[test]
fn an_address_that_the_pod_does_not_have_is_no_proof() {
    let mut history = History::new();
    history.pod("web-1", "u1", ADDRESS, |pod| pod.addresses.clear());
    history.register(&[ADDRESS]);
    breaks(&history, &["S3 proven endpoint"]);
}

#[test]
fn a_proof_is_good_for_half_a_minute() {
    for (waits, expected) in [(20, &[][..]), (40, &["S3 proven endpoint"])] {
        let mut history = History::new();
        history.pod("web-1", "u1", ADDRESS, |_| {});
        history.remove_pod("web-1", "u1");
        history.wait(waits);
        history.register(&[ADDRESS]);
        breaks(&history, expected);
    }
}

#[test]
fn a_withdrawn_tag_counts_for_a_minute() {
    for (waits, expected) in [(50, &[][..]), (70, &["S4 authorised"])] {
        let mut history = History::enforced();
        allow(&mut history, "shop");
        history.tell(&Fact::Tagged { group: GROUP, allowed: &Allowed::Untagged });
        history.wait(waits);
        history.pod("web-1", "u1", ADDRESS, |_| {});
        history.register(&[ADDRESS]);
        breaks(&history, expected);
    }
    let mut history = History::enforced();
    allow(&mut history, "rival");
    history.pod("web-1", "u1", ADDRESS, |_| {});
    history.register(&[ADDRESS]);
    breaks(&history, &["S4 authorised"]);
}

#[test]
fn foreign_targets_of_a_shared_group_stay() {
    for (shared, expected) in [(false, &[][..]), (true, &["S5 own removals only"])] {
        let mut history = four(|_| {});
        history.binding(|binding| {
            let mut spec = (*binding.spec).clone();
            spec.multi_cluster_target_group = Some(shared);
            binding.spec = Arc::new(spec);
        });
        history.deregister(&["10.9.9.9"]);
        breaks(&history, expected);
    }
}

#[test]
fn a_ready_pod_keeps_its_target() {
    let mut history = four(|_| {});
    history.deregister(&["10.0.0.1"]);
    breaks(&history, &["S6 no premature removal"]);

    let mut history = four(|pod| pod.meta.deleting = true);
    history.deregister(&["10.0.0.1"]);
    breaks(&history, &[]);

    let mut history = four(|_| {});
    history.binding(|binding| binding.meta.deleting = true);
    history.deregister(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
    breaks(&history, &[]);
}

#[test]
fn more_than_a_quarter_leaves_only_after_a_second_look() {
    let unready = |history: &mut History, n: usize| {
        for n in 0..n {
            let mut gone = pod(&format!("web-{n}"), &format!("u{n}"), &format!("10.0.0.{}", n + 1));
            (gone.containers_ready, gone.ready) = (false, false);
            history.store(Record::Pod(gone));
        }
    };
    let mut history = four(|_| {});
    unready(&mut history, 2);
    history.deregister(&["10.0.0.1"]);
    breaks(&history, &[]);

    let mut history = four(|_| {});
    unready(&mut history, 2);
    history.deregister(&["10.0.0.1", "10.0.0.2"]);
    breaks(&history, &["S7 brake"]);

    let mut history = four(|_| {});
    unready(&mut history, 2);
    history.read_endpoints(vec![slice("web", Vec::new())], Vec::new());
    history.deregister(&["10.0.0.1", "10.0.0.2"]);
    breaks(&history, &[]);
}

#[test]
fn the_last_target_leaves_only_after_a_second_look_or_with_its_pod() {
    let one = |gone: bool| {
        let mut history = History::new();
        history.pod("web-1", "u1", ADDRESS, |_| {});
        history.register(&[ADDRESS]);
        history.look(&[(ADDRESS, Healthy)]);
        history.store(Record::Slice(slice("web-1", Vec::new())));
        if gone {
            history.remove_pod("web-1", "u1");
        }
        history.deregister(&[ADDRESS]);
        history
    };
    breaks(&one(false), &["S7 brake"]);
    breaks(&one(true), &[]);
}

#[test]
fn the_finalizer_leaves_after_a_look_that_shows_nothing_but_draining_targets() {
    let off = |looks: &dyn Fn(&mut History)| {
        let mut history = four(|_| {});
        history.binding(|binding| binding.meta.deleting = true);
        history.deregister(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"]);
        looks(&mut history);
        history.wants(Action::Kubernetes(Request::SetBindingFinalizer {
            binding: key("shop", "web-80"),
            uid: Uid(Arc::from("binding")),
            present: false,
        }));
        history
    };
    breaks(&off(&|_| {}), &["S11 finalizer"]);
    breaks(&off(&|history| history.look(&[("10.0.0.1", Draining), ("10.0.0.2", Healthy)])), &["S11 finalizer"]);
    breaks(&off(&|history| history.look_fails("ValidationError")), &["S11 finalizer"]);
    breaks(&off(&|history| history.look_fails("TargetGroupNotFound")), &["S11 finalizer"]);
    breaks(&off(&|history| history.look(&[("10.0.0.1", Draining)])), &[]);
    let twice = |history: &mut History| {
        history.look_fails("TargetGroupNotFound");
        history.wait(5);
        history.look_fails("TargetGroupNotFound");
    };
    breaks(&off(&twice), &[]);
}
