//! What waits to be done: one queue per request-rate bucket, ordered by priority and then fairly between the objects that
//! it is done for, and let out as the budget allows.
//!
//! Two things can be queued. An *effect* is decided when it is queued ([`Outbox::aws`], [`Outbox::kubernetes`]); a *turn*
//! ([`Outbox::turn`]) is decided when its time has come, from what is known then, and may turn out to be nothing.

mod budget;
mod queue;

use std::{collections::BTreeMap, time::Duration};

pub use budget::TokenBucket;
use queue::Queue;

use crate::{
    aws::{Account, Bucket, Call},
    cluster::Key,
    effect::{Action, Cause, Effect, EffectId, Priority, Request},
    event::Fence,
    settings::{Rates, Settings},
};

/// Which of the machines in here asks, and is told how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asker {
    /// [`crate::targets`].
    Targets,
    /// [`crate::services`].
    Services,
}

/// A leadership: its number, and until when it holds if nothing is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lead {
    /// Its number.
    pub fence: Fence,
    /// On the monotonic clock.
    pub until: Duration,
}

/// A write is not begun when the lease holds for less than this: it could not be finished.
const LEAST_REMAINDER: Duration = Duration::from_secs(1);

/// What is let out.
#[derive(Debug)]
pub enum Slip<T> {
    /// An effect, to be carried out.
    Effect(Box<Effect>),
    /// A turn, to be decided. [`Outbox::send`] makes an effect of it and takes the token; not calling it takes none.
    Turn(T),
}

#[derive(Debug)]
enum Waiting<T> {
    Effect { id: EffectId, asker: Asker, action: Box<Action>, cause: Cause },
    Turn(T),
}

#[derive(Debug)]
struct Lane<T> {
    bucket: Option<TokenBucket>,
    queue: Queue<Waiting<T>>,
}

/// What waits to be done. `T` is what a turn is named by.
#[derive(Debug)]
pub struct Outbox<T> {
    last: u64,
    lead: Option<Lead>,
    rates: Rates,
    call_timeout: Duration,
    /// Requests to the API server have no bucket.
    direct: Queue<Waiting<T>>,
    lanes: BTreeMap<(Account, Bucket), Lane<T>>,
    flights: BTreeMap<EffectId, Flight>,
    #[cfg(feature = "planted-bugs")]
    planted: Option<crate::planted::Bug>,
}

#[derive(Debug)]
struct Flight {
    asker: Asker,
    lane: Option<(Account, Bucket)>,
    sent: bool,
}

impl<T> Outbox<T> {
    /// An empty one.
    pub fn new(settings: &Settings) -> Self {
        Self {
            last: 0,
            lead: None,
            rates: settings.rates,
            call_timeout: settings.call_timeout,
            direct: Queue::default(),
            lanes: BTreeMap::new(),
            flights: BTreeMap::new(),
            #[cfg(feature = "planted-bugs")]
            planted: settings.planted,
        }
    }

    /// Queues a call. It ends, in time, with [`crate::Event::Ended`] of this id, unless it is [cancelled](Self::cancel) or
    /// the leadership ends before it is sent: what was queued then is gone, and everybody begins anew.
    pub fn aws(&mut self, asker: Asker, account: Account, call: Call, priority: Priority, cause: Cause) -> EffectId {
        let id = self.id();
        let lane = (account.clone(), call.bucket());
        self.flights.insert(id, Flight { asker, lane: Some(lane.clone()), sent: false });
        let object = cause.object.clone();
        let waiting = Waiting::Effect { id, asker, action: Box::new(Action::Aws { account, call }), cause };
        self.lane(lane).queue.push(priority, object, waiting);
        id
    }

    /// Queues a request to the API server; as with [`Self::aws`].
    pub fn kubernetes(&mut self, asker: Asker, request: Request, priority: Priority, cause: Cause) -> EffectId {
        let id = self.id();
        self.flights.insert(id, Flight { asker, lane: None, sent: false });
        let object = cause.object.clone();
        let action = Box::new(Action::Kubernetes(request));
        self.direct.push(priority, object, Waiting::Effect { id, asker, action, cause });
        id
    }

    /// Queues a turn at a bucket. Who queues turns sees to it that none is queued twice.
    pub fn turn(&mut self, account: Account, bucket: Bucket, priority: Priority, object: Key, turn: T) {
        self.lane((account, bucket)).queue.push(priority, object, Waiting::Turn(turn));
    }

    /// Takes back what has not been sent. Whether it could be.
    pub fn cancel(&mut self, id: EffectId) -> bool {
        let Some(flight) = self.flights.get(&id) else { return false };
        if flight.sent {
            return false;
        }
        let is_it = |waiting: &Waiting<T>| matches!(waiting, Waiting::Effect { id: other, .. } if *other == id);
        match &flight.lane {
            None => self.direct.remove(is_it),
            Some(lane) => {
                if let Some(lane) = self.lanes.get_mut(lane) {
                    lane.queue.remove(is_it);
                }
            }
        }
        self.flights.remove(&id).is_some()
    }

    /// Makes an effect of a turn that has been let out, takes its token, and begins it.
    pub fn send(
        &mut self,
        asker: Asker,
        account: Account,
        call: Call,
        priority: Priority,
        cause: Cause,
        now: Duration,
    ) -> Effect {
        let id = self.id();
        let lane = (account.clone(), call.bucket());
        self.flights.insert(id, Flight { asker, lane: Some(lane.clone()), sent: true });
        if let Some(bucket) = &mut self.lane(lane).bucket {
            bucket.spend(now);
        }
        self.begin(id, Action::Aws { account, call }, priority, cause, now)
    }

