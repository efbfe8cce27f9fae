//! Groups and tags, which are asked for many bindings in one call.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Kind, Turn,
    binding::Binding,
    desk::{Ask, Desk, What},
    group::{self, Resolution},
    retry::Alarm,
};
use crate::{
    Effect, Settings,
    aws::{Account, Arn, Bucket, Call, Fault, Reply, TargetGroup, TargetGroupQuery},
    cluster::{BindingRecord, Key, Uid},
    effect::{Cause, Priority},
    outbox::Asker,
};

/// How long what AWS says of a group counts before it is read again.
const KNOWN: Duration = Duration::from_mins(15);

/// What waits to be asked, by account.
#[derive(Debug, Default)]
pub struct Describing {
    groups: BTreeMap<Account, BTreeSet<Key>>,
    tags: BTreeMap<Account, BTreeSet<Key>>,
    /// The most urgent turns that are queued: whether for tags.
    queued: BTreeMap<(Account, bool), Priority>,
    /// Calls under way.
    flights: BTreeSet<(Account, bool)>,
    /// Bindings whose batch was refused, so that they are asked for alone.
    alone: BTreeSet<Key>,
}

impl Binding {
    /// Finds out which group it is about, as far as that is known.
    pub fn resolve(&mut self, record: &BindingRecord, desk: &Desk<'_>, alarm: &mut Alarm) {
        if !Arc::ptr_eq(&self.spec, &record.spec) && self.spec != record.spec {
            let other_group = self.spec.target_group_arn != record.spec.target_group_arn
                && self.spec.target_group_arn.as_ref().is_some_and(|arn| !arn.is_empty());
            if other_group {
                self.group = None;
                self.group_known_at = None;
            }
            self.spec = Arc::clone(&record.spec);
            self.stale = true;
        }
        self.resolution = group::resolve(record, desk.settings, self.group.as_ref());
        if self.asking_group || matches!(self.resolution, Resolution::Problem(_)) && self.group.is_none() {
            return;
        }
        let due = self.group_known_at.map_or(Duration::ZERO, |at| at + KNOWN).max(self.group_retry.at);
        if due > desk.now {
            alarm.at(due);
        }
    }

    fn wants_group(&self, now: Duration) -> bool {
        let hopeless = matches!(self.resolution, Resolution::Problem(_)) && self.group.is_none();
        let due = self.group_known_at.map_or(Duration::ZERO, |at| at + KNOWN).max(self.group_retry.at);
        !self.asking_group && !hopeless && due <= now
    }

    fn account(&self, settings: &Settings) -> Option<Account> {
        group::account(&self.spec, settings).ok()
    }
}

impl Describing {
    /// Takes note of what a binding wants.
    pub fn note(&mut self, key: &Key, binding: &mut Binding, settings: &Settings) {
        let Some(account) = binding.account(settings) else { return };
        if binding.wants_group(binding.worked_at.unwrap_or_default()) {
            self.groups.entry(account.clone()).or_default().insert(key.clone());
        }
        if std::mem::take(&mut binding.authority.wanted) {
            self.tags.entry(account).or_default().insert(key.clone());
        }
    }

    /// Queues turns for what waits.
    pub fn queue(&mut self, bindings: &BTreeMap<Key, Binding>, desk: &mut Desk<'_>) {
        for (waiting, tags) in [(&self.groups, false), (&self.tags, true)] {
            for (account, keys) in waiting {
                let Some(first) = keys.first() else { continue };
                let lane = (account.clone(), tags);
                if self.flights.contains(&lane) {
                    continue;
                }
                let urgent = keys.iter().filter_map(|key| bindings.get(key)).any(|binding| {
                    if tags {
                        binding.authority.is_waited_for(desk.settings, desk.now)
                    } else {
                        binding.group.is_none()
                    }
                });
                let kind = if tags { Kind::Tags(account.clone()) } else { Kind::Groups(account.clone()) };
                let priority = if urgent { Priority::Gates } else { Priority::Drift };
                // What was queued at leisure may have become urgent since.
                if self.queued.get(&lane).is_some_and(|queued| *queued <= priority) {
                    continue;
                }
                self.queued.insert(lane, priority);
                desk.turn(account, Bucket::Describe, priority, first, Turn { binding: first.clone(), kind });
            }
        }
    }

