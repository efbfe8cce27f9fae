//! The one port to AWS, as values: what is asked ([`Call`]), what is answered ([`Reply`]), and how a call can fail
//! ([`Fault`]).
//!
//! The shell carries a call out with the SDK, the simulation with the emulator's model; what decides sees neither. Field
//! names are those of the AWS APIs. Values that AWS may extend (states, protocols) are text or have an `Other`, so that an
//! unknown one is carried along and never misread.

mod call;
mod fault;
mod reply;

use std::{fmt, sync::Arc};

pub use call::{
    Bucket, Call, CreateListener, CreateLoadBalancer, CreateTargetGroup, Filter, Forward, HealthCheck, ListenerQuery,
    LoadBalancerQuery, ModifyListener, Permission, SetSubnets, Source, SubnetMapping, TargetGroupQuery,
};
pub use fault::{Fault, Refusal};
pub use reply::{
    CapacityReservation, HealthState, Instance, Listener, LoadBalancer, NetworkInterface, Reply, RouteTable,
    SecurityGroup, Subnet, TargetGroup, TargetHealth, Vpc, Zone,
};

/// An Amazon Resource Name. Cheap to clone: many records share one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arn(Arc<str>);

impl Arn {
    /// An ARN as it is written. Its form is not checked here: AWS is the judge of those it gave.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose account a call is made in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Account {
    /// That of the registrar's own identity.
    #[default]
    Own,
    /// That of a role that the operator's configuration names; this is the name, not the ARN.
    Role(Arc<str>),
}

/// A target as AWS knows it: the pair of `id` and `port` is its identity within a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// An address or an instance id.
    pub id: String,
    /// Port.
    pub port: u16,
    /// `all`, or a zone; nothing lets AWS find the zone of an address of the VPC.
    pub availability_zone: Option<String>,
    /// `0x` and sixteen hexadecimal digits, for QUIC groups.
    pub quic_server_id: Option<String>,
}
