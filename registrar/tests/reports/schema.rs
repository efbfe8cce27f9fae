//! Reports against their schemas: the part of JSON Schema that these use.

use std::{fs, path::PathBuf};

use serde_json::Value;

/// Fails unless a report is as its schema says.
pub(crate) fn check(report: &Value, name: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("../manifests/schemas/{name}.json"));
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).expect("a schema")).expect("JSON");
    conforms(report, &schema, name);
}

fn conforms(value: &Value, schema: &Value, place: &str) {
    let kinds: Vec<&str> = match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        other => panic!("{place}: the schema has the type {other}"),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    assert!(kinds.contains(&kind), "{place} is {kind}, not {kinds:?}");
    if let Some(words) = schema["enum"].as_array() {
        assert!(words.contains(value), "{place}: {value}");
    }
    match value {
        Value::Array(items) => items.iter().for_each(|item| conforms(item, &schema["items"], place)),
        Value::Object(object) => {
            for key in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(object.contains_key(key), "{place}.{key} is missing");
            }
            // An object without properties in the schema is described elsewhere.
            let Some(properties) = schema["properties"].as_object() else {
                if schema["additionalProperties"].is_object() {
                    object.values().for_each(|value| conforms(value, &schema["additionalProperties"], place));
                }
                return;
            };
            for (key, value) in object {
                let property = properties.get(key).unwrap_or_else(|| panic!("{place}.{key} is not in the schema"));
                conforms(value, property, &format!("{place}.{key}"));
            }
        }
        _ => {}
    }
}
