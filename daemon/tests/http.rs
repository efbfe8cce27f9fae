//! The HTTP server on a real socket: deadlines, limits, and the end.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use daemon::http::{Limits, Pace, Plain, Shutdown, serve};
use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(10);
const QUESTION: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A server whose answers wait for permits, and its end.
struct Server {
    address: SocketAddr,
    permits: Arc<Semaphore>,
    stop: CancellationToken,
    ended: JoinSet<()>,
}

async fn server(limits: Limits, linger: Duration) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (permits, stop) = (Arc::new(Semaphore::new(0)), CancellationToken::new());
    let waited_for = Arc::clone(&permits);
    let service = service_fn(move |_: Request<Incoming>| {
        let permits = Arc::clone(&waited_for);
        async move {
            permits.acquire().await.unwrap().forget();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"done"))))
        }
    });
    let mut ended = JoinSet::new();
    let shutdown = Shutdown { stop: stop.clone(), linger };
    ended.spawn(async move {
        let Ok(()) = serve(listener, Plain, service, limits, shutdown).await;
    });
    Server { address, permits, stop, ended }
}

fn hasty() -> Limits {
    let pace =
        Pace { head: Duration::from_millis(200), idle: Duration::from_millis(200), write: Duration::from_millis(200) };
    Limits { pace, ..Limits::default() }
}

/// Everything that the server says until it hangs up.
async fn everything(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut said)).await.expect("the server hangs up").ok();
    String::from_utf8(said).unwrap()
}

/// One answer.
async fn answer(stream: &mut TcpStream) -> String {
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"done") {
        timeout(PATIENCE, stream.read_exact(&mut byte)).await.expect("an answer").unwrap();
        said.push(byte[0]);
    }
    String::from_utf8(said).unwrap()
}

#[tokio::test]
async fn who_asks_nothing_or_nothing_more_is_hung_up_on() {
    let server = server(hasty(), Duration::ZERO).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    assert_eq!(everything(&mut silent).await, "");
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    server.permits.add_permits(2);
    for _ in 0..2 {
        idle.write_all(QUESTION).await.unwrap();
        answer(&mut idle).await;
    }
    assert_eq!(everything(&mut idle).await, "");
}

#[tokio::test]
async fn an_answer_may_take_longer_than_a_question() {
    let server = server(hasty(), Duration::ZERO).await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(QUESTION).await.unwrap();
    let mut other = TcpStream::connect(server.address).await.unwrap();
    // By now every deadline of a connection has passed.
    everything(&mut other).await;
    server.permits.add_permits(1);
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_others_to_end() {
    let server = server(Limits { connections: 1, ..Limits::default() }, Duration::ZERO).await;
    let mut first = TcpStream::connect(server.address).await.unwrap();
    first.write_all(QUESTION).await.unwrap();
    let mut second = TcpStream::connect(server.address).await.unwrap();
    second.write_all(QUESTION).await.unwrap();
    server.permits.add_permits(2);
    answer(&mut first).await;
    let waits = timeout(Duration::from_millis(200), second.read_u8()).await;
    assert!(waits.is_err(), "the second is not served beside the first");
    drop(first);
    answer(&mut second).await;
}

#[tokio::test]
async fn what_is_in_flight_is_answered_before_the_end() {
    let mut server = server(Limits::default(), Duration::ZERO).await;
    let mut asked = TcpStream::connect(server.address).await.unwrap();
    asked.write_all(QUESTION).await.unwrap();
    let mut idle = TcpStream::connect(server.address).await.unwrap();
    server.permits.add_permits(1);
    idle.write_all(QUESTION).await.unwrap();
    // Whichever of the two got the permit, the other one waits.
    let first = tokio::select! {
        said = answer(&mut asked) => said,
        said = answer(&mut idle) => said,
    };
    assert!(!first.contains("connection: close"), "{first}");
    server.stop.cancel();
    assert!(timeout(Duration::from_millis(200), server.ended.join_next()).await.is_err(), "it waits for the answer");
    server.permits.add_permits(1);
    let rest = everything(&mut asked).await + &everything(&mut idle).await;
    assert!(rest.contains("connection: close") && rest.ends_with("done"), "{rest}");
    timeout(PATIENCE, server.ended.join_next()).await.expect("the end").unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
