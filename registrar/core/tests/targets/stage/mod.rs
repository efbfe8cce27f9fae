//! A stage for the core: a cluster and an AWS that answer at once, on a clock that is moved by hand.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a stage is for tests only")]

mod answers;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nlb::{
    service::spec::AddressFamily,
    settings::TargetType,
    targetgroupbinding::{ServiceReference, TargetGroupBindingSpec, TargetGroupProtocol},
};
use registrar_core::{
    Effect, Event, Settings, State,
    aws::{Call, Fault, HealthState, Refusal, Target},
    cluster::{
        BindingRecord, Endpoint, GateRecord, GateStatus, Key, Kind, Meta, NamespaceRecord, PodRecord, Record,
        ServicePort, ServiceRecord, SliceRecord, Uid,
    },
    effect::{Action, Request},
    event::{Outcome, Watched},
};

pub const GROUP: &str = "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/web/1";
pub const NAMESPACE: &str = "shop";

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn refused(code: &str, message: &str) -> Fault {
    Fault::Refused(Refusal { code: code.to_owned(), message: message.to_owned() })
}

/// What AWS has at a place.
#[derive(Debug, Clone)]
pub struct Place {
    pub since: Duration,
    pub draining: bool,
    pub zone: Option<String>,
}

/// A target group of the stage.
#[derive(Debug, Clone, Default)]
pub struct Group {
    pub targets: BTreeMap<(String, u16), Place>,
    pub tags: BTreeMap<String, String>,
    pub unhealthy: BTreeSet<String>,
    /// Reported instead of what would be, by address.
    pub state: BTreeMap<String, (HealthState, Option<&'static str>)>,
    pub target_type: &'static str,
}

type Meddle = Box<dyn FnMut(&Effect) -> Option<Outcome>>;

pub struct Stage {
    pub state: State,
    pub now: Duration,
    pub revision: u64,
    pub pods: BTreeMap<Key, PodRecord>,
    pub bindings: BTreeMap<Key, BindingRecord>,
    pub services: BTreeMap<Key, ServiceRecord>,
    pub groups: BTreeMap<String, Group>,
    pub ledgers: BTreeMap<Key, Vec<String>>,
    /// How long after its registration a target is healthy.
    pub health_delay: Duration,
    /// Everything that was sent, with when.
    pub sent: Vec<(Duration, Effect)>,
    /// Answers in place of the stage's own; applied means that the effect takes place before.
    pub meddle: Option<Meddle>,
    /// Whether an effect that is meddled with takes place nevertheless.
    pub meddled_takes_place: bool,
    /// Whether slices follow pods by themselves.
    pub slices_follow: bool,
    /// Endpoints as the cluster has them, if they do not follow from the pods.
    pub endpoints_shown: Option<Vec<Endpoint>>,
    /// The operation whose answers are late: they come when [`Stage::let_arrive`] is called.
    pub late: Option<&'static str>,
    kept: Vec<Event>,
    pending: VecDeque<Event>,
    led: bool,
}

impl Stage {
    pub fn new(settings: &Settings) -> Self {
        let group = Group { target_type: "ip", ..Group::default() };
        let mut settings = settings.clone();
        settings.features.load_balancers = false;
        Self {
            state: State::new(&settings),
            now: seconds(1),
            revision: 10,
            pods: BTreeMap::new(),
            bindings: BTreeMap::new(),
            services: BTreeMap::new(),
            groups: BTreeMap::from([(GROUP.to_owned(), group)]),
            ledgers: BTreeMap::new(),
            health_delay: seconds(5),
            sent: Vec::new(),
            meddle: None,
            meddled_takes_place: false,
            slices_follow: true,
            endpoints_shown: None,
            late: None,
            kept: Vec::new(),
            pending: VecDeque::new(),
            led: false,
        }
    }

