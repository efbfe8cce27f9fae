//! What a thousand bindings with ten thousand pods cost: memory, processor time, calls, and the way back after a restart.
//!
//! Run in a lab without nodes: see the part `scale` of `figures`. `SCALE_BINDINGS` and `SCALE_PODS` (of each) make it
//! smaller or larger.

use std::{cell::Cell, time::Duration};

use anyhow::{Context as _, Result};
use figures::record;
use scenarios::{
    fleet::Fleet,
    replica::{Replica, Replicas, program},
    target_group::{Emulator, is_write},
    within,
};
use tokio::time::{Instant, sleep};

use crate::calls::{counts, number, registered, settled};

const BINDINGS: usize = 1000;
const PODS: usize = 10;
/// Changes in one group.
const CHANGES: usize = 50;
/// How long nothing is done, to see what the registrar does meanwhile.
const IDLE: Duration = Duration::from_mins(1);
/// Bounds a failure.
const PATIENCE: Duration = Duration::from_mins(10);
/// Calls a second when all is as it should be: groups are looked at by turns.
const CALM: usize = 6;
/// Rates that limit nothing, for the time in which the fleet is made.
const UNLIMITED: &str =
    "rates:\n  describe: { burst: 10000, perSecond: 10000 }\n  targets: { burst: 10000, perSecond: 10000 }\n";

pub(crate) async fn measure() -> Result<()> {
    let (bindings, pods) = (variable("SCALE_BINDINGS", BINDINGS)?, variable("SCALE_PODS", PODS)?);
    let emulator = Emulator::new()?;
    let directory = std::env::temp_dir().join(format!("sluice-scale-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let settings = directory.join("unlimited.yaml");
    std::fs::write(&settings, UNLIMITED)?;
    let arguments = vec![format!("--registrar-settings={}", settings.display())];
    let unlimited = Replicas { program: program(), directory: directory.clone(), arguments };
    let replicas = Replicas { arguments: Vec::new(), ..unlimited.clone() };

    println!("{bindings} target groups, {} pods", bindings * pods);
    let mut fleet = Fleet::begin(bindings).await?;
    fleet.target_groups(bindings).await?;
    let all = fleet.pods_of_each(bindings, pods, true).await?;
    let late = fleet.pods(1, 1, true, false).await?[0];
    println!("bindings, and the first registrar");
    fleet.bindings().await?;
    let first = unlimited.start(0)?;
    gates(&fleet, all.len()).await?;
    fleet.set_ready(&all).await?;
    settled(&emulator, CALM, PATIENCE).await?;
    println!("memory of the registrar that registered all of them: {:.1} MiB", first.memory()?);

    // The rates that AWS is known to allow hold from here.
    stop(first, "TERM").await?;
    fleet.set_containers_ready(late, true).await?;
    // The endpoint controller's own time is no part of the restart.
    sleep(Duration::from_secs(3)).await;
    let before = emulator.last().await?;
    let started = Instant::now();
    let second = replicas.start(1)?;
    registered(&emulator, before, late, PATIENCE).await?;
    record("scale.restart", started.elapsed().as_secs_f64())?;
    gates(&fleet, all.len() + 1).await?;
    fleet.set_ready(&[late]).await?;
    settled(&emulator, CALM, PATIENCE).await?;
    println!("quiet {:.0} s after the start", started.elapsed().as_secs_f64());
    let calls = emulator.calls(before).await?;
    println!("  calls since: {:?}", counts(&calls));
    record("scale.writes-restart", number(&calls, is_write) - 1.0)?;

    let (before, versions, cpu, began) =
        (emulator.last().await?, fleet.versions().await?, second.cpu()?, Instant::now());
    sleep(IDLE).await;
    record("scale.cpu", (second.cpu()? - cpu) * 100.0 / began.elapsed().as_secs_f64())?;
    let calls = emulator.calls(before).await?;
    println!("  calls meanwhile: {:?}", counts(&calls));
    let changed = fleet.versions().await?.iter().zip(&versions).filter(|(new, old)| new != old).count();
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    record("scale.writes-idle", number(&calls, is_write) + changed as f64)?;

    let before = emulator.last().await?;
    let more = fleet.pods(0, CHANGES, true, true).await?;
    gates(&fleet, all.len() + 1 + more.len()).await?;
    sleep(Duration::from_secs(5)).await;
    let calls = emulator.calls(before).await?;
    let group = fleet.groups.first().context("a group")?;
    let calls: Vec<_> = calls.into_iter().filter(|call| call.to_string().contains(group)).collect();
    println!("  calls for {CHANGES} changes: {:?}", counts(&calls));
    record("scale.calls", number(&calls, |_| true))?;
    record("scale.memory", second.memory()?)?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

fn variable(name: &str, otherwise: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
        Err(_) => Ok(otherwise),
    }
}

async fn gates(fleet: &Fleet, wanted: usize) -> Result<()> {
    let said = Cell::new(0);
    within(PATIENCE, &format!("{wanted} open gates"), || async {
        let open = fleet.open_gates().await?;
        if said.replace(open) != open {
            println!("  {open} of {wanted} gates are open");
        }
        if open < wanted {
            sleep(Duration::from_secs(2)).await;
        }
        Ok((open >= wanted).then_some(()))
    })
    .await
}

async fn stop(mut replica: Replica, signal: &str) -> Result<()> {
    replica.signal(signal).await?;
    replica.ended().await
}
