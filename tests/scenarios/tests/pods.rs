//! Pods of the lab's nodes, tried in the lab.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::api::{core::v1::Event, discovery::v1::EndpointSlice};
use kube::{ResourceExt as _, api::ListParams};
use scenarios::{
    PATIENCE, Scenario, address, condition, curl, eventually, is_ready, names, reference, restarts, run, within,
};
use serde_json::{Value, json};

/// A pod of the built-in echo server, changed as the test needs it.
fn pod_of(name: &str, image: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "app", "image": image, "ports": [{"containerPort": 8080}]}],
        },
    });
    change(&mut pod);
    pod.to_string()
}

fn http_probe(path: &str) -> Value {
    json!({"httpGet": {"path": path, "port": 8080}, "periodSeconds": 1, "failureThreshold": 1})
}

fn deployment(replicas: u32) -> String {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "echo"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "echo"}},
            "template": {
                "metadata": {"labels": {"app": "echo"}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "echo", "image": "echoserver:1.10", "ports": [{"containerPort": 8080}],
                        "readinessProbe": http_probe("/"),
                    }],
                },
            },
        },
    })
    .to_string()
}

#[tokio::test]
async fn pods_of_a_deployment_get_addresses_in_three_subnets_and_answer_with_their_names() -> Result<()> {
    let lab = Scenario::begin("three", &[]).await?;
    lab.apply(&deployment(3)).await?;
    let pods = lab.ready_pods("app=echo", 3).await?;
    let subnets: BTreeSet<_> = pods.iter().filter_map(|p| Some(address(p).rsplit_once('.')?.0.to_owned())).collect();
    ensure!(subnets.len() == 3, "addresses in {subnets:?}");
    for pod in &pods {
        let (status, body) = curl(&format!("http://{}:8080/hello", address(pod))).await?;
        ensure!(status == 200, "{}: {status}", reference(pod));
        ensure!(body.starts_with(&format!("Hostname: {}\n", pod.name_any())), "{}: {body}", reference(pod));
        ensure!(body.contains("real path=/hello"), "{body}");
    }
    lab.end().await
}

#[tokio::test]
async fn pod_with_an_unmet_readiness_gate_turns_ready_when_the_condition_is_patched() -> Result<()> {
    let lab = Scenario::begin("gate", &[]).await?;
    let gate = "example.com/gate";
    lab.apply(&pod_of("gated", "echo", |pod| pod["spec"]["readinessGates"] = json!([{"conditionType": gate}]))).await?;
    let containers_ready = |pod: &_| condition(pod, "ContainersReady").is_some_and(|c| c.status == "True");
    let gated = lab.pod_when("gated", "containers ready", containers_ready).await?;
    ensure!(!is_ready(&gated), "ready although its gate is closed");
    let reason = condition(&gated, "Ready").and_then(|c| c.reason.clone());
    ensure!(reason.as_deref() == Some("ReadinessGatesNotReady"), "{reason:?}");

    for (status, ready) in [("True", true), ("False", false)] {
        let patch = json!({"status": {"conditions": [{"type": gate, "status": status}]}}).to_string();
        lab.kubectl(&["patch", "pod", "gated", "--subresource=status", "-p", &patch]).await?;
        let pod = lab.pod_when("gated", &format!("ready is {ready}"), |pod| is_ready(pod) == ready).await?;
        ensure!(condition(&pod, gate).is_some_and(|c| c.status == status), "the gate's own condition is kept");
    }
    lab.end().await
}

