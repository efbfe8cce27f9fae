//! Targets and gates: what is registered where, what its health says, and what the pods are told of it.
//!
//! Each binding is worked on by itself ([`binding::Binding::work`]), when something that it depends on has changed or when a
//! moment that it asked for has come. What it wants of AWS it queues as a [`Turn`], which is decided only when the budget
//! gives it: so what is sent is what is known then.

mod answers;
mod batches;
mod binding;
mod brake;
mod describe;
mod desk;
mod endpoints;
mod farewell;
mod gates;
mod group;
mod isolation;
mod ledger;
mod looks;
mod nodes;
mod orphans;
mod patches;
mod pods;
mod registration;
mod removal;
mod retry;
mod spot;
mod status;
mod ungated;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use self::{
    answers::{aws, dispatch, kubernetes},
    binding::Binding,
    describe::Describing,
    desk::{Ask, Desk, What},
    orphans::Orphans,
};
use crate::{
    Effect, Outbox, Settings,
    aws::Account,
    cluster::{Change, Cluster, GateStatus, How, Key, Kind as ObjectKind, PodRecord},
    effect::{EffectId, Priority},
    event::Outcome,
    services::Services,
    settings::planted,
};

/// How long after a change a binding is worked on, so that what changes together is worked on together.
const SETTLE: Duration = Duration::from_millis(20);
/// How often a binding is worked on at most because of changes.
const SPACING: Duration = Duration::from_millis(100);

/// What a binding wants a token for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    binding: Key,
    kind: Kind,
}

/// What a turn is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Look(Priority),
    Register,
    Deregister,
    Groups(Account),
    Tags(Account),
}

/// How many targets of a binding are how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Targets that there should be.
    pub desired: usize,
    /// Of these, how many AWS has.
    pub registered: usize,
    /// Of these, how many are healthy.
    pub healthy: usize,
}

