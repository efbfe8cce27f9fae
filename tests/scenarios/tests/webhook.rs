//! The webhook as it is deployed: its manifests, a certificate of cert-manager, and a real API server that asks it.

use std::{path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    core::v1::Pod,
};
use kube::{Api, Client, ResourceExt as _, api::PostParams};
use scenarios::{Scenario, eventually, run};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command, sync::OnceCell};

const FAMILY: &str = "service.beta.kubernetes.io/aws-load-balancer-";

fn file(path: &str) -> String {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).display().to_string()
}

/// Installs the webhook, once for all tests, as its manifests say, and waits until it is asked.
async fn installed() -> Result<()> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_try_init(install).await.map(|()| ())
}

async fn install() -> Result<()> {
    run("kubectl", &["apply", "--server-side", "-f", &file("manifests/crds/targetgroupbindings.yaml")], "").await?;
    run("kubectl", &["apply", "-f", &file("manifests/webhook.yaml")], "").await?;
    run("kubectl", &["apply", "-f", &file("certs/cert-manager.yaml")], "").await?;
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
async fn create(namespace: &str, object: &Value, dry_run: bool) -> Result<(bool, String)> {
    let mut arguments = vec!["-n", namespace, "create", "-f", "-"];
    if dry_run {
        arguments.push("--dry-run=server");
    }
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start kubectl")?;
    child.stdin.take().context("its input")?.write_all(object.to_string().as_bytes()).await?;
    let output = child.wait_with_output().await?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// A Service of our class with some annotations of the family, on top of those of a usual one.
fn service(name: &str, annotations: &[(&str, &str)]) -> Value {
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

fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 10,
            "containers": [{"name": "server", "image": "echoserver", "ports": [{"containerPort": 8080}]}],
        },
    })
}

fn gates(pod: &Pod) -> Vec<String> {
    let gates = pod.spec.as_ref().and_then(|spec| spec.readiness_gates.clone()).unwrap_or_default();
    gates.into_iter().map(|gate| gate.condition_type).collect()
}

#[tokio::test]
async fn the_usual_service_is_stored_without_a_word() -> Result<()> {
    let lab = Scenario::begin("usual", &[]).await?;
    installed().await?;
    let (stored, says) = create(&lab.namespace, &service("web", &[]), false).await?;
    ensure!(stored && says.is_empty(), "{says}");
    lab.end().await
}