#[tokio::test]
async fn terminating_pod_serves_during_its_pre_stop_sleep_then_stops_accepting_then_is_deleted() -> Result<()> {
    let lab = Scenario::begin("drain", &[]).await?;
    lab.apply(&pod_of("leaving", "slow-stop", |pod| {
        pod["spec"]["terminationGracePeriodSeconds"] = json!(30);
        pod["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 3}}});
        pod["spec"]["containers"][0]["env"] = json!([{"name": "LAB_STOP_DELAY", "value": "0s"}]);
    }))
    .await?;
    lab.apply(
        &json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "leaving"},
                      "spec": {"selector": {"app": "leaving"}, "ports": [{"port": 80, "targetPort": 8080}]}})
        .to_string(),
    )
    .await?;
    let leaving = lab.pod_when("leaving", "ready", is_ready).await?;
    let url = format!("http://{}:8080/", address(&leaving));
    lab.kubectl(&["delete", "pod", "leaving", "--wait=false"]).await?;

    // While the hook sleeps the pod serves, is Ready still, and its endpoint says terminating, serving, not ready.
    curl(&url).await.context("right after the deletion")?;
    let slices = lab.api::<EndpointSlice>();
    let conditions = eventually("the endpoint terminates", || async {
        let list = slices.list(&ListParams::default().labels("kubernetes.io/service-name=leaving")).await?;
        let endpoint = list.items.into_iter().flat_map(|s| s.endpoints).next();
        Ok(endpoint.and_then(|e| e.conditions).filter(|c| c.terminating == Some(true)))
    })
    .await?;
    ensure!((conditions.ready, conditions.serving) == (Some(false), Some(true)), "{conditions:?}");
    ensure!(is_ready(&lab.pod("leaving").await?), "Ready while it serves");

    eventually("nobody listens any more", || async { Ok(curl(&url).await.is_err().then_some(())) }).await?;
    eventually("the pod is gone", || async {
        Ok(lab.api::<k8s_openapi::api::core::v1::Pod>().get_opt("leaving").await?.is_none().then_some(()))
    })
    .await?;
    lab.end().await
}

#[tokio::test]
async fn container_that_does_not_stop_is_killed_when_its_grace_period_ends() -> Result<()> {
    let lab = Scenario::begin("kill", &[]).await?;
    lab.apply(&pod_of("stubborn", "slow-stop", |pod| {
        pod["spec"]["terminationGracePeriodSeconds"] = json!(2);
        pod["spec"]["containers"][0]["env"] = json!([{"name": "LAB_STOP_DELAY", "value": "1h"}]);
        pod["metadata"]["finalizers"] = json!(["example.com/look"]);
    }))
    .await?;
    let ready = lab.pod_when("stubborn", "ready", is_ready).await?;
    lab.kubectl(&["delete", "pod", "stubborn", "--wait=false"]).await?;
    let pod = lab.pod_when("stubborn", "failed", |pod| phase(pod) == "Failed").await?;
    let status = pod.status.as_ref().and_then(|s| s.container_statuses.clone()).unwrap_or_default();
    let ended = status[0].state.as_ref().and_then(|s| s.terminated.as_ref()).context("terminated")?;
    ensure!(ended.exit_code == 137, "{ended:?}");
    ensure!(!is_ready(&pod), "not Ready once its containers have stopped");

    // Its object stays for its finalizer. What happens to it then does not touch the status: once a pod that was made
    // later is ready, the node has seen the change before.
    lab.kubectl(&["label", "pod", "stubborn", "seen=later"]).await?;
    lab.apply(&pod_of("later", "echo", |_| {})).await?;
    lab.pod_when("later", "ready", is_ready).await?;
    ensure!(phase(&lab.pod("stubborn").await?) == "Failed", "the final status is final");
    ensure!(curl(&format!("http://{}:8080/", address(&ready))).await.is_err(), "still answers");
    lab.kubectl(&[
        "patch",
        "pod",
        "stubborn",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/metadata/finalizers"}]"#,
    ])
    .await?;
    lab.end().await
}

fn phase(pod: &k8s_openapi::api::core::v1::Pod) -> &str {
    pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default()
}

#[tokio::test]
async fn failing_liveness_probe_restarts_the_container_which_keeps_its_address() -> Result<()> {
    let lab = Scenario::begin("liveness", &[]).await?;
    lab.apply(&pod_of("sick", "failing-health", |pod| {
        pod["spec"]["terminationGracePeriodSeconds"] = json!(0);
        pod["spec"]["containers"][0]["livenessProbe"] = http_probe("/healthz");
    }))
    .await?;
    let before = lab.pod_when("sick", "has an address", |pod| !address(pod).is_empty()).await?;
    let after = lab.pod_when("sick", "restarted", |pod| restarts(pod) > 0).await?;
    ensure!(address(&before) == address(&after), "{} became {}", address(&before), address(&after));
    let last = lab.kubectl(&["get", "pod", "sick", "-o", "jsonpath={.status.containerStatuses[0].lastState}"]).await?;
    ensure!(last.contains("terminated"), "{last}");
    lab.kubectl(&["delete", "pod", "sick", "--wait=false"]).await?;
    lab.end().await
}

