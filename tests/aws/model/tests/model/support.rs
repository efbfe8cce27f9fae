//! A model with a client at hand, and a world whose targets answer as the test says.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aws_model::{
    Answer, Body, Caller, Check, Command, Entry, FlowEnd, FlowId, How, Model, ProbeOutcome, Reply, Request, Route,
    Service, Settings, Value, settings::Profile,
};
use world::World;

pub(crate) const VPC: &str = "vpc-0a1b2c3d4e5f60718";
pub(crate) const SUBNETS: [&str; 3] =
    ["subnet-0a00000000000aaa2", "subnet-0b00000000000bbb2", "subnet-0c00000000000ccc2"];
/// Pod addresses in zones a, b and c.
pub(crate) const PODS: [&str; 3] = ["192.168.11.21", "192.168.12.21", "192.168.13.21"];

pub(crate) struct Lab {
    pub(crate) model: Model,
    pub(crate) now: Duration,
    /// Where a check fails.
    pub(crate) down: BTreeSet<SocketAddr>,
    /// Zones, by the third byte of their addresses, whose own checks fail.
    pub(crate) blind: BTreeSet<u8>,
    pub(crate) resets: Vec<FlowId>,
    pub(crate) open: BTreeSet<SocketAddr>,
    pub(crate) probes: usize,
    pub(crate) log: Vec<Entry>,
}

pub(crate) fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("an address"), port)
}

impl Lab {
    pub(crate) fn new(profile: Profile, changes: &[(&str, &str)]) -> Self {
        Self::seeded(profile, changes, 7)
    }

    pub(crate) fn seeded(profile: Profile, changes: &[(&str, &str)], seed: u64) -> Self {
        Self::inside(&World::parse(world::DEFAULT).expect("the shipped world"), profile, changes, seed)
    }

    pub(crate) fn inside(world: &World, profile: Profile, changes: &[(&str, &str)], seed: u64) -> Self {
        let mut settings = Settings::profile(profile);
        for (key, value) in changes {
            settings.set(key, value).expect("a setting");
        }
        Self {
            model: Model::new(world, settings, seed),
            now: Duration::ZERO,
            down: BTreeSet::new(),
            blind: BTreeSet::new(),
            resets: Vec::new(),
            open: BTreeSet::new(),
            probes: 0,
            log: Vec::new(),
        }
    }

    /// A call by a static key, fields as in a query string.
    #[expect(clippy::unused_self, reason = "reads as the client that it is")]
    pub(crate) fn request(&self, service: Service, action: &str, fields: &str) -> Request {
        let pairs = fields.split('&').filter_map(|pair| pair.split_once('='));
        let mut fields: Vec<(String, String)> = pairs.map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        fields.push(("Version".to_owned(), service.version().to_owned()));
        let caller = Some(Caller { access_key: "AKIATEST".to_owned(), ..Caller::default() });
        Request { service, action: Some(action.to_owned()), fields, defect: None, caller, token: None }
    }

    pub(crate) fn send(&mut self, service: Service, action: &str, fields: &str) -> Reply {
        let reply = self.model.handle(&self.request(service, action, fields), self.now);
        self.settle();
        reply
    }

    /// The result of an ELBv2 call that must succeed.
    pub(crate) fn elb(&mut self, action: &str, fields: &str) -> Value {
        self.expect(Service::Elb, action, fields)
    }

    pub(crate) fn ec2(&mut self, action: &str, fields: &str) -> Value {
        self.expect(Service::Ec2, action, fields)
    }

    fn expect(&mut self, service: Service, action: &str, fields: &str) -> Value {
        match self.send(service, action, fields).body {
            Body::Result { value, .. } => value,
            Body::Error { code, message } => panic!("{action} {fields}: {code}: {message}"),
        }
    }

    /// Code and message of a call that must fail.
    pub(crate) fn refused(&mut self, service: Service, action: &str, fields: &str) -> (String, String) {
        match self.send(service, action, fields).body {
            Body::Error { code, message } => (code, message),
            Body::Result { value, .. } => panic!("{action} {fields} was answered {value:?}"),
        }
    }

