//! What of a Service is there already, and what must still be read to know it.

use std::collections::{BTreeMap, BTreeSet};

use nlb::{
    service::spec,
    settings::Scheme,
    tags::{self, RESOURCE},
};

use super::{
    Inputs, Intent, Observed,
    network::{in_vpc, tagged},
    placement::may_be_replaced,
    plan,
};
use crate::aws::{
    Arn, Call, Listener, ListenerQuery, LoadBalancer, LoadBalancerQuery, SecurityGroup, TargetGroup, TargetGroupQuery,
};

/// What must be read before there can be a plan, or before it can be trusted; empty when nothing is missing.
pub fn next_reads(inputs: &Inputs, observed: &Observed) -> Vec<Call> {
    let survey = Survey::of(inputs, observed);
    if survey.reads.is_empty() { plan::draft(inputs, observed, &survey).reads } else { survey.reads }
}

/// The name that clients reach the Service by: that of its load balancer, and while another takes its place that of the
/// one that still has the listeners. In lower case.
pub fn hostname(inputs: &Inputs, observed: &Observed) -> Option<String> {
    let survey = Survey::of(inputs, observed);
    let found = survey.surplus.first().copied().or(survey.load_balancer)?;
    (!found.dns_name.is_empty()).then(|| found.dns_name.to_ascii_lowercase())
}

/// What is there.
#[derive(Debug, Default)]
pub(crate) struct Survey<'a> {
    /// The load balancer that serves the Service, or is to.
    pub(crate) load_balancer: Option<&'a LoadBalancer>,
    /// Load balancers of the Service that another one takes the place of.
    pub(crate) surplus: Vec<&'a LoadBalancer>,
    /// A load balancer of somebody else under the name that is wanted.
    pub(crate) taken: Option<&'a LoadBalancer>,
    /// Target groups of the Service.
    pub(crate) groups: Vec<Found<'a>>,
    /// Target groups of somebody else under names that are wanted.
    pub(crate) taken_groups: Vec<&'a TargetGroup>,
    /// What is to be read next.
    pub(crate) reads: Vec<Call>,
}

/// A target group of the Service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) group: &'a TargetGroup,
    /// Which of its resources it is, by its tag.
    pub(crate) resource: &'a str,
}

impl<'a> Survey<'a> {
    pub(crate) fn of(inputs: &Inputs, observed: &'a Observed) -> Self {
        let mut survey = Self::default();
        survey.load_balancers(inputs, observed);
        if !survey.reads.is_empty() {
            return survey;
        }
        for balancer in survey.balancers() {
            if !observed.attached.contains_key(&balancer.arn) {
                survey.reads.push(Call::DescribeTargetGroups(TargetGroupQuery::LoadBalancer(balancer.arn.clone())));
            }
            if !observed.listeners.contains_key(&balancer.arn) {
                survey.reads.push(Call::DescribeListeners(ListenerQuery::LoadBalancer(balancer.arn.clone())));
            }
        }
        survey.target_groups(inputs, observed);
        if survey.reads.is_empty() && observed.security_groups.is_none() && needs_security_groups(inputs) {
            survey.reads.push(own_security_groups(inputs));
        }
        survey
    }