#[tokio::test]
async fn readiness_and_startup_probes_decide_when_a_pod_is_ready() -> Result<()> {
    let lab = Scenario::begin("probes", &[]).await?;
    lab.apply(&pod_of("slow", "slow-start", |pod| {
        pod["spec"]["containers"][0]["env"] = json!([{"name": "LAB_START_DELAY", "value": "2s"}]);
        pod["spec"]["containers"][0]["startupProbe"] = json!({
            "tcpSocket": {"port": 8080}, "periodSeconds": 1, "failureThreshold": 30});
        pod["spec"]["containers"][0]["readinessProbe"] = http_probe("/");
    }))
    .await?;
    lab.apply(&pod_of("never", "failing-health", |pod| {
        pod["spec"]["containers"][0]["readinessProbe"] = http_probe("/healthz");
    }))
    .await?;
    let running = lab.pod_when("slow", "running", |pod| phase(pod) == "Running").await?;
    ensure!(!is_ready(&running), "ready before its port is open");
    lab.pod_when("slow", "ready", is_ready).await?;
    let event = eventually("an Event about the failing probe", || async {
        Ok(events(&lab, "never").await?.into_iter().find(|e| e.reason.as_deref() == Some("Unhealthy")))
    })
    .await?;
    ensure!(event.message.as_deref().is_some_and(|m| m.contains("statuscode: 503")), "{:?}", event.message);
    let never = lab.pod("never").await?;
    ensure!(!is_ready(&never) && restarts(&never) == 0, "a failing readiness probe neither readies nor restarts");
    lab.end().await
}

async fn events(lab: &Scenario, pod: &str) -> Result<Vec<Event>> {
    let fields = ListParams::default().fields(&format!("involvedObject.name={pod}"));
    Ok(lab.api::<Event>().list(&fields).await?.items)
}

#[tokio::test]
async fn image_that_is_not_run_here_is_said_in_an_event_and_its_log_is_shown() -> Result<()> {
    let lab = Scenario::begin("image", &[]).await?;
    lab.apply(&pod_of("other", "registry.example/nginx:1.27", |_| {})).await?;
    let other = lab.pod_when("other", "ready", is_ready).await?;
    eventually("the Event", || async {
        let events = events(&lab, "other").await?;
        let said = |e: &Event| e.message.as_deref().is_some_and(|m| m.contains("nginx:1.27 is not run here"));
        Ok(events.iter().any(said).then_some(()))
    })
    .await?;
    curl(&format!("http://{}:8080/some/path", address(&other))).await?;
    let log = lab.kubectl(&["logs", "other"]).await?;
    ensure!(log.contains("GET /some/path 200"), "{log}");
    lab.end().await
}

#[tokio::test]
async fn wrong_setting_of_a_behaviour_keeps_the_container_waiting_and_says_why() -> Result<()> {
    let lab = Scenario::begin("setting", &[]).await?;
    lab.apply(&pod_of("wrong", "echo", |pod| {
        pod["spec"]["containers"][0]["env"] = json!([{"name": "LAB_START_DELAY", "value": "soon"}]);
    }))
    .await?;
    let message = eventually("the container's reason", || async {
        let waiting = lab.pod("wrong").await?.status.and_then(|s| s.container_statuses).unwrap_or_default();
        Ok(waiting.into_iter().find_map(|c| c.state?.waiting?.message))
    })
    .await?;
    ensure!(message.contains("LAB_START_DELAY=`soon` is not understood"), "{message}");
    lab.end().await
}

#[tokio::test]
async fn two_hundred_pods_are_ready_within_thirty_seconds() -> Result<()> {
    let lab = Scenario::begin("many", &[]).await?;
    lab.apply(&deployment(200)).await?;
    let pods = within(Duration::from_secs(30), "200 ready pods", || async {
        let pods = lab.pods("app=echo").await?;
        Ok((pods.iter().filter(|pod| is_ready(pod)).count() == 200).then_some(pods))
    })
    .await?;
    let addresses: BTreeSet<_> = pods.iter().map(address).collect();
    ensure!(addresses.len() == 200, "{} addresses for 200 pods", addresses.len());
    lab.end().await
}

