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
#![allow(dead_code, unused_macros, unused_imports, reason = "the boundary comes first, its users next")]

mod log;
mod plane;
mod random;
mod request;
pub mod settings;
mod value;

use std::{collections::VecDeque, net::SocketAddrV4, time::Duration};

pub use log::{Entry, Event, Standing};
pub use plane::{
    Answer, Check, Command, FlowEnd, FlowId, How, Probe, ProbeId, ProbeOutcome, Resolution, Route, Source,
};
pub use request::{Body, Caller, Claims, Delivery, Reply, Request, Service};
pub use settings::Settings;
pub use value::Value;
use world::World;

/// The state of one account in one region, with its load balancers' data plane.
#[derive(Debug, Clone)]
pub struct Model {
    world: World,
    settings: Settings,
    random: random::Random,
    log: log::Log,
    commands: VecDeque<Command>,
}

impl Model {
    /// An account with the subnets, instances, security groups and roles of `world`, and no load balancer.
    pub fn new(world: &World, settings: Settings, seed: u64) -> Self {
        Self {
            world: world.clone(),
            settings,
            random: random::Random::new(seed),
            log: log::Log::default(),
            commands: VecDeque::new(),
        }
    }

    /// Answers an API call. Its effects are in the state when this returns, whatever becomes of the reply.
    pub fn handle(&mut self, request: &Request, now: Duration) -> Reply {
        let _ = (now, &self.world, &self.settings);
        let (code, message) = ("InvalidAction".to_owned(), format!("{:?}", request.action));
        let request_id = self.random.uuid();
        Reply { request_id, status: 400, body: Body::Error { code, message }, delivery: Delivery::default() }
    }

    /// Lets time pass up to `now` and takes the commands that have come up since the last call, in order.
    pub fn tick(&mut self, now: Duration) -> Vec<Command> {
        let _ = now;
        self.commands.drain(..).collect()
    }

    /// When [`Model::tick`] has something to do next: in the past when commands are waiting, `None` if only an input can
    /// change anything.
    pub fn deadline(&self) -> Option<Duration> {
        (!self.commands.is_empty()).then_some(Duration::ZERO)
    }

    /// Takes the outcome of a [`Command::Probe`]. Outcomes of checks that no longer matter are ignored.
    pub fn probed(&mut self, id: ProbeId, outcome: &ProbeOutcome, now: Duration) {
        let _ = (id, outcome, now);
    }

    /// Decides about a new connection from `client` to the zone address `listener`. A [`Route`] opens a flow, which
    /// lasts until [`Model::closed`].
    pub fn connect(&mut self, listener: SocketAddrV4, client: SocketAddrV4, now: Duration) -> Answer {
        let _ = (listener, client, now);
        Answer::Refuse
    }

    /// Takes the end of a flow.
    pub fn closed(&mut self, flow: FlowId, end: FlowEnd, now: Duration) {
        let _ = (flow, end, now);
    }

    /// What DNS answers for `<name>-<id>.elb.<region>.amazonaws.com` and `<zone>.<name>-<id>.elb...`, in any case of
    /// letters, with or without the final dot.
    pub fn resolve(&self, name: &str, now: Duration) -> Resolution {
        let _ = (name, now);
        Resolution::NotOurs
    }

    /// Takes the log entries that have come up since the last call.
    pub fn drain_log(&mut self) -> Vec<Entry> {
        self.log.drain()
    }
}
