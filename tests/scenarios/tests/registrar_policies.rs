//! What whoever holds the registrar's token can write: what the registrar writes, and nothing else. The API server says so,
//! by the policies that are installed with it; no process of ours runs here.

use anyhow::{Result, ensure};
use kube::{Client, Config};
use scenarios::{CHART, Scenario, eventually, run};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const GATE: &str = "target-health.elbv2.k8s.aws/web";
const ARN: &str = "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/web/0123456789abcdef";

/// Installs roles and policies, once for all tests, and waits until they are in force.
async fn installed() -> Result<()> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_try_init(install).await.copied()
}

async fn install() -> Result<()> {
    let manifest = std::fs::read_to_string(format!("{CHART}/../install.yaml"))?;
    // Neither programs nor hooks that nobody answers.
    let left_out = ["kind: Deployment\n", "WebhookConfiguration\n", "apiVersion: cert-manager.io"];
    let documents = manifest.split("\n---\n").filter(|document| !left_out.iter().any(|kind| document.contains(kind)));
    let quiet = documents.collect::<Vec<_>>().join("\n---\n");
    run("kubectl", &["apply", "--server-side", "--force-conflicts", "-f", "-"], &quiet).await?;
    // API servers learn of policies a moment after they were written.
    let lab = Scenario::begin("policies", &[]).await?;
    lab.apply(&objects()).await?;
    let us = as_registrar().await?;
    let label = json!({"metadata": {"labels": {"probe": "x"}}});
    for probe in [
        patch("sluice-registrar-pods", "pod/web/status", &label),
        patch("sluice-registrar-bindings", "targetgroupbinding/web", &label),
        patch("sluice-registrar-services", "service/web", &label),
        create("sluice-registrar-rest", &ledger("probe", "targets")),
    ] {
        // What is tried before they are in force must not be done: once it is, trying it again changes nothing.
        let probe = Attempt { path: format!("{}?dryRun=All", probe.path), ..probe };
        eventually(probe.what, || async { Ok(attempt(&us, &lab, &probe).await?.filter(|by| by.contains(probe.what))) })
            .await?;
    }
    lab.end().await
}

/// A pod with our gate and somebody else's, a Service with and one without our finalizer, a binding of a user and one of
/// ours, all with labels, annotations and finalizers of others.
fn objects() -> String {
    let metadata = |name: &str, labels: Value| json!({"name": name, "labels": labels, "annotations": {"team": "web"}, "finalizers": ["example.com/keep"]});
    let own = json!({"service.k8s.aws/stack-namespace": "default", "service.k8s.aws/stack-name": "web"});
    let service = |name: &str, finalizers: Value| {
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "labels": {"app": "web"}, "annotations": {"team": "web"}, "finalizers": finalizers},
            "spec": {"type": "LoadBalancer", "loadBalancerClass": "example.com/none", "selector": {"app": "web"}, "ports": [{"port": 80}]},
        })
    };
    let binding = |name: &str, labels: Value, spec: Value| {
        json!({
            "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
            "metadata": metadata(name, labels), "spec": spec,
        })
    };
    let spec = json!({"targetGroupARN": ARN, "targetType": "ip", "serviceRef": {"name": "web", "port": 80}});
    let bare = json!({"targetGroupName": "web", "serviceRef": {"name": "web", "port": 80}});
    let items = [
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata("web", json!({"app": "web"})),
            "spec": {
                "readinessGates": [{"conditionType": GATE}, {"conditionType": "example.com/traffic"}],
                "containers": [{"name": "echo", "image": "echo", "ports": [{"containerPort": 8080}]}],
            },
        }),
        service("web", json!(["example.com/keep"])),
        service("ours", json!(["example.com/keep", "service.k8s.aws/resources"])),
        binding("web", json!({"app": "web"}), spec.clone()),
        binding("bare", json!({"app": "web"}), bare),
        binding("ours", own, spec),
    ];
    json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
}

/// One thing to try, in words and as a request. `NAMESPACE` in path and body is that of the test.
struct Attempt {
    what: &'static str,
    method: &'static str,
    path: String,
    /// Of the body: how a patch is meant.
    content_type: &'static str,
    body: Value,
}

