//! `webhook lint`: the judgement of admission on files, before anything is applied.

mod check;
mod document;
mod report;

use std::{
    fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

use self::{check::Checker, report::Report};
use crate::{cli::Model, model};

/// Violations were found.
const FOUND: u8 = 1;
/// Something could not be read.
const FAILED: u8 = 2;

/// `webhook lint`
#[derive(Debug, Args)]
pub struct Lint {
    /// Files to check, or - for standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Count warnings as violations too
    #[arg(long)]
    pub strict: bool,
    /// How the report is written
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
    /// The model of load balancers, as in the registrar
    #[command(flatten)]
    pub model: Model,
}

/// How the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// One line per violation.
    Text,
    /// One JSON object.
    Json,
}

/// Why a file was not checked.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{source_name}: {error}")]
    Read { source_name: String, error: io::Error },
    #[error("{source_name}: {error}")]
    Parse { source_name: String, error: Box<serde_saphyr::Error> },
}

/// Checks and reports on standard output. What cannot be read is told on standard error, and the rest is checked.
pub fn run(arguments: &Lint) -> Result<ExitCode> {
    let mut checker = Checker::new(model::settings(&arguments.model)?);
    let mut report = Report::new();
    let mut failed = false;
    for file in &arguments.files {
        if let Err(error) = file_into(file, &mut checker, &mut report) {
            eprintln!("webhook lint: {error}");
            failed = true;
        }
    }
    checker.finish(&mut report.items);
    let mut out = io::BufWriter::new(io::stdout().lock());
    match arguments.output {
        Output::Text => report.text(&mut out),
        Output::Json => report.json(&mut out),
    }
    .and_then(|()| out.flush())
    .context("writing the report")?;
    Ok(if failed {
        ExitCode::from(FAILED)
    } else if report.fails(arguments.strict) {
        ExitCode::from(FOUND)
    } else {
        ExitCode::SUCCESS
    })
}

fn file_into(file: &Path, checker: &mut Checker, report: &mut Report) -> Result<(), Error> {
    let source_name = file.display().to_string();
    let text = text_of(file).map_err(|error| Error::Read { source_name: source_name.clone(), error })?;
    let documents = document::read(&text).map_err(|error| Error::Parse { source_name: source_name.clone(), error })?;
    for document in &documents {
        checker.check(&source_name, document, &mut report.items);
    }
    Ok(())
}

fn text_of(file: &Path) -> io::Result<String> {
    if file.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text)?;
        Ok(text)
    } else {
        fs::read_to_string(file)
    }
}
