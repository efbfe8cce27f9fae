//! A binding at work: what is known of it and of its group, and what is under way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use nlb::targetgroupbinding::{TargetGroupBindingSpec, TargetGroupBindingStatus};

use super::{
    batches::Batches,
    brake::Brake,
    desk::{Ask, Desk, What},
    farewell::Farewell,
    group::{Facts, Problem, Resolution},
    isolation::Authority,
    ledger::Ledger,
    looks::Looks,
    patches::Gates,
    pods::LeftOut,
    retry::{Alarm, Retry},
    spot::{Presence, Spot, SpotState, Wanted},
    ungated::Ungated,
};
use crate::{
    aws::TargetGroup,
    cluster::{BindingRecord, Key, ServicePort, Uid},
    effect::{About, Request},
};

/// A binding at work. All that is in here is what this process has seen in this leadership.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Binding {
    /// Which.
    pub key: Key,
    /// Which life of it.
    pub uid: Uid,
    /// When it is to be looked at again, and is in the agenda for.
    pub wake: Option<Duration>,
    /// When it was last worked on.
    pub worked_at: Option<Duration>,
    /// Whether something that it depends on has changed since the targets were last read from the cluster.
    pub stale: bool,
    /// Whether something has changed while this process was watching, so that it goes before those that are as they were.
    pub stirred: bool,
    /// What its spec was when its group was resolved.
    pub spec: Arc<TargetGroupBindingSpec>,
    /// Its group.
    pub resolution: Resolution,
    /// What AWS says of its group.
    pub group: Option<TargetGroup>,
    /// Whether AWS is being asked.
    pub asking_group: bool,
    /// When AWS was last asked, and when it is to be asked again.
    pub group_retry: Retry,
    /// When AWS last said.
    pub group_known_at: Option<Duration>,
    /// Whether AWS says that there is no such group, and since when.
    pub group_missing_since: Option<Duration>,
    /// Whether it is the one that has the group, or another binding is.
    pub rival: Option<Key>,
    /// Targets that there should be.
    pub wanted: BTreeMap<Spot, Wanted>,
    /// Places whose pod is said to terminate.
    pub terminating: BTreeMap<Spot, Key>,
    /// Endpoints that are no targets.
    pub left_out: BTreeMap<Key, LeftOut>,
    /// Places in the group.
    pub spots: BTreeMap<Spot, SpotState>,
    /// The Service and what became of it.
    pub backend: Backend,
    /// Looks at the group.
    pub looks: Looks,
    /// Registrations.
    pub register: Batches,
    /// Deregistrations.
    pub deregister: Batches,
    /// Quota or cap: no more targets are taken until then.
    pub full: Option<Full>,
    /// The brake on removals.
    pub brake: Brake,
    /// Gates of its pods.
    pub gates: Gates,
    /// Whether most targets turned unhealthy at once, so that gates are left as they are.
    pub fail_open: Option<Duration>,
    /// Whether its namespace may use the group.
    pub authority: Authority,
    /// The ledger of a shared group.
    pub ledger: Ledger,
    /// Whether our finalizer is on it, as far as this process knows.
    pub finalizer: Finalizer,
    /// Its deletion.
    pub farewell: Farewell,
    /// Pods without a gate.
    pub ungated: Ungated,
    /// The status that was written last, until the cache has it.
    pub written: Option<TargetGroupBindingStatus>,
    /// The status being written.
    pub writing: bool,
    /// When the status may be written again.
    pub write_retry: Retry,
    /// When the resolved spec may be written again.
    pub fill_retry: Retry,
    /// Whether the resolved spec is being written.
    pub filling: bool,
    /// What was found to be otherwise than it was left, and is not repaired yet.
    pub drifted: Option<String>,
    /// When a call was last throttled.
    pub throttled_at: Option<Duration>,
    /// What has been said of it in Events, by reason.
    pub said: BTreeMap<&'static str, String>,
}

/// No more targets are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// In AWS's words.
    pub because: String,
    /// When it is tried again.
    pub again_at: Duration,
    /// How often in a row.
    pub times: u32,
}

/// Our finalizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Finalizer {
    /// It was put on, and the cache may not have it yet.
    pub acknowledged: bool,
    /// It is being put on.
    pub in_flight: bool,
    /// When it is tried again.
    pub retry: Retry,
}

