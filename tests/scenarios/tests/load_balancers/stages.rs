//! A wave of vectors, each a Service in a namespace of its own, taken through the same stages together.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Service},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use nlb::{service::spec::SecurityGroups, targetgroupbinding::TargetGroupBinding};
use scenarios::{Scenario, run, target_group::aws, within};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vectors::{BACKENDS, SECURITY_GROUP, Vector};

use super::comparison::{self, Comparison, Defaults};

const SYSTEM: &str = "sluice-system";
/// Requests at once.
const AT_ONCE: usize = 12;
/// A wave may take this long to settle.
const PATIENCE: Duration = Duration::from_secs(40);
const VPC: &str = "vpc-0a1b2c3d4e5f60718";
/// One Service of so many is planned.
const PLANNED: usize = 8;
/// The registrar that `plan` is asked of.
const REGISTRAR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug/registrar");

/// What cannot be stored is not built: IPv6, and Services that are nothing without their annotations.
pub(crate) const REFUSED: &str = "the API server refuses it";

/// Where a Service stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Created as the vector has it.
    Applied,
    /// Without what the vector is about.
    Removed,
    /// As the vector has it again, by a change of what is there.
    Changed,
}

struct Case {
    vector: String,
    lab: Scenario,
    service: Service,
    plain: Service,
    /// Whether without what the vector is about its target groups are others, or it would have to be.
    replaces: bool,
    /// Why it goes no further.
    stopped: Option<String>,
}

/// One wave.
pub(crate) struct Stages {
    cases: Vec<Case>,
    defaults: Defaults,
}

impl Stages {
    pub(crate) async fn begin(wave: &[Vector], edge: &str) -> Result<Self> {
        let cases = stream::iter(wave.iter().enumerate()).map(|(n, vector)| Case::begin(n, vector, edge));
        let cases = cases.buffered(AT_ONCE).try_collect().await?;
        Ok(Self { cases, defaults: Defaults::new() })
    }

