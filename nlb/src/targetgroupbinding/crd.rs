//! The definition of the custom resource: both versions, the peer's columns, and rules that hold with every process down.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::TargetGroupBinding;

/// Fields of `spec` that the first version, `v1alpha1`, does not have. It is still served because stored manifests may
/// name it; nothing here works with it, the API server converts by leaving the fields out.
const LATER: [&str; 4] = ["nodeSelector", "ipAddressType", "vpcID", "targetGroupProtocol"];

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
    let mut definition = serde_json::to_value(TargetGroupBinding::crd())?;
    let mut newest = definition.pointer_mut("/spec/versions/0").ok_or(Error::Missing("version"))?.take();
    newest["additionalPrinterColumns"] = columns();
    let schema = newest.pointer_mut("/schema/openAPIV3Schema").ok_or(Error::Missing("schema"))?;
    tidy(schema);
    // As in the peer's, an object without a spec is no error of form.
    schema.as_object_mut().ok_or(Error::Missing("schema"))?.remove("required");

    let mut oldest = newest.clone();
    oldest["name"] = json!("v1alpha1");
    oldest["storage"] = json!(false);
    for field in LATER {
        remove(&mut oldest, "/schema/openAPIV3Schema/properties/spec/properties", field)?;
    }
    remove(&mut oldest, "/schema/openAPIV3Schema/properties/status/properties", "conditions")?;

    for version in [&mut newest, &mut oldest] {
        let spec = version.pointer_mut("/schema/openAPIV3Schema/properties/spec").ok_or(Error::Missing("spec"))?;
        let validations: Vec<Value> = rules()
            .into_iter()
            .filter(|rule| spec["properties"].get(rule.field).is_some())
            .map(|rule| json!({"rule": rule.cel, "message": rule.message}))
            .collect();
        spec["x-kubernetes-validations"] = json!(validations);
    }
    definition["spec"]["versions"] = json!([oldest, newest]);
    Ok(definition)
}

fn remove(version: &mut Value, place: &str, field: &'static str) -> Result<(), Error> {
    let fields = version.pointer_mut(place).and_then(Value::as_object_mut).ok_or(Error::Missing("properties"))?;
    fields.remove(field).map(|_| ()).ok_or(Error::Missing(field))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn names(value: &Value) -> Vec<&str> {
        value.as_object().map(|fields| fields.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    fn version(definition: &Value, index: usize) -> &Value {
        &definition["spec"]["versions"][index]
    }

    fn spec(definition: &Value, index: usize) -> &Value {
        &version(definition, index)["schema"]["openAPIV3Schema"]["properties"]["spec"]
    }

    #[test]
    fn both_versions_are_served_and_the_newer_one_is_stored() {
        let definition = definition().unwrap();
        let facts = |index| {
            let version = version(&definition, index);
            (version["name"].as_str(), version["served"].as_bool(), version["storage"].as_bool())
        };
        assert_eq!(facts(0), (Some("v1alpha1"), Some(true), Some(false)));
        assert_eq!(facts(1), (Some("v1beta1"), Some(true), Some(true)));
        assert_eq!(definition["metadata"]["name"], "targetgroupbindings.elbv2.k8s.aws");
        assert_eq!(version(&definition, 1)["subresources"], json!({"status": {}}));
    }

    #[test]
    fn the_schema_has_the_fields_of_the_peer_and_requires_what_it_requires() {
        let definition = definition().unwrap();
        let old = ["assumeRoleExternalId", "iamRoleArnToAssume", "multiClusterTargetGroup", "networking", "serviceRef"];
        let old: Vec<_> = old.into_iter().chain(["targetGroupARN", "targetGroupName", "targetType"]).collect();
        assert_eq!(names(&spec(&definition, 0)["properties"]), old);
        let mut new: Vec<_> =
            old.into_iter().chain(["ipAddressType", "nodeSelector", "targetGroupProtocol", "vpcID"]).collect();
        new.sort_unstable();
        assert_eq!(names(&spec(&definition, 1)["properties"]), new);
        for index in [0, 1] {
            let root = &version(&definition, index)["schema"]["openAPIV3Schema"];
            assert_eq!(root.get("required"), None, "an object without a spec is no error of form");
            let spec = spec(&definition, index);
            assert_eq!(spec["required"], json!(["serviceRef"]));
            assert_eq!(spec["properties"]["serviceRef"]["required"], json!(["name", "port"]));
            assert_eq!(spec["properties"]["targetType"]["enum"], json!(["instance", "ip"]));
            let rule = &spec["properties"]["networking"]["properties"]["ingress"]["items"];
            assert_eq!(rule["required"], json!(["from", "ports"]));
            let text = definition.to_string();
            assert!(!text.contains("nullable") && !text.contains("\"default\""));
        }
        let protocols = json!(["HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP", "QUIC", "TCP_QUIC"]);
        assert_eq!(spec(&definition, 1)["properties"]["targetGroupProtocol"]["enum"], protocols);
        assert_eq!(spec(&definition, 1)["properties"]["ipAddressType"]["enum"], json!(["ipv4", "ipv6"]));
    }

    #[test]
    fn rules_speak_only_of_fields_that_their_version_has() {
        let definition = definition().unwrap();
        for (index, count) in [(0, 4), (1, 8)] {
            let spec = spec(&definition, index);
            let rules = spec["x-kubernetes-validations"].as_array().unwrap();
            assert_eq!(rules.len(), count);
            for rule in rules {
                let rule = rule["rule"].as_str().unwrap();
                for after in rule.split("elf.").skip(1) {
                    let field: String = after.chars().take_while(char::is_ascii_alphanumeric).collect();
                    assert!(spec["properties"].get(&field).is_some(), "{field} in {rule}");
                }
            }
        }
    }

    #[test]
    fn an_object_that_the_peer_stored_is_read_and_written_unchanged() {
        let stored = json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
            "metadata": {
                "name": "k8s-shop-web-0123456789", "namespace": "shop", "generation": 1,
                "finalizers": ["elbv2.k8s.aws/resources"],
                "labels": {"service.k8s.aws/stack-name": "web", "service.k8s.aws/stack-namespace": "shop"},
                "annotations": {"elbv2.k8s.aws/checkpoint": "a/b", "elbv2.k8s.aws/checkpoint-timestamp": "1700000000"},
            },
            "spec": {
                "ipAddressType": "ipv4", "vpcID": "vpc-0123abcd", "targetType": "ip", "targetGroupProtocol": "TCP_UDP",
                "multiClusterTargetGroup": false,
                "targetGroupARN": "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/a/0123456789abcdef",
                "serviceRef": {"name": "web", "port": 80},
                "networking": {"ingress": [{
                    "from": [{"securityGroup": {"groupID": "sg-0123abcd"}}, {"ipBlock": {"cidr": "10.0.0.0/8"}}],
                    "ports": [{"protocol": "TCP", "port": "http"}, {"protocol": "UDP", "port": 53}, {}],
                }]},
            },
            "status": {"observedGeneration": 1},
        });
        let read: TargetGroupBinding = serde_json::from_value(stored.clone()).unwrap();
        assert_eq!(serde_json::to_value(read).unwrap(), stored);
    }
}
