//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{certificates::MinimalVersion, lint::Lint};

/// Admission for Network Load Balancers.
///
/// Injects readiness gates and drain delays into pods, and judges the annotations of Services before they are stored.
/// It calls nobody but the API server, and needs no identity in AWS.
#[derive(Debug, Parser)]
#[command(name = "webhook", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `serve` unless it is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Without a command.
    #[command(flatten)]
    pub serve: Serve,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer the reviews of API servers (the default)
    Serve(Serve),
    /// Check YAML or JSON files as admission would, for use before anything is applied
    ///
    /// Services, their bindings, and pods or what makes them: these by the Services in the same files, as if their
    /// namespaces wanted everything.
    ///
    /// Exit code 0: nothing to report. 1: violations that would be refused, or with --strict any. 2: a file cannot be read.
    Lint(Lint),
}

/// `webhook serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Address for reviews, by HTTPS
    #[arg(
        long,
        env = "SLUICE_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:9443",
        help_heading = "Serving"
    )]
    pub listen: SocketAddr,
    /// Address for /livez, /readyz and /metrics, by HTTP
    #[arg(
        long,
        env = "SLUICE_ADMIN_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080",
        help_heading = "Serving"
    )]
    pub admin_listen: SocketAddr,
    /// MiB that all connections may take; where they do, those are closed that have been of no use for longest
    #[arg(long, env = "SLUICE_CONNECTION_MEMORY", value_name = "MIB", default_value = "80", help_heading = "Serving")]
    pub connection_memory: usize,
    /// For how many seconds after SIGTERM connections are still accepted, not ready, until no API server comes any more
    #[arg(long, env = "SLUICE_LINGER_SECONDS", value_name = "SECONDS", default_value = "5", help_heading = "Serving")]
    pub linger_seconds: u64,
    /// Directory with tls.crt and tls.key, read again every second
    #[arg(
        long,
        env = "SLUICE_CERTIFICATE_DIRECTORY",
        value_name = "DIRECTORY",
        default_value = "/etc/sluice/certificate",
        help_heading = "TLS"
    )]
    pub certificate_directory: PathBuf,
    /// Oldest version of TLS that is spoken
    #[arg(long, env = "SLUICE_TLS_MIN_VERSION", value_name = "VERSION", default_value = "1.3", help_heading = "TLS")]
    pub tls_min_version: MinimalVersion,
    /// The model of load balancers, as in the registrar
    #[command(flatten)]
    pub model: Model,
    /// Logs.
    #[command(flatten)]
    pub log: daemon::log::Arguments,
}

/// The settings of the model, which must be the registrar's.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub struct Model {
    /// YAML file with settings of the model, as the registrar reads it; the flags below win over it
    #[arg(long, env = "SLUICE_SETTINGS", value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Name of the cluster, part of names and tags in AWS
    #[arg(long, env = "SLUICE_CLUSTER_NAME", value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// AWS region of the cluster; ARNs of others are refused if it is given
    #[arg(long, env = "AWS_REGION", value_name = "REGION")]
    pub region: Option<String>,
    /// spec.loadBalancerClass of the Services that get load balancers
    #[arg(long, env = "SLUICE_LOAD_BALANCER_CLASS", value_name = "CLASS")]
    pub load_balancer_class: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serving_needs_no_word() {
        let implied = Cli::try_parse_from(["webhook", "--listen", "10.0.0.1:1"]).unwrap();
        assert!(implied.command.is_none());
        assert_eq!(implied.serve.listen, "10.0.0.1:1".parse().unwrap());
        let Some(Command::Serve(said)) =
            Cli::try_parse_from(["webhook", "serve", "--linger-seconds", "1"]).unwrap().command
        else {
            panic!("serve")
        };
        assert_eq!(said.linger_seconds, 1);
    }

    #[test]
    fn wrong_values_are_refused() {
        for arguments in [
            &["webhook", "--listen", "here"][..],
            &["webhook", "--tls-min-version", "1.1"],
            &["webhook", "lint"],
            &["webhook", "lint", "-", "-o", "xml"],
        ] {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
