//! Load balancers and listeners.

use registrar::aws::Aws;
use registrar_core::aws::{
    Arn, Call, CreateListener, CreateLoadBalancer, Forward, Listener, ListenerQuery, LoadBalancer, LoadBalancerQuery,
    ModifyListener, Reply, SetSubnets, SubnetMapping, TargetGroupQuery, Zone,
};

use crate::support::{Emulator, NODE_GROUP, SUBNETS, VPC, connect, created_group, done, refused, texts};

fn mapping(subnet: &str) -> SubnetMapping {
    SubnetMapping { subnet_id: subnet.to_owned(), ..SubnetMapping::default() }
}

fn wanted(name: &str) -> CreateLoadBalancer {
    CreateLoadBalancer {
        name: name.to_owned(),
        scheme: "internal".to_owned(),
        ip_address_type: "ipv4".to_owned(),
        subnet_mappings: vec![
            SubnetMapping { private_ipv4_address: Some("127.10.11.200".to_owned()), ..mapping(SUBNETS[0]) },
            mapping(SUBNETS[1]),
        ],
        security_groups: vec![NODE_GROUP.to_owned()],
        enable_prefix_for_ipv6_source_nat: None,
        tags: texts([("elbv2.k8s.aws/cluster", "lab")]),
    }
}

async fn created(aws: &Aws, wanted: CreateLoadBalancer) -> LoadBalancer {
    match done(aws, &Call::CreateLoadBalancer(wanted)).await {
        Reply::LoadBalancers { mut load_balancers, next_marker: None } => load_balancers.remove(0),
        other => panic!("{other:?}"),
    }
}

async fn found(aws: &Aws, query: LoadBalancerQuery) -> Vec<LoadBalancer> {
    match done(aws, &Call::DescribeLoadBalancers(query)).await {
        Reply::LoadBalancers { load_balancers, .. } => load_balancers,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn load_balancer_is_created_found_in_every_way_and_deleted() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let created = created(&aws, wanted("web")).await;
    assert_eq!(created.state, "provisioning");
    let zone = |name: &str, mapping| Zone { name: name.to_owned(), mapping };
    let private = SubnetMapping { private_ipv4_address: Some("127.10.11.200".to_owned()), ..mapping(SUBNETS[0]) };
    let all = found(&aws, LoadBalancerQuery::All { marker: None }).await;
    let [shown] = all.as_slice() else { panic!("{all:?}") };
    let expected = LoadBalancer {
        arn: created.arn.clone(),
        name: "web".to_owned(),
        load_balancer_type: "network".to_owned(),
        dns_name: created.dns_name.clone(),
        scheme: "internal".to_owned(),
        ip_address_type: "ipv4".to_owned(),
        vpc_id: VPC.to_owned(),
        state: "active".to_owned(),
        state_reason: None,
        zones: vec![
            zone("ap-northeast-2a", private),
            zone("ap-northeast-2b", shown.zones.get(1).expect("two zones").mapping.clone()),
        ],
        security_groups: vec![NODE_GROUP.to_owned()],
        enforce_on_private_link: Some(true),
        enable_prefix_for_ipv6_source_nat: Some(false),
    };
    assert_eq!(*shown, expected);
    assert_eq!(shown.zones[1].mapping.subnet_id, SUBNETS[1]);
    assert!(shown.dns_name.ends_with(".elb.ap-northeast-2.amazonaws.com"), "{}", shown.dns_name);
    for query in [LoadBalancerQuery::Name("web".to_owned()), LoadBalancerQuery::Arn(created.arn.clone())] {
        assert_eq!(found(&aws, query).await, std::slice::from_ref(shown));
    }
    let tags = done(&aws, &Call::DescribeTags { resources: vec![created.arn.clone()] }).await;
    assert_eq!(tags, Reply::Tags([(created.arn.clone(), texts([("elbv2.k8s.aws/cluster", "lab")]))].into()));
    assert_eq!(done(&aws, &Call::DeleteLoadBalancer { load_balancer: created.arn }).await, Reply::Done);
    let query = LoadBalancerQuery::Name("web".to_owned());
    assert_eq!(refused(&aws, &Call::DescribeLoadBalancers(query)).await, "LoadBalancerNotFound");
}

#[tokio::test]
async fn settings_of_a_load_balancer_are_changed_in_place() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let load_balancer = created(&aws, wanted("web")).await.arn;
    let attributes = texts([("deletion_protection.enabled", "true")]);
    let change = Call::ModifyLoadBalancerAttributes { load_balancer: load_balancer.clone(), attributes };
    assert!(matches!(done(&aws, &change).await, Reply::Attributes(_)));
    let read = Call::DescribeLoadBalancerAttributes { load_balancer: load_balancer.clone() };
    let Reply::Attributes(attributes) = done(&aws, &read).await else { panic!("attributes") };
    assert_eq!(attributes["deletion_protection.enabled"], "true");
    assert_eq!(attributes["load_balancing.cross_zone.enabled"], "false");
    let delete = Call::DeleteLoadBalancer { load_balancer: load_balancer.clone() };
    assert_eq!(refused(&aws, &delete).await, "OperationNotPermitted");

    let mut subnet_mappings = wanted("web").subnet_mappings;
    subnet_mappings.push(mapping(SUBNETS[2]));
    let more = SetSubnets {
        load_balancer: load_balancer.clone(),
        subnet_mappings,
        ip_address_type: Some("ipv4".to_owned()),
        enable_prefix_for_ipv6_source_nat: Some(false),
    };
    assert_eq!(done(&aws, &Call::SetSubnets(more)).await, Reply::Done);
    let groups = Call::SetSecurityGroups {
        load_balancer: load_balancer.clone(),
        security_groups: vec![NODE_GROUP.to_owned()],
        enforce_on_private_link: Some(false),
    };
    assert_eq!(done(&aws, &groups).await, Reply::Done);
    let kind =
        |to: &str| Call::SetIpAddressType { load_balancer: load_balancer.clone(), ip_address_type: to.to_owned() };
    assert_eq!(done(&aws, &kind("ipv4")).await, Reply::Done);
    assert_eq!(refused(&aws, &kind("dualstack")).await, "InvalidSubnet", "the world has no IPv6");
    let now = found(&aws, LoadBalancerQuery::Arn(load_balancer)).await.remove(0);
    let subnets: Vec<_> = now.zones.iter().map(|zone| zone.mapping.subnet_id.as_str()).collect();
    assert_eq!(subnets, SUBNETS);
    assert_eq!(now.enforce_on_private_link, Some(false));
}

