//! The server on real sockets, spoken to in plain bytes.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use daemon::http::{Limits, Plain, Shutdown, serve};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    service::service_fn,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Longer than any deadline of the server.
const PATIENCE: Duration = Duration::from_secs(10);
const QUESTION: &[u8] = b"POST /path HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody";

/// A server that answers with what it was asked; it ends with this value.
struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Server {
    async fn start(memory: usize) -> Self {
        let echo = service_fn(async |request: Request<Incoming>| {
            let path = request.uri().path().to_owned();
            let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from([path.as_bytes(), b" ", &body].concat())))
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let shutdown = Shutdown { stop: stop.clone(), linger: Duration::ZERO };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let limits = Limits { memory, ..Limits::default() };
            let Ok(()) = serve(listener, Plain, echo, limits, shutdown).await;
        });
        Self { address, stop, tasks }
    }

    async fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }
}

/// Reads one answer to [`QUESTION`].
async fn answered(stream: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"/path body") {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{:?}", String::from_utf8_lossy(&answer));
}

async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty(), "{:?}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn where_there_is_no_room_those_go_that_never_asked_and_the_others_are_answered() {
    let server = Server::start(128 * 1024).await;
    let mut useful = server.connect().await;
    useful.write_all(QUESTION).await.unwrap();
    answered(&mut useful).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(server.connect().await);
        let mut begun = server.connect().await;
        begun.write_all(&QUESTION[..QUESTION.len() - 1]).await.unwrap();
        silent.push(begun);
    }
    // Long before any of them is late.
    let limit = Limits::default().pace.head / 2;
    for stream in &mut silent[..60] {
        timeout(limit, closed(stream)).await.unwrap();
    }
    for stream in [&mut useful, &mut server.connect().await] {
        stream.write_all(QUESTION).await.unwrap();
        answered(stream).await;
    }
}

#[tokio::test]
async fn a_connection_takes_more_room_from_its_first_request_on() {
    // Sixteen silent ones, or three with a request.
    let server = Server::start(128 * 1024).await;
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        let mut stream = server.connect().await;
        stream.write_all(&QUESTION[..QUESTION.len() - 1]).await.unwrap();
        asking.spawn(async move { closed(&mut stream).await });
    }
    let limit = Limits::default().pace.head / 2;
    timeout(limit, asking.join_next()).await.unwrap().unwrap().unwrap();
    assert_eq!(asking.len(), 3);
    assert!(timeout(limit / 2, asking.join_next()).await.is_err(), "the others are waited for");
}

#[tokio::test]
async fn a_request_is_answered_however_it_is_cut_into_pieces() {
    let server = Server::start(Limits::default().memory).await;
    let bare = String::from_utf8_lossy(QUESTION).replace('\r', "");
    for question in [QUESTION, bare.as_bytes()] {
        for size in [1, 2, 3, 7, question.len() - 5, question.len()] {
            let mut stream = server.connect().await;
            for piece in question.chunks(size) {
                stream.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            answered(&mut stream).await;
            stream.write_all(question).await.unwrap();
            answered(&mut stream).await;
        }
    }
    // Two questions at once, and more of a body than is read with the head.
    let mut stream = server.connect().await;
    stream.write_all(&[QUESTION, QUESTION].concat()).await.unwrap();
    answered(&mut stream).await;
    let long = "x".repeat(100_000);
    let question =
        format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{long}", long.len());
    let mut stream = server.connect().await;
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.ends_with(&format!("\r\n\r\n/ {long}")), "{answer:.200}");
}

#[tokio::test]
async fn a_head_without_an_end_is_too_large_at_some_time() {
    let server = Server::start(Limits::default().memory).await;
    let mut stream = server.connect().await;
    let head = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}", "y".repeat(100_000));
    // The answer may be lost, because the connection is closed while there is more to read.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(Limits::default().pace.head / 2, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{:?}", String::from_utf8_lossy(&answer));
}

#[tokio::test]
async fn the_end_waits_for_what_was_asked_and_for_nothing_else() {
    let mut server = Server::start(Limits::default().memory).await;
    let (mut silent, mut idle, mut asking) = (server.connect().await, server.connect().await, server.connect().await);
    idle.write_all(QUESTION).await.unwrap();
    answered(&mut idle).await;
    let (begun, rest) = QUESTION.split_at(QUESTION.len() - 1);
    asking.write_all(begun).await.unwrap();
    // Somebody who came later was answered, so that this one has been heard too.
    let mut last = server.connect().await;
    last.write_all(QUESTION).await.unwrap();
    answered(&mut last).await;
    server.stop.cancel();
    closed(&mut silent).await;
    closed(&mut idle).await;
    asking.write_all(rest).await.unwrap();
    answered(&mut asking).await;
    timeout(PATIENCE, server.tasks.join_next()).await.unwrap().unwrap().unwrap();
}