    /// Both the one that serves and the others.
    pub(crate) fn balancers(&self) -> Vec<&'a LoadBalancer> {
        self.load_balancer.iter().chain(&self.surplus).copied().collect()
    }

    fn load_balancers(&mut self, inputs: &Inputs, observed: &'a Observed) {
        let mut names = likely_names(inputs);
        let mut ours = self.look_up(inputs, observed, &names);
        let complete = self.reads.is_empty();
        if complete && !inputs.fresh && (ours.is_empty() || inputs.intent == Intent::Remove) {
            names.extend([Scheme::Internal, Scheme::InternetFacing].map(|scheme| inputs.generated_name(scheme)));
            ours = self.look_up(inputs, observed, &names);
        }
        let wanted = inputs.spec.scheme.as_str();
        // One that takes the place of another is the one to go on with, once it is there.
        ours.sort_by_key(|found| (found.scheme != wanted, may_be_replaced(inputs, found)));
        if !ours.is_empty() {
            self.load_balancer = Some(ours.remove(0));
        }
        self.surplus = ours;
    }

    /// The load balancers of these names that are the Service's.
    fn look_up(&mut self, inputs: &Inputs, observed: &'a Observed, names: &BTreeSet<String>) -> Vec<&'a LoadBalancer> {
        let (mut ours, mut untagged) = (Vec::new(), Vec::new());
        self.reads.clear();
        for name in names {
            match observed.load_balancers.get(name) {
                None => {
                    self.reads.push(Call::DescribeLoadBalancers(LoadBalancerQuery::Name(name.clone())));
                }
                Some(None) => {}
                Some(Some(found)) => match observed.tags.get(&found.arn) {
                    None => untagged.push(found.arn.clone()),
                    Some(tags) if found.load_balancer_type == "network" && inputs.owns(tags) => ours.push(found),
                    Some(_) if *name == inputs.spec.name => self.taken = Some(found),
                    Some(_) => {}
                },
            }
        }
        self.read_tags(&untagged);
        ours
    }

    fn target_groups(&mut self, inputs: &Inputs, observed: &'a Observed) {
        let mut arns: BTreeSet<&Arn> = observed.attached.values().flatten().collect();
        let bound: Vec<Arn> = inputs.bindings.iter().filter_map(super::KnownBinding::group).collect();
        for arn in &bound {
            match observed.groups.get_key_value(arn) {
                Some((arn, _)) => {
                    arns.insert(arn);
                }
                // Those of the load balancer come with it.
                None if self.reads.is_empty() => {
                    self.reads.push(Call::DescribeTargetGroups(TargetGroupQuery::Arns(vec![arn.clone()])));
                }
                None => {}
            }
        }
        for name in &inputs.managed().target_groups {
            match observed.group_names.get(name) {
                Some(found) => arns.extend(found),
                None => self.reads.push(Call::DescribeTargetGroups(TargetGroupQuery::Name(name.clone()))),
            }
        }
        if !self.reads.is_empty() {
            return;
        }
        self.classify(inputs, observed, &arns);
        if !self.reads.is_empty() {
            return;
        }
        // What is not found by what refers to it may still be there by its name.
        for wanted in inputs.wanted_groups() {
            if self.current(inputs, wanted).is_some() {
                continue;
            }
            match observed.group_names.get(&wanted.name) {
                Some(found) => arns.extend(found),
                None => self.reads.push(Call::DescribeTargetGroups(TargetGroupQuery::Name(wanted.name.clone()))),
            }
        }
        if self.reads.is_empty() {
            self.classify(inputs, observed, &arns);
        }
    }

    /// Tells those that are the Service's from those that are not, by their tags.
    fn classify(&mut self, inputs: &Inputs, observed: &'a Observed, arns: &BTreeSet<&Arn>) {
        (self.groups, self.taken_groups) = (Vec::new(), Vec::new());
        let mut untagged = Vec::new();
        let wanted: BTreeSet<&str> = inputs.wanted_groups().iter().map(|group| group.name.as_str()).collect();
        for group in arns.iter().filter_map(|arn| observed.groups.get(arn)?.as_ref()) {
            match observed.tags.get(&group.arn) {
                None => untagged.push(group.arn.clone()),
                Some(tags) if inputs.owns(tags) => {
                    let resource = tags.get(RESOURCE).map_or("", String::as_str);
                    self.groups.push(Found { group, resource });
                }
                Some(_) if wanted.contains(group.name.as_str()) => self.taken_groups.push(group),
                Some(_) => {}
            }
        }
        if !untagged.is_empty() {
            // Tags of twenty resources cost one call, so those that will be wanted anyway are read with them.
            let others = self.balancers().into_iter().flat_map(|balancer| {
                observed.listeners.get(&balancer.arn).into_iter().flatten().map(|listener| listener.arn.clone())
            });
            untagged.extend(others.filter(|arn| !observed.tags.contains_key(arn)));
        }
        self.read_tags(&untagged);
    }

    pub(crate) fn read_tags(&mut self, arns: &[Arn]) {
        let chunks = arns.chunks(Call::MOST_TAGGED).map(|chunk| Call::DescribeTags { resources: chunk.to_vec() });
        self.reads.extend(chunks);
    }

    /// The target group that serves as `wanted`: one of that resource that can be changed in place, best one in use.
    pub(crate) fn current(&self, inputs: &Inputs, wanted: &spec::TargetGroup) -> Option<&'a TargetGroup> {
        let mut candidates: Vec<&TargetGroup> = self
            .groups
            .iter()
            .filter(|found| found.resource == wanted.resource && fits(inputs, wanted, found.group))
            .map(|found| found.group)
            .collect();
        candidates.sort_by_key(|group| (group.name != wanted.name, group.load_balancers.is_empty(), group.arn.clone()));
        let in_use = candidates.iter().position(|group| !group.load_balancers.is_empty()).unwrap_or(0);
        candidates.get(in_use).copied()
    }
}

