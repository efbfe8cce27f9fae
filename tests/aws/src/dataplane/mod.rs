//! The data plane: listeners, flows and health checks on real sockets.
//!
//! It decides nothing. [`run`] carries out the model's commands, asks it about every connection and tells it how each
//! ended. Each connection and each health check is a task of its own, so that a slow or dead one keeps nobody waiting,
//! and every task is owned by a set that somebody polls.
//!
//! # What differs from a load balancer that passes packets
//!
//! * A client's connect succeeds before its target's does: the system's listener answers it. Nothing is read until the
//!   target was reached, and a client whose target cannot be reached never gets a byte, so "connected, but no first
//!   byte" is what a failed connect looks like here.
//! * The target sees the client's address where the client IP is preserved, but another port.
//! * A TCP keep-alive ends here and keeps no flow from going idle.

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use aws_model::{Command, How, Probe, ProbeOutcome};
use tokio::{
    task::{JoinError, JoinSet},
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::Engine;

pub mod descriptors;
pub mod dial;
mod flow;
mod listener;
mod probe;
pub mod relay;
pub mod tls;

use flow::Flows;

/// How often an address that could not be listened on is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Why the data plane ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A defect of the data plane; the panic's message is on standard error.
    #[error("the data plane's task for {task} panicked")]
    Panicked {
        /// What the task was for.
        task: String,
    },
}

/// Runs the data plane of `engine`'s model until `stop`. Flows that are open then are reset and reported.
pub async fn run(engine: Arc<Engine>, stop: CancellationToken) -> Result<(), Error> {
    let mut plane = Plane {
        flows: Arc::new(Flows::new(Arc::clone(&engine), stop.clone())),
        engine: Arc::clone(&engine),
        stop: stop.clone(),
        listeners: BTreeMap::new(),
        accepting: JoinSet::new(),
        probing: JoinSet::new(),
    };
    let mut retry = interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let result = loop {
        tokio::select! {
            () = stop.cancelled() => break Ok(()),
            commands = engine.commands() => for command in commands { plane.carry_out(command) },
            Some(ended) = plane.accepting.join_next() => if let Err(e) = check(ended, "a listener") { break Err(e) },
            Some(ended) = plane.probing.join_next() => if let Err(e) = check(ended, "a health check") { break Err(e) },
            _ = retry.tick(), if plane.listeners.values().any(Option::is_none) => plane.retry(),
        }
    };
    stop.cancel();
    plane.probing.shutdown().await;
    plane.flows.end_all(How::Shutdown);
    while let Some(ended) = plane.accepting.join_next().await {
        check(ended, "a listener")?;
    }
    result
}

struct Plane {
    engine: Arc<Engine>,
    flows: Arc<Flows>,
    stop: CancellationToken,
    /// Where the model wants a listener, with the token that closes it; `None` while it cannot be opened.
    listeners: BTreeMap<SocketAddr, Option<CancellationToken>>,
    accepting: JoinSet<Result<(), Error>>,
    probing: JoinSet<Result<(), Error>>,
}

impl Plane {
    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Listen { at } => self.listen(at),
            Command::Unlisten { at } => {
                if let Some(close) = self.listeners.remove(&at).flatten() {
                    close.cancel();
                }
            }
            Command::Probe(probe) => self.probe(probe),
            Command::Reset { flow } => self.flows.end(flow, How::Commanded),
        }
    }

    fn listen(&mut self, at: SocketAddr) {
        if matches!(self.listeners.get(&at), Some(Some(_))) {
            return;
        }
        let known = self.listeners.contains_key(&at);
        let listening = match listener::open(at) {
            Ok(listener) => {
                let close = self.stop.child_token();
                self.accepting.spawn(listener::accept(listener, at, Arc::clone(&self.flows), close.clone()));
                Some(close)
            }
            Err(error) => {
                if !known {
                    tracing::error!(%at, error = %cause(&error), "a load balancer cannot listen; trying on");
                }
                None
            }
        };
        self.listeners.insert(at, listening);
    }

    fn retry(&mut self) {
        let closed: Vec<_> = self.listeners.iter().filter(|(_, l)| l.is_none()).map(|(at, _)| *at).collect();
        for at in closed {
            self.listen(at);
        }
    }

    fn probe(&mut self, probe: Probe) {
        let engine = Arc::clone(&self.engine);
        self.probing.spawn(async move {
            let limit = engine.real(probe.timeout);
            let outcome = if engine.with(|model, _| model.is_unreachable(probe.to.ip())) {
                // The address answers on this machine, but is not to.
                sleep(limit).await;
                ProbeOutcome::TimedOut
            } else {
                probe::run(&probe, limit).await
            };
            engine.with(|model, now| model.probed(probe.id, &outcome, now));
            Ok(())
        });
    }
}

/// An error of `bind` with what to do about it.
fn cause(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => format!("{error}: the address is not local to this network namespace"),
        io::ErrorKind::AddrInUse => format!("{error}: another process listens there"),
        io::ErrorKind::PermissionDenied => format!("{error}: a port below 1024 needs CAP_NET_BIND_SERVICE"),
        _ => error.to_string(),
    }
}

fn check(ended: Result<Result<(), Error>, JoinError>, task: &str) -> Result<(), Error> {
    match ended {
        Ok(result) => result,
        Err(e) if e.is_cancelled() => Ok(()),
        Err(_) => Err(Error::Panicked { task: task.to_owned() }),
    }
}
