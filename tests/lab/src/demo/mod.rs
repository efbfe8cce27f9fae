//! The story: real commands, echoed as one would type them, and a table of what was expected and seen.

mod admission;
mod installation;
mod outages;
mod picture;
mod removal;
mod report;
mod rollout;
mod service;
mod stage;
mod timeline;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use kube::Client;

use self::{rollout::Studio, stage::Stage};
use crate::{chart, network, scale::Scale};

/// The story's files, by name.
const FILES: &[(&str, &str)] = &[
    ("broken.yaml", include_str!("../../stories/broken.yaml")),
    ("values.yaml", include_str!("../../stories/values.yaml")),
    ("echo-service-nlb.yaml", include_str!("../../stories/echo-service-nlb.yaml")),
];

/// Writes the story's files and the chart into the lab's own file system, where the demo runs and a reader can try them by hand.
pub fn write_files() -> io::Result<std::path::PathBuf> {
    let directory = Path::new(network::STATE).join("story");
    fs::create_dir_all(&directory)?;
    for (name, text) in FILES {
        fs::write(directory.join(name), text)?;
    }
    chart::write(&directory.join("chart"))?;
    Ok(directory)
}

/// Where the story is played.
pub struct Setting<'a> {
    /// Directory of its files.
    pub directory: PathBuf,
    /// What its commands see.
    pub environment: &'a BTreeMap<String, OsString>,
    /// The cluster.
    pub client: Client,
    /// How much faster the lab's clocks run.
    pub scale: Scale,
    /// Where the report goes.
    pub report: &'a Path,
}

/// Plays the story and leaves a report. Success only if everything was seen as expected.
pub async fn play(setting: Setting<'_>) -> ExitCode {
    let mut stage = Stage::new(&setting.directory, setting.environment);
    let studio = Studio { client: setting.client, scale: setting.scale };
    installation::play(&mut stage).await;
    // Without a load balancer there is nothing to see of the rest.
    if service::play(&mut stage, &studio).await {
        rollout::play(&mut stage, &studio).await;
        admission::play(&mut stage).await;
        outages::play(&mut stage, &studio).await;
        removal::play(&mut stage).await;
    }
    let story = stage.finish();
    println!("\n{}", story.table());
    match story.write(setting.report) {
        Ok(()) => println!("report: {}", setting.report.join("report.html").display()),
        Err(error) => {
            eprintln!("lab: {error}");
            return ExitCode::FAILURE;
        }
    }
    if story.good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
