//! What makes a target leave.

use registrar_core::{
    Event, Settings,
    aws::{Call, HealthState},
    cluster::{Key, Kind},
    effect::{Action, Request},
    event::Watched,
};

use super::stage::{GROUP, NAMESPACE, Place, Stage, seconds};

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

#[test]
fn pods_that_serve_stay_until_those_that_are_selected_instead_are_healthy() {
    let mut stage = with_pods(2);
    for address in ["10.0.1.0", "10.0.1.1"] {
        let checking = (HealthState::Initial, Some("Elb.InitialHealthChecking"));
        stage.group().state.insert(address.to_owned(), checking);
    }
    // The Service selects other pods now: the old ones live on and are no endpoints any more.
    stage.slices_follow = false;
    stage.add_pod("new-0", "10.0.1.0");
    stage.add_pod("new-1", "10.0.1.1");
    let mut slice = stage.slice();
    slice.endpoints.retain(|endpoint| endpoint.pod.as_ref().is_some_and(|(name, _)| name.starts_with("new")));
    stage.endpoints_shown = Some(slice.endpoints.clone());
    stage.put_slice(slice);
    stage.run(seconds(90));
    assert_eq!(stage.registered().len(), 4, "the new ones are not healthy yet");
    stage.group().state.clear();
    stage.run(seconds(30));
    assert_eq!(stage.registered(), ["10.0.1.0", "10.0.1.1"]);
    assert!(stage.is_open("new-0"));
}

#[test]
fn pods_on_their_nodes_network_are_refused_and_it_is_said() {
    let mut stage = with_pods(1);
    stage.add_pod_with("host", "192.168.0.1", |pod| pod.host_network = true);
    stage.run(seconds(30));
    assert_eq!(stage.registered(), ["10.0.0.0"]);
    assert_eq!(stage.events("HostNetworkRefused").len(), 1);
    assert_eq!(stage.gate("host").1, "HostNetwork");
}

#[test]
fn every_proof_of_an_endpoint_is_asked_for() {
    type Forge = fn(&mut registrar_core::cluster::SliceRecord);
    type Change = fn(&mut registrar_core::cluster::PodRecord);
    let forgeries: [(&str, Forge); 5] = [
        ("by somebody else", |slice| slice.by_controller = false),
        ("of no pod", |slice| slice.endpoints[0].pod = None),
        ("of another life", |slice| {
            slice.endpoints[0].pod = Some(("pod".into(), registrar_core::cluster::Uid("other".into())));
        }),
        ("of a pod that is not there", |slice| {
            slice.endpoints[0].pod = Some(("ghost".into(), registrar_core::cluster::Uid("ghost".into())));
        }),
        ("of an address that is not the pod's", |slice| {
            slice.endpoints[0].address = "169.254.169.254".parse().unwrap();
        }),
    ];
    for (name, forge) in forgeries {
        let mut stage = Stage::ready(&Settings::default());
        stage.slices_follow = false;
        stage.add_pod("pod", "10.0.0.1");
        let mut slice = stage.slice();
        slice.endpoints[0].ready = true;
        forge(&mut slice);
        stage.put_slice(slice);
        stage.run(seconds(30));
        assert!(stage.calls("RegisterTargets").is_empty(), "{name}");
    }
    let pods: [(&str, Change); 3] = [
        ("finished", |pod| pod.finished = true),
        ("on its node's network", |pod| pod.host_network = true),
        ("held by a foreign gate", |pod| pod.held_by_foreign_gate = true),
    ];
    for (name, change) in pods {
        let mut stage = Stage::ready(&Settings::default());
        stage.add_pod_with("pod", "10.0.0.1", change);
        stage.run(seconds(30));
        assert!(stage.calls("RegisterTargets").is_empty(), "{name}");
    }
}

#[test]
fn a_slice_that_calls_every_endpoint_terminating_removes_none_whose_pod_is_not() {
    let mut stage = with_pods(4);
    stage.slices_follow = false;
    let mut slice = stage.slice();
    for endpoint in &mut slice.endpoints {
        (endpoint.ready, endpoint.terminating) = (false, true);
    }
    stage.put_slice(slice);
    stage.run(seconds(60));
    assert!(stage.deregistered().is_empty());
}

#[test]
fn who_comes_to_lead_takes_no_target_out_on_the_word_of_what_was_listed_before() {
    let mut stage = with_pods(4);
    stage.step(Event::Following);
    stage.slices_follow = false;
    stage.tell(Watched::Restarted(Kind::Slice));
    let mut slice = stage.slice();
    slice.endpoints.remove(0);
    stage.put_slice(slice);
    stage.tell(Watched::Listed(Kind::Slice));
    stage.run(seconds(5));
    stage.lead();
    stage.run(seconds(50));
    assert!(stage.deregistered().is_empty(), "the cluster still has it");
    assert_eq!(stage.condition("web", "Registered").1, "RemovalHeld");
}

#[test]
fn a_target_that_is_registered_and_not_to_be_seen_makes_up_for_none_that_leaves() {
    let mut stage = Stage::ready(&Settings::default());
    let stray = ("10.0.0.9".to_owned(), 8080);
    let place = Place { since: stage.now, draining: false, zone: None };
    stage.run(seconds(90));
    let group = stage.groups.get_mut(GROUP).unwrap();
    group.targets.insert(stray, place);
    group.state.insert("10.0.0.1".to_owned(), (HealthState::Draining, None));
    group.state.insert("10.0.0.9".to_owned(), (HealthState::Unhealthy, None));
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(50));
    assert_eq!(stage.deregistered(), ["10.0.0.9"]);
    let position = |is: &dyn Fn(&Action) -> bool| stage.sent.iter().position(|(_, effect)| is(&effect.action));
    let looked = position(&|action| matches!(action, Action::Kubernetes(Request::ListEndpoints { .. })));
    let removed = position(&|action| matches!(action, Action::Aws { call: Call::DeregisterTargets { .. }, .. }));
    assert!(looked.is_some() && looked < removed, "{looked:?}, {removed:?}: nothing would have been left");
}
