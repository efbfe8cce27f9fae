//! One Service: reads, plans, carries out one step, and plans again with what the reply said.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Service;
use nlb::{service::LoadBalancerSpec, tags::SERVICE_FINALIZER};

use super::{
    Promise,
    asked::Asked,
    fault::{Failure, may_pass},
    status::{Said, Status},
    view::View,
};
use crate::{
    aws::{Arn, Call, Fault},
    balancers::{
        self, Inputs, Intent, ManagedFields, Observed, Operation, Plan, Problem, Step, Wait, managed::ANNOTATION,
    },
    cluster::{Key, ServiceRecord, Uid},
    effect::{Priority, Request},
};

/// Building that makes no progress for this long keeps no gate closed.
const STALLED: Duration = Duration::from_mins(5);
/// Whatever is waited for, it is looked at again after this.
pub(super) const LONGEST: Duration = Duration::from_mins(1);
/// What was read is old after this, when the Service changes.
const STALE: Duration = Duration::from_secs(30);

/// What is to be sent.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Send {
    Aws(Call, Priority),
    Kubernetes(Request),
}

/// What to send, and why.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) send: Send,
    pub(super) because: String,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Machine {
    pub(super) uid: Uid,
    pub(super) asked: Option<(Arc<Service>, Arc<Asked>)>,
    pub(super) observed: Observed,
    /// When the last complete look at AWS began.
    pub(super) read_at: Option<Duration>,
    pub(super) remembered: ManagedFields,
    /// Nothing can be there yet but what has been observed: no finalizer, record or hostname was found on the Service when
    /// it was first seen, and nothing was forgotten since.
    pub(super) fresh: bool,
    pub(super) finalized: bool,
    /// Since when groups have been out of use.
    pub(super) settling: BTreeMap<Arn, Duration>,
    pub(super) sent: Option<Send>,
    pub(super) due_at: Duration,
    pub(super) attempt: u32,
    /// AWS is not asked again before, unless the Service asks for something else.
    pub(super) retry_at: Duration,
    pub(super) failure: Option<Failure>,
    pub(super) progressed_at: Duration,
    audit_at: Duration,
    auditing: bool,
    /// What was wanted when everything was last in place.
    settled_on: Option<(Arc<LoadBalancerSpec>, Intent)>,
    /// Whether every listener that is wanted has been there.
    built: bool,
    pub(super) status: Status,
    /// Its load balancer is to go.
    leaving: bool,
    /// Names of the bindings that are wanted, and whether the load balancer needs the shared security group.
    pub(super) groups: Vec<Key>,
    pub(super) needs_shared: bool,
    /// Whether it may have it, or come to have it.
    pub(super) may_use_shared: bool,
    pub(super) polls: u32,
    /// Settings that AWS refused, and until when they are not tried again. They are in nobody's way but their own.
    pub(super) refused: Vec<(Call, Failure, Duration)>,
    /// What the API server was told last, and until when its coming back by a watch is waited for.
    pub(super) told: Option<(Request, Duration)>,
}

impl Machine {
    /// A machine for a Service that is ours or bears our finalizer.
    pub(super) fn new(record: &ServiceRecord, now: Duration) -> Self {
        let object = record.object.as_deref();
        let finalized = object.is_some_and(has_finalizer);
        let untouched = object.is_some_and(|object| {
            !has_finalizer(object) && annotation(object).is_none() && super::status::hostname_of(object).is_none()
        });
        Self {
            uid: record.meta.uid.clone(),
            asked: None,
            observed: Observed::default(),
            read_at: None,
            remembered: ManagedFields::default(),
            fresh: untouched,
            finalized,
            settling: BTreeMap::new(),
            sent: None,
            due_at: now,
            attempt: 0,
            retry_at: Duration::ZERO,
            failure: None,
            progressed_at: now,
            audit_at: Duration::MAX,
            auditing: false,
            settled_on: None,
            built: false,
            status: Status::default(),
            leaving: false,
            groups: Vec::new(),
            needs_shared: false,
            may_use_shared: true,
            polls: 0,
            refused: Vec::new(),
            told: None,
        }
    }

    pub(super) fn uid(&self) -> &Uid {
        &self.uid
    }

