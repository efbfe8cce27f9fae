//! The whole core, an API server by value and an AWS account, in one loop: Services go in, load balancers come out.

mod kubernetes;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use aws_model::{Model, settings::Profile};
use k8s_openapi::{
    api::core::v1::{Node, Service},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use nlb::{settings::ModelSettings, targetgroupbinding::TargetGroupBinding};
use registrar_core::{
    Effect, Event, Settings, State,
    aws::{Arn, Call, Fault, LoadBalancerQuery, Refusal, Reply},
    cluster::{
        BindingRecord, GateStatus, Key, Kind, Meta, NodeRecord, PodRecord, Record, ServiceRecord, SliceRecord, Uid,
    },
    effect::{Action, Notice, Request},
    event::{Outcome, Watched},
    settings::Vpc,
};
use serde_json::json;
use simulation::aws;
use world::World;

use crate::bench::{Cut, VPC};

const KINDS: [Kind; 6] = [Kind::Service, Kind::Binding, Kind::Slice, Kind::Pod, Kind::Node, Kind::Namespace];

/// The security group of pods that have an interface of their own, and such an interface.
pub(crate) const OF_PODS: &str = "sg-0e00000000000eee1";
const POD_GROUP: &str = "securityGroups:\n  - { id: sg-0e00000000000eee1, name: lab-pods }\n";
const POD_INTERFACE: &str = "interfaces:\n  - { id: eni-0e00000000000eee1, subnet: subnet-0a00000000000aaa2, \
                             address: 192.168.11.200, securityGroups: [sg-0e00000000000eee1] }\n";

/// A call that AWS does not take.
pub(crate) struct Refuse {
    pub(crate) operation: &'static str,
    /// An id that it has to name.
    pub(crate) about: &'static str,
    pub(crate) code: &'static str,
}

impl Refuse {
    fn answer(&self, call: &Call) -> Option<Fault> {
        let meant = call.operation() == self.operation && format!("{call:?}").contains(self.about);
        let message = "You are not authorized to perform this operation.".to_owned();
        meant.then(|| Fault::Refused(Refusal { code: self.code.to_owned(), message }))
    }
}

pub(crate) struct Stage {
    state: State,
    pub(crate) settings: Settings,
    pub(crate) model: Model,
    pub(crate) now: Duration,
    pub(crate) services: BTreeMap<Key, Service>,
    pub(crate) bindings: BTreeMap<Key, TargetGroupBinding>,
    nodes: Vec<Node>,
    pods: Vec<PodRecord>,
    slices: Vec<SliceRecord>,
    /// Conditions of gates that were written: pod, status and reason.
    pub(crate) gates: Vec<(String, GateStatus, String)>,
    events: VecDeque<Event>,
    revision: u64,
    fence: u64,
    /// Calls and requests that were sent, by operation, with whether they write.
    pub(crate) sent: Vec<(String, bool)>,
    pub(crate) notices: Vec<Notice>,
    /// After how many more effects the process is killed, and how.
    pub(crate) cut: Option<(usize, Cut)>,
    pub(crate) killed: u32,
    pub(crate) throttled: u32,
    pub(crate) refuse: Option<Refuse>,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::with(&aws_model::Settings::profile(Profile::Instant), 1)
    }

    pub(crate) fn with(aws: &aws_model::Settings, seed: u64) -> Self {
        // Public subnets that have room for hundreds of load balancers.
        let mut world = world::DEFAULT.to_owned();
        for (small, large) in [("1.0/24", "128.0/20"), ("2.0/24", "144.0/20"), ("3.0/24", "160.0/20")] {
            world = world.replace(&format!("cidr: 192.168.{small}"), &format!("cidr: 192.168.{large}"));
        }
        let world = format!("{}{POD_INTERFACE}", world.replace("securityGroups:\n", POD_GROUP));
        let world = World::parse(&world).expect("the shipped world, with more room and an interface of a pod");
        let model = ModelSettings {
            cluster_name: world.cluster.clone(),
            region: Some(world.region.clone()),
            ..ModelSettings::default()
        };
        let settings = Settings {
            model: Arc::new(model),
            vpc: Some(Vpc { id: VPC.to_owned(), subnets: Vec::new() }),
            ..Settings::default()
        };
        let nodes = world.instances.iter().map(|instance| {
            serde_json::from_value(json!({
                "metadata": {"name": instance.id, "uid": instance.id, "resourceVersion": "1"},
                "spec": {"providerID": format!("aws:///zone/{}", instance.id)},
                "status": {"conditions": [{"type": "Ready", "status": "True"}]},
            }))
            .expect("a node")
        });
        let mut stage = Self {
            state: State::new(&settings),
            settings,
            model: Model::new(&world, aws.clone(), seed),
            now: Duration::ZERO,
            services: BTreeMap::new(),
            bindings: BTreeMap::new(),
            nodes: nodes.collect(),
            pods: Vec::new(),
            slices: Vec::new(),
            gates: Vec::new(),
            events: VecDeque::new(),
            revision: 10,
            fence: 0,
            sent: Vec::new(),
            notices: Vec::new(),
            cut: None,
            killed: 0,
            throttled: 0,
            refuse: None,
        };
        stage.start();
        stage
    }

    /// A process begins: it knows nothing, lists everything and leads.
    pub(crate) fn start(&mut self) {
        self.state = State::new(&self.settings);
        self.events.clear();
        self.fence += 1;
        for kind in KINDS {
            self.events.push_back(Event::Watched(Watched::Restarted(kind)));
            let records: Vec<Record> = match kind {
                Kind::Service => self.services.values().filter_map(|object| self.service_record(object)).collect(),
                Kind::Binding => self.bindings.values().filter_map(binding_record).collect(),
                Kind::Node => self.nodes.iter().filter_map(|node| NodeRecord::of(node).map(Record::Node)).collect(),
                Kind::Pod => self.pods.iter().cloned().map(Record::Pod).collect(),
                Kind::Slice => self.slices.iter().cloned().map(Record::Slice).collect(),
                Kind::Namespace => Vec::new(),
            };
            self.events.extend(records.into_iter().map(|record| Event::Watched(Watched::Applied(record))));
            self.events.push_back(Event::Watched(Watched::Listed(kind)));
        }
        let until = self.now + Duration::from_hours(1000);
        self.events.push_back(Event::Leading { fence: self.fence, until });
    }

    fn service_record(&self, object: &Service) -> Option<Record> {
        ServiceRecord::of(object, &self.settings.model).map(Record::Service)
    }

    /// Lets things happen for so long.
    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        for _ in 0..200_000 {
            let event = self.events.pop_front();
            let quiet = event.is_none();
            if quiet {
                self.settle_aws();
            }
            let effects = self.state.step(event.unwrap_or(Event::Tick), self.now);
            let nothing = effects.is_empty();
            for effect in effects {
                if !self.perform(effect) {
                    break;
                }
            }
            if !quiet || !nothing || !self.events.is_empty() {
                continue;
            }
            let next = [self.state.deadline(), self.model.deadline()].into_iter().flatten().min();
            match next {
                Some(next) if next <= end => self.now = next.max(self.now + Duration::from_millis(1)),
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("never quiet: {:?}", &self.sent[self.sent.len().saturating_sub(40)..]);
    }

    fn settle_aws(&mut self) {
        for command in self.model.tick(self.now) {
            if let aws_model::Command::Probe(probe) = command {
                self.model.probed(probe.id, &aws_model::ProbeOutcome::Connected, self.now);
            }
        }
    }

    /// Carries an effect out. Says whether the process lives on.
    fn perform(&mut self, effect: Effect) -> bool {
        let cut = match &mut self.cut {
            Some((0, cut)) => Some(*cut),
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        };
        if cut == Some(Cut::Before) {
            return self.die();
        }
        let (name, is_read) = match &effect.action {
            Action::Aws { call, .. } => (call.operation().to_owned(), call.is_read()),
            Action::Kubernetes(request) => {
                let text = format!("{request:?}");
                let name = text.split([' ', '(']).next().unwrap_or_default().to_owned();
                (name, effect.action.is_read() || matches!(request, Request::Publish(_)))
            }
        };
        self.sent.push((name, !is_read));
        let outcome = match effect.action {
            Action::Aws { call, .. } => {
                let refused = self.refuse.as_ref().and_then(|refuse| refuse.answer(&call)).map(Err);
                let outcome = refused.unwrap_or_else(|| aws::call(&mut self.model, &call, self.now).outcome);
                self.settle_aws();
                self.throttled += u32::from(matches!(outcome, Err(Fault::Throttled { .. })));
                if let Err(fault) = &outcome {
                    self.sent.push((format!("{}: {fault}", call.operation()), false));
                }
                Outcome::Aws(outcome)
            }
            Action::Kubernetes(request) => Outcome::Kubernetes(self.kubernetes(request)),
        };
        if cut == Some(Cut::NoReply) {
            return self.die();
        }
        let effects = self.state.step(Event::Ended { id: effect.id, outcome }, self.now);
        if cut == Some(Cut::After) {
            return self.die();
        }
        effects.into_iter().all(|effect| self.perform(effect))
    }

    fn die(&mut self) -> bool {
        self.cut = None;
        self.killed += 1;
        self.start();
        false
    }

    pub(crate) fn apply(&mut self, mut service: Service) -> Key {
        self.revision += 1;
        let metadata = &mut service.metadata;
        metadata.namespace.get_or_insert_with(|| "default".to_owned());
        let key =
            Key::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default());
        let uid = self.services.get(&key).and_then(|old| old.metadata.uid.clone());
        metadata.uid = uid.or(metadata.uid.take()).or(Some(format!("uid-{}", self.revision)));
        metadata.resource_version = Some(self.revision.to_string());
        self.services.insert(key.clone(), service);
        self.tell_service(&key);
        key
    }

    /// A pod that waits for a gate.
    pub(crate) fn gated_pod(&mut self, name: &str, binding: &str) {
        self.revision += 1;
        let pod = serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "default", "uid": name, "resourceVersion": self.revision.to_string(),
                "labels": {"app": "echoserver"},
            },
            "spec": {"readinessGates": [{"conditionType": format!("target-health.elbv2.k8s.aws/{binding}")}]},
            "status": {"podIPs": [{"ip": "192.168.11.21"}], "conditions": [{"type": "ContainersReady", "status": "True"}]},
        }))
        .expect("a pod");
        let record = PodRecord::of(&pod, "AWS_LBC_QUIC_SERVER_ID").expect("a record");
        self.pods.push(record.clone());
        self.events.push_back(Event::Watched(Watched::Applied(Record::Pod(record))));
    }

    /// A pod behind a Service, at the address of the interface that is the pod's own: on Fargate, or because it is annotated
    /// with it.
    pub(crate) fn pod_with_interface(&mut self, name: &str, service: &str, on_fargate: bool) {
        self.revision += 1;
        let (revision, address) = (self.revision.to_string(), "192.168.11.200");
        let interfaces = format!(r#"[{{"eniId":"eni-0e00000000000eee1","privateIp":"{address}"}}]"#);
        let annotations = if on_fargate { json!({}) } else { json!({"vpc.amazonaws.com/pod-eni": interfaces}) };
        if on_fargate {
            let node = json!({"metadata": {
                "name": "fargate", "uid": "fargate", "resourceVersion": revision,
                "labels": {"eks.amazonaws.com/compute-type": "fargate"},
            }});
            self.nodes.push(serde_json::from_value(node).expect("a node"));
            let record = self.nodes.last().and_then(NodeRecord::of).map(Record::Node);
            self.events.extend(record.map(|record| Event::Watched(Watched::Applied(record))));
        }
        let pod = serde_json::from_value(json!({
            "metadata": {
                "name": name, "namespace": "default", "uid": name, "resourceVersion": revision,
                "annotations": annotations,
            },
            "spec": {"containers": [], "nodeName": if on_fargate { "fargate" } else { "i-0a0000000000000a1" }},
            "status": {"podIPs": [{"ip": address}], "conditions": [{"type": "ContainersReady", "status": "True"}]},
        }))
        .expect("a pod");
        let slice = serde_json::from_value(json!({
            "metadata": {
                "name": format!("{service}-1"), "namespace": "default", "uid": service, "resourceVersion": revision,
                "labels": {
                    "kubernetes.io/service-name": service,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
            },
            "addressType": "IPv4",
            "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [{
                "addresses": [address], "targetRef": {"kind": "Pod", "name": name, "namespace": "default", "uid": name},
                "conditions": {"ready": true, "serving": true, "terminating": false},
            }],
        }))
        .expect("a slice");
        self.pods.extend(PodRecord::of(&pod, "AWS_LBC_QUIC_SERVER_ID"));
        self.slices.extend(SliceRecord::of(&slice));
        let pods = self.pods.last().cloned().map(Record::Pod);
        let slices = self.slices.last().cloned().map(Record::Slice);
        self.events.extend(pods.into_iter().chain(slices).map(|record| Event::Watched(Watched::Applied(record))));
    }

    /// All pods and slices are gone.
    pub(crate) fn remove_pods(&mut self) {
        let gone = |kind, meta: &Meta| Event::Watched(Watched::Deleted(kind, meta.key.clone(), meta.uid.clone()));
        self.events.extend(self.slices.iter().map(|slice| gone(Kind::Slice, &slice.meta)));
        self.events.extend(self.pods.iter().map(|pod| gone(Kind::Pod, &pod.meta)));
        self.slices.clear();
        self.pods.clear();
    }

    pub(crate) fn change(&mut self, key: &Key, change: impl FnOnce(&mut Service)) {
        self.revision += 1;
        let service = self.services.get_mut(key).expect("a Service");
        change(service);
        service.metadata.resource_version = Some(self.revision.to_string());
        self.tell_service(key);
    }

    pub(crate) fn annotate(&mut self, key: &Key, name: &str, value: Option<&str>) {
        let name = format!("service.beta.kubernetes.io/aws-load-balancer-{name}");
        self.change(key, |service| {
            let annotations = service.metadata.annotations.get_or_insert_default();
            match value {
                Some(value) => _ = annotations.insert(name, value.to_owned()),
                None => _ = annotations.remove(&name),
            }
        });
    }

    /// As `kubectl delete`.
    pub(crate) fn delete(&mut self, key: &Key) {
        self.change(key, |service| service.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH)));
        self.collect_service(key);
    }

    fn tell_service(&mut self, key: &Key) {
        let record = self.services.get(key).and_then(|service| self.service_record(service));
        self.events.extend(record.map(|record| Event::Watched(Watched::Applied(record))));
    }

    fn collect_service(&mut self, key: &Key) {
        let Some(service) = self.services.get(key) else { return };
        let metadata = &service.metadata;
        if metadata.deletion_timestamp.is_some() && metadata.finalizers.as_ref().is_none_or(Vec::is_empty) {
            let uid = Uid(metadata.uid.as_deref().unwrap_or_default().into());
            self.services.remove(key);
            self.events.push_back(Event::Watched(Watched::Deleted(Kind::Service, key.clone(), uid)));
        }
    }

    fn touch_binding(&mut self, key: &Key, change: impl FnOnce(&mut TargetGroupBinding)) {
        self.revision += 1;
        let Some(binding) = self.bindings.get_mut(key) else { return };
        change(binding);
        binding.metadata.resource_version = Some(self.revision.to_string());
        let metadata = &binding.metadata;
        let gone = metadata.deletion_timestamp.is_some() && metadata.finalizers.as_ref().is_none_or(Vec::is_empty);
        let event = if gone {
            let uid = Uid(metadata.uid.as_deref().unwrap_or_default().into());
            self.bindings.remove(key);
            Some(Watched::Deleted(Kind::Binding, key.clone(), uid))
        } else {
            binding_record(binding).map(Watched::Applied)
        };
        self.events.extend(event.map(Event::Watched));
    }

    /// Somebody deletes the load balancer and its target group by hand.
    pub(crate) fn delete_all_in_aws(&mut self) {
        let group = self.bindings.values().find_map(|binding| binding.spec.target_group_arn.clone()).expect("an ARN");
        let every = Call::DescribeLoadBalancers(LoadBalancerQuery::All { marker: None });
        let Ok(Reply::LoadBalancers { load_balancers, .. }) = aws::call(&mut self.model, &every, self.now).outcome
        else {
            panic!("no answer")
        };
        let balancers = load_balancers.into_iter().map(|found| Call::DeleteLoadBalancer { load_balancer: found.arn });
        for call in balancers.chain([Call::DeleteTargetGroup { group: Arn::new(&group) }]) {
            aws::call(&mut self.model, &call, self.now).outcome.expect("it is deleted");
            self.settle_aws();
        }
    }

    pub(crate) fn hostname(&self, key: &Key) -> Option<String> {
        let ingress = self.services.get(key)?.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
        ingress.first()?.hostname.clone()
    }

    /// `Type=Status Reason: message` of each condition.
    pub(crate) fn conditions(&self, key: &Key) -> Vec<String> {
        let status = self.services.get(key).and_then(|service| service.status.as_ref());
        let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        conditions.map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message)).collect()
    }

    pub(crate) fn is_active(&self, key: &Key) -> bool {
        self.conditions(key).iter().any(|condition| condition.starts_with("Active=True"))
    }

    pub(crate) fn writes(&self) -> Vec<&str> {
        self.sent.iter().filter(|(_, writes)| *writes).map(|(name, _)| name.as_str()).collect()
    }
}

fn binding_record(binding: &TargetGroupBinding) -> Option<Record> {
    BindingRecord::of(binding).map(Record::Binding)
}
