//! Whether the world has settled (L1): what should be registered is, every healthy pod's gate is open, and stays so.

use std::{collections::BTreeSet, net::Ipv4Addr, time::Duration};

use registrar_core::{
    Event,
    aws::Fault,
    cluster::{GateStatus, Kind, Record},
    effect::{Action, Request},
    event::Outcome,
};

use crate::{
    crash::Crashes,
    fact::{Fact, TargetKey},
    plane::TARGET_PORT,
    replica::lease::LEASE,
    world::{Happening, World},
};

/// How long after the last disturbance everything may be otherwise than it should be.
const GRACE: Duration = Duration::from_secs(30);
/// How long a change behind the registrars' back may stand: the audit's period, and what it takes.
const DRIFT: Duration = Duration::from_secs(310);
/// How long a Service may be absent before its targets leave, and from when on: since it went, or since whoever leads has
/// led, for only what a process has seen itself counts.
const ABSENCE: Duration = Duration::from_mins(1);
/// How long the ledger of a shared group may name a target that has left, and a binding may stay whose last call had no
/// reply: for so long AWS may not show what is there.
const UNSEEN: Duration = Duration::from_mins(1);
/// How long a change of tags may go unnoticed.
const TAG_AGE: Duration = Duration::from_mins(1);
/// How long a bucket that was throttled may have no token to spare for what nobody waits for: half of one that fills at an
/// eighth of its rate.
const THROTTLED: Duration = Duration::from_secs(16);
/// How long a world may go on being disturbed by itself once all faults are over.
const LONGEST: Duration = Duration::from_mins(20);

/// How long after it has settled everything is listed anew: nothing may come of it.
const RELISTS: Duration = Duration::from_secs(20);

/// How far it has come.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    calm_at: Option<Duration>,
    /// When the world was last otherwise than it wants to be.
    disturbed: Duration,
    meddled: Option<Duration>,
    /// When a Service last went, or the lease changed hands.
    absent_since: Duration,
    /// When a call last ended without a reply.
    unheard_at: Duration,
    settled_at: Option<Duration>,
    over: bool,
    /// Whether everything was listed anew since it had settled.
    relisted: bool,
    /// How many effects had passed each moment when it had settled first.
    pub(crate) passed: Option<[u64; 4]>,
    /// Writes that were wanted since it had settled.
    pub(crate) writes_since: Vec<String>,
}

impl Settling {
    pub(crate) fn disturbed(&mut self, at: Duration) {
        self.disturbed = self.disturbed.max(at);
    }

