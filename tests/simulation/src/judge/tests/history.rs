//! A history under construction: what a registrar with one binding does and is told.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use nlb::{readiness_gate::ReadinessGate, service::spec::AddressFamily};
use registrar_core::{
    Effect, Event,
    aws::{Account, Arn, Call, Fault, HealthState, Refusal, Reply, Target, TargetHealth},
    cluster::{
        BindingRecord, Endpoint, GateCondition, GateRecord, GateStatus, Kind, Meta, PodRecord, Record, SliceRecord, Uid,
    },
    effect::{Action, Cause, EffectId, Priority, Request},
    event::{Answer, Outcome, Watched},
};

use crate::{
    cluster::{
        created,
        etcd::{Change, KINDS},
        key,
    },
    fact::{Fact, TargetKey},
    judge::Judge,
    plane::TARGET_PORT,
    scene::{BindingPlan, Scene},
};

/// The group of the binding.
pub(crate) const GROUP: &str = "arn:group";
/// The address of the pod that most histories are about.
pub(crate) const ADDRESS: &str = "192.168.11.21";

/// A history. Every deed takes a tenth of a second.
pub(crate) struct History {
    judge: Judge,
    pub(crate) now: Duration,
    revision: u64,
    effects: u64,
}

impl History {
    /// A registrar that has listed everything and leads, with one binding. Tags decide nothing.
    pub(crate) fn new() -> Self {
        Self::synced(false)
    }

    /// As [`History::new`], where tags decide.
    pub(crate) fn enforced() -> Self {
        Self::synced(true)
    }

    fn synced(enforced: bool) -> Self {
        let mut history = Self::unsynced_with(enforced);
        history.list(&KINDS);
        history.lead();
        history.binding(|_| {});
        history
    }

    /// A registrar that has just begun.
    pub(crate) fn unsynced() -> Self {
        Self::unsynced_with(false)
    }

    fn unsynced_with(enforced: bool) -> Self {
        let judge = Judge::new(&Scene { enforced, ..Scene::simple(2) });
        let mut history = Self { judge, now: Duration::ZERO, revision: 100, effects: 0 };
        history.tell(&Fact::Booted(0));
        history
    }

    pub(crate) fn list(&mut self, kinds: &[Kind]) {
        for kind in kinds {
            self.told(Event::Watched(Watched::Restarted(*kind)));
            self.tell(&Fact::Listed { replica: 0, kind: *kind, revision: self.revision });
            self.told(Event::Watched(Watched::Listed(*kind)));
        }
    }

    pub(crate) fn lead(&mut self) {
        self.tell(&Fact::LeasedTo(Some(0)));
        self.told(Event::Leading { fence: 1, until: Duration::from_hours(1) });
    }

