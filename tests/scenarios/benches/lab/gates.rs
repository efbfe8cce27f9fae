//! How long pods wait for their gates: from their containers being ready, and from the load balancer's verdict, to their
//! condition `Ready`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use figures::{percentile, record};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use scenarios::{
    Scenario, address, condition, eventually, is_ready,
    query::Elb,
    target_group::{Emulator, TargetGroup, is_throttled},
    within,
};
use tokio::time::{Instant, timeout};

use crate::calls::{counts, number};

/// How many pods there are unless `GATES_PODS` says so.
const PODS: usize = 100;
/// How many groups are rolled at once.
const GROUPS: usize = 100;
/// Bounds a failure; a real registration takes minutes.
const PATIENCE: Duration = Duration::from_mins(10);
const GATES: (&str, &str) = ("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled");
/// The label of pods that are measured.
const MEASURED: &str = "part=measured";
/// Of the clock in which Linux counts the time that processes started at.
const TICKS: f64 = 100.0;

/// When things were first seen of a pod, in seconds.
#[derive(Debug, Clone, Default)]
struct Seen {
    address: String,
    containers_ready: Option<f64>,
    ready: Option<f64>,
}

/// The emulator's clock, read here.
#[derive(Debug, Clone, Copy)]
struct Clock {
    began: Instant,
    at: f64,
    scale: f64,
}

impl Clock {
    async fn new(emulator: &Emulator) -> Result<Self> {
        let (at, began) = (emulator.now().await?, Instant::now());
        tokio::time::sleep(Duration::from_secs(1)).await;
        let scale = ((emulator.now().await? - at) / began.elapsed().as_secs_f64()).round();
        Ok(Self { began, at, scale })
    }

    fn now(&self) -> f64 {
        self.at / self.scale + self.began.elapsed().as_secs_f64()
    }
}

/// A Deployment that grows at once, with an AWS that is instant.
pub(crate) async fn burst() -> Result<()> {
    record("gates.lab-ready", lab_ready()?)?;
    let emulator = Emulator::new()?;
    let lab = Scenario::begin("gates", &[GATES]).await?;
    let (seen, before, clock) = grow(&lab, &emulator, "instant").await?;
    let ready = since_verdict(&seen, &verdicts(&emulator, before, clock).await?)?;
    println!(
        "  of that, from the verdict on: p50 {:.3} s, p99 {:.3} s",
        percentile(&ready, 50),
        percentile(&ready, 99)
    );
    let begun = sorted(seen.values().filter_map(|seen| seen.containers_ready));
    println!("  containers became ready within {:.1} s", percentile(&begun, 100) - percentile(&begun, 1));
    let waits = sorted(seen.values().filter_map(|seen| Some(seen.ready? - seen.containers_ready?)));
    ensure!(waits.len() == pods()?, "{} of {} pods were seen to become ready", waits.len(), pods()?);
    record("gates.p50", percentile(&waits, 50) * 1000.0)?;
    record("gates.p99", percentile(&waits, 99) * 1000.0)?;
    let calls = emulator.calls(before).await?;
    let calls: Vec<_> = calls.into_iter().filter(|call| call.to_string().contains(":targetgroup/")).collect();
    println!("  calls: {:?}", counts(&calls));
    record("gates.calls", number(&calls, |call| call["service"] == "elb"))?;
    Ok(())
}

