//! Crashes at the boundaries of effects: every effect passes four moments, and a process can die at each.

use crate::{
    fact::Number,
    world::{Happening, World},
};

/// Where on its way an effect is when its process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// Decided, not sent.
    BeforeSend,
    /// Sent, and lost on its way.
    NotApplied,
    /// Applied; the answer finds nobody.
    Applied,
    /// The answer was read; what follows from it is lost.
    ReplyRead,
}

impl Moment {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::BeforeSend, Self::NotApplied, Self::Applied, Self::ReplyRead];
}

/// Where a process is to die: at the n-th effect that passes a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CrashPoint {
    /// The moment.
    pub moment: Moment,
    /// Counted from 0, over all processes.
    pub nth: u64,
}

/// What has passed, and who is to die.
#[derive(Debug, Default)]
pub(crate) struct Crashes {
    passed: [u64; 4],
    pub(crate) point: Option<CrashPoint>,
    /// Registrars that die at the next effect to pass a moment.
    pub(crate) next: Vec<(Number, Moment)>,
}

impl Crashes {
    /// How many effects have passed each moment.
    pub(crate) const fn passed(&self) -> [u64; 4] {
        self.passed
    }
}

impl World {
    /// An effect of a registrar passes a moment. True if the registrar has died of it.
    pub(crate) fn crash_at(&mut self, number: Number, moment: Moment) -> bool {
        let passed = &mut self.crashes.passed[moment as usize];
        let nth = *passed;
        *passed += 1;
        let ordered = self.crashes.point == Some(CrashPoint { moment, nth });
        let next = self.crashes.next.iter().position(|next| *next == (number, moment));
        if let Some(index) = next {
            self.crashes.next.remove(index);
        }
        if !ordered && next.is_none() {
            return false;
        }
        self.crash(number);
        true
    }

    /// A process dies, and another takes its place in a while.
    pub(crate) fn crash(&mut self, number: Number) {
        self.kill(number);
        let after = self.choices.millis(300, 4000);
        self.after(after, Happening::Boot(number));
    }
}
