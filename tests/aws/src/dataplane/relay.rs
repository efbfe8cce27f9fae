//! The bytes of one flow, both ways, until it ends.
//!
//! A load balancer of layer 4 passes packets, so what one side does is seen by the other as if they were connected:
//! every byte in order, a FIN of either side alone (half-close), and a RST as a RST. While a flow is idle it holds no
//! buffer: a thread's scratch space is borrowed for the moment of a read, and only what the other side would not take
//! is kept.
//!
//! What a relay of sockets cannot do as packets would: a keep-alive probe is answered by this system and resets no idle
//! timeout.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    os::fd::AsRawFd,
    pin::pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use nix::sys::socket::{Shutdown, shutdown};
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, sleep_until},
};

/// Bytes moved by one read, and the most that one direction of a flow ever holds.
const CHUNK: usize = 64 * 1024;

/// Moves in a row before other flows get their turn.
const TURN: usize = 16;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
}

/// How a flow that reached its target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Both sides sent a FIN.
    Closed,
    /// The client sent a RST.
    ClientReset,
    /// The target sent a RST.
    TargetReset,
    /// Nothing was sent for the idle timeout. Neither side was told: see [`expire`].
    Idle,
    /// It was told to end.
    Told,
}

/// What went through a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// How it ended.
    pub ended: Ended,
    /// Bytes that the target was sent.
    pub to_target: u64,
    /// Bytes that the client was sent.
    pub to_client: u64,
}

/// Moves bytes between `client` and `target` until both have closed, one has reset, nothing was sent for `idle`, or
/// `told` is ready. The streams are left for [`reset`], [`expire`] or a drop.
pub async fn relay(client: &TcpStream, target: &TcpStream, idle: Duration, told: impl Future<Output = ()>) -> Outcome {
    let mut up = Direction::new(client, target);
    let mut down = Direction::new(target, client);
    let mut told = pin!(told);
    // Neither reading nor writing shows a reset while a direction waits for the other side to make room.
    let mut client_error = pin!(client.ready(Interest::ERROR));
    let mut target_error = pin!(target.ready(Interest::ERROR));
    let mut last = Instant::now();
    let mut timer = pin!(sleep_until(last + idle));
    let ended = poll_fn(|cx| {
        if told.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ended::Told);
        }
        let before = (up.progress(), down.progress());
        // First of all what was sent before a RST is passed on. Once an error was fetched its socket reads as closed, which
        // is no FIN to pass on: the first error ends the flow.
        let (upward, downward) = (up.poll(cx), down.poll(cx));
        for (poll, from, to) in
            [(&upward, Ended::ClientReset, Ended::TargetReset), (&downward, Ended::TargetReset, Ended::ClientReset)]
        {
            match poll {
                Poll::Ready(Err(Broken::From)) => return Poll::Ready(from),
                Poll::Ready(Err(Broken::To)) => return Poll::Ready(to),
                _ => {}
            }
        }
        if upward.is_ready() && downward.is_ready() {
            return Poll::Ready(Ended::Closed);
        }
        if client_error.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ended::ClientReset);
        }
        if target_error.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ended::TargetReset);
        }
        if before != (up.progress(), down.progress()) {
            last = Instant::now();
        }
        while timer.as_mut().poll(cx).is_ready() {
            if last + idle <= Instant::now() {
                return Poll::Ready(Ended::Idle);
            }
            timer.as_mut().reset(last + idle);
        }
        Poll::Pending
    })
    .await;
    Outcome { ended, to_target: up.moved, to_client: down.moved }
}

/// Ends a connection with a RST instead of a FIN.
pub fn reset(stream: TcpStream) {
    // It fails on a socket that is gone already, which needs no RST.
    let _gone = stream.set_zero_linger();
    drop(stream);
}

/// What a load balancer does with a connection that it has forgotten: nothing, until the peer sends something, which is
/// answered with a RST.
pub async fn expire(stream: TcpStream) {
    loop {
        let Ok(ready) = stream.ready(Interest::READABLE | Interest::ERROR).await else { break };
        if ready.is_error() || ready.is_read_closed() {
            break;
        }
        // One byte tells data from a wakeup without cause.
        match stream.try_read(&mut [0]) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            _ => break,
        }
    }
    reset(stream);
}

/// The side whose socket failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    From,
    To,
}

/// What one attempt to move bytes came to.
enum Move {
    /// Bytes or the FIN went on.
    Moved,
    /// Nothing to read yet.
    Empty,
    /// No room to write yet.
    Full,
    /// The FIN went on before: nothing will follow.
    Over,
}

struct Direction<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    /// What was read and not written yet, from `start` on.
    kept: Vec<u8>,
    start: usize,
    moved: u64,
    /// The FIN went on.
    over: bool,
}

impl<'a> Direction<'a> {
    fn new(from: &'a TcpStream, to: &'a TcpStream) -> Self {
        Self { from, to, kept: Vec::new(), start: 0, moved: 0, over: false }
    }

    /// Changes whenever something was moved.
    fn progress(&self) -> (u64, bool) {
        (self.moved, self.over)
    }

    /// Moves all it can. Ready when the FIN went on, or when a socket failed.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        for _ in 0..TURN {
            match self.step() {
                Ok(Move::Moved) => {}
                Ok(Move::Over) => return Poll::Ready(Ok(())),
                Ok(Move::Empty) => {
                    if ready!(self.from.poll_read_ready(cx)).is_err() {
                        return Poll::Ready(Err(Broken::From));
                    }
                }
                Ok(Move::Full) => {
                    if ready!(self.to.poll_write_ready(cx)).is_err() {
                        return Poll::Ready(Err(Broken::To));
                    }
                }
                Err(broken) => return Poll::Ready(Err(broken)),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn step(&mut self) -> Result<Move, Broken> {
        if self.over {
            return Ok(Move::Over);
        }
        if !self.kept.is_empty() {
            let Some(n) = attempt(|| self.to.try_write(&self.kept[self.start..])).map_err(|()| Broken::To)? else {
                return Ok(Move::Full);
            };
            self.wrote(n);
            self.start += n;
            if self.start == self.kept.len() {
                (self.kept, self.start) = (Vec::new(), 0);
            }
            return Ok(Move::Moved);
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let Some(n) = attempt(|| self.from.try_read(scratch)).map_err(|()| Broken::From)? else {
                return Ok(Move::Empty);
            };
            if n == 0 {
                self.over = true;
                // A peer that is gone already shows as an error of its own direction.
                let _gone = shutdown(self.to.as_raw_fd(), Shutdown::Write);
                return Ok(Move::Moved);
            }
            // A failed write keeps everything, so that the next step meets the error again.
            let written = attempt(|| self.to.try_write(&scratch[..n])).map_err(|()| Broken::To)?.unwrap_or(0);
            self.wrote(written);
            self.kept.extend_from_slice(&scratch[written..n]);
            Ok(Move::Moved)
        })
    }

    fn wrote(&mut self, n: usize) {
        self.moved = self.moved.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
    }
}

/// `None` when the socket is not ready.
fn attempt(mut io: impl FnMut() -> io::Result<usize>) -> Result<Option<usize>, ()> {
    loop {
        return match io() {
            Ok(n) => Ok(Some(n)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => Err(()),
        };
    }
}