/// The Service behind a binding.
#[derive(Debug, Clone, Default)]
pub struct Backend {
    /// Since when the Service, or its port, has not been there.
    pub missing: Option<(Duration, &'static str)>,
    /// Which life of the Service.
    pub service: Option<Uid>,
    /// Its port, as it was when it was last there.
    pub port: Option<ServicePort>,
    /// When another life of it was last seen.
    pub replaced_at: Option<Duration>,
    /// When something was last gone from a list without having been deleted.
    pub swept_at: Option<Duration>,
    /// When this process came to lead. What its lists dropped before it did not take note of.
    pub led_at: Option<Duration>,
}

/// How long a Service or port may be absent before it is said.
const UNSAID: Duration = Duration::from_secs(5);

/// For how long a Service or port may be absent before its targets go.
pub const ABSENCE: Duration = Duration::from_mins(1);

impl Backend {
    /// Whether it has been absent for so long that its targets go.
    pub fn is_given_up(&self, now: Duration) -> bool {
        self.missing.is_some_and(|(since, _)| now.saturating_sub(since) >= ABSENCE)
    }
}

impl Binding {
    /// One that nothing is known of yet.
    pub fn new(record: &BindingRecord, stirred: bool) -> Self {
        Self {
            key: record.meta.key.clone(),
            uid: record.meta.uid.clone(),
            wake: None,
            worked_at: None,
            stale: true,
            stirred,
            spec: Arc::clone(&record.spec),
            resolution: Resolution::Ask,
            group: None,
            asking_group: false,
            group_retry: Retry::default(),
            group_known_at: None,
            group_missing_since: None,
            rival: None,
            wanted: BTreeMap::new(),
            terminating: BTreeMap::new(),
            left_out: BTreeMap::new(),
            spots: BTreeMap::new(),
            backend: Backend::default(),
            looks: Looks::default(),
            register: Batches::default(),
            deregister: Batches::default(),
            full: None,
            brake: Brake::default(),
            gates: Gates::default(),
            fail_open: None,
            authority: Authority::default(),
            ledger: Ledger::default(),
            finalizer: Finalizer::default(),
            farewell: Farewell::default(),
            ungated: Ungated::default(),
            written: None,
            writing: false,
            write_retry: Retry::default(),
            fill_retry: Retry::default(),
            filling: false,
            drifted: None,
            throttled_at: None,
            said: BTreeMap::new(),
        }
    }

    /// What an effect is for.
    pub fn ask(&self, what: What) -> Ask {
        Ask { binding: self.key.clone(), uid: self.uid.clone(), what }
    }

    /// Its group, if it is known and nothing is in the way.
    pub fn facts(&self) -> Option<&Facts> {
        match &self.resolution {
            Resolution::Known(facts) => Some(facts),
            _ => None,
        }
    }

    /// Works on everything that is due; when to come back.
    pub fn work(&mut self, record: &BindingRecord, desk: &mut Desk<'_>) -> Alarm {
        let mut alarm = Alarm::default();
        self.worked_at = Some(desk.now);
        self.resolve(record, desk, &mut alarm);
        self.rival = self.find_rival(record, desk);
        if self.facts().is_some() {
            self.refresh(record, desk);
        }
        if record.meta.deleting {
            self.take_leave(record, desk, &mut alarm);
        } else if let Some(facts) = self.facts().cloned() {
            if self.rival.is_none() {
                self.serve(record, &facts, desk, &mut alarm);
            }
            self.fill(record, &facts, desk, &mut alarm);
        }
        self.report_backend(record, desk, &mut alarm);
        self.report_left_out(desk);
        self.report_ungated(record, desk);
        self.write_status(record, desk, &mut alarm);
        self.spots.retain(|spot, state| self.wanted.contains_key(spot) || !state.is_forgettable(desk.now));
        alarm
    }

    /// What a binding that nothing is in the way of wants done.
    fn serve(&mut self, record: &BindingRecord, facts: &Facts, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        self.keep_finalizer(record, desk, alarm);
        self.check_authority(record, facts, desk, alarm);
        self.keep_ledger(record, facts, desk, alarm);
        self.plan_removals(record, facts, desk, alarm);
        self.plan_registrations(record, facts, desk, alarm);
        self.plan_look(record, facts, desk, alarm);
        self.set_gates(record, facts, desk, alarm);
    }

    /// Whether targets may be put into the group.
    pub fn may_register(&self, record: &BindingRecord, desk: &Desk<'_>) -> bool {
        !record.meta.deleting
            && self.rival.is_none()
            && (record.has_finalizer || self.finalizer.acknowledged)
            && self.authority.allows_registration(desk.settings, desk.now)
    }