#[tokio::test]
async fn node_port_answers_on_every_node_and_local_policy_only_where_a_pod_is() -> Result<()> {
    let lab = Scenario::begin("nodeport", &[]).await?;
    lab.apply(&pod_of("single", "echo", |_| {})).await?;
    for policy in ["Cluster", "Local"] {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": policy.to_lowercase()},
            "spec": {"type": "NodePort", "externalTrafficPolicy": policy, "selector": {"app": "single"},
                     "ports": [{"port": 80, "targetPort": 8080}]}});
        lab.apply(&service.to_string()).await?;
    }
    let single = lab.pod_when("single", "ready", is_ready).await?;
    let host = single.status.as_ref().and_then(|s| s.host_ip.clone()).context("a node")?;
    let nodes = run("kubectl", &["get", "nodes", "-o", "jsonpath={.items[*].status.addresses[0].address}"], "").await?;
    let nodes: Vec<_> = nodes.split_whitespace().collect();
    ensure!(nodes.len() >= 3, "{nodes:?}");
    let port = "jsonpath={.spec.ports[0].nodePort}";
    let cluster = lab.kubectl(&["get", "service", "cluster", "-o", port]).await?;
    let local = lab.kubectl(&["get", "service", "local", "-o", port]).await?;
    for node in nodes {
        let body = eventually(&format!("node port of {node}"), || async {
            Ok(curl(&format!("http://{node}:{cluster}/")).await.ok())
        })
        .await?
        .1;
        ensure!(body.starts_with("Hostname: single\n"), "{body}");
        ensure!(body.contains(&format!("client_address={node}\n")), "policy Cluster hides the client: {body}");
        let answer = eventually(&format!("local node port of {node}"), || async {
            let answer = curl(&format!("http://{node}:{local}/")).await;
            Ok((answer.is_ok() == (node == host)).then_some(answer))
        })
        .await?;
        if let Ok((_, body)) = answer {
            ensure!(!body.contains(&format!("client_address={node}\n")), "policy Local shows the client: {body}");
        }
    }
    lab.end().await
}

#[tokio::test]
async fn init_containers_and_sidecars_run_before_the_others() -> Result<()> {
    let lab = Scenario::begin("init", &[]).await?;
    lab.apply(&pod_of("staged", "echo", |pod| {
        pod["spec"]["initContainers"] = json!([
            {"name": "prepare", "image": "busybox"},
            {"name": "proxy", "image": "echo", "restartPolicy": "Always", "ports": [{"containerPort": 9090}]},
        ]);
    }))
    .await?;
    let staged = lab.pod_when("staged", "ready", is_ready).await?;
    for port in [8080, 9090] {
        let (_, body) = curl(&format!("http://{}:{port}/", address(&staged))).await?;
        ensure!(body.starts_with("Hostname: staged\n"), "{body}");
    }
    let init = staged.status.as_ref().and_then(|s| s.init_container_statuses.clone()).unwrap_or_default();
    let ended = init[0].state.as_ref().and_then(|s| s.terminated.as_ref()).context("prepare has ended")?;
    ensure!(ended.exit_code == 0 && init[1].ready, "{init:?}");
    lab.end().await
}

#[tokio::test]
async fn job_completes_and_its_pod_stays_succeeded() -> Result<()> {
    let lab = Scenario::begin("job", &[]).await?;
    lab.apply(
        &json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "once"}, "spec": {"template": {"spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "sh", "image": "shell", "args": ["-c", "echo done; exit 0"]}],
        }}}})
        .to_string(),
    )
    .await?;
    lab.kubectl(&["wait", "job/once", "--for=condition=Complete", &format!("--timeout={}s", PATIENCE.as_secs())])
        .await?;
    let pods = lab.pods("batch.kubernetes.io/job-name=once").await?;
    let [pod] = &pods[..] else { bail!("{:?}", names(&pods)) };
    ensure!(phase(pod) == "Succeeded", "{}", phase(pod));
    let log = lab.kubectl(&["logs", "job/once"]).await?;
    ensure!(log == "done\n", "{log}");
    lab.end().await
}
