//! What is measured and what it should be: the one table of figures, and how a benchmark says what it has found.
//!
//! A benchmark calls [`record`] with the id of a row. `make bench` runs the benchmarks part by part and prints the table.
//! It is no test: a goal that is missed is shown as missed, and only a figure that could not be measured is a failure.

use std::{
    fs::OpenOptions,
    io::{self, Write as _},
    path::PathBuf,
};

mod rows;

pub use rows::{PARTS, TABLE};

/// Names the file that [`record`] appends to.
pub const FILE: &str = "SLUICE_FIGURES";

/// A group of figures that are measured together.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Its name, as in `make bench ONLY=name`.
    pub name: &'static str,
    /// Under what circumstances its figures are taken.
    pub about: &'static str,
    /// The command that measures them, for a shell in the root of the workspace.
    pub command: &'static str,
    /// Run only if it is asked for by name, because it takes long.
    pub long: bool,
}

/// A figure.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What [`record`] calls it. The part's name, a dot, and more.
    pub id: &'static str,
    /// What it says.
    pub figure: &'static str,
    /// The unit of goal and value; empty for counts.
    pub unit: &'static str,
    /// What it should be.
    pub goal: Goal,
}

impl Row {
    /// The name of the part that it is measured in.
    pub fn part(&self) -> &'static str {
        self.id.split_once('.').map_or(self.id, |(part, _)| part)
    }
}

/// What a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
    /// Nobody has said; it is shown.
    Shown,
}

impl Goal {
    /// Whether a value is as it should be; nothing where there is no goal.
    pub fn met(self, value: f64) -> Option<bool> {
        match self {
            Self::AtMost(limit) => Some(value <= limit),
            Self::AtLeast(limit) => Some(value >= limit),
            Self::Shown => None,
        }
    }
}

/// Why a figure could not be handed over.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such row.
    #[error("{0} is not a figure of the table in tests/figures/src/rows.rs")]
    Unknown(String),
    /// Not a number that says something.
    #[error("{0} was measured as {1}")]
    NotFinite(&'static str, f64),
    /// The file of figures.
    #[error("write {1} to {0}: {2}")]
    Write(PathBuf, &'static str, #[source] io::Error),
}

/// Prints a figure and hands it to `make bench`, if that is what runs this benchmark.
pub fn record(id: &str, value: f64) -> Result<(), Error> {
    let row = TABLE.iter().find(|row| row.id == id).ok_or_else(|| Error::Unknown(id.to_owned()))?;
    if !value.is_finite() {
        return Err(Error::NotFinite(row.id, value));
    }
    println!("  {}: {}", row.figure, in_words(value, row.unit));
    let Some(path) = std::env::var_os(FILE).map(PathBuf::from) else { return Ok(()) };
    let file = OpenOptions::new().create(true).append(true).open(&path);
    file.and_then(|mut file| writeln!(file, "{id} {value}")).map_err(|e| Error::Write(path, row.id, e))
}

/// A value with three digits that say something, and its unit.
pub fn in_words(value: f64, unit: &str) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 || v.fract() == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let space = if unit.is_empty() { "" } else { " " };
    format!("{value:.digits$}{space}{unit}")
}

/// The value that a share of the sorted values does not exceed; not a number if there are none. The share is in percent.
pub fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(index).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_figure_has_an_id_of_its_own_and_belongs_to_a_part() {
        let ids: BTreeSet<_> = TABLE.iter().map(|row| row.id).collect();
        assert_eq!(ids.len(), TABLE.len());
        for row in TABLE {
            assert!(PARTS.iter().any(|part| part.name == row.part()), "{}", row.id);
        }
        for part in PARTS {
            assert!(TABLE.iter().any(|row| row.part() == part.name), "{} measures nothing", part.name);
        }
    }

    #[test]
    fn goals_are_met_at_their_limits() {
        assert_eq!(Goal::AtMost(2.0).met(2.0), Some(true));
        assert_eq!(Goal::AtMost(2.0).met(2.1), Some(false));
        assert_eq!(Goal::AtLeast(2.0).met(1.9), Some(false));
        assert_eq!(Goal::Shown.met(1.0), None);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(
            (percentile(&hundred, 50), percentile(&hundred, 99), percentile(&hundred, 100), percentile(&[7.0], 50)),
            (50.0, 99.0, 100.0, 7.0)
        );
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn figures_that_are_not_in_the_table_are_refused() {
        assert!(matches!(record("webhook.nothing", 1.0), Err(Error::Unknown(_))));
        assert!(matches!(record("webhook.p99", f64::NAN), Err(Error::NotFinite(..))));
    }

    #[test]
    fn values_have_as_many_digits_as_say_something() {
        let cases = [(0.0, "0"), (0.0312, "0.031"), (1.5, "1.50"), (24.44, "24.4"), (21_456.7, "21457"), (8.0, "8")];
        for (value, words) in cases {
            assert_eq!(in_words(value, ""), words);
        }
        assert_eq!(in_words(1.5, "ms"), "1.50 ms");
    }
}
