//! The world as values in one loop: a queue of happenings, and a clock that jumps from one to the next.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_model::{ProbeId, ProbeOutcome};
use registrar_core::{
    Effect,
    cluster::{BindingRecord, Key, Kind, Meta, NamespaceRecord, Record, Uid},
    event::Outcome,
};

use crate::{
    choice::Choices,
    cluster::{etcd::Etcd, kubelet::Kubelet, workload::Workload},
    crash::Crashes,
    fact::{Allowed, Fact, Number},
    judge::Judge,
    plane::{self, Plane},
    replica::{Replica, watch::Brought},
    scene::Scene,
    trace::Trace,
    weather::{Fate, Weather},
};

/// Something that is to happen. What is addressed to a process carries its incarnation.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A step of the scene, or a fault of it.
    Step(usize),
    Fault(usize),
    CreateBinding(usize),
    PodAddress(Uid),
    PodStarts(Uid),
    PodCondition(Uid),
    PodStops(Uid),
    PodEnds(Uid),
    PodRemoved(Uid),
    Slices(usize),
    Workload(usize),
    Plane,
    Probed(ProbeId, ProbeOutcome),
    Boot(Number),
    Resume(Number),
    Lease(Number, u64),
    LeadershipEnds(Number, u64),
    Release(Number, u64),
    Tick(Number, u64, u64),
    Reconnect(Number, u64, Kind, bool),
    Brought(Number, u64, Kind, u64, Brought),
    Depart(Number, u64, Box<Effect>),
    Arrive(Number, u64, Box<Effect>, Fate, Duration),
    Ended(Number, u64, Box<Effect>, Box<Outcome>),
    /// All faults are over.
    Calm,
    /// Has everything settled?
    Settled,
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: Duration,
    serial: u64,
    queue: BTreeMap<(Duration, u64), Happening>,
    pub(crate) choices: Choices,
    pub(crate) scene: Scene,
    pub(crate) etcd: Etcd,
    pub(crate) kubelet: Kubelet,
    pub(crate) workloads: Vec<Workload>,
    /// The groups of the bindings, in the order of the scene.
    pub(crate) groups: Vec<String>,
    pub(crate) plane: Plane,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) weather: Weather,
    pub(crate) crashes: Crashes,
    pub(crate) judge: Judge,
    pub(crate) trace: Trace,
    pub(crate) settling: crate::settle::Settling,
    pub(crate) happened: u64,
}

impl World {
    /// The world at its beginning.
    pub(crate) fn new(scene: Scene, mut choices: Choices, trace: Trace) -> anyhow::Result<Self> {
        let mut plane = Plane::new(u64::from(choices.below(1 << 16)), &scene.aws)?;
        let names: Vec<String> = (0..scene.bindings.len()).map(|n| format!("group-{n}")).collect();
        let groups = plane.build(&names)?;
        let mut kubelet = Kubelet::default();
        kubelet.free.extend(plane::addresses(scene.pool));
        kubelet.free.extend(&scene.cursed);
        let mut world = Self {
            now: Duration::ZERO,
            serial: 0,
            queue: BTreeMap::new(),
            choices,
            etcd: Etcd::default(),
            kubelet,
            workloads: scene.workloads.clone(),
            groups,
            plane,
            replicas: scene.rates.iter().map(|rate| Replica::new(*rate)).collect(),
            weather: Weather::default(),
            crashes: Crashes::default(),
            judge: Judge::new(&scene),
            trace,
            settling: crate::settle::Settling::default(),
            scene,
            happened: 0,
        };
        world.begin();
        Ok(world)
    }

    fn begin(&mut self) {
        self.plane_changed();
        let mut namespaces: Vec<String> = self.workloads.iter().map(|w| w.namespace.clone()).collect();
        namespaces.sort();
        namespaces.dedup();
        for name in namespaces {
            let key = crate::cluster::key("", &name);
            let uid = Uid(Arc::from(format!("namespace-{name}")));
            let meta = Meta { key, uid, revision: 0, deleting: false };
            self.store(Record::Namespace(NamespaceRecord { meta, gates_wanted: true }));
        }
        for index in 0..self.scene.bindings.len() {
            let group = self.groups[index].clone();
            let namespace = self.scene.bindings[index].namespace.clone();
            self.tag(&group, Allowed::Namespaces(vec![namespace]));
            self.create_binding(index);
        }
        for workload in 0..self.workloads.len() {
            self.create_service(workload);
            self.poke_workload(workload);
        }
        for (number, _) in self.scene.rates.clone().iter().enumerate() {
            let after = self.choices.millis(0, 3000);
            self.after(after, Happening::Boot(number));
        }
        for index in 0..self.scene.steps.len() {
            self.at(self.scene.steps[index].0, Happening::Step(index));
        }
        for index in 0..self.scene.faults.len() {
            self.at(self.scene.faults[index].0, Happening::Fault(index));
        }
        self.at(self.scene.calm_at, Happening::Calm);
    }

    /// Creates a binding as the scene describes it.
    pub(crate) fn create_binding(&mut self, index: usize) {
        let plan = &self.scene.bindings[index];
        let key = plan.key();
        if let Some(present) = self.etcd.binding(&key) {
            // Whoever applies manifests tries again while the old one goes.
            if present.meta.deleting {
                self.after(Duration::from_secs(1), Happening::CreateBinding(index));
            }
            return;
        }
        // Whatever is in its group is its own from now on.
        self.plane.unbound.retain(|key| key.group != self.groups[index]);
        let uid = Uid(Arc::from(format!("binding-{}-{}", plan.name, self.now.as_millis())));
        let record = BindingRecord {
            meta: Meta { key, uid, revision: 0, deleting: false },
            generation: 1,
            has_finalizer: false,
            spec: Arc::new(plan.spec(&self.groups[index])),
            stack: None,
            open_when_not_in_use: plan.open_when_not_in_use,
            gate_timeout: plan.gate_timeout,
            created: self.scene.epoch,
            status: None,
        };
        self.store(Record::Binding(record));
    }

