//! An HTTP/1.1 server that silent, slow and greedy clients cannot hold: every stage of a connection has a deadline, what all
//! connections take has a limit, and where there is no room left those go that have been of no use for longest.
//!
//! What is spoken below HTTP is the caller's: a [`Transport`] turns an accepted socket into a stream.

mod connection;
mod paced;
mod room;

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    service::Service,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use self::{connection::Terms, room::Room};
pub use self::{paced::Pace, room::Seat};

/// How long to wait after the operating system refused a connection, for want of file descriptors say.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);

/// What is spoken below HTTP.
pub trait Transport: Clone + Send + Sync + 'static {
    /// What HTTP is spoken over. Small, because every connection holds one: large ones go into a box.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Shakes hands; the server bounds how long that takes. Large futures go into a box as soon as the client has begun.
    fn accept(&self, stream: TcpStream) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Nothing: plain HTTP.
#[derive(Debug, Clone, Copy)]
pub struct Plain;

impl Transport for Plain {
    type Stream = TcpStream;

    async fn accept(&self, stream: TcpStream) -> io::Result<TcpStream> {
        Ok(stream)
    }
}

/// What a client may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How many bytes all connections may take together, each counted for the most that it can take at its stage: 8 KiB
    /// until there is a request, 40 KiB from then on, and what a [`Seat`] is told. Where there is no room, connections are
    /// closed in this order: those that never got an answer, the oldest first, then those whose last answer is oldest.
    pub memory: usize,
    /// How long the handshake may take.
    pub handshake: Duration,
    /// How long the stages of a connection may take.
    pub pace: Pace,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory: 80 * 1024 * 1024, handshake: Duration::from_secs(3), pace: Pace::default() }
    }
}

/// How a server ends.
#[derive(Debug, Clone)]
pub struct Shutdown {
    /// Begins the end.
    pub stop: CancellationToken,
    /// For how long connections are still accepted then: as long as it may take until nobody is sent here any more.
    /// Every answer closes its connection meanwhile.
    pub linger: Duration,
}

/// Serves until shutdown is over: nothing is accepted any more, and what was asked has been answered.
///
/// Returns an error never, so far; what happens to one connection ends that one alone.
pub async fn serve<T, V, B>(
    listener: TcpListener,
    transport: T,
    service: V,
    limits: Limits,
    shutdown: Shutdown,
) -> Result<(), Infallible>
where
    T: Transport,
    V: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + Sync + 'static,
    V::Future: Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: std::error::Error + Send + Sync,
{
    let room = Arc::new(Room::new(limits.memory));
    let closing = CancellationToken::new();
    let terms = Arc::new(Terms { limits, stop: shutdown.stop.clone(), closing: closing.clone() });
    let mut connections = JoinSet::new();
    let lingering = async {
        shutdown.stop.cancelled().await;
        sleep(shutdown.linger).await;
    };
    tokio::pin!(lingering);
    loop {
        let accepted = tokio::select! {
            () = &mut lingering => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (transport, service, terms) = (transport.clone(), service.clone(), Arc::clone(&terms));
                connections.spawn(connection::run(stream, transport, service, room.seat(), terms));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(AFTER_ACCEPT_ERROR).await;
            }
        }
    }
    drop(listener);
    closing.cancel();
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
    Ok(())
}

/// A panic ends its connection alone; its message is on standard error.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection ended by a bug");
    }
}
