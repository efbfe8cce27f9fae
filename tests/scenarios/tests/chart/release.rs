//! The release that the tests of the chart share, and Helm.

use std::{process::Stdio, sync::OnceLock, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
pub(crate) use scenarios::CHART;
use scenarios::{run, within};
use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    sync::{Mutex, MutexGuard},
};

pub(crate) const NAMESPACE: &str = "sluice-system";
/// Values that a cluster must give.
pub(crate) const CLUSTER: &[&str] = &[
    "--set",
    "clusterName=lab,region=ap-northeast-2,vpcId=vpc-0a1b2c3d4e5f60718",
    "--set-string",
    "serviceAccount.annotations.eks\\.amazonaws\\.com/role-arn=arn:aws:iam::111122223333:role/sluice-registrar",
];
/// How long an installation or upgrade may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// What a command printed, and whether it succeeded.
pub(crate) struct Output {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs Helm and says what came of it.
pub(crate) async fn try_helm(arguments: &[&str], input: &str) -> Result<Output> {
    let mut child = Command::new("helm")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("start helm")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let output = child.wait_with_output().await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Output { success: output.status.success(), out: text(output.stdout), err: text(output.stderr) })
}

/// Runs Helm, which must succeed.
pub(crate) async fn helm(arguments: &[&str]) -> Result<String> {
    let output = try_helm(arguments, "").await?;
    ensure!(output.success, "helm {arguments:?}: {}", output.err.trim());
    Ok(output.out)
}

/// The chart as it is rendered for the lab's cluster with further arguments.
pub(crate) async fn render(arguments: &[&str]) -> Result<String> {
    helm(&[&["template", "sluice", CHART, "--namespace", NAMESPACE], CLUSTER, arguments].concat()).await
}

/// The release, for one test at a time. Whatever a test did to it, the next one finds it installed.
pub(crate) async fn alone() -> Result<MutexGuard<'static, ()>> {
    static ONE: OnceLock<Mutex<()>> = OnceLock::new();
    let guard = ONE.get_or_init(Mutex::default).lock().await;
    upgrade(&[]).await?;
    ready().await?;
    Ok(guard)
}

/// Installs or upgrades the release.
pub(crate) async fn upgrade(arguments: &[&str]) -> Result<()> {
    // Pods are refused here, not only warned about, if they want more than `restricted` gives.
    if run("kubectl", &["get", "namespace", NAMESPACE], "").await.is_err() {
        run("kubectl", &["create", "namespace", NAMESPACE], "").await?;
        run("kubectl", &["label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=restricted"], "").await?;
    }
    let command = ["upgrade", "--install", "sluice", CHART, "--namespace", NAMESPACE, "--reset-values"];
    helm(&[&command, CLUSTER, arguments].concat()).await.map(drop)
}

/// Waits until all replicas of both programs are the newest and ready, and API servers trust the webhook.
pub(crate) async fn ready() -> Result<()> {
    for deployment in ["deployment/sluice-webhook", "deployment/sluice-registrar"] {
        run("kubectl", &["-n", NAMESPACE, "rollout", "status", deployment, "--timeout=120s"], "").await?;
    }
    within(PATIENCE, "a first review", || async {
        let broken = super::objects::broken("first").to_string();
        match run("kubectl", &["-n", "default", "create", "-f", "-", "--dry-run=server"], &broken).await {
            Err(refusal) if refusal.to_string().contains("denied the request") => Ok(Some(())),
            Err(other) => bail!(other),
            Ok(_) => Ok(None),
        }
    })
    .await
}
