//! DNS over real sockets: what each kind of question is answered, over UDP and TCP, and what breaks nothing.
#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    panic,
    sync::{
        Once,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use aws_emulator::dns::{Answer, Sockets, Zone};
use hickory_server::proto::{
    op::{Edns, Message, MessageType, OpCode, Query, ResponseCode},
    rr::{DNSClass, Name, RData, RecordType},
};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);
const ZONE_A: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 16, 1, 9));
const ZONE_B: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 16, 2, 9));
const HOOK: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));

/// Two zones: load balancers, one of them with more addresses than a small UDP answer holds, and a cluster's Services.
fn zones() -> Vec<Box<dyn Zone>> {
    let elb = |name: &str| {
        let host = name.strip_suffix(".elb.test.amazonaws.com")?;
        Some(match host {
            "lab-1" => Answer::Addresses { addresses: vec![ZONE_A, ZONE_B], ttl: 60 },
            "both-1" => Answer::Addresses { addresses: vec![ZONE_A, IPV6], ttl: 60 },
            "wide-1" => Answer::Addresses { addresses: (0..100).map(|n| [127, 17, 0, n].into()).collect(), ttl: 1 },
            _ => Answer::NoSuchName,
        })
    };
    let services = |name: &str| {
        let host = name.strip_suffix(".svc.cluster.local")?;
        Some(if host == "hook.default" {
            Answer::Addresses { addresses: vec![HOOK], ttl: 5 }
        } else {
            Answer::NoSuchName
        })
    };
    vec![Box::new(elb), Box::new(services)]
}

struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    serving: JoinHandle<Result<(), aws_emulator::dns::Error>>,
}

impl Server {
    async fn start() -> Self {
        let sockets = Sockets::bind("127.0.0.1:0".parse().expect("literal")).await.expect("loopback");
        let (address, stop) = (sockets.address(), CancellationToken::new());
        #[expect(clippy::disallowed_methods, reason = "the test awaits the handle")]
        let serving = tokio::spawn(sockets.serve(zones(), stop.clone()));
        Self { address, stop, serving }
    }

    async fn end(self) {
        self.stop.cancel();
        within("the server", self.serving).await.expect("no panic").expect("a clean end");
    }

    async fn udp(&self, bytes: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
        socket.connect(self.address).await.expect("UDP");
        socket.send(bytes).await.expect("UDP");
        let mut answer = vec![0; 65536];
        let n = within("a UDP answer", socket.recv(&mut answer)).await.expect("an answer");
        answer.truncate(n);
        answer
    }

    async fn tcp(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).await.expect("listening");
        stream.write_u16(u16::try_from(bytes.len()).expect("short")).await.expect("open");
        stream.write_all(bytes).await.expect("open");
        let length = within("a TCP answer", stream.read_u16()).await.expect("an answer");
        let mut answer = vec![0; usize::from(length)];
        within("a TCP answer", stream.read_exact(&mut answer)).await.expect("the whole answer");
        answer
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("nothing in {DEADLINE:?}: {what}"))
}

fn question(name: &str, kind: RecordType) -> Message {
    static ID: AtomicU16 = AtomicU16::new(1);
    let mut message = Message::new(ID.fetch_add(1, Ordering::Relaxed), MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message.metadata.recursion_desired = true;
    message
}

fn bytes(message: &Message) -> Vec<u8> {
    message.to_vec().expect("a message that can be written")
}

fn read(bytes: &[u8]) -> Message {
    Message::from_vec(bytes).expect("an answer that can be read")
}

fn addresses(message: &Message) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(address) => Some(address.0.into()),
        RData::AAAA(address) => Some(address.0.into()),
        _ => None,
    };
    message.answers.iter().filter_map(|r| address(&r.data)).collect()
}

#[tokio::test]
async fn names_of_every_zone_are_answered_with_their_addresses_over_udp_and_tcp() {
    let server = Server::start().await;
    for (name, asked, expected, ttl) in [
        ("lab-1.elb.test.amazonaws.com.", RecordType::A, vec![ZONE_A, ZONE_B], 60),
        ("LAB-1.elb.Test.AmazonAWS.com.", RecordType::A, vec![ZONE_A, ZONE_B], 60),
        ("hook.default.svc.cluster.local.", RecordType::A, vec![HOOK], 5),
        ("both-1.elb.test.amazonaws.com.", RecordType::A, vec![ZONE_A], 60),
        ("both-1.elb.test.amazonaws.com.", RecordType::AAAA, vec![IPV6], 60),
        ("both-1.elb.test.amazonaws.com.", RecordType::ANY, vec![ZONE_A, IPV6], 60),
    ] {
        let question = question(name, asked);
        for answer in [server.udp(&bytes(&question)).await, server.tcp(&bytes(&question)).await] {
            let answer = read(&answer);
            assert_eq!(
                (answer.metadata.id, answer.metadata.response_code),
                (question.metadata.id, ResponseCode::NoError)
            );
            assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
            let mut got = addresses(&answer);
            got.sort_unstable();
            assert_eq!(got, expected, "{name}");
            assert!(answer.answers.iter().all(|r| r.ttl == ttl), "{name}");
        }
    }
    server.end().await;
}

