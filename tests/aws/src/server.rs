//! An HTTP/1.1 server that a slow or dead client cannot hold up: limits on headers and bodies, a deadline for each, and
//! a bound on connections.

use std::{convert::Infallible, error::Error as StdError, io, net::SocketAddr, sync::Arc, time::Duration};

use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// The largest body that is read: a thousand targets with every field are 200 KB.
const MAX_BODY: usize = 1 << 20;
/// The largest request line and headers together.
const MAX_HEAD: usize = 64 << 10;
/// Time for a request's headers, the wait for the request included. Longer than clients keep idle connections (90 s is
/// usual), so that it is they who close them and no request meets a connection that is just going away.
const HEAD_DEADLINE: Duration = Duration::from_mins(2);
/// Time for a request's body.
const BODY_DEADLINE: Duration = Duration::from_secs(20);
/// Connections at once; more are closed as they come.
const MAX_CONNECTIONS: usize = 2048;
/// A listener that cannot accept (too many open files) tries again after this.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The address could not be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {purpose}: {source}")]
pub struct BindError {
    address: SocketAddr,
    purpose: &'static str,
    source: io::Error,
}

/// A request, read as a whole.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the reply is lost on purpose")]
pub(crate) struct Lost;

/// What answers requests.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, request: Received) -> impl Future<Output = Result<Response<Full<Bytes>>, Lost>> + Send;
}

/// Opens the socket.
pub(crate) fn bind(address: SocketAddr, purpose: &'static str) -> Result<TcpListener, BindError> {
    daemon::socket::listen(address).map_err(|source| BindError { address, purpose, source })
}

/// Serves until `stop`. Requests under way then are answered if they are quick.
pub(crate) async fn serve<H: Handler>(
    listener: TcpListener,
    handler: Arc<H>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                if let Err(panic) = ended {
                    tracing::error!(%panic, "a connection's task panicked");
                }
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                let _ = stream.set_nodelay(true);
                connections.spawn(connection(TokioIo::new(stream), Arc::clone(&handler), stop.clone()));
            }
            Ok((_, peer)) => tracing::warn!(%peer, "connection closed: {MAX_CONNECTIONS} are open"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _ = timeout(Duration::from_secs(1), async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

async fn connection<H: Handler>(io: TokioIo<tokio::net::TcpStream>, handler: Arc<H>, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = Arc::clone(&handler);
        async move {
            match receive(request).await {
                Ok(received) => handler.answer(received).await,
                Err(status) => Ok(plain(status)),
            }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // A client that has said all and closed its side still gets its answer.
        .half_close(true)
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(MAX_HEAD)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended
        && error.source().is_none_or(|cause| !cause.is::<Lost>())
    {
        tracing::debug!(%error, "connection ended");
    }
}

async fn receive(request: Request<Incoming>) -> Result<Received, StatusCode> {
    let (head, body) = request.into_parts();
    match timeout(BODY_DEADLINE, Limited::new(body, MAX_BODY).collect()).await {
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Ok(Err(_)) => Err(StatusCode::BAD_REQUEST),
        Ok(Ok(body)) => {
            Ok(Received { method: head.method, uri: head.uri, headers: head.headers, body: body.to_bytes() })
        }
    }
}

/// An answer without a body.
pub(crate) fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

/// An answer with a body. Headers that are not valid are left out.
pub(crate) fn reply(status: u16, headers: &[(&'static str, &str)], body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let Ok(value) = http::HeaderValue::from_str(value) {
            response.headers_mut().insert(*name, value);
        }
    }
    response
}
