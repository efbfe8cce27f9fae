//! What the API server of the stage answers.

use k8s_openapi::{
    api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, ServiceStatus},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use nlb::{
    tags::{BINDING_FINALIZER, SERVICE_FINALIZER},
    targetgroupbinding::TargetGroupBinding,
};
use registrar_core::{
    cluster::{Key, Record, Uid},
    effect::Request,
    event::{Answer, Denial, Event, Watched},
};

use super::Stage;

impl Stage {
    pub(super) fn kubernetes(&mut self, request: Request) -> Result<Answer, Denial> {
        match request {
            Request::SetServiceFinalizer { service, uid, present } => {
                self.is(&service, &uid)?;
                self.change(&service, |object| {
                    let finalizers = object.metadata.finalizers.get_or_insert_default();
                    finalizers.retain(|finalizer| finalizer != SERVICE_FINALIZER);
                    if present {
                        finalizers.push(SERVICE_FINALIZER.to_owned());
                    }
                });
                self.collect_service(&service);
            }
            Request::SetManagedFields { service, uid, fields } => {
                self.is(&service, &uid)?;
                self.change(&service, |object| {
                    let annotations = object.metadata.annotations.get_or_insert_default();
                    annotations.insert("elbv2.k8s.aws/managed-fields".to_owned(), fields);
                });
            }
            Request::PatchServiceStatus { service, uid, hostname, conditions } => {
                self.is(&service, &uid)?;
                let kind = self.services[&service].spec.as_ref().and_then(|spec| spec.type_.as_deref());
                if hostname.is_some() && kind != Some("LoadBalancer") {
                    let why =
                        "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'";
                    return Err(Denial::Refused(why.to_owned()));
                }
                self.change(&service, |object| {
                    let ingress = LoadBalancerIngress { hostname, ..LoadBalancerIngress::default() };
                    let ingress = ingress.hostname.is_some().then(|| vec![ingress]);
                    let condition = |condition: registrar_core::effect::ServiceCondition| Condition {
                        type_: condition.condition_type.to_owned(),
                        status: if condition.status { "True" } else { "False" }.to_owned(),
                        reason: condition.reason,
                        message: condition.message,
                        last_transition_time: Time(Timestamp::UNIX_EPOCH),
                        observed_generation: None,
                    };
                    object.status = Some(ServiceStatus {
                        load_balancer: Some(LoadBalancerStatus { ingress }),
                        conditions: Some(conditions.into_iter().map(condition).collect()),
                    });
                });
            }
            Request::ApplyBinding { binding, labels, spec } => {
                assert!(!format!("{spec:?}").contains("\"$"), "a logical id: {spec:?}");
                if !self.bindings.contains_key(&binding) {
                    let mut object = TargetGroupBinding::new(&binding.name, (*spec).clone());
                    object.metadata.namespace = Some(binding.namespace.to_string());
                    object.metadata.uid = Some(format!("uid-{}", self.revision));
                    self.bindings.insert(binding.clone(), object);
                }
                self.touch_binding(&binding, |object| {
                    object.metadata.labels = Some(labels);
                    object.spec = *spec;
                });
            }
            Request::DeleteBinding { binding, .. } => {
                let deleted = |object: &mut TargetGroupBinding| {
                    object.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
                };
                self.touch_binding(&binding, deleted);
            }
            Request::SetBindingFinalizer { binding, present, .. } => self.touch_binding(&binding, |object| {
                let finalizers = object.metadata.finalizers.get_or_insert_default();
                finalizers.retain(|finalizer| finalizer != BINDING_FINALIZER);
                if present {
                    finalizers.push(BINDING_FINALIZER.to_owned());
                }
            }),
            Request::PatchBindingStatus { binding, status, .. } => {
                self.touch_binding(&binding, |object| object.status = Some(*status));
            }
            Request::Publish(notice) => self.notices.push(notice),
            Request::GetBinding { binding } if !self.bindings.contains_key(&binding) => return Err(Denial::NotFound),
            Request::PatchGate { pod, condition, .. } => {
                self.gates.push((pod.name.to_string(), condition.status, condition.reason.clone()));
                let Some(known) = self.pods.iter_mut().find(|known| known.meta.key == pod) else {
                    return Err(Denial::NotFound);
                };
                self.revision += 1;
                known.meta.revision = self.revision;
                for gate in &mut known.gates {
                    gate.condition = Some(condition.clone());
                }
                let record = Record::Pod(known.clone());
                self.events.push_back(Event::Watched(Watched::Applied(record)));
            }
            Request::ListEndpoints { .. } => {
                return Ok(Answer::Endpoints { slices: Vec::new(), pods: Vec::new() });
            }
            _ => {}
        }
        Ok(Answer::Done)
    }

    fn is(&self, key: &Key, uid: &Uid) -> Result<(), Denial> {
        let found = self.services.get(key).ok_or(Denial::NotFound)?;
        if found.metadata.uid.as_deref() == Some(&*uid.0) { Ok(()) } else { Err(Denial::Replaced) }
    }
}
