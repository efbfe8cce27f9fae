//! The webhook when it is restarted, renewed, stopped or gone. These tests disturb what all of them use, so that one waits
//! for the other.

mod webhook_installed;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, PostParams},
};
use scenarios::{Scenario, eventually, run};
use serde_json::json;
use tokio::{
    sync::{Mutex, MutexGuard, watch},
    task::JoinSet,
    time::timeout,
};

use self::webhook_installed::{create, installed, pod, service};

const OURS: &[&str] = &["-n", "sluice-system"];
/// How long a pod may take that waits for a hook of 2 seconds, and for a machine that is busy.
const BLACK_HOLE: Duration = Duration::from_secs(6);

/// The webhook, for one test at a time.
async fn alone() -> Result<MutexGuard<'static, ()>> {
    static ONE: Mutex<()> = Mutex::const_new(());
    let guard = ONE.lock().await;
    installed().await?;
    Ok(guard)
}

async fn ours(arguments: &[&str]) -> Result<String> {
    run("kubectl", &[OURS, arguments].concat(), "").await
}

async fn rolled_out() -> Result<()> {
    ours(&["rollout", "status", "deployment/sluice-webhook", "--timeout=90s"]).await.map(drop)
}

/// Asks about a Service that must be refused until told to stop: every other answer is a review that failed, because the
/// failure policy lets the Service through then. Returns how many were refused.
async fn refused_until(namespace: String, mut stop: watch::Receiver<bool>) -> Result<u32> {
    let client = kube::Client::try_default().await?;
    let services: Api<k8s_openapi::api::core::v1::Service> = Api::namespaced(client, &namespace);
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    let broken = serde_json::from_value(service("broken", &[("scheme", "public")]))?;
    let mut refused = 0;
    while !*stop.borrow_and_update() {
        match services.create(&tried, &broken).await {
            Err(kube::Error::Api(status)) if status.message.contains("denied the request") => refused += 1,
            other => anyhow::bail!("after {refused} reviews: {other:?}"),
        }
    }
    Ok(refused)
}

/// Runs something while reviews are asked for, none of which may fail.
async fn without_a_failed_review(lab: &Scenario, disturb: impl Future<Output = Result<()>>) -> Result<()> {
    let (stop, stopped) = watch::channel(false);
    let mut asking = JoinSet::new();
    for _ in 0..4 {
        asking.spawn(refused_until(lab.namespace.clone(), stopped.clone()));
    }
    disturb.await?;
    stop.send_replace(true);
    let mut refused = 0;
    while let Some(asked) = asking.join_next().await {
        refused += asked??;
    }
    ensure!(refused > 50, "only {refused} reviews");
    println!("{refused} reviews");
    Ok(())
}

#[tokio::test]
async fn replicas_are_replaced_without_a_failed_review() -> Result<()> {
    let _alone = alone().await?;
    let lab = Scenario::begin("rollout", &[]).await?;
    without_a_failed_review(&lab, async {
        ours(&["rollout", "restart", "deployment/sluice-webhook"]).await?;
        rolled_out().await?;
        // The old ones linger, and are gone only when the API server has heard of it.
        eventually("two pods", || async {
            let names = ours(&["get", "pods", "-l", "app.kubernetes.io/name=sluice-webhook", "-o", "name"]).await?;
            Ok((names.lines().count() == 2).then_some(()))
        })
        .await
    })
    .await?;
    lab.end().await
}

/// The ends of the certificates that the replicas serve, by their metrics.
async fn loads(lab: &Scenario) -> Result<BTreeSet<String>> {
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), "sluice-system");
    let mut loads = BTreeSet::new();
    for pod in pods.list(&ListParams::default().labels("app.kubernetes.io/name=sluice-webhook")).await? {
        let (_, metrics) = scenarios::curl(&format!("http://{}:8080/metrics", scenarios::address(&pod))).await?;
        let line = metrics.lines().find(|line| line.starts_with("sluice_webhook_certificate_loads_total "));
        loads.insert(format!("{} {}", pod.name_any(), line.context("the metric")?));
    }
    Ok(loads)
}

