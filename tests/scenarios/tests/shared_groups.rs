//! A target group that several clusters share: each keeps a list of its own targets, and touches no other.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, ensure};
use scenarios::{
    Scenario, address,
    target_group::{TargetGroup, aws},
    within,
};

/// The list is kept where other controllers of this kind keep it.
const LEDGER: &str = "configmap/aws-lbc-targets-web";
/// An entry stays for a minute after its target has left, for AWS may not show at once what is there.
const FORGOTTEN: Duration = Duration::from_mins(3);
/// A target of another cluster.
const FOREIGN: &str = "192.168.13.99";

#[tokio::test]
async fn each_cluster_keeps_its_own_targets_of_a_shared_group_and_takes_no_other_away() -> Result<()> {
    let lab = Scenario::begin("sharing", &[("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled")]).await?;
    let group = TargetGroup::create(&lab).await?;
    let target = format!("Id={FOREIGN},Port=8080");
    aws(&["elbv2", "register-targets", "--target-group-arn", &group.arn, "--targets", &target]).await?;
    group.bind_with(&lab, ", multiClusterTargetGroup: true").await?;
    lab.apply(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec:\n  replicas: 2\n  selector: { matchLabels: { app: web } }\n  \
         template:\n    metadata: { labels: { app: web } }\n    spec: { containers: [{ name: echo, image: echo, ports: [{ containerPort: 8080 }] }] }\n",
    )
    .await?;
    for replicas in [2_usize, 1] {
        lab.kubectl(&["scale", "deployment/web", &format!("--replicas={replicas}")]).await?;
        let pods = lab.ready_pods("app=web", replicas).await?;
        let expected: BTreeSet<String> = pods.iter().map(|pod| format!("{}:8080", address(pod))).collect();
        within(FORGOTTEN, "the list is that of the pods", || async {
            let listed = lab.kubectl(&["get", LEDGER, "-o", "jsonpath={.data.targets}"]).await?;
            let listed: BTreeSet<String> = listed.split(',').map(str::to_owned).collect();
            ensure!(listed == expected, "{listed:?}");
            Ok(Some(()))
        })
        .await?;
    }
    lab.kubectl(&["delete", "targetgroupbinding", "web", "--timeout=60s"]).await?;
    let left = lab.kubectl(&["get", LEDGER, "--ignore-not-found", "-o", "name"]).await?;
    ensure!(left.is_empty(), "the list goes with the binding: {left}");
    let states = group.states().await?;
    let (foreign, own): (Vec<_>, Vec<_>) = states.into_iter().partition(|(id, _)| id == FOREIGN);
    ensure!(foreign.iter().all(|(_, state)| state != "draining") && foreign.len() == 1, "{foreign:?}");
    ensure!(own.iter().all(|(_, state)| state == "draining"), "{own:?}");
    lab.end().await?;
    group.delete().await
}
