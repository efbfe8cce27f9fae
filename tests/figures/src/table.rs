//! The table, for people and for programs.

use std::fmt::Write as _;

use anyhow::Result;
use figures::{Goal, Part, Row, TABLE, in_words};
use serde_json::json;

use crate::{Measured, machine::Machine};

/// Columns of the text: the figure, the goal, what was measured, and whether that is met.
const WIDTHS: [usize; 3] = [70, 12, 12];

fn goal(row: &Row) -> String {
    match row.goal {
        Goal::AtMost(limit) => format!("<= {}", in_words(limit, row.unit)),
        Goal::AtLeast(limit) => format!(">= {}", in_words(limit, row.unit)),
        Goal::Shown => "-".to_owned(),
    }
}

fn met(row: &Row, value: Option<f64>) -> &'static str {
    match value.map(|value| row.goal.met(value)) {
        None => "NOT MEASURED",
        Some(Some(true)) => "met",
        Some(Some(false)) => "MISSED",
        Some(None) => "",
    }
}

fn line(figure: &str, goal: &str, measured: &str, met: &str) -> String {
    let [a, b, c] = WIDTHS;
    format!("{figure:<a$} {goal:>b$} {measured:>c$}  {met}").trim_end().to_owned()
}

fn rows(part: &Part) -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| row.part() == part.name)
}

/// The table as text.
pub(crate) fn text(machine: &Machine, known: &[(&'static Part, Measured)]) -> String {
    let mut text = format!(
        "{} cores, {:.0} GiB of memory, {}, Linux {}\n\n{}\n",
        machine.cores,
        machine.memory_gib,
        machine.cpu,
        machine.kernel,
        line("figure", "goal", "measured", "met?")
    );
    for (part, measured) in known {
        let _ = writeln!(text, "{} (load average before: {:.1})", part.name, measured.load);
        for row in rows(part) {
            let value = measured.values.get(row.id).copied();
            let words = value.map_or_else(|| "-".to_owned(), |value| in_words(value, row.unit));
            let _ = writeln!(text, "{}", line(&format!("  {}", row.figure), &goal(row), &words, met(row, value)));
        }
    }
    text
}

/// The table as JSON.
pub(crate) fn json(machine: &Machine, known: &[(&'static Part, Measured)]) -> Result<String> {
    let figures: Vec<_> = known
        .iter()
        .flat_map(|(part, measured)| {
            rows(part).map(|row| {
                let value = measured.values.get(row.id);
                json!({
                    "id": row.id, "figure": row.figure, "unit": row.unit, "goal": goal(row),
                    "measured": value, "met": value.and_then(|value| row.goal.met(*value)),
                })
            })
        })
        .collect();
    let parts: Vec<_> = known
        .iter()
        .map(|(part, measured)| {
            json!({"name": part.name, "about": part.about, "load": measured.load, "seconds": measured.seconds.round()})
        })
        .collect();
    Ok(serde_json::to_string_pretty(&json!({"version": 1, "machine": machine, "parts": parts, "figures": figures}))?)
}
