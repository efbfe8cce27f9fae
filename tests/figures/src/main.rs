//! Measures, and prints one table: figure, goal, what was measured, whether the goal is met.
//!
//! `make bench` runs all parts that do not take long, `make bench ONLY=webhook,rollouts` those. Each part's figures stay
//! in `target/bench/parts` until it is run again; `target/bench/figures.txt` and `.json` hold the table.

mod machine;
mod table;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use figures::{PARTS, Part, TABLE};
use serde::{Deserialize, Serialize};

/// Runs benchmarks and prints one table of their figures.
#[derive(Debug, Parser)]
struct Arguments {
    /// Parts to run; all but those that take long, unless it is said
    #[arg(long, value_name = "PART,...", value_delimiter = ',')]
    only: Vec<String>,
    /// Run nothing; print the table of what was measured last
    #[arg(long)]
    show: bool,
    /// Where figures and logs are kept
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    directory: PathBuf,
}

/// What one run of a part has given.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Measured {
    /// The machine's load average before it began: what else went on.
    load: f64,
    /// How long it took.
    seconds: f64,
    /// Values by id.
    values: BTreeMap<String, f64>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let wanted = wanted(&arguments)?;
    let parts = arguments.directory.join("parts");
    fs::create_dir_all(&parts).with_context(|| format!("create {}", parts.display()))?;
    let mut failures = Vec::new();
    for (number, part) in (1..).zip(&wanted) {
        println!("== {} ({number} of {}): {}", part.name, wanted.len(), part.about);
        let measured = run(part, &parts, &mut failures)?;
        println!("== {}: {:.0} s", part.name, measured.seconds);
        let missing = TABLE.iter().filter(|row| row.part() == part.name && !measured.values.contains_key(row.id));
        failures.extend(missing.map(|row| format!("{}: not measured: {}", row.id, row.figure)));
        let path = parts.join(format!("{}.json", part.name));
        fs::write(&path, serde_json::to_string_pretty(&measured)?)
            .with_context(|| format!("write {}", path.display()))?;
    }
    let known = known(&parts)?;
    let machine = machine::Machine::here();
    let text = table::text(&machine, &known);
    for (name, content) in [("figures.txt", text.clone()), ("figures.json", table::json(&machine, &known)?)] {
        let path = arguments.directory.join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
    }
    print!("\n{text}");
    for failure in &failures {
        eprintln!("{failure}");
    }
    Ok(if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn wanted(arguments: &Arguments) -> Result<Vec<&'static Part>> {
    if arguments.show {
        return Ok(Vec::new());
    }
    let named: Vec<&str> = arguments.only.iter().map(String::as_str).filter(|name| !name.is_empty()).collect();
    for name in &named {
        if !PARTS.iter().any(|part| part.name == *name) {
            let all: Vec<_> = PARTS.iter().map(|part| part.name).collect();
            bail!("there is no part {name}; there are {}", all.join(", "));
        }
    }
    let is_wanted = |part: &&Part| if named.is_empty() { !part.long } else { named.contains(&part.name) };
    Ok(PARTS.iter().filter(is_wanted).collect())
}

/// Runs a part's command, and reads what it has recorded even if it failed.
fn run(part: &Part, parts: &Path, failures: &mut Vec<String>) -> Result<Measured> {
    let file = std::path::absolute(parts.join(format!("{}.recorded", part.name)))?;
    fs::write(&file, "").with_context(|| format!("write {}", file.display()))?;
    let load = machine::load_average();
    let began = Instant::now();
    let status = Command::new("sh").args(["-c", part.command]).env(figures::FILE, &file).status();
    let status = status.context("start a shell")?;
    if !status.success() {
        failures.push(format!("{}: {status}: {}", part.name, part.command));
    }
    let recorded = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let values = recorded.lines().filter_map(|line| line.split_once(' '));
    let values = values.filter_map(|(id, value)| Some((id.to_owned(), value.parse().ok()?))).collect();
    fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    Ok(Measured { load, seconds: began.elapsed().as_secs_f64(), values })
}

/// What is known of all parts, from this run and earlier ones.
fn known(parts: &Path) -> Result<Vec<(&'static Part, Measured)>> {
    let mut known = Vec::new();
    for part in PARTS {
        let path = parts.join(format!("{}.json", part.name));
        if let Ok(text) = fs::read_to_string(&path) {
            let measured = serde_json::from_str(&text).with_context(|| format!("read {}", path.display()))?;
            known.push((part, measured));
        }
    }
    Ok(known)
}
