//! What is said when something is in the way, as a person reads it, and that it passes when the cause does.

use std::time::Duration;

use aws_model::faults::{Order, OrderedEffect};
use registrar_core::cluster::{GateStatus, Key};

use crate::{life::STORY, services::service, stage::Stage};

fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

fn order(stage: &mut Stage, action: &str, code: &str, times: u32) {
    let effect = OrderedEffect::Refuse { code: code.to_owned() };
    stage.model.order(Order { action: Some(action.to_owned()), times, effect }, stage.now).expect("an order");
}

fn blocked(stage: &Stage, key: &Key) -> String {
    let conditions = stage.conditions(key);
    conditions.into_iter().find_map(|text| text.strip_prefix("Blocked=True ").map(str::to_owned)).unwrap_or_default()
}

fn built(stage: &mut Stage) -> Key {
    let key = stage.apply(service(STORY));
    stage.run(minutes(1));
    assert!(stage.is_active(&key), "{:#?}", stage.conditions(&key));
    key
}

#[test]
fn a_quota_that_is_reached_is_named_with_what_would_help_and_waits_at_most_a_minute() {
    let mut stage = Stage::new();
    stage.model.set("quota.network-load-balancers", "0", stage.now).expect("a setting");
    let key = stage.apply(service(STORY));
    stage.run(minutes(5));
    let said = blocked(&stage, &key);
    assert!(said.starts_with("QuotaReached: CreateLoadBalancer of load balancer k8s-default-echoserv-"), "{said}");
    assert!(said.ends_with("; remove what nobody needs, or ask AWS for a larger quota"), "{said}");
    assert_eq!(stage.notices.len(), 1, "one Event, however often it fails: {:?}", stage.notices);
    stage.model.set("quota.network-load-balancers", "50", stage.now).expect("a setting");
    stage.run(Duration::from_secs(62));
    assert!(stage.is_active(&key), "{:#?}", stage.conditions(&key));
    assert_eq!(blocked(&stage, &key), "");
}

#[test]
fn a_missing_permission_is_named_by_its_action() {
    let mut stage = Stage::new();
    order(&mut stage, "CreateTargetGroup", "AccessDenied", 3);
    let key = stage.apply(service(STORY));
    stage.run(Duration::from_secs(5));
    let said = blocked(&stage, &key);
    assert!(said.starts_with("AccessDenied: CreateTargetGroup of target group k8s-default-echoserv-"), "{said}");
    assert!(said.ends_with("; allow the action in the IAM policy of the registrar's role"), "{said}");
    stage.run(minutes(1));
    assert!(stage.is_active(&key));
}

#[test]
fn a_cluster_whose_vpc_is_not_known_says_so_on_each_service() {
    let mut stage = Stage::new();
    stage.settings.vpc = None;
    stage.start();
    let key = stage.apply(service(STORY));
    stage.run(minutes(1));
    assert_eq!(blocked(&stage, &key), "VpcUnknown: the VPC of the cluster is not known; set --aws-vpc-id");
    assert_eq!(stage.model.counts().load_balancers, 0);
}

#[test]
fn subnets_that_do_not_fit_are_listed_each_with_the_rule_that_excluded_it() {
    let mut stage = Stage::new();
    let mut model = stage.settings.model.as_ref().clone();
    model.cluster_name = "other".to_owned();
    stage.settings.model = std::sync::Arc::new(model);
    stage.start();
    let key = stage.apply(service(STORY));
    stage.run(minutes(1));
    let said = blocked(&stage, &key);
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        [
            "Subnets: no subnet of vpc-0a1b2c3d4e5f60718 fits an internet-facing load balancer",
            "  subnet-0a00000000000aaa1 (ap-northeast-2a): belongs to other clusters (lab), and has no tag kubernetes.io/cluster/other",
            "  subnet-0a00000000000aaa2 (ap-northeast-2a): no tag kubernetes.io/role/elb: 1",
            "  subnet-0b00000000000bbb1 (ap-northeast-2b): belongs to other clusters (lab), and has no tag kubernetes.io/cluster/other",
            "  subnet-0b00000000000bbb2 (ap-northeast-2b): no tag kubernetes.io/role/elb: 1",
            "  subnet-0c00000000000ccc1 (ap-northeast-2c): belongs to other clusters (lab), and has no tag kubernetes.io/cluster/other",
            "  subnet-0c00000000000ccc2 (ap-northeast-2c): no tag kubernetes.io/role/elb: 1; tag one subnet per zone with \
             kubernetes.io/role/elb: 1, or name them in service.beta.kubernetes.io/aws-load-balancer-subnets",
        ]
    );
}

#[test]
fn a_setting_that_aws_refuses_is_in_nobodys_way_but_its_own() {
    let mut stage = Stage::new();
    let with = STORY.replace(
        "  annotations:\n",
        "  annotations:\n    service.beta.kubernetes.io/aws-load-balancer-attributes: brand.new=1\n",
    );
    let key = stage.apply(service(&with));
    stage.run(minutes(1));
    assert_eq!(stage.model.counts().listeners, 1);
    assert!(stage.hostname(&key).is_some());
    let said = blocked(&stage, &key);
    assert!(said.starts_with("AwsRefused: ModifyLoadBalancerAttributes of arn:aws:"), "{said}");
    stage.sent.clear();
    stage.run(minutes(10));
    let tries = stage.writes().iter().filter(|name| **name == "ModifyLoadBalancerAttributes").count();
    assert!((1..=11).contains(&tries), "tried again, at most once a minute: {tries}");
    stage.annotate(&key, "attributes", None);
    stage.run(minutes(2));
    assert_eq!(blocked(&stage, &key), "");
    assert!(stage.is_active(&key));
}