    /// What may be done now, one at a time; nothing if nothing may.
    pub fn next(&mut self, now: Duration) -> Option<Slip<T>> {
        if self.may_write(now)
            && let Some((priority, waiting)) = self.direct.pop()
        {
            return Some(self.let_out(priority, waiting, now));
        }
        let may_write = self.may_write(now);
        let open = |((_, bucket), lane): &(&(Account, Bucket), &mut Lane<T>)| {
            (may_write || is_read(*bucket)) && lane.ready_at().is_some_and(|at| at <= now)
        };
        let (_, lane) = self.lanes.iter_mut().find(open)?;
        let (priority, waiting) = lane.queue.pop()?;
        if let (Waiting::Effect { .. }, Some(bucket)) = (&waiting, &mut lane.bucket) {
            bucket.spend(now);
        }
        Some(self.let_out(priority, waiting, now))
    }

    /// When something may be let out next, if nothing happens. What waits for the lease to be renewed waits for that.
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        self.lead?;
        let may_write = self.may_write(now);
        let direct = (may_write && !self.direct.is_empty()).then_some(Duration::ZERO);
        let lanes = self.lanes.iter().filter(|((_, bucket), _)| may_write || is_read(*bucket));
        lanes.filter_map(|(_, lane)| lane.ready_at()).chain(direct).min()
    }

    /// An effect has ended; says who asked for it. Nothing if nobody did in this leadership.
    pub fn ended(&mut self, id: EffectId, throttled: bool, now: Duration) -> Option<Asker> {
        let flight = self.flights.remove(&id)?;
        if throttled
            && let Some(lane) = flight.lane.and_then(|lane| self.lanes.get_mut(&lane))
            && let Some(bucket) = &mut lane.bucket
        {
            bucket.throttled(now);
        }
        Some(flight.asker)
    }

    /// Begins or prolongs a leadership, or ends it: what is queued is gone then.
    pub fn led(&mut self, lead: Option<Lead>) {
        if self.lead.map(|lead| lead.fence) != lead.map(|lead| lead.fence) {
            self.direct = Queue::default();
            self.lanes.values_mut().for_each(|lane| lane.queue = Queue::default());
            self.flights.clear();
        }
        self.lead = lead;
    }

    /// The last id that was given out: what is sent later has a larger one.
    pub fn last(&self) -> EffectId {
        EffectId(self.last)
    }

    /// How many wait, by account and bucket; requests to the API server have none.
    pub fn queued(&self) -> impl Iterator<Item = (Option<&(Account, Bucket)>, usize)> {
        let lanes = self.lanes.iter().map(|(key, lane)| (Some(key), lane.queue.len()));
        std::iter::once((None, self.direct.len())).chain(lanes)
    }

    /// Tokens left and the most there can be, by account and bucket.
    pub fn levels(&self, now: Duration) -> impl Iterator<Item = (&(Account, Bucket), u32, u32)> {
        self.lanes.iter().filter_map(move |(key, lane)| {
            let bucket = lane.bucket.as_ref()?;
            Some((key, bucket.level(now), bucket.burst()))
        })
    }

    /// How many effects are under way.
    pub fn in_flight(&self) -> usize {
        self.flights.values().filter(|flight| flight.sent).count()
    }

    fn let_out(&mut self, priority: Priority, waiting: Waiting<T>, now: Duration) -> Slip<T> {
        match waiting {
            Waiting::Turn(turn) => Slip::Turn(turn),
            Waiting::Effect { id, asker, action, cause } => {
                self.flights.entry(id).or_insert(Flight { asker, lane: None, sent: true }).sent = true;
                Slip::Effect(Box::new(self.begin(id, *action, priority, cause, now)))
            }
        }
    }

    fn begin(&self, id: EffectId, action: Action, priority: Priority, cause: Cause, now: Duration) -> Effect {
        let deadline = now + self.call_timeout;
        if action.is_read() {
            return Effect { id, action, priority, deadline, fence: None, cause };
        }
        let deadline = self.lead.map_or(deadline, |lead| deadline.min(lead.until));
        let fence = self.lead.map(|lead| lead.fence);
        #[cfg(feature = "planted-bugs")]
        if self.planted == Some(crate::planted::Bug::NoFence) {
            return Effect { id, action, priority, deadline: now + self.call_timeout, fence: None, cause };
        }
        Effect { id, action, priority, deadline, fence, cause }
    }

    fn may_write(&self, now: Duration) -> bool {
        #[cfg(feature = "planted-bugs")]
        if self.planted == Some(crate::planted::Bug::NoFence) {
            return self.lead.is_some();
        }
        self.lead.is_some_and(|lead| lead.until >= now + LEAST_REMAINDER)
    }

    fn id(&mut self) -> EffectId {
        self.last += 1;
        EffectId(self.last)
    }

    fn lane(&mut self, key: (Account, Bucket)) -> &mut Lane<T> {
        let bucket = self.rates.of(key.1);
        self.lanes.entry(key).or_insert_with(|| Lane { bucket: bucket.map(TokenBucket::new), queue: Queue::default() })
    }
}

impl<T> Lane<T> {
    /// When the first of the queue may go. What comes after it is less urgent and leaves a larger reserve.
    fn ready_at(&self) -> Option<Duration> {
        let priority = self.queue.first()?;
        Some(self.bucket.as_ref().map_or(Duration::ZERO, |bucket| bucket.ready_at(reserve(priority, bucket.burst()))))
    }
}

fn is_read(bucket: Bucket) -> bool {
    matches!(bucket, Bucket::Describe | Bucket::Ec2Describe)
}

/// Tokens that are left for what is more urgent.
fn reserve(priority: Priority, burst: u32) -> u32 {
    match priority {
        Priority::Deregister | Priority::Register | Priority::Gates => 0,
        Priority::LoadBalancers => burst / 10,
        Priority::Drift => burst / 2,
    }
}
