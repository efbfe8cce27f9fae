//! No request is lost: Deployments are rolled out and scaled in, and nodes drained, under load through the load balancer,
//! which goes on sending new connections to a target for two minutes after it was deregistered. The lab's clock runs
//! twenty times faster, so that these are six seconds.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use load::{Load, Report, Settings};
use scenarios::{Scenario, run, within};
use serde_json::json;

/// Connections a second.
const RATE: u32 = 500;
const REPLICAS: u32 = 4;
/// How many rollouts there are, with each of [`STRATEGIES`] in its turn, unless the environment says otherwise.
const ROLLOUTS: usize = 5;
const STRATEGIES: [(&str, &str); 3] = [("1", "0"), ("25%", "25%"), ("100%", "0")];
/// Bounds a failure of one phase.
const PATIENCE: &str = "--timeout=120s";

/// Seconds that pods serve on. A pod's time begins with its deletion and the load balancer's two minutes with the call that
/// follows, which takes a part of a real second: twenty times as long on the lab's clock, and more on a busy machine.
const DELAY: &str = "180";

const GATES: (&str, &str) = ("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled");
const DRAIN: (&str, &str) = ("elbv2.k8s.aws/pod-drain-inject", "enabled");

/// A Deployment `web` behind a load balancer.
struct Shop {
    lab: Scenario,
    /// The load balancer's name.
    host: String,
}

impl Shop {
    async fn open(test: &str, labels: &[(&str, &str)]) -> Result<Self> {
        let lab = Scenario::begin(test, labels).await?;
        lab.apply(&objects().to_string()).await?;
        let ready = format!("--for=jsonpath={{.status.readyReplicas}}={REPLICAS}");
        let host = load_balancer(&lab).await?;
        lab.kubectl(&["wait", "deployment/web", &ready, PATIENCE]).await?;
        let shop = Self { lab, host };
        shop.healthy().await?;
        Ok(shop)
    }

    /// Waits until the load balancer sends to all pods.
    async fn healthy(&self) -> Result<()> {
        within(Duration::from_mins(1), "an answer by every pod", || async {
            let load = Load::start(self.settings(100));
            let mut progress = load.progress();
            progress.wait_for(|p| p.requests >= 100).await?;
            let report = load.stop().await?;
            Ok((report.failed == 0 && report.pods.len() == usize::try_from(REPLICAS)?).then_some(()))
        })
        .await
    }

    fn settings(&self, rate: u32) -> Settings {
        let from = (1..=60).map(|n| [203, 0, 113, n].into()).collect();
        Settings { host: self.host.clone(), port: 80, rate, from, patience: Duration::from_secs(10) }
    }

    /// One rollout, until every new pod is ready. Old ones may be leaving still.
    async fn roll_out(&self, surge: &str, unavailable: &str) -> Result<()> {
        let count = |text: &str| text.parse::<u32>().map_or_else(|_| json!(text), |number| json!(number));
        let strategy = json!({"rollingUpdate": {"maxSurge": count(surge), "maxUnavailable": count(unavailable)}});
        let patch = json!({"spec": {"strategy": strategy}}).to_string();
        self.lab.kubectl(&["patch", "deployment/web", "-p", &patch]).await?;
        self.lab.kubectl(&["rollout", "restart", "deployment/web"]).await?;
        self.lab.kubectl(&["rollout", "status", "deployment/web", PATIENCE]).await?;
        Ok(())
    }

    async fn scale(&self, replicas: u32) -> Result<()> {
        self.lab.kubectl(&["scale", "deployment/web", &format!("--replicas={replicas}")]).await?;
        self.lab.kubectl(&["rollout", "status", "deployment/web", PATIENCE]).await?;
        Ok(())
    }

    /// Waits until the pods that leave are gone.
    async fn settle(&self, replicas: u32) -> Result<()> {
        within(Duration::from_mins(2), "the old pods to be gone", || async {
            Ok((self.lab.pods("app=web").await?.len() == usize::try_from(replicas)?).then_some(()))
        })
        .await
    }

    /// Takes everything off the node that the first pod runs on, then lets it back in.
    async fn drain_a_node(&self) -> Result<()> {
        let pods = self.lab.pods("app=web").await?;
        let node = pods.first().and_then(|pod| pod.spec.as_ref()?.node_name.clone()).context("a pod on a node")?;
        run("kubectl", &["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", PATIENCE], "").await?;
        run("kubectl", &["uncordon", &node], "").await?;
        self.lab.kubectl(&["rollout", "status", "deployment/web", PATIENCE]).await?;
        Ok(())
    }
}

