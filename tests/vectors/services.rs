//! Vectors whose Service is ours and is refused by nobody: what can be built, and changed, and taken away again.

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Service;
use nlb::{
    service::{self, Ownership},
    settings::ModelSettings,
};
use serde_json::{Map, Value, json};

/// A Service to build.
pub struct Vector {
    /// `<topic>/<sentence>`.
    pub name: String,
    /// What the file sets, over the defaults.
    pub settings: ModelSettings,
    /// As it stands in the file.
    pub service: Service,
}

/// Services that actions of vectors forward to.
pub const BACKENDS: [&str; 4] = ["next", "other", "canary", "a"];
/// A security group that vectors name, and that no world has.
pub const SECURITY_GROUP: &str = "sg-0123abcd";

/// All of them, in the order of their names.
pub fn accepted() -> Result<Vec<Vector>> {
    let mut files = Vec::new();
    for topic in fs::read_dir(env!("CARGO_MANIFEST_DIR"))? {
        let topic = topic?.path();
        if topic.is_dir() {
            files.extend(fs::read_dir(topic)?.flatten().map(|file| file.path()));
        }
    }
    files.sort();
    let mut vectors = Vec::new();
    for file in files {
        vectors.extend(read(&file).with_context(|| file.display().to_string())?);
    }
    Ok(vectors)
}

fn read(file: &Path) -> Result<Option<Vector>> {
    // Some are hostile, and no objects.
    let Ok(documents) = serde_saphyr::from_multiple::<Map<String, Value>>(&fs::read_to_string(file)?) else {
        return Ok(None);
    };
    let object = documents.iter().find(|document| document.get("kind") == Some(&Value::from("Service")));
    let Some(Ok(service)) = object.map(|object| serde_json::from_value::<Service>(Value::Object(object.clone())))
    else {
        return Ok(None);
    };
    let settings = documents.iter().find_map(|document| document.get("settings"));
    let mut settings: ModelSettings = match settings {
        Some(settings) => serde_json::from_value(settings.clone()).context("settings")?,
        None => ModelSettings::default(),
    };
    if settings.cluster_name.is_empty() {
        "lab".clone_into(&mut settings.cluster_name);
    }
    let reading = service::read(&service, &settings);
    let topic = file.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let sentence = file.file_stem().unwrap_or_default().to_string_lossy();
    let is_built = reading.ownership == Ownership::Ours && reading.accepted().is_ok();
    Ok(is_built.then(|| Vector { name: format!("{topic}/{sentence}"), settings, service }))
}

/// Without all annotations but those that make it ours, those whose change costs the load balancer, and what its own
/// address families want of it.
pub fn plain(service: &Service) -> Service {
    let kept = ["nlb-target-type", "type", "scheme", "internal", "name"];
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let has_ipv6 = families.is_some_and(|families| families.iter().any(|family| family == "IPv6"));
    let mut plain = service.clone();
    if let Some(annotations) = &mut plain.metadata.annotations {
        annotations.retain(|key, _| kept.iter().any(|kept| is(key, kept)) || (has_ipv6 && is(key, "ip-address-type")));
    }
    plain
}

/// Whether a key is that of one of our annotations: `scheme`, `attributes`, ...
pub fn is(key: &str, annotation: &str) -> bool {
    key.strip_suffix(annotation).is_some_and(|rest| rest.ends_with("aws-load-balancer-"))
}

/// One of [`BACKENDS`].
pub fn backend(name: &str, namespace: &str) -> Result<Service> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"type": "NodePort", "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }))?)
}

/// Whether a reason why something is not built is one of the lab's VPC, which has no Elastic IP addresses and none of the
/// subnets and attributes that vectors make up, or one of AWS, which does not take what admission warns of.
pub fn is_of_the_world(reason: &str) -> bool {
    [
        "does not exist",
        "is not valid",
        "there are fewer subnets",
        "no security group of",
        "not found",
        "forwards to port",
        "Target groups",
        "is not supported",
        "addresses",
        "are both in zone",
        "waits for the node port",
        "is not recognized",
        "at least 8250 capacity units",
        "while 'target_health_state",
        "Client IP preservation",
        "needs EnablePrefixForIpv6SourceNat 'on'",
        "give exactly one for each subnet",
    ]
    .iter()
    .any(|known| reason.contains(known))
}
