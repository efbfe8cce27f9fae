//! What holds for every sequence of inputs: no panic, only declared codes, the two planes' invariants, and replay.

use std::{collections::BTreeMap, time::Duration};

use aws_model::{
    Answer, Body, Caller, Event, FlowEnd, FlowId, How, Model, Request, Service, Settings, Standing,
    operations::{Described, DescribedField, catalogue, common_errors},
    settings::Profile,
};
use proptest::prelude::*;
use world::World;

use crate::support::{Lab, Nlb, at, seconds};

/// A value for a field: mostly of its form, sometimes not.
fn value(field: &DescribedField) -> BoxedStrategy<String> {
    let odd = prop_oneof![".{0,40}", Just("-1".to_owned()), Just("99999999999999999999".to_owned())];
    let fitting = match field.kind {
        "integer" => (field.min.unwrap_or(0)..=field.max.unwrap_or(100)).prop_map(|n| n.to_string()).boxed(),
        "boolean" => prop_oneof![Just("true".to_owned()), Just("false".to_owned())].boxed(),
        "enum" => proptest::sample::select(field.values.to_vec()).prop_map(str::to_owned).boxed(),
        _ => proptest::sample::select(KNOWN.to_vec()).prop_map(str::to_owned).boxed(),
    };
    prop_oneof![4 => fitting, 1 => odd].boxed()
}

/// Texts that mean something to some operation.
const KNOWN: [&str; 14] = [
    "web",
    "TCP",
    "vpc-0a1b2c3d4e5f60718",
    "subnet-0a00000000000aaa2",
    "sg-0d00000000000ddd1",
    "192.168.11.21",
    "i-0a0000000000000a1",
    "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:loadbalancer/net/web/0000000000000000",
    "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/web/0000000000000000",
    "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:listener/net/web/0/0",
    "10.0.0.0/8",
    "all",
    "tag:kubernetes.io/role/internal-elb",
    "",
];

/// Form fields for an operation, by its table.
fn fields(prefix: &str, table: &[DescribedField], flat: bool) -> BoxedStrategy<Vec<(String, String)>> {
    let mut parts: Vec<BoxedStrategy<Vec<(String, String)>>> = Vec::new();
    for field in table {
        let name = format!("{prefix}{}", field.name);
        let item = if flat { format!("{name}.1") } else { format!("{name}.member.1") };
        let own = match (field.kind, field.fields.is_empty()) {
            ("list", true) => value(field).prop_map(move |v| vec![(item.clone(), v)]).boxed(),
            ("list", false) => fields(&format!("{item}."), &field.fields, flat),
            ("record", _) => fields(&format!("{name}."), &field.fields, flat),
            _ => value(field).prop_map(move |v| vec![(name.clone(), v)]).boxed(),
        };
        let weight = if field.required { 9 } else { 3 };
        parts.push(prop_oneof![weight => own, 3 => Just(Vec::new())].boxed());
    }
    parts.prop_map(|parts| parts.concat()).boxed()
}

fn request() -> BoxedStrategy<Request> {
    let of = |operation: Described| {
        let Described { service, name, fields: table, .. } = operation;
        let caller = Caller { access_key: "AKIATEST".to_owned(), ..Caller::default() };
        fields("", &table, service == Service::Ec2).prop_map(move |mut fields| {
            fields.push(("Version".to_owned(), service.version().to_owned()));
            let (action, caller) = (Some(name.to_owned()), Some(caller.clone()));
            Request { service, action, fields, defect: None, caller, token: None }
        })
    };
    let noise = proptest::collection::vec((".{0,30}", ".{0,30}"), 0..6).prop_map(|fields| Request {
        service: Service::Elb,
        action: None,
        fields,
        defect: None,
        caller: None,
        token: None,
    });
    prop_oneof![20 => proptest::sample::select(catalogue()).prop_flat_map(of), 1 => noise].boxed()
}

