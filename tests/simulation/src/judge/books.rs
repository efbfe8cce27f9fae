//! What is known from the facts so far.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use registrar_core::{
    Effect, Event,
    aws::{Call, HealthState, Reply},
    cluster::{GateStatus, Kind, Record, Uid},
    effect::{Action, EffectId, Request},
    event::{Answer, Outcome, Watched},
};

use super::view::{Acknowledged, Flight, Fresh, Look, View};
use crate::{
    fact::{Allowed, Fact, Number, TargetKey},
    plane::{THRESHOLD, key_of},
};

/// How often what was done, by what it was done to. For comparing runs.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Registrations, by whose address it was last.
    pub(crate) registered: BTreeMap<Uid, u32>,
    pub(crate) deregistered: BTreeMap<Uid, u32>,
    /// Changes of gates as they were stored.
    pub(crate) flips: BTreeMap<(Uid, String), u32>,
    pub(crate) calls: u64,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) rates: Vec<u32>,
    pub(super) enforced: bool,
    pub(super) views: Vec<View>,
    /// The pods that have an address in storage, from when on; the last entry holds now.
    owners: BTreeMap<String, Vec<(Duration, BTreeSet<Uid>)>>,
    /// The gates of pods as they are stored.
    gates: BTreeMap<(Uid, String), GateStatus>,
    /// Passes in a row of each target's checks, by zone, with who answered.
    streaks: BTreeMap<TargetKey, BTreeMap<String, Vec<Option<Uid>>>>,
    /// Who made a target healthy.
    decided_by: BTreeMap<TargetKey, BTreeSet<Option<Uid>>>,
    pub(super) leased_to: Option<Number>,
    /// The tags of each group, with those before.
    pub(super) tags: BTreeMap<String, Vec<(Duration, Allowed)>>,
    /// Targets that a registrar has registered, ever.
    pub(super) ours: BTreeSet<TargetKey>,
    /// Targets that came to a group at one time: a call that is refused for one target may take the others in.
    arrived: (Duration, BTreeSet<TargetKey>),
    /// Pods that are terminating or gone in storage.
    leaving: BTreeSet<Uid>,
    /// Registrations that were acknowledged to a registrar, since the target was last deregistered.
    pub(super) acknowledged: BTreeMap<TargetKey, Vec<Acknowledged>>,
    /// When a target was last deregistered by a registrar.
    pub(super) deregistered_at: BTreeMap<TargetKey, Duration>,
    pub(super) counts: Counts,
}

impl Books {
    pub(super) fn new(rates: &[u32], enforced: bool) -> Self {
        Self {
            rates: rates.to_vec(),
            enforced,
            views: rates.iter().map(|_| View::default()).collect(),
            owners: BTreeMap::new(),
            gates: BTreeMap::new(),
            streaks: BTreeMap::new(),
            decided_by: BTreeMap::new(),
            leased_to: None,
            tags: BTreeMap::new(),
            ours: BTreeSet::new(),
            arrived: (Duration::ZERO, BTreeSet::new()),
            leaving: BTreeSet::new(),
            acknowledged: BTreeMap::new(),
            deregistered_at: BTreeMap::new(),
            counts: Counts::default(),
        }
    }

    /// Since when a pod has had an address, by what is stored.
    pub(super) fn owner_since(&self, address: &str, uid: &Uid) -> Option<Duration> {
        self.owners.get(address)?.iter().find(|(_, owners)| owners.contains(uid)).map(|(since, _)| *since)
    }

    /// Whether a pod is terminating or gone in storage, whoever knows of it.
    pub(super) fn is_leaving(&self, uid: &Uid) -> bool {
        self.leaving.contains(uid)
    }

    /// Who had an address last, or had it before it was given back.
    fn latest_owner(&self, address: &str) -> Uid {
        let mut history = self.owners.get(address).into_iter().flatten().rev();
        let owner = history.find_map(|(_, owners)| owners.first());
        owner.cloned().unwrap_or_else(|| Uid(std::sync::Arc::from("nobody")))
    }

