//! What one registrar can know.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use registrar_core::{
    Effect,
    aws::HealthState,
    cluster::{BindingRecord, GateStatus, Key, Kind, PodRecord, Record, Revision, SliceRecord, Uid},
    effect::EffectId,
    event::Fence,
};

use crate::fact::TargetKey;

/// A look at the health of a group, as one registrar has taken it.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) id: EffectId,
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
pub(super) struct Flight {
    pub(super) effect: Effect,
    pub(super) sent_at: Option<Duration>,
    /// Owners of the addresses of a registration when it was wanted.
    pub(super) owners: BTreeMap<TargetKey, BTreeSet<Uid>>,
    /// Owners of all addresses when a look was sent.
    pub(super) all_owners: BTreeMap<String, BTreeSet<Uid>>,
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
    pub(super) listing: BTreeMap<Kind, BTreeSet<Key>>,
    /// Up to where each kind is known: of what is unknown, and older than this, it is known to be gone.
    pub(super) known: BTreeMap<Kind, Revision>,
    /// The revision of the list that is about to be complete.
    pub(super) list_shows: BTreeMap<Kind, Revision>,
    pub(super) leading: Option<Fence>,
    pub(super) flights: BTreeMap<EffectId, Flight>,
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

    pub(super) fn all_owners(&self) -> BTreeMap<String, BTreeSet<Uid>> {
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

    pub(super) fn apply(&mut self, record: &Record) {
        let (of_kind, meta) = (record.kind(), record.meta());
        if let Some(listing) = self.listing.get_mut(&of_kind) {
            listing.insert(meta.key.clone());
        }
        if self.gone.contains(&meta.uid) {
            return;
        }
        let place = (of_kind, meta.key.clone());
        if let Some(known) = self.objects.get(&place) {
            let known = known.meta();
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
    pub(super) fn prove(&mut self, now: Duration) {
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
