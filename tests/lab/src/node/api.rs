//! The part of the kubelet's own API that the lab has: `kubectl logs`. Served to the API server alone.

use std::{collections::HashMap, convert::Infallible, io, net::Ipv4Addr, sync::Arc, time::Duration};

use daemon::socket::listen;
use futures::{Stream, StreamExt as _, stream};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Bytes, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{
    logs::{Line, Log},
    machine::Machine,
};
use crate::controlplane::{NODE_PORT, NodeTls};

type Body = BoxBody<Bytes, Infallible>;

const HANDSHAKE: Duration = Duration::from_secs(5);

/// Why a node's API is not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The port.
    #[error("listen on {0}:{NODE_PORT}: {1}")]
    Listen(Ipv4Addr, #[source] io::Error),
    /// Keys and certificates.
    #[error("TLS of the nodes: {0}")]
    Tls(String),
}

/// What serves every node's API.
#[derive(Clone)]
pub struct Server {
    machine: Arc<Machine>,
    tls: TlsAcceptor,
}

impl Server {
    /// A server that only clients with a certificate of the lab's authority can use.
    pub fn new(machine: Arc<Machine>, tls: &NodeTls) -> Result<Self, Error> {
        let failed = |e: &dyn std::fmt::Display| Error::Tls(e.to_string());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(tls.authority.as_bytes()) {
            roots.add(certificate.map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
        }
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(|e| failed(&e))?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(tls.serving.certificate.as_bytes()).collect();
        let key = PrivateKeyDer::from_pem_slice(tls.serving.key.as_bytes()).map_err(|e| failed(&e))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| failed(&e))?
            .with_client_cert_verifier(clients)
            .with_single_cert(chain.map_err(|e| failed(&e))?, key)
            .map_err(|e| failed(&e))?;
        Ok(Self { machine, tls: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Serves one node's API until `stop`.
    pub async fn run(self, address: Ipv4Addr, stop: CancellationToken) -> Result<(), Error> {
        let listener = listen((address, NODE_PORT).into()).map_err(|e| Error::Listen(address, e))?;
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(_) = connections.join_next() => {}
                accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                    connections.spawn(self.clone().connection(stream));
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream) {
        let Ok(Ok(stream)) = timeout(HANDSHAKE, self.tls.accept(stream)).await else { return };
        let service = service_fn(|request| self.answer(request));
        // What ends a connection is the API server's affair.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let path: Vec<_> = request.uri().path().trim_matches('/').split('/').collect();
        Ok(match path[..] {
            ["healthz"] => text(StatusCode::OK, "ok"),
            ["containerLogs", namespace, pod, container] => {
                match Wanted::parse(request.uri().query().unwrap_or_default()) {
                    Ok(wanted) => self.logs(namespace, pod, container, wanted).await,
                    Err(problem) => text(StatusCode::BAD_REQUEST, problem),
                }
            }
            _ => text(StatusCode::NOT_IMPLEMENTED, "the lab's nodes offer logs only: no exec, attach or port-forward"),
        })
    }

    async fn logs(&self, namespace: &str, pod: &str, container: &str, wanted: Wanted) -> Response<Body> {
        let api: Api<Pod> = Api::namespaced(self.machine.client.clone(), namespace);
        let uid = match api.get_opt(pod).await {
            Ok(pod) => pod.and_then(|p| p.metadata.uid).unwrap_or_default(),
            Err(e) => return text(StatusCode::BAD_GATEWAY, e.to_string()),
        };
        let Some(log) = self.machine.logs.find(&uid, container) else {
            return text(StatusCode::NOT_FOUND, format!("container {container} of pod {namespace}/{pod} has no log"));
        };
        let body = StreamBody::new(lines(log, wanted).map(|bytes| Ok(Frame::data(bytes))));
        Response::new(BodyExt::boxed(body))
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = status;
    response
}

/// What `kubectl logs` asks for.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    follow: bool,
    previous: bool,
    timestamps: bool,
    tail: Option<usize>,
    since: Option<Timestamp>,
    limit: Option<usize>,
}

impl Wanted {
    fn parse(query: &str) -> Result<Self, String> {
        let mut wanted = Self::default();
        let values: HashMap<_, _> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        for (name, value) in values {
            let bad = || format!("{name}={value} is not understood");
            match name {
                "follow" => wanted.follow = value == "true",
                "previous" => wanted.previous = value == "true",
                "timestamps" => wanted.timestamps = value == "true",
                "tailLines" => wanted.tail = Some(value.parse().map_err(|_| bad())?),
                "limitBytes" => wanted.limit = Some(value.parse().map_err(|_| bad())?),
                "sinceSeconds" => {
                    let seconds = value.parse().map_err(|_| bad())?;
                    wanted.since = Timestamp::now().checked_sub(SignedDuration::from_secs(seconds)).ok();
                }
                "sinceTime" => wanted.since = Some(value.replace("%3A", ":").parse().map_err(|_| bad())?),
                _ => {}
            }
        }
        Ok(wanted)
    }

    /// The lines to show of those that are kept, for the container's current run.
    fn choose(&self, lines: Vec<Line>, run: u32) -> Vec<Line> {
        let run = if self.previous { run.checked_sub(1) } else { Some(run) };
        let since = self.since.unwrap_or(Timestamp::MIN);
        let mut chosen: Vec<_> = lines.into_iter().filter(|l| Some(l.run) == run && l.at >= since).collect();
        if let Some(tail) = self.tail {
            chosen.drain(..chosen.len().saturating_sub(tail));
        }
        chosen
    }

    fn print(&self, lines: &[Line]) -> Bytes {
        let mut text = String::new();
        for line in lines {
            if self.timestamps {
                text += &line.at.to_string();
                text.push(' ');
            }
            text += &line.text;
            text.push('\n');
        }
        text.into()
    }
}

/// The kept lines, then, if asked for, every further one as it is written.
fn lines(log: Arc<Log>, wanted: Wanted) -> impl Stream<Item = Bytes> {
    let follow = log.follow();
    let (kept, next) = log.read(0);
    let mut first = wanted.print(&wanted.choose(kept, log.run()));
    if let Some(limit) = wanted.limit {
        first.truncate(limit);
    }
    let following = wanted.follow && !wanted.previous;
    let rest = stream::unfold((log, follow, next, wanted), |(log, mut follow, from, wanted)| async move {
        follow.wait_for(|written| *written > from).await.ok()?;
        let (lines, next) = log.read(from);
        Some((wanted.print(&lines), (log, follow, next, wanted)))
    });
    let rest = if following { rest.left_stream() } else { stream::empty().right_stream() };
    stream::iter([first]).filter(|bytes| std::future::ready(!bytes.is_empty())).chain(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> Arc<Log> {
        let log = Arc::new(Log::default());
        for (second, text) in ["old", "one", "two", "three"].into_iter().enumerate() {
            let at = Timestamp::from_second(i64::try_from(second).expect("small")).expect("a time");
            log.begin_run(u32::from(second > 0));
            log.write(at, text.to_owned());
        }
        log
    }

    async fn shown(query: &str) -> String {
        let wanted = Wanted::parse(query).expect("valid");
        let bytes: Vec<_> = lines(log(), wanted).collect().await;
        String::from_utf8(bytes.concat()).expect("text")
    }

    #[tokio::test]
    async fn queries_of_kubectl_choose_lines() {
        for (query, expected) in [
            ("", "one\ntwo\nthree\n"),
            ("tailLines=1", "three\n"),
            ("previous=true", "old\n"),
            ("limitBytes=5", "one\nt"),
            ("tailLines=1&timestamps=true", "1970-01-01T00:00:03Z three\n"),
            ("sinceTime=1970-01-01T00%3A00%3A02Z", "two\nthree\n"),
        ] {
            assert_eq!(shown(query).await, expected, "{query}");
        }
        Wanted::parse("tailLines=x").expect_err("not a number");
    }

    #[tokio::test]
    async fn following_shows_what_is_written_later() {
        let log = log();
        let mut stream = Box::pin(lines(Arc::clone(&log), Wanted::parse("follow=true&tailLines=0").expect("valid")));
        log.write(Timestamp::UNIX_EPOCH, "four".to_owned());
        assert_eq!(stream.next().await.expect("a line"), "four\n");
    }
}
