//! See [`load`]: asks a load balancer until told to stop, or while a command runs, and counts what comes back.

mod command;
mod counter;

use std::{ffi::OsString, fs, io, net::Ipv4Addr, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use clap::Parser;
use ipnet::Ipv4Net;
use load::{Load, Report, Settings};
use tokio::signal::unix::{SignalKind, signal};

use crate::counter::Counter;

/// Send requests at a fixed rate, each on a connection of its own, and say for each how it ended
///
/// Ends with the command after `--`, or on Ctrl-C. Exits 1 if a request or the command failed, 2 if it could not run.
#[derive(Debug, Parser)]
#[command(name = "load", version)]
struct Arguments {
    /// What to ask, as http://name:port
    #[arg(long, value_name = "URL")]
    target: Target,
    /// Requests a second
    #[arg(long, value_name = "N", default_value = "500", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Connect from these addresses in turns
    #[arg(long, value_name = "CIDR", env = "SLUICE_LAB_CLIENTS")]
    from: Option<Ipv4Net>,
    /// How long one request may take, in seconds
    #[arg(long, value_name = "S", default_value = "10", value_parser = clap::value_parser!(u16).range(1..))]
    patience: u16,
    /// Write what was seen to this file, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Run this command, and stop when it ends
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not http://name:port, for example http://example.com:80");
        let authority = text.strip_prefix("http://").ok_or_else(wrong)?.trim_end_matches('/');
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| wrong())?),
            None => (authority, 80),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() || !host.chars().all(plain) {
            return Err(wrong());
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Why it could not run.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("install a signal handler: {0}")]
    Signal(#[source] io::Error),
    #[error("run {0}: {1}")]
    Command(String, #[source] io::Error),
    #[error(transparent)]
    Load(#[from] load::Error),
    #[error("the report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("write the report to {0}: {1}")]
    Write(PathBuf, #[source] io::Error),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all requests were answered and the command succeeded.
async fn run(arguments: Arguments) -> Result<bool, Error> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signal)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signal)?;
    let load = Load::start(Settings {
        host: arguments.target.host,
        port: arguments.target.port,
        rate: arguments.rate,
        from: arguments.from.into_iter().flat_map(|net| net.hosts()).collect::<Vec<Ipv4Addr>>(),
        patience: Duration::from_secs(arguments.patience.into()),
    });
    let mut counter = Counter::new(load.progress());
    let good = tokio::select! {
        ended = command::run(&arguments.command, &mut counter) => ended?,
        _ = interrupt.recv() => true,
        _ = terminate.recv() => true,
    };
    let report = load.stop().await?;
    counter.finish(&summary(&report));
    if let Some(path) = arguments.report {
        let text = serde_json::to_string_pretty(&report)? + "\n";
        fs::write(&path, text).map_err(|e| Error::Write(path, e))?;
    }
    Ok(good && report.failed == 0)
}

fn summary(report: &Report) -> String {
    let pods: Vec<_> = report.pods.iter().map(|(pod, count)| format!("{pod} {count}")).collect();
    format!(
        "load: {} requests in {:.1} s, failed: {}; first byte p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms\nload: answers: {}",
        report.requests,
        report.lasted,
        report.failures_in_words(),
        report.first_byte.p50,
        report.first_byte.p99,
        report.first_byte.max,
        pods.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn target_is_a_name_and_a_port_and_others_are_refused() {
        let target = |host: &str, port| Ok(Target { host: host.to_owned(), port });
        assert_eq!("http://a-1.example.com/".parse(), target("a-1.example.com", 80));
        assert_eq!("http://10.0.0.1:8080".parse(), target("10.0.0.1", 8080));
        for text in
            ["a.example.com", "https://a", "http://", "http://a:x", "http://a:70000", "http://a/b", "http://a b"]
        {
            let error = text.parse::<Target>().expect_err(text);
            assert!(error.contains(text) && error.contains("http://example.com:80"), "{error}");
        }
    }
}
