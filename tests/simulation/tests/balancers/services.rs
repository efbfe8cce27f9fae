//! Services from the watch to the load balancer and back, through the whole core.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Service;
use registrar_core::{
    aws::{Call, Filter, HealthCheck, ListenerQuery, LoadBalancerQuery, Permission, Reply, Source, TargetGroupQuery},
    cluster::Key,
};
use simulation::aws;

use crate::{
    bench::CUTS,
    life::STORY,
    stage::{OF_PODS, Refuse, Stage},
};

pub(crate) fn service(manifest: &str) -> Service {
    serde_saphyr::from_str(manifest).expect("a Service")
}

fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

#[test]
fn an_applied_service_gets_its_hostname_and_is_active() {
    let mut stage = Stage::new();
    let key = stage.apply(service(STORY));
    stage.run(Duration::from_secs(10));
    assert!(stage.is_active(&key), "{:#?}\n{:#?}", stage.conditions(&key), stage.sent);
    let hostname = stage.hostname(&key).expect("a hostname");
    assert!(hostname.starts_with("k8s-default-echoserv-") && hostname.contains(".elb."), "{hostname}");
    let counts = stage.model.counts();
    assert_eq!((counts.load_balancers, counts.listeners, counts.target_groups), (1, 1, 1));
    assert_eq!(stage.bindings.len(), 1);
    let said: Vec<_> = stage.notices.iter().map(|notice| (notice.reason, notice.warning)).collect();
    assert_eq!(said, [("Active", false)]);
}

/// The security group of the nodes.
const OF_NODES: &str = "sg-0d00000000000ddd1";

/// What the security group of the nodes lets in.
fn node_rules(stage: &mut Stage) -> Vec<(String, Option<i32>, Option<i32>)> {
    rules(stage, OF_NODES)
}

fn rules(stage: &mut Stage, group: &str) -> Vec<(String, Option<i32>, Option<i32>)> {
    let ids = vec![group.to_owned()];
    let call = Call::DescribeSecurityGroups { ids, filters: Vec::new() };
    let Ok(Reply::SecurityGroups(found)) = aws::call(&mut stage.model, &call, stage.now).outcome else {
        panic!("no answer")
    };
    found[0].permissions.iter().map(|rule| (rule.ip_protocol.clone(), rule.from_port, rule.to_port)).collect()
}

#[test]
fn nodes_let_load_balancers_in_as_long_as_there_are_bindings_whatever_the_pods() {
    let mut stage = Stage::new();
    let key = stage.apply(service(STORY));
    stage.run(minutes(1));
    assert_eq!(node_rules(&mut stage), [("tcp".to_owned(), Some(8080), Some(8080))]);
    let second = STORY
        .replace("name: echoserver", "name: second")
        .replace("'8080'", "'9090'")
        .replace("targetPort: 8080", "targetPort: 9090");
    let second = stage.apply(service(&second));
    stage.run(minutes(1));
    assert_eq!(node_rules(&mut stage), [("tcp".to_owned(), Some(8080), Some(9090))]);
    stage.sent.clear();
    stage.run(minutes(30));
    assert_eq!(stage.writes(), Vec::<&str>::new(), "no pod was ever there, and no rule goes");
    stage.delete(&key);
    stage.run(minutes(2));
    assert_eq!(node_rules(&mut stage), [("tcp".to_owned(), Some(9090), Some(9090))]);
    stage.delete(&second);
    stage.run(minutes(2));
    assert_eq!(node_rules(&mut stage), []);
}

#[test]
fn pods_with_interfaces_of_their_own_let_load_balancers_in_as_long_as_there_are_bindings() {
    for on_fargate in [false, true] {
        pods_let_load_balancers_in(on_fargate);
    }
}

