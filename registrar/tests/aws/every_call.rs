//! Every variant of [`Call`] reaches the operation that it names.

use std::collections::{BTreeMap, BTreeSet};

use registrar_core::aws::{
    Arn, Call, CreateListener, CreateLoadBalancer, CreateTargetGroup, Fault, Forward, HealthCheck, ListenerQuery,
    LoadBalancerQuery, ModifyListener, SetSubnets, TargetGroupQuery,
};

use crate::support::{Emulator, call, connect};

/// One of each variant. The match below makes this list complete: a new variant does not compile without a number.
fn each() -> Vec<Call> {
    let arn = || Arn::new("arn:aws:elasticloadbalancing:ap-northeast-2:111122223333:targetgroup/x/0000000000000000");
    let text = || "x".to_owned();
    vec![
        Call::DescribeTargetHealth { group: arn() },
        Call::RegisterTargets { group: arn(), targets: Vec::new() },
        Call::DeregisterTargets { group: arn(), targets: Vec::new() },
        Call::DescribeLoadBalancers(LoadBalancerQuery::All { marker: None }),
        Call::CreateLoadBalancer(CreateLoadBalancer {
            name: text(),
            scheme: text(),
            ip_address_type: text(),
            subnet_mappings: Vec::new(),
            security_groups: Vec::new(),
            enable_prefix_for_ipv6_source_nat: None,
            tags: BTreeMap::new(),
        }),
        Call::DeleteLoadBalancer { load_balancer: arn() },
        Call::DescribeLoadBalancerAttributes { load_balancer: arn() },
        Call::ModifyLoadBalancerAttributes { load_balancer: arn(), attributes: BTreeMap::new() },
        Call::SetSubnets(SetSubnets {
            load_balancer: arn(),
            subnet_mappings: Vec::new(),
            ip_address_type: None,
            enable_prefix_for_ipv6_source_nat: None,
        }),
        Call::SetSecurityGroups { load_balancer: arn(), security_groups: Vec::new(), enforce_on_private_link: None },
        Call::SetIpAddressType { load_balancer: arn(), ip_address_type: text() },
        Call::DescribeCapacityReservation { load_balancer: arn() },
        Call::ModifyCapacityReservation { load_balancer: arn(), capacity_units: None },
        Call::DescribeTargetGroups(TargetGroupQuery::All { marker: None }),
        Call::CreateTargetGroup(CreateTargetGroup {
            name: text(),
            protocol: text(),
            port: 1,
            vpc_id: text(),
            target_type: text(),
            ip_address_type: text(),
            health_check: HealthCheck::default(),
            tags: BTreeMap::new(),
        }),
        Call::ModifyTargetGroup { group: arn(), health_check: HealthCheck::default() },
        Call::DeleteTargetGroup { group: arn() },
        Call::DescribeTargetGroupAttributes { group: arn() },
        Call::ModifyTargetGroupAttributes { group: arn(), attributes: BTreeMap::new() },
        Call::DescribeListeners(ListenerQuery::Arn(arn())),
        Call::CreateListener(CreateListener {
            load_balancer: arn(),
            protocol: text(),
            port: 1,
            forward: Forward::default(),
            ssl_policy: None,
            certificate: None,
            alpn_policy: None,
            tags: BTreeMap::new(),
        }),
        Call::ModifyListener(ModifyListener {
            listener: arn(),
            protocol: None,
            port: None,
            forward: None,
            ssl_policy: None,
            certificate: None,
            alpn_policy: None,
        }),
        Call::DeleteListener { listener: arn() },
        Call::DescribeListenerAttributes { listener: arn() },
        Call::ModifyListenerAttributes { listener: arn(), attributes: BTreeMap::new() },
        Call::DescribeListenerCertificates { listener: arn() },
        Call::AddListenerCertificates { listener: arn(), certificates: Vec::new() },
        Call::RemoveListenerCertificates { listener: arn(), certificates: Vec::new() },
        Call::DescribeTags { resources: vec![arn()] },
        Call::AddTags { resource: arn(), tags: BTreeMap::new() },
        Call::RemoveTags { resource: arn(), keys: Vec::new() },
        Call::DescribeSubnets { ids: Vec::new(), filters: Vec::new() },
        Call::DescribeRouteTables { filters: Vec::new() },
        Call::DescribeVpcs { ids: Vec::new() },
        Call::DescribeAvailabilityZones { zone_ids: Vec::new() },
        Call::DescribeSecurityGroups { ids: Vec::new(), filters: Vec::new() },
        Call::CreateSecurityGroup { name: text(), description: text(), vpc_id: text(), tags: BTreeMap::new() },
        Call::DeleteSecurityGroup { group_id: text() },
        Call::AuthorizeSecurityGroupIngress { group_id: text(), permissions: Vec::new() },
        Call::RevokeSecurityGroupIngress { group_id: text(), permissions: Vec::new() },
        Call::CreateEc2Tags { resource: text(), tags: BTreeMap::new() },
        Call::DeleteEc2Tags { resource: text(), keys: Vec::new() },
        Call::DescribeInstances { ids: Vec::new() },
        Call::DescribeNetworkInterfaces { filters: Vec::new() },
    ]
}

