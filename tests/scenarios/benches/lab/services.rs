//! What load balancers cost: hundreds of Services at once, and hundreds taken over by a registrar that is new.
//!
//! Run in a lab without nodes: see the part `services` of `figures`.

use std::{cell::Cell, time::Duration};

use anyhow::Result;
use figures::record;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, api::ListParams};
use scenarios::{
    fleet::Fleet,
    replica::{Replicas, program},
    target_group::{Emulator, is_throttled, is_write},
    within,
};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::calls::{counts, number, settled};

/// Services at once.
const AT_ONCE: usize = 200;
/// Services that are taken over.
const ALL: usize = 500;
/// Bounds a failure.
const PATIENCE: Duration = Duration::from_mins(10);
/// Calls a second when all is as it should be: what there is is looked at by turns.
const CALM: usize = 2;
/// Rates that limit nothing.
const UNLIMITED: &str = "\
rates:
  describe: { burst: 10000, perSecond: 10000 }
  targets: { burst: 10000, perSecond: 10000 }
  modify: { burst: 10000, perSecond: 10000 }
  other: { burst: 10000, perSecond: 10000 }
  ec2Describe: { burst: 10000, perSecond: 10000 }
  ec2Write: { burst: 10000, perSecond: 10000 }
";

pub(crate) async fn measure() -> Result<()> {
    let emulator = Emulator::new()?;
    let directory = std::env::temp_dir().join(format!("sluice-services-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let settings = directory.join("unlimited.yaml");
    std::fs::write(&settings, UNLIMITED)?;
    let arguments = vec![format!("--registrar-settings={}", settings.display())];
    let unlimited = Replicas { program: program(), directory: directory.clone(), arguments };
    let replicas = Replicas { arguments: Vec::new(), ..unlimited.clone() };

    println!("{ALL} pods, one for each Service");
    let mut fleet = Fleet::begin(ALL).await?;
    let pods = fleet.pods_of_each(ALL, 1, false).await?;
    fleet.set_ready(&pods).await?;
    let mut first = unlimited.start(0)?;
    first.ready(PATIENCE).await?;

    println!("{AT_ONCE} Services");
    let before = emulator.last().await?;
    let asked = Instant::now();
    fleet.services(0..AT_ONCE).await?;
    println!("  they are stored after {:.1} s", asked.elapsed().as_secs_f64());
    hostnames(&fleet, AT_ONCE).await?;
    record("services.hostnames", asked.elapsed().as_secs_f64())?;
    settled(&emulator, CALM, PATIENCE).await?;
    let calls = emulator.calls(before).await?;
    println!("  calls: {:?}", counts(&calls));
    #[expect(clippy::cast_precision_loss, reason = "hundreds")]
    record("services.calls", number(&calls, |_| true) / AT_ONCE as f64)?;

    println!("{} more", ALL - AT_ONCE);
    fleet.services(AT_ONCE..ALL).await?;
    hostnames(&fleet, ALL).await?;
    settled(&emulator, CALM, PATIENCE).await?;

    println!("a new registrar, and the rates that AWS has published");
    first.signal("TERM").await?;
    first.ended().await?;
    let limits = json!({
        "bucket.describe": "40/10", "bucket.targets": "20/4", "bucket.modify": "20/3", "bucket.other": "20/3",
        "bucket.ec2": "100/20", "bucket.sts": "100/20",
    });
    emulator.set(&limits).await?;
    let (before, started) = (emulator.last().await?, Instant::now());
    let second = replicas.start(1)?;
    second.ready(PATIENCE).await?;
    settled(&emulator, CALM, PATIENCE).await?;
    record("services.restart-time", started.elapsed().as_secs_f64())?;
    sleep(Duration::from_secs(20)).await;
    let calls = emulator.calls(before).await?;
    println!("  calls: {:?}; memory {:.1} MiB", counts(&calls), second.memory()?);
    record("services.restart-writes", number(&calls, is_write))?;
    record("services.restart-throttles", number(&calls, is_throttled))?;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

/// Waits until so many Services have hostnames.
async fn hostnames(fleet: &Fleet, wanted: usize) -> Result<()> {
    let services: Api<Service> = Api::all(fleet.client.clone());
    let said = Cell::new(Instant::now());
    within(PATIENCE, &format!("{wanted} hostnames"), || async {
        let services = services.list(&ListParams::default().match_any()).await?;
        let named = services.items.iter().filter(|service| {
            let ingress = service.status.as_ref().and_then(|s| s.load_balancer.as_ref()?.ingress.as_ref()?.first());
            ingress.is_some_and(|ingress| ingress.hostname.is_some())
        });
        let named = named.count();
        if said.get().elapsed() > Duration::from_secs(2) {
            said.set(Instant::now());
            println!("  {named} of {wanted} have hostnames");
        }
        Ok((named >= wanted).then_some(()))
    })
    .await
}