    pub(crate) fn meddled(&mut self, at: Duration) {
        self.meddled = Some(at);
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn hear(&mut self, now: Duration, fact: &Fact<'_>) {
        match fact {
            Fact::LeasedTo(_) => self.absent_since = now,
            Fact::Stored(Kind::Service, change) if change.record.is_none() => self.absent_since = now,
            _ => {}
        }
        match fact {
            Fact::Calm => self.calm_at = Some(now),
            // Storage changes by itself or by a registrar; what matters is what should be registered, and who leads.
            Fact::Stored(Kind::Slice | Kind::Service | Kind::Namespace, _) | Fact::LeasedTo(_) | Fact::Held { .. } => {
                self.disturbed(now);
            }
            // A binding that has just been made, where another had to go first.
            Fact::Stored(Kind::Binding, change) if matches!(&change.record, Some(Record::Binding(binding)) if !binding.has_finalizer) =>
            {
                self.settled_at = None;
                self.disturbed(now);
            }
            Fact::Stored(Kind::Pod, change) => {
                let by_kubelet = change.record.is_none();
                if by_kubelet || self.settled_at.is_none() {
                    self.disturbed(now);
                }
            }
            // The others wait for the lease to run out.
            Fact::Died(_) => {
                self.settled_at = None;
                self.disturbed(now + LEASE);
            }
            Fact::Called { outcome: Err(Fault::Throttled { .. }), .. } => self.disturbed(now + THROTTLED),
            Fact::Told { event: Event::Ended { outcome: Outcome::Aws(Err(Fault::Unknown(_))), .. }, .. } => {
                self.unheard_at = now;
            }
            // Tags are read once a minute.
            Fact::Tagged { .. } => self.disturbed(now + TAG_AGE),
            // What has just been registered has its checks before it.
            Fact::Target { to, .. } if matches!(*to, "healthy" | "unhealthy" | "initial") => self.disturbed(now),
            // What is merely said may be said later: nobody waits for it, so it is looked up at leisure.
            Fact::Wants { effect, .. }
                if self.settled_at.is_some_and(|at| now >= at + DRIFT * 2 || !is_said(&effect.action))
                    && !effect.action.is_read() =>
            {
                self.writes_since.push(format!("{:?} because {}", effect.action, effect.cause));
            }
            _ => {}
        }
    }
}

/// Whether an action tells people how things are, and no more.
fn is_said(action: &Action) -> bool {
    matches!(action, Action::Kubernetes(Request::PatchBindingStatus { .. } | Request::Publish(_)))
}

impl World {
    /// Looks whether everything is as it should be, once a second.
    pub(crate) fn settled(&mut self) {
        let now = self.now;
        self.judge.hear_clock(now);
        self.after(Duration::from_secs(1), Happening::Settled);
        let Some(calm_at) = self.settling.calm_at else { return };
        if let Some(settled_at) = self.settling.settled_at {
            // A target that AWS refuses is tried again for ever.
            if !self.settling.writes_since.is_empty() && self.scene.cursed.is_empty() {
                let writes = self.settling.writes_since.join("; ");
                self.judge.complain("S14 quiet", format!("settled {settled_at:?}, and then: {writes}"));
            }
            if let Some(wrong) = self.wrong() {
                self.judge.complain("L1 stays settled", wrong);
            }
            if now >= settled_at + RELISTS && !self.settling.relisted {
                self.settling.relisted = true;
                self.relist_everything();
            }
            self.settling.over |= now >= settled_at + self.scene.quiet;
            return;
        }
        let (grace, drift) = (self.by_slowest_clock(GRACE), self.by_slowest_clock(DRIFT));
        let absence = if self.lacks_a_service() { self.by_slowest_clock(ABSENCE) } else { Duration::ZERO };
        let leaving = if self.lets_a_binding_go() { self.by_slowest_clock(UNSEEN) } else { Duration::ZERO };
        let grace = (self.settling.disturbed + grace)
            .max(self.settling.unheard_at + leaving + grace)
            .max(self.settling.meddled.map_or(Duration::ZERO, |at| at + drift))
            .max(self.settling.absent_since + absence + grace);
        let wrong = self.wrong();
        if now < grace {
            if now > calm_at + LONGEST {
                self.judge.complain("L1 settles", format!("the world does not come to rest: {wrong:?}"));
            }
            return;
        }
        let ledger = self.wrong_ledger();
        match wrong.or_else(|| ledger.clone().filter(|_| now >= grace + self.by_slowest_clock(UNSEEN))) {
            None if ledger.is_some() => {}
            None => {
                self.settling.settled_at = Some(now);
                self.settling.passed.get_or_insert_with(|| Crashes::passed(&self.crashes));
            }
            Some(wrong) => self.judge.complain("L1 settles", wrong),
        }
    }

    /// How long a time of the slowest registrar's clock is: what they promise, they promise by their own clocks.
    fn by_slowest_clock(&self, time: Duration) -> Duration {
        let slowest = self.scene.rates.iter().copied().min().unwrap_or(100).min(100);
        time * 100 / slowest
    }

    /// Every watch breaks and lists anew, with time for mischief between the begin and the end of the list.
    fn relist_everything(&mut self) {
        // From now on every list is a fresh one.
        self.scene.stale_lists = false;
        for number in 0..self.replicas.len() {
            for kind in crate::cluster::etcd::KINDS {
                let down = self.choices.millis(100, 3000);
                self.disconnect(number, kind, true, down);
            }
        }
    }

    /// Whether a binding's Service is not there.
    fn lacks_a_service(&self) -> bool {
        let mut services = self.scene.bindings.iter().map(|plan| crate::cluster::key(&plan.namespace, &plan.service));
        services.any(|service| self.etcd.service(&service).is_none())
    }

    /// Whether a binding is being deleted.
    fn lets_a_binding_go(&self) -> bool {
        let mut bindings = self.scene.bindings.iter().filter_map(|plan| self.etcd.binding(&plan.key()));
        bindings.any(|binding| binding.meta.deleting)
    }