    /// With a Service, a binding to [`GROUP`] and a labelled namespace; listed, and leading.
    pub fn ready(settings: &Settings) -> Self {
        let mut stage = Self::new(settings);
        stage.furnish();
        stage.list_all();
        stage.lead();
        stage
    }

    pub fn furnish(&mut self) {
        let meta = self.meta("", NAMESPACE, "namespace");
        self.tell(Watched::Applied(Record::Namespace(NamespaceRecord { meta, gates_wanted: true })));
        self.add_service("web");
        self.add_binding("web", GROUP, |_| {});
    }

    pub fn list_all(&mut self) {
        for kind in [Kind::Service, Kind::Binding, Kind::Slice, Kind::Pod, Kind::Node, Kind::Namespace] {
            self.tell(Watched::Listed(kind));
        }
    }

    pub fn lead(&mut self) {
        self.led = true;
        let until = self.now + seconds(100_000);
        self.step(Event::Leading { fence: 1, until });
    }

    pub fn meta(&mut self, namespace: &str, name: &str, uid: &str) -> Meta {
        self.revision += 1;
        let key = Key::new(namespace, name);
        Meta { key, uid: Uid(uid.into()), revision: self.revision, deleting: false }
    }

    pub fn add_service(&mut self, name: &str) {
        let meta = self.meta(NAMESPACE, name, &format!("service-{name}-{}", self.revision));
        let port = ServicePort {
            name: "http".to_owned(),
            port: 80,
            protocol: "TCP".to_owned(),
            target_port: IntOrString::Int(8080),
            node_port: Some(30080),
        };
        let record = ServiceRecord {
            meta,
            ports: vec![port],
            service_type: "NodePort".to_owned(),
            has_selector: true,
            local_traffic_only: false,
            created: 0,
            object: None,
        };
        self.services.insert(record.meta.key.clone(), record.clone());
        self.tell(Watched::Applied(Record::Service(record)));
    }

    pub fn remove_service(&mut self, name: &str) {
        let key = Key::new(NAMESPACE, name);
        let record = self.services.remove(&key).unwrap();
        self.tell(Watched::Deleted(Kind::Service, key, record.meta.uid));
    }

    pub fn add_binding(&mut self, name: &str, arn: &str, change: impl FnOnce(&mut BindingRecord)) {
        let meta = self.meta(NAMESPACE, name, &format!("binding-{name}-{}", self.revision));
        let spec = TargetGroupBindingSpec {
            target_group_arn: Some(arn.to_owned()),
            target_type: Some(TargetType::Ip),
            target_group_protocol: Some(TargetGroupProtocol::Tcp),
            ip_address_type: Some(AddressFamily::Ipv4),
            vpc_id: Some("vpc-1".to_owned()),
            service_ref: ServiceReference { name: "web".to_owned(), port: IntOrString::Int(80) },
            ..TargetGroupBindingSpec::default()
        };
        let mut record = BindingRecord {
            meta,
            generation: 1,
            has_finalizer: false,
            created: 0,
            spec: Arc::new(spec),
            stack: None,
            open_when_not_in_use: false,
            gate_timeout: None,
            status: None,
        };
        change(&mut record);
        self.put_binding(record);
    }

    /// Lets other clusters share the group of the binding `web`.
    pub fn share(&mut self) {
        let mut record = self.bindings[&Key::new(NAMESPACE, "web")].clone();
        let mut spec = (*record.spec).clone();
        spec.multi_cluster_target_group = Some(true);
        record.spec = Arc::new(spec);
        self.put_binding(record);
    }

    pub fn put_binding(&mut self, mut record: BindingRecord) {
        self.revision += 1;
        record.meta.revision = self.revision;
        self.bindings.insert(record.meta.key.clone(), record.clone());
        self.tell(Watched::Applied(Record::Binding(record)));
    }

    pub fn delete_binding(&mut self, name: &str) {
        let mut record = self.bindings[&Key::new(NAMESPACE, name)].clone();
        record.meta.deleting = true;
        self.put_binding(record);
    }

