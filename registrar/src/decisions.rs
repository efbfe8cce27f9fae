//! The one task that decides: it owns the state, feeds it events one after the other, and has its effects carried out.
//!
//! It also owns the executor, so that there is no channel between the two that could fill up in both directions.

use std::time::Duration;

use registrar_core::{Event, State};
use tokio::{
    sync::{mpsc, watch},
    task::JoinError,
    time::sleep_until,
};
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, executor::Executor, leadership::Standing, metrics::Metrics};

/// How many events are taken from the watches at once.
const BATCH: usize = 256;
/// How often is said how things are.
const REPORTS: Duration = Duration::from_secs(5);
/// The shortest time between two ticks.
const SHORTEST_WAIT: Duration = Duration::from_millis(1);

/// Why decisions ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An effect panicked: a bug, and nobody knows what was done.
    #[error("an effect ended by a bug: {0}")]
    Effect(#[from] JoinError),
}

/// What decides.
pub struct Decisions {
    /// What is known.
    pub state: State,
    /// What does what was decided.
    pub executor: Executor,
    /// What watches say.
    pub events: mpsc::Receiver<Event>,
    /// Whether this process leads.
    pub standing: watch::Receiver<Standing>,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
}

impl Decisions {
    /// Decides until `stop`, and until what is under way then has ended, which `quiet` is told.
    pub async fn run(mut self, stop: CancellationToken, quiet: CancellationToken) -> Result<(), Error> {
        let _quiet = quiet.drop_guard();
        let mut batch = Vec::with_capacity(BATCH);
        let (mut ticked, mut reported) = (Duration::ZERO, Duration::ZERO);
        let mut events_end = false;
        while !stop.is_cancelled() {
            let deadline = self.state.deadline().map(|deadline| deadline.max(ticked + SHORTEST_WAIT));
            let tick = async {
                match deadline {
                    Some(deadline) => sleep_until(self.clock.instant(deadline)).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Ok(()) = self.standing.changed() => self.stand(),
                ended = self.executor.ended() => self.step(ended?),
                taken = self.events.recv_many(&mut batch, BATCH), if !events_end => {
                    // Watches end at shutdown only.
                    events_end = taken == 0;
                    for event in batch.drain(..) {
                        self.step(event);
                    }
                }
                () = tick => {}
                () = sleep_until(self.clock.instant(reported + REPORTS)) => {}
            }
            // Events that never end must not keep time from passing.
            let now = self.clock.now();
            if self.state.deadline().is_some_and(|deadline| deadline <= now) && now >= ticked + SHORTEST_WAIT {
                ticked = now;
                self.step(Event::Tick);
            }
            if now >= reported + REPORTS {
                reported = now;
                self.metrics.report(self.state.report());
            }
        }
        self.step(Event::Stopping);
        for event in self.executor.drop_waiting() {
            self.step(event);
        }
        while !self.executor.is_idle() {
            let event = self.executor.ended().await?;
            self.step(event);
        }
        Ok(())
    }

    fn stand(&mut self) {
        let event = match *self.standing.borrow_and_update() {
            Standing::Leading { fence, until } => Event::Leading { fence, until },
            Standing::Following => Event::Following,
        };
        self.step(event);
    }

    fn step(&mut self, event: Event) {
        let begun = self.clock.now();
        let effects = self.state.step(event, begun);
        for effect in effects {
            self.executor.submit(effect);
        }
        self.metrics.stepped(self.clock.now().saturating_sub(begun));
    }
}
