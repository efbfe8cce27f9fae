//! The definition of TargetGroupBinding, tried at the real API server in a lab without the webhook: its rules hold there.

use anyhow::{Result, ensure};
use scenarios::{Scenario, run};
use serde_json::{Value, json};

const DEFINITION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/crds/targetgroupbindings.yaml");
const ARN: &str = "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/web/0123456789abcdef";

fn binding(name: &str, version: &str, spec: &Value) -> String {
    let mut spec = spec.clone();
    spec["serviceRef"] = json!({"name": "web", "port": 80});
    json!({"apiVersion": format!("elbv2.k8s.aws/{version}"), "kind": "TargetGroupBinding",
           "metadata": {"name": name}, "spec": spec})
    .to_string()
}

/// Applies the definition, and waits until the API server knows it.
async fn define() -> Result<()> {
    run("kubectl", &["apply", "--server-side", "-f", DEFINITION], "").await?;
    let name = "crd/targetgroupbindings.elbv2.k8s.aws";
    run("kubectl", &["wait", name, "--for=condition=Established", "--timeout=60s"], "").await?;
    Ok(())
}

#[tokio::test]
async fn rules_of_the_definition_hold_at_the_api_server_without_a_webhook() -> Result<()> {
    let hooks = run("kubectl", &["get", "validatingwebhookconfigurations", "-o", "name"], "").await?;
    ensure!(hooks.is_empty(), "this lab must be without the webhook, it has {hooks}");
    define().await?;
    let lab = Scenario::begin("bindings", &[]).await?;
    // What is created first, what it is changed to, and what the refusal says (nothing: it is accepted).
    let cases = [
        ("ip", json!({"targetGroupARN": ARN, "targetType": "ip"}), Value::Null, None),
        ("by-name", json!({"targetGroupName": "web"}), Value::Null, None),
        ("none", json!({"targetType": "ip"}), Value::Null, Some("one of targetGroupARN and targetGroupName is needed")),
        (
            "mistyped",
            json!({"targetGroupARN": ARN, "targetType": "IP"}),
            Value::Null,
            Some("Unsupported value: \"IP\""),
        ),
        (
            "resolved-later",
            json!({"targetGroupARN": ARN}),
            json!({"targetGroupARN": ARN, "targetType": "ip", "vpcID": "vpc-0a1b2c3d4e5f60718", "ipAddressType": "ipv4"}),
            None,
        ),
        (
            "other-type",
            json!({"targetGroupARN": ARN, "targetType": "ip"}),
            json!({"targetGroupARN": ARN, "targetType": "instance"}),
            Some("targetType cannot be changed once it is set"),
        ),
        (
            "other-group",
            json!({"targetGroupARN": ARN, "targetType": "ip"}),
            json!({"targetGroupARN": format!("{ARN}0"), "targetType": "ip"}),
            Some("targetGroupARN cannot be changed once it is set"),
        ),
        (
            "other-vpc",
            json!({"targetGroupARN": ARN, "vpcID": "vpc-0a1b2c3d4e5f60718"}),
            json!({"targetGroupARN": ARN, "vpcID": "vpc-1"}),
            Some("vpcID cannot be changed once it is set"),
        ),
        (
            "nodes-of-pods",
            json!({"targetGroupARN": ARN, "targetType": "ip", "nodeSelector": {"matchLabels": {"a": "b"}}}),
            Value::Null,
            Some("nodeSelector is for targetType instance only"),
        ),
    ];
    for (name, created, changed, refusal) in cases {
        let mut result = lab.apply(&binding(name, "v1beta1", &created)).await;
        if !changed.is_null() {
            result?;
            result = lab.apply(&binding(name, "v1beta1", &changed)).await;
        }
        match (result, refusal) {
            (Ok(()), None) => {}
            (Err(e), Some(says)) => ensure!(format!("{e:#}").contains(says), "{name}: {e:#}"),
            (result, refusal) => ensure!(false, "{name}: {result:?}, expected {refusal:?}"),
        }
    }
    lab.apply(&binding("old-version", "v1alpha1", &json!({"targetGroupARN": ARN}))).await?;
    let columns = lab.kubectl(&["get", "targetgroupbindings.v1beta1.elbv2.k8s.aws", "ip"]).await?;
    ensure!(columns.contains("SERVICE-NAME") && columns.contains("web"), "{columns}");
    lab.end().await
}
