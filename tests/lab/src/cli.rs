//! The command line.

#![expect(clippy::doc_markdown, reason = "these comments are read in a terminal, as help")]

use std::{ffi::OsString, fmt::Write as _, num::NonZeroUsize, path::PathBuf, str::FromStr, time::Duration};

use aws_model::settings::{self, Profile};
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{node::Behaviour, scale::Scale};

/// A real Kubernetes control plane, and nodes whose pods answer, on one machine.
///
/// The lab runs etcd, kube-apiserver, kube-controller-manager and kube-scheduler in namespaces of its own, registers
/// nodes, and runs the pods that are scheduled to them: each pod has addresses of its own that answer, IPv4 and, where
/// world and kernel have it, IPv6. It needs no cloud account, no container runtime and no image, leaves nothing behind, and
/// any number of labs run side by side.
#[derive(Debug, Parser)]
#[command(name = "lab", version, after_long_help = after_help())]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command inside a new lab, end the lab with it, and exit as it did
    ///
    /// The command sees KUBECONFIG (cluster-admin), a PATH with kubectl and helm of the cluster's version, and what AWS
    /// clients need to talk to the emulator: AWS_ENDPOINT_URL, AWS_REGION and keys. SLUICE_LAB_LOG is the file of the
    /// emulator's ordered log, SLUICE_LAB_CONTROL the URL of its control API.
    Exec(Exec),
    /// Open an interactive shell inside a new lab
    Shell(Options),
    /// Play the story of the README inside a new lab: real commands, and a table of what was expected and seen
    Demo(Demo),
    /// Find or build every program of the control plane and print where each is
    Build,
    /// The half of the lab that runs inside its namespaces.
    #[command(hide = true)]
    Inside(Inside),
    /// Sets up one container's file system and becomes its process.
    #[command(hide = true)]
    Container {
        /// What to mount and to run.
        spec: PathBuf,
    },
}

/// `lab exec`
#[derive(Debug, Clone, Args)]
pub struct Exec {
    /// How the lab is made.
    #[command(flatten)]
    pub options: Options,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

/// `lab demo`
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// How the lab is made.
    #[command(flatten)]
    pub options: Options,
    /// Write report.json and report.html into this directory
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    pub report: PathBuf,
}

/// What the outer half tells the inner one.
#[derive(Debug, Clone, Args)]
pub struct Inside {
    /// Where the programs are, as JSON.
    #[arg(long)]
    pub assets: String,
    /// The arguments of the outer half.
    #[arg(last = true)]
    pub arguments: Vec<OsString>,
}

/// How the lab is made.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// Leave parts out, so that others can be run in their place
    #[arg(long, value_name = "PART,...", value_delimiter = ',')]
    pub without: Vec<Part>,
    /// Number of nodes, spread over the zones of the world
    #[arg(long, value_name = "N", default_value = "3")]
    pub nodes: NonZeroUsize,
    /// Lags, limits and chances of the AWS emulator to begin with: instant, fast or real-2023
    ///
    /// `aws-emulator --settings` lists them all with their values in each profile.
    #[arg(long, value_name = "P", default_value = "fast")]
    pub profile: Profile,
    /// Change one value of the profile; may be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// Seed of the emulator's choices
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
    /// Let the clocks of nodes and emulator run this many times faster
    ///
    /// Sleeps, grace periods, probe intervals, restart delays and AWS's lags; specs stay as they are. API objects, leases,
    /// the controller manager and the time that one probe may take keep real time.
    #[arg(long, value_name = "X", default_value = "1")]
    pub time_scale: Scale,
    /// When a new pod may get the addresses of a pod that is gone: `immediate`, or after a time (Amazon's VPC CNI: 30s)
    #[arg(long, value_name = "WHEN", default_value = "30s")]
    pub ip_reuse: IpReuse,
    /// Run the containers of this image as processes of this program; may be given several times
    #[arg(long, value_name = "NAME=PATH")]
    pub image: Vec<NamedImage>,
    /// Another description of the VPC than the built-in one
    #[arg(long, value_name = "FILE")]
    pub world: Option<PathBuf>,
    /// Keep the logs of the control plane and the emulator's ordered log in this directory
    #[arg(long, value_name = "DIR")]
    pub logs: Option<PathBuf>,
}

