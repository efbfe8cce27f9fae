//! The first part of the story: nodes, pods that answer, readiness gates, a pod that leaves, a certificate.

use std::collections::BTreeSet;

use super::stage::Stage;

/// Plays it.
pub async fn play(stage: &mut Stage) {
    nodes(stage).await;
    deployment(stage).await;
    readiness_gate(stage).await;
    deletion(stage).await;
    certificate(stage).await;
}

async fn nodes(stage: &mut Stage) {
    stage.scene("A real API server, and one node in each zone");
    let table = stage.run("kubectl get nodes -L topology.kubernetes.io/zone").await;
    let ready = table.lines().filter(|line| line.contains(" Ready ")).count();
    let zones: BTreeSet<_> = table.lines().skip(1).filter_map(|line| line.split_whitespace().last()).collect();
    let seen = format!("{ready} ready in {} zones", zones.len());
    stage.expect("nodes", "3 ready in 3 zones", seen, ready == 3 && zones.len() == 3);
}

async fn deployment(stage: &mut Stage) {
    stage.scene("A Deployment: each pod has an address of its zone's subnet, and answers there with its name");
    stage.run("kubectl apply -f echo.yaml").await;
    stage.run("kubectl rollout status deployment/echo --timeout=60s").await;
    stage.run("kubectl get pods -l app=echo -o wide").await;
    let template = "{range .items[*]}{.metadata.name} {.status.podIP}{\"\\n\"}{end}";
    let pods = stage.ask(&format!("kubectl get pods -l app=echo -o jsonpath='{template}'")).await;
    let pods: Vec<_> = pods.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut right = 0;
    for (name, address) in &pods {
        let answer = stage.run(&format!("curl -s --max-time 5 http://{address}:8080/ | head -n 1")).await;
        right += usize::from(answer.trim() == format!("Hostname: {name}"));
    }
    let subnets: BTreeSet<_> = pods.iter().filter_map(|(_, ip)| ip.rsplit_once('.')).map(|(net, _)| net).collect();
    let seen = format!("{right} of {} answer, from {} subnets", pods.len(), subnets.len());
    let good = right == 3 && pods.len() == 3 && subnets.len() == 3;
    stage.expect("pods answer", "3 of 3 answer, from 3 subnets", seen, good);

    let address = stage.ask("kubectl get nodes -o jsonpath='{.items[0].status.addresses[0].address}'").await;
    let answer = stage.run(&format!("curl -s --max-time 5 http://{address}:30080/ | head -n 1")).await;
    stage.expect("node port", "Hostname: echo-...", answer.trim(), answer.starts_with("Hostname: echo-"));
}

async fn readiness_gate(stage: &mut Stage) {
    stage.scene("A pod with a readiness gate is not ready until somebody sets its condition");
    stage.run("kubectl apply -f gated.yaml").await;
    stage.run("kubectl wait pod/gated --for=condition=ContainersReady --timeout=30s").await;
    stage.run("kubectl get pod gated -o wide").await;
    let before = ready_condition(stage).await;
    let patch = r#"{"status":{"conditions":[{"type":"example.com/traffic","status":"True"}]}}"#;
    stage.run(&format!("kubectl patch pod gated --subresource=status -p '{patch}'")).await;
    stage.run("kubectl wait pod/gated --for=condition=Ready --timeout=30s").await;
    let after = ready_condition(stage).await;
    let good = before == "False" && after == "True";
    stage.expect("readiness gate", "Ready: False, then True", format!("Ready: {before}, then {after}"), good);
}

async fn ready_condition(stage: &Stage) -> String {
    stage.ask("kubectl get pod gated -o jsonpath='{.status.conditions[?(@.type==\"Ready\")].status}'").await
}

async fn deletion(stage: &mut Stage) {
    stage.scene("A deleted pod serves during its preStop sleep, and no longer");
    let address = stage.ask("kubectl get pod gated -o jsonpath='{.status.podIP}'").await;
    stage.run("kubectl delete pod gated --wait=false").await;
    let during = stage.run(&format!("curl -s --max-time 5 http://{address}:8080/ | head -n 1")).await;
    stage.run("kubectl wait pod/gated --for=delete --timeout=60s").await;
    let after = stage.run(&format!("curl -sS --max-time 5 http://{address}:8080/")).await;
    let answers = |text: &str| if text.starts_with("Hostname: gated") { "answers" } else { "does not" };
    let seen = format!("{}, then {}", answers(&during), answers(&after));
    let good = seen == "answers, then does not";
    stage.expect("leaving pod", "answers, then does not", seen, good);
}

async fn certificate(stage: &mut Stage) {
    stage.scene("cert-manager, the real one, issues certificates");
    stage.run("kubectl apply -f certificate.yaml").await;
    stage.run("kubectl wait certificate/story --for=condition=Ready --timeout=60s").await;
    let data = stage.run("kubectl get secret story-tls -o jsonpath='{.type}'").await;
    stage.expect("certificate", "kubernetes.io/tls", data.trim(), data.trim() == "kubernetes.io/tls");
}
