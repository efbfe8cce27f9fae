//! What is answered to a review: a function of the review, what is known of the cluster, and eight random bytes.
//!
//! Nothing here does I/O. A hook on pods never denies: a pod is worth more than what could be wrong with it.

mod binding;
mod drain;
mod gates;
mod message;
mod patch;
mod pod;
pub mod review;
mod server_id;
mod service;

use json_patch::Patch;
use kube::ResourceExt;
use nlb::{
    annotations::{self, Object},
    violation::{Severity, Violation},
};
use serde::Deserialize;

use self::{
    pod::Pod,
    review::{Malformed, Operation, Request, Response, Status},
};
use crate::snapshot::Snapshot;

/// What the API server can ask here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// Readiness gates of pods.
    PodGates,
    /// The drain delay of pods.
    PodDrain,
    /// QUIC server ids of pods.
    PodServerId,
    /// The class of Services without one.
    ServiceClass,
    /// The judgement on Services.
    Service,
    /// The judgement on bindings.
    Binding,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::PodGates, Self::PodDrain, Self::PodServerId, Self::ServiceClass, Self::Service, Self::Binding];

    /// The path under which it is asked.
    pub fn path(self) -> &'static str {
        match self {
            Self::PodGates => "/mutate-v1-pod",
            Self::PodDrain => "/mutate-v1-pod-drain",
            Self::PodServerId => "/mutate-v1-pod-server-id",
            Self::ServiceClass => "/mutate-v1-service",
            Self::Service => "/validate-v1-service",
            Self::Binding => "/validate-elbv2-k8s-aws-v1beta1-targetgroupbinding",
        }
    }
}

/// What comes of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The object is stored as it is.
    Allowed,
    /// The object is stored with a patch.
    Patched,
    /// The object is refused.
    Denied,
}

impl Outcome {
    /// As metrics and logs show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Patched => "patched",
            Self::Denied => "denied",
        }
    }
}

/// An answer, and what is told about it elsewhere.
#[derive(Debug)]
pub struct Answer {
    /// The body to send.
    pub body: Vec<u8>,
    /// Identifies the review.
    pub uid: String,
    /// What was done to the object.
    pub operation: Operation,
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object, or what it is going to begin with.
    pub name: String,
    /// Whether nothing is stored in any case.
    pub dry_run: bool,
    /// What came of it.
    pub outcome: Outcome,
    /// What is wrong with the object.
    pub violations: Vec<Violation>,
    /// How many lines kubectl shows.
    pub warnings: usize,
    /// How many gates were left out that should have been there.
    pub ungated: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The question cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The answer cannot be written.
    #[error("writing the answer: {0}")]
    Write(#[source] serde_json::Error),
}

/// What was decided about an object.
#[derive(Debug, Default)]
struct Decision {
    patch: Patch,
    denial: Option<Status>,
    warnings: Vec<String>,
    violations: Vec<Violation>,
    ungated: usize,
}

impl Decision {
    /// Violations that refuse the object if one of them denies.
    fn judged<T: Named>(kind: &str, request: &Request<T>, violations: Vec<Violation>) -> Self {
        Self {
            denial: message::denial(kind, &request.namespace, name_of(request), &violations),
            warnings: message::warnings(&violations),
            violations,
            ..Self::default()
        }
    }
}

/// What has a name, or is going to get one that begins like this.
trait Named {
    fn generate_name(&self) -> Option<&str>;
}

impl Named for Pod<'_> {
    fn generate_name(&self) -> Option<&str> {
        self.generate_name()
    }
}

impl<T: ResourceExt> Named for T {
    fn generate_name(&self) -> Option<&str> {
        self.meta().generate_name.as_deref()
    }
}

/// The name of the object, or what it is going to begin with.
fn name_of<'a, T: Named>(request: &'a Request<T>) -> &'a str {
    match &request.object {
        Some(object) if request.name.is_empty() => object.generate_name().unwrap_or_default(),
        _ => &request.name,
    }
}

