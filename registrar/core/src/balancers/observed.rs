//! What has been read of AWS for one Service, and how each answer changes it.

use std::collections::BTreeMap;

use nlb::tags::STACK;

use super::{network::Network, written::written};
use crate::aws::{
    Arn, Call, CapacityReservation, Fault, Listener, ListenerQuery, LoadBalancer, LoadBalancerQuery, Reply,
    SecurityGroup, TargetGroup, TargetGroupQuery, TargetHealth,
};

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// What is known. An entry that is not there has not been read; one that is `None` is known to be absent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Observed {
    /// Load balancers by name.
    pub load_balancers: BTreeMap<String, Option<LoadBalancer>>,
    /// Listeners by load balancer.
    pub listeners: BTreeMap<Arn, Vec<Listener>>,
    /// Target groups that listeners refer to, by load balancer.
    pub attached: BTreeMap<Arn, Vec<Arn>>,
    /// Target groups.
    pub groups: BTreeMap<Arn, Option<TargetGroup>>,
    /// Target groups by name.
    pub group_names: BTreeMap<String, Option<Arn>>,
    /// Tags of load balancers, target groups and listeners.
    pub tags: BTreeMap<Arn, Tags>,
    /// Attributes of load balancers, target groups and listeners.
    pub attributes: BTreeMap<Arn, BTreeMap<String, String>>,
    /// Certificates of listeners, each with whether it is the default one.
    pub certificates: BTreeMap<Arn, Vec<(String, bool)>>,
    /// Capacity reservations of load balancers.
    pub capacity: BTreeMap<Arn, CapacityReservation>,
    /// Security groups that carry the tag of the Service's stack.
    pub security_groups: Option<Vec<SecurityGroup>>,
    /// Targets of groups that are being replaced.
    pub health: BTreeMap<Arn, Vec<TargetHealth>>,
    /// What is shared by all Services: subnets and the like.
    pub network: Network,
}

impl Observed {
    /// Everything is to be read again, but not what is shared.
    pub fn forget(&mut self) {
        let network = std::mem::take(&mut self.network);
        *self = Self { network, ..Self::default() };
    }

    pub(super) fn balancer_mut(&mut self, arn: &Arn) -> Option<&mut LoadBalancer> {
        self.load_balancers.values_mut().flatten().find(|found| found.arn == *arn)
    }

    pub(super) fn listener_mut(&mut self, arn: &Arn) -> Option<&mut Listener> {
        self.listeners.values_mut().flatten().find(|found| found.arn == *arn)
    }

    pub(super) fn security_group_mut(&mut self, id: &str) -> Option<&mut SecurityGroup> {
        self.security_groups.iter_mut().flatten().find(|found| found.id == id)
    }

    pub(super) fn learn_group(&mut self, group: &TargetGroup) {
        self.group_names.insert(group.name.clone(), Some(group.arn.clone()));
        self.groups.insert(group.arn.clone(), Some(group.clone()));
    }

    pub(super) fn learn_groups(&mut self, groups: &[TargetGroup]) {
        for group in groups {
            self.learn_group(group);
        }
    }

    pub(super) fn forget_group(&mut self, arn: &Arn) {
        self.groups.insert(arn.clone(), None);
        for found in self.group_names.values_mut() {
            found.take_if(|found| found == arn);
        }
        for attached in self.attached.values_mut() {
            attached.retain(|attached| attached != arn);
        }
    }

    pub(super) fn forget_balancer(&mut self, arn: &Arn) {
        for found in self.load_balancers.values_mut() {
            found.take_if(|found| found.arn == *arn);
        }
        self.listeners.remove(arn);
        self.attached.remove(arn);
        for group in self.groups.values_mut().flatten() {
            group.load_balancers.retain(|other| other != arn);
        }
    }
}

/// Takes in what a call came to. A write that may have been done, or that was refused because something is not as it was
/// thought to be, makes everything be read again.
pub fn fold(observed: &mut Observed, call: &Call, result: &Result<Reply, Fault>) {
    match result {
        Ok(reply) if call.is_read() => read(observed, call, reply),
        Ok(reply) => written(observed, call, reply),
        Err(Fault::Throttled { .. } | Fault::NotSent(_)) => {}
        Err(fault) if call.is_read() => unreadable(observed, call, fault),
        Err(fault) if is_gone(call, fault) => written(observed, call, &Reply::Done),
        Err(_) => observed.forget(),
    }
}

/// Whether a fault tells what was asked, as a reply does: that something is not there, or that it has gone already.
pub fn is_answer(call: &Call, fault: &Fault) -> bool {
    match call {
        Call::DescribeLoadBalancers(LoadBalancerQuery::Name(_)) => fault.is("LoadBalancerNotFound"),
        Call::DescribeTargetGroups(TargetGroupQuery::Name(_) | TargetGroupQuery::Arns(_))
        | Call::DescribeTargetHealth { .. } => fault.is("TargetGroupNotFound"),
        _ if call.is_read() => !Network::is_not_of(call) && fault.code().is_some_and(is_about_the_question),
        _ => is_gone(call, fault),
    }
}

