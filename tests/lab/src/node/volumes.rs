//! The volumes of one pod on disk, kept equal to what they are made of.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use k8s_openapi::api::{
    authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
    core::v1::{Pod, ServiceAccount, Volume},
};
use kube::{Api, ResourceExt as _, api::PostParams};
use std::collections::BTreeMap;
use tokio::time::Instant;

use super::{
    atomic_writer,
    environment::Place,
    machine::Machine,
    projection::{self, Payload, TokenKey, Tokens},
};

/// Why volumes are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What a volume is made of is not there.
    #[error(transparent)]
    Projection(#[from] projection::Error),
    /// A token was refused.
    #[error("token of service account {account}: {source}")]
    Token {
        /// The service account.
        account: String,
        /// What the API said.
        source: Box<kube::Error>,
    },
    /// The files could not be written.
    #[error("write volume {volume}: {source}")]
    Write {
        /// The volume.
        volume: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The volumes of one pod.
pub struct Volumes {
    machine: Arc<Machine>,
    directory: PathBuf,
    written: BTreeMap<String, Payload>,
    tokens: Tokens,
    renewal: BTreeMap<TokenKey, Instant>,
    generation: u64,
}

impl Volumes {
    /// None yet; files go below `directory`.
    pub fn new(machine: Arc<Machine>, directory: PathBuf) -> Self {
        let (written, tokens, renewal) = Default::default();
        Self { machine, directory, written, tokens, renewal, generation: 0 }
    }

    /// Where a volume's files are.
    pub fn path(&self, volume: &str) -> PathBuf {
        self.directory.join(volume)
    }

    /// When a token must be replaced.
    pub fn next_renewal(&self) -> Option<Instant> {
        self.renewal.values().min().copied()
    }

    /// Writes every volume whose content differs from what is on disk, with fresh tokens where theirs are due.
    pub async fn refresh(&mut self, pod: &Pod, place: Place) -> Result<(), Error> {
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        for volume in volumes {
            for key in projection::tokens_of(volume) {
                if self.renewal.get(&key).is_none_or(|at| *at <= Instant::now()) {
                    let token = self.request(pod, &key).await?;
                    // At four fifths of its life, as the kubelet does.
                    let life = Duration::from_secs(u64::try_from(key.seconds).unwrap_or_default());
                    self.renewal.insert(key.clone(), Instant::now() + life.mul_f64(0.8));
                    self.tokens.insert(key, token);
                }
            }
            self.write(pod, volume, place)?;
        }
        Ok(())
    }

    fn write(&mut self, pod: &Pod, volume: &Volume, place: Place) -> Result<(), Error> {
        let path = self.path(&volume.name);
        let failed = |source| Error::Write { volume: volume.name.clone(), source };
        fs::create_dir_all(&path).map_err(failed)?;
        let payload = projection::payload(pod, volume, place, &*self.machine.sources, &self.tokens)?;
        let Some(payload) = payload.filter(|p| self.written.get(&volume.name) != Some(p)) else { return Ok(()) };
        self.generation += 1;
        let stamp = format!("{}.{}", jiff::Timestamp::now().strftime("%Y_%m_%d_%H_%M_%S"), self.generation);
        atomic_writer::write(&path, &payload, &stamp).map_err(failed)?;
        self.written.insert(volume.name.clone(), payload);
        Ok(())
    }

    async fn request(&self, pod: &Pod, key: &TokenKey) -> Result<String, Error> {
        let account = pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).unwrap_or_default();
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: Some(key.audience.clone()).filter(|a| !a.is_empty()).into_iter().collect(),
                expiration_seconds: Some(key.seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                }),
            },
            ..TokenRequest::default()
        };
        let api: Api<ServiceAccount> =
            Api::namespaced(self.machine.client.clone(), &pod.namespace().unwrap_or_default());
        match api.create_token_request(&account, &PostParams::default(), &request).await {
            Ok(answer) => Ok(answer.status.map(|s| s.token).unwrap_or_default()),
            Err(source) => Err(Error::Token { account, source: Box::new(source) }),
        }
    }
}

impl Drop for Volumes {
    fn drop(&mut self) {
        // All of it is in memory and goes with the lab at the latest.
        let _ = fs::remove_dir_all(&self.directory);
    }
}
