//! What is installed: the definition, both programs, a certificate, an identity in AWS.

use super::stage::Stage;

/// Plays it.
pub async fn play(stage: &mut Stage) {
    stage.scene("Installed with Helm: two replicas of each program, a certificate, and an identity in AWS");
    stage.run("helm -n sluice-system list").await;
    stage.run("kubectl get crd targetgroupbindings.elbv2.k8s.aws").await;
    let both = "kubectl -n sluice-system get deployments";
    let full = |text: &str| text.lines().filter(|line| line.contains(" 2/2 ")).count();
    stage.until(both, |text| full(text) == 2).await;
    let deployments = full(&stage.run(both).await);
    let certificate = "kubectl -n sluice-system get certificate sluice-webhook";
    let issued = stage.run(certificate).await.lines().any(|line| line.contains(" True "));
    let role = "kubectl -n sluice-system get serviceaccount sluice-registrar \
        -o jsonpath='{.metadata.annotations.eks\\.amazonaws\\.com/role-arn}'";
    let role = stage.run(role).await;
    let calls = "curl -s \"$SLUICE_LAB_CONTROL/v1/log?kind=api&contains=assumed-role/sluice-registrar&limit=1\"";
    let assumed = stage.until(calls, |text| text.contains("assumed-role/sluice-registrar")).await;
    let issued = if issued { "issued" } else { "not issued" };
    let identity = match (role.trim().rsplit('/').next(), assumed.contains("assumed-role/sluice-registrar")) {
        (Some("sluice-registrar"), true) => "assumed",
        _ => "not assumed",
    };
    let seen = format!("{deployments} x 2/2, certificate {issued}, role {identity}");
    let expected = "2 x 2/2, certificate issued, role assumed";
    stage.expect("install", expected, seen.clone(), seen == expected);
}
