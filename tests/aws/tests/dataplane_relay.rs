//! A relay between two real connections passes on what either side does: bytes, FIN and RST.
#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail")]

use std::{io, time::Duration};

use aws_emulator::dataplane::relay::{Ended, Outcome, expire, relay, reset};
use proptest::prelude::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

/// Longer than anything here takes, shorter than a person waits.
const DEADLINE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_hours(1);

/// Both ends of one connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.expect("connected"), far.expect("accepted").0)
}

/// A client and a target with a relay between them.
struct Flow {
    client: TcpStream,
    target: TcpStream,
    tell: oneshot::Sender<()>,
    relay: JoinHandle<Outcome>,
}

async fn flow(idle: Duration) -> Flow {
    let ((client, accepted), (dialled, target)) = tokio::join!(pair(), pair());
    let (tell, told) = oneshot::channel();
    #[expect(clippy::disallowed_methods, reason = "the test awaits the handle")]
    let relay = tokio::spawn(async move {
        let told = async {
            if told.await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        let outcome = relay(&accepted, &dialled, idle, told).await;
        match outcome.ended {
            Ended::Closed => {}
            Ended::Idle => {
                tokio::join!(expire(accepted), expire(dialled));
            }
            Ended::ClientReset | Ended::TargetReset | Ended::Told => {
                reset(accepted);
                reset(dialled);
            }
        }
        outcome
    });
    Flow { client, target, tell, relay }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("no end in {DEADLINE:?}: {what}"))
}

/// Everything until the FIN, or the error that came instead, and what came before it.
async fn read_all(stream: &mut TcpStream) -> (Vec<u8>, io::Result<()>) {
    let mut bytes = Vec::new();
    let result = within("reading to the end", stream.read_to_end(&mut bytes)).await.map(drop);
    (bytes, result)
}

fn is_reset(result: &io::Result<()>) -> bool {
    result.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
}

fn payload(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed | 1;
    let mut byte = || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x.to_le_bytes()[0]
    };
    (0..len).map(|_| byte()).collect()
}

#[tokio::test]
async fn each_side_may_close_its_half_and_goes_on_receiving() {
    for client_first in [true, false] {
        let Flow { client, target, relay, tell: _tell } = flow(LONG).await;
        let (mut first, mut second) = if client_first { (client, target) } else { (target, client) };
        first.write_all(b"question").await.expect("open");
        first.shutdown().await.expect("open");
        let (bytes, end) = read_all(&mut second).await;
        assert_eq!((bytes.as_slice(), end.is_ok()), (b"question".as_slice(), true));
        second.write_all(b"a long answer").await.expect("this half is still open");
        second.shutdown().await.expect("open");
        let (bytes, end) = read_all(&mut first).await;
        assert_eq!((bytes.as_slice(), end.is_ok()), (b"a long answer".as_slice(), true));
        let outcome = within("the relay", relay).await.expect("no panic");
        let (to_target, to_client) = if client_first { (8, 13) } else { (13, 8) };
        assert_eq!(outcome, Outcome { ended: Ended::Closed, to_target, to_client });
    }
}

#[tokio::test]
async fn reset_of_either_side_reaches_the_other_as_a_reset_after_the_bytes_before_it() {
    for by_client in [true, false] {
        let Flow { client, target, relay, tell: _tell } = flow(LONG).await;
        let (mut one, mut other) = if by_client { (client, target) } else { (target, client) };
        one.write_all(b"last words").await.expect("open");
        reset(one);
        let (bytes, end) = read_all(&mut other).await;
        assert!(is_reset(&end), "{end:?}");
        assert_eq!(bytes, b"last words");
        let ended = if by_client { Ended::ClientReset } else { Ended::TargetReset };
        assert_eq!(within("the relay", relay).await.expect("no panic").ended, ended);
    }
}

#[tokio::test]
async fn reset_is_noticed_while_the_other_side_takes_no_more_bytes() {
    for by_client in [true, false] {
        let Flow { client, target, relay, tell: _tell } = flow(LONG).await;
        let (mut one, other) = if by_client { (client, target) } else { (target, client) };
        // Fills every buffer on the way to a reader that does not read.
        let chunk = vec![0; 1 << 20];
        while timeout(Duration::from_millis(200), one.write_all(&chunk)).await.is_ok() {}
        reset(one);
        let ended = if by_client { Ended::ClientReset } else { Ended::TargetReset };
        assert_eq!(within("the relay", relay).await.expect("no panic").ended, ended);
        drop(other);
    }
}

