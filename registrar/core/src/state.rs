//! The state.

use std::time::Duration;

use crate::{effect::Effect, event::Event};

/// All that the registrar knows.
#[derive(Debug, Default)]
pub struct State {}

impl State {
    /// Takes in an event and says what is to be done.
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        let _ = (event, now);
        Vec::new()
    }

    /// When the next [`Event::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Duration> {
        None
    }
}
