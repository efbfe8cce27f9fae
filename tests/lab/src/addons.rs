//! What the lab installs into its cluster.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use k8s_openapi::{
    api::{admissionregistration::v1::MutatingWebhookConfiguration, apps::v1::Deployment, core::v1::Namespace},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, process::Command};
use world::World;

use crate::{
    assets::Assets,
    chart,
    cli::{NamedImage, Options, Part},
    ready,
};

/// Our images, as the chart names them, with the programs that are built beside this one.
const WEBHOOK_IMAGE: (&str, &str) = ("sluice-webhook", "webhook");
const REGISTRAR_IMAGE: (&str, &str) = ("sluice-registrar", "registrar");

const CERT_MANAGER: &str = include_str!("../manifests/cert-manager.yaml");
/// What the registrar's role is in every world that has one for it.
const REGISTRAR_ROLE: &str = "role/sluice-registrar";
/// Our release, and the namespace that it is installed in.
const RELEASE: &str = "sluice";
const NAMESPACE: &str = "sluice-system";
const PATIENCE: Duration = Duration::from_mins(1);

/// Why something could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// kubectl or Helm did not run.
    #[error("{0}: {1}")]
    Run(&'static str, #[source] io::Error),
    /// The chart's files cannot be written.
    #[error("write the chart to {0}: {1}")]
    Chart(PathBuf, #[source] io::Error),
    /// The API server refused.
    #[error("create namespace {NAMESPACE}: {0}")]
    Namespace(#[source] Box<kube::Error>),
    /// A program is not where it is built.
    #[error("{0} is not there: build it (cargo build -p {1}), or leave it out (--without {1})")]
    NotBuilt(PathBuf, &'static str),
    /// It did not come up.
    #[error("Sluice was not ready within {PATIENCE:?}: {0}")]
    NotReady(String),
    /// kubectl or Helm refused.
    #[error("{0}: {1}")]
    Refused(&'static str, String),
}

/// The images of what is installed, with their programs. Ours are built beside this program.
pub fn images(assets: &Assets, options: &Options) -> Result<Vec<NamedImage>, Error> {
    let named = |name: &str, program: &Path| NamedImage { name: name.to_owned(), program: program.to_owned() };
    let mut images = vec![named("cert-manager", assets.program("cert-manager"))];
    let ours = [(has_webhook(options), WEBHOOK_IMAGE), (has_registrar(options), REGISTRAR_IMAGE)];
    for (_, (image, program)) in ours.into_iter().filter(|(wanted, _)| *wanted) {
        if options.image.iter().any(|given| given.name == image) {
            continue;
        }
        let own = std::env::current_exe().map_err(|e| Error::Run("find our own programs", e))?;
        let path = own.with_file_name(program);
        if !path.is_file() {
            return Err(Error::NotBuilt(path, program));
        }
        images.push(named(image, &path));
    }
    Ok(images)
}

/// Whether the registrar is installed: it needs nodes to run on, and an AWS.
pub fn has_registrar(options: &Options) -> bool {
    [Part::Registrar, Part::Node, Part::Aws].into_iter().all(|part| options.with(part))
}

/// Whether the webhook is installed: it needs nodes to run on and cert-manager for its certificate.
pub fn has_webhook(options: &Options) -> bool {
    [Part::Webhook, Part::Node, Part::CertManager].into_iter().all(|part| options.with(part))
}

/// Installs the chart with Helm, as it is installed anywhere, and waits until what it holds is ready. `state` is a directory
/// for the chart.
pub async fn install_sluice(
    assets: &Assets,
    environment: &BTreeMap<String, OsString>,
    client: &Client,
    world: &World,
    options: &Options,
    state: &Path,
) -> Result<(), Error> {
    let (webhook, registrar) = (has_webhook(options), has_registrar(options));
    if !webhook && !registrar {
        return Ok(());
    }
    let directory = state.join("chart");
    chart::write(&directory).map_err(|e| Error::Chart(directory.clone(), e))?;
    create_namespace(client).await.map_err(|e| Error::Namespace(Box::new(e)))?;
    let role = world.roles.iter().find(|role| role.arn.ends_with(REGISTRAR_ROLE));
    let annotations = role.map(|role| json!({"eks.amazonaws.com/role-arn": role.arn}));
    let values = json!({
        "clusterName": world.cluster,
        "region": world.region,
        "vpcId": world.vpc.id,
        "serviceAccount": {"annotations": annotations.unwrap_or_else(|| json!({}))},
        "webhook": {"enabled": webhook},
        "registrar": {"enabled": registrar},
    });
    let arguments = ["install", RELEASE, "--namespace", NAMESPACE, "--values", "-"].map(OsString::from);
    let arguments = arguments.into_iter().chain([directory.into_os_string()]);
    run(assets.program("helm"), arguments, &values.to_string(), environment, "install the chart").await?;
    ready::until(PATIENCE, || missing(client, webhook, registrar)).await.map_err(Error::NotReady)
}

/// Pods that want more than they should are refused here.
async fn create_namespace(client: &Client) -> Result<(), kube::Error> {
    let labels = [("pod-security.kubernetes.io/enforce".to_owned(), "restricted".to_owned())];
    let metadata =
        ObjectMeta { name: Some(NAMESPACE.to_owned()), labels: Some(labels.into()), ..ObjectMeta::default() };
    let namespace = Namespace { metadata, ..Namespace::default() };
    Api::all(client.clone()).create(&PostParams::default(), &namespace).await.map(drop)
}

async fn missing(client: &Client, webhook: bool, registrar: bool) -> Result<Option<String>, kube::Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), NAMESPACE);
    for (_, name) in [(webhook, "sluice-webhook"), (registrar, "sluice-registrar")].iter().filter(|(wanted, _)| *wanted)
    {
        let status = deployments.get(name).await?.status.unwrap_or_default();
        if status.available_replicas.unwrap_or_default() < 1 {
            return Ok(Some(format!("no replica of {name} is available")));
        }
    }
    if !webhook {
        return Ok(None);
    }
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let hooks = configurations.get("sluice-webhook").await?.webhooks.unwrap_or_default();
    let trusted = hooks.iter().all(|hook| hook.client_config.ca_bundle.is_some());
    Ok((!trusted).then(|| "cert-manager has not written its authority into the configuration".to_owned()))
}

/// Applies cert-manager's definitions and its deployment. Its pod starts on its own time.
pub async fn install_cert_manager(assets: &Assets, environment: &BTreeMap<String, OsString>) -> Result<(), Error> {
    let kubectl = assets.program("kubectl");
    let definitions = ["apply", "--server-side", "-f"].map(OsString::from);
    let definitions = definitions.into_iter().chain([assets.certificate_crds.clone().into_os_string()]);
    run(kubectl, definitions, "", environment, "apply cert-manager's definitions").await?;
    let manifest = ["apply", "--server-side", "-f", "-"].map(OsString::from);
    run(kubectl, manifest, CERT_MANAGER, environment, "apply cert-manager").await
}

async fn run(
    program: &Path,
    arguments: impl IntoIterator<Item = OsString>,
    input: &str,
    environment: &BTreeMap<String, OsString>,
    purpose: &'static str,
) -> Result<(), Error> {
    let failed = |e| Error::Run(purpose, e);
    let mut child = Command::new(program)
        .args(arguments)
        .envs(environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await.map_err(failed)?;
    }
    let output = child.wait_with_output().await.map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Refused(purpose, String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
