//! Services of type LoadBalancer: the Service of the README from `kubectl apply` to the last of a hundred answers, and every
//! vector applied to a Service, taken away and applied again, with what AWS has compared with the model after each.
//!
//! What AWS has is read by boto3; the model is what `registrar plan --offline` makes of the Service alone.

mod comparison;
mod stages;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use nlb::settings::ModelSettings;
use scenarios::{Scenario, curl, eventually, run};
use vectors::{Vector, is_of_the_world};

use self::stages::{REFUSED, Stage, Stages};

/// The Deployment and the Service of the README.
const STORY: &str = include_str!("../../../lab/stories/echo-service-nlb.yaml");
const REQUESTS: usize = 100;
/// As many load balancers at once as there are addresses for in each subnet.
const WAVE: usize = 90;

#[tokio::test]
async fn a_service_is_applied_and_all_its_pods_answer_by_the_name_that_it_gets() -> Result<()> {
    let gates = [("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled")];
    let lab = Scenario::begin("story", &gates).await?;
    lab.apply(STORY).await?;
    lab.kubectl(&["wait", "service/echo", "--for=condition=Active", "--timeout=60s"]).await?;
    lab.kubectl(&["rollout", "status", "deployment/echo", "--timeout=60s"]).await?;
    let name = "jsonpath={.status.loadBalancer.ingress[0].hostname}";
    let name = lab.kubectl(&["get", "service/echo", "-o", name]).await?;
    let mut answers = BTreeMap::<String, usize>::new();
    for _ in 0..REQUESTS {
        let (status, body) = curl(&format!("http://{name}/")).await?;
        ensure!(status == 200, "{status}: {body}");
        *answers.entry(body.lines().next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let pods = lab.pods("app=echo").await?;
    let expected: BTreeSet<String> = scenarios::names(&pods).iter().map(|pod| format!("Hostname: {pod}")).collect();
    ensure!(answers.keys().cloned().collect::<BTreeSet<_>>() == expected, "{answers:?}");

    lab.kubectl(&["delete", "service/echo", "--timeout=60s"]).await?;
    eventually("nothing is left of it in AWS", || async {
        let state = comparison::aws().await?;
        Ok(comparison::of_namespace(&state, &lab.namespace).is_empty().then_some(()))
    })
    .await?;
    let told = run("getent", &["hosts", &name], "").await;
    ensure!(told.is_err(), "its name is gone: {told:?}");
    lab.end().await
}

#[tokio::test]
async fn every_vector_applied_taken_away_and_applied_again_leaves_aws_as_the_model_says() -> Result<()> {
    let lab = Scenario::begin("vectors", &[]).await?;
    stages::lift_the_registrars_own_limits(&lab).await?;
    let edge = stages::security_group("edge").await?;
    let only = std::env::var("VECTORS").unwrap_or_default();
    let mut vectors = vectors::accepted()?;
    vectors.retain(|vector| vector.name.contains(&only));
    let (vectors, others): (Vec<Vector>, Vec<Vector>) =
        vectors.into_iter().partition(|vector| vector.settings == settings());
    let (mut driven, mut excused, mut wrong) = (0, BTreeMap::new(), Vec::new());
    for wave in vectors.chunks(WAVE) {
        let mut stages = Stages::begin(wave, &edge).await?;
        for stage in [Stage::Applied, Stage::Removed, Stage::Changed] {
            wrong.extend(stages.play(stage).await?);
        }
        wrong.extend(stages.plans().await?);
        wrong.extend(stages.end(&mut driven, &mut excused).await?);
    }
    println!(
        "{driven} vectors driven, {} need other settings, {} are not of this cluster",
        others.len(),
        excused.len()
    );
    let unknown: Vec<_> =
        excused.iter().filter(|(_, why)| !is_of_the_world(why) && !why.starts_with(REFUSED)).collect();
    ensure!(unknown.is_empty(), "{unknown:#?}");
    ensure!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    ensure!(!only.is_empty() || driven >= 120, "only {driven}; why the others not: {excused:#?}");
    lab.end().await
}

/// Those of the lab.
fn settings() -> ModelSettings {
    ModelSettings { cluster_name: "lab".to_owned(), ..ModelSettings::default() }
}

/// A program's answer as JSON.
async fn json(program: &str, arguments: &[&str], input: &str) -> Result<serde_json::Value> {
    let text = run(program, arguments, input).await?;
    serde_json::from_str(&text).with_context(|| format!("{program}: {text}"))
}
