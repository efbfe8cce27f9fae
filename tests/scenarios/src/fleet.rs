//! Thousands of pods that are objects only: nobody runs them, and one listener answers for all of them.
//!
//! For a lab without nodes, whose subnets are those that `.ci/bench` makes. Nodes are objects with a heartbeat; pods get
//! their status from here, as from a kubelet; endpoint slices are made by the endpoint controller.

use std::{net::Ipv4Addr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Node, Pod, Service, ServiceAccount},
};
use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use serde_json::{Value, json};
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};

use crate::{Namespaced, eventually, query::Elb, run};

/// Zones, their letters, and the second half of their private subnets' base address.
const ZONES: [(&str, u16); 3] = [("a", 32), ("b", 64), ("c", 96)];
/// Requests under way at once.
const AT_ONCE: usize = 48;
/// Bindings of one namespace.
const OF_NAMESPACE: usize = 100;
const DEFINITION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/crds/targetgroupbindings.yaml");

/// A lab full of objects.
pub struct Fleet {
    /// A client with every right.
    pub client: Client,
    /// ARNs of the target groups, by the number of the binding.
    pub groups: Vec<String>,
    /// Pods so far; each has the address of its number.
    pods: usize,
    _heartbeats: JoinSet<()>,
    _answers: JoinSet<()>,
}

/// A pod by its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the Service.
    pub service: usize,
    /// The number of the pod among all.
    pub pod: usize,
}

impl Place {
    /// The pod's address.
    pub fn address(self) -> String {
        let (zone, number) = (ZONES[self.pod % ZONES.len()], 256 + self.pod / ZONES.len());
        format!("192.168.{}.{}", usize::from(zone.1) + number / 256, number % 256)
    }

    fn name(self) -> String {
        format!("web-{}-{}", self.service, self.pod)
    }
}

/// The namespace of a Service.
pub fn namespace(service: usize) -> String {
    format!("fleet-{}", service / OF_NAMESPACE)
}

