//! Services: what they are told of their load balancer.

use k8s_openapi::{
    api::core::v1::{LoadBalancerIngress, PortStatus, Service},
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
    services::CONDITIONS,
};
use serde_json::{Value, json};

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
        let patch = status_patch(&stored, uid, hostname, conditions, Timestamp::now());
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        api.patch_status(&service.name, &parameters, &Patch::Strategic(&patch)).await.map_err(denial)?;
        Ok(Answer::Done)
    }

    pub(super) async fn set_managed_fields(&self, service: &Key, uid: &Uid, fields: &str) -> Result<Answer, Denial> {
        let patch = json!({"metadata": {"uid": &*uid.0, "annotations": {MANAGED_FIELDS: fields}}});
        self.merge::<Service>(service, &patch).await
    }
}

/// The hostname with its ports, and our conditions, as a strategic merge: conditions are merged by type, so that those of
/// others stay; the list of ingress points is replaced.
fn status_patch(
    stored: &Service,
    uid: &Uid,
    hostname: Option<&str>,
    conditions: &[ServiceCondition],
    now: Timestamp,
) -> Value {
    let before = stored.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let set = conditions.iter().map(|wanted| {
        let found = before.iter().find(|condition| condition.type_ == wanted.condition_type);
        json!(stamped(wanted, found, stored.metadata.generation, now))
    });
    let kept = |kind: &str| conditions.iter().any(|wanted| wanted.condition_type == kind);
    let removed = before
        .iter()
        .map(|condition| condition.type_.as_str())
        .filter(|kind| CONDITIONS.contains(kind) && !kept(kind))
        .map(|kind| json!({"$patch": "delete", "type": kind}));
    let ingress = hostname.map(|hostname| [ingress(stored, hostname)]);
    json!({
        "metadata": {"uid": &*uid.0},
        "status": {"loadBalancer": {"ingress": ingress}, "conditions": set.chain(removed).collect::<Vec<_>>()},
    })
}

/// A hostname with the ports of the Service. One that is there without ports stays so: it may be another's, of a Service
/// that does not have our finalizer, where nothing of the address may be changed.
fn ingress(stored: &Service, hostname: &str) -> LoadBalancerIngress {
    let status = stored.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let entries = status.and_then(|balancer| balancer.ingress.as_deref()).unwrap_or_default();
    let bare = entries.iter().any(|entry| entry.hostname.as_deref() == Some(hostname) && entry.ports.is_none());
    let ports = stored.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(|port| PortStatus {
        port: port.port,
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        error: None,
    });
    LoadBalancerIngress {
        hostname: Some(hostname.to_owned()),
        ports: (!bare).then(|| ports.collect()),
        ..LoadBalancerIngress::default()
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
    use registrar_core::services::{ACTIVE, BLOCKED, PROVISIONING};

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

    fn service(conditions: &[&str]) -> Service {
        let stored = |kind| json!({"type": kind, "status": "True", "reason": "Reason", "message": "", "lastTransitionTime": "2024-01-01T00:00:00Z"});
        let conditions: Vec<_> = conditions.iter().map(stored).collect();
        let ports = json!([{"port": 53, "protocol": "UDP"}, {"port": 443}]);
        serde_json::from_value(json!({"spec": {"ports": ports}, "status": {"conditions": conditions}})).unwrap()
    }

    fn patch(stored: &Service, hostname: Option<&str>, conditions: &[ServiceCondition]) -> Value {
        status_patch(stored, &Uid("1".into()), hostname, conditions, Timestamp::UNIX_EPOCH)["status"].take()
    }

    #[test]
    fn conditions_of_ours_that_are_not_to_be_said_go_and_those_of_others_stay() {
        let active = ServiceCondition {
            condition_type: ACTIVE,
            status: true,
            reason: "Active".to_owned(),
            message: String::new(),
        };
        let removed = |kind: &str| (json!(kind), json!("delete"));
        let cases = [
            (vec![], vec![], vec![]),
            (vec!["theirs"], vec![], vec![]),
            (vec![ACTIVE, "theirs", BLOCKED], vec![], vec![removed(ACTIVE), removed(BLOCKED)]),
            (
                vec![ACTIVE, PROVISIONING, BLOCKED],
                vec![active],
                vec![(json!(ACTIVE), Value::Null), removed(PROVISIONING), removed(BLOCKED)],
            ),
        ];
        for (stored, wanted, expected) in cases {
            let patch = patch(&service(&stored), None, &wanted);
            let sent = patch["conditions"].as_array().unwrap();
            let sent: Vec<_> = sent.iter().map(|sent| (sent["type"].clone(), sent["$patch"].clone())).collect();
            assert_eq!(sent, expected, "{stored:?}");
        }
    }

    #[test]
    fn hostname_is_written_with_the_ports_of_the_service_unless_it_is_there_without() {
        let entry = |hostname: &str, ports: Value| match ports {
            Value::Null => json!({"ingress": [{"hostname": hostname}]}),
            ports => json!({"ingress": [{"hostname": hostname, "ports": ports}]}),
        };
        let ports = json!([{"port": 53, "protocol": "UDP"}, {"port": 443, "protocol": "TCP"}]);
        let cases = [
            (json!({}), Some("lb.example"), entry("lb.example", ports.clone())),
            (entry("old.example", Value::Null), Some("lb.example"), entry("lb.example", ports.clone())),
            (entry("lb.example", ports.clone()), Some("lb.example"), entry("lb.example", ports.clone())),
            (
                entry("lb.example", json!([{"port": 80, "protocol": "TCP"}])),
                Some("lb.example"),
                entry("lb.example", ports.clone()),
            ),
            (entry("lb.example", Value::Null), Some("lb.example"), entry("lb.example", Value::Null)),
            (entry("lb.example", ports), None, json!({"ingress": null})),
        ];
        for (stored, hostname, expected) in cases {
            let mut service = service(&[]);
            service.status.as_mut().unwrap().load_balancer = Some(serde_json::from_value(stored.clone()).unwrap());
            assert_eq!(
                patch(&service, hostname, &[])["loadBalancer"],
                expected,
                "{hostname:?} where there is {stored}"
            );
        }
    }
}
