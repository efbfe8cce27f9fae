//! Carries out probes: HTTP, HTTPS and TCP, from the node's IPv4 address to the pod's, as the kubelet probes the first one.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use aws_emulator::dataplane::{dial::dial, tls};
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::Empty;
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// Why a probe counts as failed, in the words of the Event about it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The port is a name that no port of the container has.
    #[error("the container has no port named {0}")]
    UnknownPort(String),
    /// A handler that the lab does not carry out.
    #[error("the lab runs httpGet and tcpSocket probes only")]
    Unsupported,
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The connection failed.
    #[error("{0}")]
    Connect(#[from] std::io::Error),
    /// The request or the answer was not HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// The probe itself is not a request: a bad path or header.
    #[error("the probe is not a valid request: {0}")]
    Request(#[from] http::Error),
    /// An answer that is not a success.
    #[error("HTTP probe failed with statuscode: {0}")]
    Status(u16),
}

/// What the handler of a probe, or of a lifecycle hook, connects to.
#[derive(Debug, Clone)]
pub enum Target {
    /// A request that must be answered with a status from 200 to 399.
    Http {
        /// The request.
        action: Box<HTTPGetAction>,
        /// Its port.
        port: u16,
    },
    /// A connection that must be accepted.
    Tcp {
        /// Its port.
        port: u16,
    },
}

impl Target {
    /// Reads a probe.
    pub fn of_probe(probe: &Probe, container: &Container) -> Result<Self, Failure> {
        match (&probe.http_get, &probe.tcp_socket) {
            (Some(action), _) => Self::of_http(action, container),
            (None, Some(action)) => Ok(Self::Tcp { port: port(&action.port, container)? }),
            (None, None) => Err(Failure::Unsupported),
        }
    }

    /// Reads an HTTP handler.
    pub fn of_http(action: &HTTPGetAction, container: &Container) -> Result<Self, Failure> {
        Ok(Self::Http { action: Box::new(action.clone()), port: port(&action.port, container)? })
    }

    /// Tries once.
    pub async fn probe(&self, from: Ipv4Addr, pod: Ipv4Addr, limit: Duration) -> Result<(), Failure> {
        let attempt = async {
            match self {
                Self::Tcp { port } => {
                    dial(Some(from.into()), SocketAddrV4::new(pod, *port).into()).await.map(drop).map_err(Failure::from)
                }
                Self::Http { action, port } => get(action, *port, from, pod).await,
            }
        };
        timeout(limit, attempt).await.unwrap_or(Err(Failure::Timeout(limit)))
    }
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, Failure> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_ref() == Some(name))
            .map(|p| p.container_port)
            .or_else(|| name.parse().ok()),
    };
    number.and_then(|n| u16::try_from(n).ok()).ok_or_else(|| {
        Failure::UnknownPort(match port {
            IntOrString::Int(number) => number.to_string(),
            IntOrString::String(name) => name.clone(),
        })
    })
}

async fn get(action: &HTTPGetAction, port: u16, from: Ipv4Addr, pod: Ipv4Addr) -> Result<(), Failure> {
    let host: Ipv4Addr = action.host.as_ref().and_then(|h| h.parse().ok()).unwrap_or(pod);
    let to = SocketAddrV4::new(host, port);
    let stream = dial(Some(from.into()), to.into()).await?;
    let request = request(action, to)?;
    let status = if action.scheme.as_deref() == Some("HTTPS") {
        // As the kubelet's prober, this takes any certificate.
        send(request, tls::connect(stream, host.into()).await?).await?
    } else {
        send(request, stream).await?
    };
    if (200..400).contains(&status) { Ok(()) } else { Err(Failure::Status(status)) }
}

fn request(action: &HTTPGetAction, to: SocketAddrV4) -> Result<Request<Empty<Bytes>>, Failure> {
    let path = action.path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/");
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let mut request = Request::get(path).body(Empty::new())?;
    let headers = request.headers_mut();
    headers.insert(header::USER_AGENT, HeaderValue::from_static("kube-probe/1.36"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    headers.insert(header::HOST, HeaderValue::try_from(to.to_string()).map_err(http::Error::from)?);
    for header in action.http_headers.iter().flatten() {
        let name = HeaderName::try_from(&header.name).map_err(http::Error::from)?;
        headers.insert(name, HeaderValue::try_from(&header.value).map_err(http::Error::from)?);
    }
    Ok(request)
}

async fn send(
    request: Request<Empty<Bytes>>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<u16, Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let mut connection = std::pin::pin!(connection);
    let mut response = std::pin::pin!(sender.send_request(request));
    tokio::select! {
        response = &mut response => Ok(response?.status().as_u16()),
        // The connection ends before its answer is taken only where there is none, which the response then says.
        _ = &mut connection => Ok(response.await?.status().as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn target(probe: serde_json::Value, port: u16) -> Result<Target, Failure> {
        let container = json!({"name": "c", "ports": [{"name": "web", "containerPort": port}]});
        let (probe, container): (Probe, Container) =
            (serde_json::from_value(probe).expect("a probe"), serde_json::from_value(container).expect("a container"));
        Target::of_probe(&probe, &container)
    }

    async fn answer_once(listener: TcpListener, answer: &'static str) -> String {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut request = vec![0; 4096];
        let n = stream.read(&mut request).await.expect("read");
        stream.write_all(answer.as_bytes()).await.expect("write");
        String::from_utf8_lossy(&request[..n]).into_owned()
    }

    #[tokio::test]
    async fn http_probe_succeeds_from_200_to_399_and_sends_what_it_is_told_to() {
        let cases =
            [("200 OK", true), ("302 Found", true), ("399 X", true), ("404 Not Found", false), ("503 X", false)];
        for (status, success) in cases {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
            let port = listener.local_addr().expect("address").port();
            let answer: &'static str = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").leak();
            let probe = json!({"httpGet": {"path": "health?x=1", "port": "web", "httpHeaders": [{"name": "X-A", "value": "b"}]}});
            let target = target(probe, port).expect("a target");
            let (request, result) = tokio::join!(
                answer_once(listener, answer),
                target.probe(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, LIMIT)
            );
            assert_eq!(result.is_ok(), success, "{status}: {result:?}");
            assert!(request.starts_with("GET /health?x=1 HTTP/1.1\r\n") && request.contains("x-a: b\r\n"), "{request}");
        }
    }

    #[tokio::test]
    async fn tcp_probe_succeeds_where_somebody_listens() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let target = target(json!({"tcpSocket": {"port": port}}), port).expect("a target");
        target.probe(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, LIMIT).await.expect("accepted");
        drop(listener);
        target.probe(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, LIMIT).await.expect_err("refused");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_a_failure_at_the_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let target = target(json!({"httpGet": {"port": port}}), port).expect("a target");
        let result = target.probe(Ipv4Addr::LOCALHOST, Ipv4Addr::LOCALHOST, LIMIT).await;
        assert!(matches!(result, Err(Failure::Timeout(_))), "{result:?}");
    }

    #[test]
    fn unknown_port_names_and_unsupported_handlers_are_said() {
        let error = target(json!({"tcpSocket": {"port": "admin"}}), 80).expect_err("no such port").to_string();
        assert_eq!(error, "the container has no port named admin");
        let error = target(json!({"exec": {"command": ["true"]}}), 80).expect_err("not run").to_string();
        assert!(error.contains("httpGet and tcpSocket"), "{error}");
    }
}
