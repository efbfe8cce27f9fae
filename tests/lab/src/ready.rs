//! When the cluster can be used: its nodes are ready and pods can be created.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, ServiceAccount};
use kube::{Api, Client, api::ListParams};
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(50);

/// The cluster did not become usable in time.
#[derive(Debug, thiserror::Error)]
#[error("the cluster was not ready within {PATIENCE:?}: {0}")]
pub struct Error(String);

/// Waits until `count` nodes are ready and open to pods, and the default service account is there.
pub async fn wait(client: &Client, count: usize) -> Result<(), Error> {
    until(PATIENCE, || missing(client, count)).await.map_err(Error)
}

/// Asks what is missing until nothing is, for at most `limit`. The error is what was missing last, or why that could not
/// be told.
pub async fn until<F, R>(limit: Duration, mut missing: F) -> Result<(), String>
where
    F: FnMut() -> R,
    R: Future<Output = Result<Option<String>, kube::Error>>,
{
    let mut last = String::new();
    let nothing_missing = async {
        loop {
            match missing().await {
                Ok(None) => return,
                Ok(Some(missing)) => last = missing,
                Err(e) => last = e.to_string(),
            }
            sleep(POLL).await;
        }
    };
    timeout(limit, nothing_missing).await.map_err(|_| last)
}

async fn missing(client: &Client, count: usize) -> Result<Option<String>, kube::Error> {
    let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await?;
    let ready = nodes.iter().filter(|node| is_ready(node)).count();
    if ready < count {
        return Ok(Some(format!("{ready} of {count} nodes are ready")));
    }
    // Without it the API refuses every pod.
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let account = accounts.get_opt("default").await?;
    Ok(account.is_none().then(|| "namespace default has no service account yet".to_owned()))
}

/// Ready, and without the taint that new nodes have until the controller manager has seen them.
fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
        && !taints.into_iter().any(|t| t.key == "node.kubernetes.io/not-ready")
}
