//! What is wrong with an object, in the form in which it is shown to whoever wrote it.

use std::fmt;

use serde::Serialize;

/// How many characters of a value a message quotes.
const QUOTED: usize = 120;
/// How many wrong items of one list a message names.
const NAMED: usize = 5;

/// What a violation means for the object that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum Severity {
    /// AWS or Sluice would certainly refuse it, or it would be read as something that was not meant.
    Deny,
    /// It works, but something in it has no effect, is not known here, or is risky.
    Warn,
}

/// One thing that is wrong with one object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Violation {
    /// The rule that was broken: a fixed name in kebab case, for metrics and for comparing two versions of an object.
    #[serde(skip)]
    pub rule: &'static str,
    /// Annotation key, or field path such as `spec.ports[1].protocol`.
    pub key: String,
    /// What stands there, shortened and with control characters escaped; empty if nothing does.
    pub value: String,
    /// What is wrong with it, as a sentence without a full stop.
    pub problem: String,
    /// What to write instead; empty if there is nothing to suggest.
    pub suggestion: String,
    /// Whether the object can be accepted nevertheless.
    pub severity: Severity,
}

impl Violation {
    /// A violation for which the object is refused.
    pub fn deny(
        rule: &'static str,
        key: impl Into<String>,
        value: &str,
        problem: impl Into<String>,
        suggestion: impl Into<String>,
    ) -> Self {
        Self {
            rule,
            key: key.into(),
            value: excerpt(value),
            problem: problem.into(),
            suggestion: suggestion.into(),
            severity: Severity::Deny,
        }
    }

    /// A violation that is only reported.
    pub fn warn(
        rule: &'static str,
        key: impl Into<String>,
        value: &str,
        problem: impl Into<String>,
        suggestion: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warn, ..Self::deny(rule, key, value, problem, suggestion) }
    }

    /// One violation for all items of a list that have the same thing wrong with them; none if there are no such items.
    /// It names the first few, so that a hostile list makes no endless answer.
    pub fn of_items(
        severity: Severity,
        rule: &'static str,
        key: impl Into<String>,
        items: &[&str],
        problem: impl Into<String>,
        suggestion: impl Into<String>,
    ) -> Option<Self> {
        let mut named = items.iter().take(NAMED).map(|item| excerpt(item)).collect::<Vec<_>>().join(",");
        if items.len() > NAMED {
            named = format!("{named} and {} more", items.len() - NAMED);
        }
        (!items.is_empty()).then(|| Self { severity, ..Self::deny(rule, key, &named, problem, suggestion) })
    }

    /// What makes two violations of two versions of an object the same one: rule, place and value. The position within
    /// a list does not count, because inserting an entry moves those behind it.
    pub fn identity(&self) -> (&'static str, String, &str) {
        let mut place = String::with_capacity(self.key.len());
        let mut inside = false;
        for character in self.key.chars() {
            match character {
                '[' => inside = true,
                ']' => inside = false,
                _ if inside => continue,
                _ => {}
            }
            place.push(character);
        }
        (self.rule, place, &self.value)
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.key)?;
        if !self.value.is_empty() {
            write!(f, ": \"{}\"", self.value)?;
        }
        write!(f, ": {}", self.problem)?;
        if !self.suggestion.is_empty() {
            write!(f, "; {}", self.suggestion)?;
        }
        Ok(())
    }
}

/// Lowers to [`Severity::Warn`] whatever `old` has too, so that what is stored already stays editable.
pub fn ratchet(old: &[Violation], new: &mut [Violation]) {
    let known: std::collections::BTreeSet<_> = old.iter().map(Violation::identity).collect();
    for violation in new {
        if known.contains(&violation.identity()) {
            violation.severity = Severity::Warn;
        }
    }
}

/// The beginning of a value, safe to print in a terminal or a log line: control characters and those that change the
/// direction of writing are escaped.
pub fn excerpt(value: &str) -> String {
    let mut shown = String::new();
    for (count, character) in value.chars().enumerate() {
        if count == QUOTED {
            shown.push('…');
            break;
        }
        if character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_characters_are_escaped_and_long_values_cut() {
        assert_eq!(excerpt("a\u{202e}b\u{0}\n"), "a\\u{202e}b\\u{0}\\u{a}");
        let long = excerpt(&"x".repeat(100_000));
        assert_eq!(long.chars().count(), QUOTED + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn a_violation_that_was_there_before_is_only_a_warning() {
        let old = [Violation::deny("scheme", "spec.ports[0].x", "a", "p", "s")];
        let mut new = [
            Violation::deny("scheme", "spec.ports[3].x", "a", "other words", "s"),
            Violation::deny("scheme", "spec.ports[3].x", "b", "p", "s"),
            Violation::deny("scheme", "spec.ports[3].y", "a", "p", "s"),
        ];
        ratchet(&old, &mut new);
        assert_eq!(new.map(|violation| violation.severity), [Severity::Warn, Severity::Deny, Severity::Deny]);
    }

    #[test]
    fn a_violation_prints_key_value_problem_and_remedy() {
        let violation = Violation::deny("scheme", "k", "v", "is wrong", "write w");
        assert_eq!(violation.to_string(), "k: \"v\": is wrong; write w");
        assert_eq!(Violation::deny("scheme", "k", "", "is missing", "").to_string(), "k: is missing");
    }
}
