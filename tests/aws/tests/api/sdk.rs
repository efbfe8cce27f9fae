//! The AWS SDK for Rust, which the registrar uses, against the emulator.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_model::{faults::Order, settings::Profile};
use aws_sdk_elasticloadbalancingv2::{
    Client,
    config::{BehaviorVersion, Region, retry::RetryConfig},
    error::ProvideErrorMetadata,
    types::{
        Action, ActionTypeEnum, LoadBalancerTypeEnum, ProtocolEnum, TargetDescription, TargetHealthStateEnum,
        TargetTypeEnum,
    },
};
use aws_smithy_http_client::Builder;

use crate::Emulator;

const VPC: &str = "vpc-0a1b2c3d4e5f60718";
const SUBNET: &str = "subnet-0a00000000000aaa2";

fn client(emulator: &Emulator, attempts: u32) -> Client {
    let retries = RetryConfig::standard().with_max_attempts(attempts).with_initial_backoff(Duration::from_millis(10));
    let config = aws_sdk_elasticloadbalancingv2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("ap-northeast-2"))
        .endpoint_url(format!("http://{}", emulator.running.api))
        .credentials_provider(Credentials::from_keys("AKIAANY", "any", None))
        .retry_config(retries)
        .http_client(Builder::new().build_http())
        .build();
    Client::from_conf(config)
}

async fn group(client: &Client, name: &str) -> String {
    let call = client.create_target_group().name(name).protocol(ProtocolEnum::Tcp).port(8080).vpc_id(VPC);
    let reply = call.target_type(TargetTypeEnum::Ip).send().await.expect("created");
    reply.target_groups()[0].target_group_arn().expect("an ARN").to_owned()
}

fn order(emulator: &Emulator, json: &str) {
    let order: Order = serde_json::from_str(json).expect("an order");
    emulator.running.engine.with(|model, now| model.order(order, now)).expect("valid");
}

#[tokio::test]
async fn sdk_builds_a_load_balancer_and_reads_it_back() {
    let emulator = Emulator::start(Profile::Instant, &[]).await;
    let client = client(&emulator, 1);
    let created = client
        .create_load_balancer()
        .name("web")
        .r#type(LoadBalancerTypeEnum::Network)
        .subnets(SUBNET)
        .send()
        .await
        .expect("created");
    let balancer = created.load_balancers()[0].load_balancer_arn().expect("an ARN");
    let group = group(&client, "web").await;
    let forward = Action::builder().r#type(ActionTypeEnum::Forward).target_group_arn(&group).build();
    let listener = client.create_listener().load_balancer_arn(balancer).protocol(ProtocolEnum::Tcp).port(80);
    listener.default_actions(forward).send().await.expect("created");
    let target = TargetDescription::builder().id("127.10.11.21").build();
    client.register_targets().target_group_arn(&group).targets(target.clone()).send().await.expect("registered");
    let health = client.describe_target_health().target_group_arn(&group).send().await.expect("described");
    let state = health.target_health_descriptions()[0].target_health().and_then(|h| h.state());
    assert_eq!(state, Some(&TargetHealthStateEnum::Initial));
    client.deregister_targets().target_group_arn(&group).targets(target).send().await.expect("deregistered");
    client.delete_load_balancer().load_balancer_arn(balancer).send().await.expect("deleted");
    client.delete_target_group().target_group_arn(&group).send().await.expect("deleted");
    let error = client.describe_load_balancers().names("web").send().await.expect_err("gone");
    assert!(error.into_service_error().is_load_balancer_not_found_exception());
    emulator.end().await;
}

#[tokio::test]
async fn errors_arrive_as_the_variants_and_codes_of_the_sdk() {
    let emulator = Emulator::start(Profile::Instant, &[("quota.targets-per-target-group", "1")]).await;
    let client = client(&emulator, 1);
    let group = group(&client, "web").await;
    let register = |ids: &[&str]| {
        let targets = ids.iter().map(|id| TargetDescription::builder().id(*id).build()).collect();
        client.register_targets().target_group_arn(&group).set_targets(Some(targets)).send()
    };
    let error = register(&["127.10.11.21", "127.10.11.22"]).await.expect_err("over quota").into_service_error();
    assert!(error.is_too_many_targets_exception(), "{error:?}");
    let error = register(&["8.8.8.8"]).await.expect_err("not of the VPC").into_service_error();
    assert!(error.is_invalid_target_exception(), "{error:?}");
    let error = register(&[]).await.expect_err("an empty list");
    assert_eq!(error.code(), Some("ValidationError"), "a code that the SDK's model does not name");
    order(&emulator, r#"{"effect":{"refuse":{"code":"AccessDenied"}}}"#);
    assert_eq!(register(&["127.10.11.21"]).await.expect_err("ordered").code(), Some("AccessDenied"));
    emulator.end().await;
}

#[tokio::test]
async fn sdk_pages_through_401_groups() {
    let emulator = Emulator::start(Profile::Instant, &[]).await;
    let client = client(&emulator, 1);
    for n in 0..401 {
        group(&client, &format!("g{n}")).await;
    }
    let mut pages = client.describe_target_groups().into_paginator().send();
    let mut sizes = Vec::new();
    while let Some(page) = pages.next().await {
        sizes.push(page.expect("a page").target_groups().len());
    }
    assert_eq!(sizes, [400, 1]);
    let arns: Vec<String> = (0..21).map(|n| format!("arn:aws:elasticloadbalancing:r:1:targetgroup/g{n}/0")).collect();
    let error = client.describe_tags().set_resource_arns(Some(arns)).send().await.expect_err("21 ARNs");
    assert_eq!(error.code(), Some("ValidationError"));
    emulator.end().await;
}

#[tokio::test]
async fn sdk_retries_throttling_and_lost_replies_to_one_resource() {
    let emulator = Emulator::start(Profile::Instant, &[]).await;
    let client = client(&emulator, 5);
    for effect in [r#"{"refuse":{"code":"Throttling"}}"#, r#""lose""#, r#""fail-after""#, r#""unavailable""#] {
        order(&emulator, &format!(r#"{{"action":"CreateTargetGroup","effect":{effect}}}"#));
    }
    group(&client, "web").await;
    assert_eq!(emulator.running.engine.with(|model, _| model.counts()).target_groups, 1);
    let (calls, _) = emulator.running.engine.journal().after(0, 100, |_| true);
    assert_eq!(calls.len(), 4 + 5, "four orders and five calls");
    emulator.end().await;
}