/// Answers a review. `entropy` must be new for each.
pub fn answer(hook: Hook, body: &[u8], snapshot: &Snapshot, entropy: u64) -> Result<Answer, Error> {
    // Gates, hooks and variables of a pod that exists cannot be changed, and no class of a Service that has none.
    let both = [Operation::Create, Operation::Update];
    let create = &both[..1];
    match hook {
        Hook::PodGates => decided(body, create, of_pods(|request, pod| gates::decide(request, pod, snapshot))),
        Hook::PodDrain => decided(body, create, of_pods(|request, pod| drain::decide(request, pod, snapshot))),
        Hook::PodServerId => decided(body, create, of_pods(|_, pod| server_id::decide(pod, entropy))),
        Hook::ServiceClass => decided(body, create, |_, service| service::set_class(service, snapshot)),
        Hook::Service => decided(body, &both, |request, service| service::validate(request, service, snapshot)),
        Hook::Binding => decided(body, &both, |request, binding| binding::validate(request, binding, snapshot)),
    }
}

/// Leaves pods alone whose changes would be longer than they are: none of them could ever run.
fn of_pods<'a>(
    decide: impl FnOnce(&Request<'a, Pod<'a>>, &Pod<'a>) -> Decision,
) -> impl FnOnce(&Request<'a, Pod<'a>>, &Pod<'a>) -> Decision {
    |request, pod| match pod.excess() {
        Some(excess) => Decision { warnings: vec![excess], ..Decision::default() },
        None => decide(request, pod),
    }
}

/// What the hooks on pods would say of a pod, whose namespace wants all of them. None of it refuses the pod.
pub fn judge_pod(namespace: &str, pod: &[u8], snapshot: &Snapshot) -> Result<Vec<Violation>, serde_json::Error> {
    let pod: Pod = serde_json::from_slice(pod)?;
    let request = Request::create(namespace);
    let decisions =
        [gates::decide(&request, &pod, snapshot), drain::decide(&request, &pod, snapshot), server_id::decide(&pod, 0)];
    let mut violations = annotations::check(Object::Pod, pod.annotations().into_iter().flatten());
    for violation in &mut violations {
        violation.severity = Severity::Warn;
    }
    for decision in decisions {
        // The others are those of annotations.
        let own = decision.warnings.into_iter().skip(decision.violations.len());
        violations.extend(own.map(|warning| Violation::warn("pod", "spec", "", warning, "")));
    }
    Ok(violations)
}

/// Reads, decides and writes. What no hook is registered for is allowed: other operations, and subresources.
fn decided<'a, T: Named + Deserialize<'a>>(
    body: &'a [u8],
    operations: &[Operation],
    decide: impl FnOnce(&Request<'a, T>, &T) -> Decision,
) -> Result<Answer, Error> {
    let request: Request<T> = review::read(body)?;
    let decision = match &request.object {
        Some(object) if operations.contains(&request.operation) && request.sub_resource.is_empty() => {
            decide(&request, object)
        }
        _ => Decision::default(),
    };
    let outcome = match (&decision.denial, decision.patch.0.is_empty()) {
        (Some(_), _) => Outcome::Denied,
        (None, false) => Outcome::Patched,
        (None, true) => Outcome::Allowed,
    };
    let warnings = message::fit(decision.warnings);
    let body = Response::new(&request.uid, decision.denial, &warnings)
        .with_patch(&decision.patch)
        .and_then(Response::body)
        .map_err(Error::Write)?;
    Ok(Answer {
        body,
        uid: request.uid.to_string(),
        operation: request.operation,
        namespace: request.namespace.to_string(),
        name: name_of(&request).to_owned(),
        dry_run: request.dry_run == Some(true),
        outcome,
        violations: decision.violations,
        warnings: warnings.len(),
        ungated: decision.ungated,
    })
}
