//! Bytes on the socket: whatever comes, the answer is HTTP and the next client is served.

use std::{net::SocketAddr, time::Duration};

use aws_model::settings::Profile;
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::Emulator;

const DEADLINE: Duration = Duration::from_secs(20);

/// What comes back for some bytes, after which the client says no more.
async fn exchange(api: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(api).await.expect("listening");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.expect("an answer or an end");
    String::from_utf8_lossy(&answer).into_owned()
}

fn post(body: &[u8], authorization: &str) -> Vec<u8> {
    let head = format!(
        "POST / HTTP/1.1\r\nHost: aws\r\nAuthorization: {authorization}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=AKIA/20260101/r/elasticloadbalancing/aws4_request, SignedHeaders=host, Signature=0";

async fn serves(api: SocketAddr) {
    let body = b"Action=DescribeLoadBalancers&Version=2015-12-01";
    let answer = exchange(api, &post(body, SIGNED)).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("<DescribeLoadBalancersResult>"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_are_answered_or_ended_and_the_next_client_is_served() {
    let emulator = Emulator::start(Profile::Instant, &[]).await;
    let api = emulator.running.api;
    let body = prop_oneof![
        vec(any::<u8>(), 0..200),
        "[A-Za-z.%=&0-9]{0,200}".prop_map(String::into_bytes),
        "Action=[A-Z][a-zA-Z]{3,20}&Version=2015-12-01(&[A-Za-z]{1,9}\\.member\\.[0-9]{1,12}=[ -~]{0,9}){0,9}"
            .prop_map(String::into_bytes),
    ];
    let request = prop_oneof![
        body.prop_map(|body| post(&body, SIGNED)),
        ("[ -~]{0,100}", vec(any::<u8>(), 0..50)).prop_map(|(authorization, body)| post(&body, &authorization)),
        vec(any::<u8>(), 0..300),
    ];
    let handle = tokio::runtime::Handle::current();
    let run = move || {
        let mut runner = TestRunner::new(ProptestConfig { cases: 256, ..ProptestConfig::default() });
        runner.run(&request, |bytes| {
            let answer = handle.block_on(exchange(api, &bytes));
            prop_assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 "), "{}", answer);
            prop_assert!(!answer.starts_with("HTTP/1.1 5"), "{}", answer);
            Ok(())
        })
    };
    tokio::task::spawn_blocking(run).await.expect("no panic").expect("holds");
    serves(api).await;
    emulator.end().await;
}

#[tokio::test]
async fn each_broken_request_has_its_status() {
    let emulator = Emulator::start(Profile::Instant, &[]).await;
    let api = emulator.running.api;
    let huge_head = format!("POST / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(400_000)).into_bytes();
    let deep = format!("Action=DescribeTags&Version=2015-12-01&{}=1", "a.".repeat(100_000));
    let cases: [(&str, Vec<u8>, &str, &str); 6] = [
        ("no HTTP", b"nonsense\r\n\r\n".to_vec(), "400", ""),
        ("a head too large", huge_head, "431", ""),
        ("a body too large", post(&vec![b'x'; 2 << 20], SIGNED), "413", ""),
        ("no action", post(b"Version=2015-12-01", SIGNED), "400", "<Code>MissingAction</Code>"),
        ("broken encoding", post(b"Action=%", SIGNED), "404", "<Code>MalformedQueryString</Code>"),
        ("a name that nests", post(deep.as_bytes(), SIGNED), "400", "<Code>MalformedInput</Code>"),
    ];
    for (name, bytes, status, contains) in cases {
        let answer = exchange(api, &bytes).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{name}: {answer}");
        assert!(answer.contains(contains), "{name}: {answer}");
    }
    serves(api).await;
    emulator.end().await;
}

#[tokio::test]
async fn clients_that_stall_keep_nobody_waiting() {
    let emulator = Emulator::start(Profile::Instant, &[]).await;
    let api = emulator.running.api;
    let mut stalled = Vec::new();
    for n in 0..300 {
        let mut stream = TcpStream::connect(api).await.expect("listening");
        if n % 2 == 0 {
            stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 99\r\n\r\nAction=").await.expect("open");
        }
        stalled.push(stream);
    }
    timeout(DEADLINE, serves(api)).await.expect("served at once");
    drop(stalled);
    emulator.end().await;
}
