//! Finding resources by ARN, as a service does that is not yet of one mind about what was created a moment ago.

use std::time::Duration;

use crate::{
    Model,
    fault::{Code, Fault, Result},
    store::{BalancerKey, GroupKey, ListenerKey},
};

/// A kind of resource that calls name by ARN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noun {
    Balancer,
    Group,
    Listener,
    Rule,
}

impl Noun {
    const ALL: [Self; 4] = [Self::Balancer, Self::Group, Self::Listener, Self::Rule];

    const fn segment(self) -> &'static str {
        match self {
            Self::Balancer => "loadbalancer",
            Self::Group => "targetgroup",
            Self::Listener => "listener",
            Self::Rule => "listener-rule",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Balancer => "load balancer",
            Self::Group => "target group",
            Self::Listener => "listener",
            Self::Rule => "rule",
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::Balancer => Code::LoadBalancerNotFound,
            Self::Group => Code::TargetGroupNotFound,
            Self::Listener => Code::ListenerNotFound,
            Self::Rule => Code::RuleNotFound,
        }
    }

    pub(super) fn missing(self) -> Fault {
        self.code().because(format!("One or more {}s not found", self.words()))
    }

    /// What the ARN is of, by its form.
    pub(super) fn of(arn: &str) -> Option<Self> {
        let resource = arn.strip_prefix("arn:")?.split(':').nth(4)?;
        let segment = resource.split('/').next()?;
        Self::ALL.into_iter().find(|noun| noun.segment() == segment)
    }

    fn check(self, arn: &str) -> Result<()> {
        if Self::of(arn) == Some(self) {
            return Ok(());
        }
        Code::ValidationError.refuse(format!("'{arn}' is not a valid {} ARN", self.words()))
    }
}

impl Model {
    /// How long a resource that is created now may be unknown to other calls.
    pub(super) fn settling(&mut self) -> Duration {
        let slow = self.random.chance(self.settings.consistency_slow_share.0);
        let most = if slow { self.settings.consistency_create_slow } else { self.settings.consistency_create };
        self.now + self.random.within(most)
    }

    /// Whether this call sees what is settled everywhere at the given time.
    pub(super) fn sees(&mut self, settled: Duration) -> bool {
        self.now >= settled || !self.random.chance(self.settings.consistency_miss.0)
    }

    pub(super) fn balancer_key(&mut self, arn: &str) -> Result<BalancerKey> {
        Noun::Balancer.check(arn)?;
        let found = self.balancers.key(arn).and_then(|key| Some((key, self.balancers.get(key)?.settled_at)));
        self.seen(found, Noun::Balancer)
    }

    pub(super) fn group_key(&mut self, arn: &str) -> Result<GroupKey> {
        Noun::Group.check(arn)?;
        let found = self.groups.key(arn).and_then(|key| Some((key, self.groups.get(key)?.settled_at)));
        self.seen(found, Noun::Group)
    }

    pub(super) fn listener_key(&mut self, arn: &str) -> Result<ListenerKey> {
        Noun::Listener.check(arn)?;
        let found = self.listeners.key(arn).and_then(|key| Some((key, self.listeners.get(key)?.settled_at)));
        self.seen(found, Noun::Listener)
    }

    /// The listener whose default rule this is.
    pub(super) fn rule_key(&mut self, arn: &str) -> Result<ListenerKey> {
        Noun::Rule.check(arn)?;
        let found = self.listeners.find(|l| l.rule_arn == arn).map(|(key, l)| (key, l.settled_at));
        self.seen(found, Noun::Rule)
    }

    fn seen<K>(&mut self, found: Option<(K, Duration)>, noun: Noun) -> Result<K> {
        match found {
            Some((key, settled)) if self.sees(settled) => Ok(key),
            _ => Err(noun.missing()),
        }
    }
}
