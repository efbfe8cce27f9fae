//! The process from its start to its end.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot be set up has failed")]

mod api;
#[path = "../server/client.rs"]
mod client;
#[path = "../server/kubelet.rs"]
mod kubelet;
mod webhook;

use std::{collections::BTreeSet, time::Duration};

use http::{StatusCode, header::CONNECTION};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use self::{api::Api, webhook::Webhook};

fn terminate(webhook: &Webhook) {
    let pid = webhook.child.id().unwrap().to_string();
    assert!(std::process::Command::new("kill").arg(pid).status().unwrap().success());
}

#[tokio::test]
async fn a_cluster_without_the_definition_of_bindings_is_served() {
    let webhook = Webhook::start("no-definition", Api::start(vec![], None).await, &[]);
    webhook.ready(true).await;
    let (_, report) = webhook.ask("/readyz").await.unwrap();
    assert_eq!(report, "serving: ok\nservices: ok\nbindings: ok, the cluster does not know this kind\n");
    assert_eq!(webhook.ask("/livez").await.unwrap().0, StatusCode::OK);
    let (_, metrics) = webhook.ask("/metrics").await.unwrap();
    assert!(metrics.contains("sluice_webhook_certificate_not_after_timestamp_seconds 2208988800"), "{metrics}");
    webhook.connect().await.unwrap().review().await.unwrap();
}

/// What the manifest grants, as verb and kind.
fn granted() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/install.yaml")).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&manifest).unwrap();
    let words = |words: &Value| -> Vec<String> { serde_json::from_value(words.clone()).unwrap() };
    let of_webhook = |document: &&Value| document["metadata"]["name"] == "sluice-webhook";
    let rules = documents.iter().filter(of_webhook).filter_map(|document| document["rules"].as_array()).flatten();
    rules
        .flat_map(|rule| {
            let verbs = words(&rule["verbs"]);
            words(&rule["resources"])
                .into_iter()
                .flat_map(move |kind| verbs.clone().into_iter().map(move |verb| format!("{verb} {kind}")))
        })
        .collect()
}

#[tokio::test]
async fn what_the_manifest_grants_is_what_is_used() {
    let webhook = Webhook::start("permissions", Api::start(vec![], Some(vec![])).await, &[]);
    webhook.ready(true).await;
    webhook.connect().await.unwrap().review().await.unwrap();
    // Watches begin when lists are complete, a moment after the webhook is ready.
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    while webhook.api.used() != granted() {
        ticks.tick().await;
        assert!(Instant::now() < deadline, "granted {:?}, used {:?}", granted(), webhook.api.used());
    }
    assert_eq!(granted().len(), 4);
}

#[tokio::test]
async fn a_terminated_process_answers_until_nobody_asks_and_ends_well() {
    let mut webhook = Webhook::start("terminated", Api::start(vec![], Some(vec![])).await, &["--linger-seconds=2"]);
    webhook.ready(true).await;
    let (mut kept, mut late) = (webhook.connect().await.unwrap(), webhook.connect().await.unwrap());
    assert!(!kept.certificate.is_empty());
    kept.review().await.unwrap();
    late.review().await.unwrap();

    let told = Instant::now();
    terminate(&webhook);
    webhook.ready(false).await;
    let (_, report) = webhook.ask("/readyz").await.unwrap();
    assert!(report.contains("serving: not ready, shutting down\n"), "{report}");
    // A connection that was kept is answered once more and closed by both, and a new one is accepted still.
    let answer = kept.post("/mutate-v1-pod", client::REVIEW).await.unwrap();
    assert_eq!((answer.status(), &answer.headers()[CONNECTION]), (StatusCode::OK, &"close".parse().unwrap()));
    assert!(kept.review().await.is_err());
    webhook.connect().await.unwrap().review().await.unwrap();
    late.review().await.unwrap();

    let status = timeout(Duration::from_secs(20), webhook.child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(told.elapsed() >= Duration::from_secs(2), "it lingered");
    assert!(webhook.connect().await.is_err());
}

#[tokio::test]
async fn what_cannot_work_is_told_before_anything_is_served() {
    let missing = std::process::Command::new(env!("CARGO_BIN_EXE_webhook"))
        .args(["--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--certificate-directory=/no/such"])
        .output()
        .unwrap();
    assert_eq!(missing.status.code(), Some(2));
    let says = String::from_utf8(missing.stderr).unwrap();
    assert!(says.contains("reading /no/such/tls.crt: No such file"), "{says}");
}
