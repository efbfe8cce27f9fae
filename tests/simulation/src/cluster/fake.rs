//! The simulated API server alone, driven by a script.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context as _, Result};
use nlb::service::spec::AddressFamily;
use registrar_core::cluster::{BindingRecord, Endpoint, GateRecord, Key, Kind, Meta, Record, SliceRecord, Uid};

use crate::{
    choice::Choices,
    scene::Scene,
    script::{Lives, Step, WATCHED, address, answered, binding_spec, changed, request, told},
    trace::Trace,
    world::World,
};

const NAMESPACE: &str = "shop";

/// A world in which nothing happens but what a script says.
#[derive(Debug)]
pub struct Fake {
    world: World,
    lives: Lives,
    created: u32,
    seen: BTreeMap<Kind, usize>,
}

impl Fake {
    /// An empty one.
    pub fn new() -> Result<Self> {
        let scene = Scene { rates: Vec::new(), workloads: Vec::new(), bindings: Vec::new(), ..Scene::simple(0) };
        let world = World::new(scene, Choices::replayed(Vec::new()), Trace::default())?;
        Ok(Self { world, lives: Lives::default(), created: 0, seen: BTreeMap::new() })
    }

    /// Does a step, and says what came of it.
    pub fn perform(&mut self, step: &Step) -> Result<String> {
        match step {
            Step::CreatePod(name, gates) => {
                let meta = self.meta(name);
                let gate = |binding: &String| GateRecord { binding: Arc::from(binding.as_str()), condition: None };
                self.create(name, Record::Pod(super::created(meta, gates.iter().map(gate).collect())))
            }
            Step::CreateBinding(name) => {
                let meta = self.meta(name);
                self.create(name, Record::Binding(binding(meta)))
            }
            Step::CreateSlice(name, service, pods) => {
                let meta = self.meta(name);
                let mut endpoints = Vec::new();
                for (index, pod) in pods.iter().enumerate() {
                    let found = self.world.etcd.pod(&key(pod)).with_context(|| format!("there is no pod {pod}"))?;
                    let pod = (found.meta.key.name.clone(), found.meta.uid.clone());
                    endpoints.push(Endpoint {
                        address: address(index),
                        ready: true,
                        serving: true,
                        terminating: false,
                        pod: Some(pod),
                        node: None,
                        zone: None,
                    });
                }
                let record = SliceRecord {
                    meta,
                    service: Arc::from(service.as_str()),
                    by_controller: true,
                    family: Some(AddressFamily::Ipv4),
                    ports: Vec::new(),
                    endpoints,
                };
                self.create(name, Record::Slice(record))
            }
            Step::Remove(Kind::Binding, name) => {
                self.world.delete_binding(&key(name));
                Ok("done".to_owned())
            }
            Step::Remove(kind, name) => {
                if let Some(mut pod) = self.world.etcd.pod(&key(name)).cloned() {
                    pod.meta.deleting = true;
                    self.world.store(Record::Pod(pod));
                }
                self.world.unstore(*kind, &key(name));
                Ok("done".to_owned())
            }
            Step::Ask(ask) => {
                let request = request(ask, NAMESPACE, &self.lives)?;
                Ok(answered(&self.world.ask(&request), &self.lives))
            }
            Step::Watch => {
                let mut changes = Vec::new();
                for kind in WATCHED {
                    let log = self.world.etcd.log(kind);
                    let seen = self.seen.insert(kind, log.len()).unwrap_or_default();
                    let new = log.iter().skip(seen);
                    changes.extend(
                        new.map(|change| changed(&change.key.name, &change.uid, change.record.as_ref(), &self.lives)),
                    );
                }
                Ok(told(&changes))
            }
        }
    }

    fn meta(&mut self, name: &str) -> Meta {
        self.created += 1;
        Meta { key: key(name), uid: Uid(Arc::from(format!("uid-{}", self.created))), revision: 0, deleting: false }
    }

    #[expect(clippy::unnecessary_wraps, reason = "the outcome of a step, as all others")]
    fn create(&mut self, name: &str, record: Record) -> Result<String> {
        let uid = record.meta().uid.clone();
        self.world.store(record);
        Ok(self.lives.born(name, uid))
    }
}

fn key(name: &str) -> Key {
    super::key(NAMESPACE, name)
}

fn binding(meta: Meta) -> BindingRecord {
    BindingRecord {
        meta,
        generation: 1,
        has_finalizer: false,
        created: 0,
        spec: Arc::new(binding_spec(false)),
        stack: None,
        open_when_not_in_use: false,
        gate_timeout: None,
        status: None,
    }
}