    /// A pod that runs, with the gate of the binding `web`.
    pub fn add_pod(&mut self, name: &str, address: &str) {
        self.add_pod_with(name, address, |_| {});
    }

    pub fn add_pod_with(&mut self, name: &str, address: &str, change: impl FnOnce(&mut PodRecord)) {
        let meta = self.meta(NAMESPACE, name, &format!("{name}-{}", self.revision));
        let mut pod = PodRecord {
            meta,
            addresses: vec![address.parse().unwrap()],
            own_interface: false,
            host_network: false,
            finished: false,
            containers_ready: true,
            ready: false,
            gates: vec![GateRecord { binding: "web".into(), condition: None }],
            held_by_foreign_gate: false,
            gates_declined: false,
            node: None,
            quic_server_ids: BTreeMap::new(),
            created: 100,
        };
        change(&mut pod);
        self.put_pod(pod);
    }

    pub fn put_pod(&mut self, mut pod: PodRecord) {
        self.revision += 1;
        pod.meta.revision = self.revision;
        pod.ready = pod.containers_ready && pod.gates.iter().all(GateExt::is_open) && !pod.held_by_foreign_gate;
        self.pods.insert(pod.meta.key.clone(), pod.clone());
        self.tell(Watched::Applied(Record::Pod(pod)));
        self.sync_slices();
    }

    pub fn change_pod(&mut self, name: &str, change: impl FnOnce(&mut PodRecord)) {
        let mut pod = self.pod(name).clone();
        change(&mut pod);
        self.put_pod(pod);
    }

    pub fn pod(&self, name: &str) -> &PodRecord {
        &self.pods[&Key::new(NAMESPACE, name)]
    }

    /// Deletes a pod: it terminates.
    pub fn terminate(&mut self, name: &str) {
        self.change_pod(name, |pod| pod.meta.deleting = true);
    }

    /// A pod is gone.
    pub fn remove_pod(&mut self, name: &str) {
        let key = Key::new(NAMESPACE, name);
        let pod = self.pods.remove(&key).unwrap();
        self.tell(Watched::Deleted(Kind::Pod, key, pod.meta.uid));
        self.sync_slices();
    }

    pub fn slice(&mut self) -> SliceRecord {
        let endpoints = self.pods.values().filter(|pod| !pod.finished).map(|pod| Endpoint {
            address: pod.addresses[0],
            ready: pod.ready && !pod.meta.deleting,
            serving: pod.ready,
            terminating: pod.meta.deleting,
            pod: Some((pod.meta.key.name.clone(), pod.meta.uid.clone())),
            node: pod.node.clone(),
            zone: None,
        });
        let endpoints = endpoints.collect();
        SliceRecord {
            meta: self.meta(NAMESPACE, "web-1", "slice"),
            service: "web".into(),
            by_controller: true,
            family: Some(AddressFamily::Ipv4),
            ports: vec![("http".into(), 8080, "TCP".to_owned())],
            endpoints,
        }
    }

    pub fn sync_slices(&mut self) {
        if self.slices_follow {
            let slice = self.slice();
            self.put_slice(slice);
        }
    }

    pub fn put_slice(&mut self, mut slice: SliceRecord) {
        self.revision += 1;
        slice.meta.revision = self.revision;
        self.tell(Watched::Applied(Record::Slice(slice)));
    }

    pub fn tell(&mut self, watched: Watched) {
        self.step(Event::Watched(watched));
    }

    pub fn step(&mut self, event: Event) {
        self.pending.push_back(event);
        if self.pending.len() > 1 {
            return;
        }
        while let Some(event) = self.pending.front().cloned() {
            let effects = self.state.step(event, self.now);
            for effect in effects {
                self.carry_out(&effect);
            }
            self.pending.pop_front();
        }
    }

