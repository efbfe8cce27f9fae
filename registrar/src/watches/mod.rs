//! Watches: one for each kind, whose objects become records on the way and are dropped.
//!
//! A list that begins anew takes nothing away until it is complete. A kind that the cluster does not know, or does not show
//! us, is said to be absent and asked for again: it ends nothing.

mod kinds;

use std::{collections::HashMap, convert::Infallible, time::Duration};

use daemon::readiness::Condition;
use futures::{Stream, StreamExt as _};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        core::v1::{Namespace, Node, Pod, Service},
        discovery::v1::EndpointSlice,
    },
};
use kube::{
    Api, Client, Resource,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        utils::{Backoff, ResetTimerBackoff},
        watcher::{self, watcher},
    },
};
use nlb::targetgroupbinding::TargetGroupBinding;
use registrar_core::{
    Event, Settings,
    cluster::{Key, Kind, Record},
    event::Watched,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::kinds::{Arrives, Read};
use crate::{kubernetes::words, metrics::Metrics};

/// The first wait before a watch is tried again.
const FIRST_WAIT: Duration = Duration::from_millis(400);
/// The longest wait before a watch is tried again: an API server that is back is heard within ten seconds.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What all watches have in common.
#[derive(Clone)]
pub struct Watches {
    /// How the cluster is read.
    pub client: Client,
    /// The one namespace to look at; all of them if there is none.
    pub namespace: Option<String>,
    /// What records depend on.
    pub settings: Settings,
    /// Where events go. It is bounded: a watch that is faster than decisions waits.
    pub events: mpsc::Sender<Event>,
    /// What is counted.
    pub metrics: Metrics,
    /// When to end.
    pub stop: CancellationToken,
}

/// What follows a kind.
type Task = futures::future::BoxFuture<'static, Result<(), Infallible>>;

impl Watches {
    /// Follows one kind until shutdown. `synced` is met when its first list is complete.
    pub fn follow(self, kind: Kind, synced: Condition) -> Task {
        match kind {
            Kind::Service => Box::pin(self.run(self.namespaced::<Service>(), synced)),
            Kind::Binding => Box::pin(self.run(self.namespaced::<DeserializeGuard<TargetGroupBinding>>(), synced)),
            Kind::Slice => Box::pin(self.run(self.namespaced::<EndpointSlice>(), synced)),
            Kind::Pod => Box::pin(self.run(self.namespaced::<Pod>(), synced)),
            Kind::Node => {
                Box::pin(self.run((Api::<Node>::all(self.client.clone()), watcher::Config::default()), synced))
            }
            Kind::Namespace => Box::pin(self.run(self.namespaces(), synced)),
        }
    }

    fn namespaced<K>(&self) -> (Api<K>, watcher::Config)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        let api = match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        (api, watcher::Config::default())
    }

    fn namespaces(&self) -> (Api<Namespace>, watcher::Config) {
        let config = watcher::Config::default();
        let config = match &self.namespace {
            Some(namespace) => config.fields(&format!("metadata.name={namespace}")),
            None => config,
        };
        (Api::all(self.client.clone()), config)
    }

    fn run<K: Arrives>(
        &self,
        (api, config): (Api<K>, watcher::Config),
        synced: Condition,
    ) -> impl Future<Output = Result<(), Infallible>> + Send + 'static {
        let follower = Follower::<K>::new(self.clone(), synced);
        follower.run(watcher(api, config).backoff(backoff()))
    }
}

fn backoff() -> impl Backoff {
    ResetTimerBackoff::new(Waits { next: FIRST_WAIT }, Duration::from_mins(1))
}

/// Waits that double up to the longest.
struct Waits {
    next: Duration,
}

impl Iterator for Waits {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let next = self.next;
        self.next = (next * 2).min(LONGEST_WAIT);
        Some(next)
    }
}

impl Backoff for Waits {
    fn reset(&mut self) {
        self.next = FIRST_WAIT;
    }
}

