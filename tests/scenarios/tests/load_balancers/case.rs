//! A vector as a Service of the lab, and what is done to it, step by step.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use nlb::{
    service::spec::{SecurityGroups, TargetGroup},
    settings::ModelSettings,
};
use scenarios::Scenario;
use serde_json::Value;
use vectors::{BACKENDS, Vector, is};

use super::world::World;

/// What a load balancer is made with, for life, or gives up only with itself.
const FOR_LIFE: [&str; 6] =
    ["scheme", "internal", "name", "disable-nlb-sg", "eip-allocations", "private-ipv4-addresses"];
const TAGS: &str = "service.beta.kubernetes.io/aws-load-balancer-additional-resource-tags";
/// A tag that tells that the registrar has seen a change which changes nothing else.
const SEEN: &str = "seen";

/// Nodes are targets that answer. Pods take their place only once one does, on the ports that vectors have.
const POD: &str = r"
apiVersion: v1
kind: Pod
metadata: { name: web, labels: { app: web } }
spec:
  terminationGracePeriodSeconds: 0
  containers:
    - name: web
      image: registry.k8s.io/echoserver:1.10
      ports: [{ name: web, containerPort: 8080 }, { containerPort: 8081 }]
";

/// The order in which a vector's annotations come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Course {
    /// Applied, taken away, applied again; then what the load balancer keeps for life is taken away and asked to be otherwise.
    Round,
    /// Applied and taken away, at the price of the target groups.
    Away,
    /// Given to a Service that was built without.
    Into,
    /// A Service that was built with security groups asks for none.
    Groupless,
}

impl Course {
    /// Those that a vector is taken through.
    pub(crate) fn of(vector: &Vector) -> Vec<Self> {
        let (service, plain) = (&vector.service, plain(vector, &vector.service));
        if groups(service, &vector.settings) != groups(&plain, &vector.settings) {
            return vec![Self::Away, Self::Into];
        }
        let mut courses = vec![Self::Round];
        if has(service, "subnets") && !has(&plain, "subnets") {
            courses.push(Self::Into);
        }
        if is_groupless(service, &vector.settings) {
            courses.push(Self::Groupless);
        }
        courses
    }
}

/// What AWS is to have after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// As the model of the Service says.
    Model,
    /// As the model of its first step says, but for the tag [`SEEN`].
    Stays {
        /// Whether the Service says what waits for a new load balancer.
        said: bool,
    },
    /// Nothing.
    Nothing,
}

pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) service: Service,
    pub(crate) expected: Expected,
}

pub(crate) struct Case {
    pub(crate) vector: String,
    pub(crate) course: Course,
    pub(crate) lab: Scenario,
    pub(crate) steps: Vec<Step>,
    /// Why it goes no further.
    pub(crate) stopped: Option<String>,
    /// The model of its first step.
    pub(crate) first: Option<Value>,
    /// Where the load balancer has been put.
    pub(crate) placed: Option<Value>,
}

impl Case {
    pub(crate) async fn begin(vector: &Vector, course: Course, world: &World) -> Result<Self> {
        let lab = Scenario::begin("v", &[]).await?;
        let mut service = world.settle(&vector.service, &vector.settings, &lab.namespace).await?;
        if course == Course::Into && has_instances(&service, &vector.settings) {
            share_node_ports(&mut service, &lab.namespace);
        }
        if service.metadata.annotations.iter().flatten().any(|(key, _)| key.contains("/actions.")) {
            for name in BACKENDS {
                apply(&lab, &vectors::backend(name, &lab.namespace)?).await?;
            }
        }
        if course == Course::Into && has_instances(&plain(vector, &service), &vector.settings) {
            lab.apply(POD).await?;
        }
        let steps = steps(vector, course, &service, world);
        let vector = vector.name.clone();
        Ok(Self { vector, course, lab, steps, stopped: None, first: None, placed: None })
    }

    pub(crate) fn name(&self, step: usize) -> String {
        format!("{} {:?} {step} {}", self.vector, self.course, self.steps.get(step).map_or("", |step| step.name))
    }

    /// Whether it has this step to go through.
    pub(crate) fn goes(&self, step: usize) -> bool {
        self.stopped.is_none() && step < self.steps.len()
    }

    /// Takes a step. What cannot be stored to begin with is not built.
    pub(crate) async fn put(&mut self, step: usize) -> Option<String> {
        let refused = apply(&self.lab, &self.steps[step].service).await.err()?;
        if step > 0 {
            return Some(format!("{}: {refused}", self.name(step)));
        }
        self.stopped = Some(format!("the API server refuses it: {refused}"));
        None
    }

    /// What AWS is to have, if it is what it had after the first step.
    pub(crate) fn as_at_first(&self, step: usize) -> Option<Value> {
        let mut model = self.first.clone()?;
        let annotations = self.steps[step].service.metadata.annotations.as_ref();
        if annotations.and_then(|all| all.get(TAGS)).is_some_and(|tags| tags.contains(SEEN)) {
            tag(&mut model);
        }
        Some(model)
    }

