//! What people are told: denials with everything that is wrong, and warnings that fit into what the API passes on.

use std::fmt::Write as _;

use nlb::violation::{Severity, Violation};

use super::review::{Cause, Details, Status};

/// The API server cuts every warning to this many characters as soon as all of them together are longer than
/// [`ALL_WARNINGS`] (`k8s.io/apiserver/pkg/endpoints/filters/warning.go`).
const ONE_WARNING: usize = 256;
const ALL_WARNINGS: usize = 4096;

/// More violations than this are counted and not told: nobody reads them, and they would be longer than the object.
const TOLD: usize = 200;

/// A denial, if any violation denies: all of them in one message, one a line.
pub fn denial(kind: &str, namespace: &str, name: &str, violations: &[Violation]) -> Option<Status> {
    let denied: Vec<&Violation> = violations.iter().filter(|violation| violation.severity == Severity::Deny).collect();
    let count = match denied.len() {
        0 => return None,
        1 => "1 violation".to_owned(),
        several => format!("{several} violations"),
    };
    let mut message = format!("{kind} {namespace}/{name} has {count}:");
    for violation in denied.iter().take(TOLD) {
        message.push_str("\n- ");
        message.push_str(&violation.to_string());
    }
    if let Some(more) = denied.len().checked_sub(TOLD).filter(|more| *more > 0) {
        // Writing to a string cannot fail.
        let _ = write!(message, "\n- and {more} more; `webhook lint` shows all");
    }
    let causes = denied
        .iter()
        .take(TOLD)
        .map(|violation| Cause {
            reason: "FieldValueInvalid",
            field: violation.key.clone(),
            message: violation.to_string(),
        })
        .collect();
    Some(Status { code: 403, reason: "Forbidden", message, details: Details { causes } })
}

/// The violations that do not deny, as lines of their own.
pub fn warnings(violations: &[Violation]) -> Vec<String> {
    violations.iter().filter(|violation| violation.severity == Severity::Warn).map(ToString::to_string).collect()
}

/// Makes warnings fit: too long ones are cut, and where there are too many the last line says how many are missing.
pub fn fit(warnings: Vec<String>) -> Vec<String> {
    let length = |warnings: &[String]| warnings.iter().map(|warning| warning.chars().count()).sum::<usize>();
    if length(&warnings) <= ALL_WARNINGS {
        return warnings;
    }
    let all = warnings.len();
    let mut left = ALL_WARNINGS - ONE_WARNING;
    let mut fitting = Vec::new();
    for warning in warnings {
        let warning = cut(warning);
        let Some(rest) = left.checked_sub(warning.chars().count()) else { break };
        left = rest;
        fitting.push(warning);
    }
    if fitting.len() < all {
        fitting.push(format!("{} more warnings do not fit here; `webhook lint` shows all", all - fitting.len()));
    }
    fitting
}

fn cut(text: String) -> String {
    match text.char_indices().nth(ONE_WARNING - 1) {
        Some((end, _)) if text[end..].chars().count() > 1 => format!("{}…", &text[..end]),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_has_every_violation_that_denies_with_key_value_problem_and_remedy() {
        let violations = [
            Violation::deny("a", "key", "value", "is wrong", "write right"),
            Violation::warn("b", "other", "", "is risky", ""),
            Violation::deny("c", "spec.x", "", "is missing", "add it"),
        ];
        let status = denial("Service", "team", "web", &violations).unwrap();
        assert_eq!(
            status.message,
            "Service team/web has 2 violations:\n- key: \"value\": is wrong; write right\n- spec.x: is missing; add it"
        );
        assert_eq!(status.details.causes.iter().map(|cause| &cause.field).collect::<Vec<_>>(), ["key", "spec.x"]);
        assert_eq!(warnings(&violations), ["other: is risky"]);
        assert!(denial("Service", "team", "web", &violations[1..2]).is_none());

        let many = vec![violations[0].clone(); 1001];
        let status = denial("Service", "team", "web", &many).unwrap();
        assert!(status.message.starts_with("Service team/web has 1001 violations:\n- key"), "{}", status.message);
        assert!(status.message.ends_with("\n- and 801 more; `webhook lint` shows all"), "{}", status.message);
        assert_eq!(status.details.causes.len(), 200);
    }

    #[test]
    fn warnings_fit_into_what_the_api_server_passes_on_uncut() {
        let few = vec!["x".repeat(3000), "y".repeat(1000)];
        assert_eq!(fit(few.clone()), few);

        let many: Vec<String> = (0..100).map(|_| "é".repeat(300)).collect();
        let fitting = fit(many);
        assert!(fitting.iter().all(|warning| warning.chars().count() <= ONE_WARNING));
        assert!(fitting.iter().map(|warning| warning.chars().count()).sum::<usize>() <= ALL_WARNINGS);
        assert_eq!(fitting.len(), 16);
        assert!(fitting[14].ends_with("é…"));
        assert_eq!(fitting[15], "85 more warnings do not fit here; `webhook lint` shows all");
    }
}
