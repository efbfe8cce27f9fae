//! What happens to one connection, whatever its target group is like.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use aws_model::{Event, How, settings::Profile};
use ppp::v2;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::{
    lab::{Balancer, Group, Lab, eventually, eventually_async, until_accepting, within},
    peers::{Client, Pod, TRAFFIC, listen, tally},
};

/// A load balancer in zone a whose group has one target: a listener of the test's own. The target is registered and
/// healthy, and its health checks are out of the way.
async fn to_listener<'a>(lab: &'a Lab, attributes: &[(&str, &str)]) -> (Balancer<'a>, Group<'a>, TcpListener, Pod) {
    // The health checks go to another port of the address, where a pod answers them.
    let address = lab.pod_address('a', 0);
    let checked = Pod::start(address);
    let target = SocketAddr::from((address, 9000));
    let listener = listen(target);
    let (balancer, group) =
        lab.serving(&['a'], &[target], &[("HealthCheckPort", &TRAFFIC.to_string())], attributes).await;
    (balancer, group, listener, checked)
}

async fn accept(listener: &TcpListener) -> (TcpStream, std::net::SocketAddr) {
    within("the target is dialled", listener.accept()).await.expect("a listener")
}

async fn end_of(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    within("the connection ends", stream.read_to_end(&mut bytes)).await.map(|_| bytes)
}

fn is_reset<T>(end: &io::Result<T>) -> bool {
    end.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
}

async fn until_ended(lab: &Lab, how: How) -> (u64, u64) {
    eventually(&format!("a flow ended as {how:?}"), || lab.ends().iter().any(|end| end.0 == how)).await;
    lab.ends().into_iter().find(|end| end.0 == how).map(|end| (end.1, end.2)).expect("just seen")
}

#[tokio::test]
async fn bytes_and_half_closes_pass_both_ways_and_are_counted() {
    let lab = Lab::start(Profile::Instant, &[]);
    let (balancer, _group, listener, _checked) = to_listener(&lab, &[]).await;
    let question: Vec<u8> = (0..3_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut client = TcpStream::connect(balancer.at('a')).await.expect("listening");
    let (mut target, from) = accept(&listener).await;
    assert_eq!(from.ip(), balancer.at('a').ip(), "the load balancer's own address");
    let asking = async {
        client.write_all(&question).await.expect("open");
        client.shutdown().await.expect("open");
        end_of(&mut client).await.expect("no reset")
    };
    let answering = async {
        let bytes = end_of(&mut target).await.expect("no reset");
        target.write_all(b"got it").await.expect("this half is open");
        target.shutdown().await.expect("open");
        bytes
    };
    let (answer, got) = tokio::join!(asking, answering);
    assert!(got == question, "the question changed on the way");
    assert_eq!(answer, b"got it");
    assert_eq!(until_ended(&lab, How::Closed).await, (12_000_000, 6));
    lab.end().await;
}

#[tokio::test]
async fn reset_of_one_side_is_a_reset_for_the_other() {
    let lab = Lab::start(Profile::Instant, &[]);
    let (balancer, _group, listener, _checked) = to_listener(&lab, &[]).await;
    let client = TcpStream::connect(balancer.at('a')).await.expect("listening");
    let (mut target, _) = accept(&listener).await;
    client.set_zero_linger().expect("open");
    drop(client);
    assert!(is_reset(&end_of(&mut target).await));
    until_ended(&lab, How::ClientReset).await;

    let mut client = TcpStream::connect(balancer.at('a')).await.expect("listening");
    let (target, _) = accept(&listener).await;
    target.set_zero_linger().expect("open");
    drop(target);
    assert!(is_reset(&end_of(&mut client).await));
    until_ended(&lab, How::TargetReset).await;
    lab.end().await;
}

#[tokio::test]
async fn target_that_refuses_gives_the_client_a_reset_and_not_one_byte_was_read_before() {
    let lab = Lab::start(Profile::Instant, &[]);
    let (balancer, _group, listener, _checked) = to_listener(&lab, &[]).await;
    drop(listener);
    let mut silent = TcpStream::connect(balancer.at('a')).await.expect("the load balancer listens");
    assert!(is_reset(&end_of(&mut silent).await));
    let mut client = TcpStream::connect(balancer.at('a')).await.expect("the load balancer listens");
    // The reset may be faster than the write.
    let _refused = client.write_all(b"hello").await;
    assert!(end_of(&mut client).await.is_err());
    eventually("both are reported", || lab.ends() == [(How::TargetRefused, 0, 0); 2]).await;
    lab.end().await;
}

#[tokio::test]
async fn proxy_header_names_the_client_and_the_address_that_it_connected_to() {
    let lab = Lab::start(Profile::Instant, &[]);
    let (balancer, _group, listener, _checked) = to_listener(&lab, &[("proxy_protocol_v2.enabled", "true")]).await;
    let mut client = TcpStream::connect(balancer.at('a')).await.expect("listening");
    let client_at = client.local_addr().expect("connected");
    client.write_all(b"hello").await.expect("open");
    client.shutdown().await.expect("open");
    let (mut target, _) = accept(&listener).await;
    let bytes = end_of(&mut target).await.expect("no reset");
    let header = v2::Header::try_from(bytes.as_slice()).expect("another implementation reads it");
    assert_eq!((header.command, header.protocol), (v2::Command::Proxy, v2::Protocol::Stream));
    assert_eq!(header.addresses, (client_at, balancer.at('a')).into());
    assert_eq!(&bytes[header.len()..], b"hello");
    drop(target);
    assert_eq!(until_ended(&lab, How::Closed).await, (5, 0), "the header is not counted");
    lab.end().await;
}

#[tokio::test]
async fn target_sees_the_clients_address_where_it_is_preserved() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pod = Pod::start(lab.pod_address('a', 0));
    let (balancer, _) = lab.serving(&['a'], &[pod.at], &[], &[("preserve_client_ip.enabled", "true")]).await;
    let me = Ipv4Addr::new(127, 0, 0, 77);
    let client = Client::connect_from(me, balancer.at('a')).await.expect("the target");
    assert_eq!(client.seen_as.ip(), me);
    client.close().await;
    lab.end().await;
}

