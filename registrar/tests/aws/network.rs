//! Subnets, VPCs, instances, interfaces and security groups: the client of EC2.

use registrar_core::aws::{
    Call, Filter, Instance, NetworkInterface, Permission, Reply, SecurityGroup, Source, Subnet, Vpc,
};

use crate::support::{Emulator, NODE_GROUP, PUBLIC_SUBNETS, SUBNETS, VPC, connect, done, refused, texts};

fn filter<const N: usize>(name: &str, values: [&str; N]) -> Filter {
    Filter { name: name.to_owned(), values: values.map(ToOwned::to_owned).into() }
}

#[tokio::test]
async fn subnets_are_found_by_id_and_by_all_filters_together() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let by_id = Call::DescribeSubnets { ids: vec![SUBNETS[1].to_owned()], filters: Vec::new() };
    let expected = Subnet {
        id: SUBNETS[1].to_owned(),
        vpc_id: VPC.to_owned(),
        zone: "ap-northeast-2b".to_owned(),
        zone_id: "apne2-az2".to_owned(),
        cidr: "127.10.12.0/24".to_owned(),
        ipv6_cidrs: Vec::new(),
        free_addresses: 250,
        outpost: None,
        tags: texts([
            ("Name", "lab-private-b"),
            ("kubernetes.io/role/internal-elb", "1"),
            ("kubernetes.io/cluster/lab", "shared"),
        ]),
    };
    assert_eq!(done(&aws, &by_id).await, Reply::Subnets(vec![expected]));
    let filters = vec![filter("vpc-id", [VPC]), filter("tag:kubernetes.io/role/elb", ["", "1"])];
    let Reply::Subnets(public) = done(&aws, &Call::DescribeSubnets { ids: Vec::new(), filters }).await else {
        panic!("subnets");
    };
    assert_eq!(public.iter().map(|subnet| subnet.id.as_str()).collect::<Vec<_>>(), PUBLIC_SUBNETS);
    let none = Call::DescribeSubnets { ids: Vec::new(), filters: vec![filter("vpc-id", ["vpc-other"])] };
    assert_eq!(done(&aws, &none).await, Reply::Subnets(Vec::new()));
    let missing = Call::DescribeSubnets { ids: vec!["subnet-0".to_owned()], filters: Vec::new() };
    assert_eq!(refused(&aws, &missing).await, "InvalidSubnetID.NotFound");
}

#[tokio::test]
async fn route_tables_vpcs_and_zones_are_read() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let tables = Call::DescribeRouteTables { filters: vec![filter("vpc-id", [VPC])] };
    let Reply::RouteTables(tables) = done(&aws, &tables).await else { panic!("tables") };
    let (main, others): (Vec<_>, Vec<_>) = tables.iter().partition(|table| table.main);
    let public: Vec<_> = others.iter().filter(|t| t.gateways.iter().any(|g| g.starts_with("igw-"))).collect();
    assert_eq!((main.len() + others.len(), public.len()), (2, 1), "{tables:?}");
    assert_eq!(public[0].subnets, PUBLIC_SUBNETS);
    assert!(public[0].gateways.contains(&"local".to_owned()));

    let vpc = Vpc { id: VPC.to_owned(), cidrs: vec!["127.10.0.0/16".to_owned()] };
    assert_eq!(done(&aws, &Call::DescribeVpcs { ids: vec![VPC.to_owned()] }).await, Reply::Vpcs(vec![vpc]));
    let missing = Call::DescribeVpcs { ids: vec!["vpc-0".to_owned()] };
    assert_eq!(refused(&aws, &missing).await, "InvalidVpcID.NotFound");

    let zones = Call::DescribeAvailabilityZones { zone_ids: vec!["apne2-az1".to_owned(), "apne2-az3".to_owned()] };
    let types = texts([("apne2-az1", "availability-zone"), ("apne2-az3", "availability-zone")]);
    assert_eq!(done(&aws, &zones).await, Reply::ZoneTypes(types));
}