#[test]
fn a_protected_load_balancer_holds_the_deletion_and_says_so_until_it_is_let_go() {
    let mut stage = Stage::new();
    let key = stage.apply(service(STORY));
    stage.annotate(&key, "attributes", Some("deletion_protection.enabled=true"));
    stage.run(minutes(1));
    stage.delete(&key);
    stage.run(minutes(5));
    let said = blocked(&stage, &key);
    assert!(said.starts_with("DeletionProtection: load balancer k8s-default-echoserv-"), "{said}");
    assert_eq!((stage.model.counts().listeners, stage.bindings.len()), (1, 1), "it serves on");
    stage.annotate(&key, "attributes", Some("deletion_protection.enabled=false"));
    stage.run(minutes(2));
    assert_eq!(stage.services.len(), 0);
    assert_eq!(stage.model.counts().load_balancers, 0);
}

/// Each call of a removal, refused for a while in each way that AWS refuses it.
#[test]
fn a_removal_that_is_blocked_names_the_object_and_finishes_when_it_can() {
    for (action, code, object) in [
        ("DeleteLoadBalancer", "ResourceInUse", "loadbalancer/net/k8s-default-echoserv-"),
        ("DeleteLoadBalancer", "AccessDenied", "loadbalancer/net/k8s-default-echoserv-"),
        ("DeleteTargetGroup", "ResourceInUse", "targetgroup/k8s-default-echoserv-"),
        ("DeleteSecurityGroup", "DependencyViolation", "sg-"),
    ] {
        let mut stage = Stage::new();
        let before = stage.model.counts();
        let key = built(&mut stage);
        order(&mut stage, action, code, 7);
        stage.delete(&key);
        let mut said = String::new();
        for _ in 0..60 {
            stage.run(Duration::from_secs(5));
            let now = blocked(&stage, &key);
            if !now.is_empty() {
                said = now;
            }
        }
        assert!(said.contains(&format!("{action} of ")) && said.contains(object) && said.contains(code), "{said}");
        assert_eq!(stage.services.len(), 0, "{action} {code}: {:#?}", stage.sent);
        assert_eq!(stage.model.counts(), before, "{action} {code}");
    }
}

#[test]
fn what_is_gone_already_is_no_obstacle_to_a_removal() {
    let mut stage = Stage::new();
    let before = stage.model.counts();
    let key = built(&mut stage);
    stage.delete_all_in_aws();
    stage.delete(&key);
    stage.run(minutes(5));
    assert_eq!(stage.services.len(), 0, "{:#?}", stage.sent);
    assert_eq!(stage.model.counts().load_balancers, before.load_balancers);
    assert_eq!(stage.model.counts(), before);
}

#[test]
fn what_was_deleted_by_hand_is_made_again_within_the_audit() {
    let mut stage = Stage::new();
    let key = built(&mut stage);
    stage.delete_all_in_aws();
    stage.run(minutes(8));
    let counts = stage.model.counts();
    assert_eq!((counts.load_balancers, counts.listeners, counts.target_groups), (1, 1, 1), "{:#?}", stage.sent);
    assert!(stage.is_active(&key), "{:#?}", stage.conditions(&key));
}

/// The name of the binding that the story's Service gets, which admission predicts.
fn predicted(stage: &Stage, key: &Key) -> String {
    let reading = nlb::service::read(&stage.services[key], &stage.settings.model);
    reading.spec.target_groups[0].name.clone()
}

#[test]
fn a_load_balancer_that_cannot_be_made_keeps_no_pod_from_starting() {
    let mut stage = Stage::new();
    stage.model.set("quota.network-load-balancers", "0", stage.now).expect("a setting");
    let key = stage.apply(service(STORY));
    let binding = predicted(&stage, &key);
    stage.gated_pod("echoserver-1", &binding);
    stage.run(minutes(1));
    let gates: Vec<_> =
        stage.gates.iter().map(|(pod, status, reason)| (pod.as_str(), *status, reason.as_str())).collect();
    assert_eq!(gates, [("echoserver-1", GateStatus::True, "BuildFailed")], "{:#?}", stage.sent);
}

#[test]
fn a_load_balancer_that_makes_no_progress_keeps_no_pod_from_starting_for_more_than_five_minutes() {
    let mut stage = Stage::new();
    // AWS answers nothing that can be relied on.
    stage.model.set("fault.fail-before", "1", stage.now).expect("a setting");
    let key = stage.apply(service(STORY));
    let binding = predicted(&stage, &key);
    stage.gated_pod("echoserver-1", &binding);
    stage.run(Duration::from_secs(20));
    assert_eq!(stage.gates, [], "it may yet be built");
    stage.run(minutes(6));
    let opened: Vec<_> = stage.gates.iter().map(|(_, status, reason)| (*status, reason.as_str())).collect();
    assert_eq!(opened, [(GateStatus::True, "BuildDeadline")]);
}

#[test]
fn while_it_is_being_built_gates_wait() {
    let mut stage = Stage::new();
    stage.model.set("fault.fail-before", "1", stage.now).expect("a setting");
    let key = stage.apply(service(STORY));
    let binding = predicted(&stage, &key);
    stage.gated_pod("echoserver-1", &binding);
    stage.run(Duration::from_secs(20));
    stage.model.set("fault.fail-before", "0", stage.now).expect("a setting");
    stage.run(minutes(2));
    assert!(stage.is_active(&key), "{:#?}", stage.conditions(&key));
    assert_eq!(stage.bindings.keys().map(|key| key.name.to_string()).collect::<Vec<_>>(), [binding]);
    let opened = stage.gates.iter().filter(|(_, status, _)| *status == GateStatus::True).count();
    assert_eq!(opened, 0, "{:?}", stage.gates);
}
