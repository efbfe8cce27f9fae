//! Secrets and `ConfigMaps` as the API has them now, for environments and volumes.

use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, Client,
    runtime::{
        WatchStreamExt as _,
        reflector::{self, ObjectRef, Store, store::Writer},
        watcher,
    },
};
use tokio::sync::watch;

use super::environment::Lookup;

/// Views of all Secrets and `ConfigMaps`.
pub struct Sources {
    secrets: Store<Secret>,
    config_maps: Store<ConfigMap>,
    changes: watch::Sender<u64>,
}

/// What [`Sources::run`] fills the views with.
pub struct Feeds {
    secrets: Writer<Secret>,
    config_maps: Writer<ConfigMap>,
}

impl Sources {
    /// Empty views, and what fills them.
    pub fn new() -> (Self, Feeds) {
        let (secrets, secrets_writer) = reflector::store();
        let (config_maps, config_maps_writer) = reflector::store();
        let changes = watch::Sender::new(0);
        (Self { secrets, config_maps, changes }, Feeds { secrets: secrets_writer, config_maps: config_maps_writer })
    }

    /// Sees every change of any object.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Keeps the views up to date for as long as it is polled. Errors of the watches are retried.
    pub async fn run(self: Arc<Self>, client: Client, feeds: Feeds) {
        let secrets = watcher(Api::<Secret>::all(client.clone()), watcher::Config::default())
            .default_backoff()
            .reflect(feeds.secrets)
            .map_ok(drop);
        let config_maps = watcher(Api::<ConfigMap>::all(client), watcher::Config::default())
            .default_backoff()
            .reflect(feeds.config_maps)
            .map_ok(drop);
        let mut events = stream::select(secrets.boxed(), config_maps.boxed());
        while let Some(event) = events.next().await {
            match event {
                Ok(()) => self.changes.send_modify(|n| *n += 1),
                Err(e) => tracing::debug!(error = %e, "watch of secrets and config maps"),
            }
        }
    }
}

impl Lookup for Sources {
    fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
        self.secrets.get(&ObjectRef::new(name).within(namespace))
    }

    fn config_map(&self, namespace: &str, name: &str) -> Option<Arc<ConfigMap>> {
        self.config_maps.get(&ObjectRef::new(name).within(namespace))
    }
}