    /// Keys that are on some of its Services and not on others.
    pub(crate) fn moved(&self) -> Vec<&str> {
        let keys = |step: &Step| step.service.metadata.annotations.clone().unwrap_or_default();
        let absent = |key: &str| self.steps.iter().any(|step| !keys(step).contains_key(key));
        let annotations = self.steps.iter().filter_map(|step| step.service.metadata.annotations.as_ref());
        annotations.flat_map(|all| all.keys()).map(String::as_str).filter(|key| absent(key)).collect()
    }

    /// Lets a load balancer go that is protected, in as many words.
    pub(crate) async fn unprotect(&self) -> Result<()> {
        let protected = |step: &Step| {
            let annotations = step.service.metadata.annotations.iter().flatten();
            annotations.into_iter().any(|(_, value)| value.contains("deletion_protection.enabled=true"))
        };
        let Some(step) = self.steps.iter().find(|step| protected(step)).filter(|_| self.stopped.is_none()) else {
            return Ok(());
        };
        let mut service = step.service.clone();
        let key = "service.beta.kubernetes.io/aws-load-balancer-attributes";
        let annotations = service.metadata.annotations.get_or_insert_default();
        annotations.insert(key.to_owned(), "deletion_protection.enabled=false".to_owned());
        apply(&self.lab, &service).await
    }
}

fn steps(vector: &Vector, course: Course, service: &Service, world: &World) -> Vec<Step> {
    let (mut service, mut plain) = (service.clone(), plain(vector, service));
    if matches!(course, Course::Away | Course::Into)
        && [&service, &plain].iter().any(|one| has_instances(one, &vector.settings))
    {
        undelayed(&mut service);
        undelayed(&mut plain);
    }
    let service = &service;
    let step = |name, service: &Service, expected| Step { name, service: service.clone(), expected };
    let applied = |name| step(name, service, Expected::Model);
    let removed = step("removed", &plain, Expected::Model);
    match course {
        Course::Away => return vec![applied("applied"), removed],
        Course::Into => return vec![step("built without", &plain, Expected::Model), applied("applied")],
        Course::Groupless => {
            let with_groups = without(service, &["disable-nlb-sg"]);
            let built = || step("with security groups", &with_groups, Expected::Model);
            return vec![built(), step("asked for none", service, Expected::Stays { said: true }), built()];
        }
        Course::Round => {}
    }
    let mut steps = vec![applied("applied")];
    if plain != *service {
        steps.extend([removed, applied("changed")]);
    }
    if FOR_LIFE.iter().any(|name| has(service, name)) {
        let kept = seen(without(service, &FOR_LIFE));
        // Security groups that had no effect are asked for then.
        let asks = nlb::service::read(&kept, &vector.settings).spec.security_groups;
        let said = is_groupless(service, &vector.settings) && matches!(asks, SecurityGroups::Given { .. });
        steps.extend([
            step("what it keeps for life taken away", &kept, Expected::Stays { said }),
            applied("given back"),
        ]);
    }
    if let Some(other) = another_load_balancer(service, &vector.settings, world) {
        let refused = step("asked to be another", &seen(other), Expected::Stays { said: true });
        steps.extend([refused, applied("asked to be itself")]);
    }
    if has(service, "type") && class(service).is_none() {
        let foreign = without(service, &["type"]);
        steps.extend([step("not ours", &foreign, Expected::Nothing), applied("ours again")]);
    }
    steps
}

/// Without all annotations but those that make it ours and those that hold for the life of its load balancer.
fn plain(vector: &Vector, service: &Service) -> Service {
    let mut plain = vectors::plain(service);
    let is_pinned = ["eip-allocations", "private-ipv4-addresses"].iter().any(|name| has(service, name));
    let annotations = plain.metadata.annotations.get_or_insert_default();
    for (key, value) in service.metadata.annotations.iter().flatten() {
        if FOR_LIFE.iter().any(|name| is(key, name)) || (is_pinned && is(key, "subnets")) {
            annotations.insert(key.clone(), value.clone());
        }
    }
    // What makes a Service ours that names no class, and what is for life, are taken away in steps of their own.
    let of_topic = |topic: &str| vector.name.starts_with(topic) && class(service).is_some();
    let is_built = |service: &Service| nlb::service::read(service, &vector.settings).accepted().is_ok();
    let less = match () {
        () if of_topic("target-type/") => without(&plain, &["nlb-target-type"]),
        () if of_topic("ownership/") => without(&plain, &["type"]),
        () => plain.clone(),
    };
    if is_built(&less) {
        return less;
    }
    if !is_built(&plain) {
        one_port_per_number(&mut plain);
    }
    plain
}

/// Without ports that can be served only beside another one of their number, by an annotation.
fn one_port_per_number(service: &mut Service) {
    let mut seen = BTreeSet::new();
    if let Some(ports) = service.spec.as_mut().and_then(|spec| spec.ports.as_mut()) {
        ports.retain(|port| seen.insert(port.port));
    }
}

