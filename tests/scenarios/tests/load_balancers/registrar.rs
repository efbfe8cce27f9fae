//! The lab's registrar, and its webhook, with other settings; and plans.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Pod},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ListParams, PostParams},
};
use nlb::settings::ModelSettings;
use scenarios::{eventually, run};
use serde_json::{Value, json};

const SYSTEM: &str = "sluice-system";
const NAME: &str = "sluice-registrar";
const WEBHOOK: &str = "sluice-webhook";
/// Of each, as the chart has it.
const REPLICAS: usize = 2;
/// The VPC of the lab.
pub(crate) const VPC: &str = "vpc-0a1b2c3d4e5f60718";
/// The registrar that `plan` is asked of.
const PROGRAM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/debug/registrar");

/// The settings of the lab's registrar.
pub(crate) struct Registrar {
    client: Client,
    /// As they were: of the model, and of the registrar alone.
    model: String,
    own: Value,
}

impl Registrar {
    /// It keeps to what AWS allows; the lab's AWS allows anything, so that it may do so too, from now on.
    pub(crate) async fn begin(client: &Client) -> Result<Self> {
        let mut registrar = Self { client: client.clone(), model: String::new(), own: Value::Null };
        registrar.model = registrar.file("sluice-settings", "settings.yaml").await?;
        let own = registrar.file("sluice-registrar-settings", "registrar.yaml").await?;
        registrar.own = serde_saphyr::from_str(&own)?;
        let buckets = ["describe", "targets", "modify", "other", "ec2Describe", "ec2Write"];
        registrar.own["rates"] =
            buckets.iter().map(|&name| (name, json!({"burst": 1000, "perSecond": 1000}))).collect();
        registrar.configure(&super::settings()).await?;
        Ok(registrar)
    }

    /// Runs it with these settings of the model.
    pub(crate) async fn configure(&self, settings: &ModelSettings) -> Result<()> {
        let mut own = self.own.clone();
        if settings.cluster_name != super::settings().cluster_name {
            // The subnets of the world are tagged as those of the cluster `lab`.
            own["loadBalancers"]["subnetsClusterTagCheck"] = false.into();
        }
        // One of each is enough for a moment, and is there sooner.
        self.run_with(&serde_json::to_string(settings)?, &own, 1).await
    }

    /// Puts back what it had.
    pub(crate) async fn restore(&self) -> Result<()> {
        self.run_with(&self.model, &self.own, REPLICAS).await
    }

    async fn run_with(&self, model: &str, own: &Value, replicas: usize) -> Result<()> {
        self.write("sluice-settings", "settings.yaml", model).await?;
        self.write("sluice-registrar-settings", "registrar.yaml", &own.to_string()).await?;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM);
        // The webhook reads the same settings of the model.
        let labelled = ListParams::default().labels(&format!("app.kubernetes.io/name in ({NAME},{WEBHOOK})"));
        let old: BTreeSet<String> = pods.list(&labelled).await?.iter().map(Pod::name_any).collect();
        let deployments = [NAME, WEBHOOK].map(|name| format!("deployment/{name}"));
        let replicas = format!("--replicas={replicas}");
        run("kubectl", &["-n", SYSTEM, "scale", &replicas, &deployments[0], &deployments[1]], "").await?;
        run("kubectl", &["-n", SYSTEM, "rollout", "restart", &deployments[0]], "").await?;
        // A webhook that takes leave of its clients would be waited for.
        let webhooks = format!("app.kubernetes.io/name={WEBHOOK}");
        let soon = ["--grace-period=1", "--wait=false"];
        run("kubectl", &[&["-n", SYSTEM, "delete", "pods", "-l", &webhooks], &soon[..]].concat(), "").await?;
        let ready = |deployment: &String| {
            let arguments = ["-n", SYSTEM, "rollout", "status", deployment, "--timeout=60s"].map(str::to_owned);
            async move { run("kubectl", &arguments.each_ref().map(String::as_str), "").await }
        };
        futures::try_join!(ready(&deployments[0]), ready(&deployments[1]))?;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), SYSTEM);
        eventually("only new registrars and webhooks are there, and one leads", || async {
            let holder = leases.get(NAME).await?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
            let leads = !holder.is_empty() && !old.iter().any(|pod| holder.contains(pod.as_str()));
            let there = pods.list(&labelled).await?.iter().any(|pod| old.contains(&pod.name_any()));
            Ok((leads && !there).then_some(()))
        })
        .await
    }

    async fn file(&self, map: &str, name: &str) -> Result<String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), SYSTEM);
        let data = maps.get(map).await?.data.unwrap_or_default();
        data.get(name).cloned().with_context(|| format!("{name} in ConfigMap {map}"))
    }

    async fn write(&self, map: &str, name: &str, text: &str) -> Result<()> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), SYSTEM);
        let mut map = maps.get(map).await?;
        map.data.get_or_insert_default().insert(name.to_owned(), text.to_owned());
        map.metadata.managed_fields = None;
        maps.replace(&map.name_any(), &PostParams::default(), &map).await?;
        Ok(())
    }
}

/// `registrar plan` with settings of the model, whatever it finds.
pub(crate) async fn plan(settings: &ModelSettings, arguments: &[&str], input: &str) -> Result<Value> {
    let file = Settings::write(settings)?;
    let quoted = arguments.join(" ");
    let check = settings.cluster_name == super::settings().cluster_name;
    // Exit code 1 says that there is something to report, which is in the report.
    let command = format!(
        "{PROGRAM} plan -o json --settings {} --feature-gates SubnetsClusterTagCheck={check} --aws-vpc-id {VPC} {quoted} || \
         test $? = 1",
        file.0.display()
    );
    super::json("sh", &["-c", &command], input).await
}

/// The models of Services alone, by namespace.
pub(crate) async fn models(settings: &ModelSettings, services: &[&Value]) -> Result<BTreeMap<String, Value>> {
    let mut list = json!({"apiVersion": "v1", "kind": "List", "items": services});
    for item in list["items"].as_array_mut().into_iter().flatten() {
        item["apiVersion"] = "v1".into();
        item["kind"] = "Service".into();
    }
    let report = plan(settings, &["--offline", "-f", "-"], &list.to_string()).await?;
    let planned = report["services"].as_array().into_iter().flatten();
    Ok(planned.map(|plan| (plan["namespace"].as_str().unwrap_or_default().to_owned(), plan.clone())).collect())
}

/// A file with settings, as long as it is needed.
struct Settings(PathBuf);

impl Settings {
    fn write(settings: &ModelSettings) -> Result<Self> {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("settings-{}-{}.yaml", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        ensure!(!path.exists(), "{} is there", path.display());
        fs::write(&path, serde_json::to_string(settings)?)?;
        Ok(Self(path))
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
