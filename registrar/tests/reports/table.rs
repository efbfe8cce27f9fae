//! The table of `registrar status`, from values.

use jiff::Timestamp;
use registrar::status::{
    paint::Paint,
    table,
    view::{Found, Report},
};
use registrar_core::aws::{Arn, Forward, HealthState, Listener, LoadBalancer, Target, TargetHealth};
use serde_json::{Value, json};

use crate::schema;

const NOW: &str = "2026-01-31T12:00:00Z";
const GROUP: &str =
    "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/k8s-shop-web-abb7a55d1c/0123456789abcdef";
const BALANCER: &str = "arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:loadbalancer/net/k8s-shop-web-862076a20e/0123456789abcdef";
const HOSTNAME: &str = "k8s-shop-web-862076a20e-0123456789abcdef.elb.ap-northeast-2.amazonaws.com";

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn pod(name: &str, address: &str, gate: Option<(&str, &str)>) -> Value {
    let kind = "target-health.elbv2.k8s.aws/k8s-shop-web-abb7a55d1c";
    let conditions: Vec<_> = gate
        .into_iter()
        .map(|(status, since)| json!({"type": kind, "status": status, "lastTransitionTime": since}))
        .collect();
    json!({
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"containers": [], "readinessGates": [{"conditionType": kind}]},
        "status": {"podIPs": [{"ip": address}], "conditions": conditions},
    })
}

fn health(id: &str, state: HealthState, reason: Option<&str>) -> TargetHealth {
    TargetHealth {
        target: Target { id: id.to_owned(), port: 8080, availability_zone: None, quic_server_id: None },
        state,
        reason: reason.map(ToOwned::to_owned),
        description: None,
    }
}

/// A Service with pods: one healthy, one on its way, one gone, one that was never registered, one that has ended.
fn found() -> Found {
    let mut ended = pod("web-0", "10.0.1.9", None);
    ended["status"]["phase"] = "Succeeded".into();
    let service = json!({
        "metadata": {"namespace": "shop", "name": "web"},
        "status": {"loadBalancer": {"ingress": [{"hostname": HOSTNAME}]}},
    });
    let binding = json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": {
            "namespace": "shop",
            "name": "k8s-shop-web-abb7a55d1c",
            "labels": {"service.k8s.aws/stack-namespace": "shop", "service.k8s.aws/stack-name": "web"},
        },
        "spec": {"targetGroupARN": GROUP, "serviceRef": {"name": "web", "port": 80}},
        "status": {"conditions": [{
            "type": "Ready", "status": "False", "reason": "TargetsPending", "message": "1/2 targets are healthy",
            "lastTransitionTime": NOW,
        }]},
    });
    let load_balancer = LoadBalancer {
        arn: Arn::new(BALANCER),
        name: "k8s-shop-web-862076a20e".to_owned(),
        load_balancer_type: "network".to_owned(),
        dns_name: HOSTNAME.to_owned(),
        scheme: "internet-facing".to_owned(),
        ip_address_type: "ipv4".to_owned(),
        vpc_id: "vpc-1".to_owned(),
        state: "active".to_owned(),
        state_reason: None,
        zones: Vec::new(),
        security_groups: Vec::new(),
        enforce_on_private_link: None,
        enable_prefix_for_ipv6_source_nat: None,
    };
    let listener = Listener {
        arn: Arn::new("arn:listener"),
        load_balancer: Arn::new(BALANCER),
        port: 80,
        protocol: "TCP".to_owned(),
        forward: Some(Forward { groups: vec![(Arn::new(GROUP), None)], sticky: None }),
        ssl_policy: None,
        certificate: None,
        alpn_policy: None,
    };
    Found {
        services: vec![of(service)],
        bindings: vec![of(binding)],
        pods: vec![
            of(pod("web-1", "10.0.1.5", Some(("True", "2026-01-31T11:57:00Z")))),
            of(pod("web-2", "10.0.1.6", Some(("False", "2026-01-31T11:59:50Z")))),
            of(pod("web-3", "10.0.1.8", None)),
            of(ended),
        ],
        nodes: Vec::new(),
        load_balancers: [("k8s-shop-web-862076a20e".to_owned(), Ok(Some(load_balancer)))].into(),
        listeners: [(Arn::new(BALANCER), Ok(vec![listener]))].into(),
        health: [(
            Arn::new(GROUP),
            Ok(vec![
                health("10.0.1.5", HealthState::Healthy, None),
                health("10.0.1.6", HealthState::Initial, Some("Elb.InitialHealthChecking")),
                health("10.0.1.7", HealthState::Draining, Some("Target.DeregistrationInProgress")),
            ]),
        )]
        .into(),
    }
}

fn text(found: &Found, paint: Paint) -> String {
    table::text(&Report::of(found), NOW.parse::<Timestamp>().expect("a time"), paint)
}

#[test]
fn a_service_is_shown_from_its_hostname_to_its_gates() {
    let expected = "\
shop/web  k8s-shop-web-862076a20e-0123456789abcdef.elb.ap-northeast-2.amazonaws.com
  load balancer k8s-shop-web-862076a20e (internet-facing) active
  listener 80 TCP -> k8s-shop-web-abb7a55d1c
  target group k8s-shop-web-abb7a55d1c (port 80) 1 of 3 healthy
    ! TargetsPending: 1/2 targets are healthy
    TARGET         POD OR NODE  STATE         REASON                           GATE   SINCE
    10.0.1.7:8080  -            draining      Target.DeregistrationInProgress  -      -
    10.0.1.5:8080  web-1        healthy       -                                True   3m
    10.0.1.6:8080  web-2        initial       Elb.InitialHealthChecking        False  10s
    10.0.1.8       web-3        unregistered  -                                False  -
";
    assert_eq!(text(&found(), Paint::PLAIN), expected);
}