    /// What is known of bindings of the Service that are not there. Once everything has been built they come again.
    pub(super) fn promise(&self, now: Duration) -> Option<Promise> {
        if self.leaving {
            return None;
        }
        let blocked = self.status.wanted.as_ref().and_then(|said| said.blocked.as_ref());
        Some(match blocked {
            _ if self.built => Promise::Building,
            Some(problem) if !may_pass(problem) => Promise::Failed(problem.to_string()),
            _ if now >= self.progressed_at + STALLED => {
                let why = blocked.map(|problem| format!(": {problem}")).unwrap_or_default();
                Promise::Stalled(format!("building the load balancer has made no progress for 5 minutes{why}"))
            }
            _ => Promise::Building,
        })
    }

    /// When [`Self::promise`] changes, if nothing happens.
    pub(super) fn promise_at(&self, now: Duration) -> Option<Duration> {
        let at = self.progressed_at + STALLED;
        (!self.built && at > now).then_some(at)
    }

    /// What to send next, if anything. When it is to be asked again is in `due_at`.
    pub(super) fn advance(&mut self, record: &ServiceRecord, view: &mut View, now: Duration) -> Option<Act> {
        self.due_at = Duration::MAX;
        if self.sent.is_some() {
            return None;
        }
        let object = Arc::clone(record.object.as_ref()?);
        let act = self.next(record, &object, view, now)?;
        if let (Send::Kubernetes(request), Some((told, until))) = (&act.send, &self.told)
            && request == told
            && now < *until
        {
            self.due_at = *until;
            return None;
        }
        self.sent = Some(act.send.clone());
        Some(act)
    }

    fn next(&mut self, record: &ServiceRecord, object: &Arc<Service>, view: &mut View, now: Duration) -> Option<Act> {
        let asked = self.asked_for(object, view);
        let ours = asked.ours;
        let intent = if ours { Intent::Keep } else { Intent::Remove };
        self.leaving = !ours;
        if !self.built {
            let groups = asked.spec.target_groups.iter();
            self.groups = groups.map(|group| Key::new(&record.meta.key.namespace, &group.name)).collect();
        }
        if intent == Intent::Keep {
            if let Some(problem) = asked.denied.clone() {
                // Nothing is changed on the word of a Service that cannot be right.
                self.needs_shared = false;
                self.say_blocked(problem);
                return self.speak(record, object);
            }
            // Once a watch has shown it, the object alone tells.
            self.finalized &= !has_finalizer(object);
            if !self.finalized && !has_finalizer(object) {
                let request = Request::SetServiceFinalizer {
                    service: record.meta.key.clone(),
                    uid: self.uid.clone(),
                    present: true,
                };
                return act(Send::Kubernetes(request), "everything that is made is to be removed with the Service");
            }
        }
        if view.environment.vpc_id.is_empty() {
            let message = "the VPC of the cluster is not known".to_owned();
            self.say_blocked(Problem::new("VpcUnknown", message, "set --aws-vpc-id"));
            return self.speak(record, object);
        }
        let inputs = self.inputs(record, object, intent, Arc::clone(&asked.spec), view);
        self.refresh(&inputs, view, now);
        if let Some(spoken) = self.failure_says().and_then(|()| self.speak(record, object)) {
            return Some(spoken);
        }
        if now < self.retry_at {
            self.due_at = self.retry_at;
            return None;
        }
        std::mem::swap(&mut self.observed.network, view.network);
        let prepared = balancers::prepare(&inputs, &self.observed);
        let hostname = prepared.as_ref().ok().and_then(|_| balancers::hostname(&inputs, &self.observed));
        std::mem::swap(&mut self.observed.network, view.network);
        let (desired, plan) = match prepared {
            Ok(prepared) => prepared,
            Err(reads) => {
                let priority = if self.auditing { Priority::Drift } else { Priority::LoadBalancers };
                return act(Send::Aws(reads.into_iter().next()?, priority), "to know what is there");
            }
        };
        self.needs_shared = ours && desired.needs_shared_group();
        self.may_use_shared = self.needs_shared || !ours;
        let bindings = desired.bindings.iter();
        self.groups = bindings.map(|binding| Key::new(&binding.namespace, &binding.name)).collect();
        if self.needs_shared && view.shared_group.is_none() {
            // It is being looked for, or made.
            if let Some(problem) = view.shared_problem.clone() {
                self.say_blocked(problem);
            }
            self.due_at = now + LONGEST;
            return self.speak(record, object);
        }
        self.auditing = false;
        if intent == Intent::Remove && plan.is_empty() {
            return self.leave(record, object);
        }
        self.conclude(&inputs, &plan, hostname, view);
        if let Some(spoken) = self.speak(record, object) {
            return Some(spoken);
        }
        let Some(step) = plan.steps.iter().find(|step| !self.is_refused(step, now)) else {
            self.rest(&inputs, &plan, view, now);
            return None;
        };
        self.due_at = now + LONGEST;
        self.take(step, view)
    }

