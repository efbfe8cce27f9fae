//! What is kept of a run: a hash over everything that has happened, and, if it is wanted, all of it in words.

use std::{
    fmt::{self, Write},
    time::Duration,
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
        Fact::Told { replica, event, .. } => format!("r{replica} < {event:?}"),
        Fact::Wants { replica, effect } => {
            let action = &effect.action;
            format!("r{replica} > #{} {action:?} [{:?}] {}", effect.id.0, effect.fence, effect.cause)
        }
        Fact::Sent { replica, effect } => format!("r{replica} sends #{}", effect.id.0),
        Fact::Called { replica, effect, outcome, .. } => format!("aws: r{replica} #{}: {outcome:?}", effect.id.0),
        Fact::Asked { replica, effect, outcome, .. } => format!("api: r{replica} #{}: {outcome:?}", effect.id.0),
        Fact::Stored(kind, change) => {
            format!("etcd {}: {kind:?} {} {:?}", change.revision, change.key.name, change.record)
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
