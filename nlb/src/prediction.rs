//! Which readiness gates a pod gets, and how long it serves on, told before anything exists in AWS.
//!
//! Facts about Services and bindings are taken once, when they enter a cache; telling what a pod gets is then a look
//! through the facts of its namespace.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{Pod, Service},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    annotations::{Annotations, keys},
    drain::{self, Delay},
    readiness_gate::{INJECT_LABEL, ReadinessGate, is_legacy},
    service::{
        self, Ownership,
        spec::{GroupRef, Protocol},
    },
    settings::{ModelSettings, TargetType},
    tags::STACK_LABELS,
    targetgroupbinding::TargetGroupBinding,
};

/// Annotation of pods that the kubelet made from a file, which cannot be changed.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What of a Service decides about pods.
#[derive(Debug, Clone)]
pub struct ServiceFacts {
    service: Arc<Service>,
    settings: Arc<ModelSettings>,
    name: String,
    selector: BTreeMap<String, String>,
    /// Target groups of pods that the Service is going to have: Service port and name.
    groups: Vec<(u16, String)>,
    /// Other Services that its listeners forward to.
    backends: Vec<(String, IntOrString, Protocol)>,
    drain_seconds: u32,
}

impl ServiceFacts {
    /// Takes the facts. A Service that is refused, or not ours, has no target groups.
    pub fn of(service: &Arc<Service>, settings: &Arc<ModelSettings>) -> Self {
        let annotations = Annotations::new(service.metadata.annotations.as_ref());
        let delay: Option<Delay> = annotations.text(keys::POD_DRAIN).and_then(|written| written.parse().ok());
        let mut facts = Self {
            name: service.metadata.name.clone().unwrap_or_default(),
            selector: service.spec.as_ref().and_then(|spec| spec.selector.clone()).unwrap_or_default(),
            groups: Vec::new(),
            backends: Vec::new(),
            drain_seconds: delay.unwrap_or(Delay::Auto).seconds(settings.drain_floor_seconds),
            service: Arc::clone(service),
            settings: Arc::clone(settings),
        };
        if service::ownership::of(service, settings) != Ownership::Ours {
            return facts;
        }
        let reading = service::read(service, settings);
        let Ok(spec) = reading.accepted() else { return facts };
        for group in spec.target_groups.iter().filter(|group| group.target_type == TargetType::Ip) {
            facts.groups.push((group.service_port, group.name.clone()));
        }
        if !facts.groups.is_empty() {
            for listener in &spec.listeners {
                for weighted in &listener.default_actions.target_groups {
                    if let GroupRef::Service { name, port } = &weighted.group {
                        facts.backends.push((name.clone(), port.clone(), listener.protocol));
                    }
                }
            }
        }
        facts
    }

    fn selects(&self, pod: &PodFacts) -> bool {
        !self.selector.is_empty()
            && self.selector.iter().all(|(key, value)| pod.labels.and_then(|labels| labels.get(key)) == Some(value))
    }

    /// The number of a port that is named or numbered.
    fn port(&self, wanted: &IntOrString) -> Option<u16> {
        let ports = self.service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
        let port = ports.into_iter().flatten().find(|port| match wanted {
            IntOrString::Int(number) => port.port == *number,
            IntOrString::String(name) => port.name.as_ref() == Some(name),
        })?;
        u16::try_from(port.port).ok()
    }
}

/// What of a binding decides about pods.
#[derive(Debug, Clone, PartialEq)]
pub struct BindingFacts {
    name: String,
    service: String,
    port: IntOrString,
    target_type: Option<TargetType>,
    terminating: bool,
    /// Whether it was made for this Service by its labels, rather than by hand.
    made_for: Option<String>,
}

impl BindingFacts {
    /// Takes the facts.
    pub fn of(binding: &TargetGroupBinding) -> Self {
        let label = |key| binding.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
        let own_namespace = label(STACK_LABELS[0]) == binding.metadata.namespace;
        Self {
            name: binding.metadata.name.clone().unwrap_or_default(),
            service: binding.spec.service_ref.name.clone(),
            port: binding.spec.service_ref.port.clone(),
            target_type: binding.spec.target_type,
            terminating: binding.metadata.deletion_timestamp.is_some(),
            made_for: label(STACK_LABELS[1]).filter(|_| own_namespace),
        }
    }
}

/// What of a pod decides.
#[derive(Debug, Clone, Copy)]
pub struct PodFacts<'a> {
    /// Labels.
    pub labels: Option<&'a BTreeMap<String, String>>,
    /// Annotations.
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// Whether it uses the network of its node.
    pub host_network: bool,
}

impl<'a> PodFacts<'a> {
    /// Takes the facts.
    pub fn of(pod: &'a Pod) -> Self {
        Self {
            labels: pod.metadata.labels.as_ref(),
            annotations: pod.metadata.annotations.as_ref(),
            host_network: pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)),
        }
    }

    /// Whether it is of a kind that is never touched.
    fn is_left_alone(&self) -> bool {
        self.host_network || self.annotations.is_some_and(|annotations| annotations.contains_key(MIRROR))
    }
}

