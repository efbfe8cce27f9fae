//! Bindings: one per target group, found by the group that they bind.

use nlb::targetgroupbinding::{Networking, TargetGroupBindingSpec};

use super::{Change, Planner, Resource, Verb, Wait};
use crate::{
    balancers::{Binding, KnownBinding, desired::port_text},
    cluster::Key,
    effect::Request,
};

impl Planner<'_> {
    /// The bindings of target groups that take over from others, or of all the rest.
    pub(super) fn bindings(&mut self, successors: bool) {
        let not_made = self.listeners_on.is_none() && !successors;
        for wanted in &self.desired.bindings {
            let arn = wanted.spec.target_group_arn.clone().unwrap_or_default();
            if self.unmade.iter().any(|unmade| unmade.as_str() == arn) || self.is_successor(&arn) != successors {
                continue;
            }
            let in_use = self
                .survey
                .groups
                .iter()
                .any(|found| found.group.arn.as_str() == arn && !found.group.load_balancers.is_empty());
            if not_made && !in_use {
                // Its gates would be closed as long as no load balancer can be made.
                continue;
            }
            let resource = Resource::new("binding", &wanted.name);
            let bound = |known: &&KnownBinding| known.spec.target_group_arn.as_deref() == Some(arn.as_str());
            if let Some(known) = self.inputs.bindings.iter().find(bound) {
                self.change_binding(wanted, known);
                continue;
            }
            let namesake = self.inputs.bindings.iter().find(|known| *known.key.name == *wanted.name);
            if let Some(known) = namesake {
                self.remove_binding(known);
            }
            let changes = vec![
                Change::set("targetGroupARN", arn),
                Change::set("serviceRef", format!("{}:{}", wanted.spec.service_ref.name, port(&wanted.spec))),
            ];
            self.apply(Verb::Create, resource, changes, wanted, wanted.spec.clone(), &wanted.name);
        }
    }

    /// Whether a group is of a resource that another one stands for as yet.
    fn is_successor(&self, arn: &str) -> bool {
        let wanted = self.desired.target_groups.iter().find(|group| group.target_group_arn.as_str() == arn);
        wanted.is_some_and(|wanted| {
            let others = self.survey.groups.iter().filter(|found| found.group.arn != wanted.target_group_arn);
            others.into_iter().any(|found| found.resource == wanted.spec.resource)
        })
    }

    fn change_binding(&mut self, wanted: &Binding, known: &KnownBinding) {
        let resource = Resource::new("binding", &*known.key.name);
        if known.deleting {
            self.wait(resource.clone(), Wait::BindingGone(known.key.clone()));
            let changes = vec![Change::set("targetGroupARN", wanted.spec.target_group_arn.clone().unwrap_or_default())];
            self.apply(Verb::Create, resource, changes, wanted, wanted.spec.clone(), &known.key.name);
            return;
        }
        let changes = spec_changes(&wanted.spec, &known.spec);
        if !changes.is_empty() {
            let spec = immutable_kept(&wanted.spec, &known.spec);
            self.apply(Verb::Change, resource, changes, wanted, spec, &known.key.name);
        }
    }

    fn apply(
        &mut self,
        verb: Verb,
        resource: Resource,
        changes: Vec<Change>,
        wanted: &Binding,
        spec: TargetGroupBindingSpec,
        name: &str,
    ) {
        let shared_missing = networking_groups(&spec).any(|id| id == crate::balancers::security_groups::SHARED);
        if shared_missing {
            self.wait(resource.clone(), Wait::SharedGroup);
        }
        let arn = spec.target_group_arn.as_deref().unwrap_or("$");
        let ready = !arn.starts_with('$') && networking_groups(&spec).all(|id| !id.starts_with('$'));
        let request = Request::ApplyBinding {
            binding: Key { namespace: wanted.namespace.as_str().into(), name: name.into() },
            labels: wanted.labels.clone(),
            spec: Box::new(spec),
        };
        self.kubernetes(verb, resource, changes, request, ready);
    }

    /// Deletes a binding, and waits until it is gone with its finalizer.
    pub(super) fn remove_binding(&mut self, known: &KnownBinding) {
        let resource = Resource::new("binding", &*known.key.name);
        if !known.deleting {
            let request = Request::DeleteBinding { binding: known.key.clone(), uid: known.uid.clone() };
            self.kubernetes(Verb::Delete, resource.clone(), Vec::new(), request, true);
        }
        self.wait(resource, Wait::BindingGone(known.key.clone()));
    }
}

