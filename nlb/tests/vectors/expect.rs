//! What a case expects, and how it is compared with what came out.

use nlb::violation::{Severity, Violation};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Expect {
    pub(crate) violations: Option<Vec<ExpectedViolation>>,
    pub(crate) ownership: Option<String>,
    pub(crate) accepted: Option<bool>,
    pub(crate) spec: Option<Value>,
    pub(crate) gates: Option<Vec<String>>,
    pub(crate) removed: Option<Vec<String>>,
    pub(crate) ungated: Option<Vec<String>>,
    /// `null` is an expectation too.
    #[serde(default, deserialize_with = "present")]
    pub(crate) drain: Option<Value>,
    pub(crate) warnings: Option<Vec<String>>,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExpectedViolation {
    key: String,
    severity: String,
    value: Option<String>,
    problem: Option<String>,
    suggestion: Option<String>,
}

impl Expect {
    pub(crate) fn keys(&self) -> Vec<&'static str> {
        let keys = [
            ("violations", self.violations.is_some()),
            ("ownership", self.ownership.is_some()),
            ("accepted", self.accepted.is_some()),
            ("spec", self.spec.is_some()),
            ("gates", self.gates.is_some()),
            ("removed", self.removed.is_some()),
            ("ungated", self.ungated.is_some()),
            ("drain", self.drain.is_some()),
            ("warnings", self.warnings.is_some()),
        ];
        keys.into_iter().filter(|(_, given)| *given).map(|(key, _)| key).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys().is_empty()
    }
}

impl ExpectedViolation {
    fn is_met_by(&self, found: &Violation) -> bool {
        let key = self.key.replacen('~', "service.beta.kubernetes.io/aws-load-balancer-", 1);
        let severity = match found.severity {
            Severity::Deny => "Deny",
            Severity::Warn => "Warn",
        };
        let contains =
            |part: &Option<String>, text: &str| part.as_ref().is_none_or(|part| text.contains(part.as_str()));
        key == found.key
            && self.severity == severity
            && self.value.as_ref().is_none_or(|value| *value == found.value)
            && contains(&self.problem, &found.problem)
            && contains(&self.suggestion, &found.suggestion)
    }
}

/// Each violation must be met by an expectation of its own, and each expectation must meet one.
pub(crate) fn violations(expected: &[ExpectedViolation], found: &[Violation]) -> Vec<String> {
    let mut left: Vec<&Violation> = found.iter().collect();
    let mut problems = Vec::new();
    for expectation in expected {
        match left.iter().position(|violation| expectation.is_met_by(violation)) {
            Some(index) => drop(left.remove(index)),
            None => problems.push(format!("expected, but not found: {expectation:?}")),
        }
    }
    problems.extend(left.iter().map(|violation| format!("not expected: {:?} {violation}", violation.severity)));
    problems
}

/// Compares a list of texts with what is expected, if anything is.
pub(crate) fn texts(
    what: &str,
    expected: Option<&[String]>,
    found: &[String],
    fits: fn(&str, &str) -> bool,
) -> Option<String> {
    let expected = expected?;
    let same =
        expected.len() == found.len() && expected.iter().zip(found).all(|(expected, found)| fits(expected, found));
    (!same).then(|| format!("{what} is {found:?}, not {expected:?}"))
}

/// Whether a part of a value is as expected: maps may leave keys out, lists must have all items.
pub(crate) fn part(expected: &Value, found: &Value, place: &str, problems: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (key, expected) in expected {
                let place = format!("{place}.{key}");
                match (expected, found.get(key)) {
                    (Value::String(word), None) if word == "!absent" => {}
                    (Value::Null, None) => {}
                    (_, None) => problems.push(format!("{place} is absent")),
                    (expected, Some(found)) => part(expected, found, &place, problems),
                }
            }
        }
        (Value::Array(expected), Value::Array(items)) if expected.len() == items.len() => {
            for (index, (expected, found)) in expected.iter().zip(items).enumerate() {
                part(expected, found, &format!("{place}[{index}]"), problems);
            }
        }
        _ if expected == found => {}
        _ => problems.push(format!("{place} is {found}, not {expected}")),
    }
}