    /// Brings all Services to a stage, and says what is not as their models have it after a while.
    pub(crate) async fn play(&mut self, stage: Stage) -> Result<Vec<String>> {
        let going = self.cases.iter_mut().filter(|case| case.stopped.is_none());
        stream::iter(going).for_each_concurrent(AT_ONCE, |case| case.put(stage)).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let wrong = self.differences(stage).await?;
            if wrong.is_empty() || Instant::now() > deadline {
                return Ok(wrong);
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// What is not as the models have it. Services that something is in the way of go no further.
    async fn differences(&mut self, stage: Stage) -> Result<Vec<String>> {
        let stored = self.stored().await?;
        let mut unsettled = Vec::new();
        for case in self.cases.iter_mut().filter(|case| case.stopped.is_none()) {
            let service = stored.get(&case.lab.namespace).with_context(|| format!("{}: no Service", case.vector))?;
            let conditions = || service["status"]["conditions"].as_array().into_iter().flatten();
            let holds = |name: &str| conditions().find(|found| found["type"] == name && found["status"] == "True");
            if let Some(blocked) = holds("Blocked") {
                case.stopped = Some(blocked["message"].as_str().unwrap_or_default().to_owned());
            } else if holds("Active").is_none() {
                unsettled.push(format!("{} {stage:?}: {:?}", case.vector, conditions().collect::<Vec<_>>()));
            }
        }
        if !unsettled.is_empty() {
            return Ok(unsettled);
        }
        let going: Vec<&Case> = self.cases.iter().filter(|case| case.stopped.is_none()).collect();
        let (state, bindings) = (comparison::aws().await?, self.bindings().await?);
        let models = models(&going, &stored).await?;
        let mut wrong = Vec::new();
        for case in going {
            let none = Vec::new();
            let namespace = &case.lab.namespace;
            let stage = if case.replaces { Stage::Applied } else { stage };
            let (model, bindings) = (&models[namespace], bindings.get(namespace).unwrap_or(&none));
            let differences = Comparison::of(model, &state, bindings, &mut self.defaults, stage == Stage::Applied);
            wrong.extend(differences.into_iter().map(|text| format!("{} {stage:?}: {text}", case.vector)));
        }
        Ok(wrong)
    }

    /// What the registrar would still do, by its own plan. It spares AWS's limits, so that only some Services are planned.
    pub(crate) async fn plans(&self) -> Result<Vec<String>> {
        let going = self.cases.iter().filter(|case| case.stopped.is_none()).step_by(PLANNED);
        let plans = stream::iter(going).map(|case| async {
            let report = plan(&["-n", &case.lab.namespace], "").await?;
            let steps = report["services"].as_array().into_iter().flatten().filter(|plan| plan["name"] == "web");
            let loud = |plan: &&Value| {
                ["steps", "problems", "waiting"]
                    .iter()
                    .any(|key| plan[key].as_array().is_none_or(|list| !list.is_empty()))
            };
            anyhow::Ok(steps.filter(loud).map(|plan| format!("{}: planned: {plan}", case.vector)).collect::<Vec<_>>())
        });
        Ok(plans.buffer_unordered(4).try_collect::<Vec<_>>().await?.concat())
    }

    /// Deletes all Services. What goes wrong: something that AWS has still.
    pub(crate) async fn end(
        mut self,
        driven: &mut usize,
        excused: &mut BTreeMap<String, String>,
    ) -> Result<Vec<String>> {
        // Those that are protected have to be let go first, in as many words.
        for case in &mut self.cases {
            let annotations = case.plain.metadata.annotations.get_or_insert_default();
            let protected = case.service.metadata.annotations.iter().flatten();
            if protected.into_iter().any(|(_, value)| value.contains("deletion_protection.enabled=true")) {
                let key = "service.beta.kubernetes.io/aws-load-balancer-attributes";
                annotations.insert(key.to_owned(), "deletion_protection.enabled=false".to_owned());
                case.put(Stage::Removed).await;
            }
        }
        stream::iter(&self.cases)
            .map(|case| case.lab.kubectl(&["delete", "services", "--all", "--timeout=100s"]))
            .buffer_unordered(AT_ONCE)
            .try_for_each(async |_| Ok(()))
            .await?;
        let left = within(PATIENCE, "nothing is left in AWS", || async {
            let state = comparison::aws().await?;
            let left: Vec<_> =
                self.cases.iter().flat_map(|case| comparison::of_namespace(&state, &case.lab.namespace)).collect();
            ensure!(left.is_empty(), "{left:?}");
            Ok(Some(()))
        })
        .await;
        for case in self.cases {
            match case.stopped {
                Some(why) => _ = excused.insert(case.vector, why),
                None => *driven += 1,
            }
            case.lab.end().await?;
        }
        Ok(left.err().map(|error| format!("{error:#}")).into_iter().collect())
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

    /// The bindings by namespace, but for those of Services that only stand behind others.
    async fn bindings(&self) -> Result<BTreeMap<String, Vec<Value>>> {
        let Some(case) = self.cases.first() else { return Ok(BTreeMap::new()) };
        let all: Api<TargetGroupBinding> = Api::all(case.lab.client.clone());
        let mut found = BTreeMap::<String, Vec<Value>>::new();
        for binding in all.list(&ListParams::default()).await?.items {
            let namespace = binding.metadata.namespace.clone().unwrap_or_default();
            found.entry(namespace).or_default().push(serde_json::to_value(binding)?);
        }
        Ok(found)
    }
}

impl Case {
    async fn begin(n: usize, vector: &Vector, edge: &str) -> Result<Self> {
        let lab = Scenario::begin("v", &[]).await?;
        let service = settled_in(n, &vector.service, &lab.namespace, edge);
        if service.metadata.annotations.iter().flatten().any(|(key, _)| key.contains("/actions.")) {
            for name in BACKENDS {
                apply(&lab, &vectors::backend(name, &lab.namespace)?).await?;
            }
        }
        let plain = vectors::plain(&service);
        let groups = |service: &Service| {
            let spec = nlb::service::read(service, &super::settings()).spec;
            spec.target_groups.into_iter().map(|group| (group.protocol, group.target_type)).collect::<Vec<_>>()
        };
        let spec = nlb::service::read(&service, &super::settings()).spec;
        // A load balancer that was made without security groups can never have any.
        let groupless = matches!(spec.security_groups, SecurityGroups::None { .. });
        // A target group that takes another's place is there with it for two minutes, which the model's own tests do not
        // have to sit through.
        let replaces = groupless || groups(&service) != groups(&plain);
        Ok(Self { replaces, vector: vector.name.clone(), lab, service, plain, stopped: None })
    }

    async fn put(&mut self, stage: Stage) {
        if stage != Stage::Applied && self.replaces {
            return;
        }
        let service = if stage == Stage::Removed { &self.plain } else { &self.service };
        if let Err(refused) = apply(&self.lab, service).await {
            self.stopped = Some(format!("{REFUSED}: {refused}"));
        }
    }
}

/// As `kubectl apply --server-side`: what is not in it any more goes.
async fn apply(lab: &Scenario, service: &Service) -> Result<()> {
    let name = service.metadata.name.as_deref().context("a name")?;
    let mut object = serde_json::to_value(service)?;
    object["apiVersion"] = "v1".into();
    object["kind"] = "Service".into();
    lab.api::<Service>().patch(name, &PatchParams::apply("vectors").force(), &Patch::Apply(object)).await?;
    Ok(())
}

/// The vector's Service as one of this cluster: named `web`, with ports and addresses that the API server allocates, a
/// security group that exists, and a name of its own for the load balancer.
fn settled_in(n: usize, service: &Service, namespace: &str, edge: &str) -> Service {
    let mut service = service.clone();
    service.metadata = ObjectMeta {
        name: Some("web".to_owned()),
        namespace: Some(namespace.to_owned()),
        labels: service.metadata.labels,
        annotations: service.metadata.annotations,
        ..ObjectMeta::default()
    };
    service.status = None;
    for (key, value) in service.metadata.annotations.iter_mut().flatten() {
        *value = value.replace("acm:eu-west-1:", "acm:ap-northeast-2:");
        if vectors::is(key, "security-groups") {
            *value = value.replace(SECURITY_GROUP, edge);
        }
        if vectors::is(key, "name") {
            let kept: String = value.chars().take(28).collect();
            *value = format!("{}-{n}", kept.trim_end_matches('-'));
        }
    }
    if let Some(spec) = &mut service.spec {
        spec.cluster_ip = None;
        spec.cluster_ips = None;
        spec.health_check_node_port = None;
        for port in spec.ports.iter_mut().flatten() {
            port.node_port = None;
        }
    }
    service
}

/// `registrar plan`, whatever it finds.
async fn plan(arguments: &[&str], input: &str) -> Result<Value> {
    let quoted = arguments.join(" ");
    // Exit code 1 says that there is something to report, which is in the report.
    let command = format!("{REGISTRAR} plan -o json --cluster-name lab --aws-vpc-id {VPC} {quoted} || test $? = 1");
    super::json("sh", &["-c", &command], input).await
}

/// The models of Services alone, by namespace.
async fn models(cases: &[&Case], stored: &BTreeMap<String, Value>) -> Result<BTreeMap<String, Value>> {
    let items: Vec<&Value> = cases.iter().filter_map(|case| stored.get(&case.lab.namespace)).collect();
    let mut list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    for item in list["items"].as_array_mut().into_iter().flatten() {
        item["apiVersion"] = "v1".into();
        item["kind"] = "Service".into();
    }
    let report = plan(&["--offline", "-f", "-"], &list.to_string()).await?;
    let planned = report["services"].as_array().into_iter().flatten();
    Ok(planned.map(|plan| (plan["namespace"].as_str().unwrap_or_default().to_owned(), plan.clone())).collect())
}

/// Makes a security group that nobody else has, and says its id.
pub(crate) async fn security_group(name: &str) -> Result<String> {
    let name = format!("{name}-{}", std::process::id());
    let create = ["ec2", "create-security-group", "--group-name", &name, "--description", "of a test"];
    aws(&[&create[..], &["--vpc-id", VPC, "--query", "GroupId"]].concat()).await
}

/// The registrar keeps to what AWS allows; the lab's AWS allows anything.
pub(crate) async fn lift_the_registrars_own_limits(lab: &Scenario) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(lab.client.clone(), SYSTEM);
    let mut map = maps.get("sluice-registrar-settings").await?;
    for (_, settings) in map.data.iter_mut().flatten().filter(|(name, _)| *name == "registrar.yaml") {
        let rate = "{ burst: 1000, perSecond: 1000 }";
        settings.push_str("\nrates:\n");
        for bucket in ["describe", "targets", "modify", "other", "ec2Describe", "ec2Write"] {
            settings.push_str(&format!("  {bucket}: {rate}\n"));
        }
    }
    map.metadata.managed_fields = None;
    maps.replace("sluice-registrar-settings", &kube::api::PostParams::default(), &map).await?;
    let restart = ["-n", SYSTEM, "rollout", "restart", "deployment/sluice-registrar"];
    run("kubectl", &restart, "").await?;
    let done = ["-n", SYSTEM, "rollout", "status", "deployment/sluice-registrar", "--timeout=60s"];
    run("kubectl", &done, "").await?;
    Ok(())
}
