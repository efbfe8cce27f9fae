//! The real API server does as the scripts say that the simulated one is held to: answers to the registrar's requests, as its
//! own client sends them, and what watches tell. And what others have written to an object goes or stays as it should.

use std::{collections::BTreeMap, path::Path, pin::pin};

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Resource, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use nlb::{readiness_gate::ReadinessGate, targetgroupbinding::TargetGroupBinding};
use prometheus_client::registry::Registry;
use registrar::{kubernetes::Cluster, metrics::Metrics};
use registrar_core::{
    Settings,
    cluster::{BindingRecord, Key, Kind, PodRecord, Record, SliceRecord, Uid},
    effect::{Request, ServiceCondition},
    event::Answer,
    services::{ACTIVE, BLOCKED},
};
use scenarios::{Namespaced, Scenario, run};
use serde_json::{Value, json};
use simulation::script::{self, Lives, Step, WATCHED};

const DEFINITION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/crds/targetgroupbindings.yaml");
/// No kubelet looks after pods there.
const NOWHERE: &str = "nowhere";
/// What marks the end of what a watch has to tell.
const MARK: &str = "mark";

/// A namespace of the real API server, driven by a script.
struct Real {
    lab: Scenario,
    cluster: Cluster,
    lives: Lives,
    /// Up to where watches of each kind have been heard.
    heard: BTreeMap<Kind, String>,
}

impl Real {
    async fn begin() -> Result<Self> {
        let lab = Scenario::begin("script", &[]).await?;
        let cluster = cluster(&lab);
        let mut heard = BTreeMap::new();
        for kind in WATCHED {
            let revision = match kind {
                Kind::Pod => revision(&lab.api::<Pod>()).await?,
                Kind::Binding => revision(&lab.api::<TargetGroupBinding>()).await?,
                _ => revision(&lab.api::<EndpointSlice>()).await?,
            };
            heard.insert(kind, revision);
        }
        Ok(Self { lab, cluster, lives: Lives::default(), heard })
    }

    async fn perform(&mut self, step: &Step) -> Result<String> {
        match step {
            Step::CreatePod(name, gates) => {
                let pod = pod(name, gates)?;
                self.create(&pod).await
            }
            Step::CreateBinding(name) => {
                let binding = TargetGroupBinding::new(name, script::binding_spec(false));
                self.create(&binding).await
            }
            Step::CreateSlice(name, service, pods) => {
                let slice = self.slice(name, service, pods).await?;
                self.create(&slice).await
            }
            Step::Remove(Kind::Binding, name) => {
                self.lab.api::<TargetGroupBinding>().delete(name, &DeleteParams::default()).await?;
                Ok("done".to_owned())
            }
            Step::Remove(_, name) => {
                self.lab.api::<Pod>().delete(name, &DeleteParams::default().grace_period(0)).await?;
                Ok("done".to_owned())
            }
            Step::Ask(ask) => {
                let request = script::request(ask, &self.lab.namespace, &self.lives)?;
                Ok(script::answered(&self.cluster.ask(&request).await, &self.lives))
            }
            Step::Watch => {
                let mut changes = Vec::new();
                for kind in WATCHED {
                    changes.extend(match kind {
                        Kind::Pod => {
                            let read = |pod: &Pod| PodRecord::of(pod, "").map(Record::Pod);
                            self.changes(kind, &pod(MARK, &[])?, read).await?
                        }
                        Kind::Binding => {
                            let read = |binding: &_| BindingRecord::of(binding).map(Record::Binding);
                            let mark = TargetGroupBinding::new(MARK, script::binding_spec(false));
                            self.changes(kind, &mark, read).await?
                        }
                        _ => {
                            let read = |slice: &_| SliceRecord::of(slice).map(Record::Slice);
                            self.changes(kind, &slice(MARK, MARK, &[])?, read).await?
                        }
                    });
                }
                Ok(script::told(&changes))
            }
        }
    }

    async fn create<K: Namespaced>(&mut self, object: &K) -> Result<String> {
        let created = self.lab.api::<K>().create(&PostParams::default(), object).await?;
        Ok(self.lives.born(&created.name_any(), uid(&created)))
    }

    async fn slice(&self, name: &str, service: &str, pods: &[String]) -> Result<EndpointSlice> {
        let mut endpoints = Vec::new();
        for (index, pod) in pods.iter().enumerate() {
            let found = self.lab.api::<Pod>().get(pod).await?;
            endpoints.push(json!({
                "addresses": [script::address(index)], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "name": pod, "uid": found.uid(), "namespace": self.lab.namespace},
            }));
        }
        slice(name, service, &endpoints)
    }

    /// What a watch tells from where it was heard last until a mark that is made now.
    async fn changes<K: Namespaced>(
        &mut self,
        kind: Kind,
        mark: &K,
        read: impl Fn(&K) -> Option<Record>,
    ) -> Result<Vec<String>> {
        let api = self.lab.api::<K>();
        api.create(&PostParams::default(), mark).await?;
        api.delete(MARK, &DeleteParams::default().grace_period(0)).await?;
        let from = self.heard.get(&kind).context("where the watch was")?.clone();
        let mut events = pin!(api.watch(&WatchParams::default().timeout(60), &from).await?);
        let mut changes = Vec::new();
        while let Some(event) = events.try_next().await? {
            let (object, gone) = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
                WatchEvent::Deleted(object) => (object, true),
                other => anyhow::bail!("{other:?}"),
            };
            if object.name_any() != MARK {
                let record = read(&object).filter(|_| !gone);
                changes.push(script::changed(&object.name_any(), &uid(&object), record.as_ref(), &self.lives));
            } else if gone {
                self.heard.insert(kind, object.resource_version().context("its revision")?);
                return Ok(changes);
            }
        }
        anyhow::bail!("the watch ended before the mark, after {changes:?}")
    }
}

