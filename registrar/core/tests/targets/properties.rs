//! What holds whatever happens: equal events give equal effects, nothing panics, and nothing is sent that may not be.

use std::{collections::BTreeSet, time::Duration};

use proptest::prelude::*;
use registrar_core::{
    Effect, Event, Settings, State,
    aws::{Call, Fault, HealthState, Reply, Target, TargetHealth},
    cluster::{GateStatus, Key, Kind, PodRecord, Record},
    effect::{Action, EffectId, Request},
    event::{Answer, Denial, Outcome, Watched},
};

use super::stage::{NAMESPACE, Stage, refused};

/// One thing that happens.
#[derive(Debug, Clone)]
enum Happening {
    Pass(u16),
    Pod { name: u8, address: u8, ready: bool, deleting: bool },
    PodGone(u8),
    Endpoints(Vec<(u8, bool, bool)>),
    Service(bool),
    Binding { deleting: bool },
    Relist(u8, bool),
    Lead(u8),
    Follow,
    Answer { which: u8, how: u8 },
}

fn happening() -> impl Strategy<Value = Happening> {
    let endpoints = prop::collection::vec((0..6_u8, any::<bool>(), any::<bool>()), 0..6);
    prop_oneof![
        8 => (1..9000_u16).prop_map(Happening::Pass),
        6 => (0..6_u8, 0..4_u8, prop::bool::weighted(0.8), prop::bool::weighted(0.2))
            .prop_map(|(name, address, ready, deleting)| Happening::Pod { name, address, ready, deleting }),
        2 => (0..6_u8).prop_map(Happening::PodGone),
        5 => endpoints.prop_map(Happening::Endpoints),
        1 => any::<bool>().prop_map(Happening::Service),
        1 => prop::bool::weighted(0.3).prop_map(|deleting| Happening::Binding { deleting }),
        1 => (0..6_u8, any::<bool>()).prop_map(|(kind, complete)| Happening::Relist(kind, complete)),
        1 => (1..3_u8).prop_map(Happening::Lead),
        1 => Just(Happening::Follow),
        12 => (any::<u8>(), any::<u8>()).prop_map(|(which, how)| Happening::Answer { which, how }),
    ]
}

const KINDS: [Kind; 6] = [Kind::Service, Kind::Binding, Kind::Slice, Kind::Pod, Kind::Node, Kind::Namespace];

/// Two cores that are told the same.
struct Twins {
    stage: Stage,
    both: [State; 2],
    now: Duration,
    open: Vec<Effect>,
    ids: BTreeSet<EffectId>,
    acting: bool,
    revision: u64,
    slice_uid: u64,
}

impl Twins {
    fn new() -> Self {
        let mut settings = Settings::default();
        settings.features.load_balancers = false;
        let mut twins = Self {
            stage: Stage::new(&settings),
            both: [State::new(&settings), State::new(&settings)],
            now: Duration::from_secs(1),
            open: Vec::new(),
            ids: BTreeSet::new(),
            acting: false,
            revision: 1000,
            slice_uid: 0,
        };
        twins.stage.furnish();
        for record in twins.records() {
            twins.tell(Watched::Applied(record));
        }
        for kind in KINDS {
            twins.tell(Watched::Listed(kind));
        }
        twins
    }

    fn records(&self) -> Vec<Record> {
        let services = self.stage.services.values().cloned().map(Record::Service);
        services.chain(self.stage.bindings.values().cloned().map(Record::Binding)).collect()
    }

    fn tell(&mut self, watched: Watched) {
        self.step(&Event::Watched(watched));
    }

    fn step(&mut self, event: &Event) {
        let [first, second] = &mut self.both;
        let effects = first.step(event.clone(), self.now);
        assert_eq!(effects, second.step(event.clone(), self.now), "equal events give equal effects");
        assert_eq!(first.deadline(), second.deadline());
        for effect in &effects {
            assert!(self.acting, "{effect:?} without leading");
            assert!(self.ids.insert(effect.id), "{effect:?} has an id that was used before");
            assert_eq!(effect.fence.is_none(), effect.action.is_read(), "{effect:?}");
            assert!(!effect.cause.because.is_empty(), "{effect:?} has no cause");
            assert!(effect.deadline > self.now);
            if let Action::Aws {
                call: Call::RegisterTargets { targets, .. } | Call::DeregisterTargets { targets, .. },
                ..
            } = &effect.action
            {
                assert!(!targets.is_empty() && targets.len() <= Call::MOST_TARGETS);
            }
        }
        self.open.extend(effects);
        let report = first.report();
        for (.., level, burst) in &report.budgets {
            assert!(level <= burst);
        }
    }

