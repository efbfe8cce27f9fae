//! Objects to ask a release about, and loops that go on asking.

use std::time::Duration;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use scenarios::Scenario;
use serde_json::{Value, json};
use tokio::sync::watch;

const FAMILY: &str = "service.beta.kubernetes.io/aws-load-balancer-";
const ARN: &str = "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup";

/// A Service for a load balancer with ip targets.
pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "annotations": {format!("{FAMILY}nlb-target-type"): "ip"}},
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb", "selector": {"app": name},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    })
}

/// A Service that must be refused.
pub(crate) fn broken(name: &str) -> Value {
    let mut service = service(name);
    service["metadata"]["annotations"][format!("{FAMILY}scheme")] = json!("public");
    service
}

/// Two pods for it.
pub(crate) fn deployment(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "server", "image": "echoserver", "ports": [{"containerPort": 8080}]}]},
            },
        },
    })
}

/// A binding to a target group of its own that is not there.
pub(crate) fn binding(name: &str) -> Value {
    let group = format!("{ARN}/{name}/0123456789abcdef");
    json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding", "metadata": {"name": name},
        "spec": {"targetGroupARN": group, "targetType": "ip", "serviceRef": {"name": name, "port": 80}},
    })
}

fn pod() -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {"containers": [{"name": "server", "image": "echoserver"}]},
    }))?)
}

async fn try_pod(pods: &Api<Pod>) -> Result<bool> {
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    let pod = pods.create(&tried, &pod()?).await?;
    let gates = pod.spec.and_then(|spec| spec.readiness_gates).unwrap_or_default();
    Ok(gates.iter().any(|gate| gate.condition_type.starts_with("target-health.elbv2.k8s.aws/")))
}

/// Whether a pod of Service `web` gets a gate.
pub(crate) async fn gated(lab: &Scenario) -> Result<bool> {
    try_pod(&lab.api()).await
}

/// Creates pods until told to stop; each must get its gate, for without an answer it would be created without. Returns how many.
pub(crate) async fn gates_until(namespace: String, mut stop: watch::Receiver<bool>) -> Result<u32> {
    let pods: Api<Pod> = Api::namespaced(Client::try_default().await?, &namespace);
    let mut count = 0;
    while !*stop.borrow_and_update() {
        if !try_pod(&pods).await? {
            bail!("pod {count} got no gate");
        }
        count += 1;
    }
    Ok(count)
}

/// Updates Service `web` until told to stop, alternately well and badly: bad ones must be refused, for without an answer they
/// would be stored. Returns how many.
pub(crate) async fn updates_until(namespace: String, mut stop: watch::Receiver<bool>) -> Result<u32> {
    let services: Api<Service> = Api::namespaced(Client::try_default().await?, &namespace);
    let mut count = 0;
    while !*stop.borrow_and_update() {
        let key = |name: &str| format!("{FAMILY}{name}");
        let interval = if count % 2 == 0 { "10" } else { "30" };
        let good = json!({"metadata": {"annotations": {key("healthcheck-interval"): interval}}});
        services.patch("web", &PatchParams::default(), &Patch::Merge(good)).await?;
        let bad = json!({"metadata": {"annotations": {key("scheme"): "public"}}});
        match services.patch("web", &PatchParams::default(), &Patch::Merge(bad)).await {
            Err(kube::Error::Api(status)) if status.message.contains("denied the request") => count += 1,
            Err(other) => return Err(other.into()),
            Ok(stored) => bail!("update {count} of {} was stored without a review", stored.name_any()),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(count)
}
