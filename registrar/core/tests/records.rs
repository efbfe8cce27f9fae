//! What is read of Kubernetes objects.

use k8s_openapi::api::{
    core::v1::{Namespace, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use nlb::{service::spec::AddressFamily, settings::ModelSettings, targetgroupbinding::TargetGroupBinding};
use registrar_core::cluster::{
    BindingRecord, GateStatus, Key, NamespaceRecord, NodeRecord, PodRecord, ServiceRecord, SliceRecord,
};
use serde::de::DeserializeOwned;

#[allow(clippy::unwrap_used, reason = "the texts are below")]
fn object<T: DeserializeOwned>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap()
}

const VARIABLE: &str = "AWS_LBC_QUIC_SERVER_ID";

#[test]
fn a_pod_is_read_with_its_gates_and_what_else_holds_it_back() {
    let pod: Pod = object(
        "
metadata: {name: web-1, namespace: shop, uid: u1, resourceVersion: '42', creationTimestamp: 2026-01-01T00:00:00Z}
spec:
  nodeName: node-1
  readinessGates:
  - conditionType: target-health.elbv2.k8s.aws/k8s-shop-web-0123456789
  - conditionType: target-health.elbv2.k8s.aws/other
  - conditionType: target-health.alb.ingress.k8s.aws/legacy
  - conditionType: example.com/warm
  containers:
  - name: app
    ports: [{containerPort: 8443}]
    env: [{name: AWS_LBC_QUIC_SERVER_ID, value: ASNFZ4mrze8=}]
status:
  phase: Running
  podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]
  conditions:
  - {type: ContainersReady, status: 'True'}
  - {type: Ready, status: 'False'}
  - {type: target-health.elbv2.k8s.aws/other, status: 'False', reason: Target.FailedHealthChecks, message: no}
",
    );
    let record = PodRecord::of(&pod, VARIABLE).unwrap();
    assert_eq!((&*record.meta.key.name, &*record.meta.uid.0, record.meta.revision), ("web-1", "u1", 42));
    assert_eq!(record.addresses.len(), 2);
    assert!(record.containers_ready && !record.ready && !record.finished && !record.meta.deleting);
    assert!(record.held_by_foreign_gate, "example.com/warm is not true");
    assert_eq!(record.gates.len(), 2, "legacy gates are nobody's");
    assert!(record.gate("k8s-shop-web-0123456789").unwrap().condition.is_none());
    let closed = record.gate("other").unwrap().condition.clone().unwrap();
    assert_eq!((closed.status, closed.reason.as_str()), (GateStatus::False, "Target.FailedHealthChecks"));
    let ids: Vec<_> = record.quic_server_ids.iter().map(|(port, id)| (*port, id.as_str())).collect();
    assert_eq!(ids, [(0, "0x0123456789abcdef"), (8443, "0x0123456789abcdef")]);
}

#[test]
fn a_pod_that_its_kubelet_ends_is_as_good_as_finished() {
    let cases = [
        ("status: {phase: Succeeded}", true),
        ("status: {phase: Failed}", true),
        ("status: {phase: Running}", false),
        (
            "status: {phase: Running, conditions: [{type: DisruptionTarget, status: 'True', reason: TerminationByKubelet}]}",
            true,
        ),
        (
            "status: {phase: Running, conditions: [{type: DisruptionTarget, status: 'True', reason: EvictionByEvictionAPI}]}",
            false,
        ),
    ];
    for (status, finished) in cases {
        let pod: Pod = object(&format!("metadata: {{name: a, namespace: b, uid: c}}\n{status}"));
        assert_eq!(PodRecord::of(&pod, VARIABLE).unwrap().finished, finished, "{status}");
    }
}

#[test]
fn a_server_id_that_is_no_eight_bytes_is_none() {
    for value in ["", "AAAA", "not base64!", "ASNFZ4mrze8BASNFZ4mrze8B", "ASNFZ4mrze"] {
        let pod: Pod = object(&format!(
            "metadata: {{name: a, namespace: b, uid: c}}\nspec:\n  containers:\n  - name: app\n    env: [{{name: {VARIABLE}, value: '{value}'}}]"
        ));
        assert!(PodRecord::of(&pod, VARIABLE).unwrap().quic_server_ids.is_empty(), "{value}");
    }
}