    /// What is otherwise than it should be.
    fn wrong(&self) -> Option<String> {
        if self.etcd.lease.holder.is_none_or(|holder| self.replicas[holder].leading.is_none()) {
            return Some("nobody leads".to_owned());
        }
        for (index, plan) in self.scene.bindings.iter().enumerate() {
            let group = &self.groups[index];
            let binding = self.etcd.binding(&plan.key());
            if binding.is_some_and(|binding| binding.meta.deleting) {
                return Some(format!("binding {} is still being deleted", plan.name));
            }
            let desired = if binding.is_some() { self.desired(index) } else { BTreeSet::new() };
            // What somebody else has in a group that is shared, or that no binding had when it came, is nobody's here.
            let foreign = |key: &&TargetKey| {
                (plan.shared && self.plane.foreign.contains(*key)) || self.plane.unbound.contains(*key)
            };
            let registered: BTreeSet<TargetKey> = self
                .plane
                .registered
                .keys()
                .filter(|key| key.group == *group && (!foreign(key) || desired.contains(*key)))
                .cloned()
                .collect();
            if desired != registered {
                let list = |set: &BTreeSet<TargetKey>| {
                    set.iter().map(|key| key.address.as_str()).collect::<Vec<_>>().join(" ")
                };
                return Some(format!(
                    "binding {}: registered are [{}], and should be [{}]",
                    plan.name,
                    list(&registered),
                    list(&desired)
                ));
            }
            if let Some(wrong) = self.wrong_gates(index, binding.is_some()) {
                return Some(wrong);
            }
        }
        None
    }

    /// What the ledger of a shared group has and should not have.
    fn wrong_ledger(&self) -> Option<String> {
        let plans = self.scene.bindings.iter().enumerate().filter(|(_, plan)| plan.shared);
        for (index, plan) in plans {
            let bound = self.etcd.binding(&plan.key()).is_some();
            let mut wanted = if bound { self.desired(index) } else { BTreeSet::new() };
            let cursed = |address: &Ipv4Addr| TargetKey {
                group: self.groups[index].clone(),
                address: address.to_string(),
                port: TARGET_PORT,
            };
            wanted.extend(self.scene.cursed.iter().map(cursed));
            let wanted: BTreeSet<String> =
                wanted.into_iter().map(|key| format!("{}:{}", key.address, key.port)).collect();
            let ledger = self.etcd.ledgers.get(&plan.key()).into_iter().flatten();
            if let Some(entry) = ledger.into_iter().find(|entry| !wanted.contains(*entry)) {
                return Some(format!("the ledger of {} has {entry}, which has left", plan.name));
            }
        }
        None
    }

    /// What should be registered for a binding.
    fn desired(&self, index: usize) -> BTreeSet<TargetKey> {
        let (plan, group) = (&self.scene.bindings[index], &self.groups[index]);
        let service = crate::cluster::key(&plan.namespace, &plan.service);
        let mut desired = BTreeSet::new();
        if self.etcd.service(&service).is_none() {
            return desired;
        }
        for pod in self.etcd.pods() {
            let Some(process) = self.kubelet.processes.get(&pod.meta.uid) else { continue };
            let workload = &self.workloads[process.workload];
            if workload.namespace != plan.namespace || workload.service != plan.service {
                continue;
            }
            let Some(address) = pod.addresses.first().filter(|_| !pod.meta.deleting && pod.containers_ready) else {
                continue;
            };
            if self.scene.cursed.iter().any(|cursed| *address == std::net::IpAddr::V4(*cursed)) {
                continue;
            }
            desired.insert(TargetKey { group: group.clone(), address: address.to_string(), port: TARGET_PORT });
        }
        desired
    }

    fn wrong_gates(&self, index: usize, bound: bool) -> Option<String> {
        let (plan, group) = (&self.scene.bindings[index], &self.groups[index]);
        for pod in self.etcd.pods() {
            if *pod.meta.key.namespace != *plan.namespace || pod.meta.deleting {
                continue;
            }
            let Some(gate) = pod.gates.iter().find(|gate| *gate.binding == *plan.name) else { continue };
            let open = gate.condition.as_ref().is_some_and(|c| c.status == GateStatus::True);
            let Some(address) = pod.addresses.first() else { continue };
            let key = TargetKey { group: group.clone(), address: address.to_string(), port: TARGET_PORT };
            let healthy = self.plane.registered.get(&key).is_some_and(|state| state == "healthy");
            if !open && (healthy || !bound) && pod.containers_ready {
                let why = if bound { "its target is healthy" } else { "there is no such binding" };
                let says = gate.condition.as_ref().map(|c| format!("{}: {}", c.reason, c.message));
                return Some(format!("gate {} of pod {} is closed ({says:?}) and {why}", plan.name, pod.meta.key.name));
            }
        }
        None
    }
}