    /// The turn to ask for groups has come.
    pub fn take_groups_turn(
        &mut self,
        account: &Account,
        bindings: &mut BTreeMap<Key, Binding>,
        desk: &mut Desk<'_>,
    ) -> Option<Effect> {
        let lane = (account.clone(), false);
        self.queued.remove(&lane);
        if self.flights.contains(&lane) {
            return None;
        }
        let waiting = self.groups.remove(account).unwrap_or_default();
        let mut arns = Vec::new();
        let mut members = Vec::new();
        let mut left = BTreeSet::new();
        let mut query = None;
        // What was stirred goes first.
        let mut ordered: Vec<Key> = waiting.into_iter().collect();
        ordered.sort_by_key(|key| bindings.get(key).is_some_and(|binding| !binding.stirred));
        for key in ordered {
            let Some(binding) = bindings.get_mut(&key) else { continue };
            if binding.account(desk.settings).as_ref() != Some(account) {
                continue;
            }
            let Some(own) = group::query(&binding.spec) else { continue };
            let fits = match &own {
                TargetGroupQuery::Arns(_) if self.alone.contains(&key) => members.is_empty(),
                TargetGroupQuery::Arns(_) => query.is_none() && arns.len() < Call::MOST_TAGGED,
                _ => members.is_empty(),
            };
            if !fits {
                left.insert(key);
                continue;
            }
            match own {
                TargetGroupQuery::Arns(own) if !self.alone.contains(&key) => arns.extend(own),
                other => query = Some(other),
            }
            binding.asking_group = true;
            members.push((key, binding.uid.clone()));
        }
        if !left.is_empty() {
            self.groups.insert(account.clone(), left);
        }
        if members.is_empty() {
            return None;
        }
        self.flights.insert(lane);
        let query = query.unwrap_or_else(|| {
            arns.sort();
            arns.dedup();
            TargetGroupQuery::Arns(arns)
        });
        let call = Call::DescribeTargetGroups(query);
        let because = format!("what {} bindings are about has to be known", members.len());
        Some(ask(account, call, What::Groups(account.clone(), members), because, desk))
    }

    /// Groups have been described, or not. Gives the bindings that are to be worked on.
    pub fn groups_said(
        &mut self,
        account: &Account,
        members: &[(Key, Uid)],
        result: Result<Reply, Fault>,
        bindings: &mut BTreeMap<Key, Binding>,
        desk: &mut Desk<'_>,
    ) -> Vec<Key> {
        self.flights.remove(&(account.clone(), false));
        let result = result.and_then(|reply| match reply {
            Reply::TargetGroups { target_groups, .. } => Ok(target_groups),
            _ => Err(Fault::Unknown("an answer of the wrong kind".to_owned())),
        });
        for (key, uid) in members {
            let Some(binding) = bindings.get_mut(key).filter(|binding| binding.uid == *uid) else { continue };
            binding.asking_group = false;
            match &result {
                Ok(groups) => {
                    self.alone.remove(key);
                    binding.described(groups, desk);
                }
                // One that is not there fails the whole call.
                Err(Fault::Refused(_)) if members.len() > 1 => {
                    self.alone.insert(key.clone());
                }
                Err(fault) => {
                    binding.group_retry.faulted(fault, desk.settings, desk.now);
                    match fault {
                        Fault::Throttled { .. } => binding.throttled_at = Some(desk.now),
                        fault => {
                            binding.looks.problem = Some(fault.to_string());
                            if fault.is("TargetGroupNotFound") {
                                let asked = desk.stamp();
                                binding.farewell.not_found(asked);
                            }
                        }
                    }
                }
            }
        }
        members.iter().map(|(key, _)| key.clone()).collect()
    }