fn pods_let_load_balancers_in(on_fargate: bool) {
    let mut stage = Stage::new();
    let key = stage.apply(service(STORY));
    stage.run(minutes(1));
    assert_eq!(rules(&mut stage, OF_PODS), [], "no pod has such an interface");
    stage.pod_with_interface("own", "echoserver", on_fargate);
    stage.run(Duration::from_secs(5));
    let story = [("tcp".to_owned(), Some(8080), Some(8080))];
    assert_eq!(rules(&mut stage, OF_PODS), story, "{:?}", stage.sent);
    assert_eq!(node_rules(&mut stage), story);
    stage.sent.clear();
    stage.run(minutes(3));
    let questions = stage.sent.iter().filter(|(name, _)| name == "DescribeNetworkInterfaces");
    assert_eq!(questions.count(), 0, "a pod is asked for once between two audits");
    stage.remove_pods();
    stage.run(minutes(30));
    assert_eq!(rules(&mut stage, OF_PODS), story, "pods go and the rule stays");
    stage.start();
    stage.run(minutes(30));
    assert_eq!(rules(&mut stage, OF_PODS), story, "also after a restart that finds no pod");
    stage.delete(&key);
    stage.run(minutes(2));
    assert_eq!((rules(&mut stage, OF_PODS), node_rules(&mut stage)), (Vec::new(), Vec::new()));
}

/// A Service of a registrar that may not change the security group of its nodes.
fn with_nodes_refused() -> (Stage, Key) {
    let mut stage = Stage::new();
    let refuse = Refuse { operation: "AuthorizeSecurityGroupIngress", about: OF_NODES, code: "UnauthorizedOperation" };
    stage.refuse = Some(refuse);
    let key = stage.apply(service(STORY));
    (stage, key)
}

#[test]
fn a_security_group_that_may_not_be_changed_is_named_and_the_others_are_changed_nevertheless() {
    let (mut stage, key) = with_nodes_refused();
    stage.pod_with_interface("own", "echoserver", false);
    stage.run(minutes(1));
    let story = [("tcp".to_owned(), Some(8080), Some(8080))];
    assert_eq!(rules(&mut stage, OF_PODS), story);
    assert_eq!(node_rules(&mut stage), []);
    let said = stage.conditions(&key).join("\n");
    assert!(said.contains(OF_NODES) && said.contains("UnauthorizedOperation"), "{said}");
    assert!(said.contains("with the tag kubernetes.io/cluster/"), "{said}");
    stage.refuse = None;
    stage.run(minutes(2));
    assert_eq!(node_rules(&mut stage), story);
    assert!(stage.is_active(&key) && !stage.conditions(&key).join("\n").contains(OF_NODES));
}

#[test]
fn a_rule_that_somebody_adds_by_hand_ends_what_was_said_of_its_security_group() {
    let (mut stage, key) = with_nodes_refused();
    stage.run(minutes(1));
    assert!(stage.conditions(&key).join("\n").contains(OF_NODES));
    let backend = Filter { name: "group-name".to_owned(), values: vec!["k8s-traffic-*".to_owned()] };
    let Reply::SecurityGroups(found) =
        ask(&mut stage, Call::DescribeSecurityGroups { ids: Vec::new(), filters: vec![backend] })
    else {
        panic!("no security group")
    };
    let shared = found[0].id.clone();
    let permissions = vec![Permission {
        ip_protocol: "tcp".to_owned(),
        from_port: Some(8080),
        to_port: Some(8080),
        source: Source::Group(shared),
        description: None,
    }];
    ask(&mut stage, Call::AuthorizeSecurityGroupIngress { group_id: OF_NODES.to_owned(), permissions });
    stage.run(minutes(6));
    assert!(stage.is_active(&key) && !stage.conditions(&key).join("\n").contains(OF_NODES));
    stage.sent.clear();
    stage.run(minutes(4));
    assert_eq!(stage.writes(), Vec::<&str>::new());
}

/// How many target groups there are.
fn target_groups(stage: &mut Stage) -> usize {
    let every = Call::DescribeTargetGroups(TargetGroupQuery::All { marker: None });
    let Reply::TargetGroups { target_groups, .. } = ask(stage, every) else { panic!("no target groups") };
    target_groups.len()
}

