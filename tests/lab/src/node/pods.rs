//! Which pods run here: one worker for each pod that is bound to one of the lab's nodes.

use std::{collections::HashMap, sync::Arc};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, Event},
    },
};
use tokio::{
    sync::watch,
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    machine::{Machine, NodeInfo},
    worker::{Update, Worker},
};

type Uid = String;

/// The workers of all pods.
struct Workers {
    machine: Arc<Machine>,
    nodes: HashMap<String, Arc<NodeInfo>>,
    updates: HashMap<Uid, watch::Sender<Update>>,
    tasks: JoinSet<()>,
    uids: HashMap<Id, Uid>,
    /// Pods of a list that is coming in.
    listed: Vec<Uid>,
}

/// Runs every pod of these nodes until `stop`.
pub async fn run(machine: Arc<Machine>, nodes: Vec<Arc<NodeInfo>>, stop: CancellationToken) {
    let pods = Api::<Pod>::all(machine.client.clone());
    // Pods that no node has yet are nobody's here.
    let bound = watcher::Config::default().fields("spec.nodeName!=");
    let mut events = watcher::watcher(pods, bound).default_backoff().boxed();
    let mut workers = Workers {
        machine,
        nodes: nodes.into_iter().map(|node| (node.name.clone(), node)).collect(),
        updates: HashMap::new(),
        tasks: JoinSet::new(),
        uids: HashMap::new(),
        listed: Vec::new(),
    };
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => match event {
                Some(Ok(event)) => workers.apply(event),
                Some(Err(error)) => tracing::debug!(%error, "watch of pods"),
                None => return,
            },
            Some(ended) = workers.tasks.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => {
                        tracing::error!(%error, "the worker of a pod panicked");
                        error.id()
                    }
                };
                if let Some(uid) = workers.uids.remove(&id) {
                    workers.updates.remove(&uid);
                }
            }
        }
    }
}

impl Workers {
    fn apply(&mut self, event: Event<Pod>) {
        match event {
            Event::Apply(pod) => drop(self.present(pod)),
            Event::Delete(pod) => self.gone(&pod.uid().unwrap_or_default()),
            Event::Init => self.listed.clear(),
            Event::InitApply(pod) => {
                let uid = self.present(pod);
                self.listed.push(uid);
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let missed: Vec<_> = self.updates.keys().filter(|uid| !listed.contains(uid)).cloned().collect();
                for uid in &missed {
                    self.gone(uid);
                }
            }
        }
    }

    fn present(&mut self, pod: Pod) -> Uid {
        let uid = pod.uid().unwrap_or_default();
        let pod = Arc::new(pod);
        if let Some(updates) = self.updates.get(&uid) {
            updates.send_replace(Update::Present(pod));
            return uid;
        }
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_ref()).and_then(|name| self.nodes.get(name));
        if let Some(node) = node {
            let (sender, receiver) = watch::channel(Update::Present(Arc::clone(&pod)));
            let worker = Worker::new(Arc::clone(&self.machine), Arc::clone(node), pod, receiver);
            let handle = self.tasks.spawn(worker.run());
            self.uids.insert(handle.id(), uid.clone());
            self.updates.insert(uid.clone(), sender);
        }
        uid
    }

    fn gone(&mut self, uid: &str) {
        if let Some(updates) = self.updates.get(uid) {
            updates.send_replace(Update::Gone);
        }
    }
}
