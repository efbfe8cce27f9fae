//! Services of type `LoadBalancer`: the Service of the README from `kubectl apply` to the last of a hundred answers, and
//! every vector applied to a Service, taken away and applied again, with what AWS has compared with the model after each.
//!
//! What AWS has is read by boto3; the model is what `registrar plan --offline` makes of the Service alone.

mod case;
mod comparison;
mod coverage;
mod network;
mod registrar;
mod stages;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use nlb::settings::ModelSettings;
use scenarios::{Scenario, curl, eventually, run};
use vectors::Vector;

use self::{
    case::Course,
    registrar::Registrar,
    stages::{Outcome, Stages},
    world::World,
};

/// The Deployment and the Service of the README.
const STORY: &str = include_str!("../../../lab/stories/echo-service-nlb.yaml");
const REQUESTS: usize = 100;
/// As many load balancers at once as there are addresses for in each subnet.
const WAVE: usize = 90;
/// Seconds that a target group which was replaced stays. Nobody sends anything to those that are built here.
const FLOOR: u32 = 5;

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
    let registrar = Registrar::begin(&lab.client).await?;
    let world = World::begin().await?;
    let only = std::env::var("VECTORS").unwrap_or_default();
    let mut all = vectors::accepted()?;
    all.retain(|vector| vector.name.contains(&only));
    for settings in all.iter_mut().map(|vector| &mut vector.settings) {
        if settings.drain_floor_seconds == ModelSettings::default().drain_floor_seconds {
            settings.drain_floor_seconds = FLOOR;
        }
    }
    let (here, elsewhere): (Vec<&Vector>, Vec<&Vector>) = all.iter().partition(|vector| vector.settings == settings());
    let mut outcome = waves(&courses(&here), &settings(), &world).await?;
    let mut by_settings: Vec<(&ModelSettings, Vec<&Vector>)> = Vec::new();
    for vector in elsewhere {
        match by_settings.iter_mut().find(|(settings, _)| **settings == vector.settings) {
            Some((_, vectors)) => vectors.push(vector),
            None => by_settings.push((&vector.settings, vec![vector])),
        }
    }
    for (settings, vectors) in &by_settings {
        registrar.configure(settings).await?;
        outcome.add(waves(&courses(vectors), settings, &world).await?);
    }
    registrar.restore().await?;
    world.end().await?;
    lab.end().await?;
    report(&outcome, by_settings.len(), only.is_empty())
}

/// All courses of vectors, as many at once as there is room for.
async fn waves(courses: &[(&Vector, Course)], settings: &ModelSettings, world: &World) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for wave in courses.chunks(WAVE) {
        outcome.add(Stages::run(wave, settings, world).await?);
    }
    Ok(outcome)
}

fn courses<'a>(vectors: &[&'a Vector]) -> Vec<(&'a Vector, Course)> {
    vectors.iter().flat_map(|vector| Course::of(vector).into_iter().map(|course| (*vector, course))).collect()
}

/// Prints what was driven, and fails if that is not all that can be.
fn report(outcome: &Outcome, settings: usize, whole: bool) -> Result<()> {
    let Outcome { driven, excused, keys, wrong } = outcome;
    println!(
        "{} vectors driven, with {} annotations of Services that came and went, {settings} other settings of the registrar",
        driven.len(),
        keys.len(),
    );
    println!("{} vectors are excused:", excused.len());
    for (vector, said) in excused {
        println!("  {vector}: {}", coverage::excuse(said).unwrap_or(said));
    }
    println!("{} annotations of Services are excused:", coverage::excused().count());
    for line in coverage::excused() {
        println!("  {line}");
    }
    let unknown = excused.iter().filter(|(_, said)| coverage::excuse(said).is_none());
    let unknown = unknown.map(|(vector, said)| format!("{vector} was not driven: {said}"));
    let gaps = if whole { coverage::gaps(keys) } else { Vec::new() };
    let wrong: Vec<String> = wrong.iter().cloned().chain(unknown).chain(gaps).collect();
    ensure!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

/// Those of most vectors: the lab's, but that target groups which were replaced go sooner.
fn settings() -> ModelSettings {
    ModelSettings { cluster_name: "lab".to_owned(), drain_floor_seconds: FLOOR, ..ModelSettings::default() }
}

/// A program's answer as JSON.
async fn json(program: &str, arguments: &[&str], input: &str) -> Result<serde_json::Value> {
    let text = run(program, arguments, input).await?;
    serde_json::from_str(&text).with_context(|| format!("{program}: {text}"))
}