#[test]
fn a_target_group_that_was_replaced_stays_for_as_long_as_new_connections_reach_it() {
    for floor in [30, 120, 300] {
        let mut stage = Stage::new();
        Arc::make_mut(&mut stage.settings.model).drain_floor_seconds = floor;
        stage.start();
        let key = stage.apply(service(&STORY.replace("targetPort: 8080", "targetPort: 8080, nodePort: 30080")));
        stage.pod_with_interface("own", "echoserver", false);
        stage.run(minutes(1));
        assert!(stage.is_active(&key), "{:?}", stage.conditions(&key));
        stage.annotate(&key, "nlb-target-type", Some("instance"));
        stage.run(Duration::from_secs(u64::from(floor) - 1));
        assert_eq!(target_groups(&mut stage), 2, "within {floor} s");
        stage.run(minutes(1));
        assert_eq!(target_groups(&mut stage), 1, "a minute after {floor} s");
    }
}

#[test]
fn an_unchanged_service_costs_no_write() {
    let mut stage = Stage::new();
    let key = stage.apply(service(STORY));
    stage.run(minutes(1));
    assert!(stage.is_active(&key));
    stage.sent.clear();
    stage.run(minutes(60));
    assert_eq!(stage.writes(), Vec::<&str>::new());
    stage.start();
    stage.run(minutes(60));
    assert_eq!(stage.writes(), Vec::<&str>::new(), "nor does a restart");
}

#[test]
fn a_deleted_service_leaves_nothing_behind() {
    let mut stage = Stage::new();
    let before = stage.model.counts();
    let key = stage.apply(service(STORY));
    stage.run(minutes(1));
    stage.delete(&key);
    stage.run(minutes(2));
    assert_eq!(stage.services.len(), 0, "{:#?}", stage.sent);
    assert_eq!(stage.bindings.len(), 0);
    assert_eq!(stage.model.counts(), before);
}

#[test]
fn a_service_that_stops_being_ours_is_cleaned_up_and_left() {
    let mut stage = Stage::new();
    let before = stage.model.counts();
    let key = stage.apply(service(&STORY.replace("  loadBalancerClass: service.k8s.aws/nlb\n", "").replace(
        "  annotations:\n",
        "  annotations:\n    service.beta.kubernetes.io/aws-load-balancer-type: external\n",
    )));
    stage.run(minutes(1));
    assert!(stage.is_active(&key), "{:?}", stage.conditions(&key));
    stage.annotate(&key, "type", None);
    stage.run(minutes(2));
    assert_eq!(stage.model.counts(), before);
    assert_eq!(stage.hostname(&key), None);
    assert_eq!(stage.services[&key].metadata.finalizers.clone().unwrap_or_default(), Vec::<String>::new());
}

#[test]
fn a_service_that_cannot_be_right_is_told_why_and_nothing_is_made() {
    let mut stage = Stage::new();
    let before = stage.model.counts();
    let key = stage.apply(service(&STORY.replace("internet-facing", "internet")));
    stage.run(minutes(1));
    assert_eq!(stage.model.counts(), before);
    let conditions = stage.conditions(&key);
    let expected = "Blocked=True Invalid: service.beta.kubernetes.io/aws-load-balancer-scheme";
    assert!(conditions.iter().any(|condition| condition.starts_with(expected)), "{conditions:?}");
    assert_eq!(stage.notices.len(), 1, "{:?}", stage.notices);
    stage.annotate(&key, "scheme", Some("internal"));
    stage.run(minutes(1));
    assert!(stage.is_active(&key));
}