/// Turns what one watch says into events.
struct Follower<K> {
    watches: Watches,
    synced: Condition,
    /// Whether a list has been complete once: what is known stays then, whatever happens to the watch.
    listed: bool,
    /// What was said last of a kind that is absent.
    absent: Option<String>,
    /// Last readable state of objects, for kinds whose objects may become unreadable.
    readable: HashMap<Key, Record>,
    kind: std::marker::PhantomData<K>,
}

impl<K: Arrives> Follower<K> {
    fn new(watches: Watches, synced: Condition) -> Self {
        let (listed, absent, readable) = (false, None, HashMap::new());
        Self { watches, synced, listed, absent, readable, kind: std::marker::PhantomData }
    }

    async fn run(
        mut self,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send,
    ) -> Result<(), Infallible> {
        let stop = self.watches.stop.clone();
        let mut events = std::pin::pin!(events);
        while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
            let watched = match event {
                Ok(event) => self.read(event),
                Err(error) => self.failed(&error),
            };
            if let Some(watched) = watched
                // The receiver is gone: the process ends.
                && stop.run_until_cancelled(self.watches.events.send(Event::Watched(watched))).await.is_none()
            {
                break;
            }
        }
        Ok(())
    }

    fn read(&mut self, event: watcher::Event<K>) -> Option<Watched> {
        match event {
            watcher::Event::Init => Some(Watched::Restarted(K::KIND)),
            watcher::Event::InitApply(object) | watcher::Event::Apply(object) => self.applied(object),
            watcher::Event::InitDone => {
                (self.listed, self.absent) = (true, None);
                self.synced.met("");
                Some(Watched::Listed(K::KIND))
            }
            watcher::Event::Delete(object) => {
                let (key, uid) = (kinds::key(object.meta()), kinds::uid(object.meta()));
                self.readable.remove(&key);
                Some(Watched::Deleted(K::KIND, key, uid))
            }
        }
    }

    fn applied(&mut self, object: K) -> Option<Watched> {
        match object.read(&self.watches.settings) {
            Read::Record(record) => {
                if K::MAY_BE_UNREADABLE {
                    self.readable.insert(record.meta().key.clone(), record.clone());
                }
                Some(Watched::Applied(record))
            }
            Read::Nothing => None,
            // It is as it was when it could be read last. It is not gone: its targets stay.
            Read::Unreadable { key, error } => {
                tracing::warn!(kind = ?K::KIND, namespace = &*key.namespace, name = &*key.name, error, "an object cannot be read");
                self.watches.metrics.unreadable(K::KIND);
                self.readable.get(&key).cloned().map(Watched::Applied)
            }
        }
    }

    fn failed(&mut self, error: &watcher::Error) -> Option<Watched> {
        self.watches.metrics.watch_failed(K::KIND);
        tracing::warn!(kind = ?K::KIND, error = said(error), "watching failed, what was known stays, it is tried again");
        let words = absence(error).filter(|_| !self.listed)?;
        if self.absent.as_ref() == Some(&words) {
            return None;
        }
        self.synced.met(format!("absent: {words}"));
        self.absent = Some(words.clone());
        Some(Watched::Absent(K::KIND, words))
    }
}

fn said(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => words(error),
        watcher::Error::WatchError(status) => format!("{} {}", status.code, status.message),
        error @ watcher::Error::NoResourceVersion => error.to_string(),
    }
}

/// Whether the cluster does not know the kind, or does not show it to us.
fn absence(error: &watcher::Error) -> Option<String> {
    let watcher::Error::InitialListFailed(kube::Error::Api(status)) = error else { return None };
    match status.code {
        404 => Some("the cluster does not know this kind; remedy: install its definition".to_owned()),
        403 => Some(format!("{}; remedy: grant it, or switch off the feature that needs it", status.message)),
        _ => None,
    }
}
