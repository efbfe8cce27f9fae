//! The admission webhook.

use std::process::ExitCode;

use clap::Parser as _;
use webhook::cli::{Cli, Command};

/// It could not run, as opposed to what it found.
const FAILED: u8 = 2;
/// Threads that answer reviews, and as many that handle what takes long: large bodies and handshakes.
const MOST_THREADS: usize = 4;

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
    arguments.log.init()?;
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Every thread keeps memory that it freed, and two of these answer more than any cluster asks.
    let threads = std::thread::available_parallelism().map_or(2, usize::from).clamp(2, MOST_THREADS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(threads)
        .enable_all()
        .build()?;
    runtime.block_on(webhook::serve::run(arguments))?;
    Ok(ExitCode::SUCCESS)
}
