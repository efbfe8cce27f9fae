//! Whether the namespace of a binding may use its target group: the group's tags have to say so.

use std::{collections::BTreeMap, time::Duration};

use nlb::tags;

use super::{
    binding::Binding,
    desk::Desk,
    group::Facts,
    retry::{Alarm, Retry},
};
use crate::{
    aws::Fault,
    cluster::BindingRecord,
    settings::{Isolation, Settings, planted},
};

/// How old tags may be when targets are registered, and when they are read again.
const FRESH: Duration = Duration::from_mins(1);
const REFRESHED: Duration = Duration::from_secs(45);

/// What the tags say.
#[derive(Debug, Clone, Default)]
pub struct Authority {
    /// Whether they allow the namespace, and when they were asked for.
    said: Option<(bool, Duration)>,
    /// How often in a row they did not.
    refusals: u32,
    /// Whether they ever did, in this leadership.
    was_allowed: bool,
    /// Whether they are to be read.
    pub wanted: bool,
    /// Whether they are being read.
    pub asking: bool,
    retry: Retry,
    problem: Option<String>,
}

/// Whether tags allow a namespace: those that the model sets on groups of its Services, or a list by hand.
fn allow(tags: &BTreeMap<String, String>, namespace: &str) -> bool {
    let stack = tags.get(tags::STACK).and_then(|stack| stack.split_once('/'));
    let listed = tags.get(tags::NAMESPACES).is_some_and(|list| {
        list.split([',', ' ', ';']).any(|entry| entry == "*" || (!entry.is_empty() && entry == namespace))
    });
    listed || stack.is_some_and(|(owner, _)| owner == namespace)
}

impl Authority {
    /// Whether targets may be registered.
    pub fn allows_registration(&self, settings: &Settings, now: Duration) -> bool {
        settings.isolation != Isolation::Enforce
            || self.said.is_some_and(|(allowed, at)| {
                allowed && (now.saturating_sub(at) <= FRESH || planted!(settings, StaleTags))
            })
    }

    /// Whether targets may be deregistered, those aside that are the binding's own when it goes.
    pub fn allows_removal(&self, settings: &Settings) -> bool {
        settings.isolation != Isolation::Enforce || self.said.is_some_and(|(allowed, _)| allowed)
    }

    /// Whether it was allowed and is not any longer, by two readings.
    pub fn is_withdrawn(&self, settings: &Settings) -> bool {
        settings.isolation == Isolation::Enforce && self.was_allowed && self.refusals >= 2
    }

    /// Whether it has been asked for, or need not be.
    pub fn is_known(&self, settings: &Settings) -> bool {
        settings.isolation == Isolation::Off || self.said.is_some() || self.problem.is_some()
    }

    /// Whether somebody waits for it to be read: nothing is known, or what is known is too old to register by.
    pub fn is_waited_for(&self, settings: &Settings, now: Duration) -> bool {
        let aged = self.said.is_some_and(|(_, at)| now.saturating_sub(at) > FRESH);
        !self.is_known(settings) || (settings.isolation == Isolation::Enforce && aged)
    }

    /// What keeps targets out, if that is it.
    pub fn obstacle(&self, settings: &Settings) -> Option<String> {
        self.complaint(settings).filter(|_| settings.isolation == Isolation::Enforce)
    }

    /// What is to be said of it, if anything is.
    pub fn complaint(&self, settings: &Settings) -> Option<String> {
        if settings.isolation == Isolation::Off {
            return None;
        }
        if let Some(problem) = &self.problem {
            return Some(format!("the tags of the target group cannot be read: {problem}"));
        }
        let (allowed, _) = self.said?;
        let sentence = format!(
            "no tag of the target group allows this namespace; tag it {} = <namespace>, or *",
            nlb::tags::NAMESPACES
        );
        (!allowed).then_some(sentence)
    }
}

impl Binding {
    /// Reads the tags when they are wanted.
    pub fn check_authority(&mut self, record: &BindingRecord, facts: &Facts, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        let _ = (record, facts);
        let period = match desk.settings.isolation {
            Isolation::Off => return,
            Isolation::Warn => desk.settings.audit_period,
            Isolation::Enforce if planted!(desk.settings, StaleTags) => Duration::MAX,
            Isolation::Enforce if self.authority.refusals == 1 => Duration::from_secs(5),
            // Somebody waits for the tag.
            Isolation::Enforce if self.authority.refusals > 0 => Duration::from_secs(15),
            Isolation::Enforce => REFRESHED,
        };
        let due = self.authority.said.map_or(Duration::ZERO, |(_, at)| at.saturating_add(period));
        let due = due.max(self.authority.retry.at);
        if self.authority.asking {
            return;
        }
        if due > desk.now {
            if due != Duration::MAX {
                alarm.at(due);
            }
            return;
        }
        self.authority.wanted = true;
    }

    /// The tags have been read, or not.
    pub fn tagged(
        &mut self,
        asked_at: Duration,
        tags: Result<Option<&BTreeMap<String, String>>, &Fault>,
        desk: &mut Desk<'_>,
    ) {
        self.authority.asking = false;
        match tags {
            Ok(tags) => {
                let allowed = tags.is_some_and(|tags| allow(tags, &self.key.namespace));
                self.authority.retry.clear();
                self.authority.problem = None;
                self.authority.said = Some((allowed, asked_at));
                self.authority.was_allowed |= allowed;
                self.authority.refusals = if allowed { 0 } else { self.authority.refusals.saturating_add(1) };
                if allowed {
                    self.said.remove("NotAuthorised");
                } else if let Some(message) = self.authority.complaint(desk.settings) {
                    self.say(desk, true, "NotAuthorised", message);
                }
            }
            Err(fault) => {
                self.authority.retry.faulted(fault, desk.settings, desk.now);
                if !matches!(fault, Fault::Throttled { .. }) {
                    self.authority.problem = Some(fault.to_string());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_allow_the_namespaces_that_they_name() {
        let cases = [
            (tags::STACK, "shop/web", true),
            (tags::STACK, "shopping/web", false),
            (tags::STACK, "shop", false),
            (tags::NAMESPACES, "shop", true),
            (tags::NAMESPACES, "a,shop,b", true),
            (tags::NAMESPACES, "a, shop", true),
            (tags::NAMESPACES, "*", true),
            (tags::NAMESPACES, "shop*", false),
            (tags::NAMESPACES, "", false),
            ("other", "shop", false),
        ];
        for (key, value, allowed) in cases {
            let tags = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            assert_eq!(allow(&tags, "shop"), allowed, "{key}={value}");
        }
    }
}
