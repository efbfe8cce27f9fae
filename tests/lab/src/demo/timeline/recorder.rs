//! Follows a rollout: watches the API, and reads the emulator's log afterwards.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufRead as _, BufReader},
    path::{Path, PathBuf},
};

use futures::StreamExt as _;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        coordination::v1::Lease,
        core::v1::{Pod, Secret},
    },
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Mark, Timeline, now,
    pods::{PodView, Pods},
    targets::{Clock, Targets},
};

/// Why there is no timeline.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The emulator's log.
    #[error("read the log {0}: {1}")]
    Log(PathBuf, #[source] io::Error),
    /// A watch panicked; the panic's message is on standard error.
    #[error("a watch of the recorder panicked")]
    Panicked,
}

/// What was seen, and when.
#[derive(Debug)]
enum Seen {
    Pod(PodView),
    PodGone(String),
    Mark(String),
}

/// A recording under way. Dropping it ends it.
pub struct Recorder {
    stop: CancellationToken,
    watches: JoinSet<Vec<(f64, Seen)>>,
    log: PathBuf,
    clock: Clock,
}

impl Recorder {
    /// Follows the pods of `namespace`, and leases and certificates of Sluice in `own`, from now on.
    pub fn start(client: &Client, namespace: &str, own: &str, log: &Path, clock: Clock) -> Self {
        let stop = CancellationToken::new();
        let mut watches = JoinSet::new();
        watches.spawn(watch(Api::<Pod>::namespaced(client.clone(), namespace), stop.clone(), pod));
        let mut holders = BTreeMap::new();
        watches.spawn(watch(Api::namespaced(client.clone(), own), stop.clone(), move |event| {
            news(&mut holders, event, holder).map(|holder| Seen::Mark(format!("leader {holder}")))
        }));
        let mut certificates = BTreeMap::new();
        watches.spawn(watch(Api::namespaced(client.clone(), own), stop.clone(), move |event| {
            news(&mut certificates, event, certificate).map(|_| Seen::Mark("certificate renewed".to_owned()))
        }));
        Self { stop, watches, log: log.to_owned(), clock }
    }

    /// Ends the recording.
    pub async fn finish(mut self) -> Result<Timeline, Error> {
        self.stop.cancel();
        let mut seen = Vec::new();
        while let Some(part) = self.watches.join_next().await {
            seen.extend(part.map_err(|_| Error::Panicked)?);
        }
        seen.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut pods, mut marks) = (Pods::default(), Vec::new());
        for (at, what) in seen {
            match what {
                Seen::Pod(pod) => pods.see(at, pod),
                Seen::PodGone(uid) => pods.gone(at, &uid),
                Seen::Mark(what) => marks.push(Mark { at, what }),
            }
        }
        let mut targets = Targets::new(self.clock);
        let failed = |e| Error::Log(self.log.clone(), e);
        // From its beginning: what the targets were before says what they were when the recording began.
        let file = File::open(&self.log).map_err(failed)?;
        for line in BufReader::new(file).lines() {
            targets.read(&line.map_err(failed)?);
        }
        Ok(Timeline { pods: pods.finish(), targets: targets.finish(), marks })
    }
}

/// Collects what `see` makes of each event until `stop`.
async fn watch<K>(
    api: Api<K>,
    stop: CancellationToken,
    mut see: impl FnMut(&Event<K>) -> Option<Seen>,
) -> Vec<(f64, Seen)>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    let mut events = watcher::watcher(api, watcher::Config::default()).default_backoff().boxed();
    let mut seen = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return seen,
            event = events.next() => match event {
                // An error is followed by another try, which lists everything anew.
                Some(event) => seen.extend(event.ok().and_then(|event| see(&event)).map(|what| (now(), what))),
                None => return seen,
            }
        }
    }
}

fn pod(event: &Event<Pod>) -> Option<Seen> {
    match event {
        Event::Apply(pod) | Event::InitApply(pod) => Some(Seen::Pod(PodView::of(pod))),
        Event::Delete(pod) => Some(Seen::PodGone(pod.uid().unwrap_or_default())),
        Event::Init | Event::InitDone => None,
    }
}

/// The value of an object, if it is another one than when it was last seen. The first is not news.
fn news<K: Resource, V: PartialEq + Clone>(
    known: &mut BTreeMap<String, V>,
    event: &Event<K>,
    value: impl Fn(&K) -> Option<V>,
) -> Option<V> {
    let (Event::Apply(object) | Event::InitApply(object)) = event else { return None };
    let value = value(object)?;
    let before = known.insert(object.name_any(), value.clone())?;
    (before != value).then_some(value)
}

fn holder(lease: &Lease) -> Option<String> {
    lease.spec.as_ref()?.holder_identity.clone().filter(|holder| !holder.is_empty())
}

fn certificate(secret: &Secret) -> Option<Vec<u8>> {
    Some(secret.data.as_ref()?.get("tls.crt")?.0.clone())
}
