//! The model, its clock and its lock: the one place through which API, data plane and DNS reach it.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_model::{Command, Model};
use tokio::sync::Notify;

/// A model that time passes for.
///
/// The lock is held for one step of the model at a time, never across an await.
#[derive(Debug)]
pub struct Engine {
    model: Mutex<Model>,
    started: Instant,
    scale: f64,
    changed: Notify,
}

impl Engine {
    /// Starts the clock. One second of real time is `scale` seconds of the model's.
    pub fn new(model: Model, scale: f64) -> Self {
        Self { model: Mutex::new(model), started: Instant::now(), scale, changed: Notify::new() }
    }

    /// Runs one step of the model at the present time, and wakes whoever waits in [`Engine::commands`].
    pub fn with<T>(&self, step: impl FnOnce(&mut Model, Duration) -> T) -> T {
        let mut model = self.lock();
        let result = step(&mut model, self.now());
        drop(model);
        self.changed.notify_one();
        result
    }

    /// The time since the start, in model time.
    pub fn now(&self) -> Duration {
        self.started.elapsed().mul_f64(self.scale)
    }

    /// A duration of model time (a timeout, a TTL) in real time.
    pub fn real(&self, model_time: Duration) -> Duration {
        model_time.div_f64(self.scale)
    }

    /// Waits until the model has commands for the data plane. To be called by one task only, which carries them out in
    /// order. Dropping the future loses nothing.
    pub async fn commands(&self) -> Vec<Command> {
        loop {
            let changed = self.changed.notified();
            let deadline = {
                let mut model = self.lock();
                let commands = model.tick(self.now());
                if !commands.is_empty() {
                    return commands;
                }
                model.deadline()
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
    fn lock(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
