//! The model, its clock and its lock: the one place through which API, data plane and DNS reach it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_model::{Command, Model};
use tokio::sync::Notify;

use crate::journal::Journal;

/// A model that time passes for.
///
/// The lock is held for one step of the model at a time, never across an await.
#[derive(Debug)]
pub struct Engine {
    locked: Mutex<Locked>,
    journal: Journal,
    started: Instant,
    scale: f64,
    changed: Notify,
}

#[derive(Debug)]
struct Locked {
    model: Model,
    /// The model time that [`Engine::commands`] waits for, while it waits. It is woken only for something earlier:
    /// connections come and go by the thousand, and few of them change what the model wants next.
    awaited: Option<Duration>,
}

impl Engine {
    /// Starts the clock. One second of real time is `scale` seconds of the model's.
    pub fn new(model: Model, scale: f64) -> Self {
        Self {
            locked: Mutex::new(Locked { model, awaited: None }),
            journal: Journal::default(),
            started: Instant::now(),
            scale,
            changed: Notify::new(),
        }
    }

    /// Runs one step of the model at the present time, and wakes whoever waits in [`Engine::commands`] if there is
    /// something to do sooner than it expects.
    pub fn with<T>(&self, step: impl FnOnce(&mut Model, Duration) -> T) -> T {
        let mut locked = self.lock();
        let result = step(&mut locked.model, self.now());
        self.journal.append(locked.model.drain_log());
        let sooner = locked.awaited.is_some_and(|awaited| locked.model.deadline().is_some_and(|at| at < awaited));
        if sooner {
            locked.awaited = None;
        }
        drop(locked);
        if sooner {
            self.changed.notify_one();
        }
        result
    }

    /// Everything that has happened.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The time since the start, in model time.
    pub fn now(&self) -> Duration {
        Duration::try_from_secs_f64(self.started.elapsed().as_secs_f64() * self.scale).unwrap_or(Duration::MAX)
    }

    /// A duration of model time (a timeout, a TTL) in real time. What would take longer than a year takes a year, so
    /// that it can be added to a time of the clock.
    pub fn real(&self, model_time: Duration) -> Duration {
        const YEAR: Duration = Duration::from_hours(365 * 24);
        Duration::try_from_secs_f64(model_time.as_secs_f64() / self.scale).unwrap_or(YEAR).min(YEAR)
    }

    /// Waits until the model has commands for the data plane. To be called by one task only, which carries them out in
    /// order. Dropping the future loses nothing.
    pub async fn commands(&self) -> Vec<Command> {
        loop {
            let changed = self.changed.notified();
            let deadline = {
                let mut locked = self.lock();
                let commands = locked.model.tick(self.now());
                self.journal.append(locked.model.drain_log());
                if !commands.is_empty() {
                    locked.awaited = None;
                    return commands;
                }
                let deadline = locked.model.deadline();
                locked.awaited = Some(deadline.unwrap_or(Duration::MAX));
                deadline
            };
            match deadline {
                Some(at) => {
                    let wait = self.real(at.saturating_sub(self.now()));
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = changed => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// A step that panicked has left the model as it was at that point; the emulator goes on with it.
    fn lock(&self) -> MutexGuard<'_, Locked> {
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
