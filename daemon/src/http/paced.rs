//! A stream whose other end must keep up.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// How long the stages of a connection may take.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// From the handshake, or from the first byte of a request, to the end of its head.
    pub head: Duration,
    /// From an answer to the next request.
    pub idle: Duration,
    /// How long the client may leave an answer unread.
    pub write: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { head: Duration::from_secs(2), idle: Duration::from_secs(90), write: Duration::from_secs(5) }
    }
}

/// Whether a request is being answered; what it takes meanwhile is the service's to bound.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<AtomicBool>);

impl Busy {
    /// From now on until the guard is dropped.
    pub(super) fn begin(&self) -> Guard {
        self.0.store(true, Ordering::Release);
        Guard(self.clone())
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

pub(super) struct Guard(Busy);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Busy,
    Idle,
}

pub(super) struct Paced<S> {
    io: S,
    pace: Pace,
    busy: Busy,
    stage: Stage,
    /// What was read already, and is going to be read again.
    early: Vec<u8>,
    reading: Pin<Box<Sleep>>,
    /// Set while the client does not read.
    writing: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    pub(super) fn new(io: S, pace: Pace) -> Self {
        let reading = Box::pin(sleep(pace.head));
        Self { io, pace, busy: Busy::default(), stage: Stage::Head, early: Vec::new(), reading, writing: None }
    }

    pub(super) fn busy(&self) -> Busy {
        self.busy.clone()
    }

    fn enter(&mut self, stage: Stage, limit: Duration) {
        self.stage = stage;
        self.reading.as_mut().reset(Instant::now() + limit);
    }

    fn written<T>(&mut self, cx: &mut Context, result: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.writing = None;
            return result;
        }
        let limit = self.pace.write;
        ready!(self.writing.get_or_insert_with(|| Box::pin(sleep(limit))).as_mut().poll(cx));
        Poll::Ready(Err(late("the client does not read")))
    }
}

fn late(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// Whether the head of a request is complete in what was read, of which the part before `from` was looked at already.
fn has_head(read: &[u8], from: usize) -> bool {
    let unseen = read.get(from.saturating_sub(2)..).unwrap_or_default();
    unseen.windows(3).any(|bytes| bytes == b"\n\r\n" || bytes.starts_with(b"\n\n")) || unseen.ends_with(b"\n\n")
}

impl<S: AsyncRead + Unpin> Paced<S> {
    /// Waits for the head of the first request, or for as much of it as anybody would read. Nothing is consumed.
    pub(super) async fn head(&mut self, most: usize) -> io::Result<()> {
        let mut read = Vec::new();
        while read.len() < most {
            // On the stack while something is read, and nowhere while nothing comes.
            let arrived = poll_fn(|cx| {
                let mut bytes = [0; 4096];
                let mut buffer = ReadBuf::new(&mut bytes);
                ready!(Pin::new(&mut *self).poll_read(cx, &mut buffer))?;
                read.reserve_exact(buffer.filled().len());
                read.extend_from_slice(buffer.filled());
                Poll::Ready(io::Result::Ok(buffer.filled().len()))
            })
            .await?;
            if arrived == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if has_head(&read, read.len() - arrived) {
                break;
            }
        }
        self.early = read;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context, buffer: &mut ReadBuf) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.early.is_empty() {
            let taken = this.early.len().min(buffer.remaining());
            buffer.put_slice(&this.early[..taken]);
            this.early.drain(..taken);
            if this.early.is_empty() {
                this.early = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        if this.busy.get() {
            this.stage = Stage::Busy;
            return Pin::new(&mut this.io).poll_read(cx, buffer);
        }
        if this.stage == Stage::Busy {
            this.enter(Stage::Idle, this.pace.idle);
        }
        match Pin::new(&mut this.io).poll_read(cx, buffer) {
            Poll::Ready(result) => {
                if this.stage == Stage::Idle {
                    this.enter(Stage::Head, this.pace.head);
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                ready!(this.reading.as_mut().poll(cx));
                Poll::Ready(Err(late(if this.stage == Stage::Idle { "idle" } else { "the request is late" })))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.written(cx, result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_flush(cx);
        self.written(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.io).poll_shutdown(cx);
        self.written(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context,
        bytes: &[io::IoSlice],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
