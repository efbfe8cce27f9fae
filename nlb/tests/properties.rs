//! What holds for any input. `PROPTEST_CASES` sets how many are tried.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Container, Lifecycle, LifecycleHandler, PodSpec, Service, ServicePort, ServiceSpec, SleepAction},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use nlb::{
    annotations::{Object, TABLE, Tail, forms, keys, parse},
    drain::{self, Delay},
    readiness_gate::ReadinessGate,
    service::{self, spec::GroupRef},
    settings::{ModelSettings, TargetType},
    targetgroupbinding::{self, TargetGroupBinding, TargetGroupBindingSpec},
    violation::{Severity, Violation},
};
use proptest::{collection, option, prelude::*, sample};

/// Values that mean something to some key, and some that nearly do.
const TELLING: [&str; 42] = [
    "",
    "ip",
    "instance",
    "IP",
    "true",
    "false",
    "yes",
    "on",
    "off",
    "internal",
    "internet-facing",
    "dualstack",
    "80",
    "443,8443",
    "http",
    "*",
    "traffic-port",
    "99999",
    "-1",
    "2147483648",
    "/healthz",
    "200-399",
    "external",
    "nlb-ip",
    "a=1,b=2",
    "a=1,",
    "a",
    "=",
    "a=\\",
    "deregistration_delay.timeout_seconds=4000",
    "load_balancing.cross_zone.enabled=true",
    "CapacityUnits=5",
    "subnet-0123abcd,subnet-89abcdef",
    "sg-0123abcd",
    "10.0.0.0/8,::/0",
    "10.0.0.1,2001:db8::1",
    "auto_assigned,2001:db8::/80",
    "arn:aws:acm:eu-west-1:123456789012:certificate/1",
    "ssl",
    "auto",
    r#"{"type":"forward","forwardConfig":{"targetGroups":[{"serviceName":"a","servicePort":80}]}}"#,
    r#"{"type":"forward","forwardConfig":{"baseServiceWeight":1e3,"targetGroups":[null,{"weight":-1}]}}"#,
];

