//! Which target a connection goes to.

use aws_model::{Event, settings::Profile};

use crate::{
    lab::Lab,
    peers::{Client, Pod, assert_spread_evenly, tally},
};

#[tokio::test]
async fn connections_spread_over_the_targets_as_chance_allows() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pods: Vec<_> = (0..4).map(|n| Pod::start(lab.pod_address('a', n))).collect();
    let targets: Vec<_> = pods.iter().map(|pod| pod.at).collect();
    let (balancer, _) = lab.serving(&['a'], &targets, &[], &[]).await;
    assert_spread_evenly(balancer.at('a'), &targets).await;
    lab.end().await;
}

#[tokio::test]
async fn zone_sends_only_to_its_own_targets_unless_cross_zone_is_on_and_the_groups_setting_wins() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pods: Vec<_> = [('a', 0), ('a', 1), ('b', 0), ('c', 0), ('c', 1)]
        .map(|(zone, n)| Pod::start(lab.pod_address(zone, n)))
        .into_iter()
        .collect();
    let targets: Vec<_> = pods.iter().map(|pod| pod.at).collect();
    let (balancer, group) = lab.serving(&['a', 'b', 'c'], &targets, &[], &[]).await;
    assert_spread_evenly(balancer.at('a'), &targets[..2]).await;
    assert_eq!(tally(balancer.at('b'), 50).await.into_keys().collect::<Vec<_>>(), targets[2..3]);
    assert_spread_evenly(balancer.at('c'), &targets[3..]).await;

    balancer.attributes(&[("load_balancing.cross_zone.enabled", "true")]);
    for zone in ['a', 'b', 'c'] {
        assert_spread_evenly(balancer.at(zone), &targets).await;
    }
    group.attributes(&[("load_balancing.cross_zone.enabled", "false")]);
    assert_eq!(tally(balancer.at('b'), 50).await.into_keys().collect::<Vec<_>>(), targets[2..3]);
    lab.end().await;
}

#[tokio::test]
async fn with_no_healthy_target_connections_go_to_all_of_them() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pods: Vec<_> = (0..3).map(|n| Pod::start(lab.pod_address('a', n))).collect();
    let targets: Vec<_> = pods.iter().map(|pod| pod.at).collect();
    let (balancer, group) =
        lab.serving(&['a'], &targets, &[("HealthCheckProtocol", "HTTP"), ("HealthCheckPort", "8081")], &[]).await;
    for pod in &pods[..2] {
        pod.set_healthy(false);
    }
    group.until(&targets[..2], "unhealthy").await;
    let last = tally(balancer.at('a'), 50).await;
    assert_eq!(last.into_keys().collect::<Vec<_>>(), targets[2..], "one is healthy and takes everything");
    pods[2].set_healthy(false);
    group.until(&targets, "unhealthy").await;
    let logged = lab.log().len();
    assert_spread_evenly(balancer.at('a'), &targets).await;
    let opened_otherwise = |event: &Event| matches!(event, Event::FlowOpened { fail_open: false, .. });
    assert!(
        !lab.log()[logged..].iter().any(|entry| opened_otherwise(&entry.event)),
        "each flow says why it went there"
    );
    lab.end().await;
}

#[tokio::test]
async fn group_without_targets_resets_its_clients() {
    let lab = Lab::start(Profile::Instant, &[]);
    let (balancer, group) = (lab.balancer(&['a'], &[]).await, lab.group(&[], &[]));
    balancer.listen(&group).await;
    let end = Client::connect(balancer.at('a')).await.err().expect("nobody answers");
    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
    lab.end().await;
}
