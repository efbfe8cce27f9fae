//! What health checks make of targets, and what that does to flows.

use std::{net::SocketAddr, time::Duration};

use aws_model::{Entry, Event, How, settings::Profile};
use ppp::v2;
use tokio::io::AsyncReadExt;

use crate::{
    lab::{Lab, within},
    peers::{Client, Pod, listen, tally},
};

/// In the order of the log: for each health check of the one target whether it passed, and its changes of state.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Check(bool),
    State(String),
}

fn steps(lab: &Lab) -> Vec<Step> {
    lab.log()
        .into_iter()
        .filter_map(|entry| match entry.event {
            Event::Probe { passed, .. } => Some(Step::Check(passed)),
            Event::Target { to, .. } => Some(Step::State(to)),
            _ => None,
        })
        .collect()
}

/// How many checks that ended with `passed` came in a row just before the last change to `state`.
fn checks_before(steps: &[Step], state: &str, passed: bool) -> usize {
    let change = steps.iter().rposition(|s| *s == Step::State(state.to_owned())).expect("the change");
    steps[..change].iter().rev().take_while(|s| **s == Step::Check(passed)).count()
}

#[tokio::test]
async fn target_changes_its_state_after_exactly_the_configured_number_of_checks() {
    for (unhealthy, healthy) in [("2", "3"), ("4", "2")] {
        let lab = Lab::start(Profile::Instant, &[]);
        let pod = Pod::start(lab.pod_address('a', 0));
        let (_, group) = lab
            .serving(
                &['a'],
                &[pod.at],
                &[
                    ("HealthCheckProtocol", "HTTP"),
                    ("HealthCheckPort", "8081"),
                    ("UnhealthyThresholdCount", unhealthy),
                    ("HealthyThresholdCount", healthy),
                ],
                &[],
            )
            .await;
        assert_eq!(checks_before(&steps(&lab), "healthy", true), 1, "a new target needs one passed check");
        pod.set_healthy(false);
        group.until(&[pod.at], "unhealthy").await;
        assert_eq!(checks_before(&steps(&lab), "unhealthy", false).to_string(), unhealthy);
        pod.set_healthy(true);
        group.until(&[pod.at], "healthy").await;
        assert_eq!(checks_before(&steps(&lab), "healthy", true).to_string(), healthy);
        lab.end().await;
    }
}

#[tokio::test]
async fn target_whose_port_is_closed_becomes_unhealthy_and_recovers_when_it_opens() {
    let lab = Lab::start(Profile::Instant, &[]);
    let address = lab.pod_address('a', 0);
    let pods = [Pod::start(address), Pod::start(lab.pod_address('a', 1))];
    let targets = [pods[0].at, pods[1].at];
    let (balancer, group) = lab.serving(&['a', 'b', 'c'], &targets, &[], &[]).await;
    let [first, _second] = pods;
    first.end().await;
    group.until(&targets[..1], "unhealthy").await;
    let without = tally(balancer.at('a'), 50).await;
    assert_eq!(without.into_keys().collect::<Vec<_>>(), targets[1..]);
    let _again = Pod::start(address);
    group.until(&targets, "healthy").await;
    assert_eq!(tally(balancer.at('a'), 100).await.into_keys().collect::<Vec<_>>(), targets);
    lab.end().await;
}

#[tokio::test]
async fn connections_of_a_target_that_turns_unhealthy_are_reset_unless_the_group_keeps_them() {
    for keeps in [false, true] {
        let lab = Lab::start(Profile::Instant, &[]);
        let pods: Vec<_> = (0..2).map(|n| Pod::start(lab.pod_address('a', n))).collect();
        let targets: Vec<_> = pods.iter().map(|pod| pod.at).collect();
        let termination = if keeps { "false" } else { "true" };
        let (balancer, group) = lab
            .serving(
                &['a'],
                &targets[..1],
                &[("HealthCheckProtocol", "HTTP"), ("HealthCheckPort", "8081")],
                &[("target_health_state.unhealthy.connection_termination.enabled", termination)],
            )
            .await;
        let mut client = Client::connect(balancer.at('a')).await.expect("the one target");
        group.register(&targets[1..]);
        group.until(&targets, "healthy").await;
        pods[0].set_healthy(false);
        group.until(&targets[..1], "unhealthy").await;
        if keeps {
            assert!(client.is_alive().await);
            client.close().await;
        } else {
            assert!(client.until_reset().await);
            assert!(lab.ends().iter().any(|(how, ..)| *how == How::Commanded), "{:?}", lab.ends());
        }
        lab.end().await;
    }
}

#[tokio::test]
async fn health_check_of_a_group_with_proxy_protocol_begins_with_a_header_that_names_no_client() {
    let lab = Lab::start(Profile::Instant, &[]);
    let target = SocketAddr::from((lab.pod_address('a', 0), 9000));
    let listener = listen(target);
    let balancer = lab.balancer(&['a'], &[]).await;
    let settings = [("HealthCheckProtocol", "HTTP"), ("HealthCheckPath", "/healthz")];
    let group = lab.group(&settings, &[("proxy_protocol_v2.enabled", "true")]);
    balancer.listen(&group).await;
    group.register(&[target]);
    let (mut stream, from) = within("a health check", listener.accept()).await.expect("a listener");
    assert_eq!(from.ip(), balancer.at('a').ip());
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") || bytes.len() < 17 {
        let n = within("the request", stream.read_buf(&mut bytes)).await.expect("no reset");
        assert_ne!(n, 0, "closed in the middle of a request");
    }
    let header = v2::Header::try_from(bytes.as_slice()).expect("another implementation reads it");
    assert_eq!((header.command, &header.addresses), (v2::Command::Local, &v2::Addresses::Unspecified));
    let request = String::from_utf8_lossy(&bytes[header.len()..]);
    assert!(request.starts_with("GET /healthz HTTP/1.1\r\n"), "{request}");
    lab.end().await;
}

#[tokio::test]
async fn unhealthy_target_gets_new_connections_for_the_lag_and_then_none() {
    let lab = Lab::start(Profile::Instant, &[("lag.unhealthy", "40s")]);
    let pods: Vec<_> = (0..2).map(|n| Pod::start(lab.pod_address('a', n))).collect();
    let targets: Vec<_> = pods.iter().map(|pod| pod.at).collect();
    let (balancer, group) =
        lab.serving(&['a'], &targets, &[("HealthCheckProtocol", "HTTP"), ("HealthCheckPort", "8081")], &[]).await;
    pods[0].set_healthy(false);
    group.until(&targets[..1], "unhealthy").await;
    let noticed = lab.engine.now();
    while lab.engine.now() < noticed + Duration::from_secs(40) {
        // Those that are open when the lag ends are reset.
        let _reset = Client::connect(balancer.at('a')).await;
    }
    let log = lab.log();
    let turned =
        log.iter().rfind(|e| matches!(&e.event, Event::Target { to, .. } if to == "unhealthy")).expect("it did").at;
    let opened = |e: &&Entry| matches!(&e.event, Event::FlowOpened { target, .. } if *target == targets[0].to_string());
    let last = log.iter().filter(opened).map(|e| e.at).max().expect("connections");
    assert!(last > turned, "none went to the unhealthy target");
    assert!(last <= turned + Duration::from_secs(40), "one went to it {:?} after it turned", last.abs_diff(turned));
    assert_eq!(tally(balancer.at('a'), 50).await.into_keys().collect::<Vec<_>>(), targets[1..]);
    lab.end().await;
}