fn key() -> impl Strategy<Value = String> {
    let known =
        (sample::select(TABLE), sample::select(&["80", "443", "http", "", "0"][..])).prop_map(|(row, port)| match row
            .tail
        {
            Tail::None => row.key.to_owned(),
            Tail::Port => format!("{}{port}", row.key),
            Tail::Listener => format!("{}TCP-{port}", row.key),
        });
    prop_oneof![
        8 => known,
        1 => "[a-z.]{0,8}(/[a-z-]{0,12})?",
        1 => "service.beta.kubernetes.io/aws-load-balancer-[a-z-]{0,20}",
        1 => any::<String>(),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![6 => sample::select(&TELLING[..]).prop_map(str::to_owned), 1 => any::<String>(), 1 => "[a-z0-9=,. /:-]{0,40}"]
}

fn annotations() -> impl Strategy<Value = BTreeMap<String, String>> {
    collection::btree_map(key(), value(), 0..12)
}

fn port() -> impl Strategy<Value = ServicePort> {
    let number = prop_oneof![sample::select(&[80, 443, 53, 0, -1, 65536, i32::MIN][..]), any::<i32>()];
    let target = prop_oneof![any::<i32>().prop_map(IntOrString::Int), "[a-z]{0,5}".prop_map(IntOrString::String)];
    let protocol = sample::select(&["TCP", "UDP", "SCTP", "tcp", ""][..]).prop_map(str::to_owned);
    (number, option::of(target), option::of(protocol), option::of(any::<i32>()), option::of("[a-z]{0,5}")).prop_map(
        |(port, target_port, protocol, node_port, name)| ServicePort {
            port,
            target_port,
            protocol,
            node_port,
            name,
            ..ServicePort::default()
        },
    )
}

prop_compose! {
    fn any_service()(
        annotations in option::of(annotations()),
        ports in option::of(collection::vec(port(), 0..6)),
        kind in option::of(sample::select(&["LoadBalancer", "NodePort", "ClusterIP", "ExternalName", "?"][..])),
        class in option::of(sample::select(&["service.k8s.aws/nlb", "other", ""][..])),
        policy in option::of(sample::select(&["Local", "Cluster"][..])),
        families in option::of(collection::vec(sample::select(&["IPv4", "IPv6", "?"][..]), 0..3)),
        ranges in option::of(collection::vec(value(), 0..3)),
        node_port in option::of(any::<i32>()),
        name in option::of(any::<String>()),
        namespace in option::of("[a-z-]{0,70}"),
        has_spec in prop::bool::weighted(0.95),
    ) -> Service {
        let owned = |text: &str| text.to_owned();
        let spec = ServiceSpec {
            ports,
            type_: kind.map(owned),
            load_balancer_class: class.map(owned),
            external_traffic_policy: policy.map(owned),
            ip_families: families.map(|families| families.into_iter().map(owned).collect()),
            load_balancer_source_ranges: ranges,
            health_check_node_port: node_port,
            ..ServiceSpec::default()
        };
        let metadata = ObjectMeta { name, namespace, annotations, ..ObjectMeta::default() };
        Service { metadata, spec: has_spec.then_some(spec), status: None }
    }
}

/// A Service that the API server and AWS take, with annotations drawn from what is allowed.
fn valid_service() -> impl Strategy<Value = Service> {
    let ports = collection::btree_set(1..=65535_i32, 1..8);
    let choices: [(&str, &[&str]); 9] = [
        (keys::SCHEME, &["internal", "internet-facing"]),
        (keys::MULTI_CLUSTER, &["true", "F", "1"]),
        (keys::HEALTH_CHECK_PROTOCOL, &["tcp", "HTTP", "Https"]),
        (keys::HEALTH_CHECK_PORT, &["traffic-port", "8080"]),
        (keys::HEALTH_CHECK_INTERVAL, &["10", "300", "+30"]),
        (keys::TARGET_GROUP_ATTRIBUTES, &["deregistration_delay.timeout_seconds=120", ""]),
        (keys::TAGS, &["a=b", "team=x, cost=y z"]),
        (keys::SUBNETS, &["subnet-0123abcd", "public-a,public-b"]),
        (keys::POD_DRAIN, &["auto", "off", "30"]),
    ];
    let drawn = choices.map(|(key, values)| {
        option::of(sample::select(values).prop_map(move |value| (key.to_owned(), value.to_owned())))
    });
    let names = ("[a-z]([a-z0-9-]{0,30}[a-z0-9])?", "[a-z]([a-z0-9-]{0,30}[a-z0-9])?");
    (ports, prop::bool::ANY, Vec::from(drawn), names).prop_map(|(ports, udp, drawn, (namespace, name))| {
        let mut annotations: BTreeMap<String, String> = drawn.into_iter().flatten().collect();
        annotations.insert(keys::TARGET_TYPE.to_owned(), "ip".to_owned());
        let port = |port: i32| ServicePort {
            name: Some(format!("p{port}")),
            port,
            protocol: Some(if udp && port % 2 == 0 { "UDP" } else { "TCP" }.to_owned()),
            ..ServicePort::default()
        };
        let spec = ServiceSpec {
            type_: Some("LoadBalancer".to_owned()),
            load_balancer_class: Some("service.k8s.aws/nlb".to_owned()),
            selector: Some(BTreeMap::from([("app".to_owned(), name.clone())])),
            ports: Some(ports.into_iter().map(port).collect()),
            ..ServiceSpec::default()
        };
        let metadata = ObjectMeta {
            name: Some(name),
            namespace: Some(namespace),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        };
        Service { metadata, spec: Some(spec), status: None }
    })
}

fn container() -> impl Strategy<Value = Container> {
    let sleep = |seconds| LifecycleHandler { sleep: Some(SleepAction { seconds }), ..LifecycleHandler::default() };
    let hook = prop_oneof![any::<i64>().prop_map(sleep), Just(LifecycleHandler::default())];
    (option::weighted(0.3, hook), prop::bool::ANY).prop_map(|(pre_stop, always)| Container {
        name: "c".to_owned(),
        lifecycle: pre_stop.map(|hook| Lifecycle { pre_stop: Some(hook), ..Lifecycle::default() }),
        restart_policy: always.then(|| "Always".to_owned()),
        ..Container::default()
    })
}

fn says_something(violations: &[Violation]) -> bool {
    violations
        .iter()
        .all(|violation| !violation.key.is_empty() && !violation.problem.is_empty() && !violation.rule.is_empty())
}

proptest! {
    #[test]
    fn any_service_is_read_and_judged(old in any_service(), new in any_service()) {
        let settings = ModelSettings { region: Some("eu-west-1".to_owned()), ..ModelSettings::default() };
        let reading = service::read(&new, &settings);
        prop_assert!(says_something(&reading.violations));
        prop_assert_eq!(reading.spec.listeners.len(), reading.spec.target_groups.len());
        prop_assert!(reading.spec.target_groups.iter().all(|group| group.name.len() <= 32));
        prop_assert!(says_something(&service::review(Some(&old), &new, &settings)));
        prop_assert!(service::review(None, &new, &settings).len() <= reading.violations.len());
    }

    #[test]
    fn a_service_that_does_not_change_is_never_denied(stored in any_service()) {
        let violations = service::review(Some(&stored), &stored, &ModelSettings::default());
        prop_assert!(violations.iter().all(|violation| violation.severity == Severity::Warn), "{violations:?}");
    }

    #[test]
    fn a_valid_service_has_a_load_balancer_with_a_listener_for_each_port(service in valid_service()) {
        let reading = service::read(&service, &ModelSettings::default());
        let spec = reading.accepted().map_err(|violations| TestCaseError::fail(format!("{violations:?}")))?;
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref()).map_or(0, Vec::len);
        prop_assert_eq!(spec.listeners.len(), ports);
        prop_assert!(forms::aws_name_problem(&spec.name).is_none(), "{}", spec.name);
        for (listener, group) in spec.listeners.iter().zip(&spec.target_groups) {
            prop_assert_eq!(group.target_type, TargetType::Ip);
            prop_assert_eq!(group.service_port, listener.port);
            prop_assert!(ReadinessGate::of_binding(&group.name).is_ok());
            let leads_there = listener.default_actions.target_groups.iter().any(|weighted| weighted.group == GroupRef::Own(group.resource.clone()));
            prop_assert!(leads_there);
        }
    }

    #[test]
    fn any_binding_is_judged(
        annotations in annotations(),
        arn in option::of(value()),
        name in option::of(any::<String>()),
        vpc in option::of(value()),
        port in prop_oneof![any::<i32>().prop_map(IntOrString::Int), value().prop_map(IntOrString::String)],
    ) {
        let mut spec = TargetGroupBindingSpec { target_group_arn: arn, target_group_name: name.clone(), vpc_id: vpc, ..TargetGroupBindingSpec::default() };
        spec.service_ref.port = port;
        let binding = TargetGroupBinding {
            metadata: ObjectMeta { name, annotations: Some(annotations), ..ObjectMeta::default() },
            spec,
            status: None,
        };
        let settings = ModelSettings::default();
        prop_assert!(says_something(&targetgroupbinding::check(&binding, &settings)));
        let unchanged = targetgroupbinding::review(Some(&binding), &binding, &settings);
        prop_assert!(unchanged.iter().all(|violation| violation.severity == Severity::Warn));
        prop_assert!(targetgroupbinding::duplicates(&binding, [&binding]).is_empty());
    }

    #[test]
    fn the_annotations_of_any_object_are_checked(annotations in annotations()) {
        for object in [Object::Service, Object::Pod, Object::TargetGroupBinding] {
            prop_assert!(says_something(&nlb::annotations::check(object, &annotations)));
        }
    }

    #[test]
    fn a_drain_stays_within_what_the_api_takes(
        containers in collection::vec(container(), 0..4),
        init in option::of(collection::vec(container(), 0..4)),
        grace in option::of(any::<i64>()),
        seconds in 0..=3600_u32,
    ) {
        let mut spec = PodSpec { containers, init_containers: init, termination_grace_period_seconds: grace, ..PodSpec::default() };
        let plan = drain::plan(&spec, seconds);
        let touched = !plan.containers.is_empty() || !plan.init_containers.is_empty();
        prop_assert_eq!(plan.grace.is_some(), touched);
        if let Some(lengthened) = plan.grace {
            prop_assert!(plan.sleep >= 1 && plan.sleep <= lengthened);
            prop_assert!(lengthened >= grace.unwrap_or(30));
        }
        prop_assert!(plan.containers.iter().all(|index| *index < spec.containers.len()));
        let _ = drain::warnings(&plan, grace, 120);

        // Once its containers sleep, there is nothing left to do.
        for index in &plan.containers {
            let hook = LifecycleHandler { sleep: Some(SleepAction { seconds: plan.sleep }), ..LifecycleHandler::default() };
            spec.containers[*index].lifecycle = Some(Lifecycle { pre_stop: Some(hook), ..Lifecycle::default() });
        }
        prop_assert!(drain::plan(&spec, seconds).containers.is_empty());
    }

    #[test]
    fn maps_are_read_as_they_are_printed(pairs in collection::btree_map("[a-z,=\\\\][a-z ,=\\\\]{0,5}", any::<String>(), 1..5)) {
        let trimmed: BTreeMap<String, String> =
            pairs.into_iter().map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect();
        prop_assert_eq!(parse::map(&parse::print_map(&trimmed)), Ok(trimmed));
    }

    #[test]
    fn delays_are_read_as_they_are_printed(delay in prop_oneof![Just(Delay::Auto), Just(Delay::Off), (1..=3600_u32).prop_map(Delay::Seconds)]) {
        prop_assert_eq!(delay.to_string().parse(), Ok(delay));
    }

    #[test]
    fn gates_are_read_as_they_are_printed(text in prop_oneof![any::<String>(), "[A-Za-z0-9.-]{0,70}"]) {
        if let Ok(gate) = ReadinessGate::of_binding(&text) {
            prop_assert_eq!(ReadinessGate::parse(&gate.to_string()), Some(gate));
        }
    }

    #[test]
    fn parsers_never_panic(text in any::<String>()) {
        let _ = (parse::boolean(&text), parse::integer(&text), parse::list(&text), parse::map(&text), parse::duration(&text));
        let _ = (forms::Arn::parse(&text), forms::cidr(&text), forms::are_status_codes(&text), forms::is_qualified_name(&text));
        let _ = (text.parse::<Delay>(), keys::nearest(Object::Service, &text));
    }
}
