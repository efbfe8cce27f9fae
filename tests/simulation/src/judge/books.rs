//! What is known from the facts so far.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use registrar_core::{
    Effect, Event,
    aws::{Call, HealthState, Reply},
    cluster::{BindingRecord, GateStatus, Key, Kind, PodRecord, Record, Revision, SliceRecord, Uid},
    effect::{Action, EffectId, Request},
    event::{Answer, Fence, Outcome, Watched},
};

use crate::{
    cluster::etcd::{kind, meta},
    fact::{Allowed, Fact, Number, TargetKey},
    plane::{THRESHOLD, key_of},
};

/// A look at the health of a group, as one registrar has taken it.
#[derive(Debug, Clone)]
pub(super) struct Look {
    id: EffectId,
    pub(super) sent_at: Duration,
    /// When the registrar had the answer.
    pub(super) answered_at: Option<Duration>,
    pub(super) states: BTreeMap<TargetKey, (HealthState, Option<String>)>,
    /// Who had which address when it was asked for, as far as the registrar knew.
    pub(super) owners: BTreeMap<String, BTreeSet<Uid>>,
    /// For each healthy target, whose answers made it so.
    pub(super) decided_by: BTreeMap<TargetKey, BTreeSet<Option<Uid>>>,
}

/// A registration that was acknowledged.
#[derive(Debug, Clone)]
pub(super) struct Acknowledged {
    pub(super) at: Duration,
    /// Who had the address, as far as the registrar knew when it wanted this.
    pub(super) owners: BTreeSet<Uid>,
}

/// An effect under way.
#[derive(Debug, Clone)]
struct Flight {
    effect: Effect,
    sent_at: Option<Duration>,
    /// Owners of the addresses of a registration when it was wanted.
    owners: BTreeMap<TargetKey, BTreeSet<Uid>>,
    /// Owners of all addresses when a look was sent.
    all_owners: BTreeMap<String, BTreeSet<Uid>>,
}

/// What a fresh read of a Service's endpoints said.
#[derive(Debug, Clone)]
pub(super) struct Fresh {
    pub(super) at: Duration,
    pub(super) slices: Vec<SliceRecord>,
    pub(super) pods: Vec<PodRecord>,
}

/// What one registrar can know: the newest it was told, of everything.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) objects: BTreeMap<(Kind, Key), Record>,
    /// UIDs that it was told are gone.
    pub(super) gone: BTreeSet<Uid>,
    pub(super) listed: BTreeSet<Kind>,
    listing: BTreeMap<Kind, BTreeSet<Key>>,
    /// Up to where each kind is known: of what is unknown, and older than this, it is known to be gone.
    known: BTreeMap<Kind, Revision>,
    /// The revision of the list that is about to be complete.
    list_shows: BTreeMap<Kind, Revision>,
    pub(super) leading: Option<Fence>,
    flights: BTreeMap<EffectId, Flight>,
    pub(super) looks: BTreeMap<String, Vec<Look>>,
    pub(super) read_endpoints: BTreeMap<Key, Fresh>,
    /// When each target was last a proven endpoint.
    pub(super) proven: BTreeMap<TargetKey, Duration>,
    /// Who of a namespace had an address last.
    pub(super) last_owner: BTreeMap<(String, String), (Key, Uid)>,
    /// What each gate was last wanted to be, and since when.
    pub(super) wanted_gates: BTreeMap<(Uid, String), (GateStatus, Duration)>,
    /// What the tags of a group say, by the last answer, and when that came.
    pub(super) tags: BTreeMap<String, (Duration, BTreeSet<String>)>,
    /// When AWS last said that a group does not exist, and when before.
    pub(super) not_found: BTreeMap<String, Vec<Duration>>,
    /// Removals wanted at the same instant, by group.
    pub(super) removing: BTreeMap<String, (Duration, BTreeSet<TargetKey>)>,
    /// Tokens of each bucket, with when they were counted.
    pub(super) tokens: BTreeMap<registrar_core::aws::Bucket, (f64, Duration)>,
}

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

impl View {
    pub(super) fn binding(&self, namespace: &str, name: &str) -> Option<&BindingRecord> {
        match self.objects.get(&(Kind::Binding, crate::cluster::key(namespace, name))) {
            Some(Record::Binding(binding)) => Some(binding),
            _ => None,
        }
    }

    pub(super) fn bindings(&self) -> impl Iterator<Item = &BindingRecord> {
        let all = self.objects.values();
        all.filter_map(|record| if let Record::Binding(binding) = record { Some(binding) } else { None })
    }

    pub(super) fn bindings_of(&self, group: &str) -> impl Iterator<Item = &BindingRecord> {
        self.bindings().filter(move |binding| binding.spec.target_group_arn.as_deref() == Some(group))
    }

    pub(super) fn pods(&self) -> impl Iterator<Item = &PodRecord> {
        let all = self.objects.values();
        all.filter_map(|record| if let Record::Pod(pod) = record { Some(pod) } else { None })
    }