impl Fleet {
    /// Nodes, namespaces for so many Services, and the definition of bindings.
    pub async fn begin(services: usize) -> Result<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        ensure!(
            std::env::var("KUBECONFIG").is_ok_and(|path| path.starts_with("/run/lab/")),
            "this runs inside the lab only: make bench"
        );
        let client = Client::try_default().await.context("the lab's API")?;
        run("kubectl", &["apply", "--server-side", "-f", DEFINITION], "").await?;
        let mut heartbeats = JoinSet::new();
        for (zone, base) in ZONES {
            node(&client, zone, base).await?;
            heartbeats.spawn(heartbeat(client.clone(), format!("fleet-{zone}")));
        }
        let mut answers = JoinSet::new();
        let listener = daemon::socket::listen((Ipv4Addr::UNSPECIFIED, 8080).into()).context("answer for the pods")?;
        answers.spawn(async move {
            loop {
                // That the connection is taken is all that a health check of TCP wants.
                let _taken = listener.accept().await;
            }
        });
        for number in 0..services.div_ceil(OF_NAMESPACE) {
            let name = namespace(number * OF_NAMESPACE);
            let object: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
            Api::all(client.clone()).create(&PostParams::default(), &object).await?;
            let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &name);
            eventually("the namespace's service account", || async {
                Ok(accounts.get_opt("default").await?.is_some().then_some(()))
            })
            .await?;
        }
        Ok(Self { client, groups: Vec::new(), pods: 0, _heartbeats: heartbeats, _answers: answers })
    }

    /// Objects in the namespace of a Service.
    pub fn api<K: Namespaced>(&self, service: usize) -> Api<K> {
        Api::namespaced(self.client.clone(), &namespace(service))
    }

    /// Target groups for as many bindings.
    pub async fn target_groups(&mut self, count: usize) -> Result<()> {
        self.groups = Elb::new()?.target_groups("fleet", count).await?;
        Ok(())
    }

    /// Pods of a Service; those of bindings have a gate. Their containers are ready or not.
    pub async fn pods(&mut self, service: usize, count: usize, gated: bool, ready: bool) -> Result<Vec<Place>> {
        let places: Vec<_> = (self.pods..self.pods + count).map(|pod| Place { service, pod }).collect();
        self.pods += count;
        self.create_pods(&places, gated, ready).await?;
        Ok(places)
    }

    /// So many pods of each of so many Services.
    pub async fn pods_of_each(&mut self, services: usize, count: usize, gated: bool) -> Result<Vec<Place>> {
        let first = self.pods;
        self.pods += services * count;
        let places: Vec<_> =
            (0..services * count).map(|number| Place { service: number / count, pod: first + number }).collect();
        for (number, chunk) in places.chunks(1000).enumerate() {
            self.create_pods(chunk, gated, true).await?;
            println!("  {} of {} pods", (number * 1000 + chunk.len()), places.len());
        }
        Ok(places)
    }

    async fn create_pods(&self, places: &[Place], gated: bool, ready: bool) -> Result<()> {
        let created = places.iter().map(|place| async move {
            let object: Pod = serde_json::from_value(pod(*place, gated))?;
            self.api::<Pod>(place.service).create(&PostParams::default(), &object).await?;
            self.set_containers_ready(*place, ready).await
        });
        stream::iter(created).buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await
    }

    /// Reads all of these pods at once: then there are as many connections as kubelets would keep open for them.
    pub async fn connect(&self, places: &[Place]) -> Result<()> {
        let read = places.iter().map(|place| async move {
            self.api::<Pod>(place.service).get(&place.name()).await?;
            anyhow::Ok(())
        });
        futures::future::try_join_all(read).await.map(drop)
    }

    /// Deletes a pod at once.
    pub async fn delete(&self, place: Place) -> Result<()> {
        let pods = self.api::<Pod>(place.service);
        pods.delete(&place.name(), &DeleteParams::default().grace_period(0)).await?;
        Ok(())
    }

    /// Writes a pod's status, as its kubelet would when its containers are ready, or are not.
    pub async fn set_containers_ready(&self, place: Place, ready: bool) -> Result<()> {
        let conditions = [condition("PodScheduled", true), condition("Initialized", true)];
        let conditions = conditions.into_iter().chain([condition("ContainersReady", ready)]);
        let address = place.address();
        let status = json!({
            "phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "startTime": Timestamp::now().to_string(),
            "conditions": conditions.collect::<Vec<_>>(),
            "containerStatuses": [{
                "name": "web", "image": "registry.example/web:1", "imageID": "sha256:0", "ready": ready, "restartCount": 0,
                "state": {"running": {"startedAt": Timestamp::now().to_string()}},
            }],
        });
        self.patch_status(place, &status).await
    }

    /// Writes the condition `Ready` of pods, as their kubelets do once their gates are open.
    pub async fn set_ready(&self, places: &[Place]) -> Result<()> {
        let patched = places.iter().map(|place| self.set_condition(*place, "Ready"));
        stream::iter(patched).buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await
    }

    /// Writes a condition of a pod: that it is met.
    pub async fn set_condition(&self, place: Place, name: &str) -> Result<()> {
        self.patch_status(place, &json!({"conditions": [condition(name, true)]})).await
    }

    async fn patch_status(&self, place: Place, status: &Value) -> Result<()> {
        let patch = Patch::Strategic(json!({"status": status}));
        let pods = self.api::<Pod>(place.service);
        pods.patch_status(&place.name(), &PatchParams::default(), &patch)
            .await
            .with_context(|| format!("status of pod {}", place.name()))
            .map(drop)
    }

    /// A Service and a binding of it for each target group.
    pub async fn bindings(&self) -> Result<()> {
        let kind = ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("elbv2.k8s.aws", "v1beta1", "TargetGroupBinding"),
            "targetgroupbindings",
        );
        let kind = &kind;
        let created = self.groups.iter().enumerate().map(|(number, arn)| async move {
            let name = format!("web-{number}");
            let service = json!({
                "metadata": {"name": name},
                "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
            });
            self.create::<Service>(number, service).await?;
            let binding = json!({
                "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding", "metadata": {"name": name},
                "spec": {"targetGroupARN": arn, "targetType": "ip", "serviceRef": {"name": name, "port": 80}},
            });
            let bindings: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &namespace(number), kind);
            bindings.create(&PostParams::default(), &serde_json::from_value(binding)?).await?;
            anyhow::Ok(())
        });
        stream::iter(created).buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await
    }

    /// Services with load balancers.
    pub async fn services(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        let created = numbers.map(|number| async move {
            let name = format!("web-{number}");
            let service = json!({
                "metadata": {"name": name, "annotations": {"service.beta.kubernetes.io/aws-load-balancer-nlb-target-type": "ip"}},
                "spec": {
                    "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb", "selector": {"app": name},
                    "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80, "targetPort": 8080}],
                },
            });
            self.create::<Service>(number, service).await
        });
        stream::iter(created).buffer_unordered(AT_ONCE).try_for_each(|()| async { Ok(()) }).await
    }

    async fn create<K: Namespaced>(&self, service: usize, object: Value) -> Result<()> {
        let object: K = serde_json::from_value(object)?;
        self.api::<K>(service).create(&PostParams::default(), &object).await?;
        Ok(())
    }

    /// How many pods there are whose gates are open.
    pub async fn open_gates(&self) -> Result<usize> {
        let pods = Api::<Pod>::all(self.client.clone()).list(&ListParams::default().match_any()).await?;
        let open = |pod: &&Pod| {
            let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|conditions| {
                conditions.iter().any(|c| c.type_.starts_with("target-health.") && c.status == "True")
            })
        };
        Ok(pods.items.iter().filter(open).count())
    }

    /// The versions of all pods: they change with every write.
    pub async fn versions(&self) -> Result<Vec<String>> {
        let pods = Api::<Pod>::all(self.client.clone()).list_metadata(&ListParams::default()).await?;
        let mut versions: Vec<_> = pods.items.into_iter().filter_map(|pod| pod.metadata.resource_version).collect();
        versions.sort_unstable();
        Ok(versions)
    }
}

