//! A target: what the API says of it, and what the data plane does with it.

use std::{collections::BTreeMap, fmt, net::IpAddr, time::Duration};

use crate::{Standing, plane::ProbeId};

/// A target's identity in its group: the same id at two ports is two targets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TargetId {
    /// IP address or instance id.
    pub(crate) id: String,
    pub(crate) port: u16,
}

impl TargetId {
    /// An address is one target however it is spelled.
    pub(crate) fn new(id: &str, port: u16) -> Self {
        let id = id.parse::<IpAddr>().map_or_else(|_| id.to_owned(), |address| address.to_string());
        Self { id, port }
    }
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.id.contains(':') {
            write!(f, "[{}]:{}", self.id, self.port)
        } else {
            write!(f, "{}:{}", self.id, self.port)
        }
    }
}

/// A registered target, or one whose registration has ended and whose flows have not.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its zone; `None` for an address outside the VPC registered for `all` zones.
    pub(crate) zone: Option<String>,
    pub(crate) quic_server_id: Option<String>,
    /// From when on every call sees it.
    pub(crate) listed_at: Duration,
    pub(crate) life: Life,
    /// One per zone of the load balancer.
    pub(crate) checkers: BTreeMap<String, Checker>,
    /// What the nodes still do after the API has changed its mind.
    pub(crate) linger: Option<Linger>,
    /// What the log said last.
    pub(crate) logged: Standing,
}

/// A standing that ends at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Linger {
    pub(crate) standing: Standing,
    pub(crate) until: Duration,
}

/// The state of a target as the API tells it, with what it needs to move on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Life {
    /// Nothing checks it.
    Unused(Unused),
    /// Being programmed into the nodes.
    Registering { until: Duration },
    /// First checks under way.
    Checking,
    /// Passing.
    Healthy,
    /// Failing.
    Unhealthy,
    /// Failing, with its flows left alone for a while.
    UnhealthyDraining { until: Duration },
    /// Deregistered, within the deregistration delay.
    Draining { until: Duration },
    /// No longer listed; gone when nothing lingers.
    Gone,
}

/// Why a target is unused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unused {
    /// Its group is in no listener.
    Group,
    /// Its zone is not one of the load balancer's.
    Zone,
    /// Its instance is stopped.
    Stopped,
    /// Its address is a load balancer's.
    Address,
}

/// The health checks of one zone's nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Checker {
    /// When the next check starts.
    pub(crate) next: Duration,
    /// The check under way, and when it is given up.
    pub(crate) waiting: Option<(ProbeId, Duration)>,
    /// Passes in a row.
    pub(crate) passes: u32,
    /// Failures in a row.
    pub(crate) fails: u32,
    /// This zone's opinion, once it has one.
    pub(crate) verdict: Option<bool>,
}

impl Life {
    /// State, reason and description in the API's words.
    pub(crate) const fn words(self) -> (&'static str, Option<&'static str>, Option<&'static str>) {
        match self {
            Self::Unused(Unused::Group) => (
                "unused",
                Some("Target.NotInUse"),
                Some("Target group is not configured to receive traffic from the load balancer"),
            ),
            Self::Unused(Unused::Zone) => (
                "unused",
                Some("Target.NotInUse"),
                Some("Target is in an Availability Zone that is not enabled for the load balancer"),
            ),
            Self::Unused(Unused::Stopped) => {
                ("unused", Some("Target.InvalidState"), Some("Target is in the stopped state"))
            }
            Self::Unused(Unused::Address) => (
                "unused",
                Some("Target.IpUnusable"),
                Some("The IP address cannot be used as a target, because it is in use by a load balancer"),
            ),
            Self::Registering { .. } => {
                ("initial", Some("Elb.RegistrationInProgress"), Some("Target registration is in progress"))
            }
            Self::Checking => ("initial", Some("Elb.InitialHealthChecking"), Some("Initial health checks in progress")),
            Self::Healthy => ("healthy", None, None),
            Self::Unhealthy => ("unhealthy", Some("Target.FailedHealthChecks"), Some("Health checks failed")),
            Self::UnhealthyDraining { .. } => {
                ("unhealthy.draining", Some("Target.FailedHealthChecks"), Some("Health checks failed"))
            }
            Self::Draining { .. } => {
                ("draining", Some("Target.DeregistrationInProgress"), Some("Target deregistration is in progress"))
            }
            Self::Gone => NOT_REGISTERED,
        }
    }

    /// Whether the target counts as registered.
    pub(crate) const fn registered(self) -> bool {
        !matches!(self, Self::Draining { .. } | Self::Gone)
    }

    /// Whether health checks are run.
    pub(crate) const fn checked(self) -> bool {
        matches!(self, Self::Checking | Self::Healthy | Self::Unhealthy | Self::UnhealthyDraining { .. })
    }

    /// What a target in this state gets once the nodes know it.
    const fn settled(self, traffic_to_initial: bool) -> Standing {
        match self {
            Self::Healthy => Standing::InService,
            Self::Checking if traffic_to_initial => Standing::InService,
            Self::Checking | Self::Unhealthy | Self::UnhealthyDraining { .. } => Standing::Fallback,
            Self::Unused(_) | Self::Registering { .. } | Self::Draining { .. } | Self::Gone => Standing::None,
        }
    }
}

/// What the API says of a target that it does not know.
pub(crate) const NOT_REGISTERED: (&str, Option<&str>, Option<&str>) =
    ("unused", Some("Target.NotRegistered"), Some("Target is not registered to the target group"));

impl Target {
    /// What new flows the nodes give it at this time.
    pub(crate) fn standing(&self, now: Duration, traffic_to_initial: bool) -> Standing {
        let settled = self.life.settled(traffic_to_initial);
        match self.linger {
            Some(linger) if now < linger.until => settled.max(linger.standing),
            _ => settled,
        }
    }
}
