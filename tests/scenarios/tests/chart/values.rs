//! Values that the chart refuses, and what it says.

use anyhow::{Result, ensure};

use super::release::{CHART, CLUSTER, helm, try_helm};

#[tokio::test]
async fn helm_finds_nothing_wrong_with_the_chart() -> Result<()> {
    let said = helm(&[&["lint", "--strict", CHART], CLUSTER].concat()).await?;
    ensure!(said.contains("0 chart(s) failed") && !said.contains("[WARNING]"), "{said}");
    Ok(())
}

#[tokio::test]
async fn wrong_values_are_refused_with_what_is_wrong_and_where() -> Result<()> {
    // Values, and what the refusal must say.
    let cases: [(&str, &[&str]); 24] = [
        ("clusterName: lab", &["vpcId is empty", "features.loadBalancers=false"]),
        ("{}", &["missing property 'clusterName'"]),
        ("clustername: lab", &["additional properties 'clustername' not allowed", "missing property 'clusterName'"]),
        ("clusterName: ''", &["at '/clusterName'"]),
        ("{clusterName: lab, replicaCount: two}", &["at '/replicaCount': got string, want integer"]),
        (
            "{clusterName: lab, defaultTargetType: pod}",
            &["at '/defaultTargetType': value must be one of 'instance', 'ip'"],
        ),
        ("{clusterName: lab, defaultLoadBalancerScheme: public}", &["'internal', 'internet-facing'"]),
        ("{clusterName: lab, vpcId: 10.0.0.0/16}", &["at '/vpcId'"]),
        ("{clusterName: lab, backendSecurityGroup: web}", &["at '/backendSecurityGroup'"]),
        ("{clusterName: lab, serviceTargetENISGTags: owner}", &["at '/serviceTargetENISGTags'"]),
        ("{clusterName: lab, region: Frankfurt}", &["at '/region'"]),
        ("{clusterName: lab, features: {loadbalancers: true}}", &["at '/features'", "'loadbalancers' not allowed"]),
        (
            "{clusterName: lab, controllerConfig: {featureGates: {NLBSecurityGroups: true}}}",
            &["'NLBSecurityGroups' not allowed"],
        ),
        (
            "{clusterName: lab, serviceAccount: {annotations: {eks.amazonaws.com/role-arn: sluice}}}",
            &["at '/serviceAccount/annotations/eks.amazonaws.com~1role-arn'"],
        ),
        (
            "{clusterName: lab, podMutatorWebhookConfig: {failurePolicy: ignore}}",
            &["at '/podMutatorWebhookConfig/failurePolicy'", "'Ignore', 'Fail'"],
        ),
        ("{clusterName: lab, certManager: {duration: 7d}}", &["at '/certManager/duration'"]),
        ("{clusterName: lab, webhook: {image: {digest: latest}}}", &["at '/webhook/image/digest'"]),
        (
            "{clusterName: lab, networkPolicy: {controlPlaneCIDRs: [10.0.0.1]}}",
            &["at '/networkPolicy/controlPlaneCIDRs/0'"],
        ),
        (
            "{clusterName: lab, vpcId: vpc-1, enableCertManager: false}",
            &["webhookTLS.existingSecret is empty", "certs/local-ca"],
        ),
        (
            "{clusterName: lab, vpcId: vpc-1, webhookTLS: {existingSecret: own}}",
            &["no effect while enableCertManager is true"],
        ),
        (
            "{clusterName: lab, vpcId: vpc-1, defaultTags: {a: b}, externalManagedTags: [a]}",
            &["defaultTags.a is in externalManagedTags too"],
        ),
        (
            "{clusterName: lab, vpcId: vpc-1, defaultTags: {elbv2.k8s.aws/cluster: other}}",
            &["elbv2.k8s.aws/cluster", "remove it from defaultTags"],
        ),
        (
            "{clusterName: lab, vpcId: vpc-1, podDisruptionBudget: {minAvailable: 2}}",
            &["podDisruptionBudget.minAvailable 2 of replicaCount 2"],
        ),
        (
            "{clusterName: lab, vpcId: vpc-1, podDisruptionBudget: {maxUnavailable: 1}}",
            &["both minAvailable and maxUnavailable"],
        ),
    ];
    let mut problems = Vec::new();
    for (values, says) in cases {
        let output = try_helm(&["template", "sluice", CHART, "--values", "-"], values).await?;
        let missing: Vec<_> = says.iter().filter(|text| !output.err.contains(**text)).collect();
        if output.success || !missing.is_empty() {
            problems.push(format!("{values}: {missing:?} is not in: {}", output.err.trim()));
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    Ok(())
}