/// Names under which a load balancer of the Service may be, the generated ones aside.
fn likely_names(inputs: &Inputs) -> BTreeSet<String> {
    let mut names = inputs.managed().load_balancers;
    names.insert(inputs.spec.name.clone());
    names.extend(inputs.spec.allow_replacement.clone());
    names.extend(inputs.hostname.as_deref().and_then(name_of_hostname).map(str::to_owned));
    names.retain(|name| !name.is_empty());
    names
}

/// The name of a load balancer, from its DNS name `<name>-<id>.elb.<region>.<suffix>`.
pub(crate) fn name_of_hostname(hostname: &str) -> Option<&str> {
    let (label, rest) = hostname.split_once('.')?;
    let (name, id) = label.rsplit_once('-')?;
    (rest.starts_with("elb.") && id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
}

/// Whether a target group can be made into the one that is wanted without making another.
pub(crate) fn fits(inputs: &Inputs, wanted: &spec::TargetGroup, found: &TargetGroup) -> bool {
    let check = &wanted.health_check;
    let same_check = inputs.settings().features.advanced_health_checks
        || found.health_check.protocol.as_deref() == Some(check.health_check_protocol.as_str())
            && found.health_check.interval_seconds == Some(check.health_check_interval_seconds);
    found.target_type == wanted.target_type.as_str() && found.protocol == wanted.protocol.as_str() && same_check
}

/// The question for the security groups of the Service.
pub(crate) fn own_security_groups(inputs: &Inputs) -> Call {
    let filters = vec![
        in_vpc(&inputs.environment.vpc_id),
        tagged(tags::CLUSTER, &[&inputs.settings().cluster_name]),
        tagged(tags::STACK, &[&inputs.stack()]),
    ];
    Call::DescribeSecurityGroups { ids: Vec::new(), filters }
}

/// A new Service without a managed security group has none.
fn needs_security_groups(inputs: &Inputs) -> bool {
    !inputs.fresh || matches!(inputs.spec.security_groups, spec::SecurityGroups::Managed { .. })
}

/// The managed security group of the Service.
pub(crate) fn managed_security_group<'a>(observed: &'a Observed) -> Option<&'a SecurityGroup> {
    let is_managed =
        |group: &&'a SecurityGroup| group.tags.get(RESOURCE).is_some_and(|tag| tag == tags::SECURITY_GROUP);
    observed.security_groups.iter().flatten().find(is_managed)
}

/// Listeners of a load balancer by port.
pub(crate) fn listeners_by_port<'a>(observed: &'a Observed, balancer: &LoadBalancer) -> BTreeMap<u16, &'a Listener> {
    let listeners = observed.listeners.get(&balancer.arn).into_iter().flatten();
    listeners.map(|listener| (listener.port, listener)).collect()
}
