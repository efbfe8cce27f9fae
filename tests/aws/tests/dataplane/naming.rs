//! What DNS says of a load balancer.

use std::net::{IpAddr, SocketAddr};

use aws_emulator::dns::{Sockets, load_balancers};
use aws_model::settings::Profile;
use hickory_server::proto::{
    op::{Message, MessageType, OpCode, Query, ResponseCode},
    rr::{Name, RData, RecordType},
};
use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use crate::{
    lab::{Lab, eventually_async, within},
    peers::Pod,
};

async fn ask(server: SocketAddr, name: &str) -> (ResponseCode, Vec<IpAddr>, Vec<u32>) {
    let mut question = Message::new(1, MessageType::Query, OpCode::Query);
    question.add_query(Query::query(Name::from_ascii(name).expect("a name"), RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
    socket.send_to(&question.to_vec().expect("a question"), server).await.expect("UDP");
    let mut bytes = [0; 4096];
    let n = within("an answer", socket.recv(&mut bytes)).await.expect("an answer");
    let answer = Message::from_vec(&bytes[..n]).expect("an answer");
    let mut addresses: Vec<_> =
        answer.answers.iter().filter_map(|r| if let RData::A(a) = &r.data { Some(a.0.into()) } else { None }).collect();
    addresses.sort_unstable();
    (answer.metadata.response_code, addresses, answer.answers.iter().map(|r| r.ttl).collect())
}

#[tokio::test]
async fn name_resolves_to_the_zones_with_a_healthy_target_and_to_all_if_none_has_one() {
    let lab = Lab::start(Profile::Instant, &[]);
    let pods = [Pod::start(lab.pod_address('a', 0)), Pod::start(lab.pod_address('b', 0))];
    let balancer = lab.balancer(&['a', 'b', 'c'], &[]).await;
    let group = lab.group(&[("HealthCheckProtocol", "HTTP"), ("HealthCheckPort", "8081")], &[]);
    balancer.listen(&group).await;
    let sockets = Sockets::bind("127.0.0.1:0".parse().expect("literal")).await.expect("loopback");
    let (server, stop) = (sockets.address(), CancellationToken::new());
    #[expect(clippy::disallowed_methods, reason = "awaited below")]
    let serving = tokio::spawn(sockets.serve(vec![load_balancers(lab.engine.clone())], stop.clone()));
    let zones = ['a', 'b', 'c'].map(|zone| balancer.at(zone).ip());
    let until = async |what: &str, expected: &[IpAddr]| {
        eventually_async(what, async || ask(server, &balancer.dns).await.1 == expected).await;
    };

    group.register(&[pods[0].at, pods[1].at]);
    until("the two zones with a healthy target", &zones[..2]).await;
    pods[0].set_healthy(false);
    until("the one zone that is left", &zones[1..2]).await;
    pods[1].set_healthy(false);
    until("all zones, because none is healthy", &zones).await;
    pods[0].set_healthy(true);
    until("the zone that recovered", &zones[..1]).await;

    for (zone, address) in ['a', 'b', 'c'].into_iter().zip(zones) {
        let (code, addresses, ttls) = ask(server, &format!("ap-northeast-2{zone}.{}", balancer.dns)).await;
        // Sixty seconds of the model's, which runs at twenty times the speed.
        assert_eq!((code, addresses, ttls), (ResponseCode::NoError, vec![address], vec![3]));
    }
    assert_eq!(ask(server, &format!("x{}", balancer.dns)).await.0, ResponseCode::NXDomain);
    assert_eq!(ask(server, "example.com").await.0, ResponseCode::Refused);
    stop.cancel();
    within("DNS ends", serving).await.expect("no panic").expect("a clean end");
    lab.end().await;
}
