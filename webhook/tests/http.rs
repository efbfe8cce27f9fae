//! The router, asked with reviews that an API server sent.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use std::sync::{Arc, RwLock};

use axum::{Router, body::Body};
use daemon::readiness::{Condition, Readiness};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::ByteString;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tower::ServiceExt as _;
use webhook::{
    admission::Hook,
    metrics::Metrics,
    server::App,
    snapshot::{CachedBinding, CachedService, Snapshot},
};

const POD: &str = include_str!("reviews/pod-of-a-replicaset.json");
const SERVICE: &str = include_str!("reviews/service-with-three-mistakes.json");
const UPDATE: &str = include_str!("reviews/update-of-a-broken-service.json");
const BINDING: &str = include_str!("reviews/binding.json");

struct Webhook {
    router: Router,
    synced: Condition,
    registry: Registry,
}

/// A webhook that knows these objects.
fn webhook(objects: &[Value]) -> Webhook {
    let mut snapshot = Snapshot::default();
    for object in objects {
        match object["kind"].as_str() {
            Some("Service") => {
                let service = serde_json::from_value(object.clone()).unwrap();
                snapshot.services.apply(CachedService::of(service, &snapshot.settings));
            }
            _ => snapshot.bindings.apply(CachedBinding::of(serde_json::from_value(object.clone()).unwrap())),
        }
    }
    let mut registry = Registry::default();
    let metrics = Arc::new(Metrics::register(&mut registry));
    let synced = Readiness::default().condition("services", "not listed yet");
    synced.met("");
    let app = Arc::new(App::new(Arc::new(RwLock::new(snapshot)), vec![synced.clone()], metrics));
    Webhook { router: app.router(), synced, registry }
}

impl Webhook {
    async fn post(&self, hook: Hook, body: impl Into<Body>) -> (StatusCode, Vec<u8>) {
        let request = Request::post(hook.path()).body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
    }

    /// The response within the answer to a review.
    async fn ask(&self, hook: Hook, body: &str) -> Value {
        let (status, answer) = self.post(hook, body.to_owned()).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&answer));
        let mut answer: Value = serde_json::from_slice(&answer).unwrap();
        let asked: Value = serde_json::from_str(body).unwrap();
        assert_eq!(answer["response"]["uid"], asked["request"]["uid"]);
        answer["response"].take()
    }
}

fn patch(response: &Value) -> Value {
    let ByteString(bytes) = serde_json::from_value(response["patch"].clone()).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// The Service of the recorded reviews, without its mistakes.
fn service() -> Value {
    json!({
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "team", "uid": "1",
            "annotations": {"service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip"}},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb", "selector": {"app": "web"},
            "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

fn binding(name: &str) -> Value {
    let mut binding: Value = serde_json::from_str(BINDING).unwrap();
    let mut object = binding["request"]["object"].take();
    object["metadata"] = json!({"name": name, "namespace": "team"});
    object
}

#[tokio::test]
async fn a_pod_without_a_name_gets_gate_and_delay_by_the_namespace_of_the_request() {
    let webhook = webhook(&[service(), binding("mine")]);
    let mut review: Value = serde_json::from_str(POD).unwrap();
    let metadata = review["request"]["object"]["metadata"].as_object_mut().unwrap();
    assert!(metadata.remove("namespace").is_some() && !metadata.contains_key("name"));
    let pod = review.to_string();
    let gates = patch(&webhook.ask(Hook::PodGates, &pod).await);
    assert_eq!(gates.as_array().unwrap().len(), 1);
    assert_eq!(gates[0]["op"], "add");
    assert_eq!(gates[0]["path"], "/spec/readinessGates");
    let types: Vec<_> = gates[0]["value"].as_array().unwrap().iter().map(|gate| &gate["conditionType"]).collect();
    assert_eq!(types[0], "target-health.elbv2.k8s.aws/k8s-team-web-d901e90464");
    assert_eq!(types[1], "target-health.elbv2.k8s.aws/mine");

    let drain = patch(&webhook.ask(Hook::PodDrain, &pod).await);
    let expected = json!([
        {"op": "add", "path": "/spec/containers/0/lifecycle", "value": {"preStop": {"sleep": {"seconds": 120}}}},
        {"op": "add", "path": "/spec/terminationGracePeriodSeconds", "value": 150},
    ]);
    assert_eq!(drain, expected);
}

#[tokio::test]
async fn a_pod_that_nothing_concerns_is_allowed_as_it_is() {
    let webhook = webhook(&[]);
    for hook in [Hook::PodGates, Hook::PodDrain, Hook::PodServerId] {
        let response = webhook.ask(hook, POD).await;
        assert_eq!(response.as_object().unwrap().len(), 2, "{response}");
        assert_eq!(response["allowed"], true);
    }
}

#[tokio::test]
async fn a_gate_that_cannot_be_named_is_left_out_with_a_warning() {
    let long = "x".repeat(64);
    let webhook = webhook(&[service(), binding(&long)]);
    let response = webhook.ask(Hook::PodGates, POD).await;
    assert_eq!(patch(&response)[0]["value"].as_array().unwrap().len(), 1, "the predicted one");
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("no readiness gate: ") && warning.contains("63"), "{warning}");
}

#[tokio::test]
async fn a_new_service_is_refused_with_all_its_mistakes_and_an_update_of_it_is_not() {
    let webhook = webhook(&[]);
    let response = webhook.ask(Hook::Service, SERVICE).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 403);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.starts_with("Service team/web has 2 violations:\n- "), "{message}");
    for part in ["-scheme: \"public\"", "-nlb-target-type: \"pod\""] {
        assert!(message.contains(part), "{part} in {message}");
    }
    assert_eq!(response["status"]["details"]["causes"].as_array().unwrap().len(), 2);
    assert!(response["warnings"][0].as_str().unwrap().contains("-schema"), "{response}");

    // It was stored while nobody looked; an annotation that has nothing to do with it is added.
    let response = webhook.ask(Hook::Service, UPDATE).await;
    assert_eq!(response["allowed"], true, "{response}");
    assert_eq!(response["warnings"].as_array().unwrap().len(), 3, "{response}");
}

