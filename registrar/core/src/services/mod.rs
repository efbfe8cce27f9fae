//! Load balancers of Services: the machine that runs the plans of `balancers` inside [`crate::State::step`].
//!
//! How it is driven (all of it by [`crate::State`], in this order within one step):
//!
//! - [`Services::watched`] for every change of a Service, binding, namespace or node that is taken into the cache, whether
//!   this process leads or not, so that what is derived from objects is warm when leadership comes. It emits nothing.
//! - [`Services::began`] when this process may act: it leads, and every cache is complete. Nothing is under way then,
//!   whatever was before: forget what was observed in AWS and what is in flight.
//! - [`Services::ended`] when an effect that was queued with [`crate::outbox::Asker::Services`] has ended.
//! - [`Services::tick`] at the end of every step while this process may act: queue what is to be done. It has to be cheap
//!   when nothing is due.
//! - [`Services::deadline`] says when `tick` wants to be called next, if nothing else happens.
//!
//! Effects are queued with `outbox.aws(Asker::Services, ...)` and `outbox.kubernetes(Asker::Services, ...)`, which give the
//! id that `ended` gets. The outbox keeps to budgets, fences and priorities.

mod asked;
mod fault;
mod machine;
mod replies;
mod shared;
mod status;
mod view;

pub use self::status::{ACTIVE, BLOCKED, CONDITIONS, PROVISIONING};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nlb::{
    service::{Ownership, ownership},
    targetgroupbinding::Networking,
};

use self::{
    machine::{Act, Machine, Send, has_finalizer},
    shared::{GATHER, Shared},
    view::View,
};
use crate::{
    Outbox,
    aws::Account,
    balancers::{Environment, Network},
    cluster::{Change, Cluster, How, Key, Kind, PodRecord, ServiceRecord},
    effect::{Cause, EffectId},
    event::Outcome,
    outbox::Asker,
    settings::Settings,
};

/// Shared answers of EC2 are asked for again after this.
const NETWORK_AGE: Duration = Duration::from_mins(10);

/// What is known of a target group that is announced and has no binding yet. Gates are named after such groups by
/// admission, before they exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promise {
    /// It is being built: gates wait.
    Building,
    /// It could not be built, in words; nothing refers to it. Gates open, reason `BuildFailed`.
    Failed(String),
    /// Building it has made no progress for 5 minutes, in words; nothing refers to it. Gates open, reason
    /// `BuildDeadline`.
    Stalled(String),
}

/// All Services that are ours.
#[derive(Debug)]
pub struct Services {
    enabled: bool,
    environment: Arc<Environment>,
    machines: BTreeMap<Key, Machine>,
    /// When machines are to be asked, in order.
    agenda: BTreeSet<(Duration, Key)>,
    scheduled: BTreeMap<Key, Duration>,
    shared: Shared,
    shared_due: Duration,
    flights: BTreeMap<EffectId, Owner>,
    network: Network,
    network_at: Duration,
    /// Bindings by the Service whose model they are of, and back.
    bindings: BTreeMap<Key, BTreeSet<Key>>,
    stacks: BTreeMap<Key, Key>,
    networking: BTreeMap<Key, Networking>,
    promises: BTreeMap<Key, Promise>,
}

#[derive(Debug, Clone)]
enum Owner {
    Service(Key),
    Shared,
}

impl Services {
    /// None yet.
    pub fn new(settings: &Settings) -> Self {
        let vpc = settings.vpc.as_ref();
        let environment = Environment {
            settings: Arc::clone(&settings.model),
            vpc_id: vpc.map(|vpc| vpc.id.clone()).unwrap_or_default(),
            options: settings.load_balancers.clone(),
        };
        Self {
            enabled: settings.features.load_balancers,
            environment: Arc::new(environment),
            machines: BTreeMap::new(),
            agenda: BTreeSet::new(),
            scheduled: BTreeMap::new(),
            shared: Shared::default(),
            shared_due: Duration::ZERO,
            flights: BTreeMap::new(),
            network: Network::default(),
            network_at: Duration::ZERO,
            bindings: BTreeMap::new(),
            stacks: BTreeMap::new(),
            networking: BTreeMap::new(),
            promises: BTreeMap::new(),
        }
    }

