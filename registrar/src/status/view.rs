//! What is shown: Services with their load balancers, groups and targets, put together from what the cluster and AWS say.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Pod, PodCondition, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};
use nlb::{
    readiness_gate::ReadinessGate,
    tags::{SERVICE_FINALIZER, STACK_LABELS},
    targetgroupbinding::TargetGroupBinding,
};
use registrar_core::{
    aws::{Arn, HealthState, Listener, LoadBalancer, TargetHealth},
    services::{BLOCKED, PROVISIONING},
};
use serde::Serialize;

/// Of the format; it changes when a field loses or changes its meaning.
const VERSION: u32 = 1;

/// Everything that was read.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Services that are ours, or have our finalizer.
    pub services: Vec<Service>,
    /// Bindings.
    pub bindings: Vec<TargetGroupBinding>,
    /// Pods of their namespaces.
    pub pods: Vec<Pod>,
    /// Nodes, where they may be read.
    pub nodes: Vec<Node>,
    /// Load balancers by name; nothing for one that is not there; an error in words.
    pub load_balancers: BTreeMap<String, Result<Option<LoadBalancer>, String>>,
    /// Listeners by load balancer.
    pub listeners: BTreeMap<Arn, Result<Vec<Listener>, String>>,
    /// Health of targets by target group.
    pub health: BTreeMap<Arn, Result<Vec<TargetHealth>, String>>,
}

/// All of it, as it is shown. `manifests/schemas/status.json` describes it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    version: u32,
    /// Services, and at the end bindings whose Service is not ours.
    pub services: Vec<ServiceStatus>,
}

/// A Service.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceStatus {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Under which clients reach it; nothing until there is one.
    pub hostname: Option<String>,
    /// Its load balancer; nothing for bindings that users made for groups of their own.
    pub load_balancer: Option<LoadBalancerStatus>,
    /// What the registrar is doing about it, in words; nothing if it is done.
    pub progress: Option<String>,
    /// Target groups.
    pub target_groups: Vec<GroupStatus>,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// A load balancer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadBalancerStatus {
    /// ARN.
    pub arn: String,
    /// Name.
    pub name: String,
    /// `internal` or `internet-facing`.
    pub scheme: String,
    /// `provisioning`, `active`, ...
    pub state: String,
    /// Why it is in that state.
    pub state_reason: Option<String>,
    /// Listeners by port.
    pub listeners: Vec<ListenerStatus>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerStatus {
    /// Port.
    pub port: u16,
    /// Protocol.
    pub protocol: String,
    /// Names of the target groups that it forwards to.
    pub target_groups: Vec<String>,
}

/// A target group with its binding.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupStatus {
    /// ARN; empty while there is none.
    pub arn: String,
    /// Name of the binding.
    pub binding: String,
    /// Port of the Service.
    pub service_port: String,
    /// What the binding's condition `Ready` says; nothing while it has none.
    pub ready: Option<Condition>,
    /// Targets by address and port.
    pub targets: Vec<TargetStatus>,
}

/// A condition of a binding.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// In a word.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// A target, or a pod with a gate for which there is no target.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetStatus {
    /// Address or instance id.
    pub id: String,
    /// Port; nothing if it is not registered.
    pub port: Option<u16>,
    /// Name of the pod or node that it is.
    pub object: Option<String>,
    /// State, as AWS names it; `unregistered` for a pod that is no target.
    pub state: String,
    /// Reason that AWS gives.
    pub reason: Option<String>,
    /// The same in words.
    pub description: Option<String>,
    /// Status of the pod's readiness gate; nothing without a gate.
    pub gate: Option<String>,
    /// Since when the gate has this status.
    #[serde(serialize_with = "timestamp")]
    pub since: Option<Timestamp>,
}

#[expect(clippy::ref_option, reason = "the form that serde calls")]
fn timestamp<S: serde::Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => serializer.collect_str(at),
        None => serializer.serialize_none(),
    }
}

/// The state of a pod that is no target.
pub const UNREGISTERED: &str = "unregistered";

impl Report {
    /// Puts together what was found.
    pub fn of(found: &Found) -> Self {
        let mut bindings: BTreeMap<(String, String), Vec<&TargetGroupBinding>> = BTreeMap::new();
        for binding in &found.bindings {
            bindings.entry(service_of(binding)).or_default().push(binding);
        }
        let mut services = Vec::new();
        for service in &found.services {
            let key = (text(service.metadata.namespace.as_ref()), text(service.metadata.name.as_ref()));
            let own = bindings.remove(&key).unwrap_or_default();
            services.push(of_service(found, service, key, &own));
        }
        for ((namespace, name), own) in bindings {
            services.push(ServiceStatus {
                target_groups: own.iter().map(|binding| of_binding(found, binding)).collect(),
                problems: own.iter().filter_map(|binding| unread(found, binding)).collect(),
                namespace,
                name,
                hostname: None,
                load_balancer: None,
                progress: None,
            });
        }
        services.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        Self { version: VERSION, services }
    }

