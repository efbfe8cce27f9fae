//! The emulator: the rules of [`aws_model`] served over HTTP, sockets and DNS.
//!
//! [`serve`] starts all of it in this process. `tests/aws/README.md` is for those who write tests against it.

#![allow(clippy::doc_markdown, reason = "names of AWS operations and fields are the vocabulary here")]

mod api;
mod control;
pub mod dataplane;
pub mod dns;
mod engine;
mod journal;
mod server;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use api::Oidc;
use aws_model::{Model, Settings};
use daemon::tasks::{self, Tasks};
pub use engine::Engine;
pub use journal::{Error as JournalError, Journal};
pub use server::BindError;
use tokio_util::sync::CancellationToken;
use world::World;

/// A world of loopback addresses, for an emulator that runs on a machine's own network without any privilege.
pub const LOOPBACK_WORLD: &str = include_str!("../loopback.yaml");

/// Scales at which times of either kind stay far from what a [`Duration`] holds.
const TIME_SCALES: std::ops::RangeInclusive<f64> = 0.001..=10_000.0;

/// How long tasks have to end once they were asked to.
const GRACE: Duration = Duration::from_secs(10);

/// What to serve, and where.
#[derive(Debug, Clone)]
pub struct Config {
    /// The VPC.
    pub world: World,
    /// Lags, probabilities, quotas and buckets. [`serve`] sets their start time and their time scale.
    pub settings: Settings,
    /// Seed of every choice.
    pub seed: u64,
    /// How much faster model time runs than real time; positive.
    pub time_scale: f64,
    /// Where the AWS API listens.
    pub api: SocketAddr,
    /// Where the control API listens.
    pub control: SocketAddr,
    /// Where DNS listens, if it is wanted; the lab serves it together with names of its own.
    pub dns: Option<SocketAddr>,
    /// Whether load balancers listen and targets are checked. Without it every target stays `initial`.
    pub data_plane: bool,
    /// Whose web identity tokens are accepted, if any.
    pub oidc: Option<Oidc>,
    /// File for the ordered log as JSON lines.
    pub log: Option<PathBuf>,
}

impl Config {
    /// The defaults for a world: API and control on loopback ports of the system's choice, the profile `fast`, real time.
    pub fn new(world: World) -> Self {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            world,
            settings: Settings::default(),
            seed: 1,
            time_scale: 1.0,
            api: anywhere,
            control: anywhere,
            dns: None,
            data_plane: true,
            oidc: None,
            log: None,
        }
    }
}

/// Why the emulator did not start or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Time cannot run at this scale.
    #[error("time scale {0} is not between 0.001 and 10000; 1 is real time, 20 is twenty times as fast")]
    TimeScale(f64),
    /// An address is not ours, or taken.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The same, for DNS.
    #[error(transparent)]
    Dns(#[from] dns::Error),
    /// A part of it ended early, failed or would not end.
    #[error(transparent)]
    Task(#[from] tasks::Error),
}

/// A running emulator. Dropping it ends it at once; cancelling its token and waiting ends it in order.
#[derive(Debug)]
pub struct Running {
    /// Where the AWS API listens.
    pub api: SocketAddr,
    /// Where the control API listens.
    pub control: SocketAddr,
    /// Where DNS listens, if it does.
    pub dns: Option<SocketAddr>,
    /// The model, for those who share the process.
    pub engine: Arc<Engine>,
    tasks: Tasks,
}

impl Running {
    /// Waits until the token given to [`serve`] is cancelled and everything has ended, or until some part fails.
    pub async fn wait(self) -> Result<(), Error> {
        Ok(self.tasks.wait(GRACE).await?)
    }
}

/// Starts everything. When this returns, clients can connect.
pub async fn serve(config: Config, stop: CancellationToken) -> Result<Running, Error> {
    serve_in(config, Tasks::new(stop)).await
}

/// Starts everything among tasks that run already, a signal handler say. They end with it.
pub async fn serve_in(config: Config, tasks: Tasks) -> Result<Running, Error> {
    let Config { world, mut settings, seed, time_scale, api, control, dns, data_plane, oidc, log } = config;
    if !TIME_SCALES.contains(&time_scale) {
        return Err(Error::TimeScale(time_scale));
    }
    settings.time_scale = time_scale;
    settings.epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let api_socket = server::bind(api, "the AWS API")?;
    let control_socket = server::bind(control, "the control API")?;
    let dns_sockets = match dns {
        Some(address) => Some(dns::Sockets::bind(address).await?),
        None => None,
    };
    let stop = tasks.stop().clone();
    let engine = Arc::new(Engine::new(Model::new(&world, settings, seed), time_scale));
    let mut running = Running {
        api: api_socket.local_addr().unwrap_or(api),
        control: control_socket.local_addr().unwrap_or(control),
        dns: dns_sockets.as_ref().map(dns::Sockets::address),
        engine: Arc::clone(&engine),
        tasks,
    };
    let tasks = &mut running.tasks;
    let handler = Arc::new(api::Api { engine: Arc::clone(&engine), oidc });
    tasks.spawn("the AWS API", server::serve(api_socket, handler, stop.clone()));
    let handler = Arc::new(control::Control { engine: Arc::clone(&engine) });
    tasks.spawn("the control API", server::serve(control_socket, handler, stop.clone()));
    if let Some(sockets) = dns_sockets {
        let zones = vec![dns::load_balancers(Arc::clone(&engine))];
        tasks.spawn("DNS", sockets.serve(zones, stop.clone()));
    }
    if data_plane {
        tasks.spawn("the data plane", dataplane::run(Arc::clone(&engine), stop.clone()));
    }
    if let Some(path) = log {
        tasks.spawn("the log", journal::write(engine, path, stop));
    }
    Ok(running)
}
