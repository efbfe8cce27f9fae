//! One health check on a real socket.

use std::{error::Error, io, time::Duration};

use aws_model::{Check, Probe, ProbeOutcome};
use http_body_util::Empty;
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1,
    header::{CONNECTION, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

use super::{dial::dial, tls};

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
        Check::Http { path, host, tls: false } => get(stream, path, host).await,
        Check::Http { path, host, tls: true } => {
            let stream = tls::connect(stream, probe.to.ip()).await.map_err(Failure::Io)?;
            get(stream, path, host).await
        }
    }
}

async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    path: &str,
    host: &str,
) -> Result<ProbeOutcome, Failure> {
    let request = Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, AGENT)
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| Failure::Other(format!("no request can be made for path {path:?}: {e}")))?;
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

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr, SocketAddr},
        sync::Arc,
    };

    use aws_model::ProbeId;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{ServerConfig, crypto::ring, pki_types::PrivatePkcs8KeyDer},
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);
    const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 99));

    fn probe(to: SocketAddr, check: Check) -> Probe {
        Probe { id: ProbeId(1), from: NODE, to, check, timeout: LIMIT, proxy_header: None }
    }

    fn http(path: &str) -> Check {
        Check::Http { path: path.to_owned(), host: "127.0.0.99:80".to_owned(), tls: false }
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let at = listener.local_addr().expect("bound");
        (listener, at)
    }

    /// Runs `probe` against a server that reads to the end of a request, answers with `answer` and closes. Gives the
    /// outcome, the request and who asked.
    async fn against(probe: &Probe, listener: TcpListener, answer: &[u8]) -> (ProbeOutcome, String, SocketAddr) {
        let server = async {
            let (mut stream, from) = listener.accept().await.expect("the probe");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let n = stream.read_buf(&mut request).await.expect("the probe sends");
                assert_ne!(n, 0, "closed in the middle of a request");
            }
            stream.write_all(answer).await.expect("the probe reads");
            (String::from_utf8_lossy(&request).into_owned(), from)
        };
        let (outcome, (request, from)) = tokio::join!(run(probe, LIMIT), server);
        (outcome, request, from)
    }

    #[tokio::test]
    async fn tcp_check_passes_where_something_listens_and_comes_from_the_nodes_address() {
        let (listener, at) = listener().await;
        let probe = probe(at, Check::Tcp);
        let (outcome, accepted) = tokio::join!(run(&probe, LIMIT), listener.accept());
        assert_eq!(outcome, ProbeOutcome::Connected);
        assert_eq!(accepted.expect("the probe").1.ip(), NODE);
        drop(listener);
        assert_eq!(run(&probe, LIMIT).await, ProbeOutcome::Refused);
    }

    #[tokio::test]
    async fn http_check_asks_as_a_node_does_and_gives_the_status_whatever_follows_it() {
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200),
            ("HTTP/1.0 503 Service Unavailable\r\n\r\n", 503),
            ("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 100\r\n\r\nnot all of it", 302),
        ] {
            let (listener, at) = listener().await;
            let (outcome, request, from) = against(&probe(at, http("/healthz?a=b")), listener, answer.as_bytes()).await;
            assert_eq!(outcome, ProbeOutcome::Status(status), "{answer}");
            assert!(request.starts_with("GET /healthz?a=b HTTP/1.1\r\n"), "{request}");
            assert!(request.to_lowercase().contains("\r\nhost: 127.0.0.99:80\r\n"), "{request}");
            assert!(request.contains("ELB-HealthChecker/2.0"), "{request}");
            assert_eq!(from.ip(), NODE);
        }
    }

    #[tokio::test]
    async fn http_check_fails_with_the_reason() {
        for (answer, says) in
            [("", "closed before an answer"), ("HTTP/1.1 2", "closed before an answer"), ("SSH-2.0-x\r\n\r\n", "")]
        {
            let (listener, at) = listener().await;
            let (outcome, ..) = against(&probe(at, http("/")), listener, answer.as_bytes()).await;
            assert!(
                matches!(&outcome, ProbeOutcome::Failed(reason) if reason.contains(says)),
                "{answer:?}: {outcome:?}"
            );
        }
        let (_listener, at) = listener().await;
        let outcome = run(&probe(at, http("not a path\n")), LIMIT).await;
        assert!(matches!(&outcome, ProbeOutcome::Failed(reason) if reason.contains("path")), "{outcome:?}");
    }

    #[tokio::test]
    async fn http_check_that_is_reset_was_refused() {
        let (listener, at) = listener().await;
        let probe = probe(at, http("/"));
        let server = async {
            let (stream, _) = listener.accept().await.expect("the probe");
            stream.readable().await.expect("a request");
            super::super::relay::reset(stream);
        };
        assert_eq!(tokio::join!(run(&probe, LIMIT), server).0, ProbeOutcome::Refused);
    }

    #[tokio::test]
    async fn https_check_takes_any_certificate_and_plain_text_is_a_failure() {
        let signed = rcgen::generate_simple_self_signed(["somebody.else".to_owned()]).expect("a certificate");
        let key = PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("defaults")
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key.into())
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (listener, at) = listener().await;
        let probe = probe(at, Check::Http { path: "/".to_owned(), host: "127.0.0.99:443".to_owned(), tls: true });
        let server = async {
            let (stream, _) = listener.accept().await.expect("the probe");
            let mut stream = acceptor.accept(stream).await.expect("a handshake");
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.expect("open");
            stream.flush().await.expect("open");
            stream
        };
        assert_eq!(tokio::join!(run(&probe, LIMIT), server).0, ProbeOutcome::Status(204));
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("the probe");
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("open");
            stream
        };
        let outcome = tokio::join!(run(&probe, LIMIT), server).0;
        assert!(matches!(outcome, ProbeOutcome::Failed(_)), "{outcome:?}");
    }

    #[tokio::test]
    async fn http_check_without_an_answer_times_out() {
        let (_silent, at) = listener().await;
        assert_eq!(run(&probe(at, http("/")), Duration::from_millis(50)).await, ProbeOutcome::TimedOut);
    }

    #[tokio::test]
    async fn proxy_header_comes_before_the_request() {
        let (listener, at) = listener().await;
        let probe = Probe { proxy_header: Some(b"HEADER".to_vec()), ..probe(at, http("/")) };
        let (outcome, request, _) = against(&probe, listener, b"HTTP/1.1 200 OK\r\n\r\n").await;
        assert_eq!(outcome, ProbeOutcome::Status(200));
        assert!(request.starts_with("HEADERGET / "), "{request}");
    }
}
