//! The steps from what is there to what is wanted.
//!
//! Their order: the record of what is about to be made; the security group; target groups; bindings of those that take
//! over from others, whose targets have to be healthy first; the load balancer; listeners; what the load balancer serves
//! no more; the other bindings, whose gates hold only now that something refers to their groups; then what is no longer
//! wanted, from what refers to what is referred to.

mod bindings;
mod groups;
mod listeners;
mod load_balancer;
mod places;
mod removal;
mod retiring;
mod security_group;

pub(in crate::balancers) use security_group::without;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    Desired, Inputs, Intent, Observed, Problem,
    managed::ManagedFields,
    observed::Tags,
    step::{Change, Operation, Resource, Step, Verb, Wait},
    survey::Survey,
};
use crate::{
    aws::{Arn, Call, Source},
    effect::Request,
};

/// Attributes in one call.
const MOST_ATTRIBUTES: usize = 20;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Plan {
    /// Steps in their order.
    pub steps: Vec<Step>,
    /// Changes that wait for somebody's word.
    pub waiting: Vec<Problem>,
    /// What stands in the way.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// Whether everything is as it is wanted.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_empty() && self.problems.is_empty()
    }
}

/// The steps from what is observed to what is wanted. `desired` is [`Desired::of`] the same two.
pub fn plan(desired: &Desired, inputs: &Inputs, observed: &Observed) -> Plan {
    draft_of(desired, inputs, observed, &Survey::of(inputs, observed)).plan
}

/// The model and the steps to it, made in one go; or, if something must be read first, what.
pub fn prepare(inputs: &Inputs, observed: &Observed) -> Result<(Desired, Plan), Vec<Call>> {
    let survey = Survey::of(inputs, observed);
    if !survey.reads.is_empty() {
        return Err(survey.reads);
    }
    let desired = Desired::surveyed(inputs, observed, &survey);
    let draft = draft_of(&desired, inputs, observed, &survey);
    if draft.reads.is_empty() { Ok((desired, draft.plan)) } else { Err(draft.reads) }
}

/// A plan with what must be read to make it complete.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(crate) plan: Plan,
    pub(crate) reads: Vec<Call>,
}

pub(crate) fn draft(inputs: &Inputs, observed: &Observed, survey: &Survey) -> Draft {
    draft_of(&Desired::surveyed(inputs, observed, survey), inputs, observed, survey)
}

fn draft_of(desired: &Desired, inputs: &Inputs, observed: &Observed, survey: &Survey) -> Draft {
    let mut planner = Planner {
        inputs,
        observed,
        survey,
        desired,
        listeners_on: None,
        narrows: None,
        unmade: BTreeSet::new(),
        draft: Draft::default(),
    };
    match inputs.intent {
        Intent::Remove => planner.remove(),
        Intent::Keep => planner.keep(),
    }
    planner.draft
}

struct Planner<'a> {
    inputs: &'a Inputs,
    observed: &'a Observed,
    survey: &'a Survey<'a>,
    desired: &'a Desired,
    /// The load balancer that the listeners are to be on, or what stands for it; nothing if there cannot be one now.
    listeners_on: Option<Arn>,
    /// The load balancer gives up a family or source NAT once its listeners have changed; and whether it is outgrown.
    narrows: Option<bool>,
    /// Target groups that cannot be made now.
    unmade: BTreeSet<Arn>,
    draft: Draft,
}

