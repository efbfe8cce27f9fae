//! A container's environment and arguments, as the kubelet makes them.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, ObjectFieldSelector, Pod, Secret};

use super::address::Addresses;

/// Why a container cannot be started as it is written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A Secret or ConfigMap, or a key of it, is not there and not optional.
    #[error("{kind} {name} has no key {key} in namespace {namespace}, which variable {variable} needs")]
    Missing {
        /// `secret` or `configmap`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key; `*` where all of it is needed.
        key: String,
        /// The pod's namespace.
        namespace: String,
        /// The variable that refers to it.
        variable: String,
    },
    /// A field of the downward API that the lab does not know.
    #[error("field {0} is not offered by the lab's downward API")]
    Field(String),
    /// A kind of source that the lab does not know.
    #[error("variable {0} has a source that the lab does not know (fieldRef, secretKeyRef and configMapKeyRef are)")]
    Source(String),
}

/// Looks up what the environment may refer to.
pub trait Lookup {
    /// A Secret by namespace and name.
    fn secret(&self, namespace: &str, name: &str) -> Option<std::sync::Arc<Secret>>;
    /// A `ConfigMap` by namespace and name.
    fn config_map(&self, namespace: &str, name: &str) -> Option<std::sync::Arc<ConfigMap>>;
}

/// What the node knows about a pod that its own object does not say yet.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The pod's addresses.
    pub pod: Addresses,
    /// The node's addresses.
    pub host: Addresses,
}

/// The variables of a container: `envFrom`, then `env` in order, each able to refer to those before it. `base` comes
/// first and is what the node gives to every container.
pub fn variables(
    pod: &Pod,
    container: &Container,
    place: Place,
    base: &BTreeMap<String, String>,
    lookup: &impl Lookup,
) -> Result<BTreeMap<String, String>, Error> {
    let mut variables = base.clone();
    for (name, value) in from_sources(pod, container, lookup)? {
        variables.insert(name, value);
    }
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => Some(expand(variable.value.as_deref().unwrap_or_default(), &variables)),
            Some(_) => from_source(pod, variable, place, lookup)?,
        };
        if let Some(value) = value {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

/// `command` and `args` with references replaced.
pub fn arguments(list: Option<&Vec<String>>, variables: &BTreeMap<String, String>) -> Vec<String> {
    list.into_iter().flatten().map(|text| expand(text, variables)).collect()
}

/// Replaces `$(NAME)`; `$$` stands for `$`, and a reference to nothing stays as it is.
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            result.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match variables.get(name) {
                Some(value) => result.push_str(value),
                None => result.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            result.push('$');
        }
    }
    result.push_str(rest);
    result
}

/// The value of a downward API field.
pub fn field(pod: &Pod, path: &str, place: Place) -> Result<String, Error> {
    let metadata = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: Option<&String>| Ok(value.cloned().unwrap_or_default());
    let entry = |map: Option<&BTreeMap<String, String>>, key: &str| {
        Ok(map.and_then(|m| m.get(key)).cloned().unwrap_or_default())
    };
    let lines = |map: Option<&BTreeMap<String, String>>| {
        let lines: Vec<_> = map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect();
        Ok(lines.join("\n"))
    };
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        return match map {
            "metadata.labels" => entry(metadata.labels.as_ref(), key),
            "metadata.annotations" => entry(metadata.annotations.as_ref(), key),
            _ => Err(Error::Field(path.to_owned())),
        };
    }
    match path {
        "metadata.name" => text(metadata.name.as_ref()),
        "metadata.namespace" => text(metadata.namespace.as_ref()),
        "metadata.uid" => text(metadata.uid.as_ref()),
        "metadata.labels" => lines(metadata.labels.as_ref()),
        "metadata.annotations" => lines(metadata.annotations.as_ref()),
        "spec.nodeName" => text(spec.and_then(|s| s.node_name.as_ref())),
        "spec.serviceAccountName" => text(spec.and_then(|s| s.service_account_name.as_ref())),
        "status.podIP" => Ok(place.pod.v4.to_string()),
        "status.hostIP" => Ok(place.host.v4.to_string()),
        "status.podIPs" => Ok(list(place.pod)),
        "status.hostIPs" => Ok(list(place.host)),
        _ => Err(Error::Field(path.to_owned())),
    }
}

fn list(addresses: Addresses) -> String {
    addresses.all().map(|address| address.to_string()).collect::<Vec<_>>().join(",")
}

fn from_sources(pod: &Pod, container: &Container, lookup: &impl Lookup) -> Result<HashMap<String, String>, Error> {
    let namespace = namespace(pod);
    let mut found = HashMap::new();
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let missing = |kind, name: &str| Error::Missing {
            kind,
            name: name.to_owned(),
            key: "*".to_owned(),
            namespace: namespace.to_owned(),
            variable: format!("{prefix}*"),
        };
        if let Some(wanted) = &source.secret_ref {
            match lookup.secret(namespace, &wanted.name) {
                Some(secret) => {
                    found.extend(secret.data.iter().flatten().map(|(key, value)| {
                        (format!("{prefix}{key}"), String::from_utf8_lossy(&value.0).into_owned())
                    }));
                }
                None if wanted.optional != Some(true) => return Err(missing("secret", &wanted.name)),
                None => {}
            }
        }
        if let Some(wanted) = &source.config_map_ref {
            match lookup.config_map(namespace, &wanted.name) {
                Some(map) => {
                    found.extend(map.data.iter().flatten().map(|(k, v)| (format!("{prefix}{k}"), v.clone())));
                }
                None if wanted.optional != Some(true) => return Err(missing("configmap", &wanted.name)),
                None => {}
            }
        }
    }
    Ok(found)
}

