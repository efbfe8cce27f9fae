//! The registrar.

use std::process::ExitCode;

use clap::Parser as _;
use registrar::cli::{Cli, Command, Run};

/// It could not run, as opposed to what it found.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.command {
        Some(Command::Run(arguments)) => run(*arguments),
        Some(Command::Plan(arguments)) => ask(registrar::plan::run(*arguments)),
        Some(Command::Status(arguments)) => ask(registrar::status::run(*arguments)),
        None => run(cli.run),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("registrar: {error:#}");
        ExitCode::from(FAILED)
    })
}

fn run(arguments: Run) -> anyhow::Result<ExitCode> {
    arguments.log.init()?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(registrar::run::run(arguments))?;
    Ok(ExitCode::SUCCESS)
}

/// A command that looks and says what it has seen. Only what is wrong is logged, beside what is said.
fn ask(command: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    daemon::log::init("error", daemon::log::Format::Text)?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}