#[tokio::test]
async fn a_broken_service_is_refused_with_everything_that_is_wrong_with_it() -> Result<()> {
    let lab = Scenario::begin("broken", &[]).await?;
    installed().await?;
    // What is written, and what the one message must say about each of it.
    let variants: [&[(&str, &str, &str)]; 10] = [
        &[("scheme", "public", "internet-facing"), ("nlb-target-type", "pod", "ip")],
        &[("healthcheck-interval", "4", "5"), ("healthcheck-healthy-threshold", "11", "10")],
        &[("healthcheck-path", "healthz", "/"), ("healthcheck-port", "99999", "65535")],
        &[("ssl-cert", "my-certificate", "arn:"), ("backend-protocol", "https", "ssl")],
        &[("security-groups", "sg-xyz", "sg-"), ("disable-nlb-sg", "yes", "true")],
        &[("subnets", "subnet-1", "subnet-"), ("ip-address-type", "ipv6", "dualstack")],
        &[("additional-resource-tags", "a", "="), ("name", "a_b", "letters")],
        &[("attributes", "deletion_protection.enabled=maybe", "true"), ("pod-drain", "soon", "auto")],
        &[("private-ipv4-addresses", "10.0.0.1", "internal"), ("enable-icmp-for-path-mtu-discovery", "yes", "on")],
        &[
            ("target-group-attributes", "deregistration_delay.timeout_seconds=-1", "3600"),
            ("alpn-policy", "h2", "HTTP2"),
        ],
    ];
    let mut problems = Vec::new();
    for (index, variant) in variants.iter().enumerate() {
        let annotations: Vec<_> = variant.iter().map(|(key, value, _)| (*key, *value)).collect();
        let (stored, says) = create(&lab.namespace, &service(&format!("broken-{index}"), &annotations), false).await?;
        if stored || !says.contains("admission webhook \"service.sluice.k8s.aws\" denied the request: Service") {
            problems.push(format!("{annotations:?} was not refused by the webhook: {says}"));
        }
        for (key, value, remedy) in *variant {
            let line = says.lines().find(|line| line.starts_with(&format!("- {FAMILY}{key}: ")));
            let value = value.rsplit('=').next().unwrap_or_default();
            if line.is_none_or(|line| !line.contains(value) || !line.contains(remedy)) {
                problems.push(format!("{key}: {value} -> {remedy}: {line:?} of\n{says}"));
            }
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    lab.end().await
}

#[tokio::test]
async fn a_mistyped_key_is_stored_with_a_warning_that_says_what_was_meant() -> Result<()> {
    let lab = Scenario::begin("typo", &[]).await?;
    installed().await?;
    let (stored, says) = create(&lab.namespace, &service("web", &[("schema", "internal")]), false).await?;
    ensure!(stored, "{says}");
    let expected = format!("Warning: {FAMILY}schema");
    ensure!(says.contains(&expected) && says.contains("did you mean") && says.contains("scheme"), "{says}");
    lab.end().await
}

#[tokio::test]
async fn pods_get_their_gates_although_no_target_group_exists() -> Result<()> {
    let lab = Scenario::begin("gated", &[("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled")]).await?;
    installed().await?;
    let (stored, says) = create(&lab.namespace, &service("web", &[]), false).await?;
    ensure!(stored, "{says}");
    let pods: Api<Pod> = lab.api();
    // The webhook learns of the Service a moment after it was stored.
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    let seen = eventually("gates for both ports", || async {
        let pod = pods.create(&tried, &serde_json::from_value(pod("tried"))?).await?;
        let gates = gates(&pod);
        Ok((gates.len() == 2).then_some(gates))
    })
    .await?;
    for gate in &seen {
        let name = format!("target-health.elbv2.k8s.aws/k8s-{}-web-", &lab.namespace.replace('-', "")[..8]);
        ensure!(gate.starts_with(&name), "{gate} begins with {name}");
    }
    lab.apply(&pod("stored").to_string()).await?;
    ensure!(gates(&lab.pod("stored").await?) == seen, "the stored pod has the same");

    // A Deployment's pods have no name yet, and their templates no namespace.
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web", "of": "deployment"}},
            "template": {
                "metadata": {"labels": {"app": "web", "of": "deployment"}},
                "spec": {"containers": [{"name": "server", "image": "echoserver"}]},
            },
        },
    });
    lab.apply(&deployment.to_string()).await?;
    let made = eventually("two pods", || async {
        let made = lab.pods("of=deployment").await?;
        Ok((made.len() == 2).then_some(made))
    })
    .await?;
    for pod in made {
        ensure!(gates(&pod) == seen, "{}: {:?}", pod.name_any(), gates(&pod));
    }

    let mut opted_out = pod("without");
    opted_out["metadata"]["labels"]["elbv2.k8s.aws/pod-readiness-gate-inject"] = json!("disabled");
    lab.apply(&opted_out.to_string()).await?;
    ensure!(gates(&lab.pod("without").await?).is_empty(), "a pod can want none");
    lab.end().await
}

#[tokio::test]
async fn a_second_mutating_hook_and_reinvocation_change_nothing() -> Result<()> {
    let labels =
        [("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled"), ("elbv2.k8s.aws/pod-drain-inject", "enabled")];
    let lab = Scenario::begin("again", &labels).await?;
    installed().await?;
    // The same hooks once more under a name that comes later: each changes the pod, so that the others are asked again.
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(lab.client.clone());
    let mut again = mutating.get("sluice-webhook").await?;
    again.metadata = kube::core::ObjectMeta { name: Some(lab.namespace.clone()), ..Default::default() };
    for hook in again.webhooks.iter_mut().flatten() {
        hook.name = format!("again.{}", hook.name);
        let selector = hook.namespace_selector.get_or_insert_default();
        let labels = selector.match_labels.get_or_insert_default();
        labels.insert("kubernetes.io/metadata.name".to_owned(), lab.namespace.clone());
    }
    mutating.create(&PostParams::default(), &again).await?;
    let (stored, says) = create(&lab.namespace, &service("web", &[]), false).await?;
    ensure!(stored, "{says}");
    let pods: Api<Pod> = lab.api();
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    let made = eventually("a pod with gates", || async {
        let made = pods.create(&tried, &serde_json::from_value(pod("tried"))?).await?;
        Ok((!gates(&made).is_empty()).then_some(made))
    })
    .await?;
    ensure!(gates(&made).len() == 2, "{:?}", gates(&made));
    let spec = made.spec.context("a spec")?;
    ensure!(spec.termination_grace_period_seconds == Some(130), "{:?}", spec.termination_grace_period_seconds);
    let sleeps = spec.containers[0].lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()?.sleep.as_ref());
    ensure!(sleeps.is_some_and(|sleep| sleep.seconds == 120), "{sleeps:?}");
    mutating.delete(&lab.namespace, &kube::api::DeleteParams::default()).await?;
    lab.end().await
}
