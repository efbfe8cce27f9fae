//! A validating admission webhook for tests of the lab: allows everything, and prints one line per review and per
//! certificate that it loads.
//!
//! `review-server ADDRESS DIRECTORY`: serves HTTPS with `tls.crt` and `tls.key` of the directory, which it reads again by
//! content. After SIGTERM it goes on answering for a while, and each answer closes its connection: a client that just sends
//! on a connection that is closed as idle cannot know whether its request was read.

use std::{convert::Infallible, fs, path::Path, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use futures::future::OptionFuture;
use http::{HeaderValue, Request, Response, header::CONNECTION};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

const RELOAD: Duration = Duration::from_millis(200);
const LEAVING: Duration = Duration::from_secs(3);
const IN_FLIGHT: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Answers are the last ones of their connections.
    Leaving,
    /// Connections that are idle are closed.
    Closing,
}

#[tokio::main]
async fn main() -> Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let arguments: Vec<_> = std::env::args().collect();
    let [_, address, directory] = &arguments[..] else { anyhow::bail!("usage: review-server ADDRESS DIRECTORY") };
    let mut pair = read(Path::new(directory))?;
    let (acceptor, current) = watch::channel(load(&pair)?);
    let listener = daemon::socket::listen(address.parse()?).with_context(|| format!("listen on {address}"))?;
    println!("serving on {address}");
    let (mut terminate, mut ticks) = (signal(SignalKind::terminate())?, interval(RELOAD));
    let (set, phase) = watch::channel(Phase::Serving);
    let mut leaving = pin!(OptionFuture::from(None));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                println!("stopping");
                set.send_replace(Phase::Leaving);
                leaving.set(Some(sleep(LEAVING)).into());
            }
            Some(()) = &mut leaving => break,
            _ = ticks.tick() => {
                // A pair that is half replaced does not load, and is read again.
                if let Ok(fresh) = read(Path::new(directory)) && fresh != pair && let Ok(config) = load(&fresh) {
                    pair = fresh;
                    acceptor.send_replace(config);
                }
            }
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(serve(stream, current.borrow().clone(), phase.clone()));
            }
        }
    }
    drop(listener);
    set.send_replace(Phase::Closing);
    let _ = timeout(IN_FLIGHT, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

fn read(directory: &Path) -> Result<(Vec<u8>, Vec<u8>)> {
    Ok((fs::read(directory.join("tls.crt"))?, fs::read(directory.join("tls.key"))?))
}

fn load((certificate, key): &(Vec<u8>, Vec<u8>)) -> Result<TlsAcceptor> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>()?;
    let length: usize = chain.iter().map(|c| c.len()).sum();
    let sum =
        chain.iter().flat_map(|c| c.iter()).fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(*b)));
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_slice(key)?)?;
    println!("certificate {sum:08x} of {length} bytes");
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, mut phase: watch::Receiver<Phase>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let now = phase.clone();
    let answer = service_fn(move |request| review(request, *now.borrow()));
    let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    tokio::select! {
        _ = &mut connection => return,
        _ = phase.wait_for(|phase| *phase == Phase::Closing) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn review(request: Request<Incoming>, phase: Phase) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let request = &review["request"];
    println!("review {} {}/{}", request["operation"], request["namespace"], request["name"]);
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": request["uid"], "allowed": true},
    });
    let mut response = Response::new(Full::from(answer.to_string()));
    if phase != Phase::Serving {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}
