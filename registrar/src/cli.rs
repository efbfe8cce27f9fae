//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{flags::ModelFlags, plan::Plan, status::Status};

/// Puts Kubernetes pods behind Network Load Balancers, and never sends a request to one that cannot answer it.
///
/// Keeps target groups equal to the endpoints whose containers are ready, and tells each pod's readiness gate what the
/// load balancer sees. One replica leads and writes; the others follow with warm caches.
#[derive(Debug, Parser)]
#[command(name = "registrar", version, args_conflicts_with_subcommands = true, after_long_help = AFTER_HELP)]
pub struct Cli {
    /// What to do; `run` unless it is said.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Without a command.
    #[command(flatten)]
    pub run: Run,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep target groups and gates up to date until SIGTERM (the default)
    Run(Box<Run>),
    /// Show what would be created, changed, replaced and deleted, without doing it
    ///
    /// Exit code 0: nothing. 1: something would change, waits for consent, or stands in the way. 2: there is no plan.
    Plan(Box<Plan>),
    /// Show Services with their load balancers, targets and gates, as AWS and the cluster have them now
    ///
    /// Exit code 0: all is well. 1: a target is not healthy, or something else is not as it should be. 2: it cannot be
    /// read.
    Status(Box<Status>),
}

/// `registrar run`
#[derive(Debug, Args)]
pub struct Run {
    /// The model of load balancers, as in the webhook.
    #[command(flatten)]
    pub model: Model,
    /// AWS.
    #[command(flatten)]
    pub aws: Aws,
    /// Kubernetes.
    #[command(flatten)]
    pub kubernetes: Kubernetes,
    /// Leadership.
    #[command(flatten)]
    pub leadership: Leadership,
    /// Address for /livez, /readyz and /metrics, by HTTP
    #[arg(
        long,
        env = "SLUICE_ADMIN_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:8080",
        help_heading = "Serving"
    )]
    pub admin_listen: SocketAddr,
    /// Logs.
    #[command(flatten)]
    pub log: daemon::log::Arguments,
}

/// The settings of the model, which must be the webhook's, and those of the registrar alone.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Model")]
pub struct Model {
    /// YAML file with settings of the model, as the webhook reads it; the flags below win over it
    #[arg(long, env = "SLUICE_SETTINGS", value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// YAML file with settings of the registrar: features, isolation, roles in other accounts, request rates
    #[arg(long, env = "SLUICE_REGISTRAR_SETTINGS", value_name = "FILE")]
    pub registrar_settings: Option<PathBuf>,
    /// Name of the cluster, part of names and tags in AWS
    #[arg(long, env = "SLUICE_CLUSTER_NAME", value_name = "NAME")]
    pub cluster_name: Option<String>,
    /// spec.loadBalancerClass of the Services that get load balancers
    #[arg(long, env = "SLUICE_LOAD_BALANCER_CLASS", value_name = "CLASS")]
    pub load_balancer_class: Option<String>,
    /// At most so many targets in one group; 0 for no limit but that of AWS
    #[arg(long, env = "SLUICE_MAX_TARGETS_PER_TARGET_GROUP", value_name = "N")]
    pub max_targets_per_target_group: Option<usize>,
    /// The rest of it, one by one.
    #[command(flatten)]
    pub flags: ModelFlags,
}

/// AWS.
#[derive(Debug, Args)]
#[command(next_help_heading = "AWS")]
pub struct Aws {
    /// Region; otherwise that of the settings, the environment or the profile
    #[arg(long, visible_alias = "region", env = "AWS_REGION", value_name = "REGION")]
    pub aws_region: Option<String>,
    /// VPC of the cluster: addresses outside of its subnets are registered in zone `all`; without it AWS is asked first
    #[arg(long, env = "SLUICE_VPC_ID", value_name = "ID")]
    pub aws_vpc_id: Option<String>,
    /// Ask the instance's metadata service for a region and credentials that nothing else gives; off, because a pod that
    /// can reach it has all rights of its node
    #[arg(long, env = "SLUICE_AWS_IMDS")]
    pub aws_imds: bool,
}

/// Kubernetes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct Kubernetes {
    /// Kubeconfig; otherwise KUBECONFIG, and inside a cluster its service account
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The only namespace to look at; all of them unless it is said
    #[arg(long, env = "SLUICE_WATCH_NAMESPACE", value_name = "NAMESPACE")]
    pub watch_namespace: Option<String>,
    /// Name of this process in Events and in the lease
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "registrar")]
    pub pod_name: String,
}

/// Leadership.
#[derive(Debug, Args)]
#[command(next_help_heading = "Leadership")]
pub struct Leadership {
    /// Name of the lease
    #[arg(long, env = "SLUICE_LEADER_ELECTION_ID", value_name = "NAME", default_value = "sluice-registrar")]
    pub leader_election_id: String,
    /// Namespace of the lease; otherwise that of the pod
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE")]
    pub leader_election_namespace: Option<String>,
    /// How long others wait for a leader that is silent, in seconds; at least twice the renew deadline
    #[arg(long, env = "SLUICE_LEASE_SECONDS", value_name = "SECONDS", default_value = "20")]
    pub leader_election_lease_seconds: u64,
    /// How long after its last renewal a leader stops by itself, in seconds
    #[arg(long, env = "SLUICE_RENEW_DEADLINE_SECONDS", value_name = "SECONDS", default_value = "8")]
    pub leader_election_renew_deadline_seconds: u64,
    /// How often the lease is renewed, in seconds
    #[arg(long, env = "SLUICE_RETRY_SECONDS", value_name = "SECONDS", default_value = "2")]
    pub leader_election_retry_seconds: u64,
}

const AFTER_HELP: &str = "\
What it needs:
  In Kubernetes, the permissions that manifests/install.yaml grants; those of a feature that is off may be left out. A kind that is
  not defined or not granted is reported on /readyz and asked for again; it ends nothing.
  In AWS, an identity: IRSA or EKS Pod Identity, or the usual variables. AWS_ENDPOINT_URL is honoured.

What it tells:
  Every write to AWS is a line of the log, registrar::aws_write at info, with its cause.

Examples:
  registrar --cluster-name prod --aws-region eu-west-1 --aws-vpc-id vpc-0a1b2c3d
  registrar run --settings settings.yaml --registrar-settings registrar.yaml --log info,registrar::aws_write=off
";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn running_needs_no_word() {
        let implied = Cli::try_parse_from(["registrar", "--cluster-name", "prod"]).unwrap();
        assert!(implied.command.is_none());
        assert_eq!(implied.run.model.cluster_name.as_deref(), Some("prod"));
        let said = Cli::try_parse_from(["registrar", "run", "--region", "eu-west-1"]).unwrap();
        let Some(Command::Run(run)) = said.command else { panic!("run") };
        assert_eq!(run.aws.aws_region.as_deref(), Some("eu-west-1"));
    }

    #[test]
    fn wrong_values_are_refused() {
        for arguments in [
            &["registrar", "--admin-listen", "here"][..],
            &["registrar", "--leader-election-lease-seconds", "long"],
            &["registrar", "--no-such-flag"],
        ] {
            assert!(Cli::try_parse_from(arguments).is_err(), "{arguments:?}");
        }
    }
}
