//! `webhook serve`: everything that can fail at once fails before anything is served.

use std::{
    net::SocketAddr,
    sync::{Arc, RwLock},
    time::Duration,
};

use anyhow::{Context as _, Result};
use daemon::{
    admin::Admin,
    http::{Limits, Shutdown},
    readiness::Readiness,
    shutdown::on_signal,
    tasks::Tasks,
};
use hyper_util::service::TowerToHyperService;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{caches, certificates::Certificates, cli::Serve, metrics::Metrics, model, server::App, snapshot::Snapshot};

const CERTIFICATE_INTERVAL: Duration = Duration::from_secs(1);
const MIB: usize = 1024 * 1024;
/// How long reviews in flight have after the last connection was accepted.
const IN_FLIGHT: Duration = Duration::from_secs(10);

/// Serves until SIGTERM.
pub async fn run(arguments: Serve) -> Result<()> {
    let Serve {
        listen,
        admin_listen,
        connection_memory,
        linger_seconds,
        certificate_directory,
        tls_min_version,
        model,
        log: _,
    } = arguments;
    let settings = Arc::new(model::settings(&model)?);
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let certificates = Certificates::load(&certificate_directory, tls_min_version, Arc::clone(&metrics)).await?;
    let client = kube::Client::try_default().await.context("where the API server is")?;
    let (reviews, admin) = (bind(listen).await?, bind(admin_listen).await?);

    let readiness = Readiness::default();
    let serving = readiness.condition("serving", "starting");
    let services = readiness.condition("services", "not listed yet");
    let bindings = readiness.condition("bindings", "not listed yet");
    let shared = Arc::new(RwLock::new(Snapshot { settings, ..Snapshot::default() }));
    let app = Arc::new(App::new(Arc::clone(&shared), vec![services.clone(), bindings.clone()], Arc::clone(&metrics)));

    let stop = CancellationToken::new();
    let shutdown = Shutdown { stop: stop.clone(), linger: Duration::from_secs(linger_seconds) };
    let limits = Limits { memory: connection_memory.saturating_mul(MIB), ..Limits::default() };
    let mut tasks = Tasks::new(stop.clone());
    tasks.watch("signals", on_signal(stop.clone()));
    tasks.spawn(
        "services",
        caches::services(client.clone(), Arc::clone(&shared), services, Arc::clone(&metrics), stop.clone()),
    );
    tasks.spawn("bindings", caches::bindings(client, shared, bindings, metrics, stop.clone()));
    let tls = certificates.tls();
    tasks.spawn("certificates", certificates.follow(CERTIFICATE_INTERVAL, stop.clone()));
    tasks.spawn(
        "reviews",
        daemon::http::serve(reviews, tls, TowerToHyperService::new(app.router()), limits, shutdown.clone()),
    );
    let admin_server = Admin { readiness, registry: Arc::new(registry) };
    tasks.spawn("admin", admin_server.serve(admin, shutdown));
    serving.met("");
    tracing::info!(%listen, %admin_listen, "serving");
    let linger = Duration::from_secs(linger_seconds);
    tasks.spawn("readiness", async move {
        stop.cancelled().await;
        serving.unmet("shutting down");
        Ok::<_, std::convert::Infallible>(())
    });
    tasks.wait(linger + IN_FLIGHT).await?;
    tracing::info!("ended");
    Ok(())
}

/// With the library's own short queue of connections: API servers keep theirs open, and a flood beyond it waits outside.
async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))
}
