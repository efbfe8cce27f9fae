//! The story: real commands, echoed as one would type them, and a table of what was expected and seen.

mod aws;
mod pods;
mod stage;
mod webhook;

use std::{collections::BTreeMap, ffi::OsString, fs, io, path::Path, process::ExitCode};

use self::stage::Stage;
use crate::network;

/// The story's files, by name.
const FILES: &[(&str, &str)] = &[
    ("echo.yaml", include_str!("../../stories/echo.yaml")),
    ("gated.yaml", include_str!("../../stories/gated.yaml")),
    ("certificate.yaml", include_str!("../../stories/certificate.yaml")),
    ("broken.yaml", include_str!("../../stories/broken.yaml")),
    ("echo-service-nlb.yaml", include_str!("../../stories/echo-service-nlb.yaml")),
];

/// Writes the story's files into the lab's own file system, where the demo runs and a reader can try them by hand.
pub fn write_files() -> io::Result<std::path::PathBuf> {
    let directory = Path::new(network::STATE).join("story");
    fs::create_dir_all(&directory)?;
    for (name, text) in FILES {
        fs::write(directory.join(name), text)?;
    }
    Ok(directory)
}

/// Plays the story. Success only if everything was seen as expected.
pub async fn play(directory: &Path, environment: &BTreeMap<String, OsString>, with_webhook: bool) -> ExitCode {
    let mut stage = Stage::new(directory, environment);
    pods::play(&mut stage).await;
    if environment.contains_key("AWS_ENDPOINT_URL") {
        aws::play(&mut stage).await;
    }
    if with_webhook {
        webhook::play(&mut stage).await;
    }
    stage.finish()
}