/// The same with the lags of a real load balancer, and then many groups at once.
pub(crate) async fn lags() -> Result<()> {
    let emulator = Emulator::new()?;
    let began = emulator.last().await?;
    let lab = Scenario::begin("lags", &[GATES]).await?;
    let (seen, before, clock) = grow(&lab, &emulator, "real-2023").await?;
    let waits = since_verdict(&seen, &verdicts(&emulator, before, clock).await?)?;
    record("lags.one-p99", percentile(&waits, 99))?;
    println!("  p50 {:.2} s, slowest {:.2} s", percentile(&waits, 50), percentile(&waits, 100));
    let calls = emulator.calls(before).await?;
    println!("  calls: {:?}", counts(&calls));

    println!("{GROUPS} groups of a pod each");
    emulator.profile("instant").await?;
    lab.kubectl(&["delete", "deployment/web", "service/web", "targetgroupbinding/web", "--timeout=120s"]).await?;
    within(PATIENCE, "the pods are gone", || async { Ok(lab.pods(MEASURED).await?.is_empty().then_some(())) }).await?;
    let many = Scenario::begin("many", &[GATES]).await?;
    let groups = Elb::new()?.target_groups("many", GROUPS).await?;
    many.apply(&groups.iter().enumerate().fold(String::new(), |text, (number, arn)| text + &backend(number, arn)))
        .await?;
    many.apply(&(0..GROUPS).fold(String::new(), |text, number| text + &deployment(&format!("web-{number}"), 1)))
        .await?;
    all_ready(&many, GROUPS).await?;
    emulator.profile("real-2023").await?;
    let before = emulator.last().await?;
    println!("  rolled at once");
    let watched = watch(&many, GROUPS, clock);
    let restart = ["rollout", "restart", "deployment"];
    let (rolled, seen) = tokio::join!(many.kubectl(&restart), watched);
    rolled?;
    let waits = since_verdict(&seen?, &verdicts(&emulator, before, clock).await?)?;
    record("lags.many-p99", percentile(&waits, 99))?;
    println!("  p50 {:.2} s, slowest {:.2} s", percentile(&waits, 50), percentile(&waits, 100));
    println!("  calls: {:?}", counts(&emulator.calls(before).await?));
    record("lags.throttles", number(&emulator.calls(began).await?, is_throttled))?;
    Ok(())
}

/// A Deployment of one pod in a group that grows by [`PODS`], under a profile of the emulator. Returns the new pods, by
/// name, where the log was, and the emulator's clock.
async fn grow(lab: &Scenario, emulator: &Emulator, profile: &str) -> Result<(BTreeMap<String, Seen>, u64, Clock)> {
    emulator.profile("instant").await?;
    let group = TargetGroup::create(lab).await?;
    group.bind(lab).await?;
    lab.apply(&deployment("web", 1)).await?;
    all_ready(lab, 1).await?;
    emulator.profile(profile).await?;
    let clock = Clock::new(emulator).await?;
    let before = emulator.last().await?;
    println!("{} pods at once, {profile}", pods()?);
    let replicas = format!("--replicas={}", 1 + pods()?);
    let scale = ["scale", "deployment/web", &replicas];
    let (scaled, seen) = tokio::join!(lab.kubectl(&scale), watch(lab, pods()?, clock));
    scaled?;
    Ok((seen?, before, clock))
}

fn pods() -> Result<usize> {
    match std::env::var("GATES_PODS") {
        Ok(text) => text.parse().with_context(|| format!("GATES_PODS={text}")),
        Err(_) => Ok(PODS),
    }
}

/// Waits until there are so many pods, all of them gated and ready.
async fn all_ready(lab: &Scenario, count: usize) -> Result<()> {
    eventually(&format!("{count} pods have gates and are ready"), || async {
        let pods = lab.pods(MEASURED).await?;
        let gated = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.readiness_gates.is_some());
        Ok((pods.len() == count && pods.iter().all(|pod| gated(pod) && is_ready(pod))).then_some(()))
    })
    .await
}

/// When the load balancer first said of each address that it is healthy, in seconds of `clock`.
async fn verdicts(emulator: &Emulator, after: u64, clock: Clock) -> Result<BTreeMap<String, f64>> {
    let mut verdicts = BTreeMap::new();
    for entry in emulator.log(after, "target", "healthy").await?.iter().filter(|entry| entry["to"] == "healthy") {
        if let (Some((address, _)), Some(at)) =
            (entry["who"].as_str().and_then(|who| who.split_once(':')), entry["at"].as_f64())
        {
            verdicts.entry(address.to_owned()).or_insert(at / clock.scale);
        }
    }
    Ok(verdicts)
}