#[rustfmt::skip]
fn number(call: &Call) -> usize {
    match call {
        Call::DescribeTargetHealth { .. } => 0, Call::RegisterTargets { .. } => 1, Call::DeregisterTargets { .. } => 2,
        Call::DescribeLoadBalancers(_) => 3, Call::CreateLoadBalancer(_) => 4, Call::DeleteLoadBalancer { .. } => 5,
        Call::DescribeLoadBalancerAttributes { .. } => 6, Call::ModifyLoadBalancerAttributes { .. } => 7,
        Call::SetSubnets(_) => 8, Call::SetSecurityGroups { .. } => 9, Call::SetIpAddressType { .. } => 10,
        Call::DescribeCapacityReservation { .. } => 11, Call::ModifyCapacityReservation { .. } => 12,
        Call::DescribeTargetGroups(_) => 13, Call::CreateTargetGroup(_) => 14, Call::ModifyTargetGroup { .. } => 15,
        Call::DeleteTargetGroup { .. } => 16, Call::DescribeTargetGroupAttributes { .. } => 17,
        Call::ModifyTargetGroupAttributes { .. } => 18, Call::DescribeListeners(_) => 19, Call::CreateListener(_) => 20,
        Call::ModifyListener(_) => 21, Call::DeleteListener { .. } => 22, Call::DescribeListenerAttributes { .. } => 23,
        Call::ModifyListenerAttributes { .. } => 24, Call::DescribeListenerCertificates { .. } => 25,
        Call::AddListenerCertificates { .. } => 26, Call::RemoveListenerCertificates { .. } => 27,
        Call::DescribeTags { .. } => 28, Call::AddTags { .. } => 29, Call::RemoveTags { .. } => 30,
        Call::DescribeSubnets { .. } => 31, Call::DescribeRouteTables { .. } => 32, Call::DescribeVpcs { .. } => 33,
        Call::DescribeAvailabilityZones { .. } => 34, Call::DescribeSecurityGroups { .. } => 35,
        Call::CreateSecurityGroup { .. } => 36, Call::DeleteSecurityGroup { .. } => 37,
        Call::AuthorizeSecurityGroupIngress { .. } => 38, Call::RevokeSecurityGroupIngress { .. } => 39,
        Call::CreateEc2Tags { .. } => 40, Call::DeleteEc2Tags { .. } => 41, Call::DescribeInstances { .. } => 42,
        Call::DescribeNetworkInterfaces { .. } => 43,
    }
}

#[tokio::test]
async fn every_call_reaches_its_operation_and_is_answered() {
    let calls = each();
    let numbers: BTreeSet<usize> = calls.iter().map(number).collect();
    assert_eq!(numbers, (0..44).collect(), "one of each variant");
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    for what in &calls {
        let before = emulator.count(what.operation());
        let result = call(&aws, what).await;
        assert!(matches!(result, Ok(_) | Err(Fault::Refused(_))), "{what:?}: {result:?}");
        assert_eq!(emulator.count(what.operation()), before + 1, "{what:?}");
    }
}