#[test]
fn colours_change_nothing_but_the_colour() {
    let painted = text(&found(), Paint::COLORED);
    assert!(
        painted.contains("\x1b[32mhealthy     \x1b[0m") && painted.contains("\x1b[33minitial     \x1b[0m"),
        "{painted}"
    );
    let mut plain = String::new();
    let mut rest = painted.as_str();
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain.push_str(before);
        rest = after.split_once('m').expect("the end of an escape").1;
    }
    plain.push_str(rest);
    let trimmed: Vec<_> = plain.lines().map(str::trim_end).collect();
    assert_eq!(trimmed, text(&found(), Paint::PLAIN).lines().collect::<Vec<_>>());
}

#[test]
fn report_is_as_its_schema_says_and_knows_trouble() {
    let report = Report::of(&found());
    assert!(report.has_trouble());
    let value = serde_json::to_value(&report).expect("JSON");
    schema::check(&value, "status");
    let targets = &value["services"][0]["targetGroups"][0]["targets"];
    assert_eq!(
        targets[1],
        json!({
            "id": "10.0.1.5", "port": 8080, "object": "web-1", "state": "healthy", "reason": null, "description": null,
            "gate": "True", "since": "2026-01-31T11:57:00Z",
        })
    );
    let mut well = found();
    well.health.insert(Arn::new(GROUP), Ok(vec![health("10.0.1.5", HealthState::Healthy, None)]));
    well.pods.truncate(1);
    assert!(!Report::of(&well).has_trouble());
}

#[test]
fn what_could_not_be_read_is_a_problem_and_not_an_empty_table() {
    let mut found = found();
    found.health.insert(Arn::new(GROUP), Err("AccessDenied: no".to_owned()));
    found.load_balancers.insert("k8s-shop-web-862076a20e".to_owned(), Ok(None));
    let expected = "\
shop/web  k8s-shop-web-862076a20e-0123456789abcdef.elb.ap-northeast-2.amazonaws.com
  ! AWS has no load balancer k8s-shop-web-862076a20e, which its hostname speaks of
  ! targets of binding k8s-shop-web-abb7a55d1c: AccessDenied: no
  target group k8s-shop-web-abb7a55d1c (port 80) no targets
    ! TargetsPending: 1/2 targets are healthy
";
    assert_eq!(text(&found, Paint::PLAIN), expected);
}

#[test]
fn what_the_registrar_says_of_a_service_is_shown_by_what_it_means() {
    let service = |conditions: Value| {
        let mut service = serde_json::to_value(&found().services[0]).expect("JSON");
        service["status"]["conditions"] = conditions;
        Found { services: vec![of(service)], bindings: Vec::new(), ..found() }
    };
    let condition = |kind: &str, status: &str, message: &str| json!({"type": kind, "status": status, "reason": "Why", "message": message, "lastTransitionTime": NOW});
    let head = text(&service(json!([])), Paint::PLAIN);
    let well = service(json!([condition("Active", "True", "all is well"), condition("Blocked", "False", "nothing")]));
    assert_eq!((text(&well, Paint::PLAIN), Report::of(&well).has_trouble()), (head.clone(), false));
    let busy =
        service(json!([condition("Provisioning", "True", "create listener 80"), condition("Active", "False", "no")]));
    assert_eq!(text(&busy, Paint::PLAIN), format!("{head}  ~ create listener 80\n"));
    let blocked = service(json!([condition("Blocked", "True", "no subnet fits; tag one")]));
    assert_eq!(text(&blocked, Paint::PLAIN), format!("{head}  ! Why: no subnet fits; tag one\n"));
    assert!(Report::of(&busy).has_trouble() && Report::of(&blocked).has_trouble());
}

#[test]
fn bindings_of_users_stand_under_their_service_and_nodes_by_name() {
    let binding = json!({
        "apiVersion": "elbv2.k8s.aws/v1beta1",
        "kind": "TargetGroupBinding",
        "metadata": {"namespace": "shop", "name": "own"},
        "spec": {"targetGroupARN": GROUP, "serviceRef": {"name": "web", "port": "http"}, "targetType": "instance"},
    });
    let node = json!({"metadata": {"name": "node-a"}, "spec": {"providerID": "aws:///ap-northeast-2a/i-0a1"}});
    let found = Found {
        bindings: vec![of(binding)],
        nodes: vec![of(node)],
        health: [(Arn::new(GROUP), Ok(vec![health("i-0a1", HealthState::Healthy, None)]))].into(),
        ..Found::default()
    };
    let expected = "\
shop/web
  target group own (port http) 1 of 1 healthy
    TARGET      POD OR NODE  STATE    REASON  GATE  SINCE
    i-0a1:8080  node-a       healthy  -       -     -
";
    assert_eq!(text(&found, Paint::PLAIN), expected);
    assert_eq!(
        text(&Found::default(), Paint::PLAIN),
        "There is no Service with a load balancer of ours, and no binding.\n"
    );
}