    /// Something in the cluster has changed.
    pub fn watched(&mut self, change: &Change, cluster: &Cluster, now: Duration) {
        if !self.enabled {
            return;
        }
        match change.kind {
            Kind::Service => {
                self.review(&change.key, cluster, now);
                // Listeners may forward to it, and rules may name its ports.
                let from = Key::new(&change.key.namespace, "");
                let neighbours =
                    self.machines.range(from..).take_while(|(key, _)| key.namespace == change.key.namespace);
                let forwarding = neighbours.filter(|(_, machine)| machine.forwards_to(&change.key));
                for key in forwarding.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                    self.schedule(&key, now);
                }
                if self.shared.names_ports_of(&change.key) {
                    self.shared_due = now;
                }
            }
            Kind::Binding => {
                let stack = match change.how {
                    How::Applied => cluster.bindings.get(&change.key).and_then(|binding| binding.stack.clone()),
                    How::Deleted | How::Swept => None,
                };
                let before = match stack.clone() {
                    Some(stack) => self.stacks.insert(change.key.clone(), stack),
                    None => self.stacks.remove(&change.key),
                };
                if let Some(before) = &before
                    && let Some(bindings) = self.bindings.get_mut(before)
                {
                    bindings.remove(&change.key);
                }
                if let Some(stack) = &stack {
                    self.bindings.entry(stack.clone()).or_default().insert(change.key.clone());
                }
                for stack in before.into_iter().chain(stack) {
                    self.schedule(&stack, now);
                }
                let binding = cluster.bindings.get(&change.key);
                let networking = binding.and_then(|binding| binding.spec.networking.clone());
                let known = match networking.clone() {
                    Some(networking) => self.networking.insert(change.key.clone(), networking),
                    None => self.networking.remove(&change.key),
                };
                if known != networking {
                    self.shared_due = now;
                }
            }
            Kind::Node => self.shared_due = now,
            Kind::Slice => {
                let namespace = &change.key.namespace;
                if let Some(slice) = cluster.slices.get(&change.key) {
                    if self.shared.names_ports_of(&Key::new(namespace, &slice.service)) {
                        self.shared_due = now;
                    }
                    let pods = slice.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref());
                    let pods = pods.filter_map(|(name, _)| cluster.pods.get(&Key::new(namespace, name)));
                    self.ask_for(pods, cluster, now);
                }
            }
            Kind::Pod => self.ask_for(cluster.pods.get(&change.key), cluster, now),
            Kind::Namespace => {}
        }
    }

    /// Sees to it that EC2 is asked for the interfaces of pods that have some of their own.
    fn ask_for<'a>(&mut self, pods: impl IntoIterator<Item = &'a PodRecord>, cluster: &Cluster, now: Duration) {
        if pods.into_iter().any(|pod| self.shared.is_unasked(pod, cluster)) {
            self.shared_due = self.shared_due.min(now + GATHER);
        }
    }

    /// Sees to it that there is a machine for a Service that is ours or was, and none for another.
    fn review(&mut self, key: &Key, cluster: &Cluster, now: Duration) {
        let record = cluster.services.get(key).filter(|record| self.concerns(record));
        let known = self.machines.get(key);
        match (record, known) {
            (Some(record), Some(machine)) if *machine.uid() == record.meta.uid => self.schedule(key, now),
            (Some(record), _) => {
                self.forget(key);
                self.machines.insert(key.clone(), Machine::new(record, now));
                self.schedule(key, now);
            }
            (None, Some(_)) => self.forget(key),
            (None, None) => {}
        }
    }

    fn concerns(&self, record: &ServiceRecord) -> bool {
        record.object.as_ref().is_some_and(|object| {
            has_finalizer(object) || ownership::of(object, &self.environment.settings) == Ownership::Ours
        })
    }

    fn forget(&mut self, key: &Key) {
        if let Some(machine) = self.machines.remove(key) {
            // What was kept for it may be kept for nobody now.
            self.shared_due = Duration::ZERO;
            for group in &machine.groups {
                self.promises.remove(group);
            }
        }
        if let Some(at) = self.scheduled.remove(key) {
            self.agenda.remove(&(at, key.clone()));
        }
        self.flights.retain(|_, owner| !matches!(owner, Owner::Service(other) if other == key));
    }

    /// A machine is to be asked at this time, or before.
    fn schedule(&mut self, key: &Key, at: Duration) {
        if !self.machines.contains_key(key) {
            return;
        }
        let before = self.scheduled.get(key).copied();
        if before.is_some_and(|before| before <= at) {
            return;
        }
        self.reschedule(key, at);
    }

    fn reschedule(&mut self, key: &Key, at: Duration) {
        if let Some(before) = self.scheduled.remove(key) {
            self.agenda.remove(&(before, key.clone()));
        }
        if at < Duration::MAX {
            self.scheduled.insert(key.clone(), at);
            self.agenda.insert((at, key.clone()));
        }
    }

    /// This process may act from now on, and nothing is under way.
    pub fn began(&mut self, cluster: &Cluster, now: Duration) {
        self.machines.clear();
        self.agenda.clear();
        self.scheduled.clear();
        self.flights.clear();
        self.promises.clear();
        self.network.forget();
        self.shared = Shared::default();
        self.shared_due = now;
        if !self.enabled {
            return;
        }
        let keys: Vec<Key> = cluster.services.iter().map(|record| record.meta.key.clone()).collect();
        for key in keys {
            self.review(&key, cluster, now);
        }
    }

    /// An effect has ended.
    pub fn ended(&mut self, id: EffectId, outcome: Outcome, cluster: &Cluster, now: Duration) {
        match self.flights.remove(&id) {
            Some(Owner::Service(key)) => {
                let Some(mut machine) = self.machines.remove(&key) else { return };
                machine.ended(outcome, &mut self.view(cluster, now), now);
                let due = machine.due_at;
                self.machines.insert(key.clone(), machine);
                self.reschedule(&key, due);
            }
            Some(Owner::Shared) => {
                let before = (self.shared.id(None), self.shared.problem());
                self.shared.ended(outcome, now);
                self.shared_due = self.shared.due_at;
                if before != (self.shared.id(None), self.shared.problem()) {
                    self.schedule_all(now);
                }
            }
            None => {}
        }
    }

    fn view<'a>(&'a mut self, cluster: &'a Cluster, now: Duration) -> View<'a> {
        let fixed = self.environment.options.backend_security_group.as_ref();
        View {
            cluster,
            environment: &self.environment,
            network: &mut self.network,
            network_at: &mut self.network_at,
            bindings: &self.bindings,
            shared_group: self.shared.id(fixed),
            shared_problem: self.shared.problem(),
            services: self.machines.len(),
            now,
        }
    }

    /// Queues what is to be done.
    pub fn tick(&mut self, cluster: &Cluster, outbox: &mut Outbox, now: Duration) {
        if !self.enabled {
            return;
        }
        if now >= self.network_at + NETWORK_AGE {
            self.network.forget();
            self.network_at = now;
        }
        while let Some((at, key)) = self.agenda.first().cloned().filter(|(at, _)| *at <= now) {
            self.agenda.remove(&(at, key.clone()));
            self.scheduled.remove(&key);
            self.ask(&key, cluster, outbox, now);
        }
        if self.shared_due <= now {
            self.ask_shared(cluster, outbox, now);
        }
    }

    fn ask(&mut self, key: &Key, cluster: &Cluster, outbox: &mut Outbox, now: Duration) {
        let Some(record) = cluster.services.get(key) else { return };
        let Some(mut machine) = self.machines.remove(key) else { return };
        for group in &machine.groups {
            self.promises.remove(group);
        }
        let before = (machine.needs_shared, machine.may_use_shared);
        let act = machine.advance(record, &mut self.view(cluster, now), now);
        if before != (machine.needs_shared, machine.may_use_shared) {
            self.shared_due = now;
        }
        if let Some(promise) = machine.promise(now) {
            self.promises.extend(machine.groups.iter().map(|group| (group.clone(), promise.clone())));
        }
        let due = machine.promise_at(now).map_or(machine.due_at, |at| at.min(machine.due_at));
        self.machines.insert(key.clone(), machine);
        self.reschedule(key, due);
        if let Some(act) = act {
            let id = queue(outbox, act, key.clone());
            self.flights.insert(id, Owner::Service(key.clone()));
        }
    }

    fn ask_shared(&mut self, cluster: &Cluster, outbox: &mut Outbox, now: Duration) {
        let needed = self.machines.values().any(|machine| machine.needs_shared);
        let used = self.machines.values().any(|machine| machine.may_use_shared);
        let before = self.shared.problem();
        let mut shared = std::mem::take(&mut self.shared);
        let view = self.view(cluster, now);
        let act = shared.advance(&view, needed, used);
        self.shared = shared;
        self.shared_due = self.shared.due_at;
        if let Some(act) = act {
            let id = queue(outbox, act, Key::new("", &self.environment.settings.cluster_name));
            self.flights.insert(id, Owner::Shared);
        }
        if before != self.shared.problem() {
            self.schedule_all(now);
        }
    }

    fn schedule_all(&mut self, at: Duration) {
        let keys: Vec<Key> = self.machines.keys().cloned().collect();
        for key in keys {
            self.schedule(&key, at);
        }
    }

    /// When [`Self::tick`] is wanted next.
    pub fn deadline(&self) -> Option<Duration> {
        if !self.enabled {
            return None;
        }
        let shared = (self.shared_due < Duration::MAX).then_some(self.shared_due);
        self.agenda.first().map(|(at, _)| *at).into_iter().chain(shared).min()
    }

    /// What is known of the target group that a binding of this namespace and name is going to stand for. Nothing if no
    /// Service is going to have one. Asked only where no such binding exists.
    pub fn promised(&self, binding: &Key) -> Option<&Promise> {
        self.promises.get(binding)
    }
}

fn queue(outbox: &mut Outbox, act: Act, object: Key) -> EffectId {
    let cause = Cause { object, because: act.because };
    match act.send {
        Send::Aws(call, priority) => outbox.aws(Asker::Services, Account::Own, call, priority, cause),
        Send::Kubernetes(request) => {
            outbox.kubernetes(Asker::Services, request, crate::effect::Priority::LoadBalancers, cause)
        }
    }
}