/// One step of a scenario.
#[derive(Debug, Clone)]
enum Step {
    Register(u8, u8),
    Deregister(u8, u8),
    Down(u8, bool),
    Connect(u8),
    Close,
    Pass(u16),
    Attribute(u8),
    Listener(bool),
    Impair(u8, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..6u8, 0..2u8).prop_map(|(pod, port)| Step::Register(pod, port)),
        2 => (0..6u8, 0..2u8).prop_map(|(pod, port)| Step::Deregister(pod, port)),
        2 => (0..6u8, any::<bool>()).prop_map(|(pod, down)| Step::Down(pod, down)),
        6 => (0..3u8).prop_map(Step::Connect),
        2 => Just(Step::Close),
        4 => (0..400u16).prop_map(Step::Pass),
        1 => (0..8u8).prop_map(Step::Attribute),
        1 => any::<bool>().prop_map(Step::Listener),
        1 => (0..3u8, any::<bool>()).prop_map(|(zone, impaired)| Step::Impair(zone, impaired)),
    ]
}

const ATTRIBUTES: [(&str, &str); 8] = [
    ("deregistration_delay.timeout_seconds", "0"),
    ("deregistration_delay.connection_termination.enabled", "true"),
    ("load_balancing.cross_zone.enabled", "true"),
    ("load_balancing.cross_zone.enabled", "false"),
    ("target_health_state.unhealthy.connection_termination.enabled", "false"),
    ("stickiness.enabled", "true"),
    ("proxy_protocol_v2.enabled", "true"),
    ("target_group_health.unhealthy_state_routing.minimum_healthy_targets.count", "2"),
];

struct Run {
    lab: Lab,
    nlb: Nlb,
    flows: Vec<FlowId>,
}

fn address(pod: u8) -> String {
    format!("192.168.{}.{}", 11 + pod % 3, 21 + pod / 3)
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut lab = Lab::seeded(
            Profile::Fast,
            &[("bucket.targets", "unlimited"), ("bucket.modify", "unlimited"), ("bucket.other", "unlimited")],
            seed,
        );
        let nlb = lab.nlb(3);
        lab.pass(seconds(2));
        Self { lab, nlb, flows: Vec::new() }
    }

    fn take(&mut self, step: &Step) {
        let group = self.nlb.group.clone();
        let target = |pod: u8, port: u8| {
            let port = 8080 + u16::from(port);
            format!("TargetGroupArn={group}&Targets.member.1.Id={}&Targets.member.1.Port={port}", address(pod))
        };
        match step {
            Step::Register(pod, port) => drop(self.lab.elb("RegisterTargets", &target(*pod, *port))),
            Step::Deregister(pod, port) => drop(self.lab.elb("DeregisterTargets", &target(*pod, *port))),
            Step::Down(pod, down) => {
                for port in [8080, 8081] {
                    let target = at(&address(*pod), port);
                    if *down {
                        self.lab.down.insert(target)
                    } else {
                        self.lab.down.remove(&target)
                    };
                }
            }
            Step::Connect(zone) => {
                if self.lab.open.is_empty() {
                    return;
                }
                let front = self.lab.front(usize::from(*zone));
                if let Answer::Forward(route) = self.lab.connect(front, "203.0.113.9") {
                    self.flows.push(route.flow);
                }
            }
            Step::Close => {
                if let Some(flow) = self.flows.pop() {
                    let end = FlowEnd { how: How::Closed, to_target: 0, to_client: 0 };
                    self.lab.model.closed(flow, end, self.lab.now);
                }
            }
            Step::Pass(tenths) => self.lab.pass(Duration::from_millis(u64::from(*tenths) * 100)),
            Step::Attribute(n) => {
                let (key, value) = ATTRIBUTES[usize::from(*n)];
                self.lab.attribute(&group, key, value);
            }
            Step::Listener(there) => {
                if *there {
                    self.nlb.listener = self.lab.listener(&self.nlb.balancer.clone(), 80, &group);
                } else {
                    let _ =
                        self.lab.send(Service::Elb, "DeleteListener", &format!("ListenerArn={}", self.nlb.listener));
                }
            }
            Step::Impair(zone, impaired) => {
                let zone = ["ap-northeast-2a", "ap-northeast-2b", "ap-northeast-2c"][usize::from(*zone)];
                self.lab.model.set_impaired(zone, *impaired, self.lab.now).expect("a zone");
            }
        }
        self.lab.settle();
        self.flows.retain(|flow| !self.lab.resets.contains(flow));
    }
}

