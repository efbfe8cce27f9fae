//! Reviews as large as they are taken, of objects that were made to cost as much as possible.

use webhook::{
    admission::Hook,
    snapshot::{CachedService, Snapshot},
};

/// The largest body that is read.
pub const LARGEST: usize = 7 * 1024 * 1024;
const FAMILY: &str = "service.beta.kubernetes.io/aws-load-balancer-";

/// A cluster in which a Service selects the pods of these reviews.
pub fn cluster() -> Snapshot {
    let mut snapshot = Snapshot::default();
    let service = serde_json::json!({
        "metadata": {"name": "web", "namespace": "team", "uid": "1",
            "annotations": {format!("{FAMILY}nlb-target-type"): "ip"}},
        "spec": {"type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb", "selector": {"app": "web"},
            "ports": [{"port": 80}]},
    });
    if let Ok(service) = serde_json::from_value(service) {
        snapshot.services.apply(CachedService::of(service, &snapshot.settings));
    }
    snapshot
}

/// A review of an object, in whose text `%` stands for as many items as there is room for.
fn review(object: &str, size: usize, item: &dyn Fn(usize) -> String) -> String {
    let whole = format!(
        r#"{{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{{"uid":"u","operation":"CREATE","namespace":"team","name":"n","object":{object}}}}}"#
    );
    let Some((before, after)) = whole.split_once('%') else { return whole };
    let mut body = before.to_owned();
    for number in 0.. {
        let next = item(number);
        if body.len() + next.len() + 1 + after.len() > size {
            break;
        }
        if number > 0 {
            body.push(',');
        }
        body.push_str(&next);
    }
    body + after
}

/// What is asked, what it shows, and the body.
type Body = (Hook, &'static str, String);

/// Bodies of about `size` bytes.
pub fn all(size: usize) -> Vec<Body> {
    [of_pods(size), of_services(size), of_bindings(size)].concat()
}

fn same(item: &'static str) -> impl Fn(usize) -> String {
    move |_| item.to_owned()
}

fn of_pods(size: usize) -> Vec<Body> {
    let pod = |fields: &str| format!(r#"{{"metadata":{{"labels":{{"app":"web"}}}},"spec":{{{fields}}}}}"#);
    let quic = format!(r#"{{"{FAMILY}quic-enabled-containers":""#);
    let mut bodies = Vec::new();
    for hook in [Hook::PodGates, Hook::PodDrain, Hook::PodServerId] {
        bodies.extend([
            (hook, "a field that nobody knows", review(&pod(r#""novel":[%]"#), size, &same("1"))),
            (hook, "one text", review(&pod(r#""novel":"%""#), size, &same(r"\u0000\n"))),
            (hook, "containers", review(&pod(r#""containers":[%]"#), size, &same("{}"))),
            (
                hook,
                "named containers that are all wanted",
                review(
                    &format!(
                        r#"{{"metadata":{{"labels":{{"app":"web"}},"annotations":{quic}{}"}}}},"spec":{{"containers":[%]}}}}"#,
                        (0..size / 30).map(|number| format!("c{number}")).collect::<Vec<_>>().join(",")
                    ),
                    size,
                    &|number| format!(r#"{{"name":"c{number}"}}"#),
                ),
            ),
            (
                hook,
                "containers with hooks of their own",
                review(&pod(r#""containers":[%]"#), size, &same(r#"{"lifecycle":{"preStop":{"sleep":{"seconds":1}}}}"#)),
            ),
            (
                hook,
                "gates of the first generation",
                review(&pod(r#""readinessGates":[%]"#), size, &same(r#"{"conditionType":"target-health.alb.ingress.k8s.aws/x"}"#)),
            ),
            (
                hook,
                "labels",
                review(r#"{"metadata":{"labels":{"app":"web",%}},"spec":{}}"#, size, &|number| format!(r#""l{number}":"x""#)),
            ),
            (
                hook,
                "annotations of ours that nobody knows",
                review(r#"{"metadata":{"labels":{"app":"web"},"annotations":{%}},"spec":{}}"#, size, &|number| {
                    format!(r#""elbv2.k8s.aws/pod-drain{number}":"x""#)
                }),
            ),
            (
                hook,
                "an annotation that cannot be read",
                review(
                    r#"{"metadata":{"labels":{"app":"web"},"annotations":{"elbv2.k8s.aws/pod-drain":"%"}},"spec":{}}"#,
                    size,
                    &same("9"),
                ),
            ),
        ]);
    }
    bodies
}

fn of_services(size: usize) -> Vec<Body> {
    let service = |annotations: &str, ports: &str| {
        format!(
            r#"{{"metadata":{{"name":"web","annotations":{{"{FAMILY}nlb-target-type":"ip",{annotations}}}}},"spec":{{"type":"LoadBalancer","loadBalancerClass":"service.k8s.aws/nlb","selector":{{"app":"web"}},"ports":[{ports}]}}}}"#
        )
    };
    let mut bodies = Vec::new();
    for hook in [Hook::Service, Hook::ServiceClass] {
        bodies.extend([
            (
                hook,
                "ports",
                review(&service(r#""a":"b""#, "%"), size, &|number| {
                    format!(r#"{{"port":{number},"protocol":"SCTP"}}"#)
                }),
            ),
            (
                hook,
                "keys that nobody knows",
                review(&service("%", ""), size, &|number| format!(r#""{FAMILY}x{number}":"y""#)),
            ),
            (
                hook,
                "keys of listeners that do not exist",
                review(&service("%", r#"{"port":80}"#), size, &|number| {
                    format!(r#""{FAMILY}listener-attributes.TCP-{}":"{number}""#, number % 65_535 + 1)
                }),
            ),
            (
                hook,
                "actions that cannot be read",
                review(&service("%", r#"{"port":80}"#), size, &|number| {
                    format!(r#""service.beta.kubernetes.io/actions.TCP-{}":"[""#, number % 65_535 + 1)
                }),
            ),
        ]);
        for key in [
            "subnets",
            "security-groups",
            "additional-resource-tags",
            "attributes",
            "ssl-cert",
            "ssl-ports",
            "target-node-labels",
        ] {
            let items = service(&format!(r#""{FAMILY}{key}":"%""#), r#"{"port":80}"#);
            bodies.push((hook, key, review(&items, size, &|number| format!("x{number}"))));
        }
    }
    bodies
}

fn of_bindings(size: usize) -> Vec<Body> {
    let binding = |fields: &str| {
        format!(
            r#"{{"apiVersion":"elbv2.k8s.aws/v1beta1","kind":"TargetGroupBinding","metadata":{{"name":"b"}},"spec":{{"targetType":"ip","serviceRef":{{"name":"web","port":80}},"targetGroupARN":"arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/g/0123456789abcdef",{fields}}}}}"#
        )
    };
    vec![
        (
            Hook::Binding,
            "rules of networking",
            review(
                &binding(r#""networking":{"ingress":[%]}"#),
                size,
                &same(r#"{"from":[{"ipBlock":{"cidr":"x"}}],"ports":[{"protocol":"TCP","port":0}]}"#),
            ),
        ),
        (
            Hook::Binding,
            "labels of nodes",
            review(&binding(r#""nodeSelector":{"matchLabels":{%}}"#), size, &|number| format!(r#""l{number}":"x""#)),
        ),
    ]
}
