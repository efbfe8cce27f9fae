//! Targets, target groups and tags.

use registrar_core::aws::{
    Arn, Call, CreateTargetGroup, HealthCheck, HealthState, Reply, Target, TargetGroup, TargetGroupQuery,
};

use crate::support::{Emulator, NODE_GROUP, VPC, connect, created_group, done, refused, texts};

fn target(id: &str, port: u16) -> Target {
    Target { id: id.to_owned(), port, availability_zone: None, quic_server_id: None }
}

#[tokio::test]
async fn targets_are_registered_described_and_deregistered() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let group = created_group(&aws, "web").await;
    let outside = Target { availability_zone: Some("all".to_owned()), ..target("10.1.2.3", 9090) };
    let targets = vec![target("127.10.11.21", 8080), target("127.10.11.21", 8081), outside.clone()];
    assert_eq!(done(&aws, &Call::RegisterTargets { group: group.clone(), targets }).await, Reply::Done);
    let Reply::TargetHealth(health) = done(&aws, &Call::DescribeTargetHealth { group: group.clone() }).await else {
        panic!("health");
    };
    let seen: Vec<_> = health.iter().map(|h| (h.target.id.as_str(), h.target.port)).collect();
    assert_eq!(seen, [("10.1.2.3", 9090), ("127.10.11.21", 8080), ("127.10.11.21", 8081)]);
    assert_eq!(health[0].target, outside);
    for of in &health {
        assert_eq!((&of.state, of.reason.as_deref()), (&HealthState::Unused, Some("Target.NotInUse")));
        assert!(of.description.as_deref().is_some_and(|text| !text.is_empty()), "{of:?}");
    }
    let gone = Call::DeregisterTargets { group: group.clone(), targets: vec![target("127.10.11.21", 8080)] };
    assert_eq!(done(&aws, &gone).await, Reply::Done);
    let Reply::TargetHealth(health) = done(&aws, &Call::DescribeTargetHealth { group }).await else { panic!("health") };
    let left = health.iter().filter(|of| of.state == HealthState::Unused).count();
    assert_eq!(left, 2, "{health:?}");
}

#[tokio::test]
async fn target_group_is_created_changed_and_found_as_asked() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let health_check = HealthCheck {
        protocol: Some("HTTP".to_owned()),
        port: Some("8081".to_owned()),
        path: Some("/healthz".to_owned()),
        matcher: Some("200-299".to_owned()),
        interval_seconds: Some(15),
        timeout_seconds: Some(7),
        healthy_threshold: Some(4),
        unhealthy_threshold: Some(2),
    };
    let wanted = CreateTargetGroup {
        name: "k8s-web".to_owned(),
        protocol: "TCP_UDP".to_owned(),
        port: 8080,
        vpc_id: VPC.to_owned(),
        target_type: "instance".to_owned(),
        ip_address_type: "ipv4".to_owned(),
        health_check: health_check.clone(),
        tags: texts([("elbv2.k8s.aws/cluster", "lab"), ("empty", "")]),
    };
    let Reply::TargetGroups { target_groups, next_marker: None } =
        done(&aws, &Call::CreateTargetGroup(wanted.clone())).await
    else {
        panic!("groups");
    };
    let created = target_groups[0].clone();
    let expected = TargetGroup {
        arn: created.arn.clone(),
        name: "k8s-web".to_owned(),
        protocol: "TCP_UDP".to_owned(),
        port: Some(8080),
        vpc_id: Some(VPC.to_owned()),
        target_type: "instance".to_owned(),
        ip_address_type: Some("ipv4".to_owned()),
        health_check: health_check.clone(),
        load_balancers: Vec::new(),
    };
    assert_eq!(created, expected);
    let ways = [
        TargetGroupQuery::Name("k8s-web".to_owned()),
        TargetGroupQuery::Arns(vec![created.arn.clone()]),
        TargetGroupQuery::All { marker: None },
    ];
    for query in ways {
        let found = done(&aws, &Call::DescribeTargetGroups(query.clone())).await;
        let all = Reply::TargetGroups { target_groups: vec![expected.clone()], next_marker: None };
        assert_eq!(found, all, "{query:?}");
    }
    let slower = HealthCheck { interval_seconds: Some(30), ..HealthCheck::default() };
    let change = Call::ModifyTargetGroup { group: created.arn.clone(), health_check: slower };
    let Reply::TargetGroups { target_groups, .. } = done(&aws, &change).await else { panic!("groups") };
    let changed = HealthCheck { interval_seconds: Some(30), ..health_check };
    assert_eq!(target_groups[0].health_check, changed, "what was nothing stays as it was");
    assert_eq!(done(&aws, &Call::DeleteTargetGroup { group: created.arn }).await, Reply::Done);
    let query = TargetGroupQuery::Name("k8s-web".to_owned());
    assert_eq!(refused(&aws, &Call::DescribeTargetGroups(query)).await, "TargetGroupNotFound");
}

