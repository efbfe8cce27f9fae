//! What is measured in the lab. Each part is run in a lab of its own: see `tests/figures/src/rows.rs`, and `make bench`.

mod calls;
mod failover;
mod gates;
mod rollouts;
mod scale;
mod services;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let part = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    if !std::env::var("KUBECONFIG").is_ok_and(|path| path.starts_with("/run/lab/")) {
        bail!("this measures in the lab only: make bench");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match part.as_str() {
            "gates" => gates::burst().await,
            "deployment" => gates::deployment_grows().await,
            "lags" => gates::lags().await,
            "scale" => scale::measure().await,
            "failover" => failover::measure().await,
            "services" => services::measure().await,
            "rollouts" => rollouts::measure().await,
            other => {
                bail!("`{other}` is no part; there are gates, deployment, lags, scale, failover, services and rollouts")
            }
        }
    })
}
