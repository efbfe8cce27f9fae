//! What is kept of a run: a hash over everything that has happened, and, if it is wanted, all of it in words.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use registrar_core::{
    Event,
    aws::{Call, Fault as AwsFault, Reply},
    cluster::Record,
    effect::{Action, Request},
    event::{Outcome, Watched},
};

use crate::fact::Fact;

/// Keeps what is wanted.
#[derive(Debug, Default)]
pub struct Trace {
    hash: Option<Hash>,
    lines: Option<Vec<String>>,
}

/// FNV-1a of 64 bits, fed by formatting.
#[derive(Debug, Clone, Copy)]
struct Hash(u64);

impl Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    /// Keeps the hash, and the words if they are wanted.
    pub fn new(words: bool) -> Self {
        Self { hash: Some(Hash(0xcbf2_9ce4_8422_2325)), lines: words.then(Vec::new) }
    }

    /// The hash over everything, if it was kept.
    pub fn hash(&self) -> Option<u64> {
        self.hash.map(|hash| hash.0)
    }

    /// The words, if they were kept.
    pub fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }

    pub(crate) fn note(&mut self, now: Duration, fact: &Fact<'_>) {
        if let Some(hash) = &mut self.hash {
            // Writing to a hash cannot fail.
            let _ = write!(hash, "{now:?} {fact:?}");
        }
        self.say(now, || words(fact));
    }

    pub(crate) fn say(&mut self, now: Duration, words: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10.3} {}", now.as_secs_f64(), words()));
        }
    }
}

fn words(fact: &Fact<'_>) -> String {
    match fact {
        Fact::Told { replica, event } => format!("r{replica} < {}", event_words(event)),
        Fact::Wants { replica, effect } => {
            let action = action_words(&effect.action);
            format!("r{replica} > #{} {action} [{:?}] {}", effect.id.0, effect.fence, effect.cause)
        }
        Fact::Sent { replica, effect } => format!("r{replica} sends #{}", effect.id.0),
        Fact::Called { replica, effect, outcome, .. } => {
            format!("aws: r{replica} #{}: {}", effect.id.0, reply_words(outcome))
        }
        Fact::Asked { replica, effect, outcome, .. } => format!("api: r{replica} #{}: {outcome:?}", effect.id.0),
        Fact::Stored(kind, change) => {
            let record = change.record.as_ref().map_or_else(|| "gone".to_owned(), record_words);
            format!("etcd {} {kind:?} {} {record}", change.revision, change.key.name)
        }
        Fact::Held { address, by } => format!("address {address} belongs to {by:?}"),
        Fact::Target { key, from, to } => format!("aws: target {}:{} {from} -> {to}", key.address, key.port),
        Fact::Probed { key, zone, by, passed } => {
            format!("aws: check of {}:{} from {zone} passed: {passed}, by {by:?}", key.address, key.port)
        }
        Fact::Listed { replica, kind, revision } => format!("r{replica} has a list of {kind:?} as of {revision}"),
        other => format!("{other:?}"),
    }
}

fn event_words(event: &Event) -> String {
    match event {
        Event::Watched(Watched::Applied(record)) => format!("applied {}", record_words(record)),
        Event::Ended { id, outcome: Outcome::Aws(outcome) } => format!("ended #{}: {}", id.0, reply_words(outcome)),
        other => format!("{other:?}"),
    }
}

fn reply_words(outcome: &Result<Reply, AwsFault>) -> String {
    let Ok(Reply::TargetHealth(states)) = outcome else { return format!("{outcome:?}") };
    let each = states.iter().map(|s| format!("{} {:?}", s.target.id, s.state));
    format!("[{}]", each.collect::<Vec<_>>().join(", "))
}

fn action_words(action: &Action) -> String {
    match action {
        Action::Aws { call, .. } => match call {
            Call::RegisterTargets { targets, .. } | Call::DeregisterTargets { targets, .. } => {
                let ids: Vec<_> = targets.iter().map(|target| target.id.as_str()).collect();
                format!("{} {}", call.operation(), ids.join(" "))
            }
            other => other.operation().to_owned(),
        },
        Action::Kubernetes(Request::PatchBindingStatus { binding, status, .. }) => {
            let conditions = status.conditions.iter().flatten();
            let each = conditions.map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message));
            format!("status of {}: {}", binding.name, each.collect::<Vec<_>>().join(", "))
        }
        Action::Kubernetes(Request::PatchGate { pod, uid, condition_type, condition, .. }) => {
            format!("gate {condition_type} of {} ({}) to {condition:?}", pod.name, uid.0)
        }
        Action::Kubernetes(request) => format!("{request:?}"),
    }
}

fn record_words(record: &Record) -> String {
    match record {
        Record::Pod(pod) => {
            let gates: Vec<_> =
                pod.gates.iter().map(|g| g.condition.as_ref().map(|c| (c.status, c.reason.clone()))).collect();
            let flag = |on: bool, word: &'static str| if on { word } else { "" };
            format!(
                "pod {} ({}) at {}: {:?}{}{}{} gates {gates:?}",
                pod.meta.key.name,
                pod.meta.uid.0,
                pod.meta.revision,
                pod.addresses,
                flag(pod.containers_ready, " containers"),
                flag(pod.ready, " ready"),
                flag(pod.meta.deleting, " deleting"),
            )
        }
        Record::Slice(slice) => {
            let each = slice.endpoints.iter().map(|e| {
                let pod = e.pod.as_ref().map_or("", |(_, uid)| &uid.0);
                format!("{} {pod} ready={} terminating={}", e.address, e.ready, e.terminating)
            });
            format!("slice {} at {}: {}", slice.meta.key.name, slice.meta.revision, each.collect::<Vec<_>>().join(", "))
        }
        Record::Binding(binding) => {
            let (meta, finalizer) = (&binding.meta, binding.has_finalizer);
            format!("binding {} at {}: deleting={} finalizer={finalizer}", meta.key.name, meta.revision, meta.deleting)
        }
        other => format!("{:?}", other.meta().key),
    }
}
