//! What the check found, for people and for machines. `manifests/schemas/lint.json` describes the latter.

use std::io::{self, Write};

use nlb::violation::{Severity, Violation};
use serde::Serialize;

/// Of the format; it changes when a field loses or changes its meaning.
const VERSION: u32 = 1;

/// Everything that was checked.
#[derive(Debug, Serialize)]
pub struct Report {
    version: u32,
    /// One for each object that was checked.
    pub items: Vec<Item>,
}

/// An object that was checked.
#[derive(Debug, Serialize)]
pub struct Item {
    /// File, or `-` for standard input.
    pub source: String,
    /// Line on which the object begins.
    pub line: u64,
    /// Its kind.
    pub kind: String,
    /// Its namespace; empty if it does not say.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Everything that is wrong with it.
    pub violations: Vec<Found>,
}

/// A violation in a file.
#[derive(Debug, Serialize)]
pub struct Found {
    /// Line of what is wrong.
    pub line: u64,
    /// What is wrong.
    #[serde(flatten)]
    pub violation: Violation,
}

impl Report {
    /// A report of nothing.
    pub fn new() -> Self {
        Self { version: VERSION, items: Vec::new() }
    }

    fn count(&self, severity: Severity) -> usize {
        self.items.iter().flat_map(|item| &item.violations).filter(|found| found.violation.severity == severity).count()
    }

    /// Whether there is something for which objects are refused, or anything at all if that is asked for.
    pub fn fails(&self, strict: bool) -> bool {
        self.count(Severity::Deny) > 0 || (strict && self.count(Severity::Warn) > 0)
    }

    /// One line per violation, and one at the end.
    pub fn text(&self, out: &mut impl Write) -> io::Result<()> {
        for item in &self.items {
            let namespace = if item.namespace.is_empty() { String::new() } else { format!("{}/", item.namespace) };
            for Found { line, violation } in &item.violations {
                let word = match violation.severity {
                    Severity::Deny => "error",
                    Severity::Warn => "warning",
                };
                let Item { source, kind, name, .. } = item;
                writeln!(out, "{source}:{line}: {word}: {kind} {namespace}{name}: {violation}")?;
            }
        }
        let objects = self.items.len();
        writeln!(
            out,
            "{objects} objects checked: {} errors, {} warnings",
            self.count(Severity::Deny),
            self.count(Severity::Warn)
        )
    }

    /// One object.
    pub fn json(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        writeln!(out)
    }
}
