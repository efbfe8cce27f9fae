//! Steps of a plan, as they are carried out and as a person reads them.

use std::fmt;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{
    aws::{Arn, Call},
    cluster::Key,
    effect::Request,
};

/// What a step does to its resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verb {
    /// Makes it.
    Create,
    /// Changes it in place.
    Change,
    /// Makes another in its place.
    Replace,
    /// Deletes it.
    Delete,
    /// Waits until something is the case.
    Wait,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Change => "change",
            Self::Replace => "replace",
            Self::Delete => "delete",
            Self::Wait => "wait",
        }
    }
}

/// What a step is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Resource {
    /// `load balancer`, `listener`, `target group`, `security group`, `binding`, `Service`.
    pub kind: &'static str,
    /// Its name, or the port of a listener.
    pub name: String,
}

impl Resource {
    pub(crate) fn new(kind: &'static str, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// A field that a step sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name, as AWS has it.
    pub field: String,
    /// What it is; nothing if it is not there.
    pub old: Option<String>,
    /// What it becomes; nothing if it goes.
    pub new: Option<String>,
}

impl Change {
    pub(crate) fn new(field: impl Into<String>, old: Option<String>, new: Option<String>) -> Self {
        Self { field: field.into(), old, new }
    }

    pub(crate) fn set(field: impl Into<String>, new: impl Into<String>) -> Self {
        Self::new(field, None, Some(new.into()))
    }
}

/// How a step is carried out.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// By a call.
    Aws(Call),
    /// By a request to the API server.
    Kubernetes(Request),
    /// By waiting.
    Wait(Wait),
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// The load balancer is active.
    Active(String),
    /// A target group that is to take over has healthy targets; it is looked at by its ARN.
    Healthy(Arn),
    /// No new connection reaches a target group that was taken out of use: it took effect a while ago.
    Settled(Arn),
    /// No target of a group is draining any more.
    Drained(Arn),
    /// A binding is gone, with its finalizer.
    BindingGone(Key),
    /// The shared security group has an id.
    SharedGroup,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it does.
    pub verb: Verb,
    /// To what.
    pub resource: Resource,
    /// Which fields it sets.
    pub changes: Vec<Change>,
    /// How.
    pub operation: Operation,
    /// Whether it names only what is there. One that does not waits for the replies to those before it.
    pub ready: bool,
}

impl Step {
    /// Whether it writes to AWS.
    pub fn writes_to_aws(&self) -> bool {
        matches!(self.operation, Operation::Aws(_))
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut step = serializer.serialize_struct("Step", 5)?;
        step.serialize_field("action", &self.verb)?;
        step.serialize_field("kind", self.resource.kind)?;
        step.serialize_field("name", &self.resource.name)?;
        step.serialize_field("changes", &self.changes)?;
        let operation = match &self.operation {
            Operation::Aws(call) => Some(call.operation()),
            Operation::Kubernetes(_) | Operation::Wait(_) => None,
        };
        step.serialize_field("operation", &operation)?;
        step.end()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Operation::Wait(wait) = &self.operation {
            return write!(f, "wait until {wait}");
        }
        write!(f, "{} {}", self.verb.as_str(), self.resource)?;
        for Change { field, old, new } in &self.changes {
            match (old, new) {
                (None, Some(new)) => write!(f, "\n    {field}: {new}")?,
                (Some(old), Some(new)) => write!(f, "\n    {field}: {old} -> {new}")?,
                (Some(old), None) => write!(f, "\n    {field}: {old} -> (none)")?,
                (None, None) => write!(f, "\n    {field}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Active(name) => write!(f, "load balancer {name} is active"),
            Self::Healthy(group) => write!(f, "target group {} has healthy targets", name_of(group)),
            Self::Settled(group) => write!(f, "new connections no longer reach target group {}", name_of(group)),
            Self::Drained(group) => write!(f, "no target of {} is draining", name_of(group)),
            Self::BindingGone(key) => write!(f, "binding {}/{} is gone", key.namespace, key.name),
            Self::SharedGroup => f.write_str("the shared security group is there"),
        }
    }
}

/// The name in the ARN of a target group; the resource that a logical id stands for.
pub(crate) fn name_of(group: &Arn) -> &str {
    let of_arn = group.as_str().rsplit_once(":targetgroup/").and_then(|(_, rest)| rest.split_once('/'));
    of_arn.map_or(group.as_str().trim_start_matches('$'), |(name, _)| name)
}
