//! Carries effects out: many at once, each with its deadline, the most urgent first, and every one with an answer.
//!
//! The order of what concerns one target group is the core's: it asks for one thing at a time. Here is no order but that
//! of priority among what waits, and no attempt is repeated: when and whether to try again is the core's budget.

pub mod standing;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use registrar_core::{
    Effect, Event,
    aws::Fault,
    effect::{Action, EffectId, Priority, Request},
    event::{Denial, Outcome},
};
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::timeout,
};

use self::standing::{Barred, CALL, allowance};
use crate::{aws::Port, clock::Clock, kubernetes::Cluster, leadership::Standing, metrics::Metrics};

/// What effects are carried out with.
pub struct Ports {
    /// AWS.
    pub aws: Arc<dyn Port>,
    /// The API server.
    pub cluster: Cluster,
    /// Whether this process leads.
    pub standing: watch::Receiver<Standing>,
    /// The time.
    pub clock: Clock,
    /// What is counted.
    pub metrics: Metrics,
}

/// Effects of one lane wait for each other only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Aws,
    Kubernetes,
    /// Events for people, which must not delay anything else.
    Notices,
}

impl Lane {
    const ALL: [Self; 3] = [Self::Aws, Self::Kubernetes, Self::Notices];

    fn of(action: &Action) -> Self {
        match action {
            Action::Aws { .. } => Self::Aws,
            Action::Kubernetes(Request::Publish(_)) => Self::Notices,
            Action::Kubernetes(_) => Self::Kubernetes,
        }
    }

    /// How many at once. Events are written one by one while the API server has something to do for gates.
    fn width(self, is_api_server_busy: bool) -> usize {
        match self {
            Self::Aws => 32,
            Self::Kubernetes => 48,
            Self::Notices if is_api_server_busy => 1,
            Self::Notices => 4,
        }
    }
}

#[derive(Default)]
struct Queue {
    waiting: BTreeMap<(Priority, EffectId), Effect>,
    running: usize,
}

/// What is asked for and not ended.
pub struct Executor {
    ports: Arc<Ports>,
    queues: BTreeMap<Lane, Queue>,
    running: JoinSet<(Lane, EffectId, Outcome)>,
}

impl Executor {
    /// One that has nothing to do.
    pub fn new(ports: Ports) -> Self {
        let queues = Lane::ALL.map(|lane| (lane, Queue::default())).into();
        Self { ports: Arc::new(ports), queues, running: JoinSet::new() }
    }

    /// Begins an effect, or keeps it until there is room.
    pub fn submit(&mut self, effect: Effect) {
        let lane = Lane::of(&effect.action);
        self.queues.entry(lane).or_default().waiting.insert((effect.priority, effect.id), effect);
        self.begin(lane);
    }

    fn begin(&mut self, lane: Lane) {
        let is_busy = self.queues.get(&Lane::Kubernetes).is_some_and(|queue| queue.running > 0);
        let queue = self.queues.entry(lane).or_default();
        while queue.running < lane.width(is_busy)
            && let Some((_, effect)) = queue.waiting.pop_first()
        {
            queue.running += 1;
            let ports = Arc::clone(&self.ports);
            self.running.spawn(async move {
                let id = effect.id;
                (lane, id, ports.carry_out(effect).await)
            });
        }
        self.ports.metrics.effects(queue.waiting.len(), self.running.len());
    }

    /// The next effect that ends, as the event that says so; never, while none is under way. Fails if one panicked.
    pub async fn ended(&mut self) -> Result<Event, JoinError> {
        let Some(ended) = self.running.join_next().await else { return std::future::pending().await };
        let (lane, id, outcome) = ended?;
        if let Some(queue) = self.queues.get_mut(&lane) {
            queue.running = queue.running.saturating_sub(1);
        }
        self.begin(lane);
        if lane == Lane::Kubernetes {
            self.begin(Lane::Notices);
        }
        Ok(Event::Ended { id, outcome })
    }

    /// Begins nothing of what still waits. Each is answered as not sent.
    pub fn drop_waiting(&mut self) -> Vec<Event> {
        let waiting = self.queues.values_mut().flat_map(|queue| std::mem::take(&mut queue.waiting).into_values());
        waiting
            .map(|effect| Event::Ended {
                id: effect.id,
                outcome: not_sent(&effect.action, "the process ends".to_owned()),
            })
            .collect()
    }

