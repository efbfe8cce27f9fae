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
use futures::{StreamExt as _, stream::FuturesUnordered};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    ResourceExt as _,
    runtime::{
        WatchStreamExt as _,
        watcher::{self, watcher},
    },
};
use scenarios::{
    Scenario, address, condition, eventually,
    fleet::{Fleet, Place},
    is_ready,
    query::Elb,
    replica::{Replicas, program},
    target_group::{Emulator, TargetGroup, is_throttled},
    within,
};
use tokio::time::{Instant, timeout};

use crate::calls::{counts, number, settled};

/// How many pods there are unless `GATES_PODS` says so.
const PODS: usize = 100;
/// How many groups are rolled at once.
const GROUPS: usize = 100;
/// Bounds a failure; a real registration takes minutes.
const PATIENCE: Duration = Duration::from_mins(10);
const GATES: (&str, &str) = ("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled");
/// The gate of the fleet's first binding.
const GATE: &str = "target-health.elbv2.k8s.aws/web-0";
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

/// Pods that are objects only, and whose containers become ready at once, with an AWS that is instant. Whoever watches
/// them here is their kubelet: it writes `Ready` as soon as it sees the gate open.
pub(crate) async fn burst() -> Result<()> {
    let emulator = Emulator::new()?;
    let directory = std::env::temp_dir().join(format!("sluice-gates-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    let replicas = Replicas { program: program(), directory: directory.clone(), arguments: Vec::new() };
    let mut fleet = Fleet::begin(1).await?;
    fleet.target_groups(1).await?;
    let first = fleet.pods(0, 1, true, true).await?;
    let places = fleet.pods(0, pods()?, true, false).await?;
    fleet.bindings().await?;
    let registrar = replicas.start(0)?;
    within(PATIENCE, "the first gate is open", || async { Ok((fleet.open_gates().await? == 1).then_some(())) }).await?;
    fleet.set_ready(&first).await?;
    settled(&emulator, 100, PATIENCE).await?;

    println!("the containers of {} pods become ready at once", places.len());
    let before = emulator.last().await?;
    let (gates, waits) = at_once(&fleet, &places, false).await?;
    println!(
        "  of that until the gate opens: p50 {:.0} ms, p99 {:.0} ms",
        percentile(&gates, 50),
        percentile(&gates, 99)
    );
    record("gates.p50", percentile(&waits, 50))?;
    record("gates.p99", percentile(&waits, 99))?;
    let calls = emulator.calls(before).await?;
    println!("  calls: {:?}", counts(&calls));
    record("gates.calls", number(&calls, |call| call["service"] == "elb"))?;

    println!("the same without a registrar: who is their kubelet opens their gates, too");
    drop(registrar);
    let places = fleet.pods(0, pods()?, true, false).await?;
    let (_, waits) = at_once(&fleet, &places, true).await?;
    record("gates.floor-p50", percentile(&waits, 50))?;
    record("gates.floor-p99", percentile(&waits, 99))?;
    fs::remove_dir_all(&directory)?;
    Ok(())
}

/// Makes the containers of pods ready and waits until all of the pods are. How long it took in milliseconds, from the API
/// server's answer that the containers are ready to the sight of the open gate, and of the ready pod; both sorted.
async fn at_once(fleet: &Fleet, places: &[Place], opens_gates: bool) -> Result<(Vec<f64>, Vec<f64>)> {
    let named = places.iter().map(|place| (place.address(), *place)).collect();
    fleet.connect(places).await?;
    let (begun, seen) = tokio::join!(ready_at_once(fleet, places), be_kubelet(fleet, &named, opens_gates));
    let (begun, seen) = (begun?, seen?);
    let spread = begun.values().max().zip(begun.values().min()).map(|(last, first)| *last - *first);
    println!("  they became so within {:.0} ms", spread.unwrap_or_default().as_secs_f64() * 1000.0);
    let since = |seen: &BTreeMap<String, Instant>| {
        sorted(begun.iter().filter_map(|(address, at)| Some((*seen.get(address)? - *at).as_secs_f64() * 1000.0)))
    };
    let (gates, waits) = (since(&seen.open), since(&seen.ready));
    ensure!(waits.len() == places.len(), "{} of {} pods were seen to become ready", waits.len(), places.len());
    Ok((gates, waits))
}

/// Makes the containers of all pods ready, and says when the API server had answered so of each.
async fn ready_at_once(fleet: &Fleet, places: &[Place]) -> Result<BTreeMap<String, Instant>> {
    let patched = places.iter().map(|place| async move {
        fleet.set_containers_ready(*place, true).await?;
        anyhow::Ok((place.address(), Instant::now()))
    });
    futures::future::try_join_all(patched).await.map(|begun| begun.into_iter().collect())
}

/// When something was first seen of pods, by address.
#[derive(Debug, Default)]
struct Sights {
    open: BTreeMap<String, Instant>,
    ready: BTreeMap<String, Instant>,
}

/// Sets the condition `Ready` of each of these pods once its gate is open, until all of them are seen to have it; or opens
/// the gates before, as soon as containers are ready.
async fn be_kubelet(fleet: &Fleet, places: &BTreeMap<String, Place>, opens_gates: bool) -> Result<Sights> {
    let mut seen = Sights::default();
    let mut touched = BTreeSet::new();
    let mut patches = FuturesUnordered::new();
    let mut events = watcher(fleet.api::<Pod>(0), watcher::Config::default()).applied_objects().boxed();
    let is_true = |pod: &Pod, kind: &str| condition(pod, kind).is_some_and(|condition| condition.status == "True");
    timeout(PATIENCE, async {
        while seen.ready.len() < places.len() {
            let pod = tokio::select! {
                event = events.next() => event.context("the watch ended")??,
                Some(written) = patches.next() => {
                    let () = written?;
                    continue;
                }
            };
            let address = address(&pod);
            let Some(place) = places.get(&address) else { continue };
            if is_ready(&pod) {
                seen.ready.entry(address).or_insert_with(Instant::now);
            } else if is_true(&pod, GATE) {
                if seen.open.insert(address, Instant::now()).is_none() {
                    patches.push(fleet.set_condition(*place, "Ready"));
                }
            } else if opens_gates && is_true(&pod, "ContainersReady") && touched.insert(address) {
                patches.push(fleet.set_condition(*place, GATE));
            }
        }
        anyhow::Ok(())
    })
    .await
    .with_context(|| format!("{} pods are ready within {PATIENCE:?}", places.len()))??;
    Ok(seen)
}

/// A Deployment that grows at once, with an AWS that is instant.
pub(crate) async fn deployment_grows() -> Result<()> {
    record("deployment.lab-ready", lab_ready()?)?;
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
    record("deployment.spread", percentile(&begun, 100) - percentile(&begun, 1))?;
    let waits = sorted(seen.values().filter_map(|seen| Some(seen.ready? - seen.containers_ready?)));
    ensure!(waits.len() == pods()?, "{} of {} pods were seen to become ready", waits.len(), pods()?);
    record("deployment.p50", percentile(&waits, 50))?;
    record("deployment.p99", percentile(&waits, 99))?;
    let calls = emulator.calls(before).await?;
    let calls: Vec<_> = calls.into_iter().filter(|call| call.to_string().contains(":targetgroup/")).collect();
    println!("  calls: {:?}", counts(&calls));
    record("deployment.calls", number(&calls, |call| call["service"] == "elb"))?;
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
