//! Workloads: a Deployment or StatefulSet in short, with its Service.

use std::{sync::Arc, time::Duration};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use registrar_core::cluster::{Kind, Meta, PodRecord, Record, ServicePort, ServiceRecord, Uid};

use crate::{
    cluster::key,
    world::{Happening, World},
};

/// A workload.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(crate) struct Workload {
    pub(crate) namespace: String,
    /// Name of its Service.
    pub(crate) service: String,
    pub(crate) replicas: usize,
    /// Pods of another generation are replaced.
    pub(crate) generation: u32,
    /// How many pods more than `replicas` a rollout may have.
    pub(crate) surge: usize,
    /// Whether pods have fixed names, so that a pod is replaced by another of its name.
    pub(crate) ordinal: bool,
    /// Whether its pods get readiness gates.
    pub(crate) gated: bool,
    /// How long a pod goes on answering after its deletion.
    pub(crate) drain: Duration,
    /// Where endpoints are in the other slice than at first.
    pub(crate) swapped: bool,
    pub(crate) slices_pending: bool,
    pub(crate) pending: bool,
    pub(crate) named: u32,
}

impl Workload {
    pub(crate) fn new(namespace: &str, service: &str, replicas: usize) -> Self {
        Self {
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            replicas,
            generation: 1,
            surge: 1,
            ordinal: false,
            gated: true,
            drain: Duration::from_secs(2),
            swapped: false,
            slices_pending: false,
            pending: false,
            named: 0,
        }
    }
}

impl World {
    /// The controller of a workload will look.
    pub(crate) fn poke_workload(&mut self, workload: usize) {
        if self.workloads[workload].pending {
            return;
        }
        self.workloads[workload].pending = true;
        let after = self.choices.millis(20, 300);
        self.after(after, Happening::Workload(workload));
    }

    /// Creates and deletes at most as many pods as the workload's strategy allows now.
    pub(crate) fn run_workload(&mut self, workload: usize) {
        self.workloads[workload].pending = false;
        let plan = self.workloads[workload].clone();
        let mut pods: Vec<(PodRecord, u32)> = Vec::new();
        for pod in self.etcd.pods() {
            let Some(process) = self.kubelet.processes.get(&pod.meta.uid) else { continue };
            if process.workload == workload {
                pods.push((pod.clone(), process.generation));
            }
        }
        if plan.ordinal {
            self.run_ordinal(workload, &plan, &pods);
        } else {
            self.run_deployment(workload, &plan, &pods);
        }
    }

    fn run_deployment(&mut self, workload: usize, plan: &Workload, pods: &[(PodRecord, u32)]) {
        let live: Vec<_> = pods.iter().filter(|(pod, _)| !pod.meta.deleting).collect();
        let (new, old): (Vec<_>, Vec<_>) = live.iter().copied().partition(|(_, g)| *g == plan.generation);
        let most = plan.replicas + if old.is_empty() { 0 } else { plan.surge };
        for _ in 0..plan.replicas.saturating_sub(new.len()).min(most.saturating_sub(live.len())) {
            self.workloads[workload].named += 1;
            let name = format!("{}-{}", plan.service, self.workloads[workload].named);
            self.create_pod(workload, &name);
        }
        // Too many new ones: those that are not ready go first, then the youngest.
        let mut surplus: Vec<_> = new.clone();
        surplus.sort_by_key(|(pod, _)| (pod.ready, std::cmp::Reverse(pod.meta.uid.0.len()), pod.meta.uid.clone()));
        let too_many = new.len().saturating_sub(plan.replicas);
        let mut doomed: Vec<Uid> = surplus.iter().take(too_many).map(|(pod, _)| pod.meta.uid.clone()).collect();
        // Old ones go as far as enough are available without them.
        let available = live.iter().filter(|(pod, _)| pod.ready).count().saturating_sub(doomed.len());
        let mut spare = available.saturating_sub(plan.replicas);
        for (pod, _) in &old {
            if !pod.ready {
                doomed.push(pod.meta.uid.clone());
            } else if spare > 0 {
                spare -= 1;
                doomed.push(pod.meta.uid.clone());
            }
        }
        for uid in doomed {
            self.delete_pod(&uid);
        }
    }

    /// One pod at a time, from the last to the first; the next only when all are ready.
    fn run_ordinal(&mut self, workload: usize, plan: &Workload, pods: &[(PodRecord, u32)]) {
        let name = |n: usize| format!("{}-{n}", plan.service);
        let named = |n: usize| pods.iter().find(|(pod, _)| *pod.meta.key.name == *name(n));
        for n in 0..plan.replicas {
            if named(n).is_none() {
                self.create_pod(workload, &name(n));
            }
        }
        for (pod, _) in pods {
            let ordinal = pod.meta.key.name.rsplit('-').next().and_then(|n| n.parse::<usize>().ok());
            if ordinal.is_none_or(|n| n >= plan.replicas) && !pod.meta.deleting {
                self.delete_pod(&pod.meta.uid);
            }
        }
        let all_ready = (0..plan.replicas).all(|n| named(n).is_some_and(|(pod, _)| pod.ready && !pod.meta.deleting));
        let stale = (0..plan.replicas).rev().filter_map(named).find(|(_, generation)| *generation != plan.generation);
        if let Some((pod, _)) = stale
            && (all_ready || !pod.ready)
            && !pod.meta.deleting
        {
            self.delete_pod(&pod.meta.uid);
        }
    }

    /// Creates the workload's Service.
    pub(crate) fn create_service(&mut self, workload: usize) {
        let plan = &self.workloads[workload];
        let key = key(&plan.namespace, &plan.service);
        if self.etcd.service(&key).is_some() {
            return;
        }
        let uid = Uid(Arc::from(format!("service-{}-{}", key.name, self.now.as_millis())));
        self.store(Record::Service(ServiceRecord {
            meta: Meta { key, uid, revision: 0, deleting: false },
            ports: vec![ServicePort {
                name: "http".to_owned(),
                port: 80,
                protocol: "TCP".to_owned(),
                target_port: IntOrString::Int(i32::from(crate::plane::TARGET_PORT)),
                node_port: None,
            }],
            service_type: "ClusterIP".to_owned(),
            has_selector: true,
            local_traffic_only: false,
            created: self.scene.epoch,
            object: None,
        }));
        self.poke_slices(workload);
    }

    /// Deletes the workload's Service; its slices go a while later.
    pub(crate) fn delete_service(&mut self, workload: usize) {
        let plan = &self.workloads[workload];
        let key = key(&plan.namespace, &plan.service);
        self.unstore(Kind::Service, &key);
        self.poke_slices(workload);
    }
}
