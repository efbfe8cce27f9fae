//! The admission webhook.

use std::process::ExitCode;

use clap::Parser as _;
use webhook::cli::{Cli, Command};

/// It could not run, as opposed to what it found.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.command {
        Some(Command::Lint(arguments)) => webhook::lint::run(&arguments),
        Some(Command::Serve(arguments)) => serve(arguments),
        None => serve(cli.serve),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("webhook: {error:#}");
        ExitCode::from(FAILED)
    })
}

fn serve(arguments: webhook::cli::Serve) -> anyhow::Result<ExitCode> {
    daemon::log::init(&arguments.log.log, arguments.log.log_format.into())?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(webhook::serve::run(arguments))?;
    Ok(ExitCode::SUCCESS)
}