fn networking_groups(spec: &TargetGroupBindingSpec) -> impl Iterator<Item = &str> {
    let rules = spec.networking.iter().flat_map(|networking| networking.ingress.iter().flatten());
    rules
        .flat_map(|rule| &rule.from)
        .filter_map(|peer| peer.security_group.as_ref())
        .map(|group| group.group_id.as_str())
}

fn port(spec: &TargetGroupBindingSpec) -> String {
    port_text(&spec.service_ref.port)
}

/// What of a binding differs. Fields that older versions did not write, and that are absent, are no difference.
fn spec_changes(wanted: &TargetGroupBindingSpec, known: &TargetGroupBindingSpec) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut differs = |field: &str, new: String, old: String| {
        if new != old {
            changes.push(Change::new(field, Some(old), Some(new)));
        }
    };
    let multi = |spec: &TargetGroupBindingSpec| spec.multi_cluster_target_group.unwrap_or(false).to_string();
    differs("multiClusterTargetGroup", multi(wanted), multi(known));
    let reference = |spec: &TargetGroupBindingSpec| format!("{}:{}", spec.service_ref.name, port(spec));
    differs("serviceRef", reference(wanted), reference(known));
    let selector = |spec: &TargetGroupBindingSpec| format!("{:?}", spec.node_selector.clone().unwrap_or_default());
    differs("nodeSelector", selector(wanted), selector(known));
    differs("networking", networking_text(wanted.networking.as_ref()), networking_text(known.networking.as_ref()));
    changes
}

/// Networking in one form, whatever the order of its parts.
fn networking_text(networking: Option<&Networking>) -> String {
    let rules = networking.into_iter().flat_map(|networking| networking.ingress.iter().flatten());
    let mut rules: Vec<String> = rules
        .map(|rule| {
            let mut from: Vec<String> = rule
                .from
                .iter()
                .map(|peer| match (&peer.security_group, &peer.ip_block) {
                    (Some(group), _) => group.group_id.clone(),
                    (None, Some(block)) => block.cidr.clone(),
                    (None, None) => String::new(),
                })
                .collect();
            let mut ports: Vec<String> = rule
                .ports
                .iter()
                .map(|port| {
                    let protocol = if port.protocol == Some(nlb::targetgroupbinding::NetworkingProtocol::Udp) {
                        "UDP"
                    } else {
                        "TCP"
                    };
                    format!("{protocol} {}", port.port.as_ref().map_or_else(|| "all".to_owned(), port_text))
                })
                .collect();
            from.sort();
            ports.sort();
            format!("{} from {}", ports.join(", "), from.join(", "))
        })
        .collect();
    rules.sort();
    rules.join("; ")
}

/// The wanted spec with what cannot be changed as it is.
fn immutable_kept(wanted: &TargetGroupBindingSpec, known: &TargetGroupBindingSpec) -> TargetGroupBindingSpec {
    TargetGroupBindingSpec {
        target_type: known.target_type.or(wanted.target_type),
        ip_address_type: known.ip_address_type.or(wanted.ip_address_type),
        vpc_id: known.vpc_id.clone().or_else(|| wanted.vpc_id.clone()),
        target_group_protocol: known.target_group_protocol.or(wanted.target_group_protocol),
        target_group_name: known.target_group_name.clone(),
        ..wanted.clone()
    }
}
