//! Scripts of requests to the API server, and what came of each: the simulated one and the real one have to do the same.

use std::{collections::BTreeMap, fmt::Write as _, net::IpAddr, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nlb::{
    readiness_gate::ReadinessGate,
    service::spec::AddressFamily,
    settings::TargetType,
    targetgroupbinding::{ServiceReference, TargetGroupBindingSpec, TargetGroupBindingStatus},
};
use registrar_core::{
    cluster::{BindingRecord, GateCondition, GateStatus, Key, Kind, PodRecord, Record, SliceRecord, Uid},
    effect::Request,
    event::{Answer, Denial},
};

/// The scripts.
pub const SCRIPTS: &str = include_str!("../scripts/api_server.txt");
/// Kinds whose changes are told.
pub const WATCHED: [Kind; 3] = [Kind::Pod, Kind::Binding, Kind::Slice];

/// A script.
#[derive(Debug, Clone)]
pub struct Script {
    /// What it shows.
    pub name: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// A step, and what has to come of it.
#[derive(Debug, Clone)]
pub struct Line {
    /// As it is written.
    pub text: String,
    /// What is done.
    pub step: Step,
    /// What comes of it.
    pub expected: String,
}

/// A step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Somebody creates a pod with gates of these bindings.
    CreatePod(String, Vec<String>),
    /// Somebody creates a binding.
    CreateBinding(String),
    /// Somebody creates a slice of a Service that names these pods.
    CreateSlice(String, String, Vec<String>),
    /// Somebody removes an object.
    Remove(Kind, String),
    /// The registrar asks for something.
    Ask(Ask),
    /// What watches have told since the last time.
    Watch,
}

/// A request, with names in the place of UIDs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Whether a binding is there.
    Binding(String),
    /// Read a ledger.
    Ledger(String),
    /// Read the endpoints of a Service.
    Endpoints(String),
    /// Set a gate of a pod.
    Gate(Life, String, GateStatus),
    /// Put the finalizer on a binding, or take it off.
    Finalizer(Life, bool),
    /// Fill a binding's spec.
    Resolve(Life),
    /// Write a binding's status, of this generation.
    Status(Life, i64),
    /// Delete a binding.
    Delete(Life),
    /// Write a ledger.
    PutLedger(String, Option<Vec<String>>),
}

/// An object by its name, and how many have had the name until then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life(pub String, pub usize);

/// Reads scripts.
pub fn parse(text: &str) -> Result<Vec<Script>> {
    let mut scripts: Vec<Script> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            scripts.push(Script { name: name.to_owned(), lines: Vec::new() });
            continue;
        }
        let (text, expected) = line.split_once(" => ").with_context(|| format!("line {number}: no =>"))?;
        let step = step(text).with_context(|| format!("line {number}: {text}"))?;
        let script = scripts.last_mut().with_context(|| format!("line {number}: before the first =="))?;
        script.lines.push(Line { text: text.to_owned(), step, expected: expected.to_owned() });
    }
    Ok(scripts)
}

