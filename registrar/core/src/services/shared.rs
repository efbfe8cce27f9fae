//! What all load balancers share: the security group that their targets let in, and the rules by which they do.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nlb::{settings::TargetType, targetgroupbinding::Networking};

use super::{
    fault::{Failure, explain},
    machine::{Act, Send},
    view::View,
};
use crate::{
    aws::{Call, Fault, Instance, Reply, SecurityGroup},
    balancers::{
        Problem,
        endpoint_rules::{self, Wanted},
    },
    cluster::{BindingRecord, Cluster, Key, NodeRecord, PodRecord, Uid},
    effect::Priority,
    event::Outcome,
};

/// Rules are compared with EC2 this often.
const AUDIT: Duration = Duration::from_secs(290);
/// How long after the first of them pods with interfaces of their own are asked for, so that those that come together are
/// asked for together.
pub(super) const GATHER: Duration = Duration::from_secs(1);

/// What is known of the shared group.
#[derive(Debug, Default)]
enum Group {
    /// It has not been looked for.
    #[default]
    Unread,
    Absent,
    /// Its id.
    Found(String),
}

/// A security group that EC2 has refused to change. The others are no worse for it.
#[derive(Debug)]
struct Barred {
    failure: Failure,
    attempt: u32,
    again_at: Duration,
}

/// The machine. It begins with nothing known.
#[derive(Debug, Default)]
pub(super) struct Shared {
    group: Group,
    /// Answers for the instances that were asked for.
    asked: Vec<(Vec<String>, Vec<Instance>)>,
    /// Security groups of targets.
    endpoints: Option<Vec<SecurityGroup>>,
    /// Whether those that let the shared group in are among them.
    knows_referring: bool,
    /// Pods with interfaces of their own that EC2 was asked for, and those it is being asked for.
    asked_pods: BTreeSet<Uid>,
    asking_pods: BTreeSet<Uid>,
    /// What security groups are on interfaces of pods: each combination that was met. They stay for as long as there are
    /// bindings, whatever pods come and go.
    on_pods: BTreeSet<Vec<String>>,
    /// Security groups that may not be written to.
    barred: BTreeMap<String, Barred>,
    /// Services whose ports bindings name by their names.
    named: BTreeSet<Key>,
    sent: Option<Call>,
    pub(super) due_at: Duration,
    audit_at: Duration,
    attempt: u32,
    retry_at: Duration,
    failure: Option<Failure>,
    problem: Option<Problem>,
}

impl Shared {
    /// The id of the group, once it is known.
    pub(super) fn id(&self, fixed: Option<&String>) -> Option<String> {
        match &self.group {
            _ if fixed.is_some() => fixed.cloned(),
            Group::Found(id) => Some(id.clone()),
            Group::Unread | Group::Absent => None,
        }
    }

    /// Whether rules depend on what numbers the names of a Service's ports stand for.
    pub(super) fn names_ports_of(&self, service: &Key) -> bool {
        self.named.contains(service)
    }

    /// What is in the way of it.
    pub(super) fn problem(&self) -> Option<Problem> {
        let failure = self.failure.as_ref().filter(|failure| failure.is_said(self.attempt));
        let barred = || self.barred.values().find(|barred| barred.failure.is_said(barred.attempt));
        let failure = failure.or_else(|| barred().map(|barred| &barred.failure));
        failure.map(|failure| failure.problem.clone()).or_else(|| self.problem.clone())
    }

    /// Whether EC2 has yet to be asked for the interface of a pod.
    pub(super) fn is_unasked(&self, pod: &PodRecord, cluster: &Cluster) -> bool {
        let node = |node: &str| cluster.nodes.get(&Key::new("", node));
        self.is_unasked_on(pod, |name| node(name).is_some_and(NodeRecord::is_fargate))
    }

    fn is_unasked_on(&self, pod: &PodRecord, is_fargate: impl Fn(&str) -> bool) -> bool {
        let uid = &pod.meta.uid;
        !pod.is_leaving()
            && interface_address(pod).is_some()
            && (pod.own_interface || pod.node.as_deref().is_some_and(is_fargate))
            && !self.asked_pods.contains(uid)
            && !self.asking_pods.contains(uid)
    }

