//! Bindings: status and spec.

use std::collections::BTreeMap;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use kube::{
    Resource as _, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use nlb::targetgroupbinding::{TargetGroupBinding, TargetGroupBindingSpec, TargetGroupBindingStatus};
use registrar_core::{
    cluster::{Key, Uid},
    event::{Answer, Denial},
};
use serde_json::{Map, Value, json};

use super::{Cluster, MANAGER, denial, through_conflicts};

/// Fields of a spec that may be filled in where they are absent, and no others.
const RESOLVED: [&str; 5] = ["targetGroupARN", "targetGroupProtocol", "targetType", "ipAddressType", "vpcID"];

/// Optional fields of a spec that follow the Service: absent where it asks for none, whoever wrote them.
const FOLLOWING: [&str; 3] = ["multiClusterTargetGroup", "networking", "nodeSelector"];

impl Cluster {
    pub(super) async fn get_binding(&self, binding: &Key) -> Result<Answer, Denial> {
        self.api::<TargetGroupBinding>(binding).get(&binding.name).await.map_err(denial)?;
        Ok(Answer::Done)
    }

    pub(super) async fn patch_binding_status(
        &self,
        binding: &Key,
        uid: &Uid,
        status: &TargetGroupBindingStatus,
    ) -> Result<Answer, Denial> {
        let status = stamped(status, Timestamp::now());
        through_conflicts(|| self.try_binding_status(binding, uid, &status)).await
    }

    /// The same, once. The API server does not look at the UID that comes with the status of a custom resource, and would
    /// write it to whatever has the name now: the revision that was read binds the write to the object that was read.
    async fn try_binding_status(
        &self,
        binding: &Key,
        uid: &Uid,
        status: &TargetGroupBindingStatus,
    ) -> Result<Answer, Denial> {
        let api = self.api::<TargetGroupBinding>(binding);
        let found = api.get(&binding.name).await.map_err(denial)?;
        if found.uid().as_deref() != Some(&*uid.0) {
            return Err(Denial::Replaced);
        }
        let patch = applied(json!({
            "metadata": {"name": &*binding.name, "resourceVersion": found.resource_version()},
            "status": status,
        }));
        let parameters = PatchParams::apply(MANAGER).force();
        api.patch_status(&binding.name, &parameters, &Patch::Apply(&patch)).await.map_err(denial)?;
        Ok(Answer::Done)
    }

    pub(super) async fn resolve_binding(
        &self,
        binding: &Key,
        uid: &Uid,
        spec: &TargetGroupBindingSpec,
    ) -> Result<Answer, Denial> {
        let mut spec = value(spec)?;
        if let Value::Object(fields) = &mut spec {
            fields.retain(|name, _| RESOLVED.contains(&name.as_str()));
        }
        self.merge::<TargetGroupBinding>(binding, &json!({"metadata": {"uid": &*uid.0}, "spec": spec})).await
    }

    /// Server-side apply takes away only what nobody else has written: of a binding that was taken over, fields that are to
    /// be absent need a second request.
    pub(super) async fn apply_binding(
        &self,
        binding: &Key,
        labels: &BTreeMap<String, String>,
        spec: &TargetGroupBindingSpec,
    ) -> Result<Answer, Denial> {
        let wanted = value(spec)?;
        let patch = applied(json!({"metadata": {"name": &*binding.name, "labels": labels}, "spec": &wanted}));
        let parameters = PatchParams::apply(MANAGER).force();
        let api = self.api::<TargetGroupBinding>(binding);
        let stored = api.patch(&binding.name, &parameters, &Patch::Apply(&patch)).await.map_err(denial)?;
        let mut found = value(&stored.spec)?;
        if let Value::Object(fields) = &mut found {
            fields.retain(|name, _| FOLLOWING.contains(&name.as_str()));
        }
        match without(&wanted, &found) {
            Some(spec) => {
                let patch = json!({"metadata": {"uid": stored.uid()}, "spec": spec});
                self.merge::<TargetGroupBinding>(binding, &patch).await
            }
            None => Ok(Answer::Done),
        }
    }

    pub(super) async fn delete_binding(&self, binding: &Key, uid: &Uid) -> Result<Answer, Denial> {
        let preconditions = Preconditions { uid: Some(uid.0.to_string()), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        self.api::<TargetGroupBinding>(binding).delete(&binding.name, &parameters).await.map_err(denial)?;
        Ok(Answer::Done)
    }
}

/// What server-side apply needs to know of a body, besides the name.
fn applied(mut body: Value) -> Value {
    body["apiVersion"] = json!(TargetGroupBinding::api_version(&()));
    body["kind"] = json!(TargetGroupBinding::kind(&()));
    body
}

/// A merge patch that removes from `found` every field that `wanted` lacks; nothing where there is none.
fn without(wanted: &Value, found: &Value) -> Option<Value> {
    let (Value::Object(wanted), Value::Object(found)) = (wanted, found) else { return None };
    let removals: Map<_, _> = found
        .iter()
        .filter_map(|(name, found)| {
            let removal = wanted.get(name).map_or(Some(Value::Null), |wanted| without(wanted, found));
            Some((name.clone(), removal?))
        })
        .collect();
    (!removals.is_empty()).then_some(Value::Object(removals))
}

fn value(spec: &TargetGroupBindingSpec) -> Result<Value, Denial> {
    serde_json::to_value(spec).map_err(|error| Denial::NotSent(error.to_string()))
}

/// The status with the time in each condition that has moved: the core has no clock, and marks those with the beginning
/// of 1970.
fn stamped(status: &TargetGroupBindingStatus, now: Timestamp) -> TargetGroupBindingStatus {
    let mut status = status.clone();
    for condition in status.conditions.iter_mut().flatten() {
        if condition.last_transition_time.0 == Timestamp::UNIX_EPOCH {
            condition.last_transition_time = Time(now);
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_are_of_what_is_found_and_not_wanted() {
        let rules = json!([{"from": [], "ports": []}]);
        let cases = [
            (json!({}), json!({"networking": {"ingress": rules}}), Some(json!({"networking": null}))),
            (
                json!({"networking": {}}),
                json!({"networking": {"ingress": rules}}),
                Some(json!({"networking": {"ingress": null}})),
            ),
            (json!({"networking": {"ingress": rules}}), json!({"networking": {"ingress": rules}}), None),
            (json!({"targetType": "ip", "nodeSelector": {}}), json!({}), None),
            (
                json!({"nodeSelector": {"matchLabels": {"a": "1"}}}),
                json!({"nodeSelector": {"matchLabels": {"a": "1", "b": "2"}}, "multiClusterTargetGroup": true}),
                Some(json!({"nodeSelector": {"matchLabels": {"b": null}}, "multiClusterTargetGroup": null})),
            ),
        ];
        for (wanted, found, expected) in cases {
            assert_eq!(without(&wanted, &found), expected, "{wanted} of {found}");
        }
    }
}
