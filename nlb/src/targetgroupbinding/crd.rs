//! The definition of the custom resource: both versions, the peer's columns, and rules that hold with every process down.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{TargetGroupBinding, v1alpha1};

/// Why the definition cannot be made. It depends on nothing but this crate, so a test shows that it can.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The derived definition is no JSON.
    #[error("writing the definition of TargetGroupBinding as JSON")]
    Json(#[from] serde_json::Error),
    /// The derived definition lacks a part that rules are added to.
    #[error("the definition of TargetGroupBinding has no {0}")]
    Missing(&'static str),
}

/// A rule that the API server itself enforces, on `spec`.
struct Rule {
    /// The field whose absence from a version makes the rule meaningless there.
    field: &'static str,
    cel: String,
    message: String,
}

/// A field that must not change once it is set. It may be filled in later, once.
fn immutable(field: &'static str) -> Rule {
    let old = match field {
        "targetGroupARN" | "vpcID" => format!("!has(oldSelf.{field}) || oldSelf.{field} == ''"),
        _ => format!("!has(oldSelf.{field})"),
    };
    Rule {
        field,
        cel: format!("{old} || (has(self.{field}) && self.{field} == oldSelf.{field})"),
        message: format!("{field} cannot be changed once it is set; make a new TargetGroupBinding"),
    }
}

fn never(field: &'static str, rule: &str, message: &str) -> Rule {
    Rule { field, cel: rule.to_owned(), message: message.to_owned() }
}

fn rules() -> Vec<Rule> {
    vec![
        never(
            "targetGroupARN",
            "(has(self.targetGroupARN) && self.targetGroupARN != '') || (has(self.targetGroupName) && self.targetGroupName != '')",
            "one of targetGroupARN and targetGroupName is needed",
        ),
        immutable("targetGroupARN"),
        immutable("targetType"),
        immutable("ipAddressType"),
        immutable("vpcID"),
        never(
            "nodeSelector",
            "!has(self.nodeSelector) || !has(self.targetType) || self.targetType != 'ip'",
            "nodeSelector is for targetType instance only",
        ),
        never(
            "iamRoleArnToAssume",
            "!has(self.iamRoleArnToAssume) || self.iamRoleArnToAssume == '' || !has(self.targetType) || self.targetType != 'instance'",
            "iamRoleArnToAssume is for targetType ip only",
        ),
        never(
            "targetGroupProtocol",
            "!has(self.targetGroupProtocol) || !(self.targetGroupProtocol in ['QUIC', 'TCP_QUIC']) || !has(self.targetType) || self.targetType != 'instance'",
            "targetGroupProtocol QUIC and TCP_QUIC are for targetType ip only",
        ),
    ]
}

/// The definition, as it is applied to a cluster.
pub fn definition() -> Result<Value, Error> {
    let mut newest = serde_json::to_value(TargetGroupBinding::crd())?;
    let mut oldest = serde_json::to_value(v1alpha1::TargetGroupBinding::crd())?;
    let mut newest_version = version(&mut newest, true)?;
    let mut oldest_version = version(&mut oldest, false)?;
    for version in [&mut newest_version, &mut oldest_version] {
        let schema = version.pointer_mut("/schema/openAPIV3Schema").ok_or(Error::Missing("schema"))?;
        tidy(schema);
        let object = schema.as_object_mut().ok_or(Error::Missing("schema"))?;
        // As in the peer's, an object without a spec is no error of form.
        object.remove("required");
        let spec = schema.pointer_mut("/properties/spec").ok_or(Error::Missing("spec"))?;
        let fields = spec.get("properties").cloned().unwrap_or_default();
        let validations: Vec<Value> = rules()
            .into_iter()
            .filter(|rule| fields.get(rule.field).is_some())
            .map(|rule| json!({"rule": rule.cel, "message": rule.message}))
            .collect();
        spec["x-kubernetes-validations"] = json!(validations);
        version["additionalPrinterColumns"] = columns();
    }
    newest["spec"]["versions"] = json!([oldest_version, newest_version]);
    Ok(newest)
}

fn version(definition: &mut Value, storage: bool) -> Result<Value, Error> {
    let mut version = definition.pointer_mut("/spec/versions/0").ok_or(Error::Missing("version"))?.take();
    version["storage"] = json!(storage);
    version["served"] = json!(true);
    Ok(version)
}

fn columns() -> Value {
    json!([
        {"name": "SERVICE-NAME", "type": "string", "jsonPath": ".spec.serviceRef.name", "description": "Name of the Service"},
        {"name": "SERVICE-PORT", "type": "string", "jsonPath": ".spec.serviceRef.port", "description": "Port of the Service"},
        {"name": "TARGET-TYPE", "type": "string", "jsonPath": ".spec.targetType", "description": "What the targets are"},
        {
            "name": "READY", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].message",
            "description": "How many targets are healthy, or what is wrong",
        },
        {"name": "ARN", "type": "string", "jsonPath": ".spec.targetGroupARN", "description": "ARN of the target group", "priority": 1},
        {"name": "NAME", "type": "string", "jsonPath": ".spec.targetGroupName", "description": "Name of the target group", "priority": 2},
        {"name": "AGE", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    ])
}

/// Takes away what schemas derived from Rust types say beyond those of the peer: that null may be written.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("nullable");
            if let Some(Value::Array(words)) = fields.get_mut("enum") {
                words.retain(|word| !word.is_null());
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}
