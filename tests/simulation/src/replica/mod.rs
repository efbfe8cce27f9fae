//! A registrar: the unchanged core, and around it what the shell does with values in place of sockets.

pub(crate) mod executor;
pub(crate) mod lease;
pub(crate) mod watch;

use std::{collections::BTreeMap, time::Duration};

use registrar_core::{Event, State, cluster::Kind, event::Fence};

use crate::{
    crash::Moment,
    fact::{Fact, Number},
    replica::watch::Watch,
    world::{Happening, World},
};

/// A monotonic clock that began with its process and runs at a rate of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    began: Duration,
    /// Per cent of the world's.
    rate: u32,
}

impl Clock {
    pub(crate) const fn new(began: Duration, rate: u32) -> Self {
        Self { began, rate }
    }

    /// What it shows at a time of the world.
    pub(crate) fn local(self, now: Duration) -> Duration {
        now.saturating_sub(self.began) * self.rate / 100
    }

    /// When it will show this.
    pub(crate) fn world(self, local: Duration) -> Duration {
        // Rounded up, so that it does show it then.
        self.began + local * 100 / self.rate + Duration::from_nanos(1)
    }

    /// How long a time of this clock is in the world.
    pub(crate) fn stretch(self, local: Duration) -> Duration {
        local * 100 / self.rate
    }
}

/// A leadership as the process knows it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leadership {
    pub(crate) fence: Fence,
    /// On its own clock.
    pub(crate) until: Duration,
}

/// A registrar.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Nothing while it is down.
    pub(crate) state: Option<State>,
    /// Counts its processes: what was meant for an earlier one is lost.
    pub(crate) incarnation: u64,
    pub(crate) clock: Clock,
    pub(crate) rate: u32,
    pub(crate) watches: BTreeMap<Kind, Watch>,
    pub(crate) leading: Option<Leadership>,
    pub(crate) fences: Fence,
    /// The version of the lease that it saw last, and when.
    pub(crate) observed: (u64, Duration),
    pub(crate) paused_until: Option<Duration>,
    /// Until when it gets no credentials.
    pub(crate) without_credentials: Duration,
    pub(crate) stopping: bool,
    /// Its one tick to come, in the world's time; ticks with another number are not meant any more.
    tick: u64,
    ticks_at: Option<Duration>,
    /// Ticks without anything else in between, against spinning.
    spins: u32,
}

/// So many ticks in a row within a second are no way to wait.
const MOST_SPINS: u32 = 200;

impl Replica {
    pub(crate) fn new(rate: u32) -> Self {
        Self {
            state: None,
            incarnation: 0,
            clock: Clock::new(Duration::ZERO, rate),
            rate,
            watches: BTreeMap::new(),
            leading: None,
            fences: 0,
            observed: (0, Duration::ZERO),
            paused_until: None,
            without_credentials: Duration::ZERO,
            stopping: false,
            tick: 0,
            ticks_at: None,
            spins: 0,
        }
    }
}

impl World {
    /// Starts a process, unless one runs.
    pub(crate) fn boot(&mut self, number: Number) {
        let (now, settings) = (self.now, self.scene.settings());
        let replica = &mut self.replicas[number];
        if replica.state.is_some() {
            return;
        }
        let rate = replica.rate;
        let incarnation = replica.incarnation + 1;
        // Fences count on from one process to the next, so that the judge can tell them apart.
        let fences = replica.fences;
        *replica = Replica {
            state: Some(State::new(&settings)),
            incarnation,
            clock: Clock::new(now, rate),
            fences,
            observed: (u64::MAX, Duration::ZERO),
            ..Replica::new(rate)
        };
        self.tell(&Fact::Booted(number));
        self.begin_watches(number);
        let after = self.choices.millis(5, 300);
        self.after(after, Happening::Lease(number, incarnation));
    }

    /// Ends a process at once.
    pub(crate) fn kill(&mut self, number: Number) {
        let replica = &mut self.replicas[number];
        if replica.state.take().is_none() {
            return;
        }
        replica.incarnation += 1;
        replica.leading = None;
        replica.watches.clear();
        self.tell(&Fact::Died(number));
    }

    /// Whether a process is the one that something was meant for.
    pub(crate) fn is_current(&self, number: Number, incarnation: u64) -> bool {
        let replica = &self.replicas[number];
        replica.state.is_some() && replica.incarnation == incarnation
    }

    /// Tells the core something, and takes up what it wants done.
    pub(crate) fn step(&mut self, number: Number, event: Event) {
        let now = self.now;
        let local = self.replicas[number].clock.local(now);
        self.tell(&Fact::Told { replica: number, event: &event });
        let is_tick = matches!(event, Event::Tick);
        let replica = &mut self.replicas[number];
        let Some(state) = &mut replica.state else { return };
        let effects = state.step(event, local);
        let deadline = state.deadline();
        let incarnation = replica.incarnation;
        replica.spins = if is_tick && effects.is_empty() { replica.spins + 1 } else { 0 };
        let spins = replica.spins;
        if spins == MOST_SPINS {
            self.judge.complain("spinning", format!("registrar {number}: {MOST_SPINS} ticks in a row did nothing"));
        }
        self.plan_tick(number, deadline);
        for effect in effects {
            self.tell(&Fact::Wants { replica: number, effect: &effect });
            if self.crash_at(number, Moment::BeforeSend) {
                return;
            }
            let after = self.choices.millis(1, 20);
            self.after(after, Happening::Depart(number, incarnation, Box::new(effect)));
        }
    }

    fn plan_tick(&mut self, number: Number, deadline: Option<Duration>) {
        let now = self.now;
        let replica = &mut self.replicas[number];
        let at = deadline.map(|local| replica.clock.world(local).max(now + Duration::from_millis(1)));
        if replica.ticks_at == at {
            return;
        }
        replica.ticks_at = at;
        replica.tick += 1;
        let (tick, incarnation) = (replica.tick, replica.incarnation);
        if let Some(at) = at {
            self.at(at, Happening::Tick(number, incarnation, tick));
        }
    }

    /// The time has come that the core asked for.
    pub(crate) fn tick(&mut self, number: Number, tick: u64) {
        let replica = &mut self.replicas[number];
        if replica.tick == tick {
            replica.ticks_at = None;
            self.step(number, Event::Tick);
        }
    }
}
