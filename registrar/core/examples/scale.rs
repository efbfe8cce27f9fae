//! A thousand bindings and ten thousand pods: how long the core takes, and how much memory.
//!
//! `cargo run --release -p registrar-core --example scale`

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration, time::Instant};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nlb::{
    service::spec::AddressFamily,
    settings::TargetType,
    targetgroupbinding::{ServiceReference, TargetGroupBindingSpec, TargetGroupProtocol},
};
use registrar_core::{
    Event, Settings, State,
    aws::{Arn, Call, HealthCheck, HealthState, Reply, Target, TargetGroup, TargetGroupQuery, TargetHealth},
    cluster::{
        BindingRecord, Endpoint, GateCondition, GateRecord, GateStatus, Key, Kind, Meta, PodRecord, Record,
        ServicePort, ServiceRecord, SliceRecord, Uid,
    },
    effect::{Action, Effect, Request},
    event::{Answer, Outcome, Watched},
};

const BINDINGS: u32 = 1000;
const PODS: u32 = 10;

fn main() {
    let mut state = State::new(&Settings::default());
    let begin = Instant::now();
    for binding in 0..BINDINGS {
        for record in records(binding) {
            state.step(Event::Watched(Watched::Applied(record)), Duration::ZERO);
        }
    }
    for kind in [Kind::Service, Kind::Binding, Kind::Slice, Kind::Pod, Kind::Node, Kind::Namespace] {
        state.step(Event::Watched(Watched::Listed(kind)), Duration::ZERO);
    }
    println!("{BINDINGS} bindings with {PODS} pods each taken in: {:?}, {}", begin.elapsed(), resident());

    let begin = Instant::now();
    let until = Duration::from_hours(24);
    let mut run = Run { state, now: Duration::from_secs(1), reads: 0, writes: BTreeMap::new(), steps: 0 };
    run.step(Event::Leading { fence: 1, until });
    run.until(Duration::from_mins(15));
    println!("15 minutes from the beginning of a leadership: {:?}, {}", begin.elapsed(), resident());
    println!("  {} steps, {} reads of AWS, writes: {:?}", run.steps, run.reads, run.writes);

    (run.reads, run.steps) = (0, 0);
    run.writes.clear();
    let begin = Instant::now();
    run.until(Duration::from_mins(75));
    let spent = begin.elapsed();
    println!("an hour in which nothing changes: {spent:?}, {:.3} % of a core", spent.as_secs_f64() / 36.0);
    println!("  {} steps, {} reads of AWS, writes: {:?}", run.steps, run.reads, run.writes);

    let begin = Instant::now();
    for binding in 0..BINDINGS {
        for record in records(binding) {
            run.step(Event::Watched(Watched::Applied(record)));
        }
    }
    println!("a full resync of what is known: {:?}", begin.elapsed());

    let begin = Instant::now();
    for pod in 0..PODS {
        let mut record = pod_of(7, pod);
        record.meta.revision += 1;
        record.meta.deleting = true;
        run.step(Event::Watched(Watched::Applied(Record::Pod(record))));
    }
    run.until(run.now + Duration::from_secs(1));
    println!("{PODS} pods of one binding terminate: {:?}, writes: {:?}", begin.elapsed(), run.writes);
}

struct Run {
    state: State,
    now: Duration,
    reads: u64,
    writes: BTreeMap<&'static str, u64>,
    steps: u64,
}

impl Run {
    fn step(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            self.steps += 1;
            for effect in self.state.step(event, self.now) {
                let outcome = self.carry_out(&effect);
                events.push(Event::Ended { id: effect.id, outcome });
            }
        }
    }

    fn until(&mut self, end: Duration) {
        while let Some(at) = self.state.deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step(Event::Tick);
        }
        self.now = end;
    }

    fn carry_out(&mut self, effect: &Effect) -> Outcome {
        match &effect.action {
            Action::Aws { call, .. } => {
                if call.is_read() {
                    self.reads += 1;
                } else {
                    *self.writes.entry(call.operation()).or_default() += 1;
                }
                Outcome::Aws(Ok(reply(call)))
            }
            Action::Kubernetes(request) => {
                let name = match request {
                    Request::PatchGate { .. } => "PatchGate",
                    Request::PatchBindingStatus { .. } => "PatchBindingStatus",
                    Request::Publish(_) => "Publish",
                    _ => "other",
                };
                *self.writes.entry(name).or_default() += 1;
                Outcome::Kubernetes(Ok(Answer::Done))
            }
        }
    }
}

fn group(binding: u32) -> Arn {
    Arn::new(&format!(
        "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/k8s-shop-web-{binding:04}/0123456789abcdef"
    ))
}

fn address(binding: u32, pod: u32) -> std::net::Ipv4Addr {
    std::net::Ipv4Addr::from(0x0a00_0000 + binding * 256 + pod)
}