/// Whether a refusal of EC2 is about what was asked for, and not about who asked.
fn is_about_the_question(code: &str) -> bool {
    code.starts_with("Invalid")
}

/// Whether a deletion was refused because there is nothing to delete.
pub(crate) fn is_gone(call: &Call, fault: &Fault) -> bool {
    match call {
        Call::DeleteLoadBalancer { .. } => fault.is("LoadBalancerNotFound"),
        Call::DeleteTargetGroup { .. } => fault.is("TargetGroupNotFound"),
        Call::DeleteListener { .. } => fault.is("ListenerNotFound"),
        Call::DeleteSecurityGroup { .. } => fault.is("InvalidGroup.NotFound"),
        _ => false,
    }
}

fn read(observed: &mut Observed, call: &Call, reply: &Reply) {
    match (call, reply) {
        (
            Call::DescribeLoadBalancers(LoadBalancerQuery::Name(name)),
            Reply::LoadBalancers { load_balancers: found, .. },
        ) => {
            observed.load_balancers.insert(name.clone(), found.first().cloned());
        }
        (
            Call::DescribeTargetGroups(TargetGroupQuery::LoadBalancer(balancer)),
            Reply::TargetGroups { target_groups: found, .. },
        ) => {
            observed.learn_groups(found);
            observed.attached.insert(balancer.clone(), found.iter().map(|group| group.arn.clone()).collect());
        }
        (
            Call::DescribeTargetGroups(TargetGroupQuery::Name(name)),
            Reply::TargetGroups { target_groups: found, .. },
        ) => {
            observed.learn_groups(found);
            observed.group_names.entry(name.clone()).or_default();
        }
        (
            Call::DescribeTargetGroups(TargetGroupQuery::Arns(arns)),
            Reply::TargetGroups { target_groups: found, .. },
        ) => {
            observed.learn_groups(found);
            for arn in arns {
                observed.groups.entry(arn.clone()).or_default();
            }
        }
        (Call::DescribeListeners(ListenerQuery::LoadBalancer(balancer)), Reply::Listeners(found)) => {
            observed.listeners.insert(balancer.clone(), found.clone());
        }
        (Call::DescribeTags { .. }, Reply::Tags(found)) => {
            observed.tags.extend(found.iter().map(|(arn, tags)| (arn.clone(), tags.clone())));
        }
        (
            Call::DescribeLoadBalancerAttributes { load_balancer: arn }
            | Call::DescribeTargetGroupAttributes { group: arn }
            | Call::DescribeListenerAttributes { listener: arn },
            Reply::Attributes(found),
        ) => {
            observed.attributes.insert(arn.clone(), found.clone());
        }
        (Call::DescribeListenerCertificates { listener }, Reply::Certificates(found)) => {
            observed.certificates.insert(listener.clone(), found.clone());
        }
        (Call::DescribeCapacityReservation { load_balancer }, Reply::CapacityReservation(found)) => {
            observed.capacity.insert(load_balancer.clone(), found.clone());
        }
        (Call::DescribeTargetHealth { group }, Reply::TargetHealth(found)) => {
            observed.health.insert(group.clone(), found.clone());
        }
        (Call::DescribeSecurityGroups { filters, .. }, Reply::SecurityGroups(found))
            if filters.iter().any(|filter| filter.name == format!("tag:{STACK}")) =>
        {
            observed.security_groups = Some(found.clone());
        }
        _ => observed.network.learn(call, Ok(reply)),
    }
}

fn unreadable(observed: &mut Observed, call: &Call, fault: &Fault) {
    match call {
        Call::DescribeLoadBalancers(LoadBalancerQuery::Name(name)) if fault.is("LoadBalancerNotFound") => {
            observed.load_balancers.insert(name.clone(), None);
        }
        Call::DescribeTargetGroups(TargetGroupQuery::Name(name)) if fault.is("TargetGroupNotFound") => {
            observed.group_names.insert(name.clone(), None);
        }
        Call::DescribeTargetGroups(TargetGroupQuery::Arns(arns)) if fault.is("TargetGroupNotFound") => {
            for arn in arns {
                observed.forget_group(arn);
            }
        }
        Call::DescribeTargetHealth { group } if fault.is("TargetGroupNotFound") => observed.forget_group(group),
        _ => match fault {
            // Something that was there a moment ago is gone, or the other way round.
            Fault::Refused(refusal) if refusal.code.ends_with("NotFound") && Network::is_not_of(call) => {
                observed.forget();
            }
            Fault::Refused(refusal) if is_about_the_question(&refusal.code) => {
                observed.network.learn(call, Err(refusal));
            }
            _ => {}
        },
    }
}
