//! The API server as the registrars' requests meet it.

use std::sync::Arc;

use nlb::readiness_gate::ReadinessGate;
use registrar_core::{
    cluster::{BindingRecord, Key, Kind, Meta, PodRecord, Record, ServiceRecord, Uid},
    effect::Request,
    event::{Answer, Denial},
};

use crate::world::World;

type Answered = Result<Answer, Denial>;

impl World {
    /// Carries out a request, and answers it.
    pub(crate) fn ask(&mut self, request: &Request) -> Answered {
        match request {
            Request::GetBinding { binding } => self.etcd.binding(binding).map(|_| Answer::Done).ok_or(Denial::NotFound),
            Request::ListEndpoints { service } => Ok(self.list_endpoints(service)),
            Request::PatchGate { pod, uid, condition_type, condition, moves: _ } => {
                let Some(gate) = ReadinessGate::parse(condition_type) else {
                    return Err(Denial::Refused(format!("{condition_type} is no gate")));
                };
                self.edit_pod(pod, uid, |record| {
                    // A condition of a gate that the pod does not have is no gate.
                    if let Some(gate) = record.gates.iter_mut().find(|g| *g.binding == *gate.binding()) {
                        gate.condition = Some(condition.clone());
                    }
                })
            }
            Request::PatchBindingStatus { binding, uid, status } => {
                self.edit_binding(binding, uid, |record| record.status = Some(Arc::new((**status).clone())))
            }
            Request::ResolveBinding { binding, uid, spec } => self.edit_binding(binding, uid, |record| {
                record.generation += i64::from(*record.spec != **spec);
                record.spec = Arc::new((**spec).clone());
            }),
            Request::SetBindingFinalizer { binding, uid, present } => {
                let found = self.etcd.binding(binding);
                check(found.map(|found| &found.meta), uid)?;
                match found {
                    Some(found) if found.meta.deleting && *present && !found.has_finalizer => {
                        Err(Denial::Refused("it is being deleted".to_owned()))
                    }
                    // The last thing that held it.
                    Some(found) if found.meta.deleting && !*present => {
                        self.unstore(Kind::Binding, binding);
                        Ok(Answer::Done)
                    }
                    _ => self.edit_binding(binding, uid, |record| record.has_finalizer = *present),
                }
            }
            Request::DeleteBinding { binding, uid } => {
                check(self.etcd.binding(binding).map(|b| &b.meta), uid)?;
                self.delete_binding(binding);
                Ok(Answer::Done)
            }
            Request::GetLedger { binding } => Ok(Answer::Ledger(self.etcd.ledgers.get(binding).cloned())),
            Request::PutLedger { binding, targets } => {
                match targets {
                    Some(targets) => _ = self.etcd.ledgers.insert(binding.clone(), targets.clone()),
                    None => _ = self.etcd.ledgers.remove(binding),
                }
                Ok(Answer::Done)
            }
            Request::SetServiceFinalizer { service, uid, .. }
            | Request::PatchServiceStatus { service, uid, .. }
            | Request::SetManagedFields { service, uid, .. } => {
                check(self.etcd.service(service).map(|s: &ServiceRecord| &s.meta), uid)?;
                Ok(Answer::Done)
            }
            Request::Publish(_) => Ok(Answer::Done),
            Request::ApplyBinding { binding, .. } => {
                Err(Denial::Refused(format!("{}: the simulation has no load balancers for Services", binding.name)))
            }
        }
    }

    /// Deletes a binding: at once, or when its finalizer is off.
    pub(crate) fn delete_binding(&mut self, binding: &Key) {
        let Some(record) = self.etcd.binding(binding) else { return };
        if record.has_finalizer {
            let mut record: BindingRecord = record.clone();
            if !record.meta.deleting {
                record.meta.deleting = true;
                record.generation += 1;
            }
            self.store(Record::Binding(record));
        } else {
            self.unstore(Kind::Binding, binding);
        }
    }

    fn list_endpoints(&self, service: &Key) -> Answer {
        let slices: Vec<_> = self.etcd.slices(service).cloned().collect();
        let names = slices.iter().flat_map(|s| &s.endpoints).filter_map(|e| e.pod.as_ref().map(|(name, _)| name));
        let mut names: Vec<_> = names.collect();
        names.sort();
        names.dedup();
        let of_name =
            |name: &Arc<str>| self.etcd.pod(&Key { namespace: service.namespace.clone(), name: name.clone() }).cloned();
        let pods = names.into_iter().filter_map(of_name).collect();
        Answer::Endpoints { slices, pods }
    }

    fn edit_pod(&mut self, key: &Key, uid: &Uid, change: impl FnOnce(&mut PodRecord)) -> Answered {
        let found = self.etcd.pod(key).cloned();
        check(found.as_ref().map(|pod| &pod.meta), uid)?;
        let Some(mut pod) = found else { return Err(Denial::NotFound) };
        change(&mut pod);
        self.store(Record::Pod(pod));
        Ok(Answer::Done)
    }

    fn edit_binding(&mut self, key: &Key, uid: &Uid, change: impl FnOnce(&mut BindingRecord)) -> Answered {
        let found = self.etcd.binding(key).cloned();
        check(found.as_ref().map(|binding| &binding.meta), uid)?;
        let Some(mut binding) = found else { return Err(Denial::NotFound) };
        change(&mut binding);
        self.store(Record::Binding(binding));
        Ok(Answer::Done)
    }
}

/// A patch with the UID of another object of that name is refused as a change of an immutable field (422).
fn check(found: Option<&Meta>, uid: &Uid) -> Result<(), Denial> {
    match found {
        None => Err(Denial::NotFound),
        Some(meta) if meta.uid != *uid => Err(Denial::Replaced),
        Some(_) => Ok(()),
    }
}
