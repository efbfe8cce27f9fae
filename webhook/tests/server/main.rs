//! The server on real sockets: certificates that change under load, and clients that mean harm.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod client;
mod hostile;
mod kubelet;
mod rotation;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use daemon::{
    http::{Limits, Shutdown, serve},
    readiness::Readiness,
};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use webhook::{
    certificates::{Certificates, MinimalVersion},
    metrics::Metrics,
    server::App,
};

use self::kubelet::{Authority, Volume};

/// A running server, which ends with this value.
struct Server {
    address: SocketAddr,
    authority: Authority,
    volume: Volume,
    metrics: Arc<Metrics>,
    _tasks: JoinSet<()>,
    _stop: DropGuard,
}

impl Server {
    async fn start(name: &str) -> Self {
        let authority = Authority::new();
        let volume = Volume::new(name, &authority.issue(2020..2040));
        let metrics = Arc::new(Metrics::register(&mut Registry::default()));
        let certificates = Certificates::load(&volume.path, MinimalVersion::Tls13, Arc::clone(&metrics)).await.unwrap();
        let synced = Readiness::default().condition("cache", "");
        synced.met("");
        let app = Arc::new(App::new(Arc::default(), vec![synced], Arc::clone(&metrics)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let shutdown = Shutdown { stop: stop.clone(), linger: Duration::ZERO };
        let mut tasks = JoinSet::new();
        let (tls, service) = (certificates.tls(), TowerToHyperService::new(app.router()));
        tasks.spawn(async move {
            let Ok(()) = serve(listener, tls, service, Limits::default(), shutdown).await;
        });
        let following = stop.clone();
        tasks.spawn(async move {
            let Ok(()) = certificates.follow(Duration::from_millis(100), following).await;
        });
        Self { address, authority, volume, metrics, _tasks: tasks, _stop: stop.drop_guard() }
    }

    async fn connect(&self) -> client::Connection {
        client::Connection::open(self.address, self.authority.roots()).await.unwrap()
    }
}
