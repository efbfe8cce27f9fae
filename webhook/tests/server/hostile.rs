//! Clients that are silent, slow or greedy.

use std::time::Duration;

use http::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{Server, client};

const MIB: usize = 1024 * 1024;
/// Longer than any deadline of the server.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many hostile connections there are of each sort; `SLUICE_HOSTILE=1250` for the whole promise.
fn hostile() -> usize {
    std::env::var("SLUICE_HOSTILE").ok().and_then(|count| count.parse().ok()).unwrap_or(50)
}

/// Reads until the server closes the connection.
async fn closed(stream: &mut (impl tokio::io::AsyncRead + Unpin)) {
    let mut buffer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut buffer)).await.expect("the server closes the connection").ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_and_slow_clients_are_hung_up_on_and_hold_nobody_else() {
    let server = Server::start("slow").await;
    let (mut silent, mut begun, mut headless, mut bodiless) = (vec![], vec![], vec![], vec![]);
    for _ in 0..hostile() {
        silent.push(TcpStream::connect(server.address).await.unwrap());
        let mut half_a_hello = TcpStream::connect(server.address).await.unwrap();
        half_a_hello.write_all(&[22, 3, 1, 2, 0, 1, 0]).await.unwrap();
        begun.push(half_a_hello);
        let mut half_a_head = client::handshake(server.address, server.authority.roots()).await.unwrap();
        half_a_head.write_all(b"POST /mutate-v1-pod HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        headless.push(half_a_head);
        let mut half_a_body = client::handshake(server.address, server.authority.roots()).await.unwrap();
        half_a_body
            .write_all(b"POST /mutate-v1-pod HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
            .await
            .unwrap();
        bodiless.push(half_a_body);
    }
    // All of them are held at this moment, and others are answered.
    let mut good = server.connect().await;
    for _ in 0..100 {
        good.review().await.unwrap();
    }
    for stream in silent.iter_mut().chain(&mut begun) {
        closed(stream).await;
    }
    for stream in headless.iter_mut().chain(&mut bodiless) {
        closed(stream).await;
    }
    // The one that was well behaved is kept.
    good.review().await.unwrap();
}

#[tokio::test]
async fn a_head_that_drips_is_late_all_the_same() {
    let server = Server::start("drip").await;
    let stream = client::handshake(server.address, server.authority.roots()).await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    write.write_all(b"POST /mutate-v1-pod HTTP/1.1\r\n").await.unwrap();
    let drip = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            ticks.tick().await;
            if write.write_all(b"X: y\r\n").await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = closed(&mut read) => {}
        () = drip => {}
    }
}

#[tokio::test]
async fn bodies_are_taken_up_to_seven_mebibytes() {
    let server = Server::start("large").await;
    let padded = |size: usize| {
        let mut body = client::REVIEW.to_owned();
        body.insert_str(1, &" ".repeat(size - client::REVIEW.len()));
        body
    };
    let mut connection = server.connect().await;
    let largest = connection.post("/mutate-v1-pod", padded(7 * MIB)).await.unwrap();
    assert_eq!(largest.status(), StatusCode::OK, "{:?}", largest.body());
    let mut stream = client::handshake(server.address, server.authority.roots()).await.unwrap();
    let head = format!("POST /mutate-v1-pod HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", 7 * MIB + 1);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn bodies_of_any_length_are_read_whole_with_and_without_saying_how_long_they_are() {
    let server = Server::start("lengths").await;
    // Around what one read brings, what is always taken, and what is kept elsewhere.
    for size in [300, 8_000, 16_383, 16_385, 65_535, 65_536, 65_537, 100_000, 1_000_000] {
        let mut body = client::REVIEW.to_owned();
        body.insert_str(1, &" ".repeat(size - client::REVIEW.len()));
        for chunked in [false, true] {
            let mut stream = client::handshake(server.address, server.authority.roots()).await.unwrap();
            let (length, body) = if chunked {
                let chunks = body.as_bytes().chunks(7_000);
                let framed = chunks.map(|chunk| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
                let framed = framed.collect::<Vec<_>>().concat();
                ("Transfer-Encoding: chunked".to_owned(), [&framed[..], b"0\r\n\r\n"].concat())
            } else {
                (format!("Content-Length: {size}"), body.clone().into_bytes())
            };
            let head = format!("POST /mutate-v1-pod HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
            let mut answer = Vec::new();
            timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().ok();
            let answer = String::from_utf8_lossy(&answer);
            let fine = answer.starts_with("HTTP/1.1 200") && answer.ends_with("\"allowed\":true}}");
            assert!(fine, "{size}, chunked: {chunked}: {answer}");
        }
    }
}

#[tokio::test]
async fn a_body_without_a_length_is_cut_off_at_seven_mebibytes() {
    let server = Server::start("chunked").await;
    let mut stream = client::handshake(server.address, server.authority.roots()).await.unwrap();
    stream.write_all(b"POST /mutate-v1-pod HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
    let chunk = [format!("{MIB:x}\r\n").as_bytes(), &vec![b' '; MIB], b"\r\n"].concat();
    let mut taken = 0;
    // The answer may be lost, because the connection is closed while there is more to read; that it is closed is not.
    while timeout(PATIENCE, stream.write_all(&chunk)).await.unwrap().is_ok() {
        taken += 1;
    }
    let buffers = 8;
    assert!((7..7 + buffers).contains(&taken), "{taken} MiB were taken");
}

#[tokio::test]
async fn what_is_no_review_is_a_bad_request() {
    let server = Server::start("malformed").await;
    let mut connection = server.connect().await;
    let deep = "[".repeat(100_000);
    let deep_in_an_object = format!("{{\"request\":{{\"object\":{{\"metadata\":{deep}");
    for body in [&client::REVIEW[..100], &deep, &deep_in_an_object, "", "null", "\u{0}"] {
        let response = connection.post("/mutate-v1-pod", body.to_owned()).await.unwrap();
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{body:.60}");
    }
    assert_eq!(connection.post("/elsewhere", "").await.unwrap().status(), StatusCode::NOT_FOUND);
    connection.review().await.unwrap();
}