fn reply(call: &Call) -> Reply {
    let number = |arn: &Arn| arn.as_str().split('-').next_back().and_then(|rest| rest[..4].parse().ok()).unwrap_or(0);
    match call {
        Call::DescribeTargetHealth { group } => {
            let health = |pod| TargetHealth {
                target: Target {
                    id: address(number(group), pod).to_string(),
                    port: 8080,
                    availability_zone: Some("eu-west-1a".to_owned()),
                    quic_server_id: None,
                },
                state: HealthState::Healthy,
                reason: None,
                description: None,
            };
            Reply::TargetHealth((0..PODS).map(health).collect())
        }
        Call::DescribeTargetGroups(TargetGroupQuery::Arns(arns)) => {
            let describe = |arn: &Arn| TargetGroup {
                arn: arn.clone(),
                name: String::new(),
                protocol: "TCP".to_owned(),
                port: Some(8080),
                vpc_id: Some("vpc-1".to_owned()),
                target_type: "ip".to_owned(),
                ip_address_type: Some("ipv4".to_owned()),
                health_check: HealthCheck {
                    interval_seconds: Some(10),
                    healthy_threshold: Some(3),
                    unhealthy_threshold: Some(3),
                    ..HealthCheck::default()
                },
                load_balancers: Vec::new(),
            };
            Reply::TargetGroups { target_groups: arns.iter().map(describe).collect(), next_marker: None }
        }
        Call::DescribeTags { resources } => {
            let tags = BTreeMap::from([("elbv2.k8s.aws/namespaces".to_owned(), "*".to_owned())]);
            Reply::Tags(resources.iter().map(|arn| (arn.clone(), tags.clone())).collect())
        }
        _ => Reply::Done,
    }
}

fn meta(name: &str, revision: u64) -> Meta {
    let uid = format!("00000000-0000-4000-8000-{name}");
    Meta { key: Key::new("shop", name), uid: Uid(uid.as_str().into()), revision, deleting: false }
}

fn pod_of(binding: u32, pod: u32) -> PodRecord {
    let condition = GateCondition { status: GateStatus::True, reason: String::new(), message: String::new() };
    PodRecord {
        meta: meta(&format!("web-{binding:04}-7d9c5b8f6d-{pod:05}"), 10),
        addresses: vec![address(binding, pod).into()],
        own_interface: false,
        host_network: false,
        finished: false,
        containers_ready: true,
        ready: true,
        gates: vec![GateRecord { binding: format!("web-{binding:04}").as_str().into(), condition: Some(condition) }],
        held_by_foreign_gate: false,
        gates_declined: false,
        node: Some("ip-10-0-0-1.eu-west-1.compute.internal".into()),
        quic_server_ids: BTreeMap::new(),
        created: 0,
    }
}

fn records(binding: u32) -> Vec<Record> {
    let name = format!("web-{binding:04}");
    let service = ServiceRecord {
        meta: meta(&name, 10),
        ports: vec![ServicePort {
            name: "http".to_owned(),
            port: 80,
            protocol: "TCP".to_owned(),
            target_port: IntOrString::Int(8080),
            node_port: None,
        }],
        service_type: "ClusterIP".to_owned(),
        has_selector: true,
        local_traffic_only: false,
        created: 0,
        object: None,
    };
    let spec = TargetGroupBindingSpec {
        target_group_arn: Some(group(binding).to_string()),
        target_type: Some(TargetType::Ip),
        target_group_protocol: Some(TargetGroupProtocol::Tcp),
        ip_address_type: Some(AddressFamily::Ipv4),
        vpc_id: Some("vpc-1".to_owned()),
        service_ref: ServiceReference { name: name.clone(), port: IntOrString::Int(80) },
        ..TargetGroupBindingSpec::default()
    };
    let record = BindingRecord {
        meta: meta(&name, 10),
        generation: 1,
        has_finalizer: true,
        created: 0,
        spec: Arc::new(spec),
        stack: None,
        open_when_not_in_use: false,
        gate_timeout: None,
        status: None,
    };
    let pods: Vec<PodRecord> = (0..PODS).map(|pod| pod_of(binding, pod)).collect();
    let endpoint = |pod: &PodRecord| Endpoint {
        address: pod.addresses[0],
        ready: true,
        serving: true,
        terminating: false,
        pod: Some((pod.meta.key.name.clone(), pod.meta.uid.clone())),
        node: pod.node.clone(),
        zone: Some("eu-west-1a".into()),
    };
    let slice = SliceRecord {
        meta: meta(&format!("{name}-slice"), 10),
        service: name.as_str().into(),
        by_controller: true,
        family: Some(AddressFamily::Ipv4),
        ports: vec![("http".into(), 8080, "TCP".to_owned())],
        endpoints: pods.iter().map(endpoint).collect(),
    };
    let mut records = vec![Record::Service(service), Record::Binding(record), Record::Slice(slice)];
    records.extend(pods.into_iter().map(Record::Pod));
    records
}

fn resident() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmRSS")).unwrap_or("no figure").replace('\t', " ")
}