#[tokio::test]
async fn a_certificate_that_cert_manager_renews_is_served_without_a_failed_review() -> Result<()> {
    let _alone = alone().await?;
    let lab = Scenario::begin("renewal", &[]).await?;
    let before = loads(&lab).await?;
    without_a_failed_review(&lab, async {
        let renew = r#"{"status":{"conditions":[{"type":"Issuing","status":"True","reason":"ManuallyTriggered",
            "message":"renewed","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#;
        ours(&["patch", "certificate", "sluice-webhook", "--subresource=status", "--type=merge", "-p", renew]).await?;
        eventually("both replicas serve the new one", || async {
            let now = loads(&lab).await?;
            Ok((now.len() == 2 && now.is_disjoint(&before)).then_some(()))
        })
        .await
    })
    .await?;
    lab.end().await
}

#[tokio::test]
async fn with_no_replica_everything_is_created() -> Result<()> {
    let _alone = alone().await?;
    let labels =
        [("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled"), ("elbv2.k8s.aws/pod-drain-inject", "enabled")];
    let lab = Scenario::begin("gone", &labels).await?;
    ours(&["scale", "deployment/sluice-webhook", "--replicas=0"]).await?;
    ours(&["wait", "pod", "-l", "app.kubernetes.io/name=sluice-webhook", "--for=delete", "--timeout=60s"]).await?;
    let result = everything_is_created(&lab).await;
    ours(&["scale", "deployment/sluice-webhook", "--replicas=2"]).await?;
    rolled_out().await?;
    result?;
    lab.end().await
}

async fn everything_is_created(lab: &Scenario) -> Result<()> {
    let plain = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "plain"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "server", "image": "echoserver"}]},
            },
        },
    });
    for object in [pod("single"), plain, deployment, service("broken", &[("scheme", "public")])] {
        let (stored, says) = timeout(BLACK_HOLE, create(&lab.namespace, &object, false)).await??;
        ensure!(stored, "{says}");
    }
    lab.ready_pods("app=web", 3).await.map(drop)
}

/// The processes of the replicas, by the address that they listen on.
async fn processes(lab: &Scenario) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), "sluice-system");
    let listed = pods.list(&ListParams::default().labels("app.kubernetes.io/name=sluice-webhook")).await?;
    let wanted: Vec<_> = listed.iter().map(|pod| format!("--listen={}:9443", scenarios::address(pod))).collect();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut arguments = line.split(|byte| *byte == 0);
        if arguments.any(|argument| wanted.iter().any(|wanted| wanted.as_bytes() == argument)) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(found)
}

#[tokio::test]
async fn when_replicas_hang_a_pod_waits_for_the_timeout_of_its_label_and_is_created() -> Result<()> {
    let _alone = alone().await?;
    let labelled = Scenario::begin("hung", &[("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled")]).await?;
    let plain = Scenario::begin("hung-plain", &[]).await?;
    let pids = processes(&labelled).await?;
    ensure!(pids.len() == 2, "two processes: {pids:?}");
    let signal = async |name: &str| -> Result<()> {
        let arguments: Vec<_> = std::iter::once(name).chain(pids.iter().map(String::as_str)).collect();
        run("kill", &arguments, "").await.map(drop)
    };
    signal("-STOP").await?;
    let created = async {
        // Where no label asks for it, nobody is asked.
        let (stored, says) = timeout(Duration::from_secs(2), create(&plain.namespace, &pod("plain"), false)).await??;
        ensure!(stored, "{says}");
        let (stored, says) = timeout(BLACK_HOLE, create(&labelled.namespace, &pod("waits"), false)).await??;
        ensure!(stored, "{says}");
        Ok(())
    }
    .await;
    signal("-CONT").await?;
    rolled_out().await?;
    created?;
    plain.end().await?;
    labelled.end().await
}