/// The gates of one pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Gates {
    /// Gates that the pod is to have, in a fixed order. It may have some already.
    pub gates: Vec<ReadinessGate>,
    /// Whether gates of the first generation are to be taken away.
    pub drop_legacy: bool,
    /// Where a gate was left out, in words.
    pub ungated: Vec<String>,
}

impl Gates {
    /// What is to be added to the gates that a pod has, in order.
    pub fn missing<'a>(&'a self, present: &'a [String]) -> impl Iterator<Item = &'a ReadinessGate> {
        self.gates.iter().filter(|gate| !present.contains(&gate.to_string()))
    }

    /// The positions of the gates that are to be taken away.
    pub fn surplus<'a>(&'a self, present: &'a [String]) -> impl Iterator<Item = usize> + 'a {
        present.iter().enumerate().filter(|(_, gate)| self.drop_legacy && is_legacy(gate)).map(|(index, _)| index)
    }
}

/// The gates of a pod, from the Services and bindings of its namespace.
///
/// Every binding to pods of a Service that selects the pod gives one. A target group that a Service is going to have
/// gives one too, unless a binding was made for that Service and port already.
pub fn gates(pod: &PodFacts, services: &[&ServiceFacts], bindings: &[&BindingFacts]) -> Gates {
    let opted_out = pod.labels.and_then(|labels| labels.get(INJECT_LABEL)).is_some_and(|value| value == "disabled");
    if pod.is_left_alone() || opted_out {
        return Gates::default();
    }
    let mut found = Found::default();
    for binding in bindings.iter().filter(|binding| !binding.terminating) {
        let Some(service) = services.iter().find(|service| service.name == binding.service && service.selects(pod))
        else {
            continue;
        };
        match (binding.target_type, service.port(&binding.port)) {
            (Some(TargetType::Instance), _) => {}
            (None, _) => found.ungated.push(format!("binding {} has no target type yet", binding.name)),
            (Some(TargetType::Ip), None) => {
                found.ungated.push(format!(
                    "binding {} refers to a port that Service {} does not have",
                    binding.name, service.name
                ));
            }
            (Some(TargetType::Ip), Some(_)) => found.add(&binding.name),
        }
    }
    for service in services {
        if service.selects(pod) {
            for (port, name) in &service.groups {
                if !has_binding(service, service, *port, bindings) {
                    found.add(name);
                }
            }
        }
        for (name, port, protocol) in &service.backends {
            let Some(backend) = services.iter().find(|backend| backend.name == *name && backend.selects(pod)) else {
                continue;
            };
            let Some(number) = backend.port(port) else { continue };
            if !has_binding(service, backend, number, bindings)
                && let Some(name) = backend_group(service, backend, port, *protocol)
            {
                found.add(&name);
            }
        }
    }
    found.finish()
}

/// Whether a binding was made for a target group: by the Service whose load balancer it is, to the Service whose pods they are.
fn has_binding(base: &ServiceFacts, backend: &ServiceFacts, port: u16, bindings: &[&BindingFacts]) -> bool {
    bindings.iter().any(|binding| {
        !binding.terminating
            && binding.made_for.as_ref() == Some(&base.name)
            && binding.service == backend.name
            && backend.port(&binding.port) == Some(port)
    })
}

fn backend_group(
    base: &ServiceFacts,
    backend: &ServiceFacts,
    port: &IntOrString,
    protocol: Protocol,
) -> Option<String> {
    service::backend_target_group(&base.service, &backend.service, port, protocol, &base.settings)
        .map(|group| group.name)
}

#[derive(Default)]
struct Found {
    gates: Vec<ReadinessGate>,
    ungated: Vec<String>,
    matched: bool,
}

impl Found {
    fn add(&mut self, binding: &str) {
        self.matched = true;
        match ReadinessGate::of_binding(binding) {
            Ok(gate) if self.gates.contains(&gate) => {}
            Ok(gate) => self.gates.push(gate),
            Err(error) => self.ungated.push(error.to_string()),
        }
    }

    fn finish(mut self) -> Gates {
        self.gates.sort();
        self.ungated.sort();
        Gates { drop_legacy: self.matched, gates: self.gates, ungated: self.ungated }
    }
}

/// For how many seconds a pod serves on after it is told to stop: 0 unless a target group of pods selects it.
pub fn drain_seconds(pod: &PodFacts, floor: u32, services: &[&ServiceFacts], bindings: &[&BindingFacts]) -> u32 {
    if pod.is_left_alone() {
        return 0;
    }
    let in_front = |service: &ServiceFacts| {
        let bound = bindings.iter().any(|binding| {
            !binding.terminating && binding.target_type == Some(TargetType::Ip) && binding.service == service.name
        });
        let forwarded = services.iter().any(|base| base.backends.iter().any(|(name, ..)| *name == service.name));
        service.selects(pod) && (!service.groups.is_empty() || bound || forwarded)
    };
    let delays: Vec<u32> =
        services.iter().filter(|service| in_front(service)).map(|service| service.drain_seconds).collect();
    if delays.is_empty() {
        return 0;
    }
    let own = Annotations::new(pod.annotations).text(keys::POD_DRAIN_OF_POD).and_then(|written| written.parse().ok());
    drain::of_pod(own.filter(|own| *own != Delay::Auto), floor, delays)
}