/// One that would need another load balancer.
fn another_load_balancer(service: &Service, settings: &ModelSettings, world: &World) -> Option<Service> {
    let mut other = service.clone();
    let annotations = other.metadata.annotations.as_mut()?;
    let groupless = is_groupless(service, settings);
    if groupless {
        annotations.retain(|key, _| !is(key, "disable-nlb-sg"));
        let key = "service.beta.kubernetes.io/aws-load-balancer-security-groups";
        annotations.insert(key.to_owned(), world.edge.clone());
        return Some(other);
    }
    let scheme = annotations.iter_mut().find(|(key, _)| is(key, "scheme") || is(key, "internal"));
    let (_, value) = scheme?;
    let swapped = match value.as_str() {
        "internal" => "internet-facing",
        "internet-facing" => "internal",
        "false" => "true",
        "true" => "false",
        _ => return None,
    };
    swapped.clone_into(value);
    let reading = nlb::service::read(&other, settings);
    let before = nlb::service::read(service, settings).spec.scheme;
    (reading.accepted().is_ok() && reading.spec.scheme != before).then_some(other)
}

fn without(service: &Service, names: &[&str]) -> Service {
    let mut service = service.clone();
    if let Some(annotations) = &mut service.metadata.annotations {
        annotations.retain(|key, _| !names.iter().any(|name| is(key, name)));
    }
    service
}

fn seen(mut service: Service) -> Service {
    let tags = service.metadata.annotations.get_or_insert_default().entry(TAGS.to_owned()).or_default();
    let others = tags.trim_end_matches(',');
    *tags = if others.is_empty() { format!("{SEEN}=yes") } else { format!("{others},{SEEN}=yes") };
    service
}

/// Adds the tag of [`seen`] wherever a model has tags.
fn tag(model: &mut Value) {
    match model {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::Object(tags) if key == "Tags" => _ = tags.insert(SEEN.to_owned(), "yes".into()),
                    other => tag(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tag),
        _ => {}
    }
}

fn has(service: &Service, annotation: &str) -> bool {
    service.metadata.annotations.iter().flatten().any(|(key, _)| is(key, annotation))
}

fn class(service: &Service) -> Option<&str> {
    service.spec.as_ref()?.load_balancer_class.as_deref()
}

fn is_groupless(service: &Service, settings: &ModelSettings) -> bool {
    let spec = nlb::service::read(service, settings).spec;
    has(service, "disable-nlb-sg") && matches!(spec.security_groups, SecurityGroups::None { .. })
}

/// Ports of one number that come to be one later need one node port, which the API server sees to at creation alone. It is
/// one of those that nobody is given by chance.
fn share_node_ports(service: &mut Service, namespace: &str) {
    let number: i32 = namespace.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default();
    let ports = service.spec.iter_mut().flat_map(|spec| &mut spec.ports).flatten();
    let mut ports: Vec<_> = ports.collect();
    let numbers: Vec<i32> = ports.iter().map(|port| port.port).collect();
    let shared = |port: i32| numbers.iter().filter(|number| **number == port).count() > 1;
    for port in ports.iter_mut().filter(|port| shared(port.port)) {
        port.node_port = Some(30000 + number % 80);
    }
}

fn has_instances(service: &Service, settings: &ModelSettings) -> bool {
    groups(service, settings).iter().any(|(_, kind, _)| *kind == "instance")
}

/// Lets nodes go at once when their target group goes, which takes five minutes otherwise.
fn undelayed(service: &mut Service) {
    let key = "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes";
    let attributes = service.metadata.annotations.get_or_insert_default().entry(key.to_owned()).or_default();
    let others = attributes.trim_end_matches(',');
    let comma = if others.is_empty() { "" } else { "," };
    *attributes = format!("{others}{comma}deregistration_delay.timeout_seconds=0");
}

/// What cannot change in a target group: protocol, type of targets, and, where they cannot be set, its health checks.
fn groups(service: &Service, settings: &ModelSettings) -> Vec<(&'static str, &'static str, Option<i32>)> {
    let spec = nlb::service::read(service, settings).spec;
    let fixed = |group: &TargetGroup| {
        let interval = group.health_check.health_check_interval_seconds;
        let of_checks = (!settings.features.advanced_health_checks).then_some(interval);
        (group.protocol.as_str(), group.target_type.as_str(), of_checks)
    };
    spec.target_groups.iter().map(fixed).collect()
}

/// As `kubectl apply --server-side`: what is not in it any more goes.
pub(crate) async fn apply(lab: &Scenario, service: &Service) -> Result<()> {
    let name = service.metadata.name.as_deref().context("a name")?;
    let mut object = serde_json::to_value(service)?;
    object["apiVersion"] = "v1".into();
    object["kind"] = "Service".into();
    lab.api::<Service>().patch(name, &PatchParams::apply("vectors").force(), &Patch::Apply(object)).await?;
    Ok(())
}
