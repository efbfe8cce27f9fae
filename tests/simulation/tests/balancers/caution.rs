//! What stays while the Service asks for what cannot be had, or somebody else has a say.

use std::time::Duration;

use k8s_openapi::api::core::v1::Service;
use registrar_core::{
    aws::{Call, HealthState, Target, TargetHealth},
    balancers::{Intent, Operation, Plan, Step, Verb},
    cluster::Key,
};

use crate::{adoption::as_the_peer_leaves_it_under, bench::Bench, life::STORY, services::service, stage::Stage};

fn calls(plan: &Plan) -> Vec<String> {
    plan.steps.iter().map(ToString::to_string).collect()
}

#[test]
fn what_cannot_be_resolved_changes_nothing_and_removes_nothing() {
    let many: Vec<String> = (0..61).map(|n| format!("10.0.{n}.0/24")).collect();
    for (key, value, reason) in [
        ("security-groups", "no-such-group", "SecurityGroups"),
        ("subnets", "no-such-subnet", "Subnets"),
        ("source-ranges", "", "SecurityGroupRules"),
        ("actions.TCP-80", "", "BackendNotFound"),
    ] {
        let mut bench = Bench::new(STORY);
        bench.done();
        match key {
            "source-ranges" => {
                bench.service.spec.as_mut().unwrap().load_balancer_source_ranges = Some(many.clone());
            }
            "actions.TCP-80" => {
                forward_to_another(&mut bench);
                bench.done();
                bench.others.clear();
            }
            _ => bench.annotate(key, value),
        }
        let (counts, bindings) = (bench.counts(), bench.bindings.len());
        let plan = bench.audit();
        assert_eq!(plan.problems.first().map(|problem| problem.reason), Some(reason), "{key}: {plan:#?}");
        assert_eq!(calls(&plan), Vec::<String>::new(), "{key}");
        bench.stop();
        bench.done();
        assert_eq!((bench.counts(), bench.bindings.len()), (counts, bindings), "{key}");
    }
}

/// The story's listener forwards to another Service too.
fn forward_to_another(bench: &mut Bench) {
    let mut other = bench.service.clone();
    other.metadata.name = Some("other".to_owned());
    other.metadata.annotations = None;
    let spec = other.spec.as_mut().unwrap();
    (spec.type_, spec.load_balancer_class) = (Some("ClusterIP".to_owned()), None);
    bench.others.push(other);
    let action = r#"{"type":"forward","forwardConfig":{"baseServiceWeight":1,"targetGroups":[
        {"serviceName":"other","servicePort":80,"weight":1}]}}"#;
    let annotations = bench.service.metadata.annotations.get_or_insert_default();
    annotations.insert("service.beta.kubernetes.io/actions.TCP-80".to_owned(), action.to_owned());
}

/// A load balancer that was made without security groups, and a Service that asks for some under another name.
fn to_be_replaced(name: &str) -> (Bench, String) {
    let mut bench = Bench::new(STORY);
    bench.annotate("disable-nlb-sg", "true");
    bench.done();
    let old = bench.observed.load_balancers.values().flatten().next().unwrap().name.clone();
    bench.unannotate("disable-nlb-sg");
    let group = bench.security_group("of-the-user");
    bench.annotate("security-groups", &group);
    bench.annotate("name", name);
    bench.annotate("allow-replacement", &old);
    (bench, old)
}

#[test]
fn a_load_balancer_is_replaced_by_one_of_another_name_whichever_comes_first() {
    for name in ["a-name", "z-name"] {
        let (mut bench, old) = to_be_replaced(name);
        let rest = bench.done();
        assert!(rest.is_empty(), "{rest:#?}");
        let made = bench.log.iter().filter(|call| *call == "CreateLoadBalancer").count();
        assert_eq!(made, 2, "once each, {old} and {name}");
        assert_eq!(bench.counts().load_balancers, 1);
        assert!(bench.hostname.clone().unwrap().starts_with(name), "{:?}", bench.hostname);
        assert!(bench.audit().is_empty());
    }
}

