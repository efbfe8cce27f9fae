//! What the files of a volume contain: Secrets, `ConfigMaps`, tokens and downward API fields.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection, Volume,
};

use super::environment::{self, Lookup, Place};

const DEFAULT_MODE: u32 = 0o644;

/// Files of a volume by their path inside it.
pub type Payload = BTreeMap<String, File>;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Its content.
    pub content: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// Why a volume cannot be mounted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// An object, or a key of it, is not there and not optional.
    #[error("volume {volume}: {kind} {namespace}/{name} {lack}")]
    Missing {
        /// The volume.
        volume: String,
        /// `secret` or `configmap`.
        kind: &'static str,
        /// Namespace of the object.
        namespace: String,
        /// Its name.
        name: String,
        /// `does not exist` or `has no key ...`.
        lack: String,
    },
    /// A kind of volume that the lab does not have.
    #[error("volume {0}: the lab has secret, configMap, projected, downwardAPI and emptyDir volumes only")]
    Unsupported(String),
    /// A field that the downward API does not offer here.
    #[error("volume {0}: {1}")]
    Field(String, environment::Error),
    /// A token that was not requested.
    #[error("volume {0}: its service account token is not there yet")]
    NoToken(String),
}

/// Tokens that were requested, by audience and lifetime.
pub type Tokens = BTreeMap<TokenKey, String>;

/// What distinguishes the tokens of one service account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    /// Audience; the API server's own when empty.
    pub audience: String,
    /// Seconds that it is valid for.
    pub seconds: i64,
}

impl From<&ServiceAccountTokenProjection> for TokenKey {
    fn from(source: &ServiceAccountTokenProjection) -> Self {
        const HOUR: i64 = 3600;
        Self {
            audience: source.audience.clone().unwrap_or_default(),
            seconds: source.expiration_seconds.unwrap_or(HOUR),
        }
    }
}

/// The tokens that a volume needs.
pub fn tokens_of(volume: &Volume) -> impl Iterator<Item = TokenKey> + '_ {
    let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    sources.filter_map(|source| source.service_account_token.as_ref()).map(TokenKey::from)
}

/// The files of a volume; `None` for a directory that begins empty and belongs to the pod.
pub fn payload(
    pod: &Pod,
    volume: &Volume,
    place: Place,
    lookup: &impl Lookup,
    tokens: &Tokens,
) -> Result<Option<Payload>, Error> {
    let mut files = Files { pod, place, lookup, volume: &volume.name, payload: Payload::new() };
    let mode = |mode: Option<i32>| mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(DEFAULT_MODE);
    if volume.empty_dir.is_some() {
        return Ok(None);
    } else if let Some(source) = &volume.secret {
        let name = source.secret_name.as_deref().unwrap_or_default();
        files.secret(name, Wanted::new(source.items.as_ref(), source.optional, mode(source.default_mode)))?;
    } else if let Some(source) = &volume.config_map {
        files
            .config_map(&source.name, Wanted::new(source.items.as_ref(), source.optional, mode(source.default_mode)))?;
    } else if let Some(source) = &volume.downward_api {
        files.downward(source.items.as_deref(), mode(source.default_mode))?;
    } else if let Some(projected) = &volume.projected {
        let mode = mode(projected.default_mode);
        for source in projected.sources.iter().flatten() {
            if let Some(source) = &source.secret {
                files.secret(&source.name, Wanted::new(source.items.as_ref(), source.optional, mode))?;
            } else if let Some(source) = &source.config_map {
                files.config_map(&source.name, Wanted::new(source.items.as_ref(), source.optional, mode))?;
            } else if let Some(source) = &source.downward_api {
                files.downward(source.items.as_deref(), mode)?;
            } else if let Some(source) = &source.service_account_token {
                let token = tokens.get(&source.into()).ok_or_else(|| Error::NoToken(volume.name.clone()))?;
                files.add(&source.path, token.clone().into_bytes(), mode);
            } else {
                return Err(Error::Unsupported(volume.name.clone()));
            }
        }
    } else {
        return Err(Error::Unsupported(volume.name.clone()));
    }
    Ok(Some(files.payload))
}

/// Which keys of an object become files.
struct Wanted<'a> {
    /// The chosen ones; all where there is none.
    items: &'a [KeyToPath],
    /// Whether the object and the keys may be missing.
    optional: bool,
    mode: u32,
}

impl<'a> Wanted<'a> {
    fn new(items: Option<&'a Vec<KeyToPath>>, optional: Option<bool>, mode: u32) -> Self {
        Self { items: items.map_or(&[], Vec::as_slice), optional: optional == Some(true), mode }
    }
}

/// Collects the files of one volume.
struct Files<'a, L> {
    pod: &'a Pod,
    place: Place,
    lookup: &'a L,
    volume: &'a str,
    payload: Payload,
}