    pub(super) fn write(&mut self, now: Duration, fact: &Fact<'_>) {
        match fact {
            Fact::Stored(Kind::Pod, change) => self.stored_pod(now, &change.uid, change.record.as_ref()),
            Fact::Booted(number) | Fact::Died(number) => self.views[*number] = View::default(),
            Fact::Told { replica, event, .. } => self.told(now, *replica, event),
            Fact::Wants { replica, effect } => self.wanted(now, *replica, effect),
            Fact::Sent { replica, effect } => {
                self.sent(now, *replica, effect);
            }
            Fact::Called { replica, effect, call, outcome } => {
                self.called(now, *replica, effect, call, outcome.as_ref().ok());
            }
            Fact::Probed { key, zone, by, passed } => {
                let streak = self.streaks.entry((*key).clone()).or_default().entry((*zone).to_owned()).or_default();
                if *passed {
                    streak.push(by.cloned());
                } else {
                    streak.clear();
                }
            }
            Fact::Target { key, from: "none" | "draining", to: to @ "initial" } => {
                if self.arrived.0 != now {
                    self.arrived = (now, BTreeSet::new());
                }
                self.arrived.1.insert((*key).clone());
                self.target_turned(key, to);
            }
            Fact::Target { key, to, .. } => self.target_turned(key, to),
            Fact::Tagged { group, allowed } => {
                self.tags.entry((*group).to_owned()).or_default().push((now, (*allowed).clone()));
            }
            Fact::LeasedTo(holder) => self.leased_to = *holder,
            Fact::Listed { replica, kind, revision } => {
                _ = self.views[*replica].list_shows.insert(*kind, *revision);
            }
            Fact::Stored(..) | Fact::Asked { .. } | Fact::Held { .. } | Fact::Calm => {}
        }
    }

    /// What the API says of a target has changed.
    fn target_turned(&mut self, key: &TargetKey, to: &str) {
        match to {
            "healthy" => {
                let zones = self.streaks.get(key).into_iter().flat_map(BTreeMap::values);
                let deciding = zones.flat_map(|streak| streak.iter().rev().take(THRESHOLD as usize).cloned());
                self.decided_by.insert(key.clone(), deciding.collect());
            }
            "initial" | "draining" | "none" => {
                self.streaks.remove(key);
                self.decided_by.remove(key);
            }
            _ => {}
        }
    }

    fn stored_pod(&mut self, now: Duration, uid: &Uid, record: Option<&Record>) {
        let pod = if let Some(Record::Pod(pod)) = record { Some(pod) } else { None };
        if pod.is_none_or(|pod| pod.meta.deleting) {
            self.leaving.insert(uid.clone());
        }
        let addresses: BTreeSet<String> =
            pod.into_iter().filter(|p| !p.finished).flat_map(|p| &p.addresses).map(ToString::to_string).collect();
        for address in addresses.iter().chain(&self.owners.keys().cloned().collect::<BTreeSet<_>>()) {
            let history = self.owners.entry(address.clone()).or_default();
            let before = history.last().map(|(_, owners)| owners.clone()).unwrap_or_default();
            let mut after = before.clone();
            if addresses.contains(address) {
                after.insert(uid.clone());
            } else {
                after.remove(uid);
            }
            if after != before {
                history.push((now, after));
            }
        }
        for gate in pod.iter().flat_map(|pod| &pod.gates) {
            let Some(condition) = &gate.condition else { continue };
            let name = (uid.clone(), gate.binding.to_string());
            if self.gates.insert(name.clone(), condition.status) != Some(condition.status) {
                *self.counts.flips.entry(name).or_default() += 1;
            }
        }
    }