/// The path of objects of a kind.
fn collection(kind: &str) -> String {
    let version = match kind {
        "targetgroupbinding" => "apis/elbv2.k8s.aws/v1beta1",
        "event" => "apis/events.k8s.io/v1",
        _ => "api/v1",
    };
    format!("/{version}/namespaces/NAMESPACE/{kind}s")
}

fn patch(what: &'static str, target: &str, patch: &Value) -> Attempt {
    let (kind, name) = target.split_once('/').unwrap_or_default();
    // Conditions of built-in kinds are merged by type, as the registrar does it.
    let merged = name.ends_with("/status") && kind != "targetgroupbinding";
    let content_type = if merged { "application/strategic-merge-patch+json" } else { "application/merge-patch+json" };
    Attempt { what, method: "PATCH", path: format!("{}/{name}", collection(kind)), content_type, body: patch.clone() }
}

fn create(what: &'static str, object: &Value) -> Attempt {
    let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
    Attempt { what, method: "POST", path: collection(&kind), content_type: "application/json", body: object.clone() }
}

fn delete(what: &'static str, kind: &str, name: &str) -> Attempt {
    let path = format!("{}/{name}", collection(kind));
    Attempt { what, method: "DELETE", path, content_type: "application/json", body: json!({}) }
}

/// A client that is taken for the registrar.
async fn as_registrar() -> Result<Client> {
    let mut config = Config::infer().await?;
    config.auth_info.impersonate = Some("system:serviceaccount:sluice-system:sluice-registrar".to_owned());
    Ok(Client::try_from(config)?)
}

/// Tries it as the registrar: what the API server said if it refused, nothing if it did it.
async fn attempt(us: &Client, lab: &Scenario, attempt: &Attempt) -> Result<Option<String>> {
    let request = http::Request::builder()
        .method(attempt.method)
        .uri(attempt.path.replace("NAMESPACE", &lab.namespace))
        .header("content-type", attempt.content_type)
        .body(attempt.body.to_string().replace("NAMESPACE", &lab.namespace).into_bytes())?;
    match us.request_text(request).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => Err(error.into()),
    }
}

fn condition(name: &str, status: &str) -> Value {
    json!({"status": {"conditions": [{"type": name, "status": status, "reason": "Test", "message": "tried"}]}})
}

fn event(controller: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "web.1"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": controller, "reportingInstance": "x",
        "action": "Test", "reason": "Test", "type": "Normal", "note": "tried",
        "regarding": {"kind": kind, "apiVersion": "v1", "name": "web", "namespace": "NAMESPACE"},
    })
}

fn binding(name: &str, labels: &Value) -> Value {
    json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding", "metadata": {"name": name, "labels": labels},
        "spec": {"targetGroupARN": ARN, "targetType": "ip", "serviceRef": {"name": "web", "port": 80}},
    })
}

fn ledger(name: &str, entry: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {entry: "10.0.0.1:80"}})
}

/// Attempts on pods, each a way to send traffic astray or to keep a pod from ending.
fn abuses_of_pods() -> Vec<Attempt> {
    // Not merged by type: what is not in a list is gone then.
    let status = |what, status: Value| Attempt {
        content_type: "application/merge-patch+json",
        ..patch(what, "pod/web/status", &json!({ "status": status }))
    };
    let metadata = |what, metadata: Value| patch(what, "pod/web/status", &json!({ "metadata": metadata }));
    vec![
        metadata("put a pod into another Service", json!({"labels": {"app": "payments"}})),
        metadata("add a label", json!({"labels": {"tier": "front"}})),
        metadata("change an annotation", json!({"annotations": {"team": "evil"}})),
        metadata("keep a pod from ending", json!({"finalizers": ["example.com/keep", "example.com/more"]})),
        status("take over an address", json!({"podIP": "192.168.11.99", "podIPs": [{"ip": "192.168.11.99"}]})),
        status("change the node's address", json!({"hostIP": "192.168.11.99", "hostIPs": [{"ip": "192.168.11.99"}]})),
        status("end a pod in words", json!({"phase": "Failed"})),
        status("give a reason", json!({"reason": "Evicted", "message": "tried"})),
        status("change when it began", json!({"startTime": "2020-01-01T00:00:00Z"})),
        status(
            "change what a container is",
            json!({"containerStatuses": [{"name": "echo", "ready": true, "restartCount": 7, "image": "x", "imageID": "x"}]}),
        ),
        patch("make a pod ready", "pod/web/status", &condition("Ready", "True")),
        patch("make its containers ready", "pod/web/status", &condition("ContainersReady", "Unknown")),
        patch("open somebody else's gate", "pod/web/status", &condition("example.com/traffic", "True")),
        patch(
            "set a gate that the pod does not have",
            "pod/web/status",
            &condition("target-health.elbv2.k8s.aws/other", "True"),
        ),
        status("forget all conditions", json!({"conditions": []})),
    ]
}

