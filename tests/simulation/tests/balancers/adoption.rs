//! What the peer made is taken over as it is.

use std::sync::Arc;

use nlb::targetgroupbinding::{TargetGroupBinding, TargetGroupBindingSpec};
use registrar_core::{
    aws::{
        Arn, Call, CreateListener, CreateLoadBalancer, CreateTargetGroup, Forward, HealthCheck, Permission, Reply,
        Source, SubnetMapping,
    },
    balancers::KnownBinding,
    cluster::{Key, Uid},
};
use serde_json::json;

use crate::{
    bench::{Bench, VPC},
    life::STORY,
    stage::Stage,
};

const LOAD_BALANCER: &str = "k8s-default-echoserv-faf7007ace";
const TARGET_GROUP: &str = "k8s-default-echoserv-0fd20030a6";
const SECURITY_GROUP: &str = "k8s-default-echoserv-34b506ae70";

fn tags(resource: &str) -> std::collections::BTreeMap<String, String> {
    [
        ("elbv2.k8s.aws/cluster", "lab"),
        ("service.k8s.aws/stack", "default/echoserver"),
        ("service.k8s.aws/resource", resource),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

/// The calls that the peer makes for the story's Service, and the binding that it leaves.
pub(crate) fn as_the_peer_leaves_it(bench: &mut Bench) {
    as_the_peer_leaves_it_under(bench, TARGET_GROUP);
}

/// The same, its target group under the name that it got when the Service was another.
pub(crate) fn as_the_peer_leaves_it_under(bench: &mut Bench, target_group: &str) {
    let shared = bench.shared.clone().unwrap();
    let create = Call::CreateSecurityGroup {
        name: SECURITY_GROUP.to_owned(),
        description: "[k8s] Managed SecurityGroup for LoadBalancer".to_owned(),
        vpc_id: VPC.to_owned(),
        tags: tags("ManagedLBSecurityGroup"),
    };
    let Ok(Reply::SecurityGroupId(managed)) = bench.call(&create) else { panic!("no security group") };
    let rule = Permission {
        ip_protocol: "tcp".to_owned(),
        from_port: Some(80),
        to_port: Some(80),
        source: Source::Ipv4("0.0.0.0/0".to_owned()),
        description: Some(String::new()),
    };
    let authorize = Call::AuthorizeSecurityGroupIngress { group_id: managed.clone(), permissions: vec![rule] };
    bench.call(&authorize).unwrap();
    let group = Call::CreateTargetGroup(CreateTargetGroup {
        name: target_group.to_owned(),
        protocol: "TCP".to_owned(),
        port: 8080,
        vpc_id: VPC.to_owned(),
        target_type: "ip".to_owned(),
        ip_address_type: "ipv4".to_owned(),
        health_check: HealthCheck {
            protocol: Some("TCP".to_owned()),
            port: Some("8080".to_owned()),
            path: None,
            matcher: None,
            interval_seconds: Some(10),
            timeout_seconds: Some(10),
            healthy_threshold: Some(3),
            unhealthy_threshold: Some(3),
        },
        tags: tags("default/echoserver:80"),
    });
    let Ok(Reply::TargetGroups { target_groups, .. }) = bench.call(&group) else { panic!("no target group") };
    let group = target_groups[0].arn.clone();
    let subnets = ["subnet-0a00000000000aaa1", "subnet-0b00000000000bbb1", "subnet-0c00000000000ccc1"];
    let create = Call::CreateLoadBalancer(CreateLoadBalancer {
        name: LOAD_BALANCER.to_owned(),
        scheme: "internet-facing".to_owned(),
        ip_address_type: "ipv4".to_owned(),
        subnet_mappings: subnets
            .map(|id| SubnetMapping { subnet_id: id.to_owned(), ..SubnetMapping::default() })
            .to_vec(),
        security_groups: vec![managed, shared.clone()],
        enable_prefix_for_ipv6_source_nat: None,
        tags: tags("LoadBalancer"),
    });
    let Ok(Reply::LoadBalancers { load_balancers, .. }) = bench.call(&create) else { panic!("no load balancer") };
    let balancer = load_balancers[0].arn.clone();
    let attributes = [("load_balancing.cross_zone.enabled".to_owned(), "true".to_owned())].into();
    bench.call(&Call::ModifyLoadBalancerAttributes { load_balancer: balancer.clone(), attributes }).unwrap();
    let listener = Call::CreateListener(CreateListener {
        load_balancer: balancer,
        protocol: "TCP".to_owned(),
        port: 80,
        forward: Forward { groups: vec![(group.clone(), None)], sticky: None },
        ssl_policy: None,
        certificate: None,
        alpn_policy: None,
        tags: tags("80"),
    });
    bench.call(&listener).unwrap();
    bench.hostname = Some(load_balancers[0].dns_name.clone());
    bind(bench, target_group, &group, &shared);
}

/// The shared group with its tags, and the rule by which nodes let it in.
fn shared_as_the_peer_leaves_it(bench: &mut Bench) {
    let shared = bench.shared.clone().unwrap();
    let tags = [("elbv2.k8s.aws/cluster", "lab"), ("elbv2.k8s.aws/resource", "backend-sg")];
    let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    bench.call(&Call::CreateEc2Tags { resource: shared.clone(), tags }).unwrap();
    let rule = Permission {
        ip_protocol: "tcp".to_owned(),
        from_port: Some(8080),
        to_port: Some(8080),
        source: Source::Group(shared),
        description: Some("elbv2.k8s.aws/targetGroupBinding=shared".to_owned()),
    };
    let group_id = "sg-0d00000000000ddd1".to_owned();
    bench.call(&Call::AuthorizeSecurityGroupIngress { group_id, permissions: vec![rule] }).unwrap();
}

#[test]
fn taking_over_writes_nothing_to_aws_and_nothing_to_services_and_bindings() {
    let mut bench = Bench::new(STORY);
    as_the_peer_leaves_it(&mut bench);
    shared_as_the_peer_leaves_it(&mut bench);
    let mut stage = Stage::new();
    let mut service = bench.service.clone();
    service.metadata.finalizers = Some(vec!["service.k8s.aws/resources".to_owned()]);
    service.status =
        serde_json::from_value(json!({"loadBalancer": {"ingress": [{"hostname": bench.hostname}]}})).unwrap();
    stage.model = bench.model;
    for known in bench.bindings.values() {
        let mut binding = TargetGroupBinding::new(&known.key.name, (*known.spec).clone());
        binding.metadata.namespace = Some("default".to_owned());
        binding.metadata.uid = Some("of-the-peer".to_owned());
        binding.metadata.resource_version = Some("3".to_owned());
        binding.metadata.finalizers = Some(vec!["elbv2.k8s.aws/resources".to_owned()]);
        let labels = [("service.k8s.aws/stack-namespace", "default"), ("service.k8s.aws/stack-name", "echoserver")];
        binding.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        stage.bindings.insert(known.key.clone(), binding);
    }
    let key = stage.apply(service);
    stage.start();
    stage.run(std::time::Duration::from_mins(30));
    // The status of a binding is where its targets are told of, which the peer does not do.
    let writes: Vec<_> = stage.writes().into_iter().filter(|name| *name != "PatchBindingStatus").collect();
    assert_eq!(writes, Vec::<&str>::new());
    assert_eq!(stage.conditions(&key), Vec::<String>::new());
    assert!(stage.sent.iter().any(|(name, _)| name == "DescribeTags"), "it was looked at");
}

fn bind(bench: &mut Bench, name: &str, group: &Arn, shared: &str) {
    let spec: TargetGroupBindingSpec = serde_json::from_value(json!({
        "ipAddressType": "ipv4", "vpcID": VPC, "targetType": "ip", "targetGroupProtocol": "TCP",
        "targetGroupARN": group.as_str(),
        "serviceRef": {"name": "echoserver", "port": 80},
        "networking": {"ingress": [{
            "from": [{"securityGroup": {"groupID": shared}}], "ports": [{"protocol": "TCP", "port": 8080}],
        }]},
    }))
    .unwrap();
    let known = KnownBinding {
        key: Key::new("default", name),
        uid: Uid("of-the-peer".into()),
        deleting: false,
        spec: Arc::new(spec),
    };
    bench.bindings.insert(name.to_owned(), known);
}

#[test]
fn what_the_peer_made_is_taken_over_without_a_write() {
    let mut bench = Bench::new(STORY);
    as_the_peer_leaves_it(&mut bench);
    let _ = bench.stop();
    let plan = bench.plan();
    assert!(plan.is_empty(), "{plan:#?}");
    bench.done();
    assert_eq!(bench.writes(), Vec::<&str>::new());
    assert_eq!(bench.annotation, None);
}

#[test]
fn a_setting_taken_away_after_the_take_over_goes_back_to_its_default() {
    let mut bench = Bench::new(STORY);
    as_the_peer_leaves_it(&mut bench);
    let _ = bench.stop();
    bench.done();
    bench.unannotate("cross-zone-load-balancing-enabled");
    bench.done();
    assert_eq!(bench.writes(), ["SetManagedFields", "ModifyLoadBalancerAttributes", "SetManagedFields"]);
}

#[test]
fn the_peers_load_balancer_is_removed_by_what_is_known_of_it() {
    let mut bench = Bench::new(STORY);
    let before = bench.counts();
    as_the_peer_leaves_it(&mut bench);
    let _ = bench.stop();
    bench.intent = registrar_core::balancers::Intent::Remove;
    let rest = bench.done();
    assert!(rest.is_empty(), "{rest:?}");
    assert_eq!(bench.counts(), before);
}