#[tokio::test]
async fn each_address_comes_first_in_its_turn() {
    let server = Server::start().await;
    let mut firsts = Vec::new();
    for _ in 0..4 {
        let answer = server.udp(&bytes(&question("lab-1.elb.test.amazonaws.com.", RecordType::A))).await;
        firsts.push(addresses(&read(&answer))[0]);
    }
    assert_eq!(firsts, [ZONE_A, ZONE_B, ZONE_A, ZONE_B]);
    server.end().await;
}

#[tokio::test]
async fn questions_without_an_address_get_the_code_that_says_why() {
    let server = Server::start().await;
    let mut chaos = question("lab-1.elb.test.amazonaws.com.", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    let mut update = question("lab-1.elb.test.amazonaws.com.", RecordType::SOA);
    update.metadata.op_code = OpCode::Update;
    let mut two = question("lab-1.elb.test.amazonaws.com.", RecordType::A);
    two.add_query(Query::query(Name::from_ascii("x.").expect("a name"), RecordType::A));
    let mut version = question("lab-1.elb.test.amazonaws.com.", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    version.set_edns(edns);
    for (case, question, code) in [
        (
            "another type of a known name",
            question("lab-1.elb.test.amazonaws.com.", RecordType::AAAA),
            ResponseCode::NoError,
        ),
        ("an unknown name", question("gone-1.elb.test.amazonaws.com.", RecordType::A), ResponseCode::NXDomain),
        ("an unknown Service", question("gone.default.svc.cluster.local.", RecordType::AAAA), ResponseCode::NXDomain),
        ("nobody's name", question("example.com.", RecordType::A), ResponseCode::Refused),
        ("the root", question(".", RecordType::A), ResponseCode::Refused),
        ("another class", chaos, ResponseCode::Refused),
        ("an update", update, ResponseCode::NotImp),
        ("two questions", two, ResponseCode::FormErr),
        ("an unknown EDNS version", version, ResponseCode::BADVERS),
    ] {
        let answer = read(&server.udp(&bytes(&question)).await);
        assert_eq!(answer.metadata.response_code.low(), code.low(), "{case}");
        assert!(answer.answers.is_empty(), "{case}");
    }
    server.end().await;
}

#[tokio::test]
async fn answer_too_long_for_udp_is_marked_and_comes_whole_with_edns_or_over_tcp() {
    let server = Server::start().await;
    let mut question = question("wide-1.elb.test.amazonaws.com.", RecordType::A);
    let answer = server.udp(&bytes(&question)).await;
    assert!(answer.len() <= 512 && read(&answer).metadata.truncation);
    assert_eq!(addresses(&read(&server.tcp(&bytes(&question)).await)).len(), 100);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    question.set_edns(edns);
    let answer = read(&server.udp(&bytes(&question)).await);
    assert_eq!((addresses(&answer).len(), answer.metadata.truncation), (100, false));
    server.end().await;
}

#[tokio::test]
async fn idle_tcp_clients_keep_nobody_waiting() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    for half in [&b""[..], b"\0", b"\x01\0", b"\0\x20half"] {
        let mut stream = TcpStream::connect(server.address).await.expect("listening");
        stream.write_all(half).await.expect("open");
        silent.push(stream);
    }
    let answer = read(&server.tcp(&bytes(&question("lab-1.elb.test.amazonaws.com.", RecordType::A))).await);
    assert_eq!(addresses(&answer).len(), 2);
    server.end().await;
}

#[tokio::test]
async fn port_that_is_taken_is_named_in_the_error() {
    let server = Server::start().await;
    let error = Sockets::bind(server.address).await.expect_err("taken").to_string();
    assert!(error.starts_with(&format!("cannot serve DNS on {}", server.address)), "{error}");
    server.end().await;
}

/// Panics of the whole process: the server's tasks would keep theirs to themselves.
fn panics() -> usize {
    static HOOK: Once = Once::new();
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            COUNT.fetch_add(1, Ordering::SeqCst);
            report(info);
        }));
    });
    COUNT.load(Ordering::SeqCst)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn malformed_packets_break_nothing(
        noise in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 1..20),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let before = panics();
        runtime.block_on(async {
            let server = Server::start().await;
            let good = bytes(&question("lab-1.elb.test.amazonaws.com.", RecordType::A));
            let bent = flips.iter().map(|(at, value)| {
                let mut packet = good.clone();
                packet[at.index(good.len())] = *value;
                packet
            });
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback");
            for packet in noise.iter().cloned().chain(bent) {
                socket.send_to(&packet, server.address).await.expect("UDP");
                let mut stream = TcpStream::connect(server.address).await.expect("listening");
                stream.write_all(&packet).await.expect("open");
            }
            prop_assert_eq!(addresses(&read(&server.udp(&good).await)).len(), 2);
            prop_assert_eq!(addresses(&read(&server.tcp(&good).await)).len(), 2);
            server.end().await;
            Ok(())
        })?;
        prop_assert_eq!(panics(), before);
    }
}