/// Attempts on bindings and Services.
fn abuses_of_bindings_and_services() -> Vec<Attempt> {
    let own = json!({"service.k8s.aws/stack-namespace": "default", "service.k8s.aws/stack-name": "web"});
    vec![
        patch(
            "send a user's group elsewhere",
            "targetgroupbinding/web",
            &json!({"spec": {"serviceRef": {"name": "other"}}}),
        ),
        patch("share a user's group", "targetgroupbinding/web", &json!({"spec": {"multiClusterTargetGroup": true}})),
        patch(
            "name a role",
            "targetgroupbinding/web",
            &json!({"spec": {"iamRoleArnToAssume": "arn:aws:iam::1:role/x"}}),
        ),
        patch("rename a group", "targetgroupbinding/bare", &json!({"spec": {"targetGroupName": "other"}})),
        patch("make a user's binding one's own", "targetgroupbinding/web", &json!({"metadata": {"labels": own}})),
        patch(
            "annotate a user's binding",
            "targetgroupbinding/web",
            &json!({"metadata": {"annotations": {"team": "x"}}}),
        ),
        patch("take off another's finalizer", "targetgroupbinding/web", &json!({"metadata": {"finalizers": []}})),
        patch(
            "take off another's finalizer of one's own",
            "targetgroupbinding/ours",
            &json!({"metadata": {"finalizers": []}}),
        ),
        delete("delete a user's binding", "targetgroupbinding", "web"),
        create("make a binding as a user does", &binding("new", &json!({}))),
        patch("select other pods", "service/ours", &json!({"spec": {"selector": {"app": "payments"}}})),
        patch("open a port", "service/ours", &json!({"spec": {"ports": [{"port": 80, "nodePort": 31000}]}})),
        patch("label a Service", "service/ours", &json!({"metadata": {"labels": {"app": "x"}}})),
        patch(
            "make a load balancer public",
            "service/ours",
            &json!({"metadata": {"annotations": {"service.beta.kubernetes.io/aws-load-balancer-scheme": "internet-facing"}}}),
        ),
        patch("forget an annotation", "service/ours", &json!({"metadata": {"annotations": {"team": null}}})),
        patch(
            "take off a Service's other finalizer",
            "service/ours",
            &json!({"metadata": {"finalizers": ["service.k8s.aws/resources"]}}),
        ),
        patch(
            "send clients of a foreign Service elsewhere",
            "service/web/status",
            &json!({"status": {"loadBalancer": {"ingress": [{"hostname": "evil.example.com"}]}}}),
        ),
    ]
}

/// Attempts on everything else that a role lets it write.
fn other_abuses() -> Vec<Attempt> {
    vec![
        create("write a ConfigMap", &ledger("app-settings", "targets")),
        create("hide something in a ledger", &ledger("aws-lbc-targets-web", "script")),
        create("speak in another's name", &event("kubelet", "Pod")),
        create("speak about nodes", &event("sluice-registrar", "Node")),
    ]
}

