//! The rules of Network Load Balancers as a pure state machine, with the EC2 and STS calls that go with them.
//!
//! [`Model`] takes values and gives values: API calls ([`Model::handle`]), the passing of time ([`Model::tick`]), results
//! of health checks ([`Model::probed`]) and connections ([`Model::connect`], [`Model::closed`]) go in; replies, commands for
//! the data plane and answers to connections come out. It has no clock, no socket and no source of chance but its seed:
//! the same inputs give the same outputs. `now` is the time since the model's start, in *model time*; a shell that runs
//! faster than the world multiplies real time by its scale.
//!
//! Two planes are kept apart throughout. The *API plane* is what `DescribeTargetHealth` says; the *data plane* is where a
//! new connection goes. They change at different times, as those of AWS do.
//!
//! # How to drive it
//!
//! After every call that changes something, and whenever [`Model::deadline`] has come, call [`Model::tick`] and carry out
//! its commands in order. A deadline in the past means that commands are waiting.
//!
//! # Addresses
//!
//! A load balancer has one address per zone, from the upper half of the range of its subnet there (`192.168.11.128` to
//! `192.168.11.254` of a /24). Instances and pods use the lower half. Internet-facing load balancers use the same
//! addresses: there is no other network in the lab.

#![allow(clippy::doc_markdown, reason = "names of AWS operations and fields are the vocabulary here")]

mod agenda;
mod checks;
pub mod control;
mod ec2;
mod elb;
mod fault;
pub mod faults;
mod flows;
mod health;
mod identity;
mod limits;
mod log;
mod names;
pub mod operations;
mod plane;
mod random;
mod request;
mod schema;
pub mod settings;
mod store;
mod sts;
mod value;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub use log::{Entry, Event, Standing};
pub use plane::{
    Answer, Check, Command, FlowEnd, FlowId, How, Probe, ProbeId, ProbeOutcome, Resolution, Route, Source,
};
pub use request::{Body, Caller, Claims, Delivery, Reply, Request, Service};
pub use settings::Settings;
pub use value::Value;
use world::World;

use crate::{
    ec2::{Elastic, filters::Tags, interfaces::Retiring, security_groups::SecurityGroup},
    elb::{balancer::LoadBalancer, group::TargetGroup, listener::Listener, target::TargetId},
    store::{BalancerKey, GroupKey, ListenerKey, Store},
};

/// The state of one account in one region, with its load balancers' data plane.
///
/// Its rules are in the modules that bear their names; here is what they share.
#[derive(Debug, Clone)]
pub struct Model {
    world: World,
    settings: Settings,
    random: random::Random,
    log: log::Log,
    /// The latest time that was heard of.
    now: Duration,
    agenda: agenda::Agenda,
    /// For the data plane, not yet taken.
    commands: VecDeque<Command>,

    balancers: Store<BalancerKey, LoadBalancer>,
    groups: Store<GroupKey, TargetGroup>,
    listeners: Store<ListenerKey, Listener>,
    /// Interfaces of load balancers that are deleted already.
    retiring: Vec<Retiring>,
    security_groups: BTreeMap<String, SecurityGroup>,
    elastic: BTreeMap<String, Elastic>,
    ec2_tags: BTreeMap<String, Tags>,

    sessions: BTreeMap<String, identity::Session>,
    buckets: limits::Buckets,
    orders: Vec<faults::Order>,

    /// Open sockets of listeners.
    listening: BTreeMap<SocketAddr, (BalancerKey, ListenerKey)>,
    flows: BTreeMap<FlowId, flows::Flow>,
    last_flow: u64,
    /// Health checks under way: group, target and checking zone.
    probes: BTreeMap<ProbeId, (GroupKey, TargetId, String)>,
    last_probe: u64,
    unreachable: BTreeSet<IpAddr>,
    impaired: BTreeSet<String>,
    stopped: BTreeSet<String>,
}

impl Model {
    /// An account with the subnets, instances, security groups and roles of `world`, and no load balancer.
    pub fn new(world: &World, settings: Settings, seed: u64) -> Self {
        let group = |g: &world::SecurityGroup| SecurityGroup {
            id: g.id.clone(),
            name: g.name.clone(),
            description: g.description.clone(),
            rules: Vec::new(),
        };
        Self {
            settings,
            random: random::Random::new(seed),
            log: log::Log::default(),
            now: Duration::ZERO,
            agenda: agenda::Agenda::default(),
            commands: VecDeque::new(),
            balancers: Store::new(),
            groups: Store::new(),
            listeners: Store::new(),
            retiring: Vec::new(),
            security_groups: world.security_groups.iter().map(|g| (g.id.clone(), group(g))).collect(),
            elastic: BTreeMap::new(),
            ec2_tags: ec2::initial(world),
            sessions: BTreeMap::new(),
            buckets: limits::Buckets::default(),
            orders: Vec::new(),
            listening: BTreeMap::new(),
            flows: BTreeMap::new(),
            last_flow: 0,
            probes: BTreeMap::new(),
            last_probe: 0,
            unreachable: BTreeSet::new(),
            impaired: BTreeSet::new(),
            stopped: BTreeSet::new(),
            world: world.clone(),
        }
    }

    /// Takes the log entries that have come up since the last call.
    pub fn drain_log(&mut self) -> Vec<Entry> {
        self.log.drain()
    }

    /// Logs what happens now.
    fn note(&mut self, event: Event) {
        self.log.add(self.now, event);
    }
}