    /// What to send next, if anything. `needed`: some Service wants the group; `used`: some Service may still have it.
    pub(super) fn advance(&mut self, view: &View, needed: bool, used: bool) -> Option<Act> {
        let now = view.now;
        self.due_at = self.audit_at.max(now + Duration::from_secs(1));
        if self.sent.is_some() || view.environment.vpc_id.is_empty() {
            return None;
        }
        if now >= self.audit_at {
            self.audit_at = now + AUDIT;
            self.due_at = self.audit_at;
            self.read_anew();
            self.asked.clear();
            self.asked_pods.clear();
        }
        if now < self.retry_at {
            self.due_at = self.retry_at;
            return None;
        }
        let Some(act) = self.next(view, needed, used) else {
            // Those whose time had come were looked at, and nothing is to be written to them any more.
            self.barred.retain(|_, barred| barred.again_at > now);
            let again = self.barred.values().map(|barred| barred.again_at).min();
            self.due_at = again.map_or(self.due_at, |again| again.min(self.due_at));
            return None;
        };
        if let Send::Aws(call, _) = &act.send {
            self.sent = Some(call.clone());
        }
        Some(act)
    }

    fn next(&mut self, view: &View, needed: bool, used: bool) -> Option<Act> {
        let environment = view.environment;
        let fixed = environment.options.backend_security_group.is_some();
        let bindings: Vec<(&BindingRecord, &Networking)> = view
            .cluster
            .bindings
            .iter()
            .filter_map(|binding| Some((binding, binding.spec.networking.as_ref()?)))
            .collect();
        if !fixed {
            match &self.group {
                Group::Unread => {
                    return read(endpoint_rules::shared_group(environment), "to know the shared security group");
                }
                Group::Absent if needed => {
                    let because = "targets let in load balancers by it";
                    return write(endpoint_rules::create_shared_group(environment), because);
                }
                _ => {}
            }
        }
        let group = self.id(environment.options.backend_security_group.as_ref());
        // Where no rule was ever needed no security group is looked at.
        if bindings.is_empty() && group.is_none() {
            return None;
        }
        let instances: BTreeSet<String> = view.cluster.nodes.iter().filter_map(|node| node.instance.clone()).collect();
        // Each is asked for once: one that is not there would fail the question for the others again and again.
        let is_asked = |id: &&String| self.asked.iter().any(|(asked, _)| asked.contains(id));
        let unasked: BTreeSet<String> = instances.iter().filter(|id| !is_asked(id)).cloned().collect();
        if let Some(call) = endpoint_rules::instance_reads(&unasked).into_iter().next() {
            return read(call, "to know the security groups of nodes");
        }
        let Some(known) = &self.endpoints else {
            return read(endpoint_rules::cluster_groups(environment), "to know the security groups of targets");
        };
        if let Some(id) = group.as_ref().filter(|_| !self.knows_referring) {
            let because = "to know what other security groups let in the shared one";
            return read(endpoint_rules::referring_groups(environment, id), because);
        }
        let unasked = self.unasked_pods(view.cluster, &bindings);
        if !unasked.is_empty() {
            let (uids, addresses) = unasked.into_iter().unzip();
            self.asking_pods = uids;
            let because = "to know the security groups of pods with interfaces of their own";
            return read(endpoint_rules::pod_interfaces(environment, addresses), because);
        }
        let found: Vec<Instance> = self
            .asked
            .iter()
            .flat_map(|(_, found)| found)
            .filter(|instance| instances.contains(&instance.id))
            .cloned()
            .collect();
        let mut chosen = endpoint_rules::endpoint_groups(environment, &found, &self.on_pods, known);
        if instances.is_empty() {
            // Nodes are not seen: those that say that they are of the cluster are all there is to go by.
            chosen.extend(known.iter().map(|group| group.id.clone()));
        }
        let missing: Vec<String> =
            chosen.iter().filter(|id| !known.iter().any(|group| group.id == **id)).cloned().collect();
        if !missing.is_empty() {
            let call = Call::DescribeSecurityGroups { ids: missing, filters: Vec::new() };
            return read(call, "to know the security groups of targets");
        }
        let named = bindings
            .iter()
            .filter(|(_, networking)| names_ports(networking))
            .map(|(binding, _)| Key::new(&binding.meta.key.namespace, &binding.spec.service_ref.name));
        self.named = named.collect();
        let wanted = Wanted::of(
            bindings.iter().map(|(_, networking)| *networking),
            environment.options.exact_endpoint_rules,
            |index, name| {
                bindings.get(index).map(|(binding, _)| numbers(view.cluster, binding, name)).unwrap_or_default()
            },
        );
        self.problem = None;
        for group in known.iter().filter(|group| !is_barred(&self.barred, &group.id, view.now)) {
            let nothing = Wanted { rules: Vec::new(), incomplete: wanted.incomplete };
            let wanted = if chosen.contains(&group.id) { &wanted } else { &nothing };
            match endpoint_rules::changes(wanted, group, environment.options.rules_per_security_group) {
                Ok(calls) => {
                    if let Some(call) = calls.into_iter().next() {
                        return write(call, "the bindings that there are say so");
                    }
                }
                Err(problem) => self.problem = Some(problem),
            }
        }
        let referred = group.as_ref().is_some_and(|id| bindings.iter().any(|(_, networking)| names(networking, id)));
        if let (Some(id), false, false, false, false) = (group, fixed, needed, used, referred) {
            return write(Call::DeleteSecurityGroup { group_id: id }, "no load balancer needs it any more");
        }
        if bindings.is_empty() {
            self.on_pods.clear();
        }
        self.failure = None;
        self.attempt = 0;
        None
    }

