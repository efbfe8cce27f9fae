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

use crate::{
    assets::Assets,
    cli::{NamedImage, Options, Part},
    ready,
};

/// The image of the webhook, as its manifest names it.
const WEBHOOK_IMAGE: &str = "sluice-webhook";

const CERT_MANAGER: &str = include_str!("../manifests/cert-manager.yaml");
/// The webhook as it is installed anywhere: the definition of bindings, the webhook, and its certificate.
const WEBHOOK: [&str; 3] = [
    include_str!("../../../manifests/crds/targetgroupbindings.yaml"),
    include_str!("../../../manifests/webhook.yaml"),
    include_str!("../../../certs/cert-manager.yaml"),
];
const PATIENCE: Duration = Duration::from_mins(1);

/// Why something could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// kubectl did not run.
    #[error("run kubectl to {0}: {1}")]
    Run(&'static str, #[source] io::Error),
    /// The webhook's program is not where it is built.
    #[error("{0} is not there: build it (cargo build -p webhook), or leave it out (--without webhook)")]
    NoWebhook(PathBuf),
    /// It did not come up.
    #[error("the webhook was not ready within {PATIENCE:?}: {0}")]
    WebhookNotReady(String),
    /// kubectl refused.
    #[error("{0}: kubectl says: {1}")]
    Refused(&'static str, String),
}

/// The images of what is installed, with their programs. Ours are built beside this program.
pub fn images(assets: &Assets, options: &Options) -> Result<Vec<NamedImage>, Error> {
    let named = |name: &str, program: &Path| NamedImage { name: name.to_owned(), program: program.to_owned() };
    let mut images = vec![named("cert-manager", assets.program("cert-manager"))];
    if has_webhook(options) && !options.image.iter().any(|image| image.name == WEBHOOK_IMAGE) {
        let own = std::env::current_exe().map_err(|e| Error::Run("find the webhook's program", e))?;
        let program = own.with_file_name("webhook");
        if !program.is_file() {
            return Err(Error::NoWebhook(program));
        }
        images.push(named(WEBHOOK_IMAGE, &program));
    }
    Ok(images)
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
) -> Result<(), Error> {
    let manifest = WEBHOOK.join("\n---\n");
    let arguments = ["apply", "--server-side", "-f", "-"].map(OsString::from);
    apply(assets.program("kubectl"), arguments, &manifest, environment, "apply the webhook").await?;
    ready::until(PATIENCE, || missing(client)).await.map_err(Error::WebhookNotReady)
}

async fn missing(client: &Client) -> Result<Option<String>, kube::Error> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), "sluice-system");
    let status = deployments.get("sluice-webhook").await?.status.unwrap_or_default();
    if status.available_replicas.unwrap_or_default() < 1 {
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
