//! Certificates, and the kubelet's way of putting them into a directory.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{RootCertStore, pki_types::CertificateDer};

pub(crate) const NAME: &str = "sluice-webhook.sluice-system.svc";

/// An authority of its own.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub(crate) root: CertificateDer<'static>,
}

/// A certificate and its key in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = parameters.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(parameters, key), root }
    }

    /// A certificate that is valid in these years.
    pub(crate) fn issue(&self, years: std::ops::Range<i32>) -> Pair {
        let mut parameters = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        parameters.not_before = rcgen::date_time_ymd(years.start, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        roots
    }
}

/// A volume as the kubelet projects a Secret: the files are links into `..data`, which is a link to a directory of the
/// present content. A new content is a new directory, and one rename of the link.
pub(crate) struct Volume {
    pub(crate) path: PathBuf,
    swaps: u32,
}

impl Volume {
    pub(crate) fn new(name: &str, pair: &Pair) -> Self {
        let path = std::env::temp_dir().join(format!("sluice-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let mut volume = Self { path, swaps: 0 };
        volume.swap(pair);
        for file in ["tls.crt", "tls.key"] {
            symlink(format!("..data/{file}"), volume.path.join(file)).unwrap();
        }
        volume
    }

    /// Puts another content in the place of the present one.
    pub(crate) fn swap(&mut self, pair: &Pair) {
        self.swaps += 1;
        let (old, new) = (format!("..{}", self.swaps - 1), format!("..{}", self.swaps));
        let directory = self.path.join(&new);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("tls.crt"), &pair.certificate).unwrap();
        fs::write(directory.join("tls.key"), &pair.key).unwrap();
        symlink(&new, self.path.join("..data_tmp")).unwrap();
        fs::rename(self.path.join("..data_tmp"), self.path.join("..data")).unwrap();
        let _ = fs::remove_dir_all(self.path.join(old));
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
