//! The life of one pod on its node, from its first address to its final delete.

mod probing;
mod starting;
mod stopping;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
    runtime::events::EventType,
};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep_until},
};

use super::{
    address::Addresses,
    echo::Stop,
    machine::{Machine, NodeInfo},
    probe::Kind,
    status::{self, ContainerView, Exit, Observed, Role, State},
    volumes::Volumes,
};

/// How long to wait before another try of what the API or the node could not do.
const RETRY: Duration = Duration::from_secs(1);

/// What the watch says about the pod.
#[derive(Debug, Clone)]
pub enum Update {
    /// Its object.
    Present(Arc<Pod>),
    /// It is not there any more.
    Gone,
}

/// What happens to the containers of a pod.
#[derive(Debug)]
enum Event {
    Exited { slot: usize, run: u32, exit: Exit },
    Probed { slot: usize, run: u32, kind: Kind, success: bool, message: String },
}

/// One container with what the worker needs to drive it.
struct Slot {
    container: Container,
    view: ContainerView,
    running: Option<Running>,
    /// Number of starts so far.
    runs: u32,
    /// Ends in a row, for the wait before the next start.
    crashes: u32,
    /// Not to be started before.
    due: Instant,
}

struct Running {
    since: Instant,
    stop: Stop,
    probes: Vec<AbortHandle>,
}

impl Running {
    fn stop_probes(&mut self) {
        self.probes.drain(..).for_each(|probe| probe.abort());
    }
}

/// Drives one pod. Everything it started ends when its future ends or is dropped.
pub struct Worker {
    machine: Arc<Machine>,
    node: Arc<NodeInfo>,
    pod: Arc<Pod>,
    updates: watch::Receiver<Update>,
    start: Timestamp,
    addresses: Option<Addresses>,
    /// Whether the addresses are taken from the pool for this pod.
    holds_addresses: bool,
    slots: Vec<Slot>,
    volumes: Option<Volumes>,
    tasks: JoinSet<()>,
    events: mpsc::UnboundedSender<Event>,
    inbox: mpsc::UnboundedReceiver<Event>,
    published: Option<PodStatus>,
    /// When to try again what failed.
    retry: Option<Instant>,
    /// Whether the API has the pod no longer.
    gone: bool,
}

impl Worker {
    /// A worker for a pod that is bound to this node.
    pub fn new(machine: Arc<Machine>, node: Arc<NodeInfo>, pod: Arc<Pod>, updates: watch::Receiver<Update>) -> Self {
        let (events, inbox) = mpsc::unbounded_channel();
        let slots = slots(&pod);
        let (tasks, start) = (JoinSet::new(), Timestamp::now());
        Self {
            machine,
            node,
            pod,
            updates,
            start,
            addresses: None,
            holds_addresses: false,
            slots,
            volumes: None,
            tasks,
            events,
            inbox,
            published: None,
            retry: None,
            gone: false,
        }
    }

