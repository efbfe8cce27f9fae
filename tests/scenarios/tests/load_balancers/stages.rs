//! A wave of vectors, each a Service in a namespace of its own, taken through their steps together.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, api::ListParams};
use nlb::{
    annotations::{Object, keys},
    settings::ModelSettings,
    targetgroupbinding::TargetGroupBinding,
};
use scenarios::within;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use vectors::Vector;

use super::{
    case::{Case, Course, Expected},
    comparison::{self, Comparison, Defaults},
    network, registrar,
    world::World,
};

/// Requests at once.
const AT_ONCE: usize = 12;
/// One Service of so many is planned.
const PLANNED: usize = 8;
/// A step may take this long to settle.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);
/// Nothing may be left after so long.
const GONE: Duration = Duration::from_mins(1);

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Vectors that went all the way.
    pub(crate) driven: BTreeSet<String>,
    /// Vectors that something was in the way of, and what.
    pub(crate) excused: BTreeMap<String, String>,
    /// Rows of the table whose annotations came and went.
    pub(crate) keys: BTreeSet<&'static str>,
    /// What was not in AWS as it was to be.
    pub(crate) wrong: Vec<String>,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: Self) {
        self.driven.extend(other.driven);
        self.excused.extend(other.excused);
        self.keys.extend(other.keys);
        self.wrong.extend(other.wrong);
        // A vector that is stopped on one of its courses has not gone all the way.
        self.driven.retain(|vector| !self.excused.contains_key(vector));
    }
}

/// One wave, of vectors with the same settings.
pub(crate) struct Stages {
    cases: Vec<Case>,
    settings: ModelSettings,
    defaults: Defaults,
    outcome: Outcome,
}

impl Stages {
    /// Takes all through their steps and deletes them.
    pub(crate) async fn run(wave: &[(&Vector, Course)], settings: &ModelSettings, world: &World) -> Result<Outcome> {
        let cases = stream::iter(wave).map(|&(vector, course)| Case::begin(vector, course, world));
        let cases: Vec<Case> = cases.buffered(AT_ONCE).try_collect().await?;
        let settings = settings.clone();
        let mut stages = Self { cases, settings, defaults: Defaults::new(), outcome: Outcome::default() };
        let longest = stages.cases.iter().map(|case| case.steps.len()).max().unwrap_or_default();
        for step in 0..longest {
            stages.play(step).await?;
        }
        stages.plans().await?;
        stages.end().await
    }