fn step(text: &str) -> Result<Step> {
    let words: Vec<&str> = text.split(' ').collect();
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    Ok(match *words {
        ["create", "pod", name, ref gates @ ..] => Step::CreatePod(name.to_owned(), owned(gates)),
        ["create", "binding", name] => Step::CreateBinding(name.to_owned()),
        ["create", "slice", name, service, ref pods @ ..] => {
            Step::CreateSlice(name.to_owned(), service.to_owned(), owned(pods))
        }
        ["remove", "pod", name] => Step::Remove(Kind::Pod, name.to_owned()),
        ["remove", "binding", name] => Step::Remove(Kind::Binding, name.to_owned()),
        ["watch"] => Step::Watch,
        ["get", "binding", name] => Step::Ask(Ask::Binding(name.to_owned())),
        ["get", "ledger", name] => Step::Ask(Ask::Ledger(name.to_owned())),
        ["get", "endpoints", name] => Step::Ask(Ask::Endpoints(name.to_owned())),
        ["gate", pod, binding, status] => {
            ensure!(["True", "False"].contains(&status), "{status} is neither True nor False");
            Step::Ask(Ask::Gate(life(pod)?, binding.to_owned(), GateStatus::of(status)))
        }
        ["finalizer", binding, "on"] => Step::Ask(Ask::Finalizer(life(binding)?, true)),
        ["finalizer", binding, "off"] => Step::Ask(Ask::Finalizer(life(binding)?, false)),
        ["resolve", binding] => Step::Ask(Ask::Resolve(life(binding)?)),
        ["status", binding, generation] => Step::Ask(Ask::Status(life(binding)?, generation.parse()?)),
        ["delete", binding] => Step::Ask(Ask::Delete(life(binding)?)),
        ["ledger", binding, "none"] => Step::Ask(Ask::PutLedger(binding.to_owned(), None)),
        ["ledger", binding, ref targets @ ..] => Step::Ask(Ask::PutLedger(binding.to_owned(), Some(owned(targets)))),
        _ => bail!("no such step"),
    })
}

fn life(text: &str) -> Result<Life> {
    let (name, number) = text.split_once('@').with_context(|| format!("{text} is not NAME@NUMBER"))?;
    Ok(Life(name.to_owned(), number.parse()?))
}

/// Which objects have had a name, in order.
#[derive(Debug, Default)]
pub struct Lives(BTreeMap<String, Vec<Uid>>);

impl Lives {
    /// An object was created; what it is called here.
    pub fn born(&mut self, name: &str, uid: Uid) -> String {
        let lives = self.0.entry(name.to_owned()).or_default();
        lives.push(uid);
        format!("{name}@{}", lives.len())
    }

    fn uid(&self, Life(name, number): &Life) -> Uid {
        let known = self.0.get(name).and_then(|lives| lives.get(number.checked_sub(1)?));
        known.cloned().unwrap_or_else(|| Uid(Arc::from("3f2d0c5e-0000-4000-8000-000000000009")))
    }

    /// What an object is called here.
    pub fn name(&self, name: &str, uid: &Uid) -> String {
        match self.0.get(name).and_then(|lives| lives.iter().position(|life| life == uid)) {
            Some(index) => format!("{name}@{}", index + 1),
            None => format!("{name}@?"),
        }
    }
}

/// The spec of a binding as it is created, and with its empty fields filled.
pub fn binding_spec(resolved: bool) -> TargetGroupBindingSpec {
    TargetGroupBindingSpec {
        target_group_arn: Some(
            "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/web/0123456789abcdef".to_owned(),
        ),
        target_type: resolved.then_some(TargetType::Ip),
        ip_address_type: resolved.then_some(AddressFamily::Ipv4),
        vpc_id: resolved.then(|| "vpc-0a1b2c3d4e5f60718".to_owned()),
        service_ref: ServiceReference { name: "web".to_owned(), port: IntOrString::Int(80) },
        ..TargetGroupBindingSpec::default()
    }
}

/// The address of the pod that a slice names first, second, and so on.
pub fn address(index: usize) -> IpAddr {
    IpAddr::from([192, 168, 11, 7 + u8::try_from(index).unwrap_or(u8::MAX)])
}

