//! The third part of the story: annotations judged and gates injected before anything is stored.

use super::stage::Stage;

const GATE: &str = "target-health.elbv2.k8s.aws/";

/// Plays it.
pub async fn play(stage: &mut Stage) {
    gates(stage).await;
}

async fn gates(stage: &mut Stage) {
    stage.scene("Pods of a labelled namespace get a readiness gate for the load balancer that their Service asks for");
    stage.run("kubectl create namespace shop").await;
    stage.run("kubectl label namespace shop elbv2.k8s.aws/pod-readiness-gate-inject=enabled").await;
    let said = stage.run("kubectl -n shop apply -f echo-service-nlb.yaml").await;
    let hints = said.matches("is an old form").count();
    let template = "{range .items[*].spec.readinessGates[*]}{.conditionType}{\"\\n\"}{end}";
    let list = format!("kubectl -n shop get pods -o jsonpath='{template}'");
    let gates = stage.until(&list, |text| text.lines().count() == 2).await;
    stage.run("kubectl -n shop get pods -o wide").await;
    let right = gates.lines().filter(|gate| gate.starts_with(GATE)).count();
    let seen = format!("{hints} hint, {right} gates on 2 pods");
    stage.expect("readiness gates", "1 hint, 2 gates on 2 pods", seen.clone(), hints == 1 && right == 2);
}
