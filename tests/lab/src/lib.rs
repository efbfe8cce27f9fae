//! A real Kubernetes control plane, and nodes whose pods answer, on one machine.
//!
//! Start at [`run`]. The lab has two halves: [`outer`] makes the namespaces and waits, [`inside`] is process 1 of them.

mod addons;
mod assets;
mod aws;
mod chart;
mod cli;
mod controlplane;
mod demo;
mod inside;
mod network;
mod node;
mod outer;
mod prerequisites;
mod ready;
mod scale;

use std::{convert::Infallible, ffi::OsString, process::ExitCode};

use clap::Parser as _;

use crate::cli::{Cli, Command, Demo, Exec};

/// What the lab logs unless `SLUICE_LAB_LOG_FILTER` says otherwise. The client of the API tells the same as its errors do.
const LOG_FILTER: &str = "warn,kube_client=off,kube_runtime=off";

/// Why the lab ended other than with its command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine lacks something.
    #[error(transparent)]
    Prerequisites(#[from] prerequisites::Error),
    /// The programs of the control plane.
    #[error(transparent)]
    Assets(#[from] assets::Error),
    /// The namespaces.
    #[error(transparent)]
    Outer(#[from] outer::Error),
    /// What runs in them.
    #[error(transparent)]
    Inside(#[from] inside::Error),
    /// A container.
    #[error(transparent)]
    Container(#[from] node::ContainerError),
    /// The logs.
    #[error(transparent)]
    Log(#[from] daemon::log::Error),
}

/// Does what the command line says and returns the status to exit with.
pub fn run() -> Result<ExitCode, Error> {
    let cli = Cli::parse();
    match cli.command {
        Command::Container { spec } => {
            let never: Infallible = node::become_container(&spec)?;
            match never {}
        }
        Command::Inside(inside) => {
            let filter = std::env::var("SLUICE_LAB_LOG_FILTER").unwrap_or_else(|_| LOG_FILTER.to_owned());
            daemon::log::init(&filter, daemon::log::Format::Text)?;
            Ok(inside::run(&inside)?)
        }
        Command::Build => {
            for (name, path) in assets::ensure()?.programs() {
                println!("{name}\t{}", path.display());
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Exec(Exec { options, .. }) | Command::Demo(Demo { options, .. }) | Command::Shell(options) => {
            inside::check(&options)?;
            let privilege = prerequisites::check()?;
            let assets = assets::ensure()?;
            let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
            Ok(inside::exit_code(outer::enter(privilege, &assets, arguments)?))
        }
    }
}