    pub(super) fn pod(&self, key: &Key) -> Option<&PodRecord> {
        match self.objects.get(&(Kind::Pod, key.clone())) {
            Some(Record::Pod(pod)) => Some(pod),
            _ => None,
        }
    }

    pub(super) fn slices(&self) -> impl Iterator<Item = &SliceRecord> {
        let all = self.objects.values();
        all.filter_map(|record| if let Record::Slice(slice) = record { Some(slice) } else { None })
    }

    pub(super) fn owners(&self, address: &str) -> BTreeSet<Uid> {
        let has = |pod: &&PodRecord| pod.addresses.iter().any(|a| a.to_string() == address);
        self.pods().filter(has).map(|pod| pod.meta.uid.clone()).collect()
    }

    fn all_owners(&self) -> BTreeMap<String, BTreeSet<Uid>> {
        let mut all: BTreeMap<String, BTreeSet<Uid>> = BTreeMap::new();
        for pod in self.pods().filter(|pod| !pod.finished) {
            for address in &pod.addresses {
                all.entry(address.to_string()).or_default().insert(pod.meta.uid.clone());
            }
        }
        all
    }

    /// The last look at a group whose answer has arrived.
    pub(super) fn last_look(&self, group: &str) -> Option<&Look> {
        self.answered(group).last()
    }

    /// Looks at a group whose answers have arrived, in that order.
    pub(super) fn answered(&self, group: &str) -> impl DoubleEndedIterator<Item = &Look> {
        self.looks.get(group).into_iter().flatten().filter(|look| look.answered_at.is_some())
    }

    fn apply(&mut self, record: &Record) {
        let (of_kind, meta) = (kind(record), meta(record));
        if let Some(listing) = self.listing.get_mut(&of_kind) {
            listing.insert(meta.key.clone());
        }
        if self.gone.contains(&meta.uid) {
            return;
        }
        let place = (of_kind, meta.key.clone());
        if let Some(known) = self.objects.get(&place) {
            let known = crate::cluster::etcd::meta(known);
            if known.revision > meta.revision {
                return;
            }
            if known.uid != meta.uid {
                self.gone.insert(known.uid.clone());
            }
        } else if self.known.get(&of_kind).is_some_and(|known| meta.revision <= *known) {
            return;
        }
        if let Record::Pod(pod) = record {
            for address in &pod.addresses {
                let place = (meta.key.namespace.to_string(), address.to_string());
                self.last_owner.insert(place, (meta.key.clone(), meta.uid.clone()));
            }
        }
        self.objects.insert(place, record.clone());
    }

    /// Notes which targets are proven endpoints now.
    fn prove(&mut self, now: Duration) {
        for key in self.proofs() {
            self.proven.insert(key, now);
        }
    }

    /// The targets that are proven endpoints now.
    pub(super) fn proofs(&self) -> BTreeSet<TargetKey> {
        let mut proven = BTreeSet::new();
        let pods: Vec<&PodRecord> = self.pods().collect();
        for binding in self.bindings() {
            let Some(group) = &binding.spec.target_group_arn else { continue };
            let namespace = &binding.meta.key.namespace;
            for slice in self.slices() {
                let of_service = *slice.service == *binding.spec.service_ref.name;
                if !of_service || slice.meta.key.namespace != *namespace || !slice.by_controller {
                    continue;
                }
                proven.extend(proofs(slice, &pods).into_iter().map(|(address, port)| TargetKey {
                    group: group.clone(),
                    address,
                    port,
                }));
            }
        }
        proven
    }
}

/// Addresses of a slice whose pods are what it says, with the slice's ports.
pub(super) fn proofs(slice: &SliceRecord, pods: &[&PodRecord]) -> Vec<(String, u16)> {
    let mut proven = Vec::new();
    for endpoint in &slice.endpoints {
        let Some((name, uid)) = &endpoint.pod else { continue };
        let is_it = |pod: &&&PodRecord| {
            pod.meta.key.namespace == slice.meta.key.namespace
                && pod.meta.key.name == *name
                && pod.meta.uid == *uid
                && pod.addresses.contains(&endpoint.address)
                && !pod.host_network
                && !pod.finished
        };
        if pods.iter().any(|pod| is_it(&pod)) {
            proven.extend(slice.ports.iter().map(|(_, port, _)| (endpoint.address.to_string(), *port)));
        }
    }
    proven
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
                        if view.objects.get(&place).is_some_and(|known| meta(known).uid == *uid) {
                            view.objects.remove(&place);
                        }
                    }
                    Watched::Listed(kind) => {
                        view.listed.insert(*kind);
                        let listing = view.listing.remove(kind).unwrap_or_default();
                        let shows = view.list_shows.remove(kind).unwrap_or_default();
                        // A list from the past says nothing of what is newer.
                        view.objects.retain(|(k, key), record| {
                            k != kind || listing.contains(key) || meta(record).revision > shows
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