impl Options {
    /// Whether a part of the lab is wanted.
    pub fn with(&self, part: Part) -> bool {
        !self.without.contains(&part)
    }
}

/// A part that can be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// The nodes: none is registered, and no pod runs.
    Node,
    /// cert-manager's controllers and CA injector.
    CertManager,
    /// The AWS emulator and the DNS names of its load balancers.
    Aws,
    /// Sluice's webhook; it is left out with the nodes or cert-manager, which it needs.
    Webhook,
    /// Sluice's registrar; it is left out with the nodes or AWS, which it needs.
    Registrar,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("it must be KEY=VALUE, for example lag.registration=10s")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// When a pod's addresses may be given to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpReuse {
    /// As soon as it is free; the address freed last is given first.
    Immediate,
    /// Not before this long after it was freed.
    After(Duration),
}

impl FromStr for IpReuse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "immediate" {
            return Ok(Self::Immediate);
        }
        settings::duration(text).map(Self::After).ok_or_else(|| {
            format!("`{text}` is neither `immediate` nor a duration such as 30s; remedy: --ip-reuse 30s")
        })
    }
}

/// An image that stands for a program of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedImage {
    /// The image's name, with or without registry and tag.
    pub name: String,
    /// The program.
    pub program: PathBuf,
}

impl FromStr for NamedImage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, path) = text
            .split_once('=')
            .filter(|(name, path)| !name.is_empty() && !path.is_empty())
            .ok_or_else(|| format!("`{text}` is not NAME=PATH, for example webhook=target/debug/webhook"))?;
        let program = std::path::absolute(path).map_err(|e| format!("{path}: {e}"))?;
        if !program.is_file() {
            return Err(format!("{path} is not a file"));
        }
        Ok(Self { name: name.to_owned(), program })
    }
}

fn after_help() -> String {
    let mut text = "\
What runs in a pod:
  Images named by --image run as processes of this machine, with the container's arguments, environment and volumes, in
  a file system of their own; a container without `command` runs the program itself. All processes share the network of
  the lab, so they must listen on their pod's addresses, which the downward API gives them (status.podIP for IPv4,
  status.podIPs for both families). One user id is mapped when the lab is rootless, so runAsUser is not tried here.
  Every other image is served by the built-in echo server: on each containerPort (TCP) of each of the pod's addresses it
  answers HTTP with `Hostname: <pod>` and the request as it arrived. Its behaviour is chosen by the image's name or by
  variables of the container:

"
    .to_owned();
    for behaviour in Behaviour::TABLE {
        let _ = writeln!(text, "  {:<18}{:<28}{}", behaviour.image, behaviour.example, behaviour.effect);
    }
    text += "
Examples:
  lab exec -- kubectl get nodes -o wide
  lab exec --nodes 6 --time-scale 20 -- ./my-test.sh
  lab exec --image webhook=target/debug/webhook -- kubectl apply -f webhook.yaml
  lab shell
";
    text
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
    fn wrong_values_are_refused_with_a_remedy() {
        let cases = [
            (vec!["lab", "shell", "--ip-reuse", "soon"], "--ip-reuse 30s"),
            (vec!["lab", "shell", "--image", "webhook"], "NAME=PATH"),
            (vec!["lab", "shell", "--image", "webhook=/no/such/file"], "is not a file"),
            (vec!["lab", "shell", "--nodes", "0"], "--nodes"),
            (vec!["lab", "shell", "--time-scale", "0"], "time scale"),
            (vec!["lab", "shell", "--without", "nodes"], "cert-manager"),
            (vec!["lab", "exec"], "CMD"),
        ];
        for (arguments, says) in cases {
            let error = Cli::try_parse_from(&arguments).expect_err(says).to_string();
            assert!(error.contains(says), "{arguments:?}: {error}");
        }
    }
}