    /// The rules that are broken, by the first word of their names.
    pub(crate) fn broken(&self) -> BTreeSet<&'static str> {
        self.judge.complaints.iter().map(|complaint| complaint.rule).collect()
    }

    pub(crate) fn tell(&mut self, fact: &Fact<'_>) {
        self.judge.hear(self.now, fact);
    }

    pub(crate) fn told(&mut self, event: Event) {
        self.now += Duration::from_millis(100);
        self.tell(&Fact::Told { replica: 0, event: &event });
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// An object is stored, and the registrar is told.
    pub(crate) fn store(&mut self, mut record: Record) {
        self.revision += 1;
        match &mut record {
            Record::Pod(r) => r.meta.revision = self.revision,
            Record::Slice(r) => r.meta.revision = self.revision,
            Record::Binding(r) => r.meta.revision = self.revision,
            _ => {}
        }
        let change = Change {
            revision: self.revision,
            at: self.now,
            key: record.meta().key.clone(),
            uid: record.meta().uid.clone(),
            record: Some(record.clone()),
        };
        self.tell(&Fact::Stored(record.kind(), &change));
        self.told(Event::Watched(Watched::Applied(record)));
    }

    pub(crate) fn remove_pod(&mut self, name: &str, uid: &str) {
        let (key, uid) = (key("shop", name), Uid(Arc::from(uid)));
        self.revision += 1;
        let change = Change { revision: self.revision, at: self.now, key: key.clone(), uid: uid.clone(), record: None };
        self.tell(&Fact::Stored(Kind::Pod, &change));
        self.told(Event::Watched(Watched::Deleted(Kind::Pod, key, uid)));
    }

    pub(crate) fn binding(&mut self, change: impl FnOnce(&mut BindingRecord)) {
        let plan = BindingPlan::new("shop", "web-80", "web");
        let mut binding = BindingRecord {
            meta: fresh(plan.key(), "binding"),
            generation: 1,
            has_finalizer: true,
            spec: Arc::new(plan.spec(GROUP)),
            stack: None,
            open_when_not_in_use: false,
            gate_timeout: None,
            created: 0,
            status: None,
        };
        change(&mut binding);
        self.store(Record::Binding(binding));
    }

    /// A ready pod with a slice of its own that shows it.
    pub(crate) fn pod(&mut self, name: &str, uid: &str, address: &str, change: impl FnOnce(&mut PodRecord)) {
        let mut pod = pod(name, uid, address);
        change(&mut pod);
        let endpoint = Endpoint {
            address: address.parse().expect("an address"),
            ready: pod.ready,
            serving: pod.ready,
            terminating: pod.meta.deleting,
            pod: Some((pod.meta.key.name.clone(), pod.meta.uid.clone())),
            node: None,
            zone: None,
        };
        self.store(Record::Pod(pod));
        self.store(Record::Slice(slice(name, vec![endpoint])));
    }

    fn effect(&mut self, action: Action, fence: Option<u64>) -> Effect {
        self.effects += 1;
        self.now += Duration::from_millis(100);
        let cause = Cause { object: key("shop", "web-80"), because: "of the test".to_owned() };
        let deadline = self.now + Duration::from_secs(5);
        Effect { id: EffectId(self.effects), action, priority: Priority::Gates, deadline, fence, cause }
    }

    /// The registrar wants something; nothing comes of it yet.
    pub(crate) fn wants(&mut self, action: Action) -> Effect {
        self.wants_as(action, Some(1))
    }

    pub(crate) fn wants_as(&mut self, action: Action, fence: Option<u64>) -> Effect {
        let effect = self.effect(action, fence);
        self.tell(&Fact::Wants { replica: 0, effect: &effect });
        effect
    }

    /// A call, carried out and answered.
    pub(crate) fn call(&mut self, call: Call, outcome: Result<Reply, Fault>) {
        let action = Action::Aws { account: Account::Own, call: call.clone() };
        let effect = self.wants(action);
        self.tell(&Fact::Sent { replica: 0, effect: &effect });
        self.tell(&Fact::Called { replica: 0, effect: &effect, call: &call, outcome: &outcome });
        self.told(Event::Ended { id: effect.id, outcome: Outcome::Aws(outcome) });
    }

    pub(crate) fn register(&mut self, addresses: &[&str]) {
        self.call(Call::RegisterTargets { group: Arn::new(GROUP), targets: targets(addresses) }, Ok(Reply::Done));
    }

    pub(crate) fn deregister(&mut self, addresses: &[&str]) {
        self.call(Call::DeregisterTargets { group: Arn::new(GROUP), targets: targets(addresses) }, Ok(Reply::Done));
    }

    pub(crate) fn look(&mut self, states: &[(&str, HealthState)]) {
        let health = states.iter().map(|(address, state)| TargetHealth {
            target: targets(&[address]).remove(0),
            state: state.clone(),
            reason: None,
            description: None,
        });
        let reply = Reply::TargetHealth(health.collect());
        self.call(Call::DescribeTargetHealth { group: Arn::new(GROUP) }, Ok(reply));
    }

    pub(crate) fn look_fails(&mut self, code: &str) {
        let refusal = Refusal { code: code.to_owned(), message: String::new() };
        self.call(Call::DescribeTargetHealth { group: Arn::new(GROUP) }, Err(Fault::Refused(refusal)));
    }

    /// The load balancer turns healthy a target whose checks a pod has answered.
    pub(crate) fn turns_healthy(&mut self, address: &str, uid: &str) {
        let key = TargetKey { group: GROUP.to_owned(), address: address.to_owned(), port: TARGET_PORT };
        let uid = Uid(Arc::from(uid));
        for zone in ["a", "b"] {
            self.tell(&Fact::Probed { key: &key, zone, by: Some(&uid), passed: true });
        }
        self.tell(&Fact::Target { key: &key, from: "initial", to: "healthy" });
    }

    pub(crate) fn gate(&mut self, name: &str, uid: &str, status: GateStatus, reason: &str) {
        let action = Action::Kubernetes(Request::PatchGate {
            pod: key("shop", name),
            uid: Uid(Arc::from(uid)),
            condition_type: ReadinessGate::of_binding("web-80").expect("a gate").to_string(),
            condition: GateCondition { status, reason: reason.to_owned(), message: String::new() },
            moves: true,
        });
        self.wants(action);
    }

    pub(crate) fn read_endpoints(&mut self, slices: Vec<SliceRecord>, pods: Vec<PodRecord>) {
        let effect = self.wants(Action::Kubernetes(Request::ListEndpoints { service: key("shop", "web") }));
        let answer = Answer::Endpoints { slices, pods };
        self.told(Event::Ended { id: effect.id, outcome: Outcome::Kubernetes(Ok(answer)) });
    }
}

pub(crate) fn targets(addresses: &[&str]) -> Vec<Target> {
    let target =
        |id: &&str| Target { id: (*id).to_owned(), port: TARGET_PORT, availability_zone: None, quic_server_id: None };
    addresses.iter().map(target).collect()
}

fn fresh(key: registrar_core::cluster::Key, uid: &str) -> Meta {
    Meta { key, uid: Uid(Arc::from(uid)), revision: 0, deleting: false }
}

pub(crate) fn pod(name: &str, uid: &str, address: &str) -> PodRecord {
    let address: IpAddr = address.parse().expect("an address");
    let gates = vec![GateRecord { binding: Arc::from("web-80"), condition: None }];
    let created = created(fresh(key("shop", name), uid), gates);
    PodRecord { addresses: vec![address], containers_ready: true, ready: true, ..created }
}

/// The pod with its gate open.
pub(crate) fn open(pod: &mut PodRecord) {
    let condition = GateCondition { status: GateStatus::True, reason: String::new(), message: String::new() };
    pod.gates[0].condition = Some(condition);
}

pub(crate) fn slice(name: &str, endpoints: Vec<Endpoint>) -> SliceRecord {
    SliceRecord {
        meta: fresh(key("shop", &format!("slice-{name}")), &format!("slice-{name}")),
        service: Arc::from("web"),
        by_controller: true,
        family: Some(AddressFamily::Ipv4),
        ports: vec![(Arc::from("http"), TARGET_PORT, "TCP".to_owned())],
        endpoints,
    }
}