/// How long each pod was not ready after the load balancer's verdict, sorted.
fn since_verdict(seen: &BTreeMap<String, Seen>, verdicts: &BTreeMap<String, f64>) -> Result<Vec<f64>> {
    let waits = sorted(seen.values().filter_map(|seen| Some(seen.ready? - verdicts.get(&seen.address)?)));
    ensure!(waits.len() == seen.len(), "{} of {} pods have a verdict", waits.len(), seen.len());
    Ok(waits)
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Seconds from the lab's first process to the command that it runs.
fn lab_ready() -> Result<f64> {
    // Fields after the name: the state, the parent, and, twentieth of them, when it started.
    let stat = |id: &str| -> Result<(String, f64)> {
        let text = fs::read_to_string(format!("/proc/{id}/stat"))?;
        let fields: Vec<_> = text.rsplit_once(") ").context("fields")?.1.split(' ').collect();
        let (parent, started) = (fields.get(1).context("a parent")?, fields.get(19).context("a start")?);
        Ok(((*parent).to_owned(), started.parse::<f64>()? / TICKS))
    };
    let (mut parent, mut started) = stat("self")?;
    while parent != "1" {
        (parent, started) = stat(&parent)?;
    }
    Ok(started - stat("1")?.1)
}

/// A Service of pods, and a binding of it to a group.
fn backend(number: usize, arn: &str) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{ name: web-{number} }}\n\
         spec: {{ selector: {{ app: web-{number} }}, ports: [{{ port: 80, targetPort: 8080 }}] }}\n---\n"
    );
    let _ = write!(
        text,
        "apiVersion: elbv2.k8s.aws/v1beta1\nkind: TargetGroupBinding\nmetadata: {{ name: web-{number} }}\n\
         spec: {{ targetGroupARN: {arn}, targetType: ip, serviceRef: {{ name: web-{number}, port: 80 }} }}\n---\n"
    );
    text
}

fn deployment(name: &str, replicas: usize) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: {name} }}\nspec:\n  replicas: {replicas}\n  \
         selector: {{ matchLabels: {{ app: {name} }} }}\n  template:\n    metadata: {{ labels: {{ app: {name}, part: measured }} }}\n    \
         spec: {{ containers: [{{ name: echo, image: echo, ports: [{{ containerPort: 8080 }}] }}] }}\n---\n"
    )
}

/// Watches until so many pods more than now are ready.
async fn watch(lab: &Scenario, wanted: usize, clock: Clock) -> Result<BTreeMap<String, Seen>> {
    let old: BTreeSet<_> = lab.pods(MEASURED).await?.iter().filter(|pod| is_ready(pod)).map(Pod::name_any).collect();
    let mut seen = BTreeMap::<String, Seen>::new();
    let config = watcher::Config::default().labels(MEASURED);
    let mut events = watcher(lab.api::<Pod>(), config).applied_objects().boxed();
    let mut said = Instant::now();
    timeout(PATIENCE, async {
        loop {
            let ready = seen.values().filter(|seen| seen.ready.is_some()).count();
            if said.elapsed() > Duration::from_secs(10) {
                said = Instant::now();
                println!("  {ready} of {wanted} are ready");
            }
            if ready >= wanted {
                return anyhow::Ok(());
            }
            let pod = events.next().await.context("the watch ended")??;
            if old.contains(&pod.name_any()) {
                continue;
            }
            let entry = seen.entry(pod.name_any()).or_default();
            entry.address = address(&pod);
            let now = clock.now();
            if condition(&pod, "ContainersReady").is_some_and(|condition| condition.status == "True") {
                entry.containers_ready.get_or_insert(now);
            }
            if is_ready(&pod) {
                entry.ready.get_or_insert(now);
            }
        }
    })
    .await
    .with_context(|| format!("{wanted} pods are ready within {PATIENCE:?}"))??;
    Ok(seen)
}
