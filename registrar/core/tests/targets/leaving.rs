//! What makes a target leave.

use registrar_core::{
    Settings,
    cluster::{Key, Kind},
    event::Watched,
};

use super::stage::{NAMESPACE, Stage, seconds};

fn with_pods(count: u32) -> Stage {
    let mut stage = Stage::ready(&Settings::default());
    for index in 0..count {
        stage.add_pod(&format!("pod-{index}"), &format!("10.0.0.{index}"));
    }
    stage.run(seconds(30));
    assert_eq!(stage.registered().len(), count as usize);
    stage
}

#[test]
fn a_terminating_pod_is_deregistered_within_200_milliseconds() {
    let mut stage = with_pods(2);
    let at = stage.now;
    stage.terminate("pod-0");
    stage.run(seconds(1));
    let (sent, _) = stage.calls("DeregisterTargets").remove(0);
    assert!(sent <= at + std::time::Duration::from_millis(200), "{sent:?} after {at:?}");
    assert_eq!(stage.deregistered(), ["10.0.0.0"]);
    assert!(stage.is_open("pod-1"));
}

#[test]
fn pods_that_terminate_leave_whatever_their_number() {
    let mut stage = with_pods(4);
    for index in 0..4 {
        stage.terminate(&format!("pod-{index}"));
    }
    stage.run(seconds(1));
    assert!(stage.registered().is_empty());
    assert!(stage.calls("DeregisterTargets").len() <= 2);
}

#[test]
fn endpoints_that_vanish_all_at_once_stay_until_a_second_look_agrees() {
    let mut stage = with_pods(4);
    stage.slices_follow = false;
    let mut slice = stage.slice();
    slice.endpoints.clear();
    stage.put_slice(slice);
    stage.run(seconds(60));
    assert_eq!(stage.registered().len(), 4, "the cluster still has them");
    assert_eq!(stage.condition("web", "Registered").1, "RemovalHeld");
}

#[test]
fn a_service_that_is_deleted_and_made_again_moves_no_target() {
    let mut stage = with_pods(3);
    stage.slices_follow = false;
    stage.remove_service("web");
    let slice = stage.slice();
    stage.tell(Watched::Deleted(Kind::Slice, slice.meta.key.clone(), slice.meta.uid.clone()));
    stage.run(seconds(5));
    stage.add_service("web");
    stage.run(seconds(2));
    let mut slice = stage.slice();
    slice.meta.uid = registrar_core::cluster::Uid("slice-2".into());
    stage.put_slice(slice);
    stage.run(seconds(60));
    assert!(stage.deregistered().is_empty());
    assert!((0..3).all(|index| stage.is_open(&format!("pod-{index}"))));
}

#[test]
fn a_relist_that_is_half_done_removes_nothing() {
    let mut stage = with_pods(3);
    for kind in [Kind::Pod, Kind::Slice, Kind::Service, Kind::Binding] {
        stage.tell(Watched::Restarted(kind));
    }
    stage.run(seconds(600));
    assert!(stage.deregistered().is_empty());
}

#[test]
fn a_deleted_binding_clears_its_group_opens_its_gates_and_goes() {
    let mut stage = with_pods(2);
    stage.add_pod("late", "10.0.0.9");
    stage.health_delay = seconds(1000);
    stage.run(seconds(1));
    stage.delete_binding("web");
    stage.run(seconds(10));
    assert!(stage.registered().is_empty());
    assert!(!stage.bindings.contains_key(&Key::new(NAMESPACE, "web")));
    assert_eq!(stage.gate("late").1, "BindingGone");
}

#[test]
fn nothing_is_sent_while_this_process_does_not_lead() {
    let mut stage = Stage::new(&Settings::default());
    stage.furnish();
    stage.list_all();
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(100));
    assert!(stage.sent.is_empty());
}

#[test]
fn nothing_is_sent_before_every_cache_is_complete() {
    for missing in [Kind::Service, Kind::Binding, Kind::Slice, Kind::Pod, Kind::Node, Kind::Namespace] {
        let mut stage = Stage::new(&Settings::default());
        stage.furnish();
        stage.lead();
        stage.add_pod("a", "10.0.0.1");
        for kind in [Kind::Service, Kind::Binding, Kind::Slice, Kind::Pod, Kind::Node, Kind::Namespace] {
            if kind != missing {
                stage.tell(Watched::Listed(kind));
            }
        }
        stage.run(seconds(100));
        assert!(stage.sent.is_empty(), "{missing:?}");
        stage.tell(Watched::Listed(missing));
        stage.run(seconds(10));
        assert!(stage.is_open("a"), "{missing:?}");
    }
}
