//! What was done to AWS, by the emulator's log.

use anyhow::{Context as _, Result};
use serde_json::Value;

const REGISTRAR: &str = ":assumed-role/sluice-registrar/";

/// The calls of the registrar, in order.
fn calls() -> Result<Vec<String>> {
    let path = std::env::var("SLUICE_LAB_LOG").context("the lab names its log")?;
    let text = std::fs::read_to_string(path)?;
    let events = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let own = events.iter().filter(|event| event["who"].as_str().is_some_and(|who| who.contains(REGISTRAR)));
    Ok(own.filter_map(|event| event["action"].as_str().map(str::to_owned)).collect())
}

/// The registrar's writes.
pub(crate) fn writes() -> Result<Vec<String>> {
    let reads = ["Describe", "Get"];
    Ok(calls()?.into_iter().filter(|action| !reads.iter().any(|read| action.starts_with(read))).collect())
}

/// How many looks at targets there were.
pub(crate) fn looks() -> Result<usize> {
    Ok(calls()?.iter().filter(|action| *action == "DescribeTargetHealth").count())
}
