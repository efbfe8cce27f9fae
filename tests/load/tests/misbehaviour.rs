//! Servers that misbehave, each in its own way, and what the generator calls it.

#![expect(clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::{collections::BTreeMap, future::Future, net::SocketAddr, pin::Pin, time::Duration};

use load::{Kind, Load, Report, Settings};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Bounds a failure of a test, not its success.
const DEADLINE: Duration = Duration::from_mins(1);
/// How long a silent server is waited for.
const SHORT: Duration = Duration::from_millis(300);

type Act = fn(TcpStream, SocketAddr) -> Pin<Box<dyn Future<Output = ()> + Send>>;

/// A server that does the same with every connection, until it is dropped.
struct Server {
    address: SocketAddr,
    open: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (count, open) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, client) = accepted.expect("accepts");
                        count.send_modify(|open| *open += 1);
                        connections.spawn(act(stream, client));
                    }
                    Some(_) = connections.join_next() => count.send_modify(|open| *open -= 1),
                }
            }
        });
        Self { address, open, _tasks: tasks }
    }
}

/// Reads the question, so that closing the connection sends a FIN and no reset.
async fn question(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
}

fn settings(address: SocketAddr, patience: Duration) -> Settings {
    Settings { host: address.ip().to_string(), port: address.port(), rate: 100, from: Vec::new(), patience }
}

/// The report of a run that lasts until this many requests have ended.
async fn report(settings: Settings, count: u64) -> Report {
    let load = Load::start(settings);
    let mut progress = load.progress();
    let enough = progress.wait_for(|progress| progress.requests >= count);
    tokio::time::timeout(DEADLINE, enough).await.expect("requests end").expect("the run lasts");
    load.stop().await.expect("a report")
}

async fn say(mut stream: TcpStream, text: String) {
    question(&mut stream).await;
    let _ = stream.write_all(text.as_bytes()).await;
}

fn answer(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn reset(stream: &TcpStream) {
    nix::sys::socket::setsockopt(
        stream,
        nix::sys::socket::sockopt::Linger,
        &nix::libc::linger { l_onoff: 1, l_linger: 0 },
    )
    .expect("linger");
}

const MISDEEDS: &[(&str, Kind, Act)] = &[
    ("closes at once", Kind::NoFirstByte, |mut stream, _| Box::pin(async move { question(&mut stream).await })),
    ("resets before it answers", Kind::NoFirstByte, |mut stream, _| {
        Box::pin(async move {
            question(&mut stream).await;
            reset(&stream);
        })
    }),
    ("is silent", Kind::NoFirstByte, |stream, _| {
        Box::pin(async move {
            let _stream = stream;
            std::future::pending::<()>().await;
        })
    }),
    ("resets in the middle", Kind::Reset, |mut stream, _| {
        Box::pin(async move {
            question(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            // The client has acknowledged the first piece before the reset overtakes it.
            let mut more = [0];
            let _ = tokio::time::timeout(SHORT / 10, stream.read(&mut more)).await;
            reset(&stream);
        })
    }),
    ("closes in the middle", Kind::Cut, |stream, _| {
        Box::pin(say(stream, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nHostname: web".to_owned()))
    }),
    ("falls silent in the middle", Kind::Cut, |mut stream, _| {
        Box::pin(async move {
            question(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n").await;
            std::future::pending::<()>().await;
        })
    }),
    ("answers with 503", Kind::Wrong, |stream, _| {
        Box::pin(say(stream, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n".to_owned()))
    }),
    ("is no echo server", Kind::Wrong, |stream, _| Box::pin(say(stream, answer("hello\n")))),
];

#[tokio::test]
async fn each_way_to_misbehave_has_its_own_name() {
    for (what, kind, act) in MISDEEDS {
        let server = Server::start(*act).await;
        let report = report(settings(server.address, SHORT), 5).await;
        assert_eq!(report.kinds.keys().collect::<Vec<_>>(), [kind], "a server that {what}: {:?}", report.failures);
        assert_eq!((report.answered, report.failed), (0, report.requests), "a server that {what}");
        assert_eq!(report.failures[0].address, server.address.to_string());
    }
}

#[tokio::test]
async fn closed_port_is_refused_and_an_unknown_name_unresolved() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        listener.local_addr().expect("bound")
    };
    let refused = report(settings(closed, SHORT), 5).await;
    assert_eq!(refused.kinds, [(Kind::Refused, refused.requests)].into());
    let unknown = Settings { host: "no-such-name.invalid".to_owned(), ..settings(closed, SHORT) };
    let unresolved = report(unknown, 5).await;
    assert_eq!(unresolved.kinds, [(Kind::Unresolved, unresolved.requests)].into());
}

#[tokio::test]
async fn connect_that_nobody_answers_is_a_timeout() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    // One place in the queue of those to be accepted, which nobody empties; the system ignores the rest.
    let listener = socket.listen(0).expect("listens");
    let address = listener.local_addr().expect("bound");
    let _first = TcpStream::connect(address).await.expect("the one place");
    let report = report(settings(address, SHORT), 5).await;
    assert_eq!(report.kinds, [(Kind::Timeout, report.requests)].into());
}

#[tokio::test]
async fn address_that_is_not_this_machines_is_its_own_fault() {
    let server = Server::start(|stream, _| Box::pin(say(stream, answer("Hostname: web-1\n")))).await;
    let elsewhere =
        Settings { from: vec!["192.0.2.1".parse().expect("an address")], ..settings(server.address, SHORT) };
    let report = report(elsewhere, 5).await;
    assert_eq!(report.kinds, [(Kind::Unsent, report.requests)].into());
}

#[tokio::test]
async fn answers_are_counted_by_pod_and_clients_take_turns() {
    // A pod for each client, named after its address.
    let server =
        Server::start(|stream, client| Box::pin(say(stream, answer(&format!("Hostname: {}\n", client.ip()))))).await;
    let from: Vec<_> = (1..=4).map(|n| [127, 0, 0, n].into()).collect();
    let report = report(Settings { from: from.clone(), ..settings(server.address, DEADLINE) }, 40).await;
    assert_eq!(report.failed, 0, "{:?}", report.failures);
    let even: BTreeMap<_, _> = from.iter().map(|address| (address.to_string(), report.requests / 4)).collect();
    for (pod, share) in &even {
        assert!(report.pods[pod].abs_diff(*share) <= 1, "{:?}", report.pods);
    }
    assert_eq!(report.pods.len(), 4);
    let by_second: u64 = report.seconds.iter().flat_map(|second| second.answered.values()).sum();
    assert_eq!(by_second, report.answered);
}

#[tokio::test]
async fn slow_answers_do_not_slow_the_questions() {
    let mut server = Server::start(|stream, _| {
        Box::pin(async move {
            let _stream = stream;
            std::future::pending::<()>().await;
        })
    })
    .await;
    let load = Load::start(settings(server.address, DEADLINE));
    let many = server.open.wait_for(|open| *open >= 50);
    tokio::time::timeout(DEADLINE, many).await.expect("all are open at once").expect("the server lasts");
    drop(load);
}
