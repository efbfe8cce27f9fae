//! The state.

use std::time::Duration;

use crate::{
    Outbox, Settings,
    aws::{Account, Bucket, Fault},
    cluster::Cluster,
    effect::Effect,
    event::{Event, Outcome},
    outbox::{Asker, Lead, Slip},
    services::Services,
    targets::{self, Targets},
};

/// All that the registrar knows.
#[derive(Debug)]
pub struct State {
    cluster: Cluster,
    outbox: Outbox,
    targets: Targets,
    services: Services,
    standing: Standing,
    needs_nodes: bool,
    now: Duration,
    #[cfg(feature = "planted-bugs")]
    planted: Option<crate::planted::Bug>,
}

/// Whether this process may act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Following,
    /// It leads, but some cache is not complete.
    Waiting(Lead),
    Acting(Lead),
    Stopping,
}

/// How things are, for metrics and for people.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Report {
    /// Whether this process leads.
    pub leading: bool,
    /// Whether every cache that is needed has been complete.
    pub synced: bool,
    /// Bindings.
    pub bindings: Vec<targets::BindingReport>,
    /// Queue lengths: by account and bucket, and without either for requests to the API server.
    pub queued: Vec<(Option<(Account, Bucket)>, usize)>,
    /// Tokens left and the most there can be, by account and bucket.
    pub budgets: Vec<(Account, Bucket, u32, u32)>,
    /// Effects under way.
    pub in_flight: usize,
}

impl State {
    /// Nothing is known yet.
    pub fn new(settings: &Settings) -> Self {
        #[cfg_attr(not(feature = "planted-bugs"), expect(unused_mut, reason = "only a planted defect changes it"))]
        let mut cluster = Cluster::default();
        #[cfg(feature = "planted-bugs")]
        cluster.plant(settings.planted);
        Self {
            cluster,
            outbox: Outbox::new(settings),
            targets: Targets::new(settings),
            services: Services::new(settings),
            standing: Standing::Following,
            needs_nodes: settings.features.instance_targets,
            now: Duration::ZERO,
            #[cfg(feature = "planted-bugs")]
            planted: settings.planted,
        }
    }

    /// Takes in an event and says what is to be done.
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Effect> {
        self.now = self.now.max(now);
        let now = self.now;
        match event {
            Event::Watched(watched) => {
                for change in self.cluster.take(watched, now) {
                    self.targets.watched(&change, &self.cluster, now);
                    self.services.watched(&change, &self.cluster, now);
                }
            }
            Event::Ended { id, outcome } => {
                let throttled = matches!(outcome, Outcome::Aws(Err(Fault::Throttled { .. })));
                match self.outbox.ended(id, throttled, now) {
                    Some(Asker::Targets) => self.targets.ended(id, outcome, &self.cluster, &mut self.outbox, now),
                    Some(Asker::Services) => self.services.ended(id, outcome, &self.cluster, now),
                    None => {}
                }
            }
            Event::Leading { fence, until } => self.lead(Lead { fence, until }),
            Event::Following => {
                if self.standing != Standing::Stopping {
                    self.rest(Standing::Following);
                }
            }
            Event::Stopping => self.rest(Standing::Stopping),
            Event::Tick => {}
        }
        self.act()
    }

    /// When the next [`Event::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Duration> {
        if !matches!(self.standing, Standing::Acting(_)) {
            return None;
        }
        let queued = self.outbox.deadline(self.now);
        [queued, self.targets.deadline(), self.services.deadline()].into_iter().flatten().min()
    }

    /// How things are.
    pub fn report(&self) -> Report {
        Report {
            leading: matches!(self.standing, Standing::Waiting(_) | Standing::Acting(_)),
            synced: self.cluster.is_complete(self.needs_nodes),
            bindings: self.targets.report(&self.cluster, self.now),
            queued: self.outbox.queued().map(|(lane, length)| (lane.cloned(), length)).collect(),
            budgets: self
                .outbox
                .levels(self.now)
                .map(|((account, bucket), level, burst)| (account.clone(), *bucket, level, burst))
                .collect(),
            in_flight: self.outbox.in_flight(),
        }
    }

    /// The cluster as the watches have told it.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    fn lead(&mut self, lead: Lead) {
        match self.standing {
            Standing::Acting(before) if before.fence == lead.fence => {
                self.standing = Standing::Acting(lead);
                self.outbox.led(Some(lead));
            }
            Standing::Stopping => {}
            _ => {
                self.outbox.led(None);
                self.standing = Standing::Waiting(lead);
            }
        }
    }

    fn rest(&mut self, standing: Standing) {
        self.standing = standing;
        self.outbox.led(None);
        self.targets.rested();
    }

    fn act(&mut self) -> Vec<Effect> {
        let now = self.now;
        if let Standing::Waiting(lead) = self.standing
            && self.may_begin()
        {
            self.standing = Standing::Acting(lead);
            self.outbox.led(Some(lead));
            self.targets.began(&self.cluster, now);
            self.services.began(&self.cluster, now);
        }
        let mut effects = Vec::new();
        if !matches!(self.standing, Standing::Acting(_)) {
            return effects;
        }
        self.services.tick(&self.cluster, &mut self.outbox, now);
        self.targets.tick(&self.cluster, &self.services, &mut self.outbox, now);
        while let Some(slip) = self.outbox.next(now) {
            match slip {
                Slip::Effect(effect) => effects.push(*effect),
                Slip::Turn(turn) => {
                    effects.extend(self.targets.take_turn(&turn, &self.cluster, &mut self.outbox, now));
                }
            }
        }
        effects
    }

    fn may_begin(&self) -> bool {
        #[cfg(feature = "planted-bugs")]
        if self.planted == Some(crate::planted::Bug::RemoveUnsynced) {
            return self.cluster.bindings.is_listed();
        }
        self.cluster.is_complete(self.needs_nodes)
    }
}

impl Default for State {
    fn default() -> Self {
        Self::new(&Settings::default())
    }
}
