//! Logs on standard error, as text for people or as JSON lines for machines.

use std::io::stderr;

use clap::{Args, ValueEnum};
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// One readable line per event
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// Flags of a program that logs.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logs")]
pub struct Arguments {
    /// What is logged: off, error, warn, info, debug, trace, or by module (info,kube=warn)
    #[arg(long, env = "SLUICE_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
    /// How it is written
    #[arg(long, env = "SLUICE_LOG_FORMAT", value_name = "FORMAT", default_value = "json")]
    pub log_format: Format,
}

impl Arguments {
    /// Sends this process's events to standard error, as the flags say.
    pub fn init(&self) -> Result<(), Error> {
        init(&self.log, self.log_format)
    }
}

/// The filter or the subscriber could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter directive is not understood.
    #[error("log filter `{filter}` is not valid: {reason}; an example that is: info,kube=warn")]
    Filter {
        /// The directive as given.
        filter: String,
        /// What the parser said.
        reason: String,
    },
    /// Logs were set up before.
    #[error("logs are set up already")]
    Twice,
}

/// Sends this process's events to standard error, those that `filter` lets through (`info`, `debug,kube=warn`, ...).
pub fn init(filter: &str, format: Format) -> Result<(), Error> {
    let parsed =
        EnvFilter::try_new(filter).map_err(|e| Error::Filter { filter: filter.to_owned(), reason: e.to_string() })?;
    let registry = tracing_subscriber::registry().with(parsed);
    let layer = fmt::layer().with_writer(stderr).with_ansi(false);
    match format {
        Format::Text => registry.with(layer).try_init(),
        Format::Json => registry.with(layer.json().flatten_event(true)).try_init(),
    }
    .map_err(|_| Error::Twice)
}
