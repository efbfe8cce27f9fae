//! `registrar status`: Services with their load balancers, groups and targets, as AWS and the cluster have them now.
//!
//! It asks both itself, so it tells the truth also where no registrar runs.

pub mod paint;
mod read;
pub mod table;
pub mod view;

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use self::{paint::Paint, read::Scope, view::Report};
use crate::{
    aws::{Aws, Reader},
    cli, run, settings,
};

/// Something is not as it should be.
const TROUBLE: u8 = 1;

/// `registrar status`
#[derive(Debug, Args)]
pub struct Status {
    /// One Service; otherwise all of the namespace
    #[arg(value_name = "[NAMESPACE/]SERVICE")]
    pub service: Option<String>,
    /// The namespace to look at; otherwise all of them
    #[arg(long, short, value_name = "NAMESPACE")]
    pub namespace: Option<String>,
    /// Go on showing it until interrupted
    #[arg(long, short)]
    pub watch: bool,
    /// How often it is read anew, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = clap::value_parser!(u64).range(1..))]
    pub interval: u64,
    /// How it is written
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
    /// Kubeconfig; otherwise KUBECONFIG, and inside a cluster its service account
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The model of load balancers, as in the registrar
    #[command(flatten)]
    pub model: cli::Model,
    /// AWS.
    #[command(flatten)]
    pub aws: cli::Aws,
}

/// How a report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// One JSON object; with --watch one on each line.
    Json,
}

/// Shows it once, or until interrupted. The code is 1 if something that was shown last is not as it should be.
pub async fn run(arguments: Status) -> Result<ExitCode> {
    let scope = scope(arguments.namespace.as_deref(), arguments.service.as_deref())?;
    let region = daemon::settings::said(arguments.aws.aws_region.as_deref());
    let mut model = arguments.model;
    // Nothing that is shown depends on the name of the cluster.
    if let Err(settings::Error::NoCluster) = settings::read(&model, region) {
        model.cluster_name = Some("unnamed".to_owned());
    }
    let settings = settings::read(&model, region)?;
    let config = run::config(arguments.kubeconfig.as_deref()).await?;
    let client = kube::Client::try_from(config).context("a client of the API server")?;
    let aws = Aws::connect(run::aws_settings(&settings, arguments.aws.aws_imds), Arc::new(())).await;
    let reader = Reader::new(&aws);
    let mut source = read::Source::new(client, &reader, &settings.core, scope);
    let terminal = io::stdout().is_terminal();
    let paint = Paint::of_stdout();
    let mut last = None;
    loop {
        let report = Report::of(&source.read().await?);
        let text = match (arguments.output, arguments.watch) {
            (Output::Text, _) => table::text(&report, Timestamp::now(), paint),
            (Output::Json, false) => serde_json::to_string_pretty(&report)? + "\n",
            (Output::Json, true) => serde_json::to_string(&report)? + "\n",
        };
        let redraws = arguments.watch && terminal && arguments.output == Output::Text;
        // In a pipe only what is new is worth a line; ages alone are not.
        if redraws || last.as_ref() != Some(&report) {
            show(&text, redraws)?;
        }
        let trouble = report.has_trouble();
        last = Some(report);
        let code = if trouble { ExitCode::from(TROUBLE) } else { ExitCode::SUCCESS };
        if !arguments.watch {
            return Ok(code);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(arguments.interval)) => {}
            _ = tokio::signal::ctrl_c() => return Ok(code),
        }
    }
}

fn show(text: &str, redraw: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if redraw {
        // Everything away, and to the upper left corner.
        out.write_all(b"\x1b[2J\x1b[3J\x1b[H")?;
    }
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// What is asked for.
fn scope(namespace: Option<&str>, service: Option<&str>) -> Result<Scope> {
    let (within, name) = match service.map(|service| service.split_once('/')) {
        None => (None, None),
        Some(None) => (None, service),
        Some(Some((namespace, name))) => (Some(namespace), Some(name)),
    };
    match (namespace, within) {
        (Some(one), Some(other)) if one != other => bail!("--namespace {one} and {other}/... name two namespaces"),
        (None, None) if name.is_some() => {
            bail!("{0} is in which namespace? Write NAMESPACE/{0}, or add --namespace", name.unwrap_or_default())
        }
        _ => {}
    }
    let owned = |text: &str| text.to_owned();
    Ok(Scope { namespace: within.or(namespace).map(owned), service: name.map(owned) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_with_its_namespace_in_either_way() {
        let of = |namespace, service| scope(namespace, service).map(|scope| (scope.namespace, scope.service));
        let both = (Some("shop".to_owned()), Some("web".to_owned()));
        assert_eq!(of(None, Some("shop/web")).unwrap(), both);
        assert_eq!(of(Some("shop"), Some("web")).unwrap(), both);
        assert_eq!(of(Some("shop"), Some("shop/web")).unwrap(), both);
        assert_eq!(of(None, None).unwrap(), (None, None));
        assert!(of(None, Some("web")).unwrap_err().to_string().contains("NAMESPACE/web"));
        assert!(of(Some("shop"), Some("other/web")).is_err());
    }
}