/// Creates, changes and deletes; the process is killed once, in phase `phase`, after `n` effects. Whether it was.
fn life(phase: usize, n: usize, cut: crate::bench::Cut) -> bool {
    let mut stage = Stage::new();
    stage.run(minutes(1));
    let before = stage.model.counts();
    let mut key = Key::new("default", "echoserver");
    let context = format!("phase {phase}, effect {n}, {cut:?}");
    for step in 0..3 {
        if step == phase {
            stage.cut = Some((n, cut));
        }
        match step {
            0 => key = stage.apply(service(&STORY.replace("targetPort: 8080", "targetPort: 8080, nodePort: 30080"))),
            1 => {
                stage.annotate(&key, "attributes", Some("deletion_protection.enabled=false"));
                stage.annotate(&key, "additional-resource-tags", Some("team=edge"));
                stage.annotate(&key, "cross-zone-load-balancing-enabled", None);
                stage.change(&key, |service| {
                    service.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].port = 8000;
                });
            }
            _ => stage.delete(&key),
        }
        stage.run(minutes(4));
        stage.cut = None;
        let counts = stage.model.counts();
        let expected = if step < 2 { (1, 1, 1) } else { (0, 0, 0) };
        let found = (counts.load_balancers, counts.listeners, counts.target_groups);
        assert_eq!(found, expected, "{context}, in {step}: {:#?}", stage.conditions(&key));
        assert_eq!(stage.bindings.len(), expected.0, "{context}, in {step}");
        if step < 2 {
            assert!(stage.is_active(&key), "{context}, in {step}: {:#?}\n{:#?}", stage.conditions(&key), stage.sent);
        }
    }
    assert_eq!(stage.model.counts(), before, "{context}");
    assert_eq!(stage.services.len(), 0, "{context}");
    stage.killed > 0
}

/// Every effect of a phase, in every way.
fn everywhere(phase: usize) {
    for cut in CUTS {
        let mut n = 0;
        while n < 60 && life(phase, n, cut) {
            n += 1;
        }
        assert!(n > 8, "phase {phase} has {n} effects");
    }
}

#[test]
fn a_process_killed_at_any_effect_of_a_creation_is_followed_by_one_that_finishes() {
    everywhere(0);
}

#[test]
fn a_process_killed_at_any_effect_of_a_change_is_followed_by_one_that_finishes() {
    everywhere(1);
}

#[test]
fn a_process_killed_at_any_effect_of_a_removal_is_followed_by_one_that_finishes() {
    everywhere(2);
}

/// Takes the public subnets from one cluster and gives them to another.
fn give_subnets(stage: &mut Stage, to: &str, from: &str) {
    let tag = |cluster: &str| format!("kubernetes.io/cluster/{cluster}");
    for subnet in ["subnet-0a00000000000aaa1", "subnet-0b00000000000bbb1", "subnet-0c00000000000ccc1"] {
        let tags = [(tag(to), "shared".to_owned())].into();
        ask(stage, Call::CreateEc2Tags { resource: subnet.to_owned(), tags });
        ask(stage, Call::DeleteEc2Tags { resource: subnet.to_owned(), keys: vec![tag(from)] });
    }
}

#[test]
fn subnets_that_somebody_tags_as_the_condition_says_are_found_within_two_minutes() {
    let mut stage = Stage::new();
    give_subnets(&mut stage, "other", "lab");
    let key = stage.apply(service(STORY));
    // The longest pause between two looks is reached.
    stage.run(minutes(5));
    let conditions = stage.conditions(&key);
    assert!(conditions.iter().any(|said| said.starts_with("Blocked=True Subnets:")), "{conditions:?}");
    give_subnets(&mut stage, "lab", "other");
    stage.run(minutes(2));
    assert!(stage.is_active(&key), "{:?}", stage.conditions(&key));
}

/// Calls AWS beside the registrar.
#[expect(clippy::needless_pass_by_value, reason = "it is written where it is used")]
fn ask(stage: &mut Stage, call: Call) -> Reply {
    aws::call(&mut stage.model, &call, stage.now).outcome.unwrap_or_else(|fault| panic!("{call:?}: {fault}"))
}

