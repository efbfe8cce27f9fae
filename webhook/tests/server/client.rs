//! A client that speaks as API servers do: HTTP/1.1 over TLS 1.3, over connections that it keeps.

use std::{io, net::SocketAddr, sync::Arc};

use http::{Request, Response, StatusCode, header::HOST};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Bytes,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::kubelet::NAME;

/// TLS with a server, without HTTP.
pub(crate) async fn handshake(address: SocketAddr, roots: RootCertStore) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from(NAME).map_err(io::Error::other)?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// One connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    /// The certificate that the server showed.
    pub(crate) certificate: Vec<u8>,
    _driver: JoinSet<()>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr, roots: RootCertStore) -> io::Result<Self> {
        let stream = handshake(address, roots).await?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first).map(|c| c.to_vec());
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, certificate: certificate.unwrap_or_default(), _driver: driver })
    }

    pub(crate) async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> io::Result<Response<Bytes>> {
        let request = Request::post(path)
            .header(HOST, NAME)
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .map_err(io::Error::other)?;
        self.sender.ready().await.map_err(io::Error::other)?;
        let (parts, body) = self.sender.send_request(request).await.map_err(io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        Ok(Response::from_parts(parts, body))
    }

    /// A review that must be answered.
    pub(crate) async fn review(&mut self) -> io::Result<()> {
        let response = self.post("/mutate-v1-pod", REVIEW).await?;
        let fine = response.status() == StatusCode::OK && response.body().ends_with(b"\"allowed\":true}}");
        if fine { Ok(()) } else { Err(io::Error::other(format!("{response:?}"))) }
    }
}

/// A review of a pod that nothing concerns.
pub(crate) const REVIEW: &str = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u",
    "operation":"CREATE","namespace":"team","object":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[]}}}}"#;
