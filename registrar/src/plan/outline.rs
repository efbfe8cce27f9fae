//! JSON as an outline for people: keys and values by indentation, as YAML has them, without what is empty.

use std::fmt::Write as _;

use serde_json::Value;

/// Appends a value's lines, each indented by so many spaces. What is null or empty is left out.
pub fn write(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter().filter(|(_, value)| !is_empty(value)) {
                entry(out, key, value, indent);
            }
        }
        Value::Array(items) => items.iter().filter(|item| !is_empty(item)).for_each(|item| bullet(out, item, indent)),
        scalar => line(out, indent, &text(scalar)),
    }
}

fn entry(out: &mut String, key: &str, value: &Value, indent: usize) {
    match value {
        Value::Array(items) if items.iter().all(is_scalar) => {
            let items: Vec<_> = items.iter().map(text).collect();
            line(out, indent, &format!("{key}: {}", items.join(", ")));
        }
        Value::Object(_) | Value::Array(_) => {
            line(out, indent, &format!("{key}:"));
            write(out, value, indent + 2);
        }
        scalar => line(out, indent, &format!("{key}: {}", text(scalar))),
    }
}

/// An item of a list: its first line after a dash, the others under it.
fn bullet(out: &mut String, item: &Value, indent: usize) {
    let mut inner = String::new();
    write(&mut inner, item, 0);
    for (n, line) in inner.lines().enumerate() {
        let lead = if n == 0 { "- " } else { "  " };
        let _ = writeln!(out, "{:indent$}{lead}{line}", "");
    }
}

fn line(out: &mut String, indent: usize, text: &str) {
    let _ = writeln!(out, "{:indent$}{text}", "");
}

fn text(scalar: &Value) -> String {
    match scalar {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn is_scalar(value: &Value) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_))
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_values_are_indented_and_empty_ones_left_out() {
        let value = json!({
            "Name": "web", "None": null, "Empty": [], "Nothing": {"x": null},
            "Ids": ["a", "b"], "Port": 80, "On": true,
            "Tags": {"k8s/x": "", "y": "1"},
            "Rules": [{"From": 1, "To": {"Deep": [{"a": 1}, {"b": 2}]}}, {"From": 2}],
        });
        let mut out = String::new();
        write(&mut out, &value, 2);
        let expected = "  Ids: a, b\n  Name: web\n  On: true\n  Port: 80\n  Rules:\n    - From: 1\n      To:\n        Deep:\n          \
                        - a: 1\n          - b: 2\n    - From: 2\n  Tags:\n    k8s/x: \n    y: 1\n";
        assert_eq!(out, expected);
    }
}