    /// Pods behind bindings that EC2 has yet to be asked for, each with its first address; as many as fit one question.
    fn unasked_pods(&self, cluster: &Cluster, bindings: &[(&BindingRecord, &Networking)]) -> Vec<(Uid, String)> {
        let fargate: BTreeSet<&str> =
            cluster.nodes.iter().filter(|node| node.is_fargate()).map(|node| &*node.meta.key.name).collect();
        let is_unasked = |pod: &PodRecord| self.is_unasked_on(pod, |node| fargate.contains(node));
        if !cluster.pods.iter().any(is_unasked) {
            return Vec::new();
        }
        let services: BTreeSet<Key> = bindings
            .iter()
            .filter(|(binding, _)| binding.spec.target_type != Some(TargetType::Instance))
            .map(|(binding, _)| Key::new(&binding.meta.key.namespace, &binding.spec.service_ref.name))
            .collect();
        let mut unasked = BTreeMap::new();
        for service in &services {
            let endpoints = cluster.slices_of(service).flat_map(|slice| &slice.endpoints);
            for (name, uid) in endpoints.filter_map(|endpoint| endpoint.pod.as_ref()) {
                let pod = cluster.pods.get(&Key::new(&service.namespace, name));
                if let Some(pod) = pod.filter(|pod| pod.meta.uid == *uid && is_unasked(pod))
                    && let Some(address) = interface_address(pod)
                {
                    unasked.insert(uid.clone(), address.to_string());
                }
            }
        }
        unasked.into_iter().take(endpoint_rules::ADDRESSES).collect()
    }

    /// What was sent has ended.
    pub(super) fn ended(&mut self, outcome: Outcome, now: Duration) {
        let Some(call) = self.sent.take() else { return };
        self.due_at = now;
        let Outcome::Aws(result) = outcome else { return };
        let asked = std::mem::take(&mut self.asking_pods);
        if result.is_ok() {
            self.asked_pods.extend(asked);
        }
        match result {
            Ok(reply) => {
                self.failure = None;
                self.attempt = 0;
                self.learn(&call, reply);
            }
            Err(Fault::Throttled { .. } | Fault::NotSent(_)) => self.retry_at = now + Duration::from_secs(1),
            Err(fault) => self.failed(&call, &fault, now),
        }
    }

    fn learn(&mut self, call: &Call, reply: Reply) {
        match (call, reply) {
            (Call::DescribeSecurityGroups { ids, filters }, Reply::SecurityGroups(found)) => {
                let is_shared = filters.iter().any(|filter| filter.name.ends_with(nlb::tags::BACKEND_RESOURCE));
                if is_shared {
                    self.group = found.into_iter().map(|group| group.id).min().map_or(Group::Absent, Group::Found);
                } else if endpoint_rules::asks_who_refers(filters) {
                    self.knows_referring = true;
                    let known = self.endpoints.get_or_insert_default();
                    // Where our rules are there were targets: pods of which there may be none at the moment.
                    let is_new = |group: &SecurityGroup| known.iter().all(|known| known.id != group.id);
                    let new: Vec<_> = found.into_iter().filter(is_new).filter(endpoint_rules::has_ours).collect();
                    self.on_pods.extend(new.iter().map(|group| vec![group.id.clone()]));
                    known.extend(new);
                } else if ids.is_empty() {
                    self.endpoints = Some(found);
                } else {
                    self.endpoints.get_or_insert_default().extend(found);
                }
            }
            (Call::DescribeInstances { ids }, Reply::Instances(found)) => self.asked.push((ids.clone(), found)),
            (Call::DescribeNetworkInterfaces { .. }, Reply::NetworkInterfaces(found)) => {
                self.on_pods.extend(found.into_iter().map(|interface| interface.security_groups));
            }
            (Call::CreateSecurityGroup { .. }, Reply::SecurityGroupId(id)) => self.group = Group::Found(id),
            (Call::AuthorizeSecurityGroupIngress { group_id, permissions }, _) => {
                self.barred.remove(group_id);
                for group in self.endpoints.iter_mut().flatten().filter(|group| group.id == *group_id) {
                    group.permissions.extend(permissions.iter().cloned());
                }
            }
            (Call::RevokeSecurityGroupIngress { group_id, permissions }, _) => {
                self.barred.remove(group_id);
                for group in self.endpoints.iter_mut().flatten().filter(|group| group.id == *group_id) {
                    group.permissions.retain(|rule| !endpoint_rules::has_rule(permissions, rule));
                }
            }
            (Call::DeleteSecurityGroup { .. }, _) => self.group = Group::Absent,
            _ => {}
        }
    }

