//! What the lab installs into its cluster.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use k8s_openapi::api::{admissionregistration::v1::MutatingWebhookConfiguration, apps::v1::Deployment};
use kube::{Api, Client};
use tokio::{io::AsyncWriteExt as _, process::Command};
use world::World;

use crate::{
    assets::Assets,
    cli::{NamedImage, Options, Part},
    ready,
};

/// Our images, as the manifests name them, with the programs that are built beside this one.
const WEBHOOK_IMAGE: (&str, &str) = ("sluice-webhook", "webhook");
const REGISTRAR_IMAGE: (&str, &str) = ("sluice-registrar", "registrar");

const CERT_MANAGER: &str = include_str!("../manifests/cert-manager.yaml");
/// The webhook as it is installed anywhere: the definition of bindings, the webhook, and its certificate.
const WEBHOOK: [&str; 3] = [
    include_str!("../../../manifests/crds/targetgroupbindings.yaml"),
    include_str!("../../../manifests/webhook.yaml"),
    include_str!("../../../certs/cert-manager.yaml"),
];
/// The registrar as it is installed anywhere.
const REGISTRAR: [&str; 2] =
    [include_str!("../../../manifests/registrar.yaml"), include_str!("../../../manifests/registrar-policies.yaml")];
/// What the registrar's role is in every world that has one for it.
const REGISTRAR_ROLE: &str = "role/sluice-registrar";
/// Between documents of YAML.
const SEPARATOR: &str = "\n---\n";
const PATIENCE: Duration = Duration::from_mins(1);

/// Why something could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// kubectl did not run.
    #[error("run kubectl to {0}: {1}")]
    Run(&'static str, #[source] io::Error),
    /// A program is not where it is built.
    #[error("{0} is not there: build it (cargo build -p {1}), or leave it out (--without {1})")]
    NotBuilt(PathBuf, &'static str),
    /// It did not come up.
    #[error("the {0} was not ready within {PATIENCE:?}: {1}")]
    NotReady(&'static str, String),
    /// kubectl refused.
    #[error("{0}: kubectl says: {1}")]
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

/// Applies the webhook's manifests and waits until API servers ask it.
pub async fn install_webhook(
    assets: &Assets,
    environment: &BTreeMap<String, OsString>,
    client: &Client,
    world: &World,
) -> Result<(), Error> {
    let manifest = valued(&WEBHOOK.join(SEPARATOR), world);
    let arguments = ["apply", "--server-side", "-f", "-"].map(OsString::from);
    apply(assets.program("kubectl"), arguments, &manifest, environment, "apply the webhook").await?;
    ready::until(PATIENCE, || missing_webhook(client)).await.map_err(|missing| Error::NotReady("webhook", missing))
}

/// Applies the registrar's manifests, and what it shares with the webhook, and waits until it is ready.
pub async fn install_registrar(
    assets: &Assets,
    environment: &BTreeMap<String, OsString>,
    client: &Client,
    world: &World,
) -> Result<(), Error> {
    let [definitions, webhook, _] = WEBHOOK;
    let shared = webhook
        .split(SEPARATOR)
        .filter(|document| document.contains("kind: Namespace\n") || document.contains("  name: sluice-settings\n"));
    let manifest: Vec<_> = std::iter::once(definitions).chain(shared).chain(REGISTRAR).collect();
    let manifest = valued(&manifest.join(SEPARATOR), world);
    let arguments = ["apply", "--server-side", "-f", "-"].map(OsString::from);
    apply(assets.program("kubectl"), arguments, &manifest, environment, "apply the registrar").await?;
    let missing = || async {
        let available = is_available(client, "sluice-registrar").await?;
        Ok((!available).then(|| "none of its replicas is available".to_owned()))
    };
    ready::until(PATIENCE, missing).await.map_err(|missing| Error::NotReady("registrar", missing))
}

/// The manifests with the values of this world.
fn valued(manifest: &str, world: &World) -> String {
    let role = world.roles.iter().find(|role| role.arn.ends_with(REGISTRAR_ROLE)).map_or("", |role| &role.arn);
    let values = [
        ("clusterName: \"\"", format!("clusterName: \"{}\"", world.cluster)),
        ("eks.amazonaws.com/role-arn: \"\"", format!("eks.amazonaws.com/role-arn: \"{role}\"")),
        ("{ name: SLUICE_VPC_ID, value: \"\" }", format!("{{ name: SLUICE_VPC_ID, value: \"{}\" }}", world.vpc.id)),
    ];
    values.iter().fold(manifest.to_owned(), |text, (empty, value)| text.replace(empty, value))
}

async fn is_available(client: &Client, deployment: &str) -> Result<bool, kube::Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "sluice-system");
    let status = deployments.get(deployment).await?.status.unwrap_or_default();
    Ok(status.available_replicas.unwrap_or_default() > 0)
}

async fn missing_webhook(client: &Client) -> Result<Option<String>, kube::Error> {
    if !is_available(client, "sluice-webhook").await? {
        return Ok(Some("none of its replicas is available".to_owned()));
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
    apply(kubectl, definitions, "", environment, "apply cert-manager's definitions").await?;
    let manifest = ["apply", "--server-side", "-f", "-"].map(OsString::from);
    apply(kubectl, manifest, CERT_MANAGER, environment, "apply cert-manager").await
}

async fn apply(
    kubectl: &Path,
    arguments: impl IntoIterator<Item = OsString>,
    input: &str,
    environment: &BTreeMap<String, OsString>,
    purpose: &'static str,
) -> Result<(), Error> {
    let failed = |e| Error::Run(purpose, e);
    let mut child = Command::new(kubectl)
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