#[tokio::test]
async fn attributes_of_a_group_are_all_answered_whichever_were_changed() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let group = created_group(&aws, "web").await;
    let attributes = texts([("deregistration_delay.timeout_seconds", "15"), ("proxy_protocol_v2.enabled", "true")]);
    let change = Call::ModifyTargetGroupAttributes { group: group.clone(), attributes };
    let Reply::Attributes(changed) = done(&aws, &change).await else { panic!("attributes") };
    let Reply::Attributes(read) = done(&aws, &Call::DescribeTargetGroupAttributes { group }).await else {
        panic!("attributes");
    };
    assert_eq!(read["deregistration_delay.timeout_seconds"], "15");
    assert_eq!(read["proxy_protocol_v2.enabled"], "true");
    assert_eq!(read["stickiness.enabled"], "false");
    assert!(changed.iter().all(|(key, value)| read[key] == *value), "{changed:?}");
}

#[tokio::test]
async fn tags_are_put_on_read_and_taken_off() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let (one, two) = (created_group(&aws, "one").await, created_group(&aws, "two").await);
    let tags = texts([("a", "1"), ("b", ""), ("c d", "é")]);
    let put = Call::AddTags { resource: one.clone(), tags: tags.clone() };
    assert_eq!(done(&aws, &put).await, Reply::Done);
    let both = Call::DescribeTags { resources: vec![one.clone(), two.clone()] };
    let Reply::Tags(read) = done(&aws, &both).await else { panic!("tags") };
    assert_eq!(read[&one], tags);
    assert_eq!(read[&two], texts([]));
    let off = Call::RemoveTags { resource: one.clone(), keys: vec!["a".to_owned(), "b".to_owned()] };
    assert_eq!(done(&aws, &off).await, Reply::Done);
    let Reply::Tags(read) = done(&aws, &both).await else { panic!("tags") };
    assert_eq!(read[&one], texts([("c d", "é")]));
}

#[tokio::test]
async fn refusals_come_with_code_and_message_as_aws_words_them() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let group = created_group(&aws, "web").await;
    let register = |id: &str| Call::RegisterTargets { group: group.clone(), targets: vec![target(id, 80)] };
    assert_eq!(refused(&aws, &register("8.8.8.8")).await, "InvalidTarget");
    let nothing = Call::RegisterTargets { group: group.clone(), targets: Vec::new() };
    assert_eq!(refused(&aws, &nothing).await, "ValidationError", "a code that no model names");
    let bad = Call::DeleteSecurityGroup { group_id: NODE_GROUP.to_owned() };
    assert_eq!(refused(&aws, &bad).await, "DependencyViolation", "EC2 says it its own way");
    let missing = Arn::new("arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/x/0000000000000000");
    let fault = crate::support::call(&aws, &Call::DescribeTargetHealth { group: missing }).await.expect_err("missing");
    assert_eq!(fault.to_string(), "TargetGroupNotFound: One or more target groups not found");
}
