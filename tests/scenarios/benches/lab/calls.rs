//! What the emulator's log says of the registrar's calls.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use scenarios::{
    fleet::Place,
    target_group::{Emulator, is_write},
    within,
};
use serde_json::Value;
use tokio::time::sleep;

/// How long nothing must be written until all that was to be done is done.
const QUIET: Duration = Duration::from_secs(5);

/// Calls by action.
pub(crate) fn counts(calls: &[Value]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for call in calls {
        *counts.entry(call["action"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
    }
    counts
}

/// How many calls there are that something is true of, as a figure.
#[expect(clippy::cast_precision_loss, reason = "thousands at most")]
pub(crate) fn number(calls: &[Value], is: impl Fn(&Value) -> bool) -> f64 {
    calls.iter().filter(|call| is(call)).count() as f64
}

/// Waits until a pod's address is registered.
pub(crate) async fn registered(emulator: &Emulator, after: u64, place: Place, patience: Duration) -> Result<()> {
    let address = place.address();
    within(patience, &format!("{address} is registered"), || async {
        let calls = emulator.log(after, "api", &address).await?;
        Ok(calls.iter().any(|call| call["action"] == "RegisterTargets").then_some(()))
    })
    .await
}

/// Waits until nothing was written for a while, and at most so many calls a second were made.
pub(crate) async fn settled(emulator: &Emulator, calls_a_second: usize, patience: Duration) -> Result<()> {
    within(patience, "nothing to be done", || async {
        let before = emulator.last().await?;
        sleep(QUIET).await;
        let calls = emulator.calls(before).await?;
        let few = calls.len() <= calls_a_second * usize::try_from(QUIET.as_secs())?;
        Ok((few && !calls.iter().any(is_write)).then_some(()))
    })
    .await
}