fn cluster(lab: &Scenario) -> Cluster {
    let metrics = Metrics::register(&mut Registry::default());
    Cluster::new(lab.client.clone(), "script".to_owned(), Settings::default(), metrics)
}

async fn define_bindings() -> Result<()> {
    ensure!(Path::new(DEFINITION).exists(), "{DEFINITION}");
    run("kubectl", &["apply", "--server-side", "-f", DEFINITION], "").await?;
    let name = "crd/targetgroupbindings.elbv2.k8s.aws";
    run("kubectl", &["wait", name, "--for=condition=Established", "--timeout=60s"], "").await.map(drop)
}

async fn revision<K: Namespaced>(api: &Api<K>) -> Result<String> {
    api.list(&ListParams::default()).await?.metadata.resource_version.context("a list has a revision")
}

fn uid<K: Resource>(object: &K) -> Uid {
    Uid(object.uid().unwrap_or_default().as_str().into())
}

fn pod(name: &str, gates: &[String]) -> Result<Pod> {
    let gates: Vec<_> = gates
        .iter()
        .map(|gate| Ok(json!({"conditionType": ReadinessGate::of_binding(gate)?.to_string()})))
        .collect::<Result<_>>()?;
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"nodeName": NOWHERE, "readinessGates": gates, "containers": [{"name": "web", "image": "echo"}]},
    }))?)
}

fn slice(name: &str, service: &str, endpoints: &[Value]) -> Result<EndpointSlice> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": endpoints, "ports": [],
    }))?)
}

#[tokio::test]
async fn real_api_server_does_as_the_scripts_say() -> Result<()> {
    define_bindings().await?;
    let mut wrong = Vec::new();
    for script in script::parse(script::SCRIPTS)? {
        let mut real = Real::begin().await?;
        for line in &script.lines {
            let seen = real.perform(&line.step).await.with_context(|| format!("{}: {}", script.name, line.text))?;
            if seen != line.expected {
                wrong.push(format!("{}: {}\n  expected {}\n  and saw  {seen}", script.name, line.text, line.expected));
            }
        }
        real.lab.end().await?;
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[tokio::test]
async fn binding_that_was_taken_over_loses_what_the_service_does_not_ask_for_and_nothing_else() -> Result<()> {
    define_bindings().await?;
    let lab = Scenario::begin("binding", &[]).await?;
    let bindings = lab.api::<TargetGroupBinding>();
    let wanted = json!({
        "serviceRef": {"name": "web", "port": 80}, "targetGroupARN": "arn:group", "targetType": "instance",
    });
    let also = json!({
        "networking": {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 80}]}]},
        "nodeSelector": {"matchLabels": {"pool": "edge"}}, "multiClusterTargetGroup": true,
    });
    let kept = json!({"vpcID": "vpc-0123abcd", "assumeRoleExternalId": "id"});
    let stored = merged([&wanted, &also, &kept]);
    bindings.create(&PostParams::default(), &TargetGroupBinding::new("web", serde_json::from_value(stored)?)).await?;
    let request = Request::ApplyBinding {
        binding: Key::new(&lab.namespace, "web"),
        labels: BTreeMap::new(),
        spec: Box::new(serde_json::from_value(wanted.clone())?),
    };
    ensure!(cluster(&lab).ask(&request).await == Ok(Answer::Done));
    let found = serde_json::to_value(&bindings.get("web").await?.spec)?;
    ensure!(found == merged([&wanted, &kept]), "{found}");
    lab.end().await
}

#[tokio::test]
async fn service_that_is_given_up_keeps_the_conditions_of_others_only() -> Result<()> {
    let lab = Scenario::begin("service", &[]).await?;
    let services = lab.api::<Service>();
    let service = json!({
        "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/none", "ports": [
            {"name": "web", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"},
        ]},
    });
    let service: Service = serde_json::from_value(service)?;
    let uid = uid(&services.create(&PostParams::default(), &service).await?);
    let theirs = json!({"status": {"conditions": [{
        "type": "theirs", "status": "True", "reason": "Reason", "message": "", "lastTransitionTime": "2024-01-01T00:00:00Z",
    }]}});
    services.patch_status("web", &PatchParams::default(), &Patch::Merge(&theirs)).await?;
    let condition = |condition_type| ServiceCondition {
        condition_type,
        status: true,
        reason: "Reason".to_owned(),
        message: String::new(),
    };
    let ports = json!([{"port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]);
    let cases = [
        (
            Some("lb.example".to_owned()),
            vec![condition(ACTIVE), condition(BLOCKED)],
            json!({"ingress": [{"hostname": "lb.example", "ports": ports}]}),
            vec![ACTIVE, BLOCKED, "theirs"],
        ),
        (None, Vec::new(), json!({}), vec!["theirs"]),
        (None, Vec::new(), json!({}), vec!["theirs"]),
    ];
    let cluster = cluster(&lab);
    for (hostname, conditions, balancer, types) in cases {
        let service = Key::new(&lab.namespace, "web");
        let request = Request::PatchServiceStatus { service, uid: uid.clone(), hostname, conditions };
        ensure!(cluster.ask(&request).await == Ok(Answer::Done));
        let status = services.get("web").await?.status.context("a status")?;
        let mut found: Vec<_> = status.conditions.iter().flatten().map(|found| found.type_.as_str()).collect();
        found.sort_unstable();
        ensure!(found == types, "{found:?}");
        let found = serde_json::to_value(&status.load_balancer)?;
        ensure!(found == balancer, "{found}");
    }
    lab.end().await
}

fn merged<const N: usize>(objects: [&Value; N]) -> Value {
    objects
        .into_iter()
        .filter_map(Value::as_object)
        .flatten()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}
