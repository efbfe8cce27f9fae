//! `/validate-v1-service` and `/mutate-v1-service`.

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use nlb::service;
use serde_json::json;

use super::{
    Decision, Operation, Request,
    patch::{Builder, Step},
};
use crate::snapshot::Snapshot;

/// Takes the namespace from the request: the object may leave it out.
pub(super) fn complete(metadata: &mut ObjectMeta, namespace: &str) {
    if metadata.namespace.as_deref().unwrap_or_default().is_empty() && !namespace.is_empty() {
        metadata.namespace = Some(namespace.to_owned());
    }
}

pub(super) fn validate(request: &Request<Service>, service: &Service, snapshot: &Snapshot) -> Decision {
    let old = request.old_object.as_ref().filter(|_| request.operation == Operation::Update);
    let (mut service, mut old) = (service.clone(), old.cloned());
    complete(&mut service.metadata, &request.namespace);
    if let Some(old) = &mut old {
        complete(&mut old.metadata, &request.namespace);
    }
    Decision::judged("Service", request, service::review(old.as_ref(), &service, &snapshot.settings))
}

/// Sets the class of a new Service of type `LoadBalancer` that has none, so that it becomes ours.
pub(super) fn set_class(service: &Service, snapshot: &Snapshot) -> Decision {
    let mut patch = Builder::default();
    if let Some(spec) = &service.spec
        && spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class.is_none()
    {
        let class = json!(snapshot.settings.load_balancer_class);
        patch.set(&[Step::Field("spec"), Step::Field("loadBalancerClass")], class);
    }
    Decision { patch: patch.build(), ..Decision::default() }
}
