//! Compares what Sluice may do in a cluster with what it did there.

use std::{collections::BTreeSet, fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Parser;
use manifests::permissions::{Asked, Permission, asked, granted};

/// Compares what roles grant with what audit logs show, both ways
///
/// Exit code 0: the same. 1: something is granted and was not used, or was asked for and is not granted.
#[derive(Parser)]
struct Arguments {
    /// Manifest with the roles
    #[arg(long, default_value = "manifests/install.yaml")]
    manifest: PathBuf,
    /// Leave out a role that these logs cannot show in use; may be given several times
    #[arg(long, value_name = "ROLE")]
    except: Vec<String>,
    /// Audit logs of clusters in which Sluice ran
    #[arg(required = true)]
    logs: Vec<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let read = |path: &PathBuf| fs::read_to_string(path).with_context(|| path.display().to_string());
    let granted = granted(&read(&arguments.manifest)?, &arguments.except)?;
    let mut seen = Asked::default();
    for log in &arguments.logs {
        let Asked { allowed, forbidden } = asked(&read(log)?)?;
        seen.allowed.extend(allowed);
        seen.forbidden.extend(forbidden);
    }
    let unused: BTreeSet<_> = granted.difference(&seen.allowed).cloned().collect();
    show("granted, and never used", &unused);
    show("asked for, and not granted", &seen.forbidden);
    println!("{} permissions, {} logs", granted.len(), arguments.logs.len());
    Ok(if unused.is_empty() && seen.forbidden.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(what: &str, permissions: &BTreeSet<Permission>) {
    for Permission { program, resource, verb } in permissions {
        println!("{what}: {program} {verb} {resource}");
    }
}
