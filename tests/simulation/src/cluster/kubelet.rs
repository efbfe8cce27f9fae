//! Pods: what the kubelet does with each, from an address out of a small pool to the end of its process.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Duration,
};

use registrar_core::cluster::{GateRecord, GateStatus, Key, Kind, Meta, PodRecord, Record, Uid};

use crate::{
    fact::Fact,
    world::{Happening, World},
};

/// The process behind a pod.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) key: Key,
    pub(crate) workload: usize,
    pub(crate) generation: u32,
    pub(crate) address: Option<Ipv4Addr>,
    /// Whether it answers whoever connects.
    pub(crate) answers: bool,
    /// Whether its containers pass their own readiness probes.
    pub(crate) containers_ready: bool,
    /// Whether it was told to end.
    pub(crate) ending: bool,
}

/// All processes, and the addresses that they share.
#[derive(Debug, Default)]
pub(crate) struct Kubelet {
    pub(crate) processes: BTreeMap<Uid, Process>,
    /// Addresses that nobody has, the one that was given back last first.
    pub(crate) free: VecDeque<Ipv4Addr>,
    pub(crate) held: BTreeMap<Ipv4Addr, Uid>,
    created: u64,
}

impl World {
    /// Creates a pod of a workload.
    pub(crate) fn create_pod(&mut self, workload: usize, name: &str) {
        let plan = &self.workloads[workload];
        let (key, generation) = (crate::cluster::key(&plan.namespace, name), plan.generation);
        let mut gates: Vec<GateRecord> = Vec::new();
        if plan.gated {
            let bindings = self.etcd.bindings().filter(|b| {
                b.meta.key.namespace == key.namespace && b.spec.service_ref.name == plan.service && !b.meta.deleting
            });
            gates.extend(bindings.map(|b| GateRecord { binding: b.meta.key.name.clone(), condition: None }));
        }
        self.kubelet.created += 1;
        let uid = Uid(Arc::from(format!("uid-{}", self.kubelet.created)));
        let process = Process {
            key: key.clone(),
            workload,
            generation,
            address: None,
            answers: false,
            containers_ready: false,
            ending: false,
        };
        self.kubelet.processes.insert(uid.clone(), process);
        let created = self.scene.epoch + i64::try_from(self.now.as_secs()).unwrap_or_default();
        let meta = Meta { key, uid: uid.clone(), revision: 0, deleting: false };
        let node = Some(Arc::from("node-a"));
        self.store(Record::Pod(PodRecord { node, created, ..crate::cluster::created(meta, gates) }));
        let after = self.choices.millis(100, 800);
        self.after(after, Happening::PodAddress(uid));
    }

    /// The pod's network is made, once an address is free.
    pub(crate) fn pod_address(&mut self, uid: &Uid) {
        let Some(process) = self.kubelet.processes.get_mut(uid) else { return };
        if process.ending {
            return;
        }
        let count = u32::try_from(self.kubelet.free.len()).unwrap_or(u32::MAX);
        if count == 0 {
            self.after(Duration::from_millis(300), Happening::PodAddress(uid.clone()));
            return;
        }
        let index = self.choices.below(count) as usize;
        let Some(address) = self.kubelet.free.remove(index) else { return };
        process.address = Some(address);
        self.kubelet.held.insert(address, uid.clone());
        self.tell(&Fact::Held { address, by: Some(uid) });
        if self.choices.chance(300) {
            // The address is shown before the containers run.
            self.change_pod(uid, |pod| pod.addresses = vec![IpAddr::V4(address)]);
        }
        let after = self.choices.millis(200, 1500);
        self.after(after, Happening::PodStarts(uid.clone()));
    }

    /// The pod's containers run and are ready.
    pub(crate) fn pod_starts(&mut self, uid: &Uid) {
        let Some(process) = self.kubelet.processes.get_mut(uid) else { return };
        let Some(address) = process.address else { return };
        if process.ending {
            return;
        }
        process.answers = true;
        process.containers_ready = true;
        self.change_pod(uid, |pod| {
            pod.addresses = vec![IpAddr::V4(address)];
            pod.containers_ready = true;
        });
    }

    /// Changes a pod's record, and lets its condition `Ready` follow in a while.
    pub(crate) fn change_pod(&mut self, uid: &Uid, change: impl FnOnce(&mut PodRecord)) {
        let Some(process) = self.kubelet.processes.get(uid) else { return };
        let Some(mut pod) = self.etcd.pod(&process.key).filter(|pod| pod.meta.uid == *uid).cloned() else { return };
        change(&mut pod);
        self.store(Record::Pod(pod));
    }

    /// A pod's record has changed: does `Ready` still say what it should?
    pub(crate) fn pod_changed(&mut self, pod: &PodRecord) {
        if pod.ready != should_be_ready(pod) {
            let after = self.choices.millis(50, 400);
            self.after(after, Happening::PodCondition(pod.meta.uid.clone()));
        }
    }

    /// The kubelet computes `Ready`.
    pub(crate) fn pod_condition(&mut self, uid: &Uid) {
        self.change_pod(uid, |pod| pod.ready = should_be_ready(pod));
    }

    /// Deletes a pod: its process goes on for its drain time, then gives its address back, then its record goes.
    pub(crate) fn delete_pod(&mut self, uid: &Uid) {
        let Some(process) = self.kubelet.processes.get_mut(uid) else { return };
        if process.ending {
            return;
        }
        process.ending = true;
        let drain = self.workloads[process.workload].drain;
        let key = process.key.clone();
        if self.choices.chance(50) {
            // Force: the record goes at once, the process later.
            self.drop_record(uid, &key);
        } else {
            self.change_pod(uid, |pod| pod.meta.deleting = true);
        }
        let stop = drain + self.choices.millis(20, 500);
        self.after(stop, Happening::PodStops(uid.clone()));
    }

    /// The pod's process has ended.
    pub(crate) fn pod_stops(&mut self, uid: &Uid) {
        let Some(process) = self.kubelet.processes.get_mut(uid) else { return };
        process.answers = false;
        process.containers_ready = false;
        if self.choices.chance(500) {
            self.change_pod(uid, |pod| pod.containers_ready = false);
        }
        let after = self.choices.millis(10, 300);
        self.after(after, Happening::PodEnds(uid.clone()));
    }

    /// The pod's network is gone: its address is free.
    pub(crate) fn pod_ends(&mut self, uid: &Uid) {
        let Some(process) = self.kubelet.processes.get_mut(uid) else { return };
        if let Some(address) = process.address.take() {
            self.kubelet.held.remove(&address);
            self.kubelet.free.push_front(address);
            self.tell(&Fact::Held { address, by: None });
        }
        let after = self.choices.millis(10, 1200);
        self.after(after, Happening::PodRemoved(uid.clone()));
    }

    /// The pod's record goes.
    pub(crate) fn pod_removed(&mut self, uid: &Uid) {
        let Some(process) = self.kubelet.processes.remove(uid) else { return };
        self.drop_record(uid, &process.key);
    }

    fn drop_record(&mut self, uid: &Uid, key: &Key) {
        if self.etcd.pod(key).is_some_and(|pod| pod.meta.uid == *uid) {
            self.unstore(Kind::Pod, key);
        }
    }
}

fn should_be_ready(pod: &PodRecord) -> bool {
    let open = |gate: &GateRecord| gate.condition.as_ref().is_some_and(|c| c.status == GateStatus::True);
    pod.containers_ready && pod.gates.iter().all(open)
}
