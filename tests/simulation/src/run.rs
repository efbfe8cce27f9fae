//! One run, from its choices to its verdict.

use std::{collections::BTreeMap, time::Duration};

use registrar_core::cluster::{GateStatus, PodRecord};

use crate::{choice::Choices, crash::CrashPoint, judge::Complaint, scene::Scene, trace::Trace, world::World};

/// How a run came out.
#[derive(Debug)]
pub struct Outcome {
    /// The first rule that was broken, if one was.
    pub complaint: Option<Complaint>,
    /// Every choice that was made.
    pub choices: Vec<u32>,
    /// Hash over everything that happened, if it was kept.
    pub hash: Option<u64>,
    /// Everything that happened, in words, if it was wanted.
    pub lines: Vec<String>,
    /// How much happened.
    pub happened: u64,
    /// How far the clock has come.
    pub ended_at: Duration,
    /// How often what was done.
    pub tally: Tally,
    /// How many effects had passed each moment of [`crate::Moment::ALL`] when all had settled.
    pub passed: [u64; 4],
}

/// What a run leaves, and how often it did what: for comparing a run with crashes to one without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Pods at the end, by name: whether each is registered in some group, and how many of its gates are open.
    pub pods: BTreeMap<String, (bool, usize)>,
    /// Changes of gates, by pod UID and gate.
    pub flips: BTreeMap<(String, String), u32>,
    /// Deregistrations, by the UID of the pod whose address it was.
    pub deregistered: BTreeMap<String, u32>,
    /// Calls to AWS.
    pub calls: u64,
}

impl Tally {
    fn of(world: &World) -> Self {
        let registered = |pod: &PodRecord| {
            let is_at = |address: &String| pod.addresses.iter().any(|own| own.to_string() == *address);
            world.plane.registered.keys().any(|key| is_at(&key.address))
        };
        let open = |pod: &PodRecord| {
            let conditions = pod.gates.iter().filter_map(|gate| gate.condition.as_ref());
            conditions.filter(|condition| condition.status == GateStatus::True).count()
        };
        let counts = world.judge.counts();
        Self {
            pods: world.etcd.pods().map(|p| (p.meta.key.name.to_string(), (registered(p), open(p)))).collect(),
            flips: counts.flips.iter().map(|((uid, gate), n)| ((uid.0.to_string(), gate.clone()), *n)).collect(),
            deregistered: counts.deregistered.iter().map(|(uid, n)| (uid.0.to_string(), *n)).collect(),
            calls: counts.calls,
        }
    }

    /// What this run did that the plain one did not, and what it leaves otherwise. Registering again is no difference,
    /// nor is deregistering again what was deregistered.
    pub fn differs_from(&self, plain: &Self) -> Option<String> {
        if self.pods != plain.pods {
            return Some(format!("it leaves {:?} and not {:?}", self.pods, plain.pods));
        }
        let flips = self.flips.iter().find(|(gate, n)| **n > plain.flips.get(*gate).copied().unwrap_or_default());
        if let Some((gate, n)) = flips {
            return Some(format!("gate {gate:?} changes {n} times and not {:?}", plain.flips.get(gate)));
        }
        let victim = self.deregistered.keys().find(|uid| !plain.deregistered.contains_key(*uid));
        victim.map(|uid| format!("the target of {uid} is deregistered"))
    }
}

/// Runs a scene that is drawn from the choices.
pub fn random(choices: Choices, trace: Trace) -> anyhow::Result<Outcome> {
    changed(choices, trace, |_| {})
}

/// Runs a scene that is drawn from the choices and then changed.
pub fn changed(mut choices: Choices, trace: Trace, change: impl FnOnce(&mut Scene)) -> anyhow::Result<Outcome> {
    let mut scene = Scene::random(&mut choices);
    change(&mut scene);
    scene_with(scene, choices, trace, None)
}

/// Runs a scene without chance, with a crash or without.
pub fn reference(scene: Scene, crash: Option<CrashPoint>, trace: Trace) -> anyhow::Result<Outcome> {
    scene_with(scene, Choices::replayed(Vec::new()), trace, crash)
}

fn scene_with(scene: Scene, choices: Choices, trace: Trace, crash: Option<CrashPoint>) -> anyhow::Result<Outcome> {
    let mut world = World::new(scene, choices, trace)?;
    world.crashes.point = crash;
    world.run();
    let tally = Tally::of(&world);
    Ok(Outcome {
        tally,
        complaint: world.judge.verdict(),
        choices: world.choices.into_list(),
        hash: world.trace.hash(),
        lines: world.trace.into_lines(),
        happened: world.happened,
        ended_at: world.now,
        passed: world.settling.passed.unwrap_or_else(|| world.crashes.passed()),
    })
}
