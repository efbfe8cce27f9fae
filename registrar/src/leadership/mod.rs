//! Leadership by a Lease: at most one replica writes.
//!
//! [`election`] decides; here its bids are carried to the API server, by a client of their own that repeats nothing and
//! waits for no answer longer than [`CALL`].

pub mod election;

use std::{convert::Infallible, time::Duration};

use daemon::readiness::Condition;
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::{Api, api::PostParams};
use tokio::{
    sync::watch,
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::election::Bid;
pub use self::election::{Election, Standing, Timing};
use crate::{clock::Clock, kubernetes::words, metrics::Metrics};

/// How long one attempt may take: two of them fit into the renew deadline.
const CALL: Duration = Duration::from_secs(3);
/// How often is looked whether caches are complete.
const WARMING: Duration = Duration::from_millis(50);
/// How long the lease is kept for writes that are under way at shutdown.
const LAST_WRITES: Duration = Duration::from_secs(4);

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the API server: {}", words(.0))]
    Api(#[from] kube::Error),
    #[error("no answer within {CALL:?}")]
    Silence,
}

/// A candidate for leadership.
pub struct Candidate {
    leases: Api<Lease>,
    election: Election,
    clock: Clock,
    standing: watch::Sender<Standing>,
    warm: Vec<Condition>,
    heard: Condition,
    metrics: Metrics,
}

impl Candidate {
    /// A candidate for a lease, who does not stand before its caches are `warm`: whoever leads can act. `heard` is met as
    /// soon as the API server has answered once.
    pub fn new(
        leases: Api<Lease>,
        election: Election,
        warm: Vec<Condition>,
        clock: Clock,
        heard: Condition,
        metrics: Metrics,
    ) -> Self {
        let (standing, _) = watch::channel(Standing::Following);
        Self { leases, election, clock, standing, warm, heard, metrics }
    }

    /// What this process is, as it changes.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.subscribe()
    }

    /// Stands until `stop`, then gives the lease up as soon as `quiet` says that no write is under way any more. If that
    /// takes too long, the lease is left to run out: somebody might still be writing.
    pub async fn run(mut self, stop: CancellationToken, quiet: CancellationToken) -> Result<(), Infallible> {
        while !stop.is_cancelled() && !self.warm.iter().all(Condition::is_met) {
            stop.run_until_cancelled(sleep(WARMING)).await;
        }
        while !stop.is_cancelled() {
            let begun = self.clock.now();
            let ended = match self.election.ends().map(|ends| self.clock.instant(ends)) {
                Some(ends) => tokio::select! {
                    ended = self.attempt() => ended,
                    () = sleep_until(ends) => Err(Error::Silence),
                },
                None => self.attempt().await,
            };
            self.report(ended);
            let pause = match self.election.ends() {
                Some(_) => self.election.timing().retry,
                // Whoever gives the lease up does not wait long for the next one.
                None => self.election.timing().retry / 2,
            };
            let next = self.election.ends().map_or(begun + pause, |ends| ends.min(begun + pause));
            stop.run_until_cancelled(sleep_until(self.clock.instant(next))).await;
            self.publish();
        }
        if timeout(LAST_WRITES, quiet.cancelled()).await.is_err() {
            tracing::warn!("writes are still under way, so that the lease is left to run out");
        } else if let Err(error) = self.release().await {
            tracing::warn!(%error, "the lease could not be given up, it runs out");
        }
        self.election.lost();
        self.publish();
        Ok(())
    }

    async fn attempt(&mut self) -> Result<(), Error> {
        timeout(CALL, self.try_once()).await.unwrap_or(Err(Error::Silence))
    }

    async fn try_once(&mut self) -> Result<(), Error> {
        // Twice, because a lease that somebody has touched is read and tried again at once.
        for _ in 0..2 {
            let read = match self.election.own().filter(|_| self.election.is_sure()) {
                Some(own) => Some(own.clone()),
                None => self.leases.get_opt(self.election.name()).await?,
            };
            let begun = self.clock.now();
            let stored = match self.election.bid(read, begun, wall()) {
                Bid::Wait => {
                    self.election.lost();
                    return Ok(());
                }
                Bid::Create(lease) => self.leases.create(&PostParams::default(), &lease).await,
                Bid::Replace(lease) => self.leases.replace(self.election.name(), &PostParams::default(), &lease).await,
            };
            match stored {
                Ok(lease) => {
                    self.election.won(lease, begun, self.clock.now());
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.code == 409 => self.election.unsure(self.clock.now()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn report(&mut self, ended: Result<(), Error>) {
        self.metrics.lease_attempt(ended.is_ok());
        match ended {
            Ok(()) => self.heard.met(""),
            Err(error) => {
                self.election.unsure(self.clock.now());
                tracing::warn!(%error, lease = self.election.name(), "an attempt at the lease failed");
            }
        }
        self.publish();
    }

    /// Says what this process is, if that has changed.
    fn publish(&mut self) {
        let now = self.election.standing(self.clock.now());
        if now == Standing::Following {
            self.election.unsure(self.clock.now());
        }
        self.standing.send_if_modified(|before| {
            let leads = matches!(now, Standing::Leading { .. });
            if leads != matches!(before, Standing::Leading { .. }) {
                tracing::info!(leads, lease = self.election.name(), "leadership");
                self.metrics.leads(leads);
            }
            std::mem::replace(before, now) != now
        });
    }

    async fn release(&mut self) -> Result<(), Error> {
        if self.election.own().is_none() {
            return Ok(());
        }
        let giving_up = async {
            let Some(lease) = self.leases.get_opt(self.election.name()).await? else { return Ok(()) };
            let Some(released) = self.election.released(lease, wall()) else { return Ok(()) };
            match self.leases.replace(self.election.name(), &PostParams::default(), &released).await {
                Ok(_) => tracing::info!(lease = self.election.name(), "given up"),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error.into()),
            }
            Ok(())
        };
        timeout(CALL, giving_up).await.unwrap_or(Err(Error::Silence))
    }
}

fn wall() -> MicroTime {
    MicroTime(Timestamp::now())
}

/// The pod's name with the moment of this process's start: a container that starts again is another candidate.
pub fn identity(instance: &str) -> String {
    format!("{instance}_{}_{:x}", std::process::id(), Timestamp::now().as_nanosecond())
}