    /// Takes all a step further, and notes what is not as it is to be after a while.
    async fn play(&mut self, step: usize) -> Result<()> {
        let going = self.cases.iter_mut().filter(|case| case.goes(step));
        let refused = stream::iter(going).map(|case| case.put(step)).buffer_unordered(AT_ONCE);
        let refused: Vec<String> = refused.filter_map(async |refused| refused).collect().await;
        self.outcome.wrong.extend(refused);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let wrong = self.differences(step).await?;
            if wrong.is_empty() {
                return Ok(());
            }
            if Instant::now() > deadline {
                self.outcome.wrong.extend(wrong);
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    /// What is not as it is to be. Services that something is in the way of from the first go no further.
    async fn differences(&mut self, step: usize) -> Result<Vec<String>> {
        let stored = self.stored().await?;
        let mut unsettled = Vec::new();
        for case in self.cases.iter_mut().filter(|case| case.goes(step)) {
            let service = stored.get(&case.lab.namespace).with_context(|| format!("{}: no Service", case.vector))?;
            let conditions = || service["status"]["conditions"].as_array().into_iter().flatten();
            let holds = |name: &str| conditions().find(|found| found["type"] == name && found["status"] == "True");
            let (active, blocked) = (holds("Active").is_some(), holds("Blocked"));
            let settled = match (case.steps[step].expected, blocked) {
                (Expected::Nothing, _) => true,
                (Expected::Stays { said: true }, blocked) => {
                    active && blocked.is_some_and(|blocked| blocked["reason"] == "Replacement")
                }
                (_, Some(blocked)) if step == 0 => {
                    case.stopped = Some(blocked["message"].as_str().unwrap_or_default().to_owned());
                    true
                }
                (_, blocked) => active && blocked.is_none(),
            };
            if !settled {
                unsettled.push(format!("{}: {:?}", case.name(step), conditions().collect::<Vec<_>>()));
            }
        }
        if !unsettled.is_empty() {
            return Ok(unsettled);
        }
        self.compare(step, &stored).await
    }

    async fn compare(&mut self, step: usize, stored: &BTreeMap<String, Value>) -> Result<Vec<String>> {
        let mut going: Vec<&mut Case> = self.cases.iter_mut().filter(|case| case.goes(step)).collect();
        let Some(client) = going.first().map(|case| case.lab.client.clone()) else { return Ok(Vec::new()) };
        let (state, bindings) = (comparison::aws().await?, bindings(&client).await?);
        let services: Vec<&Value> = going.iter().filter_map(|case| stored.get(&case.lab.namespace)).collect();
        let models = registrar::models(&self.settings, &services).await?;
        let mut wrong = Vec::new();
        for case in &mut going {
            let namespace = &case.lab.namespace;
            let expected = case.steps[step].expected;
            let fresh = step == 0 || case.steps[step - 1].expected == Expected::Nothing;
            let differences = match expected {
                Expected::Nothing => comparison::of_namespace(&state, namespace),
                Expected::Stays { .. } | Expected::Model => {
                    let model = if expected == Expected::Model {
                        let mut model = models.get(namespace).cloned().context("no model")?;
                        let service: Service = serde_json::from_value(stored[namespace].clone())?;
                        let spec = nlb::service::read(&service, &self.settings).spec;
                        network::fill(&mut model, &spec, &state, case.placed.as_ref().filter(|_| !fresh));
                        case.placed = Some(model["loadBalancer"]["SubnetMappings"].clone());
                        model
                    } else {
                        case.as_at_first(step).context("no first model")?
                    };
                    let none = Vec::new();
                    let bindings = bindings.get(namespace).unwrap_or(&none);
                    let differences = Comparison::of(&model, &state, bindings, &mut self.defaults, fresh);
                    if step == 0 {
                        case.first = Some(model);
                    }
                    differences
                }
            };
            wrong.extend(differences.into_iter().map(|text| format!("{}: {text}", case.name(step))));
        }
        Ok(wrong)
    }

    /// What the registrar would still do, by its own plan. It spares AWS's limits, so that only some Services are planned.
    async fn plans(&mut self) -> Result<()> {
        let going = self.cases.iter().filter(|case| case.stopped.is_none()).step_by(PLANNED);
        let plans = stream::iter(going).map(|case| async {
            let report = registrar::plan(&self.settings, &["-n", &case.lab.namespace], "").await?;
            let steps = report["services"].as_array().into_iter().flatten().filter(|plan| plan["name"] == "web");
            let loud = |plan: &&Value| {
                ["steps", "problems", "waiting"]
                    .iter()
                    .any(|key| plan[key].as_array().is_none_or(|list| !list.is_empty()))
            };
            anyhow::Ok(steps.filter(loud).map(|plan| format!("{}: planned: {plan}", case.vector)).collect::<Vec<_>>())
        });
        let loud = plans.buffer_unordered(4).try_collect::<Vec<_>>().await?.concat();
        self.outcome.wrong.extend(loud);
        Ok(())
    }

    /// Deletes all Services. What goes wrong: something that AWS has still.
    async fn end(mut self) -> Result<Outcome> {
        stream::iter(&self.cases)
            .map(|case| async {
                case.unprotect().await?;
                case.lab.kubectl(&["delete", "services", "--all", "--timeout=100s"]).await
            })
            .buffer_unordered(AT_ONCE)
            .try_for_each(async |_| Ok(()))
            .await?;
        let left = within(GONE, "nothing is left in AWS", || async {
            let state = comparison::aws().await?;
            let left: Vec<_> =
                self.cases.iter().flat_map(|case| comparison::of_namespace(&state, &case.lab.namespace)).collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(Some(()))
        })
        .await;
        self.outcome.wrong.extend(left.err().map(|error| format!("{error:#}")));
        let mut outcome = self.outcome;
        for case in self.cases {
            if case.stopped.is_none() {
                let rows = case.moved().into_iter().filter_map(|key| keys::find(Object::Service, key));
                outcome.keys.extend(rows.map(|row| row.key));
            }
            match case.stopped {
                Some(why) => _ = outcome.excused.insert(case.vector, why),
                None => _ = outcome.driven.insert(case.vector),
            }
            case.lab.end().await?;
        }
        Ok(outcome)
    }

    /// The Services by namespace, as they are stored.
    async fn stored(&self) -> Result<BTreeMap<String, Value>> {
        let Some(case) = self.cases.first() else { return Ok(BTreeMap::new()) };
        let all: Api<Service> = Api::all(case.lab.client.clone());
        let only = ListParams::default().fields("metadata.name=web");
        let found = all.list(&only).await?.items.into_iter().map(|service| {
            let namespace = service.metadata.namespace.clone().unwrap_or_default();
            Ok((namespace, serde_json::to_value(service)?))
        });
        found.collect()
    }
}

/// The bindings by namespace.
async fn bindings(client: &kube::Client) -> Result<BTreeMap<String, Vec<Value>>> {
    let all: Api<TargetGroupBinding> = Api::all(client.clone());
    let mut found = BTreeMap::<String, Vec<Value>>::new();
    for binding in all.list(&ListParams::default()).await?.items {
        let namespace = binding.metadata.namespace.clone().unwrap_or_default();
        found.entry(namespace).or_default().push(serde_json::to_value(binding)?);
    }
    Ok(found)
}