#[test]
fn what_an_endpoint_does_not_say_is_read_as_the_api_says() {
    let slice: EndpointSlice = object(
        "
metadata:
  name: web-abc
  namespace: shop
  uid: s1
  labels: {kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}, {name: none}]
endpoints:
- {addresses: [10.0.0.1, 10.0.0.9]}
- {addresses: [10.0.0.2], conditions: {ready: false}, targetRef: {kind: Pod, name: a, uid: u1, namespace: shop}}
- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}, targetRef: {kind: Pod, name: b, uid: u2}}
- {addresses: [10.0.0.4], targetRef: {kind: Pod, name: c, uid: u3, namespace: other}}
- {addresses: [10.0.0.5], targetRef: {kind: Node, name: c, uid: u3}}
- {addresses: [nonsense]}
",
    );
    let record = SliceRecord::of(&slice).unwrap();
    assert_eq!((&*record.service, record.by_controller, record.family), ("web", true, Some(AddressFamily::Ipv4)));
    assert_eq!(record.ports.len(), 1);
    let read: Vec<_> = record
        .endpoints
        .iter()
        .map(|e| (e.address.to_string(), e.ready, e.serving, e.terminating, e.pod.as_ref().map(|(name, _)| &**name)))
        .collect();
    let expected = [
        ("10.0.0.1".to_owned(), true, true, false, None),
        ("10.0.0.2".to_owned(), false, false, false, Some("a")),
        ("10.0.0.3".to_owned(), false, true, true, Some("b")),
        ("10.0.0.4".to_owned(), true, true, false, None),
        ("10.0.0.5".to_owned(), true, true, false, None),
    ];
    assert_eq!(read, expected);
}

#[test]
fn a_slice_of_no_service_is_nothing() {
    let slice: EndpointSlice = object("metadata: {name: a, namespace: b, uid: c}\naddressType: IPv4\nendpoints: []");
    assert!(SliceRecord::of(&slice).is_none());
}

#[test]
fn the_instance_of_a_node_is_in_its_provider_id() {
    let cases = [
        ("aws:///eu-west-1a/i-0123456789abcdef0", Some("i-0123456789abcdef0")),
        ("aws:///eu-west-1a/", None),
        ("aws:///eu-west-1a/i-", None),
        ("eks-hybrid:///eu-west-1/cluster/mi-0123", None),
        ("i-0123", None),
        ("", None),
    ];
    for (provider_id, instance) in cases {
        let node: Node = object(&format!(
            "metadata: {{name: n, uid: u}}\nspec: {{providerID: '{provider_id}', unschedulable: true, taints: [{{key: a, effect: NoSchedule}}]}}"
        ));
        let record = NodeRecord::of(&node).unwrap();
        assert_eq!(record.instance.as_deref(), instance, "{provider_id}");
        assert!(record.cordoned && record.taints.len() == 1 && record.ready == GateStatus::Unknown);
    }
}

#[test]
fn a_binding_is_read_with_its_annotations() {
    let binding: TargetGroupBinding = object(
        "
apiVersion: elbv2.k8s.aws/v1beta1
kind: TargetGroupBinding
metadata:
  name: web
  namespace: shop
  uid: u
  generation: 3
  finalizers: [elbv2.k8s.aws/resources]
  labels: {service.k8s.aws/stack-namespace: shop, service.k8s.aws/stack-name: web}
  annotations: {elbv2.k8s.aws/gate-not-in-use: allow, elbv2.k8s.aws/gate-timeout: 10m}
spec: {targetGroupARN: arn, serviceRef: {name: web, port: 80}}
",
    );
    let record = BindingRecord::of(&binding).unwrap();
    assert!(record.has_finalizer && record.open_when_not_in_use && record.generation == 3);
    assert_eq!(record.gate_timeout, Some(600));
    assert_eq!(record.stack, Some(Key::new("shop", "web")));
}

#[test]
fn the_object_is_kept_of_services_that_are_ours_only() {
    let read = |more: &str| {
        let text = format!(
            "metadata: {{name: web, namespace: shop, uid: u{more}}}\nspec: {{type: LoadBalancer, selector: {{a: b}}, externalTrafficPolicy: Local, ports: [{{name: http, port: 80, nodePort: 30080}}]}}"
        );
        ServiceRecord::of(&object::<Service>(&text), &ModelSettings::default()).unwrap()
    };
    let plain = read("");
    assert!(plain.object.is_none() && plain.has_selector && plain.local_traffic_only);
    assert_eq!((plain.ports[0].port, plain.ports[0].node_port), (80, Some(30080)));
    let annotations = ", annotations: {service.beta.kubernetes.io/aws-load-balancer-type: external, service.beta.kubernetes.io/aws-load-balancer-nlb-target-type: ip}";
    assert!(read(annotations).object.is_some());
    assert!(read(", finalizers: [service.k8s.aws/resources]").object.is_some(), "it has to be cleaned up");
}

#[test]
fn a_namespace_wants_gates_by_its_label() {
    for (value, wanted) in [("enabled", true), ("true", false), ("disabled", false)] {
        let text =
            format!("metadata: {{name: shop, uid: u, labels: {{elbv2.k8s.aws/pod-readiness-gate-inject: '{value}'}}}}");
        assert_eq!(NamespaceRecord::of(&object::<Namespace>(&text)).unwrap().gates_wanted, wanted);
    }
}