#[tokio::test]
async fn idle_connection_is_forgotten_and_the_next_bytes_are_answered_with_a_reset() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pod = Pod::start(lab.pod_address('a', 0));
    let (balancer, group) = (lab.balancer(&['a'], &[]).await, lab.group(&[], &[]));
    let listener = balancer.listen(&group).await;
    let fields = [
        ("ListenerArn", listener.as_str()),
        ("Attributes.member.1.Key", "tcp.idle_timeout.seconds"),
        ("Attributes.member.1.Value", "60"),
    ];
    lab.call("ModifyListenerAttributes", &fields);
    group.register(&[pod.at]);
    group.until(&[pod.at], "healthy").await;
    let mut client = Client::connect(balancer.at('a')).await.expect("the target");
    let since = lab.engine.now();
    assert!(client.is_alive().await);
    let (to_target, _) = until_ended(&lab, How::Idle).await;
    assert_eq!(to_target, 4);
    assert!(lab.engine.now() >= since + Duration::from_mins(1));
    let silent = timeout(Duration::from_millis(50), client.stream.read_u8()).await;
    assert!(silent.is_err(), "nobody told the client: {silent:?}");
    assert!(!client.is_alive().await);
    lab.end().await;
}

#[tokio::test]
async fn silent_stuck_and_dead_clients_keep_nobody_waiting() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pod = Pod::start(lab.pod_address('a', 0));
    let (balancer, _) = lab.serving(&['a'], &[pod.at], &[], &[]).await;
    let at = balancer.at('a');
    let mut burdens = Vec::new();
    for n in 0..200 {
        let mut client = TcpStream::connect(at).await.expect("listening");
        if n % 2 == 0 {
            // Sends more than fits anywhere and reads none of what comes back.
            let flood = vec![0; 1 << 20];
            let stuck = async { while client.write_all(&flood).await.is_ok() {} };
            let _full = timeout(Duration::from_millis(1), stuck).await;
        }
        burdens.push(client);
    }
    assert_eq!(tally(at, 200).await.into_values().sum::<usize>(), 200);
    drop(burdens);
    lab.end().await;
}