#[test]
fn a_load_balancer_that_aws_could_not_make_takes_nobodys_place() {
    let (mut bench, old) = to_be_replaced("z-name");
    while !bench.observed.load_balancers.values().flatten().any(|found| found.name == "z-name") {
        let plan = bench.plan();
        let step = plan.steps.iter().find(|step| step.ready).cloned().unwrap();
        bench.carry_out(&step);
    }
    let listeners = bench.counts().listeners;
    bench.observed.load_balancers.values_mut().flatten().find(|found| found.name == "z-name").unwrap().state =
        "failed".to_owned();
    let plan = bench.plan();
    let goes = |step: &&Step| step.verb == Verb::Delete;
    assert_eq!(plan.steps.iter().filter(goes).map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
    assert_eq!(bench.counts().listeners, listeners);
    let hostname = registrar_core::balancers::hostname(&bench.inputs(), &bench.observed).unwrap();
    assert!(hostname.starts_with(&old), "{hostname}");
}

#[test]
fn targets_of_a_group_that_a_listener_forwards_to_stay_whatever_is_wanted() {
    let mut bench = Bench::new(STORY);
    bench.done();
    // Another listener of the same load balancer, which is not the Service's.
    let balancer = bench.observed.load_balancers.values().flatten().next().unwrap().arn.clone();
    let group = bench.bindings.values().next().unwrap().group().unwrap();
    let create = registrar_core::aws::CreateListener {
        load_balancer: balancer,
        protocol: "TCP".to_owned(),
        port: 8443,
        forward: registrar_core::aws::Forward { groups: vec![(group.clone(), None)], sticky: None },
        ssl_policy: None,
        certificate: None,
        alpn_policy: None,
        tags: std::collections::BTreeMap::new(),
    };
    bench.call(&Call::CreateListener(create)).unwrap();
    bench.service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].port = 81;
    bench.stop();
    let rest = bench.done();
    assert!(bench.bindings.values().any(|binding| binding.group().as_ref() == Some(&group)));
    let said = rest.waiting.first().map(ToString::to_string).unwrap_or_default();
    assert!(said.contains("is not wanted, but the listener of port 8443 forwards to it"), "{said}");
    assert!(!bench.log.iter().any(|line| line.contains("ResourceInUse")), "{:?}", bench.log);
}

#[test]
fn a_target_group_takes_over_though_some_of_its_targets_are_in_a_zone_that_is_not_enabled() {
    let mut bench = Bench::new(&STORY.replace("targetPort: 8080", "targetPort: 8080, nodePort: 30080"));
    bench.done();
    let old = bench.bindings.values().next().unwrap().group().unwrap();
    bench.annotate("nlb-target-type", "instance");
    // Until the new group is in use without traffic.
    loop {
        let step = bench.plan().steps.remove(0);
        bench.carry_out(&step);
        if matches!(step.operation, Operation::Aws(Call::ModifyListener(_))) {
            break;
        }
    }
    let new = bench.bindings.values().find_map(|binding| binding.group().filter(|group| *group != old)).unwrap();
    let target = |id: &str, state| TargetHealth {
        target: Target { id: id.to_owned(), port: 8080, availability_zone: None, quic_server_id: None },
        state,
        reason: None,
        description: None,
    };
    bench.observed.health.insert(old, vec![target("192.168.11.21", HealthState::Healthy)]);
    for (others, goes_on) in [(HealthState::Unused, true), (HealthState::Initial, false)] {
        let health = vec![target("i-1", HealthState::Healthy), target("i-2", others)];
        bench.observed.health.insert(new.clone(), health);
        let plan = bench.plan();
        assert_eq!(plan.steps[0].verb != Verb::Wait, goes_on, "{plan:#?}");
    }
}

#[test]
fn a_listener_that_waits_for_healthy_targets_holds_up_no_other() {
    let two = "ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}, \
               {name: more, port: 81, targetPort: 8081, nodePort: 30081}]";
    let story = STORY.replace("ports: [{name: http, port: 80, targetPort: 8080, protocol: TCP}]", two);
    let mut bench = Bench::new(&story);
    bench.done();
    bench.annotate("nlb-target-type", "instance");
    bench.annotate("listener-attributes.TCP-81", "tcp.idle_timeout.seconds=400");
    let plan = bench.audit();
    let steps: Vec<String> = calls(&plan).iter().map(|step| step.lines().next().unwrap().to_owned()).collect();
    let first_wait = steps.iter().position(|step| step.starts_with("wait until target group")).unwrap();
    let attributes = calls(&plan).iter().position(|step| step.contains("tcp.idle_timeout.seconds")).unwrap();
    let of_81 = steps.iter().position(|step| step == "change listener 81").unwrap();
    assert!(of_81 < first_wait && attributes > first_wait, "{steps:#?}");
    let rest = bench.done();
    assert!(rest.is_empty() && bench.audit().is_empty(), "{rest:#?}");
}