fn from_source(pod: &Pod, variable: &EnvVar, place: Place, lookup: &impl Lookup) -> Result<Option<String>, Error> {
    let namespace = namespace(pod);
    let Some(source) = &variable.value_from else { return Ok(None) };
    let missing = |kind, name: &str, key: &str| Error::Missing {
        kind,
        name: name.to_owned(),
        key: key.to_owned(),
        namespace: namespace.to_owned(),
        variable: variable.name.clone(),
    };
    if let Some(ObjectFieldSelector { field_path, .. }) = &source.field_ref {
        return field(pod, field_path, place).map(Some);
    }
    if let Some(wanted) = &source.secret_key_ref {
        let value = lookup.secret(namespace, &wanted.name).and_then(|secret| {
            secret.data.as_ref()?.get(&wanted.key).map(|v| String::from_utf8_lossy(&v.0).into_owned())
        });
        return match value {
            None if wanted.optional != Some(true) => Err(missing("secret", &wanted.name, &wanted.key)),
            value => Ok(value),
        };
    }
    if let Some(wanted) = &source.config_map_key_ref {
        let value =
            lookup.config_map(namespace, &wanted.name).and_then(|map| map.data.as_ref()?.get(&wanted.key).cloned());
        return match value {
            None if wanted.optional != Some(true) => Err(missing("configmap", &wanted.name, &wanted.key)),
            value => Ok(value),
        };
    }
    Err(Error::Source(variable.name.clone()))
}

fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    struct Objects;

    impl Lookup for Objects {
        fn secret(&self, namespace: &str, name: &str) -> Option<Arc<Secret>> {
            let secret = json!({"data": {"password": "czNjcmV0"}});
            ((namespace, name) == ("web", "db")).then(|| Arc::new(serde_json::from_value(secret).expect("a secret")))
        }

        fn config_map(&self, _: &str, _: &str) -> Option<Arc<ConfigMap>> {
            None
        }
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "web-0", "namespace": "web", "uid": "u1", "labels": {"app": "web"}},
            "spec": {"nodeName": "n1", "serviceAccountName": "runner", "containers": []},
        }))
        .expect("a pod")
    }

    /// A place in 192.168.11.0/24 and in this IPv6 block.
    fn place(block: Option<u128>) -> Place {
        let at = |host: u8| Addresses {
            v4: [192, 168, 11, host].into(),
            v6: block.map(|block| (block + u128::from(host)).into()),
        };
        Place { pod: at(7), host: at(10) }
    }

    fn of(container: serde_json::Value) -> Result<BTreeMap<String, String>, Error> {
        let container = serde_json::from_value(container).expect("a container");
        variables(&pod(), &container, place(None), &[("BASE".to_owned(), "b".to_owned())].into(), &Objects)
    }

    #[test]
    fn references_are_replaced_as_kubernetes_does() {
        let variables: BTreeMap<_, _> = [("A".to_owned(), "1".to_owned()), ("E".to_owned(), String::new())].into();
        for (text, expected) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(E)", ""),
            ("$(NONE)", "$(NONE)"),
            ("$$(A)", "$(A)"),
            ("$A $ $(A", "$A $ $(A"),
            ("cost: 5$", "cost: 5$"),
        ] {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }

    #[test]
    fn variables_come_from_fields_secrets_and_variables_before_them() {
        let variables = of(json!({"name": "c", "env": [
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "LISTEN", "value": "$(IP):9443"},
            {"name": "LATER", "value": "$(PASSWORD)"},
            {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "db", "key": "password"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "NONE", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y", "optional": true}}},
        ], "envFrom": [{"prefix": "DB_", "secretRef": {"name": "db"}}]}))
        .expect("valid");
        let expected = [
            ("APP", "web"),
            ("BASE", "b"),
            ("DB_password", "s3cret"),
            ("IP", "192.168.11.7"),
            ("LATER", "$(PASSWORD)"),
            ("LISTEN", "192.168.11.7:9443"),
            ("PASSWORD", "s3cret"),
        ];
        let found: Vec<_> = variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn downward_api_has_the_ipv4_address_alone_or_all_addresses_in_order() {
        let (v4, both) = (place(None), place(Some(0x2001_0db8 << 96)));
        for (path, alone, in_both) in [
            ("status.podIP", "192.168.11.7", "192.168.11.7"),
            ("status.podIPs", "192.168.11.7", "192.168.11.7,2001:db8::7"),
            ("status.hostIP", "192.168.11.10", "192.168.11.10"),
            ("status.hostIPs", "192.168.11.10", "192.168.11.10,2001:db8::a"),
        ] {
            assert_eq!(field(&pod(), path, v4).as_deref(), Ok(alone), "{path}");
            assert_eq!(field(&pod(), path, both).as_deref(), Ok(in_both), "{path}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let cases = [
            (
                json!({"secretKeyRef": {"name": "db", "key": "user"}}),
                "secret db has no key user in namespace web, which variable V needs",
            ),
            (json!({"fieldRef": {"fieldPath": "spec.priority"}}), "field spec.priority is not offered"),
            (json!({"resourceFieldRef": {"resource": "limits.cpu"}}), "variable V has a source"),
        ];
        for (source, says) in cases {
            let container = json!({"name": "c", "env": [{"name": "V", "valueFrom": source}]});
            let error = of(container).expect_err(says).to_string();
            assert!(error.starts_with(says), "{error}");
        }
    }
}