/// A load that lasts, and what was done under it when.
struct Watch {
    load: Load,
    began: Instant,
    phases: Vec<String>,
}

impl Watch {
    fn start(shop: &Shop) -> Self {
        Self { load: Load::start(shop.settings(RATE)), began: Instant::now(), phases: Vec::new() }
    }

    async fn phase(&mut self, what: &str, work: impl Future<Output = Result<()>>) -> Result<()> {
        let from = self.began.elapsed().as_secs_f64();
        work.await.with_context(|| what.to_owned())?;
        self.phases.push(format!("{what}: from {from:.1} s to {:.1} s", self.began.elapsed().as_secs_f64()));
        Ok(())
    }

    async fn stop(self) -> Result<(Report, String)> {
        let report = self.load.stop().await?;
        let words = format!(
            "{} requests in {:.1} s, failed: {}; first byte p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms\n{}\nfirst failures: {:#?}",
            report.requests,
            report.lasted,
            report.failures_in_words(),
            report.first_byte.p50,
            report.first_byte.p99,
            report.first_byte.max,
            self.phases.join("\n"),
            report.failures.iter().take(5).collect::<Vec<_>>(),
        );
        Ok((report, words))
    }
}

fn objects() -> serde_json::Value {
    let labels = json!({"app": "web"});
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "annotations": {
                "service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip",
                "service.beta.kubernetes.io/aws-load-balancer-scheme": "internet-facing",
                "service.beta.kubernetes.io/aws-load-balancer-attributes": "load_balancing.cross_zone.enabled=true",
                "service.beta.kubernetes.io/aws-load-balancer-pod-drain": DELAY,
            }},
            "spec": {
                "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb",
                "selector": labels, "ports": [{"port": 80, "targetPort": 8080}],
            },
        },
        {
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "web"},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels}},
        },
        {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "replicas": REPLICAS, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [
                    {"name": "web", "image": "echo", "ports": [{"containerPort": 8080}]},
                ]}},
            },
        },
    ]})
}

async fn load_balancer(lab: &Scenario) -> Result<String> {
    let name = "{.status.loadBalancer.ingress[0].hostname}";
    lab.kubectl(&["wait", "service/web", &format!("--for=jsonpath={name}"), PATIENCE]).await?;
    lab.kubectl(&["get", "service/web", "-o", &format!("jsonpath={name}")]).await
}

fn rollouts() -> Result<usize> {
    match std::env::var("SLUICE_ROLLOUTS") {
        Err(_) => Ok(ROLLOUTS),
        Ok(text) => text.parse().with_context(|| format!("SLUICE_ROLLOUTS={text} is not a number")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rollouts_scaling_in_and_node_drains_lose_no_request() -> Result<()> {
    let shop = Shop::open("rollouts", &[GATES, DRAIN]).await?;
    let mut watch = Watch::start(&shop);
    for (number, (surge, unavailable)) in (1..=rollouts()?).zip(STRATEGIES.iter().cycle()) {
        let what = format!("rollout {number}, surge {surge}, unavailable {unavailable}");
        watch.phase(&what, shop.roll_out(surge, unavailable)).await?;
    }
    watch.phase("old pods leave", shop.settle(REPLICAS)).await?;
    watch.phase("scale in to 2", shop.scale(2)).await?;
    watch.phase("old pods leave", shop.settle(2)).await?;
    watch.phase("scale out", shop.scale(REPLICAS)).await?;
    watch.phase("node drain", shop.drain_a_node()).await?;
    watch.phase("old pods leave", shop.settle(REPLICAS)).await?;
    let (report, words) = watch.stop().await?;
    println!("{words}");
    ensure!(report.requests > 0 && report.failed == 0, "{words}");
    shop.lab.end().await
}

/// Shows that the other test can fail: what keeps requests from being lost is the drain delay.
#[tokio::test(flavor = "multi_thread")]
async fn rollout_without_drain_delay_loses_requests() -> Result<()> {
    let shop = Shop::open("undrained", &[GATES]).await?;
    let mut watch = Watch::start(&shop);
    watch.phase("rollout", shop.roll_out("100%", "0")).await?;
    watch.phase("old pods leave", shop.settle(REPLICAS)).await?;
    let (report, words) = watch.stop().await?;
    println!("{words}");
    ensure!(report.failed > 0, "nothing failed: {words}");
    shop.lab.end().await
}
