//! Arbitrary pods, Services and bindings, from few enough names that they meet.

use std::sync::Arc;

use nlb::{
    prediction::{BindingFacts, ServiceFacts},
    targetgroupbinding::TargetGroupBinding,
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};
use webhook::snapshot::{CachedBinding, CachedService, Snapshot};

pub(crate) const NAMESPACE: &str = "team";
const FAMILY: &str = "service.beta.kubernetes.io/aws-load-balancer-";

/// The Services and bindings of a namespace.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    services: Vec<Value>,
    bindings: Vec<Value>,
}

impl Cluster {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for service in &self.services {
            let service = serde_json::from_value(service.clone()).unwrap();
            snapshot.services.apply(CachedService::of(service, &snapshot.settings));
        }
        for binding in &self.bindings {
            snapshot.bindings.apply(CachedBinding::of(serde_json::from_value(binding.clone()).unwrap()));
        }
        snapshot
    }

    /// The same without any index.
    pub(crate) fn everything(&self) -> (Vec<ServiceFacts>, Vec<BindingFacts>) {
        let settings = Arc::default();
        let services = self.services.iter().map(|service| Arc::new(serde_json::from_value(service.clone()).unwrap()));
        let bindings = self.bindings.iter().map(|binding| serde_json::from_value(binding.clone()).unwrap());
        (
            services.map(|service| ServiceFacts::of(&service, &settings)).collect(),
            bindings.map(|binding: TargetGroupBinding| BindingFacts::of(&binding)).collect(),
        )
    }
}

pub(crate) fn arbitrary() -> impl Strategy<Value = Cluster> {
    let named = |prefix: &'static str, objects: Vec<Value>| -> Vec<Value> {
        let number = |(index, mut object): (usize, Value)| {
            object["metadata"]["name"] = json!(format!("{prefix}{index}"));
            object["metadata"]["namespace"] = json!(NAMESPACE);
            object
        };
        objects.into_iter().enumerate().map(number).collect()
    };
    (vec(service(), 0..4), vec(binding(), 0..3)).prop_map(move |(services, bindings)| Cluster {
        services: named("s", services),
        bindings: named("b", bindings),
    })
}

/// A map of fields, of which each may be left out or be null.
fn object(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> impl Strategy<Value = Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, value)| {
            prop_oneof![1 => Just(None), 1 => Just(Some(Value::Null)), 6 => value.prop_map(Some)]
                .prop_map(move |value| value.map(|value| (name.to_owned(), value)))
        })
        .collect();
    (fields, option::of(("[a-z]{1,3}X", any_json())))
        .prop_map(|(fields, novel)| Value::Object(fields.into_iter().flatten().chain(novel).collect::<Map<_, _>>()))
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-z~/]{1,3}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn words(words: &'static [&'static str]) -> BoxedStrategy<Value> {
    select(words).prop_map(Value::from).boxed()
}

fn labels() -> BoxedStrategy<Value> {
    let inject = select(&["disabled", "enabled"][..]);
    (select(&["web", "api"][..]), option::of(select(&["one", "two"][..])), option::weighted(0.1, inject))
        .prop_map(|(app, tier, inject)| {
            let mut labels = json!({"app": app});
            for (key, value) in [("tier", tier), ("elbv2.k8s.aws/pod-readiness-gate-inject", inject)] {
                if let Some(value) = value {
                    labels[key] = json!(value);
                }
            }
            labels
        })
        .boxed()
}

fn annotations(keys: &'static [(&'static str, &'static [&'static str])]) -> BoxedStrategy<Value> {
    let one = select(keys).prop_flat_map(|(key, values)| (Just(key), select(values)));
    vec(one, 0..3)
        .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect()))
        .boxed()
}

pub(crate) fn pod() -> impl Strategy<Value = Value> {
    let gate = select(
        &[
            "www.example.com/ready",
            "target-health.elbv2.k8s.aws/b0",
            "target-health.elbv2.k8s.aws/k8s-team-s0-0123456789",
            "target-health.alb.ingress.k8s.aws/old_80",
        ][..],
    )
    .prop_map(|gate| json!({"conditionType": gate}));
    let annotations = annotations(&[
        ("elbv2.k8s.aws/pod-drain", &["off", "60", "soon", "auto"]),
        (
            "service.beta.kubernetes.io/aws-load-balancer-quic-enabled-containers",
            &["c0", "c1, c0", "nobody", "c0,c0", ""],
        ),
        ("kubernetes.io/config.mirror", &["x"]),
        ("example.com/a~b", &["\u{202e}"]),
    ]);
    let number = |values: &'static [i64]| select(values).prop_map(Value::from).boxed();
    let spec = object(vec![
        ("containers", vec(container(), 0..3).prop_map(Value::from).boxed()),
        ("initContainers", vec(container(), 0..2).prop_map(Value::from).boxed()),
        ("readinessGates", vec(gate, 0..4).prop_map(Value::from).boxed()),
        ("terminationGracePeriodSeconds", number(&[-1, 0, 1, 30, 120, i64::MAX])),
        ("hostNetwork", select(&[false, false, false, true][..]).prop_map(Value::from).boxed()),
    ]);
    let metadata = object(vec![("labels", labels()), ("annotations", annotations), ("generateName", words(&["web-"]))]);
    object(vec![("metadata", metadata.boxed()), ("spec", spec.boxed())])
}

