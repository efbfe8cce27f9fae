//! What tests in the lab have in common: a namespace of their own, real commands, and waiting for conditions.
//!
//! The tests of this crate are outside the default run. `make scenarios` builds them, enters the lab and runs them.

pub mod fleet;
pub mod query;
pub mod replica;
pub mod target_group;

use std::{
    fmt::Debug,
    future::Future,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{Namespace, Pod, PodCondition, ServiceAccount},
};
use kube::{
    Api, Client, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, PostParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, process::Command, time::Instant};

/// How long a condition may take unless the test says otherwise. Generous: it bounds a failure, not a success.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// The chart that the lab installs.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/chart");
const POLL: Duration = Duration::from_millis(50);

/// A kind of object that has a namespace.
pub trait Namespaced:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize
{
}

impl<K> Namespaced for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize
{
}

/// A namespace of one test, deleted at its end unless the test failed.
pub struct Scenario {
    /// A client with every right.
    pub client: Client,
    /// The namespace's name.
    pub namespace: String,
}

impl Scenario {
    /// A fresh namespace, named after the test, in the lab that this process runs in.
    pub async fn begin(test: &str, labels: &[(&str, &str)]) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let _ = rustls::crypto::ring::default_provider().install_default();
        if !std::env::var("KUBECONFIG").is_ok_and(|path| path.starts_with("/run/lab/")) {
            bail!("this test runs inside the lab only: make scenarios");
        }
        let client = Client::try_default().await.context("the lab's API")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("{test}-{}-{number}", std::process::id());
        let labels: serde_json::Map<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace, "labels": labels}}))?;
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await?;
        let scenario = Self { client, namespace };
        let accounts: Api<ServiceAccount> = scenario.api();
        eventually("the namespace's service account", || async {
            Ok(accounts.get_opt("default").await?.is_some().then_some(()))
        })
        .await?;
        Ok(scenario)
    }

    /// Deletes the namespace without waiting for it.
    pub async fn end(self) -> Result<()> {
        Api::<Namespace>::all(self.client).delete(&self.namespace, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Objects of this namespace.
    pub fn api<K: Namespaced>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Runs kubectl in this namespace and returns what it printed.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_with(arguments, "").await
    }

    /// Applies a manifest to this namespace.
    pub async fn apply(&self, manifest: &str) -> Result<()> {
        self.kubectl_with(&["apply", "-f", "-"], manifest).await.map(drop)
    }

    /// Runs kubectl in this namespace with something on its standard input.
    pub async fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let arguments = [&["-n", self.namespace.as_str()], arguments].concat();
        run("kubectl", &arguments, input).await
    }

    /// The pods with a label, once there are `count` and all of them are ready.
    pub async fn ready_pods(&self, label: &str, count: usize) -> Result<Vec<Pod>> {
        eventually(&format!("{count} ready pods {label}"), || async {
            let pods = self.pods(label).await?;
            let ready = pods.iter().filter(|pod| is_ready(pod)).count();
            Ok((pods.len() == count && ready == count).then_some(pods))
        })
        .await
    }

    /// The pods with a label.
    pub async fn pods(&self, label: &str) -> Result<Vec<Pod>> {
        Ok(self.api::<Pod>().list(&ListParams::default().labels(label)).await?.items)
    }

    /// A pod by name.
    pub async fn pod(&self, name: &str) -> Result<Pod> {
        Ok(self.api::<Pod>().get(name).await?)
    }

    /// The pod, once it fulfils a condition.
    pub async fn pod_when(&self, name: &str, what: &str, wanted: impl Fn(&Pod) -> bool) -> Result<Pod> {
        eventually(&format!("pod {name}: {what}"), || async {
            Ok(self.api::<Pod>().get_opt(name).await?.filter(|pod| wanted(pod)))
        })
        .await
    }
}

/// Runs a command and returns what it printed; fails with what it complained about.
pub async fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("start {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Polls until there is a value, for at most [`PATIENCE`]. The error says what was waited for and what was wrong last.
pub async fn eventually<T, F, R>(what: &str, attempt: F) -> Result<T>
where
    F: FnMut() -> R,
    R: Future<Output = Result<Option<T>>>,
{
    within(PATIENCE, what, attempt).await
}

/// Polls until there is a value, for at most `limit`.
pub async fn within<T, F, R>(limit: Duration, what: &str, mut attempt: F) -> Result<T>
where
    F: FnMut() -> R,
    R: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let result = attempt().await;
        if let Ok(Some(value)) = result {
            return Ok(value);
        }
        if Instant::now() > deadline {
            return match result {
                Err(e) => Err(e.context(format!("waited {limit:?} for {what}"))),
                Ok(_) => bail!("waited {limit:?} in vain for {what}"),
            };
        }
        tokio::time::sleep(POLL).await;
    }
}

/// One HTTP GET by curl: status and body. A connection of its own, closed afterwards.
pub async fn curl(url: &str) -> Result<(u16, String)> {
    curl_with(&[], url).await
}

/// The same with more options of curl.
pub async fn curl_with(options: &[&str], url: &str) -> Result<(u16, String)> {
    let arguments = ["-sS", "--max-time", "10", "-w", "\n%{http_code}", url];
    let text = run("curl", &[options, &arguments].concat(), "").await?;
    let (body, status) = text.rsplit_once('\n').context("curl prints the status last")?;
    Ok((status.parse()?, body.to_owned()))
}

/// Whether the pod's condition `Ready` is true.
pub fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// A condition of a pod.
pub fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<&'a PodCondition> {
    pod.status.as_ref()?.conditions.as_ref()?.iter().find(|c| c.type_ == type_)
}

/// The pod's address; empty until it has one.
pub fn address(pod: &Pod) -> String {
    pod.status.as_ref().and_then(|s| s.pod_ip.clone()).unwrap_or_default()
}

/// How often the pod's first container was started again.
pub fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    statuses.and_then(|s| s.first()).map(|c| c.restart_count).unwrap_or_default()
}

/// The names of some pods.
pub fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(kube::ResourceExt::name_any).collect()
}

/// Fails a test with the difference between what was expected and what was seen.
pub fn expect_equal<T: PartialEq + Debug>(what: &str, seen: &T, expected: &T) -> Result<()> {
    if seen != expected {
        bail!("{what}: expected {expected:?}, saw {seen:?}");
    }
    Ok(())
}

/// The namespace and name of an object, for messages.
pub fn reference(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}
