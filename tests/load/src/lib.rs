//! A load generator that connects anew for every request, and says for each how it ended.
//!
//! Requests are begun at a fixed rate, whether or not earlier ones have ended, so that a target that is slow or gone does
//! not slow the questions down. Each comes from the next of several client addresses, goes to the next address that the
//! name has at the time, and has a connection of its own: what a new client of a load balancer sees.

pub mod answer;
pub mod failure;
mod report;
pub mod request;

use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub use failure::Kind;
pub use report::{Example, Progress, Report, Second, Spread};
use tokio::{
    net::lookup_host,
    sync::watch,
    task::{JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{failure::Failure, report::Tally, request::Answered};

/// How often the name is looked up anew.
const LOOKUP: Duration = Duration::from_secs(1);
/// How often [`Load::progress`] changes.
const PROGRESS: Duration = Duration::from_millis(200);

/// What to do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Name or address to connect to.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// Requests a second; at least 1.
    pub rate: u32,
    /// Addresses to connect from, in turns; the system's choice if there is none.
    pub from: Vec<Ipv4Addr>,
    /// How long one request may take.
    pub patience: Duration,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The generator panicked; the panic's message is on standard error.
    #[error("the load generator for {target} panicked")]
    Panicked {
        /// What was asked.
        target: String,
    },
}

/// A run under way. Dropping it ends it without a report.
#[derive(Debug)]
pub struct Load {
    target: String,
    stop: CancellationToken,
    progress: watch::Receiver<Progress>,
    task: JoinSet<Result<Report, JoinError>>,
}

impl Load {
    /// Begins at once.
    pub fn start(settings: Settings) -> Self {
        let stop = CancellationToken::new();
        let (sender, progress) = watch::channel(Progress::default());
        let target = format!("http://{}:{}", settings.host, settings.port);
        let mut task = JoinSet::new();
        task.spawn(run(settings, target.clone(), stop.clone(), sender));
        Self { target, stop, progress, task }
    }

    /// How it goes.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.clone()
    }

    /// Begins no more requests, and waits for those under way.
    pub async fn stop(mut self) -> Result<Report, Error> {
        self.stop.cancel();
        match self.task.join_next().await {
            Some(Ok(Ok(report))) => Ok(report),
            _ => Err(Error::Panicked { target: self.target }),
        }
    }
}

/// How one request ended, and when it was begun.
struct Ended {
    at: Duration,
    address: String,
    how: Result<Answered, Failure>,
}

async fn run(
    settings: Settings,
    target: String,
    stop: CancellationToken,
    progress: watch::Sender<Progress>,
) -> Result<Report, JoinError> {
    let settings = Arc::new(settings);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let began = Instant::now();
    let mut tally = Tally::default();
    let (mut requests, mut lookups) = (JoinSet::new(), JoinSet::new());
    let mut addresses = Addresses::default();
    lookups.spawn(look_up(Arc::clone(&settings)));
    // Late ticks come at once, so that the rate holds on average whatever the machine does.
    let mut turns = interval(Duration::from_secs(1) / settings.rate.max(1));
    turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut again = interval(LOOKUP);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut tell = interval(PROGRESS);
    tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut number = 0_usize;
    // Not before the name has been looked up once.
    addresses.take(lookups.join_next().await);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = requests.join_next() => count(&mut tally, ended?),
            found = lookups.join_next(), if !lookups.is_empty() => addresses.take(found),
            _ = again.tick(), if lookups.is_empty() => { lookups.spawn(look_up(Arc::clone(&settings))); }
            _ = tell.tick() => { progress.send_replace(tally.progress()); }
            _ = turns.tick() => {
                let from = settings.from.get(number % settings.from.len().max(1)).copied();
                let to = addresses.choose(number);
                requests.spawn(one(Arc::clone(&settings), from, to, began.elapsed()));
                number = number.wrapping_add(1);
            }
        }
    }
    while let Some(ended) = requests.join_next().await {
        count(&mut tally, ended?);
    }
    progress.send_replace(tally.progress());
    Ok(tally.report(target, settings.rate, unix.as_secs_f64(), began.elapsed()))
}

fn count(tally: &mut Tally, ended: Ended) {
    tally.count(ended.at, &ended.address, ended.how);
}

async fn one(settings: Arc<Settings>, from: Option<Ipv4Addr>, to: Result<SocketAddrV4, String>, at: Duration) -> Ended {
    match to {
        Ok(to) => {
            let how = request::send(from, to, &settings.host, settings.patience).await;
            Ended { at, address: to.to_string(), how }
        }
        Err(said) => Ended { at, address: String::new(), how: Err(Failure::new(Kind::Unresolved, said)) },
    }
}

/// What the name stands for. A lookup that fails leaves what was known before, as resolvers of clients do.
#[derive(Debug, Default)]
struct Addresses {
    known: Vec<SocketAddrV4>,
    problem: String,
}

impl Addresses {
    fn take(&mut self, found: Option<Result<Result<Vec<SocketAddrV4>, String>, JoinError>>) {
        match found {
            Some(Ok(Ok(known))) if !known.is_empty() => self.known = known,
            Some(Ok(Ok(_))) => "no IPv4 address".clone_into(&mut self.problem),
            Some(Ok(Err(problem))) => self.problem = problem,
            Some(Err(_)) | None => {}
        }
    }

    fn choose(&self, number: usize) -> Result<SocketAddrV4, String> {
        let index = number % self.known.len().max(1);
        self.known.get(index).copied().ok_or_else(|| self.problem.clone())
    }
}

async fn look_up(settings: Arc<Settings>) -> Result<Vec<SocketAddrV4>, String> {
    let found = lookup_host((settings.host.as_str(), settings.port)).await.map_err(|e| e.to_string())?;
    let mut known: Vec<_> = found
        .filter_map(|address| match address {
            SocketAddr::V4(address) => Some(address),
            SocketAddr::V6(_) => None,
        })
        .collect();
    // In one order whatever the resolver rotates, so that taking turns reaches them all evenly.
    known.sort_unstable();
    Ok(known)
}
