//! What deregistration does to flows, old and new.

use std::{net::SocketAddr, time::Duration};

use aws_model::{Event, How, settings::Profile};

use crate::{
    lab::{Lab, eventually},
    peers::{Client, Pod, tally},
};

/// Model times at which connections were given to a target.
fn opened(lab: &Lab, to: SocketAddr) -> Vec<Duration> {
    lab.log()
        .into_iter()
        .filter(|entry| matches!(&entry.event, Event::FlowOpened { target, .. } if *target == to.to_string()))
        .map(|entry| entry.at)
        .collect()
}

#[tokio::test]
async fn deregistered_target_gets_new_connections_for_the_lag_and_then_none_while_old_ones_live_on() {
    let lag = Duration::from_mins(1);
    let lab = Lab::start(Profile::Instant, &[("lag.deregistration", "60s")]);
    let pods: Vec<_> = (0..2).map(|n| Pod::start(lab.pod_address('a', n))).collect();
    let (balancer, group) =
        lab.serving(&['a'], &[pods[0].at], &[], &[("deregistration_delay.timeout_seconds", "1")]).await;
    let mut old = Client::connect(balancer.at('a')).await.expect("the one target");
    group.register(&[pods[1].at]);
    group.until(&[pods[1].at], "healthy").await;

    let before = lab.engine.now();
    group.deregister(&[pods[0].at]);
    assert_eq!(group.state(pods[0].at), "draining");
    // The API forgets the target after the delay, long before connections stop to arrive.
    group.until(&[pods[0].at], "unused").await;
    let forgotten = lab.engine.now();
    while lab.engine.now() < forgotten + lag {
        tally(balancer.at('a'), 20).await;
    }
    let last = opened(&lab, pods[0].at).into_iter().max().expect("connections");
    assert!(last > before, "none went to the draining target");
    assert!(last <= forgotten + lag, "one went to the target {:?} after it was deregistered", last.abs_diff(before));
    assert_eq!(tally(balancer.at('a'), 50).await.into_keys().collect::<Vec<_>>(), [pods[1].at]);
    assert!(old.is_alive().await, "an open connection outlives the delay");
    old.close().await;
    lab.end().await;
}

#[tokio::test]
async fn connection_termination_resets_open_connections_when_the_delay_is_over() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pod = Pod::start(lab.pod_address('a', 0));
    let (balancer, group) = lab
        .serving(
            &['a'],
            &[pod.at],
            &[],
            &[
                ("deregistration_delay.timeout_seconds", "60"),
                ("deregistration_delay.connection_termination.enabled", "true"),
            ],
        )
        .await;
    let mut client = Client::connect(balancer.at('a')).await.expect("the target");
    let before = lab.engine.now();
    group.deregister(&[pod.at]);
    assert!(client.is_alive().await, "the delay has just begun");
    assert!(client.until_reset().await);
    let mut ends =
        lab.log().into_iter().filter(|entry| matches!(entry.event, Event::FlowClosed { how: How::Commanded, .. }));
    let end = ends.next().expect("logged before the client was told");
    assert!(end.at >= before + Duration::from_mins(1), "before the delay was over");
    lab.end().await;
}

#[tokio::test]
async fn target_that_is_registered_again_while_it_drains_serves_on() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pod = Pod::start(lab.pod_address('a', 0));
    let (balancer, group) = lab.serving(&['a'], &[pod.at], &[], &[]).await;
    let mut old = Client::connect(balancer.at('a')).await.expect("the target");
    group.deregister(&[pod.at]);
    assert_eq!(group.state(pod.at), "draining");
    group.register(&[pod.at]);
    group.until(&[pod.at], "healthy").await;
    assert!(old.is_alive().await);
    tally(balancer.at('a'), 10).await;
    eventually("all ends but one are logged", || lab.ends().len() >= 10).await;
    old.close().await;
    lab.end().await;
}
