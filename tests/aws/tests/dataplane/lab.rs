//! A model and its data plane on loopback addresses, and waiting for what they do.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_emulator::{Engine, dataplane};
use aws_model::{Body, Caller, Entry, Event, Model, Request, Resolution, Service, Settings, Value, settings::Profile};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use world::World;

/// Longer than anything here takes, also on a busy machine.
const DEADLINE: Duration = Duration::from_mins(1);
/// The listener's port, the same in all tests.
const FRONT: u16 = 80;

/// Model seconds per real second.
const SCALE: f64 = 20.0;

/// A zone of the world, by the last letter of its name.
pub(crate) type Zone = char;

/// The emulated account.
pub(crate) struct Lab {
    pub(crate) engine: Arc<Engine>,
    octet: u8,
    stop: CancellationToken,
    plane: JoinHandle<Result<(), dataplane::Error>>,
}

/// Takes a range of addresses that no other lab of this or any other process has, for as long as the process lasts.
fn claim() -> u8 {
    static CLAIMS: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());
    let first = std::process::id() % 200;
    let (octet, claim) = (0..200)
        .map(|n| u8::try_from(16 + (first + n * 7) % 200).expect("below 216"))
        .find_map(|octet| UdpSocket::bind((Ipv4Addr::new(127, octet, 0, 2), 10_053)).ok().map(|socket| (octet, socket)))
        .expect("a range that is free");
    CLAIMS.lock().expect("no panic in here").push(claim);
    octet
}

