//! Rollouts under load: with what Sluice gives to pods, and the same without it.

use std::{fs, path::Path, time::Instant};

use kube::Client;
use load::Report;

use super::{
    report::Rollout,
    stage::Stage,
    timeline::{Clock, Recorder, Timeline, now},
};
use crate::scale::Scale;

/// What recordings need of the lab.
pub struct Studio {
    /// The cluster.
    pub client: Client,
    /// How much faster the emulator's clock runs.
    pub scale: Scale,
}

/// What was seen of one run.
pub struct Recorded {
    /// The requests.
    pub load: Report,
    /// Pods and targets, on the clock of the requests.
    pub timeline: Timeline,
}

/// Runs a command of the story that sends load and reports to `report`, and records what happens to the pods of
/// `namespace` meanwhile. The report and the picture get it under `title`.
pub async fn record(
    stage: &mut Stage,
    studio: &Studio,
    title: &str,
    namespace: &str,
    report: &str,
    command: &str,
) -> Option<Recorded> {
    let clock = clock(stage, studio.scale).await?;
    let log = stage.variable("SLUICE_LAB_LOG").to_owned();
    let recorder = Recorder::start(&studio.client, namespace, "sluice-system", Path::new(&log), clock);
    stage.follow(command).await;
    let timeline = said(recorder.finish().await)?;
    let path = stage.file(report);
    let text = said(fs::read_to_string(&path).map_err(|e| format!("read {}: {e}", path.display())))?;
    let load: Report = said(serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display())))?;
    let timeline = timeline.since(load.began);
    stage.keep_rollout(Rollout { title: title.to_owned(), load: load.clone(), timeline: timeline.clone() });
    Some(Recorded { load, timeline })
}

/// What is wrong is shown; the step that needs it has not been seen then.
fn said<T, E: std::fmt::Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|e| println!("{e}")).ok()
}

async fn clock(stage: &Stage, scale: Scale) -> Option<Clock> {
    let asked = Instant::now();
    let answer = stage.ask("curl -s $SLUICE_LAB_CONTROL/v1/time").await;
    let model = serde_json::from_str::<serde_json::Value>(&answer).ok()?.get("now")?.as_f64()?;
    // The answer is from somewhere between the question and its arrival.
    Some(Clock { unix: now() - asked.elapsed().as_secs_f64() / 2.0, model, scale: scale.factor() })
}

/// Plays it: `$NAME` is the load balancer of the Deployment in the namespace `shop`.
pub async fn play(stage: &mut Stage, studio: &Studio) {
    with(stage, studio).await;
    without(stage, studio).await;
}

async fn with(stage: &mut Stage, studio: &Studio) {
    stage.scene(
        "A rollout under load: pods are ready when the load balancer says so, and leave when it has let go of them",
    );
    let pods = pods(stage, "shop").await;
    stage.keep("OLD", &pods);
    let command = "load --target http://$NAME --rate 300 --report with.json -- sh -c '
    kubectl -n shop rollout restart deployment/echo
    kubectl -n shop rollout status deployment/echo --timeout=100s
    kubectl -n shop wait --for=delete $OLD --timeout=60s'";
    let title = "A rollout with readiness gates and drain delay";
    let seen = record(stage, studio, title, "shop", "with.json", command).await;
    let seen = seen.map(|recorded| recorded.load);
    expect_none_lost(stage, "rollout", &pods, seen.as_ref());
}

/// Every pod was replaced, and every request answered.
fn expect_none_lost(stage: &mut Stage, title: &str, old: &str, seen: Option<&Report>) {
    let (text, good) = match seen {
        None => ("nothing".to_owned(), false),
        Some(report) => {
            let new = report.pods.keys().filter(|pod| !old.contains(pod.as_str())).count();
            let text = format!("{} requests, {} failed, {new} new pods", report.requests, report.failures_in_words());
            (text, report.failed == 0 && report.requests > 0 && new == old.split_whitespace().count())
        }
    };
    let count = old.split_whitespace().count();
    stage.expect(title, &format!("0 failed, {count} new pods"), text, good);
}

/// The pods of the Deployment, as `pod/<name>`.
pub async fn pods(stage: &Stage, namespace: &str) -> String {
    let list = format!("kubectl -n {namespace} get pods -l app=echo -o name --field-selector=status.phase=Running");
    stage.ask(&list).await.split_whitespace().collect::<Vec<_>>().join(" ")
}

async fn without(stage: &mut Stage, studio: &Studio) {
    stage.scene("The same in a namespace without gates and drain delay, for contrast");
    stage.run("kubectl create namespace plain").await;
    stage.run("kubectl -n plain apply -f echo-service-nlb.yaml").await;
    stage.run("kubectl -n plain wait service/echo --for=jsonpath='{.status.loadBalancer.ingress[0].hostname}' --timeout=60s").await;
    let name =
        stage.ask("kubectl -n plain get service echo -o jsonpath='{.status.loadBalancer.ingress[0].hostname}'").await;
    stage.keep("PLAIN", name.trim());
    let group = stage
        .until("kubectl -n plain get targetgroupbindings -o jsonpath='{.items[0].spec.targetGroupARN}'", |text| {
            text.starts_with("arn:")
        })
        .await;
    stage.keep("PLAIN_TG", group.trim());
    let healthy = "aws elbv2 describe-target-health --target-group-arn $PLAIN_TG --output text --query \
        'TargetHealthDescriptions[].TargetHealth.State'";
    stage.until(healthy, |text| text.split_whitespace().eq(["healthy", "healthy"])).await;
    stage.run(healthy).await;
    let pods = pods(stage, "plain").await;
    stage.keep("OLD", &pods);
    let addresses = stage.ask("kubectl -n plain get pods -l app=echo -o jsonpath='{.items[*].status.podIP}'").await;
    stage.keep("IPS", addresses.trim());
    let command = "load --target http://$PLAIN --rate 300 --report without.json -- sh -c '
    kubectl -n plain rollout restart deployment/echo
    kubectl -n plain rollout status deployment/echo --timeout=60s
    kubectl -n plain wait --for=delete $OLD --timeout=60s
    for ip in $IPS; do curl -s -o /dev/null \"$SLUICE_LAB_CONTROL/v1/log?kind=routing&who=$ip:8080&contains=none&wait=30\"; done'";
    let title = "The same rollout without";
    let seen = record(stage, studio, title, "plain", "without.json", command).await;
    let (text, good) = match seen {
        None => ("nothing".to_owned(), false),
        Some(Recorded { load, .. }) => {
            (format!("{} requests, {} failed", load.requests, load.failures_in_words()), load.failed > 0)
        }
    };
    stage.expect("for contrast", "failures", text, good);
}
