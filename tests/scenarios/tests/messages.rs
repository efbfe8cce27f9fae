//! What is said of a Service or a binding that something is in the way of, as `kubectl describe` shows it: which object,
//! which value, and what helps.

use anyhow::{Result, ensure};
use scenarios::{
    Scenario, eventually, run,
    target_group::{Emulator, aws},
};
use serde_json::{Value, json};
use tokio::sync::RwLock;

/// Held by tests that need room for another load balancer, against those that leave none.
static CREATING: RwLock<()> = RwLock::const_new(());
const VPC: &str = "vpc-0a1b2c3d4e5f60718";
const PRIVATE_SUBNETS: [&str; 3] = ["subnet-0a00000000000aaa2", "subnet-0b00000000000bbb2", "subnet-0c00000000000ccc2"];

fn service(annotations: &[(&str, &str)]) -> Value {
    let annotation = |(key, value): &(&str, &str)| {
        (format!("service.beta.kubernetes.io/aws-load-balancer-{key}"), Value::from(*value))
    };
    let annotations: serde_json::Map<_, _> = annotations.iter().map(annotation).collect();
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "annotations": annotations},
        "spec": {
            "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb",
            "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}],
        },
    })
}

/// Waits until `kubectl describe` shows all of these of an object.
async fn described(lab: &Scenario, object: &str, expected: &[&str]) -> Result<()> {
    eventually(&format!("{object} says {expected:?}"), || async {
        let text = lab.kubectl(&["describe", object]).await?;
        // Long lines of a message are indented.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        ensure!(expected.iter().all(|part| text.contains(part)), "{text}");
        Ok(Some(()))
    })
    .await
}

async fn active(lab: &Scenario) -> Result<()> {
    lab.kubectl(&["wait", "service/web", "--for=condition=Active", "--timeout=60s"]).await.map(drop)
}