    /// Lets time pass.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut steps = 0;
        while let Some(at) = self.state.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step(Event::Tick);
            steps += 1;
            assert!(steps < 100_000, "it never rests");
        }
        self.now = end;
    }

    fn carry_out(&mut self, effect: &Effect) {
        self.sent.push((self.now, effect.clone()));
        let meddled = self.meddle.as_mut().and_then(|meddle| meddle(effect));
        let outcome = match meddled {
            Some(outcome) if !self.meddled_takes_place => outcome,
            other => {
                let own = match &effect.action {
                    Action::Aws { call, .. } => Outcome::Aws(self.call(call)),
                    Action::Kubernetes(request) => Outcome::Kubernetes(self.request(request)),
                };
                other.unwrap_or(own)
            }
        };
        let ended = Event::Ended { id: effect.id, outcome };
        match &effect.action {
            Action::Aws { call, .. } if Some(call.operation()) == self.late => self.kept.push(ended),
            _ => self.pending.push_back(ended),
        }
    }

    /// Answers that are late arrive, and no further ones are.
    pub fn let_arrive(&mut self) {
        self.late = None;
        for event in std::mem::take(&mut self.kept) {
            self.step(event);
        }
    }

    // What tests ask.

    pub fn group(&mut self) -> &mut Group {
        self.groups.get_mut(GROUP).unwrap()
    }

    /// Addresses that are registered and not draining.
    pub fn registered(&self) -> Vec<String> {
        let targets = self.groups[GROUP].targets.iter();
        targets.filter(|(_, place)| !place.draining).map(|((id, _), _)| id.clone()).collect()
    }

    pub fn gate(&self, pod: &str) -> (GateStatus, String) {
        let condition = self.pod(pod).gates[0].condition.clone();
        condition.map_or((GateStatus::Unknown, "unset".to_owned()), |c| (c.status, c.reason))
    }

    pub fn is_open(&self, pod: &str) -> bool {
        self.gate(pod).0 == GateStatus::True
    }

    /// Calls of this name, with when they were sent.
    pub fn calls(&self, operation: &str) -> Vec<(Duration, Call)> {
        let calls = self.sent.iter().filter_map(|(at, effect)| match &effect.action {
            Action::Aws { call, .. } if call.operation() == operation => Some((*at, call.clone())),
            _ => None,
        });
        calls.collect()
    }

    pub fn deregistered(&self) -> Vec<String> {
        let calls = self.calls("DeregisterTargets");
        let ids = calls.into_iter().flat_map(|(_, call)| match call {
            Call::DeregisterTargets { targets, .. } => targets,
            _ => Vec::new(),
        });
        ids.map(|target: Target| target.id).collect()
    }

    /// Events of this reason: message.
    pub fn events(&self, reason: &str) -> Vec<String> {
        let notices = self.sent.iter().filter_map(|(_, effect)| match &effect.action {
            Action::Kubernetes(Request::Publish(notice)) if notice.reason == reason => Some(notice.message.clone()),
            _ => None,
        });
        notices.collect()
    }

    /// Writes, to AWS and to the API server, but for Events.
    pub fn writes(&self) -> Vec<String> {
        let writes = self.sent.iter().filter(|(_, effect)| !effect.action.is_read()).filter_map(|(_, effect)| {
            match &effect.action {
                Action::Kubernetes(Request::Publish(_)) => None,
                other => Some(format!("{other:?}")),
            }
        });
        writes.collect()
    }

    pub fn condition(&self, binding: &str, name: &str) -> (String, String, String) {
        let record = &self.bindings[&Key::new(NAMESPACE, binding)];
        let status = record.status.as_ref().expect("a status");
        let condition = status.conditions.iter().flatten().find(|condition| condition.type_ == name).expect(name);
        (condition.status.clone(), condition.reason.clone(), condition.message.clone())
    }
}

trait GateExt {
    fn is_open(&self) -> bool;
}

impl GateExt for GateRecord {
    fn is_open(&self) -> bool {
        self.condition.as_ref().is_some_and(|condition| condition.status == GateStatus::True)
    }
}