    fn told(&mut self, now: Duration, number: Number, event: &Event) {
        let view = &mut self.views[number];
        match event {
            Event::Watched(watched) => {
                view.prove(now);
                match watched {
                    Watched::Restarted(kind) => _ = view.listing.insert(*kind, BTreeSet::new()),
                    Watched::Applied(record) => view.apply(record),
                    Watched::Deleted(kind, key, uid) => {
                        view.gone.insert(uid.clone());
                        let place = (*kind, key.clone());
                        if view.objects.get(&place).is_some_and(|known| known.meta().uid == *uid) {
                            view.objects.remove(&place);
                        }
                    }
                    Watched::Listed(kind) => {
                        view.listed.insert(*kind);
                        let listing = view.listing.remove(kind).unwrap_or_default();
                        let shows = view.list_shows.remove(kind).unwrap_or_default();
                        // A list from the past says nothing of what is newer.
                        view.objects.retain(|(k, key), record| {
                            k != kind || listing.contains(key) || record.meta().revision > shows
                        });
                        let known = view.known.entry(*kind).or_default();
                        *known = shows.max(*known);
                    }
                    Watched::Absent(kind, _) => _ = view.listed.insert(*kind),
                }
                view.prove(now);
            }
            Event::Ended { id, outcome } => self.ended(now, number, *id, outcome),
            Event::Leading { fence, .. } => view.leading = Some(*fence),
            Event::Following | Event::Stopping => view.leading = None,
            Event::Tick => {}
        }
    }

    fn ended(&mut self, now: Duration, number: Number, id: EffectId, outcome: &Outcome) {
        let view = &mut self.views[number];
        let Some(flight) = view.flights.remove(&id) else { return };
        match (&flight.effect.action, outcome) {
            (Action::Aws { call: Call::DescribeTargetHealth { group }, .. }, Outcome::Aws(Ok(_))) => {
                let looks = view.looks.entry(group.as_str().to_owned()).or_default();
                if let Some(index) = looks.iter().position(|look| look.id == id) {
                    let mut look = looks.remove(index);
                    look.answered_at = Some(now);
                    looks.push(look);
                }
                // What is long past can justify nothing.
                looks.retain(|look| look.sent_at + Duration::from_mins(2) > now);
                view.not_found.remove(group.as_str());
            }
            (Action::Aws { call: Call::RegisterTargets { group, targets }, .. }, Outcome::Aws(Ok(_))) => {
                for target in targets {
                    let key = key_of(group, target);
                    let owners = flight.owners.get(&key).cloned().unwrap_or_default();
                    self.acknowledged.entry(key).or_default().push(Acknowledged { at: now, owners });
                }
            }
            (
                Action::Aws {
                    call: Call::DescribeTargetHealth { group } | Call::DeregisterTargets { group, .. }, ..
                },
                Outcome::Aws(Err(fault)),
            ) if fault.is("TargetGroupNotFound") => {
                view.not_found.entry(group.as_str().to_owned()).or_default().push(now);
            }
            (Action::Aws { call: Call::DescribeTags { .. }, .. }, Outcome::Aws(Ok(Reply::Tags(tags)))) => {
                for (group, tags) in tags {
                    let list = tags.get(nlb::tags::NAMESPACES).map(String::as_str).unwrap_or_default();
                    let names = list.split_whitespace().map(str::to_owned).collect();
                    view.tags.insert(group.as_str().to_owned(), (now, names));
                }
            }
            // It may not have come about: nothing follows from it.
            (Action::Kubernetes(Request::PatchGate { uid, condition_type, .. }), Outcome::Kubernetes(Err(_))) => {
                view.wanted_gates.remove(&(uid.clone(), condition_type.clone()));
            }
            (
                Action::Kubernetes(Request::ListEndpoints { service }),
                Outcome::Kubernetes(Ok(Answer::Endpoints { slices, pods })),
            ) => {
                let fresh = Fresh { at: now, slices: slices.clone(), pods: pods.clone() };
                view.read_endpoints.insert(service.clone(), fresh);
            }
            _ => {}
        }
    }