    /// Carries out what the model asks for now: checks answer at once.
    pub(crate) fn settle(&mut self) {
        loop {
            let commands = self.model.tick(self.now);
            if commands.is_empty() {
                break;
            }
            for command in commands {
                match command {
                    Command::Listen { at } => assert!(self.open.insert(at), "{at} opened twice"),
                    Command::Unlisten { at } => assert!(self.open.remove(&at), "{at} closed while closed"),
                    Command::Reset { flow } => {
                        self.resets.push(flow);
                        let end = FlowEnd { how: How::Commanded, to_target: 1, to_client: 2 };
                        self.model.closed(flow, end, self.now);
                    }
                    Command::Probe(probe) => {
                        self.probes += 1;
                        let outcome = match (
                            self.down.contains(&probe.to) || self.blind.contains(&third_byte(probe.from)),
                            &probe.check,
                        ) {
                            (true, _) => ProbeOutcome::Refused,
                            (false, Check::Tcp) => ProbeOutcome::Connected,
                            (false, Check::Http { .. }) => ProbeOutcome::Status(200),
                        };
                        self.model.probed(probe.id, &outcome, self.now);
                    }
                }
            }
        }
        self.log.extend(self.model.drain_log());
    }

    /// Lets time pass, deadline by deadline.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.model.deadline().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    /// A load balancer in the private subnets with a TCP listener on port 80 and one ip target group: their ARNs.
    pub(crate) fn nlb(&mut self, zones: usize) -> Nlb {
        let subnets = list("Subnets.member.{}", &SUBNETS[..zones]);
        let created = self.elb("CreateLoadBalancer", &format!("Name=web&Type=network&Scheme=internal{subnets}"));
        let balancer = path(&created, &["LoadBalancers", "0", "LoadBalancerArn"]);
        let dns = path(&created, &["LoadBalancers", "0", "DNSName"]);
        let group = self.group("web");
        let listener = self.listener(&balancer, 80, &group);
        Nlb { balancer, group, listener, dns }
    }

    pub(crate) fn group(&mut self, name: &str) -> String {
        let fields =
            format!("Name={name}&Protocol=TCP&Port=8080&VpcId={VPC}&TargetType=ip&HealthCheckIntervalSeconds=10");
        path(&self.elb("CreateTargetGroup", &fields), &["TargetGroups", "0", "TargetGroupArn"])
    }

    pub(crate) fn listener(&mut self, balancer: &str, port: u16, group: &str) -> String {
        let action = format!("DefaultActions.member.1.Type=forward&DefaultActions.member.1.TargetGroupArn={group}");
        let fields = format!("LoadBalancerArn={balancer}&Protocol=TCP&Port={port}&{action}");
        path(&self.elb("CreateListener", &fields), &["Listeners", "0", "ListenerArn"])
    }

    pub(crate) fn register(&mut self, group: &str, pods: &[&str]) {
        self.elb("RegisterTargets", &format!("TargetGroupArn={group}{}", targets(pods)));
    }

    pub(crate) fn deregister(&mut self, group: &str, pods: &[&str]) {
        self.elb("DeregisterTargets", &format!("TargetGroupArn={group}{}", targets(pods)));
    }

    /// State and reason of every listed target, as `id:port state/reason`.
    pub(crate) fn health(&mut self, group: &str) -> Vec<String> {
        let reply = self.elb("DescribeTargetHealth", &format!("TargetGroupArn={group}"));
        let descriptions = reply.get("TargetHealthDescriptions").expect("descriptions").items().to_vec();
        descriptions.iter().map(health_line).collect()
    }

    /// The only target's state and reason.
    pub(crate) fn state(&mut self, group: &str) -> String {
        let health = self.health(group);
        health.first().and_then(|line| line.split_once(' ')).map_or("none", |(_, state)| state).to_owned()
    }