    /// Runs the pod until it is gone, and gives back what it had.
    pub async fn run(mut self) {
        let finished =
            matches!(self.pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed"));
        if finished {
            // Its status is written; only a finalizer of somebody else may hold it back.
            self.wait_for_deletion().await;
        } else {
            self.live().await;
            self.stop_for_good().await;
        }
        self.delete().await;
        self.give_addresses_back();
        self.machine.logs.remove(self.uid());
    }

    /// Pods of this one's namespace.
    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.machine.client.clone(), &self.pod.namespace().unwrap_or_default())
    }

    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    fn host_network(&self) -> bool {
        self.pod.spec.as_ref().is_some_and(|s| s.host_network == Some(true))
    }

    /// Until the pod is deleted, or all of it has run to completion and then is deleted.
    async fn live(&mut self) {
        let mut sources = self.machine.sources.changes();
        while !self.is_deleted() {
            self.give_addresses().await;
            self.start_due().await;
            self.publish(false).await;
            if self.gone {
                return;
            }
            if self.is_over() {
                return self.finish().await;
            }
            let retry = self.next_wake();
            tokio::select! {
                changed = self.updates.changed() => {
                    self.take_update(changed.is_ok());
                }
                Some(event) = self.inbox.recv() => self.apply(event).await,
                Some(ended) = self.tasks.join_next() => report(ended),
                Ok(()) = sources.changed(), if self.volumes.is_some() => self.refresh_volumes().await,
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                    self.retry = None;
                    self.refresh_volumes().await;
                }
            }
        }
    }

    fn is_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    /// Whether no container will run again by itself.
    fn is_over(&self) -> bool {
        let phase = self.published.as_ref().and_then(|s| s.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    /// Takes the latest update; false once the pod is gone.
    fn take_update(&mut self, watched: bool) -> bool {
        match &*self.updates.borrow_and_update() {
            Update::Present(pod) if watched => {
                if version(pod) >= version(&self.pod) {
                    self.pod = Arc::clone(pod);
                }
                true
            }
            _ => {
                self.gone = true;
                false
            }
        }
    }

    async fn wait_for_deletion(&mut self) {
        while !self.is_deleted() && !self.gone {
            let watched = self.updates.changed().await.is_ok();
            self.take_update(watched);
        }
    }

    /// The pod has completed: its sidecars end, its addresses are free, its object stays.
    async fn finish(&mut self) {
        self.stop_containers().await;
        self.publish(false).await;
        self.give_addresses_back();
        self.wait_for_deletion().await;
    }

    fn next_wake(&self) -> Option<Instant> {
        let starts = self.slots.iter().filter(|s| s.running.is_none() && self.may_start(s)).map(|s| s.due);
        let renewal = self.volumes.as_ref().and_then(Volumes::next_renewal);
        starts.chain(self.retry).chain(renewal).min()
    }

    async fn give_addresses(&mut self) {
        if self.addresses.is_some() {
            return;
        }
        if self.host_network() {
            self.addresses = Some(self.node.addresses);
            return;
        }
        match self.machine.take_addresses(&self.node) {
            Ok(addresses) => {
                self.addresses = Some(addresses);
                self.holds_addresses = true;
            }
            Err(e) => {
                self.warn("FailedCreatePodSandBox", &e.to_string()).await;
                self.retry_later();
            }
        }
    }

    /// Once only: after it another pod may have the addresses, while this one's status still shows them.
    fn give_addresses_back(&mut self) {
        if let Some(addresses) = self.addresses.filter(|_| std::mem::take(&mut self.holds_addresses)) {
            self.machine.release_addresses(&self.node, addresses);
        }
    }

    fn retry_later(&mut self) {
        self.retry = Some(Instant::now() + RETRY);
    }

    async fn apply(&mut self, event: Event) {
        match event {
            Event::Exited { slot, run, exit } => self.exited(slot, run, exit),
            Event::Probed { slot, run, kind, success, message } => self.probed(slot, run, kind, success, message).await,
        }
    }

    /// Writes the status if it differs from what was written last.
    async fn publish(&mut self, stopped: bool) {
        let views: Vec<_> = self.slots.iter().map(|s| s.view.clone()).collect();
        let observed =
            Observed { containers: &views, pod: self.addresses, host: self.node.addresses, start: self.start, stopped };
        let status = status::compute(&self.pod, &observed, Timestamp::now());
        if self.published.as_ref() == Some(&status) {
            return;
        }
        // The UID makes the patch fail on a pod that has replaced this one under its name.
        let patch = json!({"metadata": {"uid": self.uid()}, "status": status});
        match self.api().patch_status(&self.pod.name_any(), &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(pod) => {
                self.pod = Arc::new(pod);
                self.published = Some(status);
            }
            // Gone or replaced: the watch says so in a moment.
            Err(kube::Error::Api(e)) if matches!(e.code, 404 | 409 | 422) => self.published = Some(status),
            Err(error) => {
                tracing::warn!(pod = self.pod.name_any(), %error, "status not written, trying again");
                self.retry_later();
            }
        }
    }

    async fn warn(&self, reason: &str, note: &str) {
        self.machine.event(&self.pod, EventType::Warning, reason, note).await;
    }
}

fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a task of a pod panicked");
    }
}

/// Resource versions grow; one that is no number counts as oldest.
fn version(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_ref().and_then(|v| v.parse().ok()).unwrap_or_default()
}

fn slots(pod: &Pod) -> Vec<Slot> {
    let Some(spec) = &pod.spec else { return Vec::new() };
    let init = spec.init_containers.iter().flatten().map(|container| {
        let sidecar = container.restart_policy.as_deref() == Some("Always");
        (container, if sidecar { Role::Sidecar } else { Role::Init })
    });
    let main = spec.containers.iter().map(|container| (container, Role::Main));
    init.chain(main)
        .map(|(container, role)| Slot {
            container: container.clone(),
            view: ContainerView {
                name: container.name.clone(),
                image: container.image.clone().unwrap_or_default(),
                role,
                state: State::Waiting {
                    reason: if role == Role::Main { "ContainerCreating" } else { "PodInitializing" }.to_owned(),
                    message: String::new(),
                },
                last: None,
                restarts: 0,
                started: false,
                ready: false,
            },
            running: None,
            runs: 0,
            crashes: 0,
            due: Instant::now(),
        })
        .collect()
}
