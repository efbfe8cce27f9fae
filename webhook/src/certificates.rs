//! The serving certificate: read again by content, checked as a pair, swapped at once for new connections.
//!
//! Files are never watched: the kubelet swaps a link above them, which a watch on the file does not see. What does not
//! load, or is worse than what is served, leaves the last good pair in place.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::NoServerSessionStorage,
    sign::{CertifiedKey, SingleCertAndKey},
};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::{metrics::Metrics, tls::Tls};

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
static FROM_1_2: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
static FROM_1_3: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// Why a pair cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The certificate file holds no certificates in PEM.
    #[error("{}: no certificate in PEM is in it{reason}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong, if there is something.
        reason: String,
    },
    /// The key file holds no private key in PEM.
    #[error("{}: no private key in PEM is in it: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// They do not belong together, or cannot be used.
    #[error("{} and {KEY}: {source}", path.display())]
    Pair {
        /// The certificate file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// It is not valid at present, and what is served is better.
    #[error("{}: is valid from {not_before} to {not_after} (seconds since 1970), and it is {now}", path.display())]
    NotValid {
        /// The certificate file.
        path: PathBuf,
        /// Beginning of its validity.
        not_before: i64,
        /// End of its validity.
        not_after: i64,
        /// The present.
        now: i64,
    },
}

/// From when and until when a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Validity {
    from: i64,
    to: i64,
}

impl Validity {
    fn covers(self, now: i64) -> bool {
        (self.from..=self.to).contains(&now)
    }

    /// Whether a certificate of this validity takes the place of another one.
    fn replaces(self, other: Self, now: i64) -> bool {
        self.covers(now) || (!other.covers(now) && self.to > other.to)
    }
}

#[derive(PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The certificate that is served, and where the next one comes from.
pub struct Certificates {
    directory: PathBuf,
    versions: &'static [&'static SupportedProtocolVersion],
    provider: Arc<CryptoProvider>,
    /// What was read last, whether it could be used or not, so that nothing is reported twice.
    seen: Files,
    validity: Validity,
    current: watch::Sender<Arc<ServerConfig>>,
    metrics: Arc<Metrics>,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum MinimalVersion {
    /// For API servers that do not speak TLS 1.3.
    #[value(name = "1.2")]
    Tls12,
    /// What every supported API server speaks.
    #[value(name = "1.3")]
    Tls13,
}

impl Certificates {
    /// Loads the pair of a directory, `tls.crt` and `tls.key`, which must be usable. One that is not valid at present is
    /// served nevertheless if there is no other: whoever trusts it anyway is served.
    pub async fn load(directory: &Path, minimum: MinimalVersion, metrics: Arc<Metrics>) -> Result<Self, Error> {
        let versions = match minimum {
            MinimalVersion::Tls12 => FROM_1_2,
            MinimalVersion::Tls13 => FROM_1_3,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let seen = read(directory).await?;
        let (config, validity) = configuration(directory, &seen, versions, &provider)?;
        metrics.certificate_not_after.set(validity.to);
        if !validity.covers(now()) {
            let (not_before, not_after) = (validity.from, validity.to);
            tracing::error!(
                not_before,
                not_after,
                "the certificate is not valid at present, served for want of another"
            );
        }
        let current = watch::Sender::new(config);
        Ok(Self { directory: directory.to_owned(), versions, provider, seen, validity, current, metrics })
    }

    /// What listeners use.
    pub fn tls(&self) -> Tls {
        Tls::new(self.current.subscribe())
    }

    /// Reads the files again and again, until `stop`.
    pub async fn follow(mut self, every: Duration, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.refresh().await;
        }
        // The listener lingers, and is served by what is current.
        self.current.closed().await;
        Ok(())
    }

    /// Reads the files, and serves them if they changed and are better.
    pub async fn refresh(&mut self) {
        let loaded = match read(&self.directory).await {
            Ok(files) if files == self.seen => return,
            Ok(files) => {
                let loaded = self.replacement(&files);
                self.seen = files;
                loaded
            }
            Err(error) => Err(error),
        };
        match loaded {
            Ok((config, validity)) => {
                self.validity = validity;
                self.metrics.certificate_not_after.set(validity.to);
                self.metrics.certificate_loads.inc();
                self.current.send_replace(config);
                tracing::info!(not_after = validity.to, "a new certificate is served");
            }
            Err(error) => {
                self.metrics.certificate_failures.inc();
                tracing::warn!(%error, "the certificate files cannot be used, the last good pair stays");
            }
        }
    }

    fn replacement(&self, files: &Files) -> Result<(Arc<ServerConfig>, Validity), Error> {
        let (config, validity) = configuration(&self.directory, files, self.versions, &self.provider)?;
        let now = now();
        if validity.replaces(self.validity, now) {
            Ok((config, validity))
        } else {
            let path = self.directory.join(CERTIFICATE);
            Err(Error::NotValid { path, not_before: validity.from, not_after: validity.to, now })
        }
    }
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

async fn read(directory: &Path) -> Result<Files, Error> {
    let file = async |name| {
        let path = directory.join(name);
        tokio::fs::read(&path).await.map_err(|source| Error::Read { path, source })
    };
    Ok(Files { certificate: file(CERTIFICATE).await?, key: file(KEY).await? })
}

fn configuration(
    directory: &Path,
    files: &Files,
    versions: &[&'static SupportedProtocolVersion],
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<ServerConfig>, Validity), Error> {
    let path = || directory.join(CERTIFICATE);
    let unusable = |reason: String| Error::Certificate { path: path(), reason };
    let pair = |source| Error::Pair { path: path(), source };
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&files.certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(format!(": {error}")))?;
    let leaf = chain.first().ok_or_else(|| unusable(String::new()))?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| unusable(format!(": {error}")))?;
    let validity =
        Validity { from: parsed.validity().not_before.timestamp(), to: parsed.validity().not_after.timestamp() };
    let key =
        PrivateKeyDer::from_pem_slice(&files.key).map_err(|source| Error::Key { path: directory.join(KEY), source })?;
    // Refuses a key that is not the certificate's.
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(pair)?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(versions)
        .map_err(pair)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    // API servers speak HTTP/1.1 to Services, keep connections, and resume none.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok((Arc::new(config), validity))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_replaced_by_one_that_is_valid_or_at_least_lasts_longer() {
        let valid = Validity { from: 0, to: 100 };
        let cases = [
            (Validity { from: 10, to: 60 }, valid, true),
            (Validity { from: 0, to: 40 }, valid, false),
            (Validity { from: 60, to: 200 }, valid, false),
            (Validity { from: 0, to: 40 }, Validity { from: 0, to: 30 }, true),
            (Validity { from: 0, to: 20 }, Validity { from: 0, to: 30 }, false),
        ];
        for (new, old, expected) in cases {
            assert_eq!(new.replaces(old, 50), expected, "{new:?} for {old:?}");
        }
    }
}