#[test]
fn the_services_own_word_protects_a_load_balancer_before_aws_has_heard_it() {
    let mut bench = Bench::new(STORY);
    bench.done();
    bench.annotate("attributes", "deletion_protection.enabled=true");
    bench.intent = Intent::Remove;
    bench.stop();
    let rest = bench.done();
    assert_eq!(rest.waiting.first().map(|waiting| waiting.reason), Some("DeletionProtection"));
    assert_eq!((bench.counts().load_balancers, bench.bindings.len()), (1, 1));
}

#[test]
fn a_target_group_under_another_name_goes_with_the_service_that_it_was_taken_over_with() {
    let mut bench = Bench::new(STORY);
    let before = bench.counts();
    as_the_peer_leaves_it_under(&mut bench, "k8s-default-echoserv-0123456789");
    let _ = bench.stop();
    let plan = bench.plan();
    assert!(plan.is_empty(), "taken over as it is: {plan:#?}");
    bench.intent = Intent::Remove;
    let rest = bench.done();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(bench.counts(), before);
}

#[test]
fn no_certificate_is_away_while_another_becomes_the_default() {
    let arn = |n: u8| format!("arn:aws:acm:ap-northeast-2:111122223333:certificate/{n}");
    let mut bench = Bench::new(STORY);
    bench.annotate("ssl-ports", "80");
    bench.annotate("ssl-cert", &format!("{},{}", arn(1), arn(2)));
    bench.done();
    bench.annotate("ssl-cert", &format!("{},{}", arn(3), arn(1)));
    let plan = bench.audit();
    let of_listener: Vec<String> = calls(&plan).into_iter().filter(|step| step.contains("Certificates")).collect();
    assert_eq!(
        of_listener,
        [
            format!("change listener 80\n    Certificates: {}", arn(1)),
            format!("change listener 80\n    Certificates: {} -> {}", arn(1), arn(3)),
            format!("change listener 80\n    Certificates: {} -> (none)", arn(2)),
        ]
    );
    let rest = bench.done();
    assert!(rest.is_empty(), "{rest:#?}");
    assert!(bench.audit().is_empty());
}

fn cluster_ip(service: &mut Service) {
    // What the API server makes of it: the class and what is published go with the type.
    let spec = service.spec.as_mut().unwrap();
    (spec.type_, spec.load_balancer_class) = (Some("ClusterIP".to_owned()), None);
    if let Some(status) = &mut service.status {
        status.load_balancer = None;
    }
}

#[test]
fn a_service_of_another_type_loses_its_load_balancer_and_all_that_was_said_of_it() {
    let mut stage = Stage::new();
    let key = stage.apply(service(STORY));
    stage.run(Duration::from_mins(1));
    stage.change(&key, cluster_ip);
    stage.run(Duration::from_mins(10));
    let counts = stage.model.counts();
    assert_eq!((counts.load_balancers, counts.target_groups), (0, 0), "{:?}", stage.sent);
    let left = &stage.services[&key];
    assert_eq!(left.metadata.finalizers.clone().unwrap_or_default(), Vec::<String>::new());
    assert_eq!(stage.conditions(&key), Vec::<String>::new());
}

#[test]
fn a_service_that_can_have_no_hostname_gets_its_load_balancer() {
    let external = STORY
        .replace(
            "  annotations:\n",
            "  annotations:\n    service.beta.kubernetes.io/aws-load-balancer-type: external\n",
        )
        .replace("type: LoadBalancer\n  loadBalancerClass: service.k8s.aws/nlb", "type: ClusterIP");
    let mut stage = Stage::new();
    let key: Key = stage.apply(service(&external));
    stage.run(Duration::from_mins(2));
    let counts = stage.model.counts();
    assert_eq!((counts.load_balancers, counts.listeners), (1, 1), "{:?}", stage.sent);
    assert!(stage.is_active(&key), "{:#?}", stage.conditions(&key));
    assert_eq!(stage.hostname(&key), None);
}

#[test]
fn what_others_made_of_the_status_is_put_right() {
    let mut stage = Stage::new();
    let key = stage.apply(service(STORY));
    stage.run(Duration::from_mins(1));
    let hostname = stage.hostname(&key);
    stage.change(&key, |service| service.status = None);
    stage.run(Duration::from_mins(6));
    assert_eq!(stage.hostname(&key), hostname);
    assert!(stage.is_active(&key));
}