    /// Stores an object; whoever it concerns will hear of it.
    pub(crate) fn store(&mut self, record: Record) {
        let of_kind = record.kind();
        let Some(change) = self.etcd.put(record, self.now) else { return };
        self.tell(&Fact::Stored(of_kind, &change));
        if let Some(Record::Pod(pod)) = &change.record {
            self.pod_changed(pod);
            self.poke_owner(&pod.meta.uid);
        }
        self.notify(of_kind);
    }

    /// Removes an object; whoever it concerns will hear of it.
    pub(crate) fn unstore(&mut self, of_kind: Kind, key: &Key) {
        let Some(change) = self.etcd.remove(of_kind, key, self.now) else { return };
        self.tell(&Fact::Stored(of_kind, &change));
        if of_kind == Kind::Pod {
            // Its process may be gone already: every workload of its namespace looks.
            for workload in 0..self.workloads.len() {
                if *self.workloads[workload].namespace == *key.namespace {
                    self.poke_slices(workload);
                    self.poke_workload(workload);
                }
            }
        }
        self.notify(of_kind);
    }

    fn poke_owner(&mut self, uid: &Uid) {
        if let Some(process) = self.kubelet.processes.get(uid) {
            let workload = process.workload;
            self.poke_slices(workload);
            self.poke_workload(workload);
        }
    }

    /// Lets something happen at a time.
    pub(crate) fn at(&mut self, at: Duration, happening: Happening) {
        self.serial += 1;
        self.queue.insert((at.max(self.now), self.serial), happening);
    }

    /// Lets something happen after a time.
    pub(crate) fn after(&mut self, after: Duration, happening: Happening) {
        self.at(self.now + after, happening);
    }

    /// Tells the judge, and the trace.
    pub(crate) fn tell(&mut self, fact: &Fact<'_>) {
        self.trace.note(self.now, fact);
        self.judge.hear(self.now, fact);
        self.settling.hear(self.now, fact);
    }

    /// Runs until everything has settled, a rule is broken, or time is up.
    pub(crate) fn run(&mut self) {
        while let Some(((at, serial), happening)) = self.queue.pop_first() {
            self.now = at;
            self.happened += 1;
            // A process that is stopped gets nothing; it finds it all when it goes on, in order.
            if let Some(until) = self.held_back(&happening) {
                self.queue.insert((until, serial), happening);
                continue;
            }
            self.happen(happening);
            if self.judge.is_broken() || self.settling.is_over() {
                break;
            }
        }
    }

    fn held_back(&self, happening: &Happening) -> Option<Duration> {
        let number = match happening {
            Happening::Lease(number, _)
            | Happening::LeadershipEnds(number, _)
            | Happening::Release(number, _)
            | Happening::Tick(number, ..)
            | Happening::Reconnect(number, ..)
            | Happening::Brought(number, ..)
            | Happening::Depart(number, ..)
            | Happening::Ended(number, ..) => *number,
            _ => return None,
        };
        self.replicas[number].paused_until.filter(|until| *until > self.now)
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Step(index) => self.scene_step(index),
            Happening::Fault(index) => self.scene_fault(index),
            Happening::CreateBinding(index) => self.create_binding(index),
            Happening::PodAddress(uid) => self.pod_address(&uid),
            Happening::PodStarts(uid) => self.pod_starts(&uid),
            Happening::PodCondition(uid) => self.pod_condition(&uid),
            Happening::PodStops(uid) => self.pod_stops(&uid),
            Happening::PodEnds(uid) => self.pod_ends(&uid),
            Happening::PodRemoved(uid) => self.pod_removed(&uid),
            Happening::Slices(workload) => self.write_slices(workload),
            Happening::Workload(workload) => self.run_workload(workload),
            Happening::Plane => self.plane_changed(),
            Happening::Probed(id, outcome) => self.probed(id, &outcome),
            Happening::Boot(number) => self.boot(number),
            Happening::Resume(number) => self.replicas[number].paused_until = None,
            Happening::Calm => self.calm(),
            Happening::Settled => self.settled(),
            Happening::Arrive(number, incarnation, effect, fate, gives_up) => {
                self.arrive(number, incarnation, effect, fate, gives_up);
            }
            other => self.happen_to_process(other),
        }
    }

    fn happen_to_process(&mut self, happening: Happening) {
        let (number, incarnation) = match &happening {
            Happening::Lease(n, i)
            | Happening::LeadershipEnds(n, i)
            | Happening::Release(n, i)
            | Happening::Tick(n, i, _)
            | Happening::Reconnect(n, i, ..)
            | Happening::Brought(n, i, ..)
            | Happening::Depart(n, i, _)
            | Happening::Ended(n, i, ..) => (*n, *i),
            _ => return,
        };
        if !self.is_current(number, incarnation) {
            return;
        }
        match happening {
            Happening::Lease(..) => self.lease(number),
            Happening::LeadershipEnds(..) => self.expire_leadership(number),
            Happening::Release(..) => self.release(number),
            Happening::Tick(_, _, tick) => self.tick(number, tick),
            Happening::Reconnect(_, _, kind, relist) => self.reconnect(number, kind, relist),
            Happening::Brought(_, _, kind, epoch, brought) => self.brought(number, kind, epoch, brought),
            Happening::Depart(_, _, effect) => self.depart(number, effect),
            Happening::Ended(_, _, effect, outcome) => self.ended(number, &effect, *outcome),
            _ => {}
        }
    }
}