impl Planner<'_> {
    fn keep(&mut self) {
        self.draft.reads.extend(self.desired.unread.iter().cloned());
        self.draft.plan.problems.extend(self.desired.problems.iter().cloned());
        // What could not be resolved would look as if it were not wanted, and go.
        if self.is_taken() || !self.desired.problems.is_empty() {
            return;
        }
        self.security_group();
        self.target_groups();
        self.bindings(true);
        self.load_balancer();
        self.listeners();
        self.narrow_places();
        self.bindings(false);
        self.capacity();
        self.retire();
        self.record();
    }

    /// Names that belong to somebody else: nothing is written then.
    fn is_taken(&mut self) -> bool {
        // A name that is not needed any more may be anybody's: the load balancer that is there keeps its own.
        let taken = self.survey.taken.filter(|_| self.survey.load_balancer.is_none());
        let balancer = taken.map(|found| ("load balancer", found.name.as_str(), found.arn.as_str()));
        let groups =
            self.survey.taken_groups.iter().map(|found| ("target group", found.name.as_str(), found.arn.as_str()));
        let taken: Vec<_> = balancer.into_iter().chain(groups).collect();
        for (kind, name, arn) in &taken {
            let message = format!(
                "{kind} {name} ({arn}) is there, but its tags do not say that it belongs to Service {} of cluster {}",
                self.inputs.stack(),
                self.inputs.settings().cluster_name
            );
            let remedy = "choose another name, or delete it if nobody needs it";
            self.draft.plan.problems.push(Problem::new("NameTaken", message, remedy));
        }
        !taken.is_empty()
    }

    fn aws(&mut self, verb: Verb, resource: Resource, changes: Vec<Change>, call: Call) {
        let ready = mentioned(&call).into_iter().all(|id| !id.starts_with('$'));
        self.draft.plan.steps.push(Step { verb, resource, changes, operation: Operation::Aws(call), ready });
    }

    fn kubernetes(&mut self, verb: Verb, resource: Resource, changes: Vec<Change>, request: Request, ready: bool) {
        let operation = Operation::Kubernetes(request);
        self.draft.plan.steps.push(Step { verb, resource, changes, operation, ready });
    }

    fn wait(&mut self, resource: Resource, wait: Wait) {
        let operation = Operation::Wait(wait);
        self.draft.plan.steps.push(Step { verb: Verb::Wait, resource, changes: Vec::new(), operation, ready: true });
    }

    fn waiting(&mut self, reason: &'static str, message: String, remedy: &str) {
        self.draft.plan.waiting.push(Problem::new(reason, message, remedy));
    }

    fn problem(&mut self, reason: &'static str, message: String, remedy: &str) {
        self.draft.plan.problems.push(Problem::new(reason, message, remedy));
    }

    /// Attributes of something, or nothing if they have yet to be read.
    fn attributes_of(&mut self, arn: &Arn, read: Call) -> Option<BTreeMap<String, String>> {
        let known = self.observed.attributes.get(arn).cloned();
        if known.is_none() {
            self.draft.reads.push(read);
        }
        known
    }

    /// Adds and removes tags of something of ELBv2. Tags that others set stay.
    fn tags(&mut self, resource: &Resource, arn: &Arn, wanted: &Tags) {
        let Some(known) = self.observed.tags.get(arn) else {
            self.draft.reads.push(Call::DescribeTags { resources: vec![arn.clone()] });
            return;
        };
        let (added, removed) = self.tag_changes(known, wanted);
        if !added.is_empty() {
            let changes = tag_fields(known, &added);
            let call = Call::AddTags { resource: arn.clone(), tags: added };
            self.aws(Verb::Change, resource.clone(), changes, call);
        }
        if !removed.is_empty() {
            let changes = removed_fields(known, &removed);
            let call = Call::RemoveTags { resource: arn.clone(), keys: removed };
            self.aws(Verb::Change, resource.clone(), changes, call);
        }
    }

    /// Tags to add, and keys to remove: those that the Service asked for once and no longer does.
    fn tag_changes(&self, known: &Tags, wanted: &Tags) -> (Tags, Vec<String>) {
        let elsewhere = &self.inputs.settings().external_managed_tags;
        let added = wanted
            .iter()
            .filter(|(key, value)| !elsewhere.contains(*key) && known.get(*key) != Some(value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let asked_once = self.inputs.managed().tags;
        let removed = asked_once
            .into_iter()
            .filter(|key| known.contains_key(key) && !wanted.contains_key(key) && !elsewhere.contains(key))
            .collect();
        (added, removed)
    }

    /// Writes down, before anything that refers to them goes, the names of target groups that a look at AWS would not find
    /// after that: one that was taken over may have another name than it would be given today.
    fn record_removal(&mut self) {
        let found: BTreeSet<String> = self.survey.groups.iter().map(|found| found.group.name.clone()).collect();
        let own = self.inputs.spec.target_groups.iter().map(|group| &group.name);
        let certain: BTreeSet<&String> = own.chain(&self.inputs.recorded.target_groups).collect();
        if found.iter().any(|name| !certain.contains(name)) {
            let names = ManagedFields { target_groups: found, ..ManagedFields::default() };
            let step = self.record_step(&self.inputs.recorded.union(&names));
            self.draft.plan.steps.insert(0, step);
        }
    }

    /// Writes down what is about to be set and made, before it is; and forgets what is no longer, after it is.
    fn record(&mut self) {
        let groups = self.inputs.wanted_groups();
        let mut fields = ManagedFields::of(&self.inputs.spec, &groups);
        let changes_aws = self.draft.plan.steps.iter().any(Step::writes_to_aws);
        fields.load_balancers.extend(self.survey.balancers().iter().map(|found| found.name.clone()));
        fields.target_groups.extend(self.survey.groups.iter().map(|found| found.group.name.clone()));
        for step in &self.draft.plan.steps {
            match &step.operation {
                Operation::Aws(Call::CreateLoadBalancer(create)) => {
                    fields.load_balancers.insert(create.name.clone());
                }
                Operation::Aws(Call::CreateTargetGroup(create)) => {
                    fields.target_groups.insert(create.name.clone());
                }
                _ => {}
            }
        }
        let before = self.inputs.recorded.union(&self.inputs.remembered).union(&fields);
        if changes_aws && before != self.inputs.recorded {
            let step = self.record_step(&before);
            self.draft.plan.steps.insert(0, step);
        }
        let nothing_else = self.draft.plan.steps.is_empty();
        let nothing_recorded = self.inputs.recorded == ManagedFields::default();
        if nothing_else && !nothing_recorded && fields != self.inputs.recorded && self.draft.reads.is_empty() {
            let step = self.record_step(&fields);
            self.draft.plan.steps.push(step);
        }
    }

    fn record_step(&self, fields: &ManagedFields) -> Step {
        Step {
            verb: Verb::Change,
            resource: Resource::new("Service", self.inputs.stack()),
            changes: vec![Change::new(super::managed::ANNOTATION, None, None)],
            operation: Operation::Kubernetes(Request::SetManagedFields {
                service: self.inputs.service.clone(),
                uid: self.inputs.uid.clone(),
                fields: fields.write(),
            }),
            ready: true,
        }
    }
}

fn tag_fields(known: &Tags, added: &Tags) -> Vec<Change> {
    let change = |(key, value): (&String, &String)| {
        Change::new(format!("Tags[{key}]"), known.get(key).cloned(), Some(value.clone()))
    };
    added.iter().map(change).collect()
}

fn removed_fields(known: &Tags, removed: &[String]) -> Vec<Change> {
    removed.iter().map(|key| Change::new(format!("Tags[{key}]"), known.get(key).cloned(), None)).collect()
}

/// What attributes are to become: those that are wanted, and for those that were set once and are no longer wanted what
/// they go back to. Only what differs.
fn attribute_changes(
    known: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
    set_once: Option<&BTreeSet<String>>,
    default: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    let back = set_once.into_iter().flatten().filter(|key| !wanted.contains_key(*key));
    let back = back.filter_map(|key| Some((key.clone(), default(key)?)));
    let all = wanted.iter().map(|(key, value)| (key.clone(), value.clone())).chain(back);
    all.filter(|(key, value)| known.get(key) != Some(value)).collect()
}

/// A switch in AWS's words.
fn on_or_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

/// Attributes in as many parts as AWS takes at once.
fn in_parts(attributes: BTreeMap<String, String>) -> Vec<BTreeMap<String, String>> {
    let pairs: Vec<(String, String)> = attributes.into_iter().collect();
    pairs.chunks(MOST_ATTRIBUTES).map(|part| part.iter().cloned().collect()).collect()
}

fn attribute_fields(known: &BTreeMap<String, String>, changed: &BTreeMap<String, String>) -> Vec<Change> {
    let change = |(key, value): (&String, &String)| {
        Change::new(format!("Attributes[{key}]"), known.get(key).cloned(), Some(value.clone()))
    };
    changed.iter().map(change).collect()
}

/// The ids that a write names, by which it can be told whether all of them are there.
fn mentioned(call: &Call) -> Vec<&str> {
    match call {
        Call::CreateLoadBalancer(create) => create.security_groups.iter().map(String::as_str).collect(),
        Call::SetSecurityGroups { load_balancer, security_groups, .. } => {
            std::iter::once(load_balancer.as_str()).chain(security_groups.iter().map(String::as_str)).collect()
        }
        Call::CreateListener(create) => std::iter::once(create.load_balancer.as_str())
            .chain(create.forward.groups.iter().map(|(arn, _)| arn.as_str()))
            .collect(),
        Call::ModifyListener(change) => std::iter::once(change.listener.as_str())
            .chain(change.forward.iter().flat_map(|forward| &forward.groups).map(|(arn, _)| arn.as_str()))
            .collect(),
        Call::AuthorizeSecurityGroupIngress { group_id, permissions } => {
            let sources = permissions.iter().filter_map(|permission| match &permission.source {
                Source::Group(id) => Some(id.as_str()),
                _ => None,
            });
            std::iter::once(group_id.as_str()).chain(sources).collect()
        }
        Call::ModifyLoadBalancerAttributes { load_balancer: arn, .. }
        | Call::ModifyCapacityReservation { load_balancer: arn, .. }
        | Call::ModifyTargetGroupAttributes { group: arn, .. }
        | Call::ModifyListenerAttributes { listener: arn, .. }
        | Call::AddListenerCertificates { listener: arn, .. } => vec![arn.as_str()],
        _ => Vec::new(),
    }
}