    fn is_refused(&self, step: &Step, now: Duration) -> bool {
        let Operation::Aws(call) = &step.operation else { return false };
        self.refused.iter().any(|(refused, _, until)| refused == call && now < *until)
    }

    /// Carries a step of a plan out.
    fn take(&mut self, step: &Step, view: &View) -> Option<Act> {
        let send = match &step.operation {
            Operation::Aws(call) => Send::Aws(call.clone(), Priority::LoadBalancers),
            Operation::Kubernetes(request) => Send::Kubernetes(request.clone()),
            Operation::Wait(wait) => {
                self.wait(wait, view);
                return None;
            }
        };
        step.ready.then(|| Act { send, because: step.to_string().replace('\n', ";") })
    }

    /// Looks anew at AWS where what is known is too old to act on.
    fn refresh(&mut self, inputs: &Inputs, view: &mut View, now: Duration) {
        let is_old = |at: Option<Duration>| at.is_none_or(|at| now >= at + STALE);
        let changed =
            self.settled_on.as_ref().is_some_and(|(spec, intent)| *intent != inputs.intent || **spec != *inputs.spec);
        if changed {
            self.settled_on = None;
            self.progressed_at = now;
            if is_old(self.read_at) {
                self.forget();
                view.forget_network(Duration::ZERO);
            }
        }
        if now >= self.audit_at {
            self.auditing = true;
            self.audit_at = Duration::MAX;
            self.status.doubt();
            self.forget();
            if self.attempt > 0 {
                // What stands in the way may be a subnet, which somebody has tagged as the condition said.
                view.forget_network(STALE);
            }
        }
        self.read_at.get_or_insert(now);
    }

    /// Forgets what AWS has, so that it is read anew.
    pub(super) fn forget(&mut self) {
        self.observed.forget();
        self.fresh = false;
        self.read_at = None;
    }

    /// What a plan, made when everything had been read, says of how things are.
    fn conclude(&mut self, inputs: &Inputs, plan: &Plan, hostname: Option<String>, view: &View) {
        let creates = plan.steps.iter().any(|step| {
            matches!(
                &step.operation,
                Operation::Aws(Call::CreateLoadBalancer(_) | Call::CreateListener(_) | Call::CreateTargetGroup(_))
            )
        });
        self.built |= !creates && plan.problems.is_empty() && inputs.intent == Intent::Keep;
        let state =
            self.observed.load_balancers.values().flatten().map(|found| (found.name.as_str(), found.state.as_str()));
        let provisioning = state.clone().find(|(_, state)| *state == "provisioning").map(|(name, _)| name.to_owned());
        let failed = state.clone().find(|(_, state)| *state == "failed").map(|(name, _)| name.to_owned());
        let mut blocked = plan.problems.first().or(plan.waiting.first()).cloned();
        if let Some(name) = failed {
            let message = format!("AWS could not make load balancer {name}");
            blocked = Some(Problem::new("Failed", message, "delete the Service and create it again"));
        }
        self.refused.retain(|(call, ..)| {
            plan.steps.iter().any(|step| matches!(&step.operation, Operation::Aws(planned) if planned == call))
        });
        let refused = self.refused.first().map(|(_, failure, _)| failure.problem.clone());
        let shared = view.shared_problem.clone().filter(|_| self.needs_shared);
        let failure =
            self.failure.as_ref().filter(|failure| failure.is_said(self.attempt)).map(|failure| &failure.problem);
        let step = plan.steps.iter().find(|step| !self.is_refused(step, view.now));
        let busy = match (provisioning, step) {
            (Some(name), _) => Some(format!("AWS is provisioning load balancer {name}")),
            (None, Some(step)) => Some(doing(step, inputs.intent)),
            (None, None) => None,
        };
        self.status.wanted = Some(Said {
            hostname,
            active: busy.is_none() && self.built,
            busy,
            blocked: failure.cloned().or(blocked).or(refused).or(shared),
        });
    }

    fn say_blocked(&mut self, problem: Problem) {
        let said = self.status.wanted.get_or_insert_default();
        said.blocked = Some(problem);
    }

    /// Takes a failure into what is said before anything new is known. Says whether there is one to be said.
    fn failure_says(&mut self) -> Option<()> {
        let failure = self.failure.as_ref().filter(|failure| failure.is_said(self.attempt))?;
        let problem = failure.problem.clone();
        self.say_blocked(problem);
        Some(())
    }