    pub(crate) fn attribute(&mut self, group: &str, key: &str, value: &str) {
        let fields = format!("TargetGroupArn={group}&Attributes.member.1.Key={key}&Attributes.member.1.Value={value}");
        self.elb("ModifyTargetGroupAttributes", &fields);
    }

    pub(crate) fn connect(&mut self, listener: SocketAddr, client: &str) -> Answer {
        let answer = self.model.connect(listener, at(client, 40000), self.now);
        self.settle();
        answer
    }

    /// The zone address of the load balancer in the n-th zone.
    pub(crate) fn front(&self, zone: usize) -> SocketAddr {
        let prefix = [11, 12, 13][zone];
        *self.open.iter().find(|a| a.is_ipv4() && third_byte(a.ip()) == prefix).expect("an open listener in the zone")
    }

    /// Connects and closes; how many of `n` connections each pod got, in the order of [`PODS`], and how many none did.
    pub(crate) fn spread(&mut self, zone: usize, n: usize) -> ([usize; 3], usize) {
        let (mut counts, mut refused) = ([0; 3], 0);
        for port in 0..n {
            let client = SocketAddr::from(([203, 0, 113, 1], u16::try_from(1024 + port).expect("a port")));
            let front = self.front(zone);
            match self.model.connect(front, client, self.now) {
                Answer::Forward(route) => {
                    let pod = PODS.iter().position(|p| *p == route.target.ip().to_string()).expect("a pod");
                    counts[pod] += 1;
                    let end = FlowEnd { how: How::Closed, to_target: 10, to_client: 20 };
                    self.model.closed(route.flow, end, self.now);
                }
                Answer::Refuse | Answer::Silent => refused += 1,
            }
        }
        self.settle();
        (counts, refused)
    }
}

pub(crate) struct Nlb {
    pub(crate) balancer: String,
    pub(crate) group: String,
    pub(crate) listener: String,
    pub(crate) dns: String,
}

pub(crate) fn targets(pods: &[&str]) -> String {
    list("Targets.member.{}.Id", pods)
}

pub(crate) fn health_line(description: &Value) -> String {
    let target = description.get("Target").expect("a target");
    let health = description.get("TargetHealth").expect("a health");
    let text = |value: Option<&Value>| value.and_then(Value::text).unwrap_or("-").to_owned();
    let (id, port) = (text(target.get("Id")), text(target.get("Port")));
    format!("{id}:{port} {}/{}", text(health.get("State")), text(health.get("Reason")))
}

/// The text at a path of names and indices.
pub(crate) fn path(value: &Value, steps: &[&str]) -> String {
    let mut value = value;
    for step in steps {
        value = match step.parse::<usize>() {
            Ok(index) => value.at(index),
            Err(_) => value.get(step),
        }
        .unwrap_or_else(|| panic!("no {step} in {value:?}"));
    }
    value.text().expect("a text").to_owned()
}

pub(crate) fn route(answer: Answer) -> Route {
    match answer {
        Answer::Forward(route) => route,
        other => panic!("{other:?}"),
    }
}

/// Of the IPv4 address, in which an IPv6 address of the world ends.
fn third_byte(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[2],
        IpAddr::V6(address) => address.octets()[14],
    }
}

impl Lab {
    /// How many of `n` connections to the first zone go to one address.
    pub(crate) fn spread_to(&mut self, address: &str, n: u16) -> usize {
        let front = self.front(0);
        let mut hits = 0;
        for port in 0..n {
            let answer = self.model.connect(front, at("203.0.113.2", 2000 + port), self.now);
            let Answer::Forward(route) = answer else { continue };
            hits += usize::from(route.target.ip().to_string() == address);
            let end = FlowEnd { how: How::Closed, to_target: 0, to_client: 0 };
            self.model.closed(route.flow, end, self.now);
        }
        self.settle();
        hits
    }
}

/// Fields of a list: `&<name>=<value>` for each value, with its number for `{}`.
fn list(name: &str, values: &[&str]) -> String {
    values.iter().enumerate().fold(String::new(), |fields, (n, value)| {
        format!("{fields}&{}={value}", name.replace("{}", &(n + 1).to_string()))
    })
}