/// A request as the registrar sends it.
pub fn request(ask: &Ask, namespace: &str, lives: &Lives) -> Result<Request> {
    let key = |name: &str| Key::new(namespace, name);
    Ok(match ask {
        Ask::Binding(name) => Request::GetBinding { binding: key(name) },
        Ask::Ledger(name) => Request::GetLedger { binding: key(name) },
        Ask::Endpoints(name) => Request::ListEndpoints { service: key(name) },
        Ask::Gate(pod, binding, status) => Request::PatchGate {
            pod: key(&pod.0),
            uid: lives.uid(pod),
            condition_type: ReadinessGate::of_binding(binding)?.to_string(),
            condition: GateCondition { status: *status, reason: String::new(), message: String::new() },
            moves: false,
        },
        Ask::Finalizer(binding, present) => {
            Request::SetBindingFinalizer { binding: key(&binding.0), uid: lives.uid(binding), present: *present }
        }
        Ask::Resolve(binding) => Request::ResolveBinding {
            binding: key(&binding.0),
            uid: lives.uid(binding),
            spec: Box::new(binding_spec(true)),
        },
        Ask::Status(binding, generation) => Request::PatchBindingStatus {
            binding: key(&binding.0),
            uid: lives.uid(binding),
            status: Box::new(TargetGroupBindingStatus {
                observed_generation: Some(*generation),
                ..TargetGroupBindingStatus::default()
            }),
        },
        Ask::Delete(binding) => Request::DeleteBinding { binding: key(&binding.0), uid: lives.uid(binding) },
        Ask::PutLedger(binding, targets) => Request::PutLedger { binding: key(binding), targets: targets.clone() },
    })
}

/// An answer as scripts have it.
pub fn answered(answer: &Result<Answer, Denial>, lives: &Lives) -> String {
    match answer {
        Ok(Answer::Done) => "done".to_owned(),
        Ok(Answer::Ledger(None)) => "no ledger".to_owned(),
        Ok(Answer::Ledger(Some(targets))) => targets.join(" "),
        Ok(Answer::Endpoints { slices, pods }) => endpoints(slices, pods, lives),
        Err(Denial::Replaced) => "replaced".to_owned(),
        Err(denial) => denial.to_string(),
    }
}

fn endpoints(slices: &[SliceRecord], pods: &[PodRecord], lives: &Lives) -> String {
    if slices.is_empty() && pods.is_empty() {
        return "no slices, no pods".to_owned();
    }
    let mut text = String::new();
    for found in slices {
        _ = write!(text, "{}:", slice(found, lives));
        for (name, uid) in found.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref()) {
            _ = write!(text, " {}", lives.name(name, uid));
        }
        text.push_str("; ");
    }
    let mut names: Vec<_> = pods.iter().map(|pod| lives.name(&pod.meta.key.name, &pod.meta.uid)).collect();
    names.sort();
    text + "pods " + &names.join(" ")
}

/// A change as scripts have it: the object as it is now, or that it is gone.
pub fn changed(name: &str, uid: &Uid, record: Option<&Record>, lives: &Lives) -> String {
    match record {
        None => format!("{} gone", lives.name(name, uid)),
        Some(Record::Pod(record)) => pod(record, lives),
        Some(Record::Binding(record)) => binding(record, lives),
        Some(Record::Slice(record)) => slice(record, lives),
        Some(_) => lives.name(name, uid),
    }
}

/// Changes as scripts have them.
pub fn told(changes: &[String]) -> String {
    if changes.is_empty() { "nothing".to_owned() } else { changes.join("; ") }
}

fn pod(record: &PodRecord, lives: &Lives) -> String {
    let mut text = lives.name(&record.meta.key.name, &record.meta.uid);
    for gate in &record.gates {
        let status = gate.condition.as_ref().map_or("-", |condition| condition.status.as_str());
        _ = write!(text, " {}:{status}", gate.binding);
    }
    if record.meta.deleting {
        text.push_str(" deleting");
    }
    text
}

fn binding(record: &BindingRecord, lives: &Lives) -> String {
    let mut text = format!("{} generation {}", lives.name(&record.meta.key.name, &record.meta.uid), record.generation);
    let said = record.status.as_ref().and_then(|status| status.observed_generation);
    let words = [
        (record.has_finalizer, "held".to_owned()),
        (record.meta.deleting, "deleting".to_owned()),
        (said.is_some(), format!("said {}", said.unwrap_or_default())),
        (record.spec.target_type.is_some(), "resolved".to_owned()),
    ];
    for (_, word) in words.iter().filter(|(holds, _)| *holds) {
        _ = write!(text, " {word}");
    }
    text
}

fn slice(record: &SliceRecord, lives: &Lives) -> String {
    lives.name(&record.meta.key.name, &record.meta.uid)
}