    fn speak(&mut self, record: &ServiceRecord, object: &Service) -> Option<Act> {
        let request = self.status.next(record, object)?;
        act(Send::Kubernetes(request), "so that everybody can see how it is")
    }

    fn wait(&mut self, wait: &Wait, view: &View) {
        let now = view.now;
        self.polls += 1;
        let pause = |longest: u64| now + Duration::from_secs((1 << self.polls.min(6)).min(longest));
        match wait {
            Wait::Active(name) => {
                self.due_at = pause(15);
                if self.polls > 1 {
                    self.observed.load_balancers.remove(name);
                    self.due_at = self.due_at.max(now + Duration::from_secs(1));
                }
            }
            Wait::Healthy(_) => {
                self.due_at = now + Duration::from_secs(3);
                self.observed.health.clear();
            }
            Wait::Drained(group) => {
                self.due_at = pause(15);
                self.observed.health.remove(group);
            }
            Wait::Settled(group) => {
                let since = *self.settling.entry(group.clone()).or_insert(now);
                self.due_at = since + view.settled_after();
            }
            // A watch says so.
            Wait::BindingGone(_) | Wait::SharedGroup => self.due_at = now + LONGEST,
        }
    }

    /// Nothing is left to be done: what remains is to look again some time.
    fn rest(&mut self, inputs: &Inputs, plan: &Plan, view: &View, now: Duration) {
        self.failure = None;
        let hindered = !plan.problems.is_empty() || !plan.steps.is_empty() || inputs.intent == Intent::Remove;
        if hindered {
            // Somebody may mend it in AWS. What waits for a word on the Service is told by a watch.
            self.attempt += 1;
            self.due_at = now + Fault::backoff(self.attempt + 2);
            self.audit_at = self.due_at;
            return;
        }
        self.attempt = 0;
        self.settle(inputs, view, now);
        let provisioning = |found: &&crate::aws::LoadBalancer| found.state == "provisioning";
        if let Some(found) = self.observed.load_balancers.values().flatten().find(provisioning) {
            let name = found.name.clone();
            self.wait(&Wait::Active(name.clone()), view);
            self.observed.load_balancers.remove(&name);
        } else {
            self.polls = 0;
            self.due_at = self.audit_at;
        }
    }

    /// Nothing of the Service is left in AWS: nothing of ours is to be left on the Service.
    fn leave(&mut self, record: &ServiceRecord, object: &Service) -> Option<Act> {
        let (key, uid) = (record.meta.key.clone(), self.uid.clone());
        self.failure = None;
        if !record.meta.deleting && super::status::is_said(object) {
            let request = Request::PatchServiceStatus { service: key, uid, hostname: None, conditions: Vec::new() };
            return act(Send::Kubernetes(request), "its load balancer is gone");
        }
        if !record.meta.deleting && annotation(object).is_some_and(|text| text != "{}") {
            let fields = ManagedFields::default().write();
            let request = Request::SetManagedFields { service: key, uid, fields };
            return act(Send::Kubernetes(request), "its load balancer is gone");
        }
        let request = Request::SetServiceFinalizer { service: key, uid, present: false };
        has_finalizer(object)
            .then(|| Act { send: Send::Kubernetes(request), because: "nothing of it is left in AWS".to_owned() })
    }

    fn settle(&mut self, inputs: &Inputs, view: &View, now: Duration) {
        let groups: Vec<_> = inputs.spec.target_groups.iter().collect();
        self.remembered = ManagedFields::of(&inputs.spec, &groups);
        self.settled_on = Some((Arc::clone(&inputs.spec), inputs.intent));
        if self.audit_at == Duration::MAX {
            self.audit_at = now + view.audit_period(&inputs.service);
        }
    }
}

/// What is being done, and what it waits for.
fn doing(step: &Step, intent: Intent) -> String {
    let doing = match intent {
        Intent::Remove => "the load balancer is being removed",
        Intent::Keep => "the load balancer is being built or changed",
    };
    match &step.operation {
        Operation::Wait(wait) => format!("{doing}: it waits until {wait}"),
        Operation::Aws(_) | Operation::Kubernetes(_) => doing.to_owned(),
    }
}

#[expect(clippy::unnecessary_wraps, reason = "what its callers return")]
fn act(send: Send, because: &str) -> Option<Act> {
    Some(Act { send, because: because.to_owned() })
}

pub(super) fn has_finalizer(object: &Service) -> bool {
    object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == SERVICE_FINALIZER)
}

pub(super) fn annotation(object: &Service) -> Option<&str> {
    object.metadata.annotations.as_ref()?.get(ANNOTATION).map(String::as_str)
}
