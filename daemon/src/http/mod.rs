//! An HTTP/1.1 server that silent, slow and greedy clients cannot hold: every stage of a connection has a deadline, and
//! the number of connections a limit.
//!
//! What is spoken below HTTP is the caller's: a [`Transport`] turns an accepted socket into a stream.

mod paced;

use std::{convert::Infallible, io, time::Duration};

use http::{HeaderValue, Request, Response, header::CONNECTION};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

pub use self::paced::Pace;
use self::paced::Paced;

/// How long to wait after the operating system refused a connection, for want of file descriptors say.
const AFTER_ACCEPT_ERROR: Duration = Duration::from_millis(100);
/// Room for the head of a request, and for the part of the body that is read at once.
const BUFFER: usize = 64 * 1024;

/// What is spoken below HTTP.
pub trait Transport: Clone + Send + Sync + 'static {
    /// What HTTP is spoken over.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Shakes hands; the server bounds how long that takes.
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
    /// How many connections there are at most; others wait to be accepted.
    pub connections: usize,
    /// How long the handshake may take.
    pub handshake: Duration,
    /// How long the stages of a connection may take.
    pub pace: Pace,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 8192, handshake: Duration::from_secs(3), pace: Pace::default() }
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
    let room = std::sync::Arc::new(Semaphore::new(limits.connections));
    let closing = CancellationToken::new();
    let mut connections = JoinSet::new();
    let lingering = async {
        shutdown.stop.cancelled().await;
        sleep(shutdown.linger).await;
    };
    tokio::pin!(lingering);
    loop {
        let accept = async {
            // The semaphore is never closed.
            let permit = std::sync::Arc::clone(&room).acquire_owned().await.ok();
            (listener.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            () = &mut lingering => break,
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(AFTER_ACCEPT_ERROR).await;
                continue;
            }
        };
        let connection = connection(
            stream,
            transport.clone(),
            service.clone(),
            limits.clone(),
            shutdown.stop.clone(),
            closing.clone(),
        );
        connections.spawn(async move {
            connection.await;
            drop(permit);
        });
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

async fn connection<T, V, B>(
    stream: TcpStream,
    transport: T,
    service: V,
    limits: Limits,
    stop: CancellationToken,
    closing: CancellationToken,
) where
    T: Transport,
    V: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    // Answers are written whole: waiting for more to send would only wait for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection was gone at once");
        return;
    }
    let stream = match timeout(limits.handshake, transport.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "handshake");
            return;
        }
        Err(_) => {
            tracing::debug!("handshake took too long");
            return;
        }
    };
    let (io, busy) = Paced::new(stream, limits.pace);
    let answer = service_fn(|request| {
        let busy = busy.clone();
        let answered = {
            busy.begin();
            service.call(request)
        };
        let stop = &stop;
        async move {
            let _busy = busy.until_dropped();
            let mut response = answered.await?;
            if stop.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // Without one, hyper does not read between two requests, and nobody would notice that a connection is idle.
        .header_read_timeout(limits.pace.idle)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(io), answer);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection");
    }
}