    fn pass(&mut self, milliseconds: u16) {
        let end = self.now + Duration::from_millis(milliseconds.into());
        let mut ticks = 0;
        while let Some(at) = self.both[0].deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step(&Event::Tick);
            ticks += 1;
            assert!(ticks < 5000, "it never rests");
        }
        self.now = end;
    }

    fn pod(&mut self, name: u8, address: u8, ready: bool, deleting: bool) {
        self.revision += 1;
        let mut record: PodRecord = {
            let mut stage = Stage::new(&Settings::default());
            stage.slices_follow = false;
            stage.add_pod("pod", "10.0.0.1");
            stage.pod("pod").clone()
        };
        record.meta.key = Key::new(NAMESPACE, &format!("pod-{name}"));
        record.meta.uid = registrar_core::cluster::Uid(format!("uid-{name}-{address}").as_str().into());
        record.meta.revision = self.revision;
        record.meta.deleting = deleting;
        record.containers_ready = ready;
        record.addresses = vec![std::net::Ipv4Addr::new(10, 0, 0, address).into()];
        self.stage.pods.insert(record.meta.key.clone(), record.clone());
        self.tell(Watched::Applied(Record::Pod(record)));
    }

    fn happen(&mut self, happening: &Happening) {
        match happening {
            Happening::Pass(milliseconds) => self.pass(*milliseconds),
            Happening::Pod { name, address, ready, deleting } => self.pod(*name, *address, *ready, *deleting),
            Happening::PodGone(name) => {
                let key = Key::new(NAMESPACE, &format!("pod-{name}"));
                if let Some(pod) = self.stage.pods.remove(&key) {
                    self.tell(Watched::Deleted(Kind::Pod, key, pod.meta.uid));
                }
            }
            Happening::Endpoints(list) => {
                self.revision += 1;
                let mut slice = self.stage.slice();
                slice.endpoints.retain_mut(|endpoint| {
                    let name = endpoint.pod.as_ref().map(|(name, _)| name.to_string()).unwrap_or_default();
                    let found = list.iter().find(|(number, ..)| name == format!("pod-{number}"));
                    if let Some((_, ready, terminating)) = found {
                        (endpoint.ready, endpoint.terminating) = (*ready, *terminating);
                    }
                    found.is_some()
                });
                slice.meta.revision = self.revision;
                self.tell(Watched::Applied(Record::Slice(slice)));
            }
            Happening::Service(present) => {
                self.revision += 1;
                self.slice_uid += 1;
                let Some(service) = self.stage.services.values().next().cloned() else { return };
                let event = if *present {
                    let mut service = service;
                    service.meta.revision = self.revision;
                    service.meta.uid =
                        registrar_core::cluster::Uid(format!("service-{}", self.slice_uid).as_str().into());
                    Watched::Applied(Record::Service(service))
                } else {
                    let current = self.both[0].cluster().services.get(&service.meta.key).map(|s| s.meta.uid.clone());
                    let Some(uid) = current else { return };
                    Watched::Deleted(Kind::Service, service.meta.key, uid)
                };
                self.tell(event);
            }
            Happening::Binding { deleting } => {
                self.revision += 1;
                let Some(mut binding) = self.stage.bindings.values().next().cloned() else { return };
                binding.meta.revision = self.revision;
                binding.meta.deleting = *deleting;
                binding.has_finalizer = true;
                self.tell(Watched::Applied(Record::Binding(binding)));
            }
            Happening::Relist(kind, complete) => {
                let kind = KINDS[usize::from(*kind)];
                self.tell(Watched::Restarted(kind));
                if *complete {
                    self.tell(Watched::Listed(kind));
                }
            }
            Happening::Lead(fence) => {
                self.acting = true;
                let until = self.now + Duration::from_secs(1000);
                self.step(&Event::Leading { fence: u64::from(*fence), until });
            }
            Happening::Follow => {
                self.step(&Event::Following);
                self.acting = false;
            }
            Happening::Answer { which, how } => self.answer(*which, *how),
        }
    }

    fn answer(&mut self, which: u8, how: u8) {
        if self.open.is_empty() {
            return;
        }
        let effect = self.open.remove(usize::from(which) % self.open.len());
        let outcome = match &effect.action {
            Action::Aws { call, .. } => Outcome::Aws(match how % 8 {
                0 => Err(Fault::Throttled { code: "Throttling".to_owned() }),
                1 => Err(Fault::Unknown("reset".to_owned())),
                2 => Err(refused("ValidationError", "no")),
                3 => Err(refused(
                    ["TargetGroupNotFound", "TooManyTargets", "AccessDenied"][usize::from(how / 8) % 3],
                    "no",
                )),
                _ => Ok(reply(call, how)),
            }),
            Action::Kubernetes(request) => Outcome::Kubernetes(match (how % 6, request) {
                (0, _) => Err(Denial::Conflict),
                (1, _) => Err(Denial::NotFound),
                (2, _) => Err(Denial::Unknown("reset".to_owned())),
                (_, Request::ListEndpoints { .. }) => {
                    let slices = vec![self.stage.slice()];
                    Ok(Answer::Endpoints { slices, pods: self.stage.pods.values().cloned().collect() })
                }
                _ => Ok(Answer::Done),
            }),
        };
        self.step(&Event::Ended { id: effect.id, outcome });
    }
}

fn reply(call: &Call, how: u8) -> Reply {
    let states = [HealthState::Initial, HealthState::Healthy, HealthState::Unhealthy, HealthState::Draining];
    match call {
        Call::DescribeTargetHealth { .. } => {
            let listed = (0..4_u8).filter(|address| how & (8 << address) != 0);
            let health = |address: u8| TargetHealth {
                target: Target {
                    id: format!("10.0.0.{address}"),
                    port: 8080,
                    availability_zone: None,
                    quic_server_id: None,
                },
                state: states[usize::from(how.wrapping_add(address)) % 4].clone(),
                reason: None,
                description: None,
            };
            Reply::TargetHealth(listed.map(health).collect())
        }
        _ => Reply::Done,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_events_give_equal_effects_and_none_that_may_not_be(list in prop::collection::vec(happening(), 1..120)) {
        let mut twins = Twins::new();
        twins.happen(&Happening::Lead(1));
        for happening in &list {
            twins.happen(happening);
        }
    }
}

#[test]
fn a_gate_is_true_or_false_and_never_unknown() {
    // The third status would keep a pod from being ready as the second does, and say less.
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.run(Duration::from_mins(1));
    for (_, effect) in &stage.sent {
        if let Action::Kubernetes(Request::PatchGate { condition, .. }) = &effect.action {
            assert_ne!(condition.status, GateStatus::Unknown);
        }
    }
}
