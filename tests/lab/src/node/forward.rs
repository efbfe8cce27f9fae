//! Serves the table of node ports: a listener per entry, opened and closed as the table changes.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_emulator::dataplane::dial::dial;
use daemon::socket::listen;
use futures::{StreamExt as _, stream};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use kube::{
    Api, Client,
    runtime::{WatchStreamExt as _, reflector, watcher},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    machine::NodeInfo,
    nodeport::{self, Forward},
};

/// Serves the node ports of these nodes until `stop`.
pub async fn run(client: Client, nodes: Vec<Arc<NodeInfo>>, stop: CancellationToken) {
    let nodes: Vec<NodeInfo> = nodes.iter().map(|node| NodeInfo::clone(node)).collect();
    let (services, services_writer) = reflector::store();
    let (slices, slices_writer) = reflector::store();
    let service_events = watcher(Api::<Service>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(services_writer)
        .map(|event| event.map(drop));
    let slice_events = watcher(Api::<EndpointSlice>::all(client), watcher::Config::default())
        .default_backoff()
        .reflect(slices_writer)
        .map(|event| event.map(drop));
    let mut events = stream::select(service_events.boxed(), slice_events.boxed());
    let mut listeners = Listeners::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => match event {
                Some(Ok(())) => {
                    let (services, slices) = (services.state(), slices.state());
                    let slices: Vec<_> = slices.iter().map(AsRef::as_ref).collect();
                    listeners.follow(nodeport::table(services.iter().map(AsRef::as_ref), &slices, &nodes));
                }
                Some(Err(error)) => tracing::debug!(%error, "watch of services and endpoint slices"),
                None => return,
            },
            Some(ended) = listeners.tasks.join_next() => if let Err(error) = ended && error.is_panic() {
                tracing::error!(%error, "a node port panicked");
            }
        }
    }
}

/// Open node ports. Their connections end with them.
#[derive(Default)]
struct Listeners {
    open: HashMap<SocketAddr, (watch::Sender<Forward>, AbortHandle)>,
    tasks: JoinSet<()>,
}

impl Listeners {
    fn follow(&mut self, table: BTreeMap<SocketAddr, Forward>) {
        self.open.retain(|at, (_, task)| {
            let wanted = table.contains_key(at);
            if !wanted {
                task.abort();
            }
            wanted
        });
        for (at, forward) in table {
            if let Some((sender, _)) = self.open.get(&at) {
                sender.send_if_modified(|current| {
                    let changed = *current != forward;
                    *current = forward;
                    changed
                });
                continue;
            }
            match listen(at) {
                Ok(listener) => {
                    let (sender, receiver) = watch::channel(forward);
                    let task = self.tasks.spawn(serve(listener, at, receiver));
                    self.open.insert(at, (sender, task));
                }
                // Tried again with the next change of any Service.
                Err(error) => tracing::warn!(%at, %error, "node port not opened"),
            }
        }
    }
}

async fn serve(listener: TcpListener, at: SocketAddr, forward: watch::Receiver<Forward>) {
    let turn = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => if let Ok((stream, client)) = accepted {
                let _ = stream.set_nodelay(true);
                let current = forward.borrow().clone();
                connections.spawn(connection(stream, client, at, current, Arc::clone(&turn)));
            }
        }
    }
}

async fn connection(
    mut stream: TcpStream,
    client: SocketAddr,
    at: SocketAddr,
    forward: Forward,
    turn: Arc<AtomicUsize>,
) {
    match forward {
        Forward::Pods { backends, .. } if backends.is_empty() => refuse(&stream),
        Forward::Pods { backends, keep_client } => {
            let backend = backends[turn.fetch_add(1, Ordering::Relaxed) % backends.len()];
            // Every address is this machine's, so the client's can be bound as well as the node's.
            let source = if keep_client { client } else { at };
            match dial(Some(source.ip()), backend).await {
                // An end in the middle is between client and pod.
                Ok(mut pod) => drop(copy_bidirectional(&mut stream, &mut pod).await),
                Err(_) => refuse(&stream),
            }
        }
        Forward::Health { service: (namespace, name), local } => {
            let status = if local > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            let body = serde_json::json!({
                "service": {"namespace": namespace, "name": name}, "localEndpoints": local,
            });
            let answer = service_fn(|_| {
                let mut response = Response::new(Full::<Bytes>::from(body.to_string()));
                *response.status_mut() = status;
                async { Ok::<_, Infallible>(response) }
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        }
    }
}

/// Lets the client see a reset, as it would where nobody listens.
fn refuse(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}