#[tokio::test]
async fn deleted_listener_accepts_no_more_and_its_connections_live_on() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pod = Pod::start(lab.pod_address('a', 0));
    let (balancer, group) = (lab.balancer(&['a'], &[]).await, lab.group(&[], &[]));
    let listener = balancer.listen(&group).await;
    group.register(&[pod.at]);
    group.until(&[pod.at], "healthy").await;
    let at = balancer.at('a');
    let mut client = Client::connect(at).await.expect("the target");
    lab.call("DeleteListener", &[("ListenerArn", &listener)]);
    let refuses = async || TcpStream::connect(at).await.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
    eventually_async("nothing listens any more", refuses).await;
    assert!(client.is_alive().await);
    client.close().await;
    lab.end().await;
}

#[tokio::test]
async fn stopping_the_data_plane_resets_and_reports_every_connection() {
    let lab = Lab::start(Profile::Instant, &[]);
    let (balancer, _group, listener, _checked) = to_listener(&lab, &[]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = TcpStream::connect(balancer.at('a')).await.expect("listening");
        clients.push((client, accept(&listener).await.0));
    }
    let engine = lab.engine.clone();
    lab.end().await;
    for (client, target) in &mut clients {
        assert!(is_reset(&end_of(client).await));
        assert!(is_reset(&end_of(target).await));
    }
    let (shutdowns, _) = engine
        .journal()
        .after(0, usize::MAX, |entry| matches!(entry.event, Event::FlowClosed { how: How::Shutdown, .. }));
    assert_eq!(shutdowns.len(), 20);
}

#[tokio::test]
async fn address_that_is_taken_is_listened_on_as_soon_as_it_is_free() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pod = Pod::start(lab.pod_address('a', 0));
    let (balancer, group) = (lab.balancer(&['a', 'b'], &[]).await, lab.group(&[], &[]));
    let squatter = listen(balancer.at('a'));
    balancer.create_listener(&group);
    until_accepting(balancer.at('b')).await;
    group.register(&[pod.at]);
    group.until(&[pod.at], "healthy").await;
    assert!(Client::connect(balancer.at('b')).await.is_err(), "zone b has no target of its own, but it listens");
    drop(squatter);
    eventually_async("zone a listens too", async || Client::connect(balancer.at('a')).await.is_ok()).await;
    lab.end().await;
}

#[tokio::test]
async fn address_that_is_gone_holds_its_clients_without_a_byte_and_fails_its_checks() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pod = Pod::start(lab.pod_address('a', 0));
    let (balancer, group) = lab.serving(&['a'], &[pod.at], &[], &[]).await;
    lab.engine.with(|model, now| model.set_unreachable(pod.at.ip(), true, now));
    let mut client = TcpStream::connect(balancer.at('a')).await.expect("the load balancer listens");
    client.write_all(b"hello").await.expect("nobody resets");
    group.until(&[pod.at], "unhealthy").await;
    let silent = timeout(Duration::from_millis(50), client.read_u8()).await;
    assert!(silent.is_err(), "neither a byte nor an end: {silent:?}");
    drop(client);
    lab.engine.with(|model, now| model.set_unreachable(pod.at.ip(), false, now));
    group.until(&[pod.at], "healthy").await;
    Client::connect(balancer.at('a')).await.expect("the target is back").close().await;
    lab.end().await;
}

#[tokio::test]
async fn load_balancer_that_is_not_active_yet_refuses_connections() {
    let lab = Lab::start(Profile::Instant, &[("lag.load-balancer-active", "60s")]);
    let group = lab.group(&[], &[]);
    let before = lab.engine.now();
    let balancer = lab.create_balancer(&['a'], &[]);
    let listener = balancer.create_listener(&group);
    let at = balancer.at('a');
    let mut refused = 0;
    let accepted = async {
        while TcpStream::connect(at).await.is_err() {
            refused += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), accepted).await.expect("it accepts in the end");
    assert!(refused > 0 && lab.engine.now() >= before + Duration::from_mins(1), "{listener} accepted too soon");
    lab.end().await;
}
