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
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, MutexGuard, watch},
    task::JoinSet,
    time::{Instant, timeout},
};

use self::webhook_installed::{FAMILY, LABELS, create, installed, pod, service, told};

const OURS: &[&str] = &["-n", "sluice-system"];
/// How long the API server waits for a hook on pods.
const POD_TIMEOUT: Duration = Duration::from_secs(2);
/// What a machine that is busy may add: less than another hook would.
const BUSY: Duration = Duration::from_millis(1900);

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
async fn with_no_replica_everything_is_created_at_once_and_can_be_edited_later() -> Result<()> {
    let _alone = alone().await?;
    let lab = Scenario::begin("gone", &LABELS).await?;
    ours(&["scale", "deployment/sluice-webhook", "--replicas=0"]).await?;
    ours(&["wait", "pod", "-l", "app.kubernetes.io/name=sluice-webhook", "--for=delete", "--timeout=60s"]).await?;
    let result = everything_is_created(&lab).await;
    ours(&["scale", "deployment/sluice-webhook", "--replicas=2"]).await?;
    rolled_out().await?;
    result?;
    what_was_stored_can_be_edited(&lab).await?;
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
    let broken = service("broken", &[("scheme", "public")]);
    for (path, object) in
        [("pods", pod("single")), ("services", plain), ("services", broken), ("deployments", deployment)]
    {
        let group = if path == "deployments" { "apis/apps/v1" } else { "api/v1" };
        let request = kube::core::Request::new(format!("/{group}/namespaces/{}/{path}", lab.namespace))
            .create(&PostParams::default(), object.to_string().into_bytes())?;
        // Not even one of the hooks is waited for.
        timeout(POD_TIMEOUT, lab.client.request::<Value>(request)).await.with_context(|| path.to_owned())??;
    }
    lab.ready_pods("app=web", 3).await.map(drop)
}

/// A Service with a mistake that was stored while nobody looked.
async fn what_was_stored_can_be_edited(lab: &Scenario) -> Result<()> {
    eventually("reviews again", || async {
        let (_, says) = create(&lab.namespace, &service("other", &[("scheme", "public")]), true).await?;
        Ok(says.contains("denied the request").then_some(()))
    })
    .await?;
    let (scheme, target_type) = (format!("{FAMILY}scheme"), format!("{FAMILY}nlb-target-type"));
    let port = r#"[{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 8081}]"#;
    let annotate = |key: &str, value: &str| {
        vec!["annotate".into(), "service/broken".into(), "--overwrite".into(), format!("{key}={value}")]
    };
    let patch = ["patch", "service/broken", "--type=json", "-p", port].map(str::to_owned).to_vec();
    // What is done to it, whether that is stored, and what is said.
    let edits = [
        (annotate("example.com/note", "x"), true, ["Warning: ", &scheme, "public"]),
        (patch, true, ["Warning: ", &scheme, "public"]),
        (annotate(&target_type, "pod"), false, ["denied the request", "has 1 violation:", &target_type]),
        (annotate(&scheme, "external"), false, ["denied the request", &scheme, "external"]),
        (annotate(&scheme, "internal"), true, [""; 3]),
        (annotate(&scheme, "public"), false, ["denied the request", &scheme, "public"]),
    ];
    for (edit, expected, words) in edits {
        let edit: Vec<_> = ["-n", &lab.namespace].into_iter().chain(edit.iter().map(String::as_str)).collect();
        let (stored, says) = told(&edit, "").await?;
        ensure!(stored == expected, "{edit:?}: stored: {stored}: {says}");
        ensure!(words.iter().all(|word| says.contains(word)), "{edit:?}: {words:?} in {says}");
    }
    Ok(())
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
async fn when_replicas_hang_a_pod_waits_for_the_timeout_of_each_of_its_labels_and_is_created() -> Result<()> {
    let _alone = alone().await?;
    let mut labs = Vec::new();
    for labels in 0..=LABELS.len() {
        labs.push(Scenario::begin("hung", &LABELS[..labels]).await?);
    }
    let pids = processes(&labs[0]).await?;
    ensure!(pids.len() == 2, "two processes: {pids:?}");
    let signal = async |name: &str| -> Result<()> {
        let arguments: Vec<_> = std::iter::once(name).chain(pids.iter().map(String::as_str)).collect();
        run("kill", &arguments, "").await.map(drop)
    };
    // Replicas that hang are asked for no longer than their probes take to notice. This one is as if they never did.
    let unready_too = async |asked: bool| {
        let patch = format!(r#"{{"spec": {{"publishNotReadyAddresses": {asked}}}}}"#);
        ours(&["patch", "service", "sluice-webhook", "--type=merge", "-p", &patch]).await
    };
    unready_too(true).await?;
    signal("-STOP").await?;
    let created = async {
        for (lab, labels) in labs.iter().zip(0..) {
            let api: Api<Pod> = lab.api();
            let (single, start) = (serde_json::from_value(pod("single"))?, Instant::now());
            api.create(&PostParams::default(), &single).await.with_context(|| format!("{labels} labels"))?;
            let (took, hooks) = (start.elapsed(), POD_TIMEOUT * labels);
            ensure!(took >= hooks, "with {labels} labels nobody was asked: {took:?}");
            ensure!(took < hooks + BUSY, "with {labels} labels it took {took:?}");
        }
        Ok(())
    }
    .await;
    signal("-CONT").await?;
    unready_too(false).await?;
    rolled_out().await?;
    created?;
    for lab in labs {
        lab.end().await?;
    }
    Ok(())
}
