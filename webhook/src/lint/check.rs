//! The judgement of admission on objects in files.

use k8s_openapi::api::core::v1::Service;
use nlb::{
    service,
    settings::ModelSettings,
    targetgroupbinding::{self, TargetGroupBinding},
    violation::Violation,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{
    document::{Content, Node},
    report::{Found, Item},
};

/// Checks objects one after the other.
pub struct Checker {
    settings: ModelSettings,
    /// Bindings so far, because two on one target group exclude each other.
    bindings: Vec<TargetGroupBinding>,
}

impl Checker {
    /// A checker that has seen nothing.
    pub fn new(settings: ModelSettings) -> Self {
        Self { settings, bindings: Vec::new() }
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
                Ok(service) => violations.extend(service::review(None, &service, &self.settings)),
                Err(violation) => violations.push(violation),
            },
            ("TargetGroupBinding", "elbv2.k8s.aws/v1beta1" | "elbv2.k8s.aws/v1alpha1" | "") => {
                match typed::<TargetGroupBinding>(object) {
                    Ok(binding) => {
                        violations.extend(targetgroupbinding::review(None, &binding, &self.settings));
                        violations.extend(targetgroupbinding::duplicates(&binding, &self.bindings));
                        self.bindings.push(binding);
                    }
                    Err(violation) => violations.push(violation),
                }
            }
            _ => return,
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
            violations: violations
                .into_iter()
                .map(|violation| Found { line: node.line_of(&violation.key), violation })
                .collect(),
        });
    }
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
    serde_json::from_value(object).map_err(|error| {
        Violation::deny(
            "form",
            "kind",
            "",
            format!("the API server cannot read the object: {error}"),
            "correct the field",
        )
    })
}