    /// Whether nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.running.is_empty()
    }
}

fn not_sent(action: &Action, why: String) -> Outcome {
    match action {
        Action::Aws { .. } => Outcome::Aws(Err(Fault::NotSent(why))),
        Action::Kubernetes(_) => Outcome::Kubernetes(Err(Denial::NotSent(why))),
    }
}

impl Ports {
    /// Carries one effect out, and answers in time whatever happens.
    async fn carry_out(&self, effect: Effect) -> Outcome {
        let begun = self.clock.now();
        let allowed = allowance(*self.standing.borrow(), effect.fence, effect.deadline, begun);
        let outcome = match allowed {
            Ok(allowed) => self.send(&effect, begun, allowed).await,
            Err(barred) => not_sent(&effect.action, barred.to_string()),
        };
        let took = self.clock.now().saturating_sub(begun);
        self.metrics.ended(&effect.action, &outcome, took);
        log(&effect, &outcome, took, allowed.err());
        outcome
    }

    async fn send(&self, effect: &Effect, begun: Duration, allowed: Duration) -> Outcome {
        match &effect.action {
            Action::Aws { account, call } => {
                let allowed = if call.is_read() { allowed } else { allowed.min(CALL) };
                let deadline = self.clock.instant(begun + allowed).into_std();
                let answer = timeout(allowed, self.aws.call(account, call, deadline)).await;
                Outcome::Aws(answer.unwrap_or_else(|_| Err(Fault::Unknown(format!("no reply within {allowed:?}")))))
            }
            Action::Kubernetes(request) => {
                let answer = timeout(allowed, self.cluster.ask(request)).await;
                Outcome::Kubernetes(answer.unwrap_or_else(|_| Err(Denial::Unknown(format!("within {allowed:?}")))))
            }
        }
    }
}

/// One line for every write to AWS, with its cause, and for whatever failed.
fn log(effect: &Effect, outcome: &Outcome, took: Duration, barred: Option<Barred>) {
    let (namespace, name) = (&*effect.cause.object.namespace, &*effect.cause.object.name);
    let (because, id, fence) = (&effect.cause.because, effect.id.0, effect.fence);
    match (&effect.action, outcome) {
        (Action::Aws { account, call }, Outcome::Aws(answer)) if !call.is_read() => {
            let result = answer.as_ref().err().map(ToString::to_string);
            tracing::info!(
                target: "registrar::aws_write",
                effect = id,
                operation = call.operation(),
                ?account,
                ?call,
                namespace,
                name,
                because,
                fence,
                seconds = took.as_secs_f64(),
                sent = barred.is_none(),
                fault = result,
                "write to AWS"
            );
        }
        // A lookup that finds nothing is an answer.
        (Action::Aws { .. }, Outcome::Aws(Err(fault)))
            if fault.code().is_some_and(|code| code.ends_with("NotFound")) => {}
        (Action::Aws { account, call }, Outcome::Aws(Err(fault))) => {
            tracing::warn!(effect = id, operation = call.operation(), ?account, namespace, name, because, %fault, "read of AWS failed");
        }
        // Thousands may wait at once, and what waited for too long is decided anew: metrics count them.
        (Action::Kubernetes(request), Outcome::Kubernetes(Err(denial)))
            if !is_of_life(denial) && barred != Some(Barred::Late) =>
        {
            tracing::warn!(effect = id, request = crate::kubernetes::name(request), namespace, name, because, %denial, "request to the API server failed");
        }
        (Action::Kubernetes(request), Outcome::Kubernetes(answer)) => {
            let denial = answer.as_ref().err().map(ToString::to_string);
            tracing::debug!(
                effect = id,
                request = crate::kubernetes::name(request),
                namespace,
                name,
                because,
                denial,
                seconds = took.as_secs_f64(),
                "request to the API server"
            );
        }
        _ => {}
    }
}

/// Whether such a denial is what happens where objects come and go.
fn is_of_life(denial: &Denial) -> bool {
    matches!(denial, Denial::NotFound | Denial::Conflict | Denial::Replaced)
}