    /// The turn to read tags has come.
    pub fn take_tags_turn(
        &mut self,
        account: &Account,
        bindings: &mut BTreeMap<Key, Binding>,
        desk: &mut Desk<'_>,
    ) -> Option<Effect> {
        let lane = (account.clone(), true);
        self.queued.remove(&lane);
        if self.flights.contains(&lane) {
            return None;
        }
        let waiting = self.tags.remove(account).unwrap_or_default();
        let mut resources: Vec<Arn> = Vec::new();
        let mut members = Vec::new();
        let mut left = BTreeSet::new();
        let mut lonely = false;
        for key in waiting {
            let Some(binding) = bindings.get_mut(&key) else { continue };
            let Some(arn) = binding.facts().map(|facts| facts.arn.clone()) else { continue };
            let alone = self.alone.contains(&key);
            let full = resources.len() >= Call::MOST_TAGGED || lonely || (alone && !members.is_empty());
            if full {
                left.insert(key);
                continue;
            }
            resources.push(arn);
            binding.authority.asking = true;
            members.push((key, binding.uid.clone()));
            lonely = alone;
        }
        if !left.is_empty() {
            self.tags.entry(account.clone()).or_default().extend(left);
        }
        if members.is_empty() {
            return None;
        }
        self.flights.insert(lane);
        resources.sort();
        resources.dedup();
        let because = format!("whether {} bindings may use their target groups is in their tags", members.len());
        Some(ask(account, Call::DescribeTags { resources }, What::Tags(account.clone(), members), because, desk))
    }

    /// Tags have been read, or not. Gives the bindings that are to be worked on.
    pub fn tags_said(
        &mut self,
        account: &Account,
        members: &[(Key, Uid)],
        result: Result<Reply, Fault>,
        bindings: &mut BTreeMap<Key, Binding>,
        desk: &mut Desk<'_>,
    ) -> Vec<Key> {
        self.flights.remove(&(account.clone(), true));
        let result = result.and_then(|reply| match reply {
            Reply::Tags(tags) => Ok(tags),
            _ => Err(Fault::Unknown("an answer of the wrong kind".to_owned())),
        });
        for (key, uid) in members {
            let Some(binding) = bindings.get_mut(key).filter(|binding| binding.uid == *uid) else { continue };
            let arn = binding.facts().map(|facts| facts.arn.clone());
            match (&result, arn) {
                (Ok(tags), Some(arn)) => {
                    self.alone.remove(key);
                    binding.tagged(desk.now, Ok(tags.get(&arn)), desk);
                }
                (Err(Fault::Refused(_)), _) if members.len() > 1 => {
                    self.alone.insert(key.clone());
                    binding.authority.asking = false;
                }
                (Err(fault), _) => binding.tagged(desk.now, Err(fault), desk),
                (Ok(_), None) => binding.authority.asking = false,
            }
        }
        members.iter().map(|(key, _)| key.clone()).collect()
    }
}

impl Binding {
    fn described(&mut self, groups: &[TargetGroup], desk: &Desk<'_>) {
        let found = match group::query(&self.spec) {
            Some(TargetGroupQuery::Arns(arns)) => groups.iter().find(|group| arns.contains(&group.arn)),
            Some(TargetGroupQuery::Name(name)) => groups.iter().find(|group| group.name == name),
            _ => None,
        };
        if let Some(group) = found {
            self.group_retry.clear();
            self.group_known_at = Some(desk.now);
            self.group = Some(group.clone());
            self.looks.problem = None;
            self.stale = true;
        } else {
            self.group_retry.failed(desk.now);
            self.looks.problem = Some("AWS does not know the target group".to_owned());
        }
    }
}

fn ask(account: &Account, call: Call, what: What, because: String, desk: &mut Desk<'_>) -> Effect {
    let members = match &what {
        What::Groups(_, members) | What::Tags(_, members) => members.first(),
        _ => None,
    };
    let (binding, uid) = members.cloned().unwrap_or_else(|| (Key::new("", ""), Uid("".into())));
    let cause = Cause { object: binding.clone(), because };
    let effect = desk.outbox.send(Asker::Targets, account.clone(), call, Priority::Gates, cause, desk.now);
    desk.asks.insert(effect.id, Ask { binding, uid, what });
    effect
}
