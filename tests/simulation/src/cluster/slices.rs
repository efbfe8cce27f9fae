//! The endpoint slice controller.

use std::{net::IpAddr, sync::Arc};

use nlb::service::spec::AddressFamily;
use registrar_core::cluster::{Endpoint, Key, Kind, Meta, PodRecord, Record, SliceRecord, Uid};

use crate::{
    cluster::key,
    world::{Happening, World},
};

/// Slices of a Service: endpoints are spread over two, so that there is something to merge.
const SLICES: [&str; 2] = ["a", "b"];

impl World {
    /// A Service or one of its pods has changed: the controller will look.
    pub(crate) fn poke_slices(&mut self, workload: usize) {
        if self.workloads[workload].slices_pending {
            return;
        }
        self.workloads[workload].slices_pending = true;
        let lag = self.weather.slices_lag;
        let after = self.choices.millis(30, 600) + lag;
        self.after(after, Happening::Slices(workload));
    }

    /// Brings the slices of a workload's Service in line with its pods.
    pub(crate) fn write_slices(&mut self, workload: usize) {
        let plan = &mut self.workloads[workload];
        plan.slices_pending = false;
        let service = key(&plan.namespace, &plan.service);
        let swapped = plan.swapped;
        let backwards = plan.swapped;
        let exists = self.etcd.service(&service).is_some();
        let mut wanted: [Vec<Endpoint>; 2] = [Vec::new(), Vec::new()];
        let of_workload: Vec<PodRecord> = self
            .etcd
            .pods()
            .filter(|pod| self.kubelet.processes.get(&pod.meta.uid).is_some_and(|p| p.workload == workload))
            .cloned()
            .collect();
        for pod in &of_workload {
            let Some(address) = pod.addresses.first() else { continue };
            let number: usize = pod.meta.uid.0.trim_start_matches("uid-").parse().unwrap_or_default();
            wanted[(number + usize::from(swapped)) % 2].push(endpoint(pod, *address));
        }
        let mut order = [0, 1];
        if backwards {
            order.reverse();
        }
        for index in order {
            let slice = key(&service.namespace, &format!("{}-{}", service.name, SLICES[index]));
            if exists {
                let endpoints = std::mem::take(&mut wanted[index]);
                self.write_slice(&service, slice, endpoints);
            } else {
                self.unstore(Kind::Slice, &slice);
            }
        }
    }

    fn write_slice(&mut self, service: &Key, slice: Key, endpoints: Vec<Endpoint>) {
        let present = self.etcd.get(Kind::Slice, &slice);
        if present.is_none() && endpoints.is_empty() {
            return;
        }
        let uid = match present {
            Some(record) => record.meta().uid.clone(),
            None => Uid(Arc::from(format!("slice-{}-{}", slice.name, self.now.as_millis()))),
        };
        self.store(Record::Slice(SliceRecord {
            meta: Meta { key: slice, uid, revision: 0, deleting: false },
            service: service.name.clone(),
            by_controller: true,
            family: Some(AddressFamily::Ipv4),
            ports: vec![(Arc::from("http"), crate::plane::TARGET_PORT, "TCP".to_owned())],
            endpoints,
        }));
    }
}

fn endpoint(pod: &PodRecord, address: IpAddr) -> Endpoint {
    Endpoint {
        address,
        ready: pod.ready && !pod.meta.deleting,
        serving: pod.ready,
        terminating: pod.meta.deleting,
        pod: Some((pod.meta.key.name.clone(), pod.meta.uid.clone())),
        node: pod.node.clone(),
        zone: None,
    }
}
