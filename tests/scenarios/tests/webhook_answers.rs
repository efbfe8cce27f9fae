//! What a wrong answer of a webhook does to a pod although the failure policy is `Ignore`, and that ours gives none of those
//! that refuse it.

mod webhook_installed;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    ByteString,
    api::{admissionregistration::v1::MutatingWebhookConfiguration, core::v1::Pod},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use scenarios::{Scenario, eventually};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use self::webhook_installed::{FAMILY, LABELS, create, installed, pod, service};

/// What the API server does with a pod.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pods {
    Created,
    /// Refused, and what it says.
    Refused(&'static str),
}

use Pods::{Created, Refused};

/// Every way in which an answer can be wrong, and what becomes of the pod.
const ANSWERS: [(&str, Pods); 14] = [
    ("right", Created),
    // Those that refuse: ours must never be like them.
    ("patch-of-a-list-that-is-not-there", Refused("doc is missing path")),
    ("patch-to-an-invalid-pod", Refused("Invalid value")),
    ("denied", Refused("denied the request")),
    // Those that count as a failure, so that the failure policy decides.
    ("patch-that-is-no-json", Created),
    ("patch-of-no-type", Created),
    ("another-uid", Created),
    ("no-uid", Created),
    ("no-version", Created),
    ("cut-off", Created),
    ("bad-request", Created),
    ("internal-error", Created),
    ("closed", Created),
    ("never", Created),
];

/// What is answered to a review under a path; an error closes the connection.
async fn answer(kind: &str, uid: &str) -> Result<Response<Full<Bytes>>> {
    let review =
        |response: Value| json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response});
    let patched = |patch: &str| {
        let patch = ByteString(patch.as_bytes().to_vec());
        review(json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch})).to_string()
    };
    let gate = |name: &str| json!({"conditionType": format!("target-health.elbv2.k8s.aws/{name}")});
    let add = |path: &str, value: Value| patched(&json!([{"op": "add", "path": path, "value": value}]).to_string());
    let right = add("/spec/readinessGates", json!([gate("x")]));
    let (mut status, mut body) = (StatusCode::OK, right.clone());
    match kind {
        "right" => {}
        "patch-of-a-list-that-is-not-there" => body = add("/spec/readinessGates/-", gate("x")),
        "patch-to-an-invalid-pod" => body = add("/spec/readinessGates", json!([gate(&"x".repeat(64))])),
        "denied" => body = review(json!({"uid": uid, "allowed": false})).to_string(),
        "patch-that-is-no-json" => body = patched("[{"),
        "patch-of-no-type" => body = right.replace("\"JSONPatch\"", "null"),
        "another-uid" => body = right.replace(uid, "another"),
        "no-uid" => body = right.replace(uid, ""),
        "no-version" => body = right.replace("admission.k8s.io/v1", ""),
        "cut-off" => body.truncate(right.len() / 2),
        "bad-request" => status = StatusCode::BAD_REQUEST,
        "internal-error" => status = StatusCode::INTERNAL_SERVER_ERROR,
        "closed" => bail!("closed"),
        "never" => std::future::pending().await,
        other => bail!("{other} is no answer"),
    }
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    Ok(response)
}

/// A webhook that answers as the path of the review says. It ends with this value.
struct Wrong {
    configuration: Value,
    /// How often was asked for each answer.
    asked: Arc<Mutex<BTreeMap<String, u32>>>,
    _tasks: JoinSet<()>,
}

impl Wrong {
    async fn start(namespace: &str) -> Result<Self> {
        let key = rcgen::KeyPair::generate()?;
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let tls =
            ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private)?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let hooks: Vec<Value> = ANSWERS
            .iter()
            .map(|(kind, _)| {
                json!({
                    "name": format!("{kind}.example.com"), "admissionReviewVersions": ["v1"], "sideEffects": "None",
                    "failurePolicy": "Ignore", "timeoutSeconds": 1, "matchPolicy": "Equivalent",
                    "objectSelector": {"matchLabels": {"answer": kind}},
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}],
                    "clientConfig": {"url": format!("https://{address}/{kind}"), "caBundle": ByteString(certificate.pem().into_bytes())},
                })
            })
            .collect();
        let asked = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&asked)));
        Ok(Self { configuration: json!({"metadata": {"name": namespace}, "webhooks": hooks}), asked, _tasks: tasks })
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, asked: Arc<Mutex<BTreeMap<String, u32>>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, asked) = (tls.clone(), Arc::clone(&asked));
        connections.spawn(async move {
            let Ok(stream) = tls.accept(stream).await else { return };
            let service = service_fn(|request: Request<Incoming>| async {
                let kind = request.uri().path().trim_start_matches('/').to_owned();
                let review: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
                *asked.lock().unwrap_or_else(PoisonError::into_inner).entry(kind.clone()).or_default() += 1;
                answer(&kind, review["request"]["uid"].as_str().unwrap_or_default()).await
            });
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Tries to create a pod: `None`, or why not.
async fn refusal(pods: &Api<Pod>, pod: &Value) -> Result<Option<String>> {
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    match pods.create(&tried, &serde_json::from_value(pod.clone())?).await {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message)),
        Err(error) => Err(error.into()),
    }
}

