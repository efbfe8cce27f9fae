//! Services with IPv6: clients of both families reach them at a dualstack load balancer, whose targets have IPv6 addresses,
//! or IPv4 addresses where the Service has no IPv6 of its own.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use scenarios::{
    Scenario, curl_with, eventually, names,
    target_group::{aws, bound, healthy, states},
};
use serde_json::{Value, json};

const GATES: (&str, &str) = ("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled");
/// For each family of the clients.
const REQUESTS: usize = 50;

/// A Service of these families, and a Deployment of two pods behind it.
async fn begin(test: &str, target_type: &str, families: &Value) -> Result<(Scenario, String)> {
    let lab = Scenario::begin(test, &[GATES]).await?;
    let annotation = |key: &str| format!("service.beta.kubernetes.io/aws-load-balancer-{key}");
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "annotations": {
            annotation("nlb-target-type"): target_type,
            annotation("scheme"): "internet-facing",
            annotation("ip-address-type"): "dualstack",
            annotation("healthcheck-interval"): "5",
            annotation("healthcheck-timeout"): "5",
            annotation("attributes"): "load_balancing.cross_zone.enabled=true",
        }},
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb", "ipFamilies": families,
            "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}],
        },
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "echo", "image": "echo", "ports": [{"containerPort": 8080}]}]},
        }},
    });
    lab.apply(&service.to_string()).await?;
    lab.kubectl(&["wait", "service/web", "--for=condition=Active", "--timeout=60s"]).await?;
    lab.apply(&deployment.to_string()).await?;
    lab.ready_pods("app=web", 2).await?;
    let host =
        lab.kubectl(&["get", "service/web", "-o", "jsonpath={.status.loadBalancer.ingress[0].hostname}"]).await?;
    Ok((lab, host))
}

async fn end(lab: Scenario) -> Result<()> {
    lab.kubectl(&["delete", "service/web", "--timeout=60s"]).await?;
    lab.end().await
}

/// The addresses of a family that pods have.
fn addresses(pods: &[Pod], is_of_family: fn(&str) -> bool) -> BTreeSet<String> {
    let all = pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ips.as_ref()).flatten();
    all.map(|ip| ip.ip.clone()).filter(|ip| is_of_family(ip)).collect()
}

/// Requests over IPv4 and over IPv6 that are all answered, by each of these pods some. What the last one saw as its client,
/// for each family.
async fn answered(host: &str, pods: &[String]) -> Result<[String; 2]> {
    let expected: BTreeSet<String> = pods.iter().map(|pod| format!("Hostname: {pod}")).collect();
    let mut clients = [String::new(), String::new()];
    for (family, client) in ["-4", "-6"].into_iter().zip(&mut clients) {
        let mut answers = BTreeSet::new();
        for _ in 0..REQUESTS {
            let (status, body) = curl_with(&[family], &format!("http://{host}/")).await?;
            ensure!(status == 200, "{family}: {status}: {body}");
            answers.insert(body.lines().next().unwrap_or_default().to_owned());
            let seen = body.lines().find_map(|line| line.trim().strip_prefix("client_address="));
            seen.context("the client's address")?.clone_into(client);
        }
        ensure!(answers == expected, "{family}: {answers:?}");
    }
    Ok(clients)
}

#[tokio::test]
async fn pods_of_an_ipv6_service_are_targets_by_their_ipv6_addresses_behind_gates_and_drain() -> Result<()> {
    let (lab, host) = begin("six", "ip", &json!(["IPv6"])).await?;
    let group = bound(&lab).await?;
    let pods = lab.pods("app=web").await?;
    ensure!(pods.iter().all(|pod| pod.spec.as_ref().is_some_and(|spec| spec.readiness_gates.is_some())), "no gates");
    healthy(&group, &addresses(&pods, |ip| ip.contains(':'))).await?;
    let [over_ipv4, over_ipv6] = answered(&host, &names(&pods)).await?;
    ensure!(over_ipv4.contains(':') && over_ipv6.contains(':'), "{over_ipv4}, {over_ipv6}: of the pods' own family");
    lab.kubectl(&["scale", "deployment/web", "--replicas=1"]).await?;
    let left = eventually("one pod is left", || async {
        let pods = lab.pods("app=web").await?;
        Ok((pods.len() == 1).then_some(pods))
    })
    .await?;
    healthy(&group, &addresses(&left, |ip| ip.contains(':'))).await?;
    answered(&host, &names(&left)).await?;
    end(lab).await
}

#[tokio::test]
async fn ipv4_pods_behind_a_dualstack_load_balancer_answer_clients_of_both_families() -> Result<()> {
    let (lab, host) = begin("four", "ip", &json!(["IPv4"])).await?;
    let pods = lab.pods("app=web").await?;
    healthy(&bound(&lab).await?, &addresses(&pods, |ip| ip.contains('.'))).await?;
    let clients = answered(&host, &names(&pods)).await?;
    ensure!(clients.iter().all(|client| client.contains('.')), "{clients:?}: of the pods' own family");
    // It can be had without IPv6, and with it again: the name stays.
    let key = "service.beta.kubernetes.io/aws-load-balancer-ip-address-type";
    for (annotation, families) in [(format!("{key}-"), "ipv4"), (format!("{key}=dualstack"), "dualstack")] {
        lab.kubectl(&["annotate", "service/web", &annotation]).await?;
        eventually(&format!("the load balancer is {families}"), || async {
            let query = format!("LoadBalancers[?DNSName=='{host}'].IpAddressType | [0]");
            Ok((aws(&["elbv2", "describe-load-balancers", "--query", &query]).await? == families).then_some(()))
        })
        .await?;
    }
    eventually("IPv6 answers again", || async { Ok(answered(&host, &names(&pods)).await.ok()) }).await?;
    end(lab).await
}

#[tokio::test]
async fn nodes_are_targets_of_an_ipv6_service_at_the_node_ports_of_their_ipv6_addresses() -> Result<()> {
    let (lab, host) = begin("sixnodes", "instance", &json!(["IPv6"])).await?;
    let group = bound(&lab).await?;
    eventually("all nodes are healthy", || async {
        let states = states(&group).await?;
        Ok((states.len() == 3 && states.iter().all(|(_, state)| state == "healthy")).then_some(()))
    })
    .await?;
    answered(&host, &names(&lab.pods("app=web").await?)).await?;
    end(lab).await
}