/// Every rule that the log must keep.
fn check_log(run: &Run) -> Result<(), TestCaseError> {
    let mut standing: BTreeMap<String, Standing> = BTreeMap::new();
    let mut state: BTreeMap<String, String> = BTreeMap::new();
    let mut open: BTreeMap<FlowId, String> = BTreeMap::new();
    for (n, entry) in run.lab.log.iter().enumerate() {
        prop_assert_eq!(entry.sequence, n as u64 + 1, "the log has no gaps");
        match &entry.event {
            Event::Routing { who, standing: now, .. } => {
                standing.insert(who.clone(), *now);
            }
            Event::Target { who, from, to, .. } => {
                let before = state.insert(who.clone(), to.clone()).unwrap_or_else(|| "none".to_owned());
                prop_assert_eq!(&before, from, "{} changes from the state that it was in", who);
            }
            Event::FlowOpened { flow, target, fail_open, .. } => {
                let given = standing.get(target).copied().unwrap_or(Standing::None);
                let least = if *fail_open { Standing::Fallback } else { Standing::InService };
                prop_assert!(given >= least, "{} got a flow while it was {:?}", target, given);
                open.insert(*flow, target.clone());
            }
            Event::FlowClosed { flow, target, .. } => {
                let ended = open.remove(flow);
                prop_assert_eq!(ended.as_ref(), Some(target), "a flow ends once, at its target");
            }
            Event::Probe { who, .. } => {
                let now = state.get(who).map_or("none", String::as_str);
                let checked = ["initial", "healthy", "unhealthy", "unhealthy.draining"];
                prop_assert!(checked.contains(&now), "{} was checked while {}", who, now);
            }
            _ => {}
        }
    }
    prop_assert_eq!(open.len(), run.lab.model.counts().flows);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_answered_with_a_declared_code(requests in proptest::collection::vec(request(), 1..12)) {
        let world = World::parse(world::DEFAULT).expect("the shipped world");
        let mut model = Model::new(&world, Settings::profile(Profile::Instant), 3);
        for request in requests {
            let reply = model.handle(&request, seconds(1));
            match reply.body {
                Body::Result { .. } => prop_assert_eq!(reply.status, 200),
                Body::Error { code, message } => {
                    prop_assert!(reply.status >= 400 && !message.is_empty());
                    let own = catalogue().into_iter().find(|op| Some(op.name) == request.action.as_deref());
                    let named = own.is_some_and(|op| op.errors.contains(&code.as_str()));
                    let declared = named || common_errors(request.service).contains(&code.as_str());
                    prop_assert!(declared, "{:?} answers {}, which its table does not name", request.action, code);
                }
            }
            model.tick(seconds(1));
        }
    }

    #[test]
    fn no_sequence_of_events_breaks_the_planes(seed in any::<u64>(), steps in proptest::collection::vec(step(), 1..60)) {
        let mut run = Run::new(seed);
        for step in &steps {
            run.take(step);
            prop_assert_eq!(run.lab.model.counts().listening, run.lab.open.len());
        }
        check_log(&run)?;
        // Whatever happened, deleting all and waiting leaves nothing.
        run.lab.elb("DeleteLoadBalancer", &format!("LoadBalancerArn={}", run.nlb.balancer));
        run.lab.elb("DeleteTargetGroup", &format!("TargetGroupArn={}", run.nlb.group));
        run.lab.pass(seconds(4000));
        let counts = run.lab.model.counts();
        prop_assert_eq!((counts.flows, counts.targets, counts.listening), (0, 0, 0));
        prop_assert_eq!(run.lab.model.deadline(), None, "nothing is left to do");
    }

    #[test]
    fn same_seed_and_steps_give_the_same_log(seed in any::<u64>(), steps in proptest::collection::vec(step(), 1..30)) {
        let logs: Vec<_> = (0..2).map(|_| {
            let mut run = Run::new(seed);
            for step in &steps {
                run.take(step);
            }
            run.lab.log
        }).collect();
        prop_assert_eq!(&logs[0], &logs[1]);
    }
}
