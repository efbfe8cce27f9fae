//! One connection from its first byte to its last.

use std::{convert::Infallible, sync::Arc};

use http::{HeaderValue, Request, Response, header::CONNECTION};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{Limits, Transport, paced::Paced, room::Seat};

/// For the head of a request, and for the part of the body that is read at once: as much as a record of TLS holds.
pub(super) const BUFFER: usize = 16 * 1024;

/// What holds for all connections of a server.
pub(super) struct Terms {
    pub(super) limits: Limits,
    /// Answers close their connections from now on.
    pub(super) stop: CancellationToken,
    /// Connections on which nothing is asked end.
    pub(super) closing: CancellationToken,
}

/// Serves one connection until it ends, or has to go.
pub(super) async fn run<T, V, B>(stream: TcpStream, transport: T, service: V, seat: Seat, terms: Arc<Terms>)
where
    T: Transport,
    V: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let go = seat.go();
    tokio::select! {
        () = go.notified() => tracing::debug!("a connection is closed to make room for others"),
        () = stages(stream, transport, service, seat, terms) => {}
    }
}

/// Every stage takes its memory when it begins and not before: connections that mean harm seldom get far.
async fn stages<T, V, B>(stream: TcpStream, transport: T, service: V, seat: Seat, terms: Arc<Terms>)
where
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
    let stream = match timeout(terms.limits.handshake, transport.accept(stream)).await {
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
    let mut io = Paced::new(stream, terms.limits.pace);
    match terms.closing.run_until_cancelled(io.head(BUFFER)).await {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            tracing::debug!(%error, "no request");
            return;
        }
        None => return,
    }
    seat.speaks();
    Box::pin(http(io, service, Arc::new(seat), &terms)).await;
}

/// HTTP takes 16 KiB for a connection at once, so it begins when there is a request.
async fn http<S, V, B>(io: Paced<S>, service: V, seat: Arc<Seat>, terms: &Terms)
where
    S: AsyncRead + AsyncWrite + Unpin,
    V: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: std::error::Error + Send + Sync,
{
    let busy = io.busy();
    let answer = service_fn(|mut request: Request<Incoming>| {
        let guard = busy.begin();
        request.extensions_mut().insert(Arc::clone(&seat));
        let (answered, seat) = (service.call(request), &seat);
        async move {
            let _guard = guard;
            let mut response = answered.await?;
            seat.answered();
            if terms.stop.is_cancelled() {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        // Without one, hyper does not read between two requests, and nobody would notice that a connection is idle.
        .header_read_timeout(terms.limits.pace.idle)
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(io), answer);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = terms.closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection");
    }
}