fn container() -> impl Strategy<Value = Value> {
    let hook = object(vec![
        ("sleep", select(&[0_i64, 5, 120, 600][..]).prop_map(|seconds| json!({"seconds": seconds})).boxed()),
        ("exec", Just(json!({"command": ["true"]})).boxed()),
    ]);
    let lifecycle = object(vec![("preStop", hook.boxed()), ("postStart", Just(json!({"exec": {}})).boxed())]);
    let variable = select(&["PATH", "AWS_LBC_QUIC_SERVER_ID"][..]).prop_map(|name| json!({"name": name, "value": "x"}));
    object(vec![
        ("name", words(&["c0", "c1", "c2"])),
        ("restartPolicy", words(&["Always"])),
        ("lifecycle", lifecycle.boxed()),
        ("env", vec(variable, 0..2).prop_map(Value::from).boxed()),
    ])
    .prop_map(|mut container| {
        // A container without a name is null in no API.
        if container["name"].is_null() {
            container["name"] = json!("c3");
        }
        container
    })
}

pub(crate) fn service() -> impl Strategy<Value = Value> {
    let annotations = vec(
        select(
            &[
                ("nlb-target-type", "ip"),
                ("nlb-target-type", "ip"),
                ("nlb-target-type", "instance"),
                ("nlb-target-type", "Ip"),
                ("type", "external"),
                ("scheme", "internal"),
                ("scheme", "public"),
                ("healthcheck-interval", "4"),
                ("pod-drain", "60"),
                ("pod-drain", "off"),
                ("schema", "internal"),
            ][..],
        ),
        0..4,
    );
    let port = select(&[80_u16, 443, 8080][..]).prop_map(|port| json!({"name": format!("p{port}"), "port": port}));
    let class = select(&["service.k8s.aws/nlb", "service.k8s.aws/nlb", "example.com/other"][..]);
    let forwards = option::weighted(0.3, 0..4_usize);
    (annotations, labels(), vec(port, 1..3), option::weighted(0.8, class), forwards, any::<bool>()).prop_map(
        |(annotations, mut selector, ports, class, forwards, balancer)| {
            let mut all: Map<String, Value> = annotations
                .into_iter()
                .map(|(key, value)| (format!("{FAMILY}{key}"), json!(value)))
                .collect();
            if let Some(other) = forwards {
                let action = json!({"type": "forward", "forwardConfig": {"baseServiceWeight": 1, "targetGroups": [
                    {"serviceName": format!("s{other}"), "servicePort": 80, "weight": 1},
                ]}});
                all.insert("service.beta.kubernetes.io/actions.TCP-80".to_owned(), json!(action.to_string()));
            }
            if let Some(selector) = selector.as_object_mut() {
                selector.retain(|key, _| key != "elbv2.k8s.aws/pod-readiness-gate-inject");
            }
            let mut service = json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "s", "namespace": NAMESPACE, "annotations": all},
                "spec": {"type": if balancer { "LoadBalancer" } else { "ClusterIP" }, "selector": selector, "ports": ports},
            });
            if let Some(class) = class {
                service["spec"]["loadBalancerClass"] = json!(class);
            }
            service
        },
    )
}

fn binding() -> impl Strategy<Value = Value> {
    let target_type = option::weighted(0.9, select(&["ip", "ip", "ip", "instance"][..]));
    (0..4_usize, select(&[80, 443][..]), target_type, any::<bool>(), any::<bool>()).prop_map(
        |(service, port, target_type, made, going)| {
            let mut binding = json!({
                "apiVersion": "elbv2.k8s.aws/v1beta1", "kind": "TargetGroupBinding",
                "metadata": {"name": "b", "namespace": NAMESPACE},
                "spec": {
                    "targetGroupARN": "arn:aws:elasticloadbalancing:eu-west-1:111122223333:targetgroup/a/0123456789abcdef",
                    "serviceRef": {"name": format!("s{service}"), "port": port},
                },
            });
            if let Some(target_type) = target_type {
                binding["spec"]["targetType"] = json!(target_type);
            }
            if made {
                binding["metadata"]["labels"] = json!({
                    "service.k8s.aws/stack-namespace": NAMESPACE, "service.k8s.aws/stack-name": format!("s{service}"),
                });
            }
            if going {
                binding["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            }
            binding
        },
    )
}