impl Lab {
    /// An account with the lags of `profile`, but for what `adjust` sets.
    pub(crate) fn start(profile: Profile, adjust: &[(&str, &str)]) -> Self {
        let octet = claim();
        let world =
            World::parse(&world::DEFAULT.replace("192.168.", &format!("127.{octet}."))).expect("the lab's world");
        let mut settings = Settings::profile(profile);
        settings.time_scale = SCALE;
        for (key, value) in adjust {
            settings.set(key, value).expect("a setting");
        }
        let engine = Arc::new(Engine::new(Model::new(&world, settings, 7), SCALE));
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "awaited by `end`")]
        let plane = tokio::spawn(dataplane::run(Arc::clone(&engine), stop.clone()));
        Self { engine, octet, stop, plane }
    }

    /// The `n`th address for pods of a zone.
    pub(crate) fn pod_address(&self, zone: Zone, n: u8) -> Ipv4Addr {
        let subnet = match zone {
            'a' => 11,
            'b' => 12,
            _ => 13,
        };
        Ipv4Addr::new(127, self.octet, subnet, 20 + n)
    }

    pub(crate) fn call(&self, action: &str, fields: &[(&str, &str)]) -> Value {
        let version = ("Version", Service::Elb.version());
        let request = Request {
            service: Service::Elb,
            action: Some(action.to_owned()),
            fields: fields
                .iter()
                .chain([&version])
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            caller: Some(Caller {
                access_key: "AKIDEXAMPLE".to_owned(),
                agent: "test".to_owned(),
                ..Caller::default()
            }),
            token: None,
            defect: None,
        };
        match self.engine.with(|model, now| model.handle(&request, now)).body {
            Body::Result { value, .. } => value,
            Body::Error { code, message } => panic!("{action}: {code}: {message}"),
        }
    }

    /// A load balancer in `zones`; waits until it is active.
    pub(crate) async fn balancer(&self, zones: &[Zone], attributes: &[(&str, &str)]) -> Balancer<'_> {
        let balancer = self.create_balancer(zones, attributes);
        eventually("the load balancer is active", || {
            let described = self.call("DescribeLoadBalancers", &[("LoadBalancerArns.member.1", &balancer.arn)]);
            text(&described, &["LoadBalancers", "0", "State", "Code"]) == "active"
        })
        .await;
        balancer
    }

    /// A load balancer that is still being provisioned.
    pub(crate) fn create_balancer(&self, zones: &[Zone], attributes: &[(&str, &str)]) -> Balancer<'_> {
        let subnets: Vec<_> = zones.iter().map(|z| format!("subnet-0{z}00000000000{z}{z}{z}2")).collect();
        let mut fields = vec![("Name".to_owned(), "lab".to_owned())];
        fields.push(("Type".to_owned(), "network".to_owned()));
        fields.push(("Scheme".to_owned(), "internal".to_owned()));
        fields.extend(subnets.into_iter().enumerate().map(|(n, s)| (format!("Subnets.member.{}", n + 1), s)));
        let fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let created = self.call("CreateLoadBalancer", &fields);
        let arn = text(&created, &["LoadBalancers", "0", "LoadBalancerArn"]);
        let dns = text(&created, &["LoadBalancers", "0", "DNSName"]);
        self.attributes("ModifyLoadBalancerAttributes", ("LoadBalancerArn", &arn), attributes);
        Balancer { lab: self, arn, dns }
    }

    /// A load balancer whose listener forwards to a group of healthy `targets`.
    pub(crate) async fn serving(
        &self,
        zones: &[Zone],
        targets: &[SocketAddr],
        settings: &[(&str, &str)],
        attributes: &[(&str, &str)],
    ) -> (Balancer<'_>, Group<'_>) {
        let (balancer, group) = (self.balancer(zones, &[]).await, self.group(settings, attributes));
        balancer.listen(&group).await;
        group.register(targets);
        group.until(targets, "healthy").await;
        (balancer, group)
    }

    /// A target group of addresses, with health checks every five seconds, twice to change.
    pub(crate) fn group(&self, settings: &[(&str, &str)], attributes: &[(&str, &str)]) -> Group<'_> {
        let mut fields = BTreeMap::from([
            ("Name", "lab"),
            ("Protocol", "TCP"),
            ("Port", "8080"),
            ("VpcId", "vpc-0a1b2c3d4e5f60718"),
            ("TargetType", "ip"),
            ("HealthCheckIntervalSeconds", "5"),
            ("HealthCheckTimeoutSeconds", "5"),
            ("HealthyThresholdCount", "2"),
            ("UnhealthyThresholdCount", "2"),
        ]);
        fields.extend(settings.iter().copied());
        let fields: Vec<_> = fields.into_iter().collect();
        let arn = text(&self.call("CreateTargetGroup", &fields), &["TargetGroups", "0", "TargetGroupArn"]);
        let group = Group { lab: self, arn };
        group.attributes(attributes);
        group
    }

    fn attributes(&self, action: &str, resource: (&str, &str), attributes: &[(&str, &str)]) {
        if attributes.is_empty() {
            return;
        }
        let names: Vec<_> = (1..=attributes.len())
            .map(|n| (format!("Attributes.member.{n}.Key"), format!("Attributes.member.{n}.Value")))
            .collect();
        let mut fields = vec![resource];
        for ((key, value), (k, v)) in names.iter().zip(attributes) {
            fields.extend([(key.as_str(), *k), (value.as_str(), *v)]);
        }
        self.call(action, &fields);
    }

    /// Everything that was logged so far.
    pub(crate) fn log(&self) -> Vec<Entry> {
        let (entries, _) = self.engine.journal().after(0, usize::MAX, |_| true);
        entries.iter().map(|entry| Entry::clone(entry)).collect()
    }

    /// The ends of flows that were logged so far.
    pub(crate) fn ends(&self) -> Vec<(aws_model::How, u64, u64)> {
        self.log()
            .into_iter()
            .filter_map(|entry| match entry.event {
                Event::FlowClosed { how, to_target, to_client, .. } => Some((how, to_target, to_client)),
                _ => None,
            })
            .collect()
    }

    /// Stops the data plane, which must end well.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        within("the data plane ends", self.plane).await.expect("no panic").expect("no defect");
    }
}

/// The text at a path of field names and list indices.
fn text(value: &Value, path: &[&str]) -> String {
    let mut at = value;
    for step in path {
        let next = step.parse().ok().and_then(|index| at.at(index)).or_else(|| at.get(step));
        at = next.unwrap_or_else(|| panic!("no {step} of {path:?} in {value:?}"));
    }
    at.text().unwrap_or_else(|| panic!("{path:?} is no text in {value:?}")).to_owned()
}

/// A load balancer.
pub(crate) struct Balancer<'a> {
    lab: &'a Lab,
    pub(crate) arn: String,
    pub(crate) dns: String,
}