#[tokio::test]
async fn capacity_is_reserved_and_given_back() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let load_balancer = created(&aws, wanted("web")).await.arn;
    let reserve =
        |capacity_units| Call::ModifyCapacityReservation { load_balancer: load_balancer.clone(), capacity_units };
    let Reply::CapacityReservation(reserved) = done(&aws, &reserve(Some(6000))).await else { panic!("capacity") };
    assert_eq!(
        (reserved.capacity_units, reserved.states.as_slice()),
        (Some(6000), &["provisioned".to_owned(), "provisioned".to_owned()][..])
    );
    let read = Call::DescribeCapacityReservation { load_balancer: load_balancer.clone() };
    assert_eq!(done(&aws, &read).await, Reply::CapacityReservation(reserved));
    let Reply::CapacityReservation(none) = done(&aws, &reserve(None)).await else { panic!("capacity") };
    assert_eq!((none.capacity_units, none.states.len()), (None, 0));
}

fn listener(load_balancer: &Arn, groups: Vec<(Arn, Option<u16>)>) -> CreateListener {
    CreateListener {
        load_balancer: load_balancer.clone(),
        protocol: "TCP".to_owned(),
        port: 80,
        forward: Forward { groups, sticky: None },
        ssl_policy: None,
        certificate: None,
        alpn_policy: None,
        tags: texts([("elbv2.k8s.aws/cluster", "lab")]),
    }
}

