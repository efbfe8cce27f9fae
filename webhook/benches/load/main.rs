//! What a review costs: latency, throughput and CPU time of the process, its memory, and how long it takes to be ready.
//!
//! Client and server share the machine, so that throughput and latency are those of both; CPU time is the server's own.
//! `SECONDS=10` measures longer, `SORTS=3` makes all bad connections begin a body and not end it (0 silent, 1 half a
//! greeting, 2 half a head).

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_precision_loss,
    reason = "figures for people, from a process that must start"
)]

#[path = "../../tests/process/api.rs"]
#[expect(dead_code, reason = "tests of the process ask what it used")]
mod api;
#[path = "../../tests/large/bodies.rs"]
mod bodies;
#[path = "../../tests/server/client.rs"]
#[expect(dead_code, reason = "tests of the server need more of it")]
mod client;
mod hostile;
#[path = "../../tests/server/kubelet.rs"]
mod kubelet;
#[path = "../../tests/process/webhook.rs"]
#[expect(dead_code, reason = "tests of the process ask what it used")]
mod webhook;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use figures::record;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use self::{api::Api, webhook::Webhook};

const OBJECTS: u32 = 1000;
const POD: &str = include_str!("../../tests/reviews/pod-of-a-replicaset.json");
/// Of the clock in which Linux counts CPU time.
const TICKS: f64 = 100.0;

fn services() -> Vec<Value> {
    let service = |number: u32| {
        json!({
            "metadata": {"name": format!("web{number}"), "namespace": "team", "uid": number.to_string(), "resourceVersion": "1",
                "annotations": {"service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip"}},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb",
                "selector": {"app": if number == 0 { "web".to_owned() } else { format!("web{number}") }},
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]},
        })
    };
    (0..OBJECTS).map(service).collect()
}

fn bindings() -> Vec<Value> {
    let binding = |number: u32| {
        json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
            "metadata": {"name": format!("b{number}"), "namespace": "team", "uid": number.to_string(), "resourceVersion": "1"},
            "spec": {"targetType": "ip", "serviceRef": {"name": format!("web{number}"), "port": 80}, "targetGroupARN":
                format!("arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/g{number}/0123456789abcdef")},
        })
    };
    (0..OBJECTS).map(binding).collect()
}

/// A line of `/proc/<pid>/status` in MiB.
fn memory(webhook: &Webhook, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", webhook.child.id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<f64>().unwrap() / 1024.0
}

/// CPU time of the process so far, in seconds.
fn cpu(webhook: &Webhook) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", webhook.child.id().unwrap())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / TICKS
}

/// Latencies of reviews over some connections, each of which asks again as soon as it is answered.
async fn load(webhook: &Webhook, connections: usize, time: Duration) -> Vec<Duration> {
    let mut clients = JoinSet::new();
    for _ in 0..connections {
        let mut connection = webhook.connect().await.unwrap();
        clients.spawn(async move {
            let (start, mut latencies) = (Instant::now(), Vec::new());
            while start.elapsed() < time {
                let asked = Instant::now();
                let answer = connection.post("/mutate-v1-pod", POD).await.unwrap();
                latencies.push(asked.elapsed());
                assert!(answer.status() == 200 && answer.body().len() > 200);
            }
            latencies
        });
    }
    let mut latencies: Vec<_> = clients.join_all().await.into_iter().flatten().collect();
    latencies.sort_unstable();
    latencies
}

/// How long `webhook lint` takes for all Services, in one file: the fastest of three.
fn lint() -> Duration {
    let path = std::env::temp_dir().join(format!("sluice-lint-{}.json", std::process::id()));
    let services = services().into_iter().map(|mut service| {
        (service["apiVersion"], service["kind"]) = ("v1".into(), "Service".into());
        service
    });
    let list = json!({"apiVersion": "v1", "kind": "List", "items": services.collect::<Vec<_>>()});
    std::fs::write(&path, list.to_string()).unwrap();
    let once = || {
        let start = Instant::now();
        let output = Command::new(env!("CARGO_BIN_EXE_webhook")).arg("lint").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        start.elapsed()
    };
    let fastest = (0..3).map(|_| once()).min().unwrap();
    std::fs::remove_file(&path).unwrap();
    fastest
}

/// The bodies that cost most of those that are taken at all, in this process.
fn largest() {
    let snapshot = bodies::cluster();
    println!("\nlargest bodies, slowest of {}:", bodies::all(1000).len());
    let mut times: Vec<_> = bodies::all(bodies::LARGEST)
        .into_iter()
        .map(|(hook, what, body)| {
            let start = Instant::now();
            let answer = ::webhook::admission::answer(hook, body.as_bytes(), &snapshot, 7);
            (start.elapsed(), hook, what, answer.map_or(0, |answer| answer.body.len()))
        })
        .collect();
    times.sort_unstable_by_key(|(time, ..)| std::cmp::Reverse(*time));
    for (time, hook, what, answer) in times.into_iter().take(8) {
        println!("{:8.1} ms, answer {answer:6} bytes: {what}, {}", time.as_secs_f64() * 1000.0, hook.path());
    }
}

fn quantile(latencies: &[Duration], quantile: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let index = ((latencies.len() - 1) as f64 * quantile) as usize;
    latencies[index].as_secs_f64() * 1000.0
}

#[tokio::main]
async fn main() {
    if let [_, address, authority] = &std::env::args().collect::<Vec<_>>()[..] {
        return hostile::be_bad(address, authority).await;
    }
    let seconds = std::env::var("SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(5);
    let time = Duration::from_secs(seconds);
    let start = Instant::now();
    let idle = Webhook::start("bench-idle", Api::start(vec![], Some(vec![])).await, &[]);
    idle.ready(true).await;
    record("webhook.ready", start.elapsed().as_secs_f64() * 1000.0).unwrap();
    record("webhook.memory-idle", memory(&idle, "VmRSS:")).unwrap();
    drop(idle);

    let webhook = Webhook::start("bench", Api::start(services(), Some(bindings())).await, &[]);
    webhook.ready(true).await;
    println!("memory, 1000 + 1000 cached     {:8.1} MiB", memory(&webhook, "VmRSS:"));
    load(&webhook, 16, Duration::from_secs(1)).await;
    println!("\nconnections  reviews/s    p50 ms    p99 ms  p99.9 ms  CPU s per 1000");
    for connections in [1, 16, 256] {
        let before = cpu(&webhook);
        let latencies = load(&webhook, connections, time).await;
        let used = cpu(&webhook) - before;
        println!(
            "{connections:11}  {:9.0}  {:8.3}  {:8.3}  {:8.3}  {:14.4}",
            latencies.len() as f64 / time.as_secs_f64(),
            quantile(&latencies, 0.5),
            quantile(&latencies, 0.99),
            quantile(&latencies, 0.999),
            used * 1000.0 / latencies.len() as f64
        );
        if connections == 16 {
            record("webhook.throughput", latencies.len() as f64 / time.as_secs_f64()).unwrap();
            record("webhook.p99", quantile(&latencies, 0.99)).unwrap();
            record("webhook.cpu", used * 1000.0 / latencies.len() as f64).unwrap();
        }
    }
    record("webhook.memory-loaded", memory(&webhook, "VmRSS:")).unwrap();
    hostile::measure(&webhook, time).await;
    drop(webhook);
    record("webhook.lint", lint().as_secs_f64() * 1000.0).unwrap();
    largest();
}