impl Balancer<'_> {
    pub(crate) fn attributes(&self, attributes: &[(&str, &str)]) {
        self.lab.attributes("ModifyLoadBalancerAttributes", ("LoadBalancerArn", &self.arn), attributes);
    }

    /// Makes the listener, and waits until connections are accepted in every zone.
    pub(crate) async fn listen(&self, group: &Group<'_>) -> String {
        let arn = self.create_listener(group);
        for zone in ['a', 'b', 'c'] {
            if let Some(at) = self.zone_address(zone) {
                until_accepting(at).await;
            }
        }
        arn
    }

    pub(crate) fn create_listener(&self, group: &Group<'_>) -> String {
        let fields = [
            ("LoadBalancerArn", self.arn.as_str()),
            ("Protocol", "TCP"),
            ("Port", "80"),
            ("DefaultActions.member.1.Type", "forward"),
            ("DefaultActions.member.1.TargetGroupArn", &group.arn),
        ];
        text(&self.lab.call("CreateListener", &fields), &["Listeners", "0", "ListenerArn"])
    }

    /// Its address in a zone, with the listener's port.
    pub(crate) fn at(&self, zone: Zone) -> SocketAddr {
        self.zone_address(zone).unwrap_or_else(|| panic!("no address in zone {zone}"))
    }

    fn zone_address(&self, zone: Zone) -> Option<SocketAddr> {
        let name = format!("ap-northeast-2{zone}.{}", self.dns);
        match self.lab.engine.with(|model, _| model.resolve(&name)) {
            Resolution::Addresses { addresses, .. } => Some(SocketAddr::from((addresses[0], FRONT))),
            Resolution::NoSuchName | Resolution::NotOurs => None,
        }
    }
}

/// A target group.
pub(crate) struct Group<'a> {
    lab: &'a Lab,
    pub(crate) arn: String,
}

impl Group<'_> {
    pub(crate) fn attributes(&self, attributes: &[(&str, &str)]) {
        self.lab.attributes("ModifyTargetGroupAttributes", ("TargetGroupArn", &self.arn), attributes);
    }

    pub(crate) fn register(&self, targets: &[SocketAddr]) {
        self.change("RegisterTargets", targets);
    }

    pub(crate) fn deregister(&self, targets: &[SocketAddr]) {
        self.change("DeregisterTargets", targets);
    }

    fn change(&self, action: &str, targets: &[SocketAddr]) {
        let fields: Vec<_> = targets
            .iter()
            .enumerate()
            .flat_map(|(n, target)| {
                let name = |field: &str| format!("Targets.member.{}.{field}", n + 1);
                [(name("Id"), target.ip().to_string()), (name("Port"), target.port().to_string())]
            })
            .collect();
        let mut fields: Vec<_> = fields.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        fields.push(("TargetGroupArn", &self.arn));
        self.lab.call(action, &fields);
    }

    /// What `DescribeTargetHealth` says of a target.
    pub(crate) fn state(&self, target: SocketAddr) -> String {
        let (ip, port) = (target.ip().to_string(), target.port().to_string());
        let fields =
            [("TargetGroupArn", self.arn.as_str()), ("Targets.member.1.Id", &ip), ("Targets.member.1.Port", &port)];
        text(
            &self.lab.call("DescribeTargetHealth", &fields),
            &["TargetHealthDescriptions", "0", "TargetHealth", "State"],
        )
    }

    pub(crate) async fn until(&self, targets: &[SocketAddr], state: &str) {
        eventually(&format!("{targets:?} are {state}"), || targets.iter().all(|t| self.state(*t) == state)).await;
    }
}

/// Waits for a condition.
pub(crate) async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not in {DEADLINE:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for a condition that has to be asked for.
pub(crate) async fn eventually_async(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in {DEADLINE:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("not in {DEADLINE:?}: {what}"))
}

/// Waits until a connection is accepted, and until that one is over.
pub(crate) async fn until_accepting(at: SocketAddr) {
    within(&format!("{at} accepts"), async {
        loop {
            if let Ok(mut stream) = TcpStream::connect(at).await {
                // There may be no target yet, which means a reset.
                let _reset = stream.shutdown().await;
                let _reset = stream.read_to_end(&mut Vec::new()).await;
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