async fn created_listener(aws: &Aws, wanted: CreateListener) -> Listener {
    match done(aws, &Call::CreateListener(wanted)).await {
        Reply::Listeners(mut listeners) => listeners.remove(0),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn listener_forwards_where_it_is_told_and_moves_when_told() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let load_balancer = created(&aws, wanted("web")).await.arn;
    let (one, two) = (created_group(&aws, "one").await, created_group(&aws, "two").await);
    let created = created_listener(&aws, listener(&load_balancer, vec![(one.clone(), None)])).await;
    assert_eq!((created.port, created.protocol.as_str()), (80, "TCP"));
    assert_eq!(created.load_balancer, load_balancer);
    let groups = |listener: &Listener| listener.forward.clone().expect("forwards").groups;
    assert_eq!(groups(&created).iter().map(|(arn, _)| arn).collect::<Vec<_>>(), [&one]);
    let sent = emulator.calls().into_iter().find(|call| call.action == "CreateListener").expect("logged").fields;
    assert_eq!(sent["DefaultActions.member.1.TargetGroupArn"], one.as_str(), "one group is named directly");
    assert!(!sent.keys().any(|name| name.contains("ForwardConfig")), "{sent:?}");

    let both = ModifyListener {
        listener: created.arn.clone(),
        protocol: None,
        port: Some(81),
        forward: Some(Forward { groups: vec![(one.clone(), Some(9)), (two.clone(), Some(1))], sticky: Some(true) }),
        ssl_policy: None,
        certificate: None,
        alpn_policy: None,
    };
    let Reply::Listeners(changed) = done(&aws, &Call::ModifyListener(both)).await else { panic!("listeners") };
    let forward = changed[0].forward.clone().expect("forwards");
    assert_eq!(forward.groups, [(one.clone(), Some(9)), (two.clone(), Some(1))]);
    assert_eq!((forward.sticky, changed[0].port), (Some(true), 81));
    for query in [ListenerQuery::LoadBalancer(load_balancer.clone()), ListenerQuery::Arn(created.arn.clone())] {
        assert_eq!(done(&aws, &Call::DescribeListeners(query)).await, Reply::Listeners(changed.clone()));
    }
    let Reply::TargetGroups { target_groups, .. } =
        done(&aws, &Call::DescribeTargetGroups(TargetGroupQuery::LoadBalancer(load_balancer.clone()))).await
    else {
        panic!("groups");
    };
    let of: Vec<_> = target_groups.iter().map(|group| (group.name.as_str(), group.load_balancers.clone())).collect();
    assert_eq!(of, [("one", vec![load_balancer.clone()]), ("two", vec![load_balancer])]);
    assert_eq!(refused(&aws, &Call::DeleteTargetGroup { group: two }).await, "ResourceInUse");

    let attributes = texts([("tcp.idle_timeout.seconds", "400")]);
    let change = Call::ModifyListenerAttributes { listener: created.arn.clone(), attributes: attributes.clone() };
    assert!(matches!(done(&aws, &change).await, Reply::Attributes(_)));
    let read = Call::DescribeListenerAttributes { listener: created.arn.clone() };
    assert_eq!(done(&aws, &read).await, Reply::Attributes(attributes));
    let delete = Call::DeleteListener { listener: created.arn };
    assert_eq!(done(&aws, &delete).await, Reply::Done);
    assert_eq!(refused(&aws, &delete).await, "ListenerNotFound");
}

#[tokio::test]
async fn tls_listener_has_its_policies_and_certificates() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let load_balancer = created(&aws, wanted("web")).await.arn;
    let group = created_group(&aws, "web").await;
    let certificate = |n: u8| format!("arn:aws:acm:ap-northeast-2:111122223333:certificate/{n}");
    let tls = CreateListener {
        protocol: "TLS".to_owned(),
        port: 443,
        ssl_policy: Some("ELBSecurityPolicy-TLS13-1-2-2021-06".to_owned()),
        certificate: Some(certificate(1)),
        alpn_policy: Some("HTTP2Preferred".to_owned()),
        ..listener(&load_balancer, vec![(group, None)])
    };
    let created = created_listener(&aws, tls.clone()).await;
    assert_eq!(
        (created.ssl_policy.clone(), created.certificate.clone(), created.alpn_policy.clone()),
        (tls.ssl_policy, tls.certificate, tls.alpn_policy)
    );
    let listener = created.arn.clone();
    let more = vec![certificate(2), certificate(3)];
    let add = Call::AddListenerCertificates { listener: listener.clone(), certificates: more };
    assert_eq!(done(&aws, &add).await, Reply::Done);
    let remove = Call::RemoveListenerCertificates { listener: listener.clone(), certificates: vec![certificate(2)] };
    assert_eq!(done(&aws, &remove).await, Reply::Done);
    let read = Call::DescribeListenerCertificates { listener: listener.clone() };
    let expected = Reply::Certificates(vec![(certificate(1), true), (certificate(3), false)]);
    assert_eq!(done(&aws, &read).await, expected);
    let change = ModifyListener {
        listener,
        protocol: None,
        port: None,
        forward: None,
        ssl_policy: Some("ELBSecurityPolicy-2016-08".to_owned()),
        certificate: Some(certificate(4)),
        alpn_policy: Some("None".to_owned()),
    };
    let Reply::Listeners(changed) = done(&aws, &Call::ModifyListener(change)).await else { panic!("listeners") };
    assert_eq!(changed[0].ssl_policy.as_deref(), Some("ELBSecurityPolicy-2016-08"));
    assert_eq!(changed[0].certificate, Some(certificate(4)));
    assert_eq!(changed[0].forward, created.forward, "what was nothing stays as it was");
}