#[test]
fn what_somebody_changes_in_aws_by_hand_is_put_right_within_five_minutes() {
    let mut stage = Stage::new();
    let key = stage.apply(service(STORY));
    stage.run(minutes(1));
    assert!(stage.is_active(&key));
    let Reply::LoadBalancers { load_balancers: balancers, .. } =
        ask(&mut stage, Call::DescribeLoadBalancers(LoadBalancerQuery::All { marker: None }))
    else {
        panic!("no load balancers")
    };
    let balancer = balancers[0].arn.clone();
    let of_balancer = ListenerQuery::LoadBalancer(balancer.clone());
    let Reply::Listeners(listeners) = ask(&mut stage, Call::DescribeListeners(of_balancer)) else {
        panic!("no listeners")
    };
    let of_balancer = TargetGroupQuery::LoadBalancer(balancer.clone());
    let Reply::TargetGroups { target_groups, .. } = ask(&mut stage, Call::DescribeTargetGroups(of_balancer)) else {
        panic!("no target groups")
    };
    let ids = vec![OF_NODES.to_owned()];
    let Reply::SecurityGroups(nodes) = ask(&mut stage, Call::DescribeSecurityGroups { ids, filters: Vec::new() })
    else {
        panic!("no security group")
    };
    let other_port = HealthCheck { port: Some("traffic-port".to_owned()), ..target_groups[0].health_check.clone() };
    let by_hand = [
        (
            Call::ModifyLoadBalancerAttributes {
                load_balancer: balancer,
                attributes: BTreeMap::from([("load_balancing.cross_zone.enabled".to_owned(), "false".to_owned())]),
            },
            "ModifyLoadBalancerAttributes",
        ),
        (
            Call::ModifyTargetGroup { group: target_groups[0].arn.clone(), health_check: other_port },
            "ModifyTargetGroup",
        ),
        (Call::DeleteListener { listener: listeners[0].arn.clone() }, "CreateListener"),
        (
            Call::RevokeSecurityGroupIngress {
                group_id: OF_NODES.to_owned(),
                permissions: nodes[0].permissions.clone(),
            },
            "AuthorizeSecurityGroupIngress",
        ),
    ];
    for (call, repair) in by_hand {
        stage.sent.clear();
        ask(&mut stage, call.clone());
        stage.run(minutes(5));
        assert!(stage.writes().contains(&repair), "{repair} after {call:?}: {:?}", stage.sent);
        stage.run(minutes(1));
        stage.sent.clear();
        stage.run(minutes(30));
        assert_eq!(stage.writes(), Vec::<&str>::new(), "after {repair}");
    }
}

#[test]
fn a_service_that_says_no_scheme_is_judged_by_that_of_its_load_balancer() {
    let said = |stage: &Stage, key: &Key| stage.conditions(key).join("\n");
    let refused = "Blocked=True Invalid: service.beta.kubernetes.io/aws-load-balancer-eip-allocations";
    let mut stage = Stage::new();
    let key = stage.apply(service(STORY));
    stage.run(minutes(1));
    let hostname = stage.hostname(&key);
    assert!(hostname.is_some());
    stage.annotate(&key, "eip-allocations", Some("eipalloc-0123abc1,eipalloc-0123abc2,eipalloc-0123abc3"));
    stage.annotate(&key, "scheme", None);
    for started_anew in [false, true] {
        if started_anew {
            stage.start();
        }
        stage.run(minutes(2));
        // It is built on: what else it asks for is done.
        let drain = format!("deregistration_delay.timeout_seconds={}", 100 + usize::from(started_anew));
        stage.annotate(&key, "target-group-attributes", Some(&drain));
        stage.sent.clear();
        stage.run(minutes(2));
        assert!(stage.is_active(&key) && !said(&stage, &key).contains("Blocked=True"), "{}", said(&stage, &key));
        assert!(stage.writes().contains(&"ModifyTargetGroupAttributes"), "{:?}", stage.writes());
        assert_eq!(stage.hostname(&key), hostname);
    }
    // Without a load balancer it would be an internal one.
    stage.delete_all_in_aws();
    stage.start();
    stage.sent.clear();
    stage.run(minutes(10));
    assert!(said(&stage, &key).contains(refused), "{}", said(&stage, &key));
    assert!(!stage.writes().iter().any(|write| write.starts_with("Create")), "{:?}", stage.writes());

    let mut stage = Stage::new();
    let before = stage.model.counts();
    let addresses = "aws-load-balancer-eip-allocations: eipalloc-0123abc1,eipalloc-0123abc2,eipalloc-0123abc3";
    let key = stage.apply(service(&STORY.replace("aws-load-balancer-scheme: internet-facing", addresses)));
    stage.run(minutes(1));
    assert!(said(&stage, &key).contains(refused), "{}", said(&stage, &key));
    assert_eq!(stage.model.counts(), before);
    assert_eq!(stage.services[&key].metadata.finalizers.clone().unwrap_or_default(), Vec::<String>::new());
}
