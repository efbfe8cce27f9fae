//! Sluice is installed by its chart: the definition, both programs, a certificate, an identity in AWS.

use super::stage::Stage;

/// Plays it.
pub async fn play(stage: &mut Stage) {
    stage.scene("Installed with Helm: two replicas of each program, a certificate, and an identity in AWS");
    stage.run("cat values.yaml").await;
    stage.run("kubectl create namespace sluice-system").await;
    stage.run("kubectl label namespace sluice-system pod-security.kubernetes.io/enforce=restricted").await;
    stage.run("helm install sluice chart -n sluice-system -f values.yaml --wait --timeout 100s | head -n 5").await;
    stage.run("kubectl get crd targetgroupbindings.elbv2.k8s.aws").await;
    let both = "kubectl -n sluice-system get deployments";
    let full = |text: &str| text.lines().filter(|line| line.contains(" 2/2 ")).count();
    stage.until(both, |text| full(text) == 2).await;
    let deployments = full(&stage.run(both).await);
    let certificate = "kubectl -n sluice-system get certificate sluice-webhook";
    let issued = stage.run(certificate).await.lines().any(|line| line.contains(" True "));
    // API servers cannot ask the webhook before they know whom to trust.
    let trusted = "kubectl get mutatingwebhookconfigurations,validatingwebhookconfigurations \
        -o jsonpath='{range .items[*].webhooks[*]}{.name} {.clientConfig.caBundle}{\"\\n\"}{end}'";
    let all = |text: &str| !text.is_empty() && text.lines().all(|line| line.split_whitespace().count() == 2);
    stage.until(trusted, all).await;
    let role = "kubectl -n sluice-system get serviceaccount sluice-registrar \
        -o jsonpath='{.metadata.annotations.eks\\.amazonaws\\.com/role-arn}'";
    let role = stage.run(role).await;
    let calls =
        "curl -s \"$SLUICE_LAB_CONTROL/v1/log?kind=api&contains=assumed-role/sluice-registrar&limit=1&wait=10\"";
    let assumed = stage.run(calls).await;
    let issued = if issued { "issued" } else { "not issued" };
    let identity = match (role.trim().rsplit('/').next(), assumed.contains("assumed-role/sluice-registrar")) {
        (Some("sluice-registrar"), true) => "assumed",
        _ => "not assumed",
    };
    let seen = format!("{deployments} x 2/2, certificate {issued}, role {identity}");
    let expected = "2 x 2/2, certificate issued, role assumed";
    stage.expect("install", expected, seen.clone(), seen == expected);
}