    fn keep_finalizer(&mut self, record: &BindingRecord, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        if record.has_finalizer {
            self.finalizer = Finalizer::default();
            return;
        }
        let allowed = self.authority.allows_registration(desk.settings, desk.now);
        if self.finalizer.acknowledged || self.finalizer.in_flight || !allowed {
            return;
        }
        if !self.finalizer.retry.is_due(desk.now) {
            alarm.at(self.finalizer.retry.at);
            return;
        }
        self.finalizer.in_flight = true;
        let (binding, uid) = (self.key.clone(), self.uid.clone());
        let request = Request::SetBindingFinalizer { binding, uid, present: true };
        let because = "its targets have to be deregistered before it may go";
        desk.request(self.ask(What::Finalizer(true)), request, crate::effect::Priority::Register, because);
    }

    /// Says that the Service, or its port, is not there, once that has lasted.
    fn report_backend(&mut self, record: &BindingRecord, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        let Some((since, what)) = self.backend.missing else {
            self.said.remove("BackendNotFound");
            return;
        };
        if desk.now.saturating_sub(since) < UNSAID {
            alarm.at(since + UNSAID);
            return;
        }
        let service = &record.spec.service_ref.name;
        let message = if what == "port" {
            format!("Service {service} does not have the port of spec.serviceRef; targets stay for a minute")
        } else {
            format!("there is no Service {service}; targets stay for a minute")
        };
        self.say(desk, true, "BackendNotFound", message);
    }

    /// Fills what is absent from the spec with what AWS says.
    fn fill(&mut self, record: &BindingRecord, facts: &Facts, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        if self.filling || record.meta.deleting {
            return;
        }
        let Some(spec) = super::group::filled(&record.spec, facts) else { return };
        // A protocol that nobody needs is not worth a write of its own before AWS was asked anyway.
        if self.group.is_none() {
            return;
        }
        if !self.fill_retry.is_due(desk.now) {
            alarm.at(self.fill_retry.at);
            return;
        }
        self.filling = true;
        self.fill_retry.at = desk.now + Duration::from_secs(5);
        let (binding, uid) = (self.key.clone(), self.uid.clone());
        let request = Request::ResolveBinding { binding, uid, spec: Box::new(spec) };
        let because = "fields of the target group that its spec does not have are filled in";
        desk.request(self.ask(What::Resolve), request, crate::effect::Priority::Register, because);
    }

    /// The binding that has the group already. Several may only where all of them share it.
    fn find_rival(&self, record: &BindingRecord, desk: &Desk<'_>) -> Option<Key> {
        let facts = self.facts()?;
        // One with our finalizer has targets in the group, so it goes first; names decide between equals.
        let rank = |record: &BindingRecord| (!record.has_finalizer, record.meta.key.clone());
        let shares = |record: &BindingRecord| record.spec.multi_cluster_target_group == Some(true);
        let others = desk.cluster.bindings_of_group(facts.arn.as_str());
        let mut rivals = others.filter(|other| {
            other.meta.key != record.meta.key && !(shares(record) && shares(other)) && rank(other) < rank(record)
        });
        rivals.next().map(|rival| rival.meta.key.clone())
    }

    /// Publishes an Event about the binding, unless the same was said last for this reason.
    pub fn say(&mut self, desk: &mut Desk<'_>, warning: bool, reason: &'static str, message: String) {
        if self.said.get(reason) == Some(&message) {
            return;
        }
        let about = About::Binding(self.key.clone(), self.uid.clone());
        desk.publish(&self.key, about, warning, reason, message.clone());
        self.said.insert(reason, message);
    }

    /// What is wrong with it as a whole, if something is.
    pub fn problem(&self) -> Option<Problem> {
        if let Resolution::Problem(problem) = &self.resolution {
            return Some(problem.clone());
        }
        self.rival.as_ref().map(|rival| {
            let message = format!(
                "the target group belongs to binding {rival}; use another group, or set multiClusterTargetGroup on both"
            );
            Problem::new("DuplicateTargetGroup", message)
        })
    }

    /// Places where something is registered, or may be.
    pub fn present(&self, now: Duration) -> BTreeSet<&Spot> {
        let present = self.spots.iter().filter(|(_, state)| state.presence(now) == Presence::Present);
        present.map(|(spot, _)| spot).collect()
    }
}