    fn failed(&mut self, call: &Call, fault: &Fault, now: Duration) {
        match call {
            Call::DeleteSecurityGroup { .. } if fault.is("InvalidGroup.NotFound") => {
                self.group = Group::Absent;
                return;
            }
            // One instance that is not there fails the question for all of them.
            Call::DescribeInstances { ids }
                if fault.code().is_some_and(|code| code.starts_with("InvalidInstanceID")) =>
            {
                let named: Vec<String> =
                    ids.iter().filter(|id| fault.to_string().contains(id.as_str())).cloned().collect();
                let absent = if named.is_empty() { ids.clone() } else { named };
                self.asked.push((absent, Vec::new()));
                return;
            }
            Call::AuthorizeSecurityGroupIngress { group_id, .. }
            | Call::RevokeSecurityGroupIngress { group_id, .. }
                if matches!(fault, Fault::Refused(_)) =>
            {
                let attempt = self.barred.get(group_id).map_or(0, |barred| barred.attempt) + 1;
                let again_at = now + Fault::backoff(attempt - 1);
                self.barred.insert(group_id.clone(), Barred { failure: explain(call, fault), attempt, again_at });
                // It may be otherwise than it was taken to be.
                self.read_anew();
                return;
            }
            // What was on an interface once is there no more.
            Call::DescribeSecurityGroups { ids, .. } if !ids.is_empty() => {
                self.on_pods.retain(|groups| !groups.iter().any(|id| ids.contains(id)));
                self.asked_pods.clear();
            }
            _ => {}
        }
        let failure = explain(call, fault);
        let known = self.failure.take().filter(|known| known.is_like(&failure));
        self.failure = Some(known.unwrap_or(failure));
        self.retry_at = now + Fault::backoff(self.attempt);
        self.attempt += 1;
        if !call.is_read() {
            self.group = Group::Unread;
            self.read_anew();
        }
    }

    fn read_anew(&mut self) {
        self.endpoints = None;
        self.knows_referring = false;
    }
}

/// The address that EC2 is asked for the interface of a pod by.
fn interface_address(pod: &PodRecord) -> Option<&IpAddr> {
    pod.addresses.iter().find(|address| address.is_ipv4())
}

fn is_barred(barred: &BTreeMap<String, Barred>, group: &str, now: Duration) -> bool {
    barred.get(group).is_some_and(|barred| barred.again_at > now)
}

/// The numbers that the name of a container port stands for, as the slices of the Service have them.
fn numbers(cluster: &Cluster, binding: &BindingRecord, name: &str) -> Vec<u16> {
    let service = Key::new(&binding.meta.key.namespace, &binding.spec.service_ref.name);
    let Some(port) = cluster.services.get(&service).and_then(|found| found.port(&binding.spec.service_ref.port)) else {
        return Vec::new();
    };
    if port.target_port != IntOrString::String(name.to_owned()) {
        return Vec::new();
    }
    let ports = cluster.slices_of(&service).flat_map(|slice| &slice.ports);
    let numbers: BTreeSet<u16> = ports.filter(|(of, _, _)| **of == *port.name).map(|(_, number, _)| *number).collect();
    numbers.into_iter().collect()
}

fn names_ports(networking: &Networking) -> bool {
    let ports = networking.ingress.iter().flatten().flat_map(|rule| &rule.ports);
    ports.into_iter().any(|port| matches!(port.port, Some(IntOrString::String(_))))
}

fn names(networking: &Networking, id: &str) -> bool {
    let peers = networking.ingress.iter().flatten().flat_map(|rule| &rule.from);
    peers.filter_map(|peer| peer.security_group.as_ref()).any(|group| group.group_id == id)
}

#[expect(clippy::unnecessary_wraps, reason = "what its callers return")]
fn read(call: Call, because: &str) -> Option<Act> {
    Some(Act { send: Send::Aws(call, Priority::LoadBalancers), because: because.to_owned() })
}

#[expect(clippy::unnecessary_wraps, reason = "what its callers return")]
fn write(call: Call, because: &str) -> Option<Act> {
    Some(Act { send: Send::Aws(call, Priority::LoadBalancers), because: because.to_owned() })
}
