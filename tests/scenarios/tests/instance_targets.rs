//! Nodes as targets: requests to the load balancer's name go through node ports to pods, and a node that is taken out of
//! service leaves the target group.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use scenarios::{
    Scenario, curl, names, run,
    target_group::{bound, healthy},
};
use serde_json::json;

const REQUESTS: usize = 100;

/// A Deployment of two pods, and a Service whose targets are nodes.
async fn begin(test: &str, policy: &str) -> Result<(Scenario, String, String)> {
    let lab = Scenario::begin(test, &[]).await?;
    let annotation = |key: &str| format!("service.beta.kubernetes.io/aws-load-balancer-{key}");
    let objects = [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [{"name": "echo", "image": "echo", "ports": [{"containerPort": 8080}]}],
                    "topologySpreadConstraints": [{
                        "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
                        "labelSelector": {"matchLabels": {"app": "web"}},
                    }],
                },
            }},
        }),
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "web", "annotations": {
                annotation("nlb-target-type"): "instance",
                annotation("scheme"): "internet-facing",
                annotation("healthcheck-interval"): "5",
                annotation("healthcheck-timeout"): "5",
                annotation("healthcheck-unhealthy-threshold"): "2",
                annotation("attributes"): "load_balancing.cross_zone.enabled=true",
            }},
            "spec": {
                "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb", "externalTrafficPolicy": policy,
                "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}],
            },
        }),
    ];
    lab.apply(&json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()).await?;
    lab.kubectl(&["wait", "service/web", "--for=condition=Active", "--timeout=60s"]).await?;
    lab.ready_pods("app=web", 2).await?;
    let host =
        lab.kubectl(&["get", "service/web", "-o", "jsonpath={.status.loadBalancer.ingress[0].hostname}"]).await?;
    let group = bound(&lab).await?;
    Ok((lab, host, group))
}

async fn end(lab: Scenario) -> Result<()> {
    lab.kubectl(&["delete", "service/web", "--timeout=60s"]).await?;
    lab.end().await
}

/// Instances of all nodes, by the names of these.
async fn instances() -> Result<BTreeMap<String, String>> {
    let columns = "jsonpath={range .items[*]}{.metadata.name} {.spec.providerID}{\"\\n\"}{end}";
    let text = run("kubectl", &["get", "nodes", "-o", columns], "").await?;
    let nodes = text.lines().filter_map(|line| line.split_once(' '));
    Ok(nodes.map(|(name, id)| (name.to_owned(), id.rsplit('/').next().unwrap_or_default().to_owned())).collect())
}

/// A hundred requests, all of which are answered, by each pod some.
async fn answered(lab: &Scenario, host: &str) -> Result<()> {
    let mut answers = BTreeMap::<String, usize>::new();
    for _ in 0..REQUESTS {
        let (status, body) = curl(&format!("http://{host}/")).await?;
        ensure!(status == 200, "{status}: {body}");
        *answers.entry(body.lines().next().unwrap_or_default().to_owned()).or_default() += 1;
    }
    let pods = lab.pods("app=web").await?;
    let expected: BTreeSet<String> = names(&pods).iter().map(|pod| format!("Hostname: {pod}")).collect();
    ensure!(answers.keys().cloned().collect::<BTreeSet<_>>() == expected, "{answers:?}");
    Ok(())
}

#[tokio::test]
async fn requests_reach_all_pods_through_nodes_and_nodes_out_of_service_leave() -> Result<()> {
    let (lab, host, group) = begin("nodes", "Cluster").await?;
    let nodes = instances().await?;
    let all: BTreeSet<String> = nodes.values().cloned().collect();
    healthy(&group, &all).await?;
    answered(&lab, &host).await?;

    let (node, instance) = nodes.iter().next().context("a node")?;
    let others: BTreeSet<String> = all.iter().filter(|id| *id != instance).cloned().collect();
    let excluded = "node.kubernetes.io/exclude-from-external-load-balancers";
    let ways = [
        (["label", "node", node, &format!("{excluded}=true")].map(str::to_owned).to_vec(), format!("{excluded}-")),
        (["cordon", node].map(str::to_owned).to_vec(), String::new()),
    ];
    for (out, back) in ways {
        let out: Vec<&str> = out.iter().map(String::as_str).collect();
        run("kubectl", &out, "").await?;
        healthy(&group, &others).await?;
        answered(&lab, &host).await?;
        if back.is_empty() {
            run("kubectl", &["uncordon", node], "").await?;
        } else {
            run("kubectl", &["label", "node", node, &back], "").await?;
        }
        healthy(&group, &all).await?;
    }
    answered(&lab, &host).await?;
    end(lab).await
}

#[tokio::test]
async fn with_local_traffic_only_nodes_with_pods_are_healthy_and_pods_see_the_client() -> Result<()> {
    let (lab, host, group) = begin("local", "Local").await?;
    let pods = lab.pods("app=web").await?;
    let nodes = instances().await?;
    let node = |pod: &k8s_openapi::api::core::v1::Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let with_pods = pods.iter().filter_map(node).filter_map(|name| nodes.get(&name).cloned()).collect();
    healthy(&group, &with_pods).await?;
    answered(&lab, &host).await?;
    let (_, body) = curl(&format!("http://{host}/")).await?;
    ensure!(body.contains("client_address=192.168.0.10"), "the client's own address: {body}");
    end(lab).await
}
