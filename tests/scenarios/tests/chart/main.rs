//! The chart: what it refuses, what it renders, and what becomes of a release in a cluster.
//!
//! These tests run in a lab without Sluice, which they install by themselves.

mod aws;
mod objects;
mod release;
mod rendering;
mod values;

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context as _, Result, ensure};
use scenarios::{Scenario, eventually, run};
use tokio::{process::Command, sync::watch, task::JoinSet};

use self::release::{CHART, CLUSTER, NAMESPACE, alone, helm, ready, render, upgrade};

async fn kubectl(arguments: &[&str]) -> Result<String> {
    run("kubectl", arguments, "").await
}

#[tokio::test]
async fn both_programs_run_where_only_restricted_pods_may() -> Result<()> {
    let _alone = alone().await?;
    let level = kubectl(&["get", "namespace", NAMESPACE, "-o", "jsonpath={.metadata.labels}"]).await?;
    ensure!(level.contains(r#""pod-security.kubernetes.io/enforce":"restricted""#), "{level}");
    let columns = "jsonpath={range .items[*]}{.metadata.name} {.status.readyReplicas}/{.spec.replicas}{\"\\n\"}{end}";
    let deployments = kubectl(&["-n", NAMESPACE, "get", "deployments", "-o", columns]).await?;
    ensure!(deployments == "sluice-registrar 2/2\nsluice-webhook 2/2\n", "{deployments}");
    Ok(())
}

#[tokio::test]
async fn nothing_differs_from_the_chart_after_an_installation() -> Result<()> {
    let _alone = alone().await?;
    let rendered = render(&[]).await?;
    for arguments in [&["diff", "-f", "-"][..], &["diff", "--server-side", "-f", "-"]] {
        let said = run("kubectl", arguments, &rendered).await?;
        ensure!(said.is_empty(), "{said}");
    }
    Ok(())
}

/// How many upgrades are tried: few by default, more in `make soak`.
fn upgrades() -> Result<usize> {
    let asked = std::env::var("SLUICE_UPGRADES").unwrap_or_else(|_| "3".to_owned());
    asked.parse().with_context(|| format!("SLUICE_UPGRADES={asked}"))
}

#[tokio::test]
async fn upgrades_fail_no_review() -> Result<()> {
    let _alone = alone().await?;
    let lab = Scenario::begin("upgrades", &[("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled")]).await?;
    lab.apply(&objects::service("web").to_string()).await?;
    eventually("the first gate", || async { Ok(objects::gated(&lab).await?.then_some(())) }).await?;

    let (stop, stopped) = watch::channel(false);
    let mut asking = JoinSet::new();
    asking.spawn(objects::gates_until(lab.namespace.clone(), stopped.clone()));
    asking.spawn(objects::updates_until(lab.namespace.clone(), stopped));
    let count = upgrades()?;
    for number in 0..count {
        // Other settings are other pods: each upgrade replaces all replicas of both.
        upgrade(&["--set-string", &format!("defaultTags.upgrade={number}")]).await?;
        ready().await?;
    }
    stop.send_replace(true);
    let mut reviews = Vec::new();
    while let Some(asked) = asking.join_next().await {
        reviews.push(asked??);
    }
    println!("{count} upgrades, {reviews:?} pods and Services reviewed");
    ensure!(reviews.iter().all(|count| *count > 20), "too few to tell: {reviews:?}");
    lab.end().await
}

/// What is there of a kind, anywhere, by name.
async fn names(kind: &str) -> Result<BTreeSet<String>> {
    let listed = kubectl(&["get", kind, "--all-namespaces", "-o", "name"]).await?;
    Ok(listed.lines().map(str::to_owned).collect())
}

#[tokio::test]
async fn a_release_that_goes_leaves_services_and_bindings_as_they_are() -> Result<()> {
    let _alone = alone().await?;
    let lab = Scenario::begin("uninstall", &[]).await?;
    lab.apply(&objects::binding("kept").to_string()).await?;
    lab.apply(&objects::service("web").to_string()).await?;
    let get = ["get", "service/web", "targetgroupbinding/kept", "-o", "jsonpath={.items[*].metadata.uid}"];
    let before = lab.kubectl(&get).await?;
    let labelled: &[&str] =
        &["get", "deployments,services,configmaps,roles,rolebindings,networkpolicies,certificates", "-n", NAMESPACE];

    helm(&["uninstall", "sluice", "--namespace", NAMESPACE, "--wait"]).await?;
    let after = lab.kubectl(&get).await?;
    ensure!(before == after, "{before} became {after}");
    let left = kubectl(&[labelled, &["-l", "app.kubernetes.io/part-of=sluice", "-o", "name"]].concat()).await?;
    ensure!(left.is_empty(), "{left}");
    for kind in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations", "clusterroles"] {
        let left: Vec<_> = names(kind).await?.into_iter().filter(|name| name.contains("sluice")).collect();
        ensure!(left.is_empty(), "{left:?}");
    }
    upgrade(&[]).await?;
    ready().await?;
    let again = lab.kubectl(&get).await?;
    ensure!(before == again, "{before} became {again}");
    lab.end().await
}

#[tokio::test]
async fn a_release_that_goes_and_comes_back_changes_nothing_in_aws() -> Result<()> {
    let _alone = alone().await?;
    let lab = Scenario::begin("serving", &[("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled")]).await?;
    lab.apply(&objects::service("web").to_string()).await?;
    lab.apply(&objects::deployment("web").to_string()).await?;
    let address = ["get", "service/web", "-o", "jsonpath={.status.loadBalancer.ingress[0].hostname}"];
    let host = eventually("an address", || async {
        Ok(Some(lab.kubectl(&address).await?).filter(|host| host.ends_with(".amazonaws.com")))
    })
    .await?;
    lab.ready_pods("app=web", 2).await?;
    let before = aws::writes()?;
    ensure!(before.iter().any(|call| call == "RegisterTargets"), "{before:?}");

    helm(&["uninstall", "sluice", "--namespace", NAMESPACE, "--wait"]).await?;
    let looks = aws::looks()?;
    upgrade(&[]).await?;
    ready().await?;
    eventually("a look at the targets", || async { Ok((aws::looks()? > looks).then_some(())) }).await?;
    let after = aws::writes()?;
    ensure!(before == after, "{:?}", after.get(before.len()..));
    ensure!(lab.kubectl(&address).await? == host);
    lab.ready_pods("app=web", 2).await?;
    lab.kubectl(&["delete", "service/web"]).await?;
    lab.end().await
}

#[tokio::test]
async fn a_definition_that_another_controller_installed_is_taken_over_with_its_bindings() -> Result<()> {
    let _alone = alone().await?;
    let lab = Scenario::begin("takeover", &[]).await?;
    lab.apply(&objects::binding("taken-over").to_string()).await?;
    let uid = ["get", "targetgroupbinding/taken-over", "-o", "jsonpath={.metadata.uid}"];
    let before = lab.kubectl(&uid).await?;
    helm(&["uninstall", "sluice", "--namespace", NAMESPACE, "--wait"]).await?;
    // As if another chart's `crds` directory had brought it: no label and no annotation of a release.
    let definition = "customresourcedefinition/targetgroupbindings.elbv2.k8s.aws";
    kubectl(&["label", definition, "app.kubernetes.io/managed-by-", "app.kubernetes.io/part-of-"]).await?;
    kubectl(&["annotate", definition, "meta.helm.sh/release-name-", "meta.helm.sh/release-namespace-"]).await?;

    let install = [&["install", "sluice", CHART, "--namespace", NAMESPACE], CLUSTER].concat();
    let refused = release::try_helm(&install, "").await?;
    ensure!(!refused.success && refused.err.contains("invalid ownership metadata"), "{}", refused.err);
    helm(&[&install[..], &["--take-ownership"]].concat()).await?;
    ready().await?;
    let after = lab.kubectl(&uid).await?;
    ensure!(before == after, "{before} became {after}");
    lab.end().await
}

#[tokio::test]
async fn a_certificate_of_ones_own_serves_without_cert_manager() -> Result<()> {
    let _alone = alone().await?;
    let directory = std::env::temp_dir().join(format!("sluice-chart-{}", std::process::id()));
    let script = Path::new(CHART).join("../../certs/local-ca");
    let made = Command::new(script).arg("--out").arg(&directory).status().await?;
    ensure!(made.success(), "certs/local-ca: {made}");
    let (certificate, key) = (directory.join("tls.crt"), directory.join("tls.key"));
    let create = format!(
        "kubectl -n {NAMESPACE} create secret tls own --cert={} --key={}",
        certificate.display(),
        key.display()
    );
    run("sh", &["-c", &create], "").await?;
    let bundle = run("base64", &["-w0", &directory.join("ca.crt").display().to_string()], "").await?;
    let own = format!("enableCertManager=false,webhookTLS.existingSecret=own,webhookTLS.caBundle={bundle}");
    // cert-manager's injector wrote the other authority, which is its field until it is taken over.
    upgrade(&["--set", &own, "--force-conflicts"]).await?;
    ready().await?;
    std::fs::remove_dir_all(&directory)?;
    upgrade(&[]).await?;
    ready().await?;
    kubectl(&["-n", NAMESPACE, "delete", "secret", "own"]).await?;
    Ok(())
}
