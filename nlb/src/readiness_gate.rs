//! Readiness gates: conditions of a pod that say whether its target is healthy.

use std::fmt;

use crate::annotations::forms;

/// What the condition types of our gates begin with; the name of the binding follows.
pub const PREFIX: &str = "target-health.elbv2.k8s.aws/";
/// What the gates of the first generation of the peer begin with. Nobody sets them any more.
pub const LEGACY_PREFIX: &str = "target-health.alb.ingress.k8s.aws/";
/// Label of namespaces (`enabled`) whose pods get gates, and of pods (`disabled`) that want none.
pub const INJECT_LABEL: &str = "elbv2.k8s.aws/pod-readiness-gate-inject";

/// A gate of ours.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadinessGate {
    binding: String,
}

/// Why a binding can have no gate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no gate can be named after binding \"{binding}\": a condition type takes up to 63 letters, digits, dots and hyphens there"
)]
pub struct NotAGate {
    binding: String,
}

impl ReadinessGate {
    /// The gate of a binding, unless its name cannot be part of a condition type.
    pub fn of_binding(binding: &str) -> Result<Self, NotAGate> {
        let fine = !binding.contains('/') && forms::is_qualified_name(&format!("{PREFIX}{binding}"));
        if fine {
            Ok(Self { binding: binding.to_owned() })
        } else {
            Err(NotAGate { binding: crate::violation::excerpt(binding) })
        }
    }

    /// Reads a condition type; nothing if it is none of ours.
    pub fn parse(condition_type: &str) -> Option<Self> {
        Self::of_binding(condition_type.strip_prefix(PREFIX)?).ok()
    }

    /// The name of the binding whose target it is about.
    pub fn binding(&self) -> &str {
        &self.binding
    }
}

impl fmt::Display for ReadinessGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.binding)
    }
}

/// Whether a condition type is a gate of the first generation.
pub fn is_legacy(condition_type: &str) -> bool {
    condition_type.starts_with(LEGACY_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_read_as_it_is_printed() {
        let gate = ReadinessGate::of_binding("k8s-foo-bar-0123456789").unwrap();
        assert_eq!(gate.to_string(), "target-health.elbv2.k8s.aws/k8s-foo-bar-0123456789");
        assert_eq!(ReadinessGate::parse(&gate.to_string()), Some(gate));
        assert_eq!(ReadinessGate::parse("target-health.elbv2.k8s.aws/"), None);
        assert_eq!(ReadinessGate::parse("www.example.com/feature"), None);
    }

    #[test]
    fn a_name_that_makes_no_condition_type_has_no_gate() {
        for name in [String::new(), "x".repeat(64), "a/b".into(), "-a".into()] {
            assert!(ReadinessGate::of_binding(&name).is_err(), "{name}");
        }
        assert!(ReadinessGate::of_binding(&"x".repeat(63)).is_ok());
    }
}
