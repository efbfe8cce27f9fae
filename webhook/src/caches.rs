//! Keeps the snapshot equal to the cluster: one watch for Services, one for bindings.

use std::{
    convert::Infallible,
    fmt::Debug,
    sync::{Arc, PoisonError, RwLock},
};

use daemon::readiness::Condition;
use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Service;
use kube::{
    Api, Client, Resource,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event, watcher},
    },
};
use nlb::{settings::ModelSettings, targetgroupbinding::TargetGroupBinding};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics::Metrics,
    snapshot::{Bindings, CachedBinding, CachedService, Services, Snapshot},
};

/// What reviews read and watches write. It is locked for the time of one decision or of storing one object.
pub type Shared = Arc<RwLock<Snapshot>>;

/// A part of the snapshot.
trait Part: Default + Send + 'static {
    type Object: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static;
    type Cached: Send;
    const KIND: &'static str;

    fn of(snapshot: &mut Snapshot) -> &mut Self;
    fn read(object: Self::Object, settings: &Arc<ModelSettings>) -> Self::Cached;
    fn apply(&mut self, object: Self::Cached);
    fn remove(&mut self, namespace: &str, name: &str);
    fn count(&self) -> usize;
}

impl Part for Services {
    type Object = Service;
    type Cached = CachedService;
    const KIND: &'static str = "Service";

    fn of(snapshot: &mut Snapshot) -> &mut Self {
        &mut snapshot.services
    }

    fn read(service: Service, settings: &Arc<ModelSettings>) -> CachedService {
        CachedService::of(service, settings)
    }

    fn apply(&mut self, service: CachedService) {
        self.apply(service);
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        self.remove(namespace, name);
    }

    fn count(&self) -> usize {
        self.count()
    }
}

impl Part for Bindings {
    type Object = TargetGroupBinding;
    type Cached = CachedBinding;
    const KIND: &'static str = "TargetGroupBinding";

    fn of(snapshot: &mut Snapshot) -> &mut Self {
        &mut snapshot.bindings
    }

    fn read(binding: TargetGroupBinding, _: &Arc<ModelSettings>) -> CachedBinding {
        CachedBinding::of(binding)
    }

    fn apply(&mut self, binding: CachedBinding) {
        self.apply(binding);
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        self.remove(namespace, name);
    }

    fn count(&self) -> usize {
        self.count()
    }
}

/// Follows the Services of the cluster until `stop`.
pub async fn services(
    client: Client,
    shared: Shared,
    synced: Condition,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    Follower::<Services>::new(shared, synced, metrics).run(stream(client), stop).await
}

/// Follows the bindings of the cluster until `stop`.
///
/// A cluster that does not know their kind has none, and is synced: gates are predicted from Services then. As soon as
/// the definition is there, the next attempt finds the bindings.
pub async fn bindings(
    client: Client,
    shared: Shared,
    synced: Condition,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    Follower::<Bindings>::new(shared, synced, metrics).run(stream(client), stop).await
}

type Guarded<K> = DeserializeGuard<K>;

fn stream<K>(client: Client) -> impl Stream<Item = watcher::Result<Event<Guarded<K>>>> + Send
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    watcher(Api::<Guarded<K>>::all(client), watcher::Config::default()).default_backoff()
}

struct Follower<P: Part> {
    shared: Shared,
    settings: Arc<ModelSettings>,
    synced: Condition,
    metrics: Arc<Metrics>,
    /// What a list in progress has shown so far; the snapshot has it when it is complete.
    listed: P,
}

impl<P: Part> Follower<P> {
    fn new(shared: Shared, synced: Condition, metrics: Arc<Metrics>) -> Self {
        let settings = Arc::clone(&shared.read().unwrap_or_else(PoisonError::into_inner).settings);
        Self { shared, settings, synced, metrics, listed: P::default() }
    }

    async fn run(
        mut self,
        events: impl Stream<Item = watcher::Result<Event<Guarded<P::Object>>>> + Send,
        stop: CancellationToken,
    ) -> Result<(), Infallible> {
        let mut events = std::pin::pin!(events);
        while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
            match event {
                Ok(event) => self.take(event),
                Err(error) if is_unknown_kind(&error) => {
                    self.replace(P::default());
                    self.synced.met("the cluster does not know this kind");
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(kind = P::KIND, error, "watching failed, what was known stays, it is tried again");
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, event: Event<Guarded<P::Object>>) {
        match event {
            Event::Init => self.listed = P::default(),
            Event::InitApply(object) => {
                if let Some(cached) = self.readable(object) {
                    self.listed.apply(cached);
                }
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.replace(listed);
                self.synced.met("");
            }
            Event::Apply(object) => {
                let place = place(object.meta());
                match self.readable(object) {
                    Some(cached) => self.change(|part| part.apply(cached)),
                    None => self.change(|part| part.remove(&place.0, &place.1)),
                }
            }
            Event::Delete(object) => {
                let place = place(object.meta());
                self.change(|part| part.remove(&place.0, &place.1));
            }
        }
    }

    /// One object that cannot be read is as good as none, and harms no other.
    fn readable(&self, object: Guarded<P::Object>) -> Option<P::Cached> {
        match object.0 {
            Ok(object) => Some(P::read(object, &self.settings)),
            Err(invalid) => {
                let (namespace, name) = place(&invalid.metadata);
                tracing::warn!(kind = P::KIND, namespace, name, error = invalid.error, "an object cannot be read");
                None
            }
        }
    }

    fn replace(&self, listed: P) {
        let before = self.change(|part| std::mem::replace(part, listed));
        // Outside of the lock, because there may be much to free.
        drop(before);
    }

    fn change<T>(&self, change: impl FnOnce(&mut P) -> T) -> T {
        let mut snapshot = self.shared.write().unwrap_or_else(PoisonError::into_inner);
        let part = P::of(&mut snapshot);
        let result = change(part);
        self.metrics.cached(P::KIND, part.count());
        result
    }
}

fn place(metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn is_unknown_kind(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}