#[tokio::test]
async fn three_wrong_answers_refuse_a_pod_whatever_the_failure_policy_and_the_others_do_not() -> Result<()> {
    let lab = Scenario::begin("answers", &[]).await?;
    let wrong = Wrong::start(&lab.namespace).await?;
    let configurations: Api<MutatingWebhookConfiguration> = Api::all(lab.client.clone());
    configurations.create(&PostParams::default(), &serde_json::from_value(wrong.configuration.clone())?).await?;
    let pods: Api<Pod> = lab.api();
    let labelled = |kind: &str| {
        let mut pod = pod("tried");
        pod["metadata"]["labels"]["answer"] = json!(kind);
        pod
    };
    eventually("the API server asks", || async { Ok(refusal(&pods, &labelled("denied")).await?.map(drop)) }).await?;

    let mut problems = Vec::new();
    for (kind, expected) in ANSWERS {
        let seen = refusal(&pods, &labelled(kind)).await?;
        let right = match (expected, &seen) {
            (Created, None) => true,
            (Refused(says), Some(message)) => message.contains(says),
            _ => false,
        };
        if !right {
            problems.push(format!("{kind}: expected {expected:?}, saw {seen:?}"));
        }
        if !wrong.asked.lock().unwrap_or_else(PoisonError::into_inner).contains_key(kind) {
            problems.push(format!("{kind}: nobody was asked"));
        }
    }
    configurations.delete(&lab.namespace, &DeleteParams::default()).await?;
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    lab.end().await
}

/// Pods to which a careless webhook gives one of the answers that refuse, by what is special about them.
fn provocations() -> Vec<(&'static str, Value)> {
    let quic = format!("{FAMILY}quic-enabled-containers");
    let special = |what: &'static str, change: &dyn Fn(&mut Value)| {
        let mut pod = pod("tried");
        change(&mut pod);
        (what, pod)
    };
    let gates = |count: usize| {
        json!((0..count).map(|n| json!({"conditionType": format!("example.com/{n}")})).collect::<Vec<_>>())
    };
    vec![
        special("no lists at all", &|_| {}),
        special("empty lists", &|pod| {
            pod["spec"]["readinessGates"] = json!([]);
            pod["spec"]["containers"][0]["env"] = json!([]);
        }),
        special("nulls", &|pod| {
            pod["spec"]["readinessGates"] = Value::Null;
            pod["spec"]["initContainers"] = Value::Null;
            pod["spec"]["containers"][0]["env"] = Value::Null;
            pod["spec"]["containers"][0]["lifecycle"] = Value::Null;
        }),
        special("an empty lifecycle", &|pod| pod["spec"]["containers"][0]["lifecycle"] = json!({})),
        special("many gates", &|pod| pod["spec"]["readinessGates"] = gates(500)),
        special("the longest grace period", &|pod| pod["spec"]["terminationGracePeriodSeconds"] = json!(i64::MAX)),
        special("no grace", &|pod| pod["spec"]["terminationGracePeriodSeconds"] = json!(0)),
        special("a hook as long as its grace period", &|pod| {
            pod["spec"]["containers"][0]["lifecycle"] = json!({"preStop": {"sleep": {"seconds": 10}}});
        }),
        special("values that nobody can read", &|pod| {
            pod["metadata"]["annotations"] =
                json!({quic.clone(): ",,nobody,\u{202e}", "elbv2.k8s.aws/pod-drain": "soon"});
        }),
        special("as many annotations as may be", &|pod| {
            pod["metadata"]["annotations"]["elbv2.k8s.aws/pod-drain"] = json!("9".repeat(250 * 1024));
        }),
        special("its server id already", &|pod| {
            pod["spec"]["containers"][0]["env"] = json!([{"name": "AWS_LBC_QUIC_SERVER_ID", "value": "x"}]);
        }),
        special("a variable without a value", &|pod| {
            pod["spec"]["containers"][0]["env"] =
                json!([{"name": "A"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]);
        }),
    ]
}

#[tokio::test]
async fn our_webhook_gives_none_of_the_answers_that_refuse_a_pod() -> Result<()> {
    let (lab, plain) = (Scenario::begin("provoked", &LABELS).await?, Scenario::begin("unasked", &[]).await?);
    installed().await?;
    let longest = [("pod-drain", "3600"), ("schema", "x")];
    let binding = json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
        // Longer than the name of a condition may be.
        "metadata": {"name": "x".repeat(64)},
        "spec": {"serviceRef": {"name": "web", "port": "http"}, "targetType": "ip",
            "targetGroupARN": "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/web/0123456789abcdef"},
    });
    for object in [service("web", &longest), binding] {
        let (stored, says) = create(&lab.namespace, &object, false).await?;
        ensure!(stored, "{says}");
    }
    let pods: Api<Pod> = lab.api();
    // All three hooks have seen both objects when a pod gets gates, a delay and an id.
    let first = &provocations()[0].1;
    let tried = PostParams { dry_run: true, ..PostParams::default() };
    eventually("a pod that is changed by all hooks", || async {
        let spec = pods.create(&tried, &serde_json::from_value(first.clone())?).await?.spec.context("a spec")?;
        let (gated, late) = (spec.readiness_gates.is_some(), spec.termination_grace_period_seconds == Some(3610));
        Ok((gated && late && spec.containers[0].env.is_some()).then_some(()))
    })
    .await?;
    eventually("a warning about the name of the binding", || async {
        let (stored, says) = create(&lab.namespace, first, true).await?;
        ensure!(stored, "{says}");
        Ok(says.contains("no readiness gate").then_some(()))
    })
    .await?;
    let mut problems = Vec::new();
    for (what, pod) in provocations() {
        match (refusal(&plain.api(), &pod).await?, refusal(&pods, &pod).await?) {
            (None, None) => {}
            (without, with) => problems.push(format!("{what}: without a webhook {without:?}, with ours {with:?}")),
        }
    }
    ensure!(problems.is_empty(), "{}", problems.join("\n"));
    plain.end().await?;
    lab.end().await
}
