//! The third part of the story: annotations judged and gates injected before anything is stored.

use super::stage::Stage;

const GATE: &str = "target-health.elbv2.k8s.aws/";

/// Plays it.
pub async fn play(stage: &mut Stage) {
    broken(stage).await;
    gates(stage).await;
}

async fn broken(stage: &mut Stage) {
    stage.scene("A broken manifest is refused with every mistake in one message, and a mistyped key is pointed out");
    let said = stage.run("kubectl apply -f broken.yaml").await;
    let mistakes = ["nlb-target-type: \"IP\"", "scheme: \"public\""].iter().filter(|m| said.contains(*m)).count();
    let hints = usize::from(said.contains("Warning: ") && said.contains("did you mean"));
    let stored = stage.ask("kubectl get service broken").await.contains("NotFound");
    let stored = if stored { "not stored" } else { "stored" };
    let seen = format!("{mistakes} mistakes, {hints} hint, {stored}");
    stage.expect(
        "broken manifest",
        "2 mistakes, 1 hint, not stored",
        seen.clone(),
        seen.ends_with("1 hint, not stored") && mistakes == 2,
    );
}

async fn gates(stage: &mut Stage) {
    stage.scene("Pods of a labelled namespace get a readiness gate for the load balancer that their Service asks for");
    let said = stage.run("kubectl apply -f echo-service-nlb.yaml").await;
    let silent = !said.contains("Warning");
    let template = "{range .items[*].spec.readinessGates[*]}{.conditionType}{\"\\n\"}{end}";
    let list = format!("kubectl -n shop get pods -o jsonpath='{template}'");
    let gates = stage.until(&list, |text| text.lines().count() == 2).await;
    stage.run("kubectl -n shop get pods -o wide").await;
    let right = gates.lines().filter(|gate| gate.starts_with(GATE)).count();
    let seen = format!("{}, {right} gates on 2 pods", if silent { "no warning" } else { "a warning" });
    stage.expect("readiness gates", "no warning, 2 gates on 2 pods", seen.clone(), silent && right == 2);
}