#[tokio::test]
async fn reset_is_noticed_after_that_side_closed_its_half() {
    let Flow { mut client, target, relay, tell: _tell } = flow(LONG).await;
    let mut target = target;
    client.shutdown().await.expect("open");
    assert!(read_all(&mut target).await.1.is_ok(), "the FIN arrived");
    reset(client);
    assert_eq!(within("the relay", relay).await.expect("no panic").ended, Ended::ClientReset);
    let end = within("the target", target.read_u8()).await;
    assert_eq!(end.expect_err("nothing was sent").kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn flow_that_is_told_to_end_is_reset_on_both_sides() {
    let Flow { mut client, mut target, relay, tell } = flow(LONG).await;
    client.write_all(b"x").await.expect("open");
    within("the byte", target.read_u8()).await.expect("relayed");
    tell.send(()).expect("the relay runs");
    assert!(is_reset(&read_all(&mut client).await.1));
    assert!(is_reset(&read_all(&mut target).await.1));
    let outcome = within("the relay", relay).await.expect("no panic");
    assert_eq!(outcome, Outcome { ended: Ended::Told, to_target: 1, to_client: 0 });
}

#[tokio::test]
async fn idle_flow_is_forgotten_silently_and_the_next_bytes_are_answered_with_a_reset() {
    let Flow { mut client, mut target, relay, tell: _tell } = flow(Duration::from_millis(100)).await;
    client.write_all(b"x").await.expect("open");
    within("the byte", target.read_u8()).await.expect("relayed");
    let silent = timeout(Duration::from_millis(400), client.read_u8()).await;
    assert!(silent.is_err(), "no side hears of the timeout: {silent:?}");
    for side in [&mut client, &mut target] {
        side.write_all(b"y").await.expect("as far as this side knows the flow is open");
        assert!(is_reset(&read_all(side).await.1));
    }
    let outcome = within("the relay", relay).await.expect("no panic");
    assert_eq!(outcome, Outcome { ended: Ended::Idle, to_target: 1, to_client: 0 });
}

#[tokio::test]
async fn bytes_in_one_direction_keep_a_flow_from_going_idle() {
    let Flow { client, mut target, relay, tell: _tell } = flow(Duration::from_millis(300)).await;
    let mut client = client;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    for _ in 0..20 {
        ticks.tick().await;
        target.write_all(b"z").await.expect("open");
    }
    target.shutdown().await.expect("open");
    let (bytes, end) = read_all(&mut client).await;
    assert_eq!((bytes.len(), end.is_ok()), (20, true));
    client.shutdown().await.expect("open");
    assert_eq!(within("the relay", relay).await.expect("no panic").ended, Ended::Closed);
}

/// Writes in pieces and reads at a pace, both as told.
async fn talk(stream: TcpStream, bytes: Vec<u8>, piece: usize, appetite: usize) -> Vec<u8> {
    let (mut read, mut write) = stream.into_split();
    let sending = async {
        for piece in bytes.chunks(piece) {
            write.write_all(piece).await.expect("open");
        }
        write.shutdown().await.expect("open");
    };
    let receiving = async {
        let (mut all, mut some) = (Vec::new(), vec![0; appetite]);
        loop {
            match read.read(&mut some).await.expect("no reset") {
                0 => return all,
                n => all.extend_from_slice(&some[..n]),
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::join!(sending, receiving).1
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_byte_arrives_once_and_in_order_whatever_the_pieces(
        seed in any::<u64>(),
        lengths in (0..3_000_000_usize, 0..3_000_000_usize),
        pieces in (500..100_000_usize, 500..100_000_usize),
        appetites in (500..100_000_usize, 500..100_000_usize),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let (question, answer) = (payload(seed, lengths.0), payload(!seed, lengths.1));
        let (got_answer, got_question, outcome) = runtime.block_on(async {
            let Flow { client, target, relay, tell: _tell } = flow(LONG).await;
            let (a, q) = within("the exchange", async {
                tokio::join!(
                    talk(client, question.clone(), pieces.0, appetites.0),
                    talk(target, answer.clone(), pieces.1, appetites.1),
                )
            }).await;
            (a, q, within("the relay", relay).await.expect("no panic"))
        });
        prop_assert!(got_answer == answer, "the answer changed on the way");
        prop_assert!(got_question == question, "the question changed on the way");
        prop_assert_eq!(outcome.ended, Ended::Closed);
        prop_assert_eq!((outcome.to_target, outcome.to_client), (lengths.0 as u64, lengths.1 as u64));
    }
}
