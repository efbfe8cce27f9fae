//! The Services are deleted, and nothing is left in AWS.

use super::stage::Stage;

/// Plays it.
pub async fn play(stage: &mut Stage) {
    stage.scene("The Services are deleted: nothing is left in AWS");
    stage.run("kubectl -n shop delete -f echo-service-nlb.yaml --timeout=60s").await;
    stage.run("kubectl -n plain delete -f echo-service-nlb.yaml --timeout=60s").await;
    let command = "aws elbv2 describe-load-balancers --query 'length(LoadBalancers)'; \
        aws elbv2 describe-target-groups --query 'length(TargetGroups)'; \
        aws ec2 describe-security-groups --query \"length(SecurityGroups[?starts_with(GroupName, 'k8s-')])\"";
    let left = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" + ");
    // A security group can go only after the load balancer's interfaces.
    stage.until(command, |text| left(text) == "0 + 0 + 0").await;
    let seen = left(&stage.run(command).await);
    let expected = "0 + 0 + 0";
    stage.expect("left in AWS", expected, seen.clone(), seen == expected);
}