    fn wanted(&mut self, now: Duration, number: Number, effect: &Effect) {
        let view = &mut self.views[number];
        let mut owners = BTreeMap::new();
        match &effect.action {
            Action::Aws { call: Call::RegisterTargets { group, targets }, .. } => {
                for target in targets {
                    owners.insert(key_of(group, target), view.owners(&target.id));
                }
            }
            Action::Aws { call: Call::DeregisterTargets { group, targets }, .. } => {
                let removing = view.removing.entry(group.as_str().to_owned()).or_default();
                if removing.0 != now {
                    *removing = (now, BTreeSet::new());
                }
                removing.1.extend(targets.iter().map(|target| key_of(group, target)));
            }
            Action::Kubernetes(Request::PatchGate { uid, condition_type, condition, .. }) => {
                let name = (uid.clone(), condition_type.clone());
                let same = view.wanted_gates.get(&name).is_some_and(|(status, _)| *status == condition.status);
                if !same {
                    view.wanted_gates.insert(name, (condition.status, now));
                }
            }
            _ => {}
        }
        view.flights
            .insert(effect.id, Flight { effect: effect.clone(), sent_at: None, owners, all_owners: BTreeMap::new() });
    }

    fn sent(&mut self, now: Duration, number: Number, effect: &Effect) {
        let rate = f64::from(self.rates[number]) / 100.0;
        let view = &mut self.views[number];
        let is_look = matches!(&effect.action, Action::Aws { call: Call::DescribeTargetHealth { .. }, .. });
        let all_owners = if is_look { view.all_owners() } else { BTreeMap::new() };
        if let Some(flight) = view.flights.get_mut(&effect.id) {
            flight.sent_at = Some(now);
            flight.all_owners = all_owners;
        }
        if let Action::Aws { call, .. } = &effect.action {
            self.counts.calls += 1;
            let bucket = call.bucket();
            if let Some((left, burst, per_second)) = super::process::refilled(view, bucket, now, rate) {
                let _ = (burst, per_second);
                view.tokens.insert(bucket, (left - 1.0, now));
            }
        }
    }

    fn called(&mut self, now: Duration, number: Number, effect: &Effect, call: &Call, reply: Option<&Reply>) {
        if let Call::RegisterTargets { group, targets } = call
            && self.arrived.0 == now
        {
            let keys = targets.iter().map(|target| key_of(group, target));
            self.ours.extend(keys.filter(|key| self.arrived.1.contains(key)));
        }
        let Some(reply) = reply else { return };
        match (call, reply) {
            (Call::DescribeTargetHealth { group }, Reply::TargetHealth(states)) => {
                let view = &mut self.views[number];
                let Some(flight) = view.flights.get_mut(&effect.id) else { return };
                let Some(sent_at) = flight.sent_at else { return };
                let owners = std::mem::take(&mut flight.all_owners);
                let states: BTreeMap<TargetKey, _> = states
                    .iter()
                    .map(|state| (key_of(group, &state.target), (state.state.clone(), state.reason.clone())))
                    .collect();
                let healthy = states.iter().filter(|(_, (state, _))| *state == HealthState::Healthy);
                let decided_by =
                    healthy.filter_map(|(key, _)| Some((key.clone(), self.decided_by.get(key)?.clone()))).collect();
                let look = Look { id: effect.id, sent_at, answered_at: None, states, owners, decided_by };
                view.looks.entry(group.as_str().to_owned()).or_default().push(look);
            }
            (Call::RegisterTargets { group, targets }, _) => {
                for target in targets {
                    let key = key_of(group, target);
                    *self.counts.registered.entry(self.latest_owner(&key.address)).or_default() += 1;
                    self.ours.insert(key);
                }
            }
            (Call::DeregisterTargets { group, targets }, _) => {
                for target in targets {
                    let key = key_of(group, target);
                    *self.counts.deregistered.entry(self.latest_owner(&key.address)).or_default() += 1;
                    self.acknowledged.remove(&key);
                    self.deregistered_at.insert(key, now);
                }
            }
            _ => {}
        }
    }
}