#[tokio::test]
async fn a_second_binding_to_a_target_group_is_refused() {
    let response = webhook(&[]).ask(Hook::Binding, BINDING).await;
    assert_eq!(response["allowed"], true, "{response}");
    let response = webhook(&[binding("other")]).ask(Hook::Binding, BINDING).await;
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("belongs to TargetGroupBinding team/other already"), "{message}");
    let response = webhook(&[binding("web")]).ask(Hook::Binding, BINDING).await;
    assert_eq!(response["allowed"], true, "it is no rival of itself: {response}");
}

#[tokio::test]
async fn a_service_without_a_class_gets_ours() {
    let mut review: Value = serde_json::from_str(SERVICE).unwrap();
    let webhook = webhook(&[]);
    let response = webhook.ask(Hook::ServiceClass, &review.to_string()).await;
    assert!(response.get("patch").is_none(), "it has one: {response}");
    review["request"]["object"]["spec"].as_object_mut().unwrap().remove("loadBalancerClass");
    let response = webhook.ask(Hook::ServiceClass, &review.to_string()).await;
    let expected = json!([{"op": "add", "path": "/spec/loadBalancerClass", "value": "service.k8s.aws/nlb"}]);
    assert_eq!(patch(&response), expected);
}

#[tokio::test]
async fn containers_that_are_named_get_ids_for_quic_of_their_own() {
    let mut review: Value = serde_json::from_str(POD).unwrap();
    let object = &mut review["request"]["object"];
    let second = json!({"name": "second", "image": "x"});
    object["spec"]["containers"].as_array_mut().unwrap().push(second);
    object["metadata"]["annotations"] =
        json!({"service.beta.kubernetes.io/aws-load-balancer-quic-enabled-containers": "server,second,third"});
    let response = webhook(&[]).ask(Hook::PodServerId, &review.to_string()).await;
    let patch = patch(&response);
    assert_eq!(patch[0]["path"], "/spec/containers/0/env/-");
    assert_eq!(patch[1]["path"], "/spec/containers/1/env");
    let values = [&patch[0]["value"]["value"], &patch[1]["value"][0]["value"]];
    assert_ne!(values[0], values[1]);
    for value in values {
        let ByteString(id) = serde_json::from_value(value.clone()).unwrap();
        assert!(id.len() == 8 && id[0] < 0x80, "{id:?}");
    }
    assert!(response["warnings"][0].as_str().unwrap().contains("\"third\""), "{response}");
}

#[tokio::test]
async fn nothing_is_answered_before_the_cluster_is_known() {
    let webhook = webhook(&[]);
    webhook.synced.unmet("not listed yet");
    let (status, body) = webhook.post(Hook::PodGates, POD).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(String::from_utf8(body).unwrap().contains("services"));
    webhook.synced.met("");
    assert_eq!(webhook.post(Hook::PodGates, POD).await.0, StatusCode::OK);
}

#[tokio::test]
async fn everything_is_counted_without_names_that_users_chose() {
    let webhook = webhook(&[service()]);
    webhook.ask(Hook::PodGates, POD).await;
    webhook.ask(Hook::Service, SERVICE).await;
    webhook.post(Hook::Service, "{").await;
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &webhook.registry).unwrap();
    for line in [
        r#"sluice_webhook_reviews_total{path="/mutate-v1-pod",operation="CREATE",outcome="patched"} 1"#,
        r#"sluice_webhook_reviews_total{path="/validate-v1-service",operation="CREATE",outcome="denied"} 1"#,
        r#"sluice_webhook_reviews_total{path="/validate-v1-service",operation="UNKNOWN",outcome="malformed"} 1"#,
        r#"sluice_webhook_review_duration_seconds_count{path="/mutate-v1-pod"} 1"#,
        r#"key="service.beta.kubernetes.io/aws-load-balancer-scheme",rule="value",severity="deny"} 1"#,
        r#"key="unknown",rule="unknown-key",severity="warn"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(!text.contains("team") && !text.contains("schema"), "{text}");
}
