//! One health check on a real socket.

use std::{error::Error, io, net::SocketAddrV4, time::Duration};

use aws_model::{Check, Probe, ProbeOutcome};
use http_body_util::Empty;
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::dial::dial;

/// What NLB and ALB nodes call themselves.
const AGENT: &str = "ELB-HealthChecker/2.0";

/// Connects and, for HTTP, asks; all of it in `limit` of real time.
pub(super) async fn run(probe: &Probe, limit: Duration) -> ProbeOutcome {
    match timeout(limit, check(probe)).await {
        Err(_) => ProbeOutcome::TimedOut,
        Ok(Err(Failure::Io(error))) => outcome(&error),
        Ok(Err(Failure::Other(reason))) => ProbeOutcome::Failed(reason),
        Ok(Ok(outcome)) => outcome,
    }
}

/// Why a check did not get as far as an answer.
enum Failure {
    Io(io::Error),
    Other(String),
}

async fn check(probe: &Probe) -> Result<ProbeOutcome, Failure> {
    let mut stream = dial(Some(probe.from), probe.to).await.map_err(Failure::Io)?;
    if let Some(header) = &probe.proxy_header {
        stream.write_all(header).await.map_err(Failure::Io)?;
    }
    match &probe.check {
        Check::Tcp => Ok(ProbeOutcome::Connected),
        Check::Http { tls: true, .. } => Err(Failure::Other("HTTPS health checks are not in the lab".to_owned())),
        Check::Http { path, host, tls: false } => get(stream, path, host, probe.to).await,
    }
}

async fn get(stream: TcpStream, path: &str, host: &str, to: SocketAddrV4) -> Result<ProbeOutcome, Failure> {
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| Failure::Other(format!("no request can be made for path {path:?} of {to}: {e}")))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| failure(&e))?;
    let answer = sender.send_request(request);
    tokio::pin!(answer);
    // The connection has to be driven, and may be over before its answer is picked up.
    let answer = tokio::select! {
        answer = &mut answer => answer,
        _ = connection => answer.await,
    };
    Ok(ProbeOutcome::Status(answer.map_err(|e| failure(&e))?.status().as_u16()))
}

fn failure(error: &hyper::Error) -> Failure {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            return Failure::Io(io::Error::new(error.kind(), error.to_string()));
        }
        source = cause.source();
    }
    Failure::Other(if error.is_incomplete_message() || error.is_canceled() {
        "the connection was closed before an answer".to_owned()
    } else {
        error.to_string()
    })
}

fn outcome(error: &io::Error) -> ProbeOutcome {
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            ProbeOutcome::Refused
        }
        io::ErrorKind::TimedOut => ProbeOutcome::TimedOut,
        _ => ProbeOutcome::Failed(error.to_string()),
    }
}