#[tokio::test]
async fn instances_and_interfaces_are_read() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let interface = NetworkInterface {
        id: "eni-0a0000000000000a1".to_owned(),
        description: String::new(),
        addresses: vec!["127.10.11.10".to_owned()],
        security_groups: vec![NODE_GROUP.to_owned()],
    };
    let instance = Instance {
        id: "i-0a0000000000000a1".to_owned(),
        state: "running".to_owned(),
        interfaces: vec![interface.clone()],
    };
    let by_id = Call::DescribeInstances { ids: vec![instance.id.clone()] };
    assert_eq!(done(&aws, &by_id).await, Reply::Instances(vec![instance]));
    let by_address = filter("addresses.private-ip-address", ["127.10.11.10", "127.10.99.99"]);
    let by_address = Call::DescribeNetworkInterfaces { filters: vec![filter("vpc-id", [VPC]), by_address] };
    assert_eq!(done(&aws, &by_address).await, Reply::NetworkInterfaces(vec![interface]));
}

#[tokio::test]
async fn security_group_lives_from_creation_to_deletion() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    let tags = texts([("elbv2.k8s.aws/cluster", "lab"), ("elbv2.k8s.aws/resource", "backend-sg")]);
    let create = Call::CreateSecurityGroup {
        name: "k8s-traffic-lab".to_owned(),
        description: "what & <for>".to_owned(),
        vpc_id: VPC.to_owned(),
        tags: tags.clone(),
    };
    let Reply::SecurityGroupId(group_id) = done(&aws, &create).await else { panic!("an id") };
    assert_eq!(refused(&aws, &create).await, "InvalidGroup.Duplicate");

    let rule = |from: i32, source: Source, description: Option<&str>| Permission {
        ip_protocol: "tcp".to_owned(),
        from_port: Some(from),
        to_port: Some(from + 1),
        source,
        description: description.map(ToOwned::to_owned),
    };
    let all = Permission {
        ip_protocol: "-1".to_owned(),
        from_port: None,
        to_port: None,
        ..rule(0, Source::Group(NODE_GROUP.to_owned()), Some("all & any"))
    };
    let mut permissions = vec![
        all,
        rule(80, Source::Ipv4("10.0.0.0/8".to_owned()), Some("clients")),
        rule(80, Source::Ipv4("192.168.0.0/16".to_owned()), None),
        rule(80, Source::Ipv6("fd00::/8".to_owned()), None),
        rule(80, Source::PrefixList("pl-0a1b2c3d".to_owned()), Some("list")),
        rule(90, Source::Group(NODE_GROUP.to_owned()), None),
    ];
    let authorize =
        Call::AuthorizeSecurityGroupIngress { group_id: group_id.clone(), permissions: permissions.clone() };
    assert_eq!(done(&aws, &authorize).await, Reply::Done);
    assert_eq!(refused(&aws, &authorize).await, "InvalidPermission.Duplicate");
    let gone = permissions.remove(2);
    let revoke = Call::RevokeSecurityGroupIngress { group_id: group_id.clone(), permissions: vec![gone] };
    assert_eq!(done(&aws, &revoke).await, Reply::Done);
    assert_eq!(refused(&aws, &revoke).await, "InvalidPermission.NotFound");

    let tag = Call::CreateEc2Tags { resource: group_id.clone(), tags: texts([("Name", "a & b"), ("off", "1")]) };
    assert_eq!(done(&aws, &tag).await, Reply::Done);
    let untag = Call::DeleteEc2Tags { resource: group_id.clone(), keys: vec!["off".to_owned()] };
    assert_eq!(done(&aws, &untag).await, Reply::Done);

    let filters = vec![filter("tag:elbv2.k8s.aws/resource", ["backend-sg"])];
    let ways = [
        Call::DescribeSecurityGroups { ids: vec![group_id.clone()], filters: Vec::new() },
        Call::DescribeSecurityGroups { ids: Vec::new(), filters },
    ];
    for way in ways {
        let Reply::SecurityGroups(mut found) = done(&aws, &way).await else { panic!("groups") };
        found[0].permissions.sort();
        permissions.sort();
        let mut tags = tags.clone();
        tags.insert("Name".to_owned(), "a & b".to_owned());
        let expected = SecurityGroup {
            id: group_id.clone(),
            name: "k8s-traffic-lab".to_owned(),
            vpc_id: VPC.to_owned(),
            permissions: permissions.clone(),
            tags,
        };
        assert_eq!(found, [expected]);
    }
    let delete = Call::DeleteSecurityGroup { group_id };
    assert_eq!(done(&aws, &delete).await, Reply::Done);
    assert_eq!(refused(&aws, &delete).await, "InvalidGroup.NotFound");
}
