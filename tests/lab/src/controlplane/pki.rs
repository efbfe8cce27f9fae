//! The lab's certificate authority and everything that it signs. All of it lives as long as the lab.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};

/// What could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A key or certificate.
    #[error("certificate for {subject}: {source}")]
    Certificate {
        /// Whose.
        subject: String,
        /// What the library said.
        source: rcgen::Error,
    },
    /// A file.
    #[error("write {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A certificate authority, and the directory that it writes to.
pub struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    /// The authority's own certificate, PEM.
    pub certificate: String,
}

/// A certificate with its key, as files and as PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// File of the certificate.
    pub certificate_file: PathBuf,
    /// File of the private key.
    pub key_file: PathBuf,
    /// The certificate, PEM.
    pub certificate: String,
    /// The private key, PEM.
    pub key: String,
}

impl Authority {
    /// Makes a new authority; its certificate is `ca.crt` in the directory.
    pub fn create(directory: &Path) -> Result<Self, Error> {
        let (key, mut params) = prepare("the authority", "lab")?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(refused("the authority"))?.pem();
        fs::create_dir_all(directory).map_err(|source| Error::Write { path: directory.to_owned(), source })?;
        let authority = Self { directory: directory.to_owned(), issuer: Issuer::new(params, key), certificate };
        authority.write("ca.crt", &authority.certificate)?;
        Ok(authority)
    }

    /// File of the authority's certificate.
    pub fn certificate_file(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// A client certificate: `user` in `group`, as Kubernetes reads common name and organization.
    pub fn client(&self, file: &str, user: &str, group: &str) -> Result<Pair, Error> {
        let (key, mut params) = prepare(user, user)?;
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(file, user, &params, &key)
    }

    /// A server certificate for names and addresses.
    pub fn server(&self, file: &str, names: &[&str], addresses: &[IpAddr]) -> Result<Pair, Error> {
        let (key, mut params) = prepare(file, file)?;
        for name in names {
            let name = (*name).try_into().map_err(refused(name))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, file, &params, &key)
    }

    /// The key pair that signs the tokens of service accounts: files of the private and of the public key.
    pub fn token_keys(&self) -> Result<(PathBuf, PathBuf), Error> {
        let key = KeyPair::generate().map_err(refused("service accounts"))?;
        Ok((
            self.write("service-accounts.key", &key.serialize_pem())?,
            self.write("service-accounts.pub", &key.public_key_pem())?,
        ))
    }

    fn sign(&self, file: &str, subject: &str, params: &CertificateParams, key: &KeyPair) -> Result<Pair, Error> {
        let certificate = params.signed_by(key, &self.issuer).map_err(refused(subject))?.pem();
        let key = key.serialize_pem();
        Ok(Pair {
            certificate_file: self.write(&format!("{file}.crt"), &certificate)?,
            key_file: self.write(&format!("{file}.key"), &key)?,
            certificate,
            key,
        })
    }

    fn write(&self, name: &str, content: &str) -> Result<PathBuf, Error> {
        let path = self.directory.join(name);
        fs::write(&path, content).map_err(|source| Error::Write { path: path.clone(), source })?;
        Ok(path)
    }
}

fn prepare(subject: &str, common_name: &str) -> Result<(KeyPair, CertificateParams), Error> {
    let key = KeyPair::generate().map_err(refused(subject))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    Ok((key, params))
}

fn refused(subject: &str) -> impl FnOnce(rcgen::Error) -> Error + '_ {
    move |source| Error::Certificate { subject: subject.to_owned(), source }
}