async fn node(client: &Client, zone: &str, base: u16) -> Result<()> {
    let name = format!("fleet-{zone}");
    let object: Node = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {
            "topology.kubernetes.io/zone": format!("ap-northeast-2{zone}"), "kubernetes.io/hostname": name,
        }},
        "spec": {"providerID": format!("aws:///ap-northeast-2{zone}/i-0{zone}0000000000000{zone}1")},
    }))?;
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.create(&PostParams::default(), &object).await?;
    let status = json!({"status": {
        "addresses": [{"type": "InternalIP", "address": format!("192.168.{base}.10")}],
        "capacity": {"cpu": "1000", "memory": "1000Gi", "pods": "10000"},
        "allocatable": {"cpu": "1000", "memory": "1000Gi", "pods": "10000"},
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": Timestamp::now().to_string(),
            "lastTransitionTime": Timestamp::now().to_string(),
        }],
    }});
    nodes.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(())
}

/// Renews a node's lease until the end.
async fn heartbeat(client: Client, name: String) {
    let leases: Api<Lease> = Api::namespaced(client, "kube-node-lease");
    let mut ticks = interval(Duration::from_secs(5));
    loop {
        ticks.tick().await;
        let now = Timestamp::now();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": format!("{now:.6}")},
        });
        let parameters = PatchParams::apply("fleet").force();
        if let Err(error) = leases.patch(&name, &parameters, &Patch::Apply(lease)).await {
            eprintln!("heartbeat of {name}: {error}");
            sleep(Duration::from_millis(200)).await;
        }
    }
}

fn condition(name: &str, met: bool) -> Value {
    let now = Timestamp::now().to_string();
    json!({"type": name, "status": if met { "True" } else { "False" }, "lastTransitionTime": now})
}

/// A pod as a Deployment makes it.
fn pod(place: Place, gated: bool) -> Value {
    let (zone, _) = ZONES[place.pod % ZONES.len()];
    let app = format!("web-{}", place.service);
    let conditions =
        if gated { json!([{"conditionType": format!("target-health.elbv2.k8s.aws/{app}")}]) } else { json!([]) };
    json!({
        "metadata": {
            "name": place.name(),
            "labels": {"app": app, "pod-template-hash": "789f95d8d8", "app.kubernetes.io/part-of": "shop", "team": "payments"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"},
        },
        "spec": {
            "nodeName": format!("fleet-{zone}"),
            "readinessGates": conditions,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "web", "image": "registry.example/web:1", "ports": [{"name": "http", "containerPort": 8080}],
                "env": [
                    {"name": "LOG_LEVEL", "value": "info"},
                    {"name": "DATABASE_URL", "value": "postgres://shop.payments.svc.cluster.local:5432/shop"},
                    {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                ],
                "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "64Mi"}},
                "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 5},
            }],
        },
    })
}