/// Takes the private subnets from the lab's cluster and gives them to another, or back.
async fn private_subnets_are_of(cluster: &str, instead_of: &str) -> Result<()> {
    for (action, cluster) in [("create-tags", cluster), ("delete-tags", instead_of)] {
        let tag = format!("Key=kubernetes.io/cluster/{cluster},Value=shared");
        aws(&[&["ec2", action, "--tags", &tag, "--resources"], &PRIVATE_SUBNETS[..]].concat()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn each_subnet_that_does_not_fit_is_listed_with_the_rule_that_excludes_it() -> Result<()> {
    let _alone = CREATING.write().await;
    let lab = Scenario::begin("subnets", &[]).await?;
    private_subnets_are_of("other", "lab").await?;
    // What is known of subnets is kept for minutes while nothing is in the way.
    let namespace = ["--namespace", "sluice-system"];
    for action in [&["restart"][..], &["status", "--timeout=100s"]] {
        run("kubectl", &[&["rollout"], action, &["deployment/sluice-registrar"], &namespace[..]].concat(), "").await?;
    }
    lab.apply(&service(&[]).to_string()).await?;
    let expected = [
        &format!("no subnet of {VPC} fits an internal load balancer"),
        "subnet-0a00000000000aaa1 (ap-northeast-2a): no tag kubernetes.io/role/internal-elb: 1",
        "subnet-0a00000000000aaa2 (ap-northeast-2a): belongs to other clusters (other), and has no tag \
         kubernetes.io/cluster/lab",
        "name them in service.beta.kubernetes.io/aws-load-balancer-subnets",
    ];
    let said = described(&lab, "service/web", &expected).await;
    let blocked = "jsonpath={.status.conditions[?(@.type==\"Blocked\")].reason}";
    let reason = lab.kubectl(&["get", "service/web", "-o", blocked]).await;
    private_subnets_are_of("lab", "other").await?;
    said?;
    let reason = reason?;
    ensure!(reason == "Subnets", "{reason}");
    lab.kubectl(&["wait", "service/web", "--for=condition=Active", "--timeout=100s"]).await?;
    lab.kubectl(&["delete", "service/web", "--timeout=60s"]).await?;
    lab.end().await
}

#[tokio::test]
async fn a_protected_load_balancer_says_why_its_service_is_still_there() -> Result<()> {
    let creating = CREATING.read().await;
    let lab = Scenario::begin("protected", &[]).await?;
    lab.apply(&service(&[("attributes", "deletion_protection.enabled=true")]).to_string()).await?;
    active(&lab).await?;
    drop(creating);
    lab.kubectl(&["delete", "service/web", "--wait=false"]).await?;
    let expected = [
        "DeletionProtection",
        "is protected against deletion",
        "set service.beta.kubernetes.io/aws-load-balancer-attributes: deletion_protection.enabled=false",
    ];
    described(&lab, "service/web", &expected).await?;
    let key = "service.beta.kubernetes.io/aws-load-balancer-attributes=deletion_protection.enabled=false";
    lab.kubectl(&["annotate", "service/web", "--overwrite", key]).await?;
    lab.kubectl(&["wait", "service/web", "--for=delete", "--timeout=60s"]).await?;
    lab.end().await
}

#[tokio::test]
async fn a_security_group_that_somebody_refers_to_is_named_as_what_holds_the_removal() -> Result<()> {
    let creating = CREATING.read().await;
    let lab = Scenario::begin("referred", &[]).await?;
    lab.apply(&service(&[]).to_string()).await?;
    active(&lab).await?;
    drop(creating);
    let stack = format!("Name=tag:service.k8s.aws/stack,Values={}/web", lab.namespace);
    let find = ["ec2", "describe-security-groups", "--filters", &stack, "--query", "SecurityGroups[0].GroupId"];
    let managed = aws(&find).await?;
    let name = format!("referring-{}", lab.namespace);
    let create = ["ec2", "create-security-group", "--group-name", &name, "--description", "x", "--vpc-id", VPC];
    let referring = aws(&[&create[..], &["--query", "GroupId"]].concat()).await?;
    let rule = ["--protocol", "tcp", "--port", "80", "--source-group", &managed];
    let authorize = ["ec2", "authorize-security-group-ingress", "--group-id", &referring];
    aws(&[&authorize[..], &rule].concat()).await?;
    lab.kubectl(&["delete", "service/web", "--wait=false"]).await?;
    let expected = ["Warning", "DeleteSecurityGroup of", &managed, "DependencyViolation"];
    described(&lab, "service/web", &expected).await?;
    aws(&["ec2", "delete-security-group", "--group-id", &referring]).await?;
    lab.kubectl(&["wait", "service/web", "--for=delete", "--timeout=100s"]).await?;
    lab.end().await
}

#[tokio::test]
async fn a_binding_to_a_target_group_that_is_not_there_names_it() -> Result<()> {
    let lab = Scenario::begin("absent", &[]).await?;
    let arn = "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/gone/0123456789abcdef";
    let binding = json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding", "metadata": {"name": "web"},
        "spec": {"targetGroupARN": arn, "targetType": "ip", "serviceRef": {"name": "web", "port": 80}},
    });
    lab.apply(&binding.to_string()).await?;
    described(&lab, "targetgroupbinding/web", &[arn, "not found"]).await?;
    // What is not there holds no removal.
    lab.kubectl(&["delete", "targetgroupbinding/web", "--timeout=60s"]).await?;
    lab.end().await
}

#[tokio::test]
async fn a_quota_that_is_reached_is_named_and_costs_nothing_once_there_is_room() -> Result<()> {
    let _alone = CREATING.write().await;
    let (lab, emulator) = (Scenario::begin("quota", &[]).await?, Emulator::new()?);
    emulator.set(&json!({"quota.network-load-balancers": "0"})).await?;
    lab.apply(&service(&[]).to_string()).await?;
    let expected = ["QuotaReached", "CreateLoadBalancer of load balancer k8s-", "ask AWS for a larger quota"];
    let said = described(&lab, "service/web", &expected).await;
    emulator.set(&json!({"quota.network-load-balancers": "1000"})).await?;
    said?;
    lab.kubectl(&["wait", "service/web", "--for=condition=Active", "--timeout=100s"]).await?;
    lab.kubectl(&["delete", "service/web", "--timeout=60s"]).await?;
    lab.end().await
}
