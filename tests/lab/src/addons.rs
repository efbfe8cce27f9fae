//! What the lab installs into its cluster.

use std::{collections::BTreeMap, ffi::OsString, io, path::Path, process::Stdio};

use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::{assets::Assets, cli::NamedImage};

const CERT_MANAGER: &str = include_str!("../manifests/cert-manager.yaml");

/// Why something could not be installed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// kubectl did not run.
    #[error("run kubectl to {0}: {1}")]
    Run(&'static str, #[source] io::Error),
    /// kubectl refused.
    #[error("{0}: kubectl says: {1}")]
    Refused(&'static str, String),
}

/// The images of what is installed, with their programs.
pub fn images(assets: &Assets) -> impl Iterator<Item = NamedImage> {
    let named = |name: &str| NamedImage { name: name.to_owned(), program: assets.program(name).to_owned() };
    [named("cert-manager")].into_iter()
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