#[tokio::test]
async fn stolen_token_of_the_registrar_writes_nothing_that_the_registrar_does_not_write() -> Result<()> {
    installed().await?;
    let lab = Scenario::begin("abuse", &[]).await?;
    lab.apply(&objects()).await?;
    lab.pod_when("web", "runs", |pod| pod.status.as_ref().is_some_and(|status| status.pod_ip.is_some())).await?;
    let us = as_registrar().await?;
    let mut wrong = Vec::new();
    let cases = [
        ("sluice-registrar-pods", abuses_of_pods()),
        ("bindings' or Services' policy", abuses_of_bindings_and_services()),
        ("sluice-registrar-rest", other_abuses()),
    ];
    let mut tried = 0;
    for (policy, attempts) in &cases {
        for case in attempts {
            tried += 1;
            match attempt(&us, &lab, case).await? {
                None => wrong.push(format!("{}: accepted", case.what)),
                Some(by)
                    if !by.contains("ValidatingAdmissionPolicy 'sluice-registrar-")
                        || !by.contains("the registrar may") =>
                {
                    wrong.push(format!("{}: refused, but not by {policy}: {by}", case.what));
                }
                Some(_) => {}
            }
        }
    }
    ensure!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{tried} abuses refused");
    lab.end().await
}

#[tokio::test]
async fn what_the_registrar_writes_is_accepted() -> Result<()> {
    installed().await?;
    let lab = Scenario::begin("use", &[]).await?;
    lab.apply(&objects()).await?;
    let own = json!({"service.k8s.aws/stack-namespace": "default", "service.k8s.aws/stack-name": "web"});
    let finalizers = |ours: &str| json!({"metadata": {"finalizers": ["example.com/keep", ours]}});
    let resolved = json!({"spec": {"targetGroupARN": ARN, "targetType": "ip", "ipAddressType": "ipv4", "vpcID": "vpc-1", "targetGroupProtocol": "TCP"}});
    let ready = json!({"type": "Ready", "status": "True", "reason": "Test", "message": "1/1", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let hostname =
        json!({"status": {"loadBalancer": {"ingress": [{"hostname": "a.elb.ap-northeast-2.amazonaws.com"}]}}});
    let cases = [
        patch("close a gate", "pod/web/status", &condition(GATE, "False")),
        patch("open a gate", "pod/web/status", &condition(GATE, "True")),
        patch("hold a user's binding", "targetgroupbinding/web", &finalizers("elbv2.k8s.aws/resources")),
        patch("resolve a user's binding", "targetgroupbinding/bare", &resolved),
        patch("say how a binding is", "targetgroupbinding/web/status", &json!({"status": {"conditions": [ready]}})),
        patch(
            "let a user's binding go",
            "targetgroupbinding/web",
            &json!({"metadata": {"finalizers": ["example.com/keep"]}}),
        ),
        create("make a binding of one's own", &binding("made", &own)),
        patch(
            "change a binding of one's own",
            "targetgroupbinding/made",
            &json!({"spec": {"serviceRef": {"port": 81}}}),
        ),
        delete("delete a binding of one's own", "targetgroupbinding", "made"),
        patch("hold a Service", "service/web", &finalizers("service.k8s.aws/resources")),
        patch("give a Service its address", "service/web/status", &hostname),
        patch("say how a Service is", "service/web/status", &condition("LoadBalancerReady", "False")),
        patch(
            "say which fields are ours",
            "service/web",
            &json!({"metadata": {"annotations": {"elbv2.k8s.aws/managed-fields": "{}"}}}),
        ),
        patch("let a Service go", "service/web", &json!({"metadata": {"finalizers": ["example.com/keep"]}})),
        create("begin a ledger", &ledger("aws-lbc-targets-web", "targets")),
        delete("end a ledger", "configmap", "aws-lbc-targets-web"),
        create("publish an Event", &event("sluice-registrar", "Pod")),
    ];
    let us = as_registrar().await?;
    let mut wrong = Vec::new();
    for case in &cases {
        if let Some(by) = attempt(&us, &lab, case).await? {
            wrong.push(format!("{}: {by}", case.what));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    lab.end().await
}

#[tokio::test]
async fn other_clients_are_not_concerned() -> Result<()> {
    installed().await?;
    let lab = Scenario::begin("others", &[]).await?;
    lab.apply(&objects()).await?;
    lab.kubectl(&["label", "pod", "web", "app=payments", "--overwrite"]).await?;
    lab.kubectl(&["patch", "service", "web", "-p", r#"{"spec":{"selector":{"app":"payments"}}}"#]).await?;
    lab.kubectl(&["delete", "targetgroupbinding", "web", "--wait=false"]).await?;
    lab.kubectl(&["create", "configmap", "settings"]).await?;
    lab.end().await
}