/// How a binding is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingReport {
    /// Which.
    pub binding: Key,
    /// Its target group, if it is known.
    pub group: Option<String>,
    /// Its targets.
    pub counts: Counts,
    /// Gates that are not open.
    pub pending_gates: usize,
    /// Pods without the gate that they should have, by reason.
    pub ungated: Vec<(&'static str, usize)>,
    /// Endpoints that are no targets, by reason.
    pub left_out: Vec<(&'static str, usize)>,
}

/// All bindings.
#[derive(Debug)]
pub struct Targets {
    settings: Settings,
    bindings: BTreeMap<Key, Binding>,
    /// When bindings are to be worked on.
    agenda: BTreeSet<(Duration, Key)>,
    asks: BTreeMap<EffectId, Ask>,
    describing: Describing,
    orphans: Orphans,
    /// Bindings that changed while this process was watching without leading.
    stirred: BTreeMap<Key, Duration>,
    acting: bool,
}

/// For how long a change that a follower has seen makes a binding go first when it comes to lead.
const STIRRED: Duration = Duration::from_mins(10);
/// How many such bindings are remembered before older ones are forgotten sooner.
const MOST_STIRRED: usize = 10_000;

impl Targets {
    /// None yet.
    pub fn new(settings: &Settings) -> Self {
        Self {
            settings: settings.clone(),
            bindings: BTreeMap::new(),
            agenda: BTreeSet::new(),
            asks: BTreeMap::new(),
            describing: Describing::default(),
            orphans: Orphans::default(),
            stirred: BTreeMap::new(),
            acting: false,
        }
    }

    /// How many targets of a binding are how, as far as AWS has been asked; nothing if it has not been, in this leadership.
    pub fn counts(&self, binding: &Key, now: Duration) -> Option<Counts> {
        let binding = self.bindings.get(binding)?;
        binding.last_look().map(|_| binding.counts(now))
    }

    pub(crate) fn watched(&mut self, change: &Change, cluster: &Cluster, now: Duration) {
        for key in &change.bindings {
            if !self.acting {
                if cluster.pods.is_listed() && cluster.slices.is_listed() {
                    self.stirred.insert(key.clone(), now);
                    if self.stirred.len() > MOST_STIRRED {
                        self.stirred.retain(|_, at| now.saturating_sub(*at) < STIRRED / 10);
                    }
                }
                continue;
            }
            if change.kind == ObjectKind::Binding {
                self.meet(key, cluster, now);
            }
            if let Some(binding) = self.bindings.get_mut(key) {
                binding.stale = true;
                binding.stirred = true;
                if change.how == How::Swept {
                    binding.backend.swept_at = Some(now);
                }
                let spaced = binding.worked_at.map_or(Duration::ZERO, |at| at + SPACING);
                // What a user changes on the binding itself is looked at at once.
                let settle = if change.kind == ObjectKind::Binding { Duration::ZERO } else { SETTLE };
                self.wake(key, (now + settle).max(spaced));
            }
        }
        if self.acting {
            self.orphans.watched(change, cluster, now);
        }
    }

    /// This process may act from now on, and nothing is under way.
    pub(crate) fn began(&mut self, cluster: &Cluster, now: Duration) {
        self.acting = true;
        let before = std::mem::take(&mut self.bindings);
        self.agenda.clear();
        self.asks.clear();
        self.describing = Describing::default();
        for record in cluster.bindings.iter() {
            let key = &record.meta.key;
            let stirred = self.stirred.get(key).is_some_and(|at| now.saturating_sub(*at) < STIRRED);
            self.bindings.insert(key.clone(), Binding::new(record, stirred));
            self.agenda.insert((now, key.clone()));
        }
        for (key, before) in before {
            self.orphans.keep(&key, before.gates, now);
            if let Some(binding) = self.bindings.get_mut(&key).filter(|binding| binding.uid == before.uid) {
                binding.ungated.inherit(before.ungated);
            }
        }
        self.orphans.began(cluster, now);
        for (key, binding) in &mut self.bindings {
            binding.wake = Some(now);
            binding.backend.led_at = Some(now);
            binding.gates = self.orphans.give(key);
        }
        self.stirred.clear();
    }

    /// This process may no longer act.
    pub(crate) fn rested(&mut self) {
        self.acting = false;
        self.agenda.clear();
        self.asks.clear();
    }

    /// Makes the binding at work the one that the cache has.
    fn meet(&mut self, key: &Key, cluster: &Cluster, now: Duration) {
        let record = cluster.bindings.get(key);
        let known = self.bindings.get(key).map(|binding| &binding.uid);
        if known == record.map(|record| &record.meta.uid) {
            return;
        }
        if let Some(gone) = self.bindings.remove(key) {
            if let Some(wake) = gone.wake {
                self.agenda.remove(&(wake, key.clone()));
            }
            self.orphans.keep(key, gone.gates, now);
        }
        if let Some(record) = record {
            let mut binding = Binding::new(record, true);
            binding.gates = self.orphans.give(key);
            self.bindings.insert(key.clone(), binding);
        }
        // Whoever was in the way of another is perhaps no longer.
        let groups = self.bindings.iter().filter(|(_, binding)| binding.rival.as_ref() == Some(key));
        let freed: Vec<Key> = groups.map(|(key, _)| key.clone()).collect();
        for key in freed {
            self.wake(&key, Duration::ZERO);
        }
    }

    fn wake(&mut self, key: &Key, at: Duration) {
        let Some(binding) = self.bindings.get_mut(key) else { return };
        if binding.wake.is_some_and(|wake| wake <= at) {
            return;
        }
        if let Some(before) = binding.wake.replace(at) {
            self.agenda.remove(&(before, key.clone()));
        }
        self.agenda.insert((at, key.clone()));
    }

    pub(crate) fn tick(&mut self, cluster: &Cluster, services: &Services, outbox: &mut Outbox, now: Duration) {
        while let Some((at, key)) = self.agenda.first().cloned()
            && at <= now
        {
            self.agenda.remove(&(at, key.clone()));
            self.work(&key, cluster, outbox, now);
        }
        let Self { settings, bindings, asks, describing, orphans, .. } = self;
        let mut desk = Desk { settings, cluster, outbox, asks, now };
        describing.queue(bindings, &mut desk);
        orphans.work(bindings, services, &mut desk);
    }

    fn work(&mut self, key: &Key, cluster: &Cluster, outbox: &mut Outbox, now: Duration) {
        let Some(binding) = self.bindings.get_mut(key) else { return };
        binding.wake = None;
        let Some(record) = cluster.bindings.get(key) else { return };
        let mut desk = Desk { settings: &self.settings, cluster, outbox, asks: &mut self.asks, now };
        let alarm = binding.work(record, &mut desk);
        self.describing.note(key, binding, &self.settings);
        if let Some(at) = alarm.0.filter(|_| !planted!(self.settings, EdgeTriggered)) {
            // An alarm that rings at once is about what is under way already.
            self.wake(key, at.max(now + Duration::from_millis(10)));
        }
    }

    pub(crate) fn ended(
        &mut self,
        id: EffectId,
        outcome: Outcome,
        cluster: &Cluster,
        outbox: &mut Outbox,
        now: Duration,
    ) {
        let Some(ask) = self.asks.remove(&id) else { return };
        let Self { settings, bindings, asks, describing, orphans, .. } = self;
        let mut desk = Desk { settings, cluster, outbox, asks, now };
        match ask.what {
            What::Nothing => return,
            What::Groups(account, members) => {
                for key in describing.groups_said(&account, &members, aws(outcome), bindings, &mut desk) {
                    self.wake(&key, now);
                }
                return;
            }
            What::Tags(account, members) => {
                for key in describing.tags_said(&account, &members, aws(outcome), bindings, &mut desk) {
                    self.wake(&key, now);
                }
                return;
            }
            What::Orphan => {
                orphans.answered(&ask.binding, &kubernetes(outcome).map(|_| ()), &mut desk);
                return;
            }
            // A gate is its pod's, whatever has become of the binding that it is named after.
            What::Gate(uid, condition) => {
                let result = kubernetes(outcome).map(|_| ());
                match bindings.get_mut(&ask.binding) {
                    Some(binding) => binding.gates.ended(&ask.binding, &uid, &condition, &result, &mut desk),
                    None => orphans.patched(&ask.binding, &uid, &condition, &result, &mut desk),
                }
                // A hundred gates that were set are one reason to look again, and none to hurry.
                self.wake(&ask.binding, now + SETTLE);
                return;
            }
            _ => {}
        }
        let Some(binding) = bindings.get_mut(&ask.binding).filter(|binding| binding.uid == ask.uid) else { return };
        let record = cluster.bindings.get(&ask.binding).filter(|record| record.meta.uid == ask.uid);
        let settle = if ask.what == What::Status { SETTLE } else { Duration::ZERO };
        dispatch(binding, record, ask.what, outcome, &mut desk);
        self.wake(&ask.binding, now + settle);
    }

    pub(crate) fn take_turn(
        &mut self,
        turn: &Turn,
        cluster: &Cluster,
        outbox: &mut Outbox,
        now: Duration,
    ) -> Option<Effect> {
        let Self { settings, bindings, asks, describing, .. } = self;
        let mut desk = Desk { settings, cluster, outbox, asks, now };
        let (account, tags) = match &turn.kind {
            Kind::Groups(account) => (Some(account), false),
            Kind::Tags(account) => (Some(account), true),
            _ => (None, false),
        };
        if let Some(account) = account {
            return if tags {
                describing.take_tags_turn(account, bindings, &mut desk)
            } else {
                describing.take_groups_turn(account, bindings, &mut desk)
            };
        }
        let binding = bindings.get_mut(&turn.binding)?;
        let record = cluster.bindings.get(&turn.binding).filter(|record| record.meta.uid == binding.uid)?;
        let effect = match turn.kind {
            Kind::Look(priority) => binding.take_look_turn(record, priority, &mut desk),
            Kind::Register => binding.take_register_turn(record, &mut desk),
            Kind::Deregister => binding.take_deregister_turn(record, &mut desk),
            Kind::Groups(_) | Kind::Tags(_) => None,
        };
        if effect.is_none() {
            self.wake(&turn.binding, now + SETTLE);
        }
        effect
    }

    pub(crate) fn deadline(&self) -> Option<Duration> {
        let agenda = self.agenda.first().map(|(at, _)| *at);
        [agenda, self.orphans.deadline()].into_iter().flatten().min()
    }

    pub(crate) fn report(&self, cluster: &Cluster, now: Duration) -> Vec<BindingReport> {
        let report = |(key, binding): (&Key, &Binding)| {
            let mut left_out: BTreeMap<&'static str, usize> = BTreeMap::new();
            for because in binding.left_out.values() {
                *left_out.entry(because.word()).or_default() += 1;
            }
            let closed = |pod: &&PodRecord| {
                let gate = pod.gate(&key.name).and_then(|gate| gate.condition.as_ref());
                !pod.is_leaving() && gate.is_none_or(|gate| gate.status != GateStatus::True)
            };
            BindingReport {
                binding: key.clone(),
                group: binding.facts().map(|facts| facts.arn.to_string()),
                counts: binding.counts(now),
                pending_gates: cluster.gated(key).filter(closed).count(),
                ungated: binding.ungated.counts.iter().map(|(word, count)| (*word, *count)).collect(),
                left_out: left_out.into_iter().collect(),
            }
        };
        self.bindings.iter().map(report).collect()
    }
}
