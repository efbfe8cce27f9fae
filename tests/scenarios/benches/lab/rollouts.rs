//! The scenario of rollouts under load, at length: how many requests there were, and how many failed.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use figures::record;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

/// The scenario that is run; `SLUICE_ROLLOUTS` says how often.
const SCENARIO: [&str; 3] = ["rollouts_scaling_in_and_node_drains_lose_no_request", "--exact", "--nocapture"];

pub(crate) async fn measure() -> Result<()> {
    let mut child = Command::new("cargo")
        .args(["test", "--release", "--offline", "--quiet", "--workspace", "--test", "rollouts", "--"])
        .args(SCENARIO)
        .stdout(Stdio::piped())
        .spawn()
        .context("start the scenario")?;
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    while let Some(line) = lines.next_line().await? {
        println!("{line}");
        // `<n> requests in <s> s, failed: <n>; ...`, with kinds in parentheses after the number.
        let Some((requests, rest)) = line.split_once(" requests in ") else { continue };
        let failed = rest.split_once("failed: ").context("how many failed")?.1.split([' ', ';']).next();
        record("rollouts.requests", requests.trim().parse()?)?;
        record("rollouts.failed", failed.unwrap_or_default().parse().with_context(|| line.clone())?)?;
    }
    // Lost requests make the scenario fail; here they are a figure.
    child.wait().await?;
    Ok(())
}