    /// Whether something is not as it should be: a target that is not healthy, a load balancer that is not active.
    pub fn has_trouble(&self) -> bool {
        self.services.iter().any(|service| {
            let balancer = service.load_balancer.as_ref().is_some_and(|balancer| balancer.state != "active");
            let targets = service.target_groups.iter().flat_map(|group| &group.targets);
            let unfinished = service.progress.is_some() || !service.problems.is_empty();
            balancer || unfinished || targets.into_iter().any(|target| target.state != "healthy")
        })
    }
}

/// Name of a load balancer in the hostname that AWS gave it: `<name>-<16 hexadecimal digits>.elb...`.
pub fn balancer_name(hostname: &str) -> Option<&str> {
    let (name, id) = hostname.split_once('.')?.0.rsplit_once('-')?;
    (id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(name)
}

/// The hostname in the status of a Service.
pub fn hostname(service: &Service) -> Option<&str> {
    let ingress = service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    ingress.iter().find_map(|entry| entry.hostname.as_deref())
}

/// The group that a binding binds, once that is known.
pub fn group_of(binding: &TargetGroupBinding) -> Option<Arn> {
    binding.spec.target_group_arn.as_deref().filter(|arn| !arn.is_empty()).map(Arn::new)
}

/// The Service whose model a binding is of, or else the one that it names.
pub fn service_of(binding: &TargetGroupBinding) -> (String, String) {
    let namespace = text(binding.metadata.namespace.as_ref());
    let labels = binding.metadata.labels.as_ref();
    let stack = labels.and_then(|labels| labels.get(STACK_LABELS[1]));
    (namespace, stack.cloned().unwrap_or_else(|| binding.spec.service_ref.name.clone()))
}

fn of_service(
    found: &Found,
    service: &Service,
    (namespace, name): (String, String),
    bindings: &[&TargetGroupBinding],
) -> ServiceStatus {
    let mut problems = Vec::new();
    let hostname = hostname(service);
    let load_balancer = match hostname.and_then(balancer_name) {
        None if hostname.is_none() => {
            problems.push("it has no hostname yet: its load balancer is being made, or cannot be".to_owned());
            None
        }
        None => None,
        Some(name) => match found.load_balancers.get(name) {
            Some(Ok(Some(balancer))) => Some(of_balancer(found, balancer, &mut problems)),
            Some(Ok(None)) => {
                problems.push(format!("AWS has no load balancer {name}, which its hostname speaks of"));
                None
            }
            Some(Err(fault)) => {
                problems.push(format!("load balancer {name}: {fault}"));
                None
            }
            None => None,
        },
    };
    if service.metadata.deletion_timestamp.is_some() {
        problems.push("it is being deleted, and waits until its load balancer is gone".to_owned());
    }
    let is_true = |name: &str| {
        let conditions = service.status.as_ref().and_then(|status| status.conditions.as_ref());
        conditions.into_iter().flatten().find(|condition| condition.type_ == name && condition.status == "True")
    };
    problems.extend(is_true(BLOCKED).map(|blocked| format!("{}: {}", blocked.reason, blocked.message)));
    problems.extend(bindings.iter().filter_map(|binding| unread(found, binding)));
    ServiceStatus {
        hostname: hostname.map(ToOwned::to_owned),
        load_balancer,
        progress: is_true(PROVISIONING).map(|progress| progress.message.clone()),
        target_groups: bindings.iter().map(|binding| of_binding(found, binding)).collect(),
        problems,
        namespace,
        name,
    }
}

fn of_balancer(found: &Found, balancer: &LoadBalancer, problems: &mut Vec<String>) -> LoadBalancerStatus {
    let listeners = match found.listeners.get(&balancer.arn) {
        Some(Ok(listeners)) => listeners.as_slice(),
        Some(Err(fault)) => {
            problems.push(format!("listeners of {}: {fault}", balancer.name));
            &[]
        }
        None => &[],
    };
    let mut listeners: Vec<_> = listeners
        .iter()
        .map(|listener| ListenerStatus {
            port: listener.port,
            protocol: listener.protocol.clone(),
            target_groups: listener
                .forward
                .iter()
                .flat_map(|forward| &forward.groups)
                .map(|(arn, _)| group_name(arn).to_owned())
                .collect(),
        })
        .collect();
    listeners.sort_by_key(|listener| listener.port);
    LoadBalancerStatus {
        arn: balancer.arn.to_string(),
        name: balancer.name.clone(),
        scheme: balancer.scheme.clone(),
        state: balancer.state.clone(),
        state_reason: balancer.state_reason.clone(),
        listeners,
    }
}

/// The name in the ARN of a target group.
fn group_name(arn: &Arn) -> &str {
    let rest = arn.as_str().rsplit_once(":targetgroup/").and_then(|(_, rest)| rest.split_once('/'));
    rest.map_or(arn.as_str(), |(name, _)| name)
}

fn unread(found: &Found, binding: &TargetGroupBinding) -> Option<String> {
    let fault = found.health.get(&group_of(binding)?)?.as_ref().err()?;
    Some(format!("targets of binding {}: {fault}", text(binding.metadata.name.as_ref())))
}

fn of_binding(found: &Found, binding: &TargetGroupBinding) -> GroupStatus {
    let name = text(binding.metadata.name.as_ref());
    let namespace = binding.metadata.namespace.as_deref();
    let group = group_of(binding);
    let pods: Vec<&Pod> =
        found.pods.iter().filter(|pod| pod.metadata.namespace.as_deref() == namespace && !is_finished(pod)).collect();
    let health = group.as_ref().and_then(|group| found.health.get(group)?.as_ref().ok());
    let mut registered = BTreeSet::new();
    let mut targets: Vec<TargetStatus> = Vec::new();
    for of in health.into_iter().flatten() {
        let pod = pods.iter().filter(|pod| has_address(pod, &of.target.id)).max_by_key(|pod| is_staying(pod));
        let gate = pod.and_then(|pod| gate(pod, &name));
        registered.extend(pod.and_then(|pod| pod.metadata.name.clone()));
        targets.push(TargetStatus {
            id: of.target.id.clone(),
            port: Some(of.target.port),
            object: match pod {
                Some(pod) => pod.metadata.name.clone(),
                None => node_of(found, &of.target.id),
            },
            state: state(&of.state).to_owned(),
            reason: of.reason.clone(),
            description: of.description.clone(),
            since: gate.as_ref().and_then(|(_, since)| *since),
            gate: gate.map(|(status, _)| status),
        });
    }
    // What is not known to be registered is not known to be missing either.
    for pod in pods.iter().filter(|_| health.is_some()) {
        let Some((status, since)) = gate(pod, &name) else { continue };
        let name = text(pod.metadata.name.as_ref());
        if registered.contains(&name) {
            continue;
        }
        targets.push(TargetStatus {
            id: addresses(pod).next().unwrap_or_default().to_owned(),
            port: None,
            object: Some(name),
            state: UNREGISTERED.to_owned(),
            reason: None,
            description: None,
            gate: Some(status),
            since,
        });
    }
    targets.sort_by(|one, other| (&one.object, &one.id, one.port).cmp(&(&other.object, &other.id, other.port)));
    let conditions = binding.status.as_ref().and_then(|status| status.conditions.as_ref());
    let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
    GroupStatus {
        arn: group.map(|arn| arn.to_string()).unwrap_or_default(),
        binding: name,
        service_port: port_text(&binding.spec.service_ref.port),
        ready: ready.map(|condition| Condition {
            status: condition.status.clone(),
            reason: condition.reason.clone(),
            message: condition.message.clone(),
        }),
        targets,
    }
}

fn state(state: &HealthState) -> &str {
    match state {
        HealthState::Initial => "initial",
        HealthState::Healthy => "healthy",
        HealthState::Unhealthy => "unhealthy",
        HealthState::UnhealthyDraining => "unhealthy.draining",
        HealthState::Unused => "unused",
        HealthState::Draining => "draining",
        HealthState::Unavailable => "unavailable",
        HealthState::Other(other) => other,
    }
}

/// The status of a pod's gate and since when it has it; `False` for a gate without a condition, as the kubelet counts it.
fn gate(pod: &Pod, binding: &str) -> Option<(String, Option<Timestamp>)> {
    let gate = ReadinessGate::of_binding(binding).ok()?.to_string();
    let gates = pod.spec.as_ref()?.readiness_gates.as_ref()?;
    gates.iter().find(|known| known.condition_type == gate)?;
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let condition: Option<&PodCondition> = conditions.into_iter().flatten().find(|condition| condition.type_ == gate);
    Some(match condition {
        Some(condition) => (condition.status.clone(), condition.last_transition_time.as_ref().map(|time| time.0)),
        None => ("False".to_owned(), None),
    })
}

fn addresses(pod: &Pod) -> impl Iterator<Item = &str> {
    let addresses = pod.status.as_ref().and_then(|status| status.pod_ips.as_ref());
    addresses.into_iter().flatten().map(|address| address.ip.as_str())
}

fn has_address(pod: &Pod, address: &str) -> bool {
    addresses(pod).any(|of_pod| of_pod == address)
}

fn is_finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_staying(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

/// The node that an instance is.
fn node_of(found: &Found, instance: &str) -> Option<String> {
    let is_it = |node: &&Node| {
        let provider = node.spec.as_ref().and_then(|spec| spec.provider_id.as_deref());
        provider.is_some_and(|id| id.rsplit('/').next() == Some(instance))
    };
    found.nodes.iter().find(is_it)?.metadata.name.clone()
}

fn port_text(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

fn text(field: Option<&String>) -> String {
    field.cloned().unwrap_or_default()
}

/// Whether a Service waits for us to clean up, ours or not.
pub fn has_finalizer(service: &Service) -> bool {
    service.metadata.finalizers.iter().flatten().any(|name| name == SERVICE_FINALIZER)
}
