//! The judgement of admission on objects in files.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use nlb::{
    service,
    settings::ModelSettings,
    targetgroupbinding::{self, TargetGroupBinding},
    violation::Violation,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    admission,
    snapshot::{CachedBinding, CachedService, Snapshot},
};

use super::{
    document::{Content, Node},
    report::{Found, Item},
};

/// Checks objects one after the other.
pub struct Checker {
    /// What is known of the cluster by the files so far.
    snapshot: Snapshot,
    /// Pods, which are judged when all Services are known, and which item each belongs to.
    pods: Vec<(usize, Node)>,
}

impl Checker {
    /// A checker that has seen nothing.
    pub fn new(settings: ModelSettings) -> Self {
        Self { snapshot: Snapshot { settings: Arc::new(settings), ..Snapshot::default() }, pods: Vec::new() }
    }

    /// Judges the pods, by all Services that were checked.
    pub fn finish(self, items: &mut [Item]) {
        for (index, pod) in self.pods {
            let Some(item) = items.get_mut(index) else { continue };
            let mut object = pod.value();
            let mut violations = quoted(&pod, &mut object);
            match admission::judge_pod(&item.namespace, object.to_string().as_bytes(), &self.snapshot) {
                Ok(judged) => violations.extend(judged),
                Err(error) => violations.push(unreadable(&error)),
            }
            item.violations.extend(found(&pod, violations));
        }
    }

    /// Checks a document. Lists are taken apart, and other kinds of objects are left out.
    pub fn check(&mut self, source: &str, document: &Node, items: &mut Vec<Item>) {
        self.check_as(source, document, "", items);
    }

    fn check_as(&mut self, source: &str, node: &Node, default: &str, items: &mut Vec<Item>) {
        let text = |node: Option<&Node>| node.and_then(Node::text).unwrap_or_default().to_owned();
        let kind = node.get("kind").and_then(Node::text).unwrap_or(default);
        if let Some(member) = kind.strip_suffix("List") {
            for item in node.get("items").map(Node::items).unwrap_or_default() {
                self.check_as(source, item, member, items);
            }
            return;
        }
        let api_version = text(node.get("apiVersion"));
        let mut object = node.value();
        let mut violations = quoted(node, &mut object);
        match (kind, api_version.as_str()) {
            ("Service", "v1" | "") => match typed::<Service>(object) {
                Ok(service) => {
                    violations.extend(service::review(None, &service, &self.snapshot.settings));
                    self.snapshot.services.apply(CachedService::of(service, &self.snapshot.settings));
                }
                Err(violation) => violations.push(violation),
            },
            ("TargetGroupBinding", "elbv2.k8s.aws/v1beta1" | "elbv2.k8s.aws/v1alpha1" | "") => {
                match typed::<TargetGroupBinding>(object) {
                    Ok(binding) => {
                        violations.extend(targetgroupbinding::review(None, &binding, &self.snapshot.settings));
                        let arn = binding.spec.target_group_arn.as_deref().unwrap_or_default();
                        let others = self.snapshot.bindings.of_target_group(arn);
                        violations.extend(targetgroupbinding::duplicates(&binding, others));
                        self.snapshot.bindings.apply(CachedBinding::of(binding));
                    }
                    Err(violation) => violations.push(violation),
                }
            }
            _ => {
                let Some(pod) = pod_of(kind, &api_version, node) else { return };
                // They are judged as those of a pod if it is one, and say nothing to us otherwise.
                violations.clear();
                self.pods.push((items.len(), pod.clone()));
            }
        }
        let metadata = node.get("metadata");
        let of_metadata = |field| text(metadata.and_then(|metadata| metadata.get(field)));
        let name = Some(of_metadata("name")).filter(|name| !name.is_empty());
        items.push(Item {
            source: source.to_owned(),
            line: node.line,
            kind: kind.to_owned(),
            namespace: of_metadata("namespace"),
            name: name.unwrap_or_else(|| of_metadata("generateName")),
            violations: found(node, violations),
        });
    }
}

/// The pod that an object is, or that it is a template for.
fn pod_of<'a>(kind: &str, api_version: &str, node: &'a Node) -> Option<&'a Node> {
    let path: &[&str] = match (kind, api_version) {
        ("Pod", "v1" | "") => &[],
        ("PodTemplate", "v1" | "") => &["template"],
        ("ReplicationController", "v1" | "")
        | ("Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet", "apps/v1" | "")
        | ("Job", "batch/v1" | "") => &["spec", "template"],
        ("CronJob", "batch/v1" | "") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    };
    path.iter().try_fold(node, |node, field| node.get(field))
}

fn found(node: &Node, violations: Vec<Violation>) -> Vec<Found> {
    violations.into_iter().map(|violation| Found { line: node.line_of(&violation.key), violation }).collect()
}

/// Annotations that YAML takes for something else than a text, which the API server refuses without saying where. They
/// are read as what was meant, so that the rest can be checked.
fn quoted(node: &Node, object: &mut Value) -> Vec<Violation> {
    let annotations = node.get("metadata").and_then(|metadata| metadata.get("annotations"));
    let Some(Content::Map(entries)) = annotations.map(|annotations| &annotations.content) else { return Vec::new() };
    let mut found = Vec::new();
    for (key, value) in entries {
        let written = match &value.content {
            Content::Scalar(Value::String(_)) => continue,
            Content::Scalar(value @ (Value::Bool(_) | Value::Number(_))) => value.to_string(),
            _ => String::new(),
        };
        object["metadata"]["annotations"][key] = Value::String(written.clone());
        let remedy = format!("write \"{written}\" in quotes");
        found.push(Violation::deny("quotes", key, &written, "is not a text, as annotations have to be", remedy));
    }
    found
}

fn typed<T: DeserializeOwned>(object: Value) -> Result<T, Violation> {
    serde_json::from_value(object).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> Violation {
    let error = error.to_string();
    // The place is one in a form of the object that nobody has seen.
    let error = error.split(" at line ").next().unwrap_or_default();
    let problem = format!("the API server cannot read the object: {error}");
    Violation::deny("form", "kind", "", problem, "correct the field")
}
