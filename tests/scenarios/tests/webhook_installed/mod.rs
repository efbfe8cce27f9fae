//! The webhook as the chart installs it, and objects to ask it about.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::{Api, Client};
use scenarios::{eventually, run};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command, sync::OnceCell};

pub(crate) const FAMILY: &str = "service.beta.kubernetes.io/aws-load-balancer-";

/// The labels of namespaces whose pods are changed, one for each hook.
pub(crate) const LABELS: [(&str, &str); 3] = [
    ("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled"),
    ("elbv2.k8s.aws/pod-drain-inject", "enabled"),
    ("elbv2.k8s.aws/quic-server-id-inject", "enabled"),
];

/// Waits until the webhook that the lab has installed is asked, once for all tests.
pub(crate) async fn installed() -> Result<()> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_try_init(asked).await.copied()
}

/// Waits until the webhook runs and API servers ask it.
pub(crate) async fn asked() -> Result<()> {
    run("kubectl", &["-n", "sluice-system", "rollout", "status", "deployment/sluice-webhook", "--timeout=120s"], "")
        .await?;
    let client = Client::try_default().await?;
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client);
    eventually("the CA in both webhook configurations", || async {
        let mutating = mutating.get("sluice-webhook").await?.webhooks.unwrap_or_default();
        let validating = validating.get("sluice-webhook").await?.webhooks.unwrap_or_default();
        let injected = mutating.iter().all(|hook| hook.client_config.ca_bundle.is_some())
            && validating.iter().all(|hook| hook.client_config.ca_bundle.is_some());
        Ok(injected.then_some(()))
    })
    .await?;
    // API servers learn of a configuration a moment after it was written, and trust its authority from then on.
    eventually("a first review", || async {
        let (_, says) = create("default", &service("first", &[("scheme", "public")]), true).await?;
        Ok(says.contains("denied the request").then_some(()))
    })
    .await
}

/// Creates an object with kubectl: whether it was accepted, and everything that kubectl said.
pub(crate) async fn create(namespace: &str, object: &Value, dry_run: bool) -> Result<(bool, String)> {
    let how: &[&str] = if dry_run { &["--dry-run=server"] } else { &[] };
    told(&[&["-n", namespace, "create", "-f", "-"], how].concat(), &object.to_string()).await
}

/// Runs kubectl: whether it succeeded, and everything that it complained about.
pub(crate) async fn told(arguments: &[&str], input: &str) -> Result<(bool, String)> {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start kubectl")?;
    child.stdin.take().context("its input")?.write_all(input.as_bytes()).await?;
    let output = child.wait_with_output().await?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// A Service of our class with some annotations of the family, on top of those of a usual one.
pub(crate) fn service(name: &str, annotations: &[(&str, &str)]) -> Value {
    let usual = [
        ("scheme", "internet-facing"),
        ("nlb-target-type", "ip"),
        ("healthcheck-protocol", "http"),
        ("healthcheck-path", "/healthz"),
        ("attributes", "load_balancing.cross_zone.enabled=true"),
    ];
    let all: serde_json::Map<String, Value> =
        usual.iter().chain(annotations).map(|(key, value)| (format!("{FAMILY}{key}"), json!(value))).collect();
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "labels": {"app": name}, "annotations": all},
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb", "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}, {"name": "https", "port": 443, "targetPort": 8443}],
        },
    })
}

pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "labels": {"app": "web"},
            // Which one of the hooks wants to see.
            "annotations": {format!("{FAMILY}quic-enabled-containers"): "server"},
        },
        "spec": {
            "terminationGracePeriodSeconds": 10,
            "containers": [{"name": "server", "image": "echoserver", "ports": [{"containerPort": 8080}]}],
        },
    })
}