impl<L: Lookup> Files<'_, L> {
    fn namespace(&self) -> &str {
        self.pod.metadata.namespace.as_deref().unwrap_or_default()
    }

    fn add(&mut self, path: &str, content: Vec<u8>, mode: u32) {
        self.payload.insert(path.to_owned(), File { content, mode });
    }

    fn secret(&mut self, name: &str, wanted: Wanted) -> Result<(), Error> {
        let found = self.lookup.secret(self.namespace(), name).map(secret_data);
        self.keys("secret", name, found, wanted)
    }

    fn config_map(&mut self, name: &str, wanted: Wanted) -> Result<(), Error> {
        let found = self.lookup.config_map(self.namespace(), name).map(config_map_data);
        self.keys("configmap", name, found, wanted)
    }

    /// All keys, or those that are chosen under the paths that they are given.
    fn keys(
        &mut self,
        kind: &'static str,
        name: &str,
        found: Option<BTreeMap<String, Vec<u8>>>,
        Wanted { items, optional, mode }: Wanted,
    ) -> Result<(), Error> {
        let (volume, namespace) = (self.volume.to_owned(), self.namespace().to_owned());
        let missing = |lack| Error::Missing { volume, kind, namespace, name: name.to_owned(), lack };
        let Some(data) = found else {
            return if optional { Ok(()) } else { Err(missing("does not exist".to_owned())) };
        };
        if items.is_empty() {
            for (key, content) in data {
                self.add(&key, content, mode);
            }
            return Ok(());
        }
        for item in items {
            match data.get(&item.key) {
                Some(content) => {
                    let mode = item.mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(mode);
                    self.add(&item.path, content.clone(), mode);
                }
                None if optional => {}
                None => return Err(missing(format!("has no key {}", item.key))),
            }
        }
        Ok(())
    }

    fn downward(&mut self, items: Option<&[DownwardAPIVolumeFile]>, mode: u32) -> Result<(), Error> {
        for item in items.into_iter().flatten() {
            let field = item.field_ref.as_ref().ok_or_else(|| Error::Unsupported(self.volume.to_owned()))?;
            let text = environment::field(self.pod, &field.field_path, self.place)
                .map_err(|e| Error::Field(self.volume.to_owned(), e))?;
            let mode = item.mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(mode);
            self.add(&item.path, text.into_bytes(), mode);
        }
        Ok(())
    }
}

fn secret_data(secret: Arc<Secret>) -> BTreeMap<String, Vec<u8>> {
    Arc::unwrap_or_clone(secret).data.into_iter().flatten().map(|(key, value)| (key, value.0)).collect()
}

fn config_map_data(map: Arc<ConfigMap>) -> BTreeMap<String, Vec<u8>> {
    let map = Arc::unwrap_or_clone(map);
    let text = map.data.into_iter().flatten().map(|(key, value)| (key, value.into_bytes()));
    let binary = map.binary_data.into_iter().flatten().map(|(key, value)| (key, value.0));
    text.chain(binary).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::*;
    use crate::node::address::Addresses;

    struct Objects;

    impl Lookup for Objects {
        fn secret(&self, _: &str, name: &str) -> Option<Arc<Secret>> {
            let secret = json!({"data": {"tls.crt": "Yw==", "tls.key": "aw=="}});
            (name == "tls").then(|| Arc::new(serde_json::from_value(secret).expect("a secret")))
        }

        fn config_map(&self, _: &str, name: &str) -> Option<Arc<ConfigMap>> {
            let map = json!({"data": {"ca.crt": "ca"}});
            (name == "root").then(|| Arc::new(serde_json::from_value(map).expect("a config map")))
        }
    }

    fn of(volume: serde_json::Value) -> Result<Option<Payload>, Error> {
        let volume: Volume = serde_json::from_value(volume).expect("a volume");
        let pod = json!({"metadata": {"name": "p", "namespace": "web"}, "spec": {"containers": []}});
        let pod = serde_json::from_value(pod).expect("a pod");
        let localhost = Addresses { v4: Ipv4Addr::LOCALHOST, v6: None };
        let place = Place { pod: localhost, host: localhost };
        let tokens = tokens_of(&volume).map(|key| (key, "token".to_owned())).collect();
        payload(&pod, &volume, place, &Objects, &tokens)
    }

    fn files(payload: &Payload) -> Vec<(&str, &str, u32)> {
        payload
            .iter()
            .map(|(path, f)| (path.as_str(), std::str::from_utf8(&f.content).expect("text"), f.mode))
            .collect()
    }

    #[test]
    fn projected_volume_joins_its_sources() {
        let volume = json!({"name": "v", "projected": {"defaultMode": 0o400, "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "root", "items": [{"key": "ca.crt", "path": "certs/ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}},
        ]}});
        let payload = of(volume).expect("valid").expect("files");
        let expected = [("certs/ca.crt", "ca", 0o400), ("namespace", "web", 0o400), ("token", "token", 0o400)];
        assert_eq!(files(&payload), expected);
    }

    #[test]
    fn secret_has_all_keys_unless_items_choose() {
        let all = of(json!({"name": "v", "secret": {"secretName": "tls"}})).expect("valid").expect("files");
        assert_eq!(files(&all), [("tls.crt", "c", 0o644), ("tls.key", "k", 0o644)]);
        let one = json!({"name": "v", "secret": {"secretName": "tls", "items": [{"key": "tls.key", "path": "k", "mode": 0o600}]}});
        assert_eq!(files(&of(one).expect("valid").expect("files")), [("k", "k", 0o600)]);
    }

    #[test]
    fn what_is_missing_is_named_unless_it_is_optional() {
        let cases = [
            (json!({"secretName": "x"}), "volume v: secret web/x does not exist"),
            (
                json!({"secretName": "tls", "items": [{"key": "x", "path": "x"}]}),
                "volume v: secret web/tls has no key x",
            ),
        ];
        for (mut source, says) in cases {
            let error = of(json!({"name": "v", "secret": source})).expect_err(says).to_string();
            assert_eq!(error, says);
            source["optional"] = true.into();
            assert_eq!(of(json!({"name": "v", "secret": source})), Ok(Some(Payload::new())));
        }
        let error = of(json!({"name": "v", "hostPath": {"path": "/"}})).expect_err("unsupported").to_string();
        assert!(error.starts_with("volume v: the lab has"), "{error}");
        assert_eq!(of(json!({"name": "v", "emptyDir": {}})), Ok(None));
    }
}
