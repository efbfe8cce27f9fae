//! How long pods wait for their gates: a Deployment is scaled up at once, and each pod's way is timed from its containers
//! being ready, and from the load balancer's verdict, to its condition `Ready`.
//!
//! Run in a lab whose AWS is instant: `lab exec --profile instant --time-scale 20 -- <this program>`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    api::{WatchEvent, WatchParams},
};
use scenarios::{
    Scenario, address, condition, eventually, is_ready,
    target_group::{Emulator, TargetGroup},
};
use tokio::time::{Instant, timeout};

const PODS: usize = 100;
const PATIENCE: Duration = Duration::from_mins(3);

fn main() -> Result<()> {
    if !std::env::var("KUBECONFIG").is_ok_and(|path| path.starts_with("/run/lab/")) {
        println!("this measures in the lab only: make bench");
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())
}

/// When things were first seen of a pod.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    containers_ready: Option<f64>,
    ready: Option<f64>,
}

async fn measure() -> Result<()> {
    let emulator = Emulator::new()?;
    let lab = Scenario::begin("gates", &[("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled")]).await?;
    let group = TargetGroup::create(&lab).await?;
    group.bind(&lab).await?;
    lab.apply(&deployment(1)).await?;
    eventually("the first pod has a gate and is ready", || async {
        let pods = lab.pods("app=web").await?;
        let gated = pods.iter().any(|pod| pod.spec.as_ref().is_some_and(|spec| spec.readiness_gates.is_some()));
        Ok((gated && pods.iter().all(is_ready)).then_some(()))
    })
    .await?;
    let before = emulator.last().await?;
    // One clock: the emulator's, as it is here.
    let (asked, now) = (Instant::now(), emulator.now().await?);
    let clock = || now + (Instant::now() - asked).as_secs_f64();
    lab.apply(&deployment(1 + PODS)).await?;
    let (seen, addresses) = watch(&lab, clock).await?;
    let verdicts = emulator.log(before, "target", "healthy").await?;
    let verdicts: BTreeMap<_, _> = verdicts
        .iter()
        .filter(|entry| entry["to"] == "healthy")
        .filter_map(|entry| Some((entry["who"].as_str()?.split(':').next()?.to_owned(), entry["at"].as_f64()?)))
        .collect();
    let from_containers = seen.values().filter_map(|seen| Some(seen.ready? - seen.containers_ready?));
    let from_verdict = seen.iter().filter_map(|(name, seen)| Some(seen.ready? - verdicts.get(addresses.get(name)?)?));
    show("containers ready -> pod Ready", from_containers.collect());
    show("AWS says healthy -> pod Ready", from_verdict.collect());
    let calls = emulator.log(before, "api", &group.arn).await?;
    let mut counts = BTreeMap::<_, usize>::new();
    for call in calls.iter().filter(|call| call["who"].as_str().is_some_and(|who| who.contains("sluice-registrar"))) {
        *counts.entry(call["action"].as_str().unwrap_or_default()).or_default() += 1;
    }
    println!("ELBv2 calls: {} {counts:?}", counts.values().sum::<usize>());
    lab.kubectl(&["delete", "targetgroupbinding", "--all", "--timeout=60s"]).await?;
    lab.end().await?;
    group.delete().await
}

fn deployment(replicas: usize) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web }}\nspec:\n  replicas: {replicas}\n  \
         selector: {{ matchLabels: {{ app: web }} }}\n  template:\n    metadata: {{ labels: {{ app: web }} }}\n    \
         spec: {{ containers: [{{ name: echo, image: echo, ports: [{{ containerPort: 8080 }}] }}] }}\n"
    )
}

/// Watches until all new pods are ready.
async fn watch(lab: &Scenario, clock: impl Fn() -> f64) -> Result<(BTreeMap<String, Seen>, BTreeMap<String, String>)> {
    let old: BTreeSet<_> = lab.pods("app=web").await?.iter().filter(|pod| is_ready(pod)).map(Pod::name_any).collect();
    let (mut seen, mut addresses) = (BTreeMap::<String, Seen>::new(), BTreeMap::new());
    let pods = lab.api::<Pod>();
    let parameters = WatchParams::default().labels("app=web");
    let mut events = pods.watch(&parameters, "0").await?.boxed();
    timeout(PATIENCE, async {
        while seen.values().filter(|seen| seen.ready.is_some()).count() < PODS {
            let event = events.next().await.context("the watch ended")??;
            let (WatchEvent::Added(pod) | WatchEvent::Modified(pod)) = event else { continue };
            if old.contains(&pod.name_any()) {
                continue;
            }
            let entry = seen.entry(pod.name_any()).or_default();
            let now = clock();
            if condition(&pod, "ContainersReady").is_some_and(|condition| condition.status == "True") {
                entry.containers_ready.get_or_insert(now);
            }
            if is_ready(&pod) {
                entry.ready.get_or_insert(now);
            }
            addresses.insert(pod.name_any(), address(&pod));
        }
        anyhow::Ok(())
    })
    .await??;
    ensure!(seen.len() >= PODS, "{} pods", seen.len());
    Ok((seen, addresses))
}

fn show(what: &str, mut seconds: Vec<f64>) {
    seconds.sort_by(f64::total_cmp);
    let at = |share: usize| seconds.get((seconds.len() * share / 100).min(seconds.len().saturating_sub(1))).copied();
    let milliseconds = |share| at(share).unwrap_or(f64::NAN) * 1000.0;
    println!(
        "{what}: {} pods, p50 {:.0} ms, p99 {:.0} ms, max {:.0} ms",
        seconds.len(),
        milliseconds(50),
        milliseconds(99),
        milliseconds(100)
    );
}
