//! Services: what they are told of their load balancer.

use k8s_openapi::{
    api::core::v1::Service,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use registrar_core::{
    cluster::{Key, Uid},
    effect::ServiceCondition,
    event::{Answer, Denial},
};
use serde_json::json;

use super::{Cluster, MANAGER, denial};

/// Annotation with the names of the fields that we set, as JSON.
const MANAGED_FIELDS: &str = "elbv2.k8s.aws/managed-fields";

impl Cluster {
    pub(super) async fn patch_service_status(
        &self,
        service: &Key,
        uid: &Uid,
        hostname: Option<&str>,
        conditions: &[ServiceCondition],
    ) -> Result<Answer, Denial> {
        let api = self.api::<Service>(service);
        let stored = api.get(&service.name).await.map_err(denial)?;
        if stored.uid().as_deref() != Some(&*uid.0) {
            return Err(Denial::Replaced);
        }
        let before = stored.status.and_then(|status| status.conditions).unwrap_or_default();
        let now = Timestamp::now();
        let conditions: Vec<_> = conditions
            .iter()
            .map(|wanted| {
                let found = before.iter().find(|condition| condition.type_ == wanted.condition_type);
                stamped(wanted, found, stored.metadata.generation, now)
            })
            .collect();
        let ingress = hostname.map(|hostname| json!([{"hostname": hostname}]));
        // Conditions are merged by type, so that those of others stay; the list of ingress points is replaced.
        let patch = json!({
            "metadata": {"uid": &*uid.0},
            "status": {"loadBalancer": {"ingress": ingress}, "conditions": conditions},
        });
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        api.patch_status(&service.name, &parameters, &Patch::Strategic(&patch)).await.map_err(denial)?;
        Ok(Answer::Done)
    }

    pub(super) async fn set_managed_fields(&self, service: &Key, uid: &Uid, fields: &str) -> Result<Answer, Denial> {
        let patch = json!({"metadata": {"uid": &*uid.0, "annotations": {MANAGED_FIELDS: fields}}});
        self.merge::<Service>(service, &patch).await
    }
}

/// The condition with the time of its last transition: now, unless its status is what it was.
fn stamped(
    wanted: &ServiceCondition,
    before: Option<&Condition>,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = if wanted.status { "True" } else { "False" };
    let kept = before.filter(|before| before.status == status).map(|before| before.last_transition_time.clone());
    Condition {
        type_: wanted.condition_type.to_owned(),
        status: status.to_owned(),
        reason: wanted.reason.clone(),
        message: wanted.message.clone(),
        observed_generation: generation,
        last_transition_time: kept.unwrap_or(Time(now)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_of_a_condition_moves_with_its_status_only() {
        let now = Timestamp::from_second(1000).unwrap();
        let wanted = |status| ServiceCondition {
            condition_type: "Ready",
            status,
            reason: "Reason".to_owned(),
            message: "message".to_owned(),
        };
        let first = stamped(&wanted(false), None, Some(1), now);
        assert_eq!(first.last_transition_time.0, now);
        let later = Timestamp::from_second(2000).unwrap();
        assert_eq!(stamped(&wanted(false), Some(&first), Some(2), later).last_transition_time.0, now);
        assert_eq!(stamped(&wanted(true), Some(&first), Some(2), later).last_transition_time.0, later);
    }
}
