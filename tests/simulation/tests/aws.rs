//! The AWS port over the emulator's model: every operation reaches it and is read back.

#![allow(clippy::expect_used, clippy::panic, clippy::doc_markdown, reason = "a test may fail, and speaks of AWS")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use aws_model::{
    Model, Settings,
    faults::{Order, OrderedEffect},
    settings::Profile,
};
use registrar_core::aws::{
    Arn, Call, CreateListener, CreateLoadBalancer, CreateTargetGroup, Fault, Filter, Forward, HealthCheck, HealthState,
    ListenerQuery, LoadBalancerQuery, ModifyListener, Permission, Reply, SetSubnets, Source, SubnetMapping, Target,
    TargetGroupQuery,
};
use simulation::aws;
use world::World;

const VPC: &str = "vpc-0a1b2c3d4e5f60718";
const SUBNETS: [&str; 2] = ["subnet-0a00000000000aaa2", "subnet-0b00000000000bbb2"];

/// A client that remembers what it has called.
struct Client {
    model: Model,
    called: BTreeSet<&'static str>,
}

impl Client {
    fn new() -> Self {
        let world = World::parse(world::DEFAULT).expect("the shipped world");
        Self { model: Model::new(&world, Settings::profile(Profile::Instant), 1), called: BTreeSet::new() }
    }

    fn try_call(&mut self, call: &Call) -> Result<Reply, Fault> {
        self.called.insert(call.operation());
        let answered = aws::call(&mut self.model, call, Duration::ZERO);
        self.model.tick(Duration::ZERO);
        answered.outcome
    }

    fn call(&mut self, call: &Call) -> Reply {
        self.try_call(call).unwrap_or_else(|fault| panic!("{call:?}: {fault}"))
    }

    fn done(&mut self, call: &Call) {
        assert_eq!(self.call(call), Reply::Done, "{call:?}");
    }

    fn group(&mut self, name: &str) -> Arn {
        let Reply::TargetGroups { target_groups, next_marker: None } = self.call(&create_group(name)) else {
            panic!("no target group")
        };
        target_groups[0].arn.clone()
    }
}

fn tags(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn mappings(subnets: &[&str]) -> Vec<SubnetMapping> {
    subnets.iter().map(|id| SubnetMapping { subnet_id: (*id).to_owned(), ..SubnetMapping::default() }).collect()
}

fn target(id: &str) -> Target {
    Target { id: id.to_owned(), port: 8080, availability_zone: None, quic_server_id: None }
}

fn check() -> HealthCheck {
    HealthCheck {
        protocol: Some("HTTP".to_owned()),
        port: Some("traffic-port".to_owned()),
        path: Some("/ready".to_owned()),
        matcher: Some("200-299".to_owned()),
        interval_seconds: Some(10),
        timeout_seconds: Some(5),
        healthy_threshold: Some(3),
        unhealthy_threshold: Some(2),
    }
}

fn create_group(name: &str) -> Call {
    Call::CreateTargetGroup(CreateTargetGroup {
        name: name.to_owned(),
        protocol: "TCP".to_owned(),
        port: 8080,
        vpc_id: VPC.to_owned(),
        target_type: "ip".to_owned(),
        ip_address_type: "ipv4".to_owned(),
        health_check: check(),
        tags: tags(&[("owner", "us")]),
    })
}

fn rule(source: Source) -> Permission {
    let description = Some("clients".to_owned());
    Permission { ip_protocol: "tcp".to_owned(), from_port: Some(80), to_port: Some(81), source, description }
}

#[test]
fn every_operation_reaches_the_model_and_is_read_back() {
    let mut client = Client::new();
    let group_id = security_groups(&mut client);
    let load_balancer = load_balancer(&mut client, &group_id);
    let group = client.group("web");
    target_group(&mut client, &group);
    let listener = listeners(&mut client, &load_balancer, &group);
    targets(&mut client, &group);
    elb_tags(&mut client, &group);
    network(&mut client);
    client.done(&Call::DeleteListener { listener });
    client.done(&Call::DeleteLoadBalancer { load_balancer });
    client.done(&Call::DeleteTargetGroup { group });
    client.done(&Call::DeleteSecurityGroup { group_id });

    let catalogue: BTreeSet<_> = aws_model::operations::catalogue().into_iter().map(|o| o.name).collect();
    assert!(client.called.is_subset(&catalogue));
    assert_eq!(client.called.len(), 44, "{:?}", client.called);
}

fn security_groups(client: &mut Client) -> String {
    let create = Call::CreateSecurityGroup {
        name: "front".to_owned(),
        description: "of a load balancer".to_owned(),
        vpc_id: VPC.to_owned(),
        tags: tags(&[("owner", "us")]),
    };
    let Reply::SecurityGroupId(id) = client.call(&create) else { panic!("no id") };
    let kept = rule(Source::Ipv4("10.0.0.0/8".to_owned()));
    let dropped = rule(Source::Group("sg-0d00000000000ddd1".to_owned()));
    let sources = [Source::Ipv6("2001:db8::/32".to_owned()), Source::PrefixList("pl-1".to_owned())];
    let mut permissions = vec![kept.clone(), dropped.clone()];
    permissions.extend(sources.map(rule));
    client.done(&Call::AuthorizeSecurityGroupIngress { group_id: id.clone(), permissions: permissions.clone() });
    client.done(&Call::RevokeSecurityGroupIngress { group_id: id.clone(), permissions: vec![dropped.clone()] });
    client.done(&Call::CreateEc2Tags { resource: id.clone(), tags: tags(&[("team", "a"), ("gone", "soon")]) });
    client.done(&Call::DeleteEc2Tags { resource: id.clone(), keys: vec!["gone".to_owned()] });
    let filters = vec![Filter { name: "tag:team".to_owned(), values: vec!["x".to_owned(), "a".to_owned()] }];
    for (ids, filters) in [(vec![id.clone()], vec![]), (vec![], filters)] {
        let described = client.call(&Call::DescribeSecurityGroups { ids, filters });
        let Reply::SecurityGroups(groups) = described else { panic!("no groups") };
        assert_eq!(groups.len(), 1);
        permissions.retain(|p| *p != dropped);
        permissions.sort();
        let mut shown = groups[0].permissions.clone();
        shown.sort();
        assert_eq!(shown, permissions);
        assert_eq!(groups[0].tags, tags(&[("owner", "us"), ("team", "a")]));
        assert_eq!((groups[0].name.as_str(), groups[0].vpc_id.as_str()), ("front", VPC));
    }
    id
}

fn load_balancer(client: &mut Client, group: &str) -> Arn {
    let create = Call::CreateLoadBalancer(CreateLoadBalancer {
        name: "web".to_owned(),
        scheme: "internal".to_owned(),
        ip_address_type: "ipv4".to_owned(),
        subnet_mappings: vec![SubnetMapping {
            subnet_id: SUBNETS[0].to_owned(),
            private_ipv4_address: Some("192.168.11.200".to_owned()),
            ..SubnetMapping::default()
        }],
        security_groups: vec![group.to_owned()],
        enable_prefix_for_ipv6_source_nat: Some(false),
        tags: tags(&[("owner", "us")]),
    });
    let Reply::LoadBalancers { load_balancers, .. } = client.call(&create) else { panic!("no load balancer") };
    let arn = load_balancers[0].arn.clone();
    client.done(&Call::SetSubnets(SetSubnets {
        load_balancer: arn.clone(),
        subnet_mappings: vec![
            SubnetMapping {
                private_ipv4_address: Some("192.168.11.200".to_owned()),
                ..mappings(&SUBNETS[..1]).remove(0)
            },
            mappings(&SUBNETS[1..]).remove(0),
        ],
        ip_address_type: None,
        enable_prefix_for_ipv6_source_nat: None,
    }));
    client.done(&Call::SetSecurityGroups {
        load_balancer: arn.clone(),
        security_groups: vec![group.to_owned(), "sg-0d00000000000ddd1".to_owned()],
        enforce_on_private_link: Some(false),
    });
    client.done(&Call::SetIpAddressType { load_balancer: arn.clone(), ip_address_type: "ipv4".to_owned() });
    let queries = [
        LoadBalancerQuery::Name("web".to_owned()),
        LoadBalancerQuery::Arn(arn.clone()),
        LoadBalancerQuery::All { marker: None },
    ];
    for query in queries {
        let Reply::LoadBalancers { load_balancers, next_marker: None } =
            client.call(&Call::DescribeLoadBalancers(query))
        else {
            panic!("no load balancer")
        };
        let found = &load_balancers[0];
        assert_eq!((found.name.as_str(), found.state.as_str()), ("web", "active"));
        assert_eq!((found.scheme.as_str(), found.load_balancer_type.as_str()), ("internal", "network"));
        assert_eq!(found.security_groups, [group, "sg-0d00000000000ddd1"]);
        assert_eq!(found.enforce_on_private_link, Some(false));
        assert_eq!(found.enable_prefix_for_ipv6_source_nat, Some(false));
        let subnets: Vec<_> = found.zones.iter().map(|z| z.mapping.subnet_id.as_str()).collect();
        assert_eq!(subnets, SUBNETS);
        assert_eq!(found.zones[0].mapping.private_ipv4_address.as_deref(), Some("192.168.11.200"));
    }
    let key = "load_balancing.cross_zone.enabled";
    let attributes = tags(&[(key, "true")]);
    client.call(&Call::ModifyLoadBalancerAttributes { load_balancer: arn.clone(), attributes });
    let described = client.call(&Call::DescribeLoadBalancerAttributes { load_balancer: arn.clone() });
    assert!(matches!(described, Reply::Attributes(all) if all[key] == "true" && all.len() > 3));
    for units in [Some(5500), None] {
        let modify = Call::ModifyCapacityReservation { load_balancer: arn.clone(), capacity_units: units };
        let described = Call::DescribeCapacityReservation { load_balancer: arn.clone() };
        for call in [modify, described] {
            let Reply::CapacityReservation(capacity) = client.call(&call) else { panic!("no capacity") };
            assert_eq!(capacity.capacity_units, units);
            assert_eq!(capacity.states.len(), if units.is_some() { 2 } else { 0 });
        }
    }
    arn
}

fn target_group(client: &mut Client, group: &Arn) {
    let changed = HealthCheck { interval_seconds: Some(30), ..HealthCheck::default() };
    client.call(&Call::ModifyTargetGroup { group: group.clone(), health_check: changed });
    let queries = [
        TargetGroupQuery::Name("web".to_owned()),
        TargetGroupQuery::Arns(vec![group.clone()]),
        TargetGroupQuery::All { marker: None },
    ];
    for query in queries {
        let Reply::TargetGroups { target_groups, next_marker: None } = client.call(&Call::DescribeTargetGroups(query))
        else {
            panic!("no target group")
        };
        let found = &target_groups[0];
        assert_eq!(found.health_check, HealthCheck { interval_seconds: Some(30), ..check() });
        assert_eq!((found.name.as_str(), found.protocol.as_str(), found.port), ("web", "TCP", Some(8080)));
        assert_eq!(
            (found.target_type.as_str(), found.ip_address_type.as_deref(), found.vpc_id.as_deref()),
            ("ip", Some("ipv4"), Some(VPC))
        );
        assert!(found.load_balancers.is_empty());
    }
    let key = "deregistration_delay.timeout_seconds";
    client.call(&Call::ModifyTargetGroupAttributes { group: group.clone(), attributes: tags(&[(key, "17")]) });
    let described = client.call(&Call::DescribeTargetGroupAttributes { group: group.clone() });
    assert!(matches!(described, Reply::Attributes(all) if all[key] == "17"));
}

fn listeners(client: &mut Client, load_balancer: &Arn, group: &Arn) -> Arn {
    let [first, second] = ["a", "b"].map(|name| format!("arn:aws:acm:ap-northeast-2:111122223333:certificate/{name}"));
    let create = Call::CreateListener(CreateListener {
        load_balancer: load_balancer.clone(),
        protocol: "TLS".to_owned(),
        port: 443,
        forward: Forward { groups: vec![(group.clone(), None)], sticky: None },
        ssl_policy: Some("ELBSecurityPolicy-TLS13-1-2-2021-06".to_owned()),
        certificate: Some(first.clone()),
        alpn_policy: Some("HTTP2Preferred".to_owned()),
        tags: tags(&[("owner", "us")]),
    });
    let Reply::Listeners(made) = client.call(&create) else { panic!("no listener") };
    let listener = made[0].arn.clone();
    client.call(&Call::ModifyListener(ModifyListener {
        listener: listener.clone(),
        protocol: None,
        port: Some(8443),
        forward: Some(Forward { groups: vec![(group.clone(), Some(7))], sticky: Some(true) }),
        ssl_policy: None,
        certificate: None,
        alpn_policy: None,
    }));
    for query in [ListenerQuery::LoadBalancer(load_balancer.clone()), ListenerQuery::Arn(listener.clone())] {
        let Reply::Listeners(found) = client.call(&Call::DescribeListeners(query)) else { panic!("no listener") };
        assert_eq!((found[0].port, found[0].protocol.as_str()), (8443, "TLS"));
        assert_eq!(found[0].load_balancer, *load_balancer);
        assert_eq!(found[0].certificate.as_ref(), Some(&first));
        assert_eq!(found[0].alpn_policy.as_deref(), Some("HTTP2Preferred"));
        assert_eq!(found[0].ssl_policy.as_deref(), Some("ELBSecurityPolicy-TLS13-1-2-2021-06"));
        assert_eq!(found[0].forward, Some(Forward { groups: vec![(group.clone(), Some(7))], sticky: Some(true) }));
    }
    let certificates = vec![second.clone()];
    client.done(&Call::AddListenerCertificates { listener: listener.clone(), certificates: certificates.clone() });
    let described = client.call(&Call::DescribeListenerCertificates { listener: listener.clone() });
    assert_eq!(described, Reply::Certificates(vec![(first.clone(), true), (second, false)]));
    client.done(&Call::RemoveListenerCertificates { listener: listener.clone(), certificates });
    let described = client.call(&Call::DescribeListenerCertificates { listener: listener.clone() });
    assert_eq!(described, Reply::Certificates(vec![(first, true)]));

    let tcp = Call::CreateListener(CreateListener {
        load_balancer: load_balancer.clone(),
        protocol: "TCP".to_owned(),
        port: 80,
        forward: Forward { groups: vec![(group.clone(), None)], sticky: None },
        ssl_policy: None,
        certificate: None,
        alpn_policy: None,
        tags: BTreeMap::new(),
    });
    let Reply::Listeners(made) = client.call(&tcp) else { panic!("no listener") };
    let (tcp, key) = (made[0].arn.clone(), "tcp.idle_timeout.seconds");
    client.call(&Call::ModifyListenerAttributes { listener: tcp.clone(), attributes: tags(&[(key, "60")]) });
    let described = client.call(&Call::DescribeListenerAttributes { listener: tcp.clone() });
    assert!(matches!(described, Reply::Attributes(all) if all[key] == "60"));
    tcp
}

fn targets(client: &mut Client, group: &Arn) {
    let targets = vec![target("192.168.11.21"), target("192.168.12.21")];
    client.done(&Call::RegisterTargets { group: group.clone(), targets });
    client.done(&Call::DeregisterTargets { group: group.clone(), targets: vec![target("192.168.12.21")] });
    let described = client.call(&Call::DescribeTargetHealth { group: group.clone() });
    let Reply::TargetHealth(health) = described else { panic!("no health") };
    let states: Vec<_> = health.iter().map(|h| (h.target.id.as_str(), h.target.port, &h.state)).collect();
    assert_eq!(
        states,
        [("192.168.11.21", 8080, &HealthState::Initial), ("192.168.12.21", 8080, &HealthState::Draining)]
    );
    assert_eq!(health[0].target.availability_zone.as_deref(), Some("ap-northeast-2a"));
    assert_eq!(health[1].reason.as_deref(), Some("Target.DeregistrationInProgress"));
}

fn elb_tags(client: &mut Client, group: &Arn) {
    client.done(&Call::AddTags { resource: group.clone(), tags: tags(&[("team", "a"), ("gone", "soon")]) });
    client.done(&Call::RemoveTags { resource: group.clone(), keys: vec!["gone".to_owned()] });
    let described = client.call(&Call::DescribeTags { resources: vec![group.clone()] });
    assert_eq!(described, Reply::Tags(BTreeMap::from([(group.clone(), tags(&[("owner", "us"), ("team", "a")]))])));
}

fn network(client: &mut Client) {
    let of_vpc = vec![Filter { name: "vpc-id".to_owned(), values: vec![VPC.to_owned()] }];
    let Reply::Subnets(all) = client.call(&Call::DescribeSubnets { ids: vec![], filters: of_vpc.clone() }) else {
        panic!("no subnets")
    };
    assert_eq!(all.len(), 6);
    let ids = vec![SUBNETS[0].to_owned()];
    let Reply::Subnets(one) = client.call(&Call::DescribeSubnets { ids, filters: vec![] }) else {
        panic!("no subnets")
    };
    assert_eq!((one[0].zone.as_str(), one[0].zone_id.as_str()), ("ap-northeast-2a", "apne2-az1"));
    assert_eq!((one[0].cidr.as_str(), one[0].vpc_id.as_str()), ("192.168.11.0/24", VPC));
    assert!(one[0].free_addresses > 200 && one[0].tags.contains_key("kubernetes.io/role/internal-elb"));

    let Reply::RouteTables(tables) = client.call(&Call::DescribeRouteTables { filters: of_vpc }) else {
        panic!("no tables")
    };
    let public = tables.iter().find(|t| t.gateways.iter().any(|g| g.starts_with("igw-"))).expect("a public table");
    assert_eq!(public.subnets.len(), 3);

    let vpcs = client.call(&Call::DescribeVpcs { ids: vec![VPC.to_owned()] });
    assert!(matches!(vpcs, Reply::Vpcs(vpcs) if vpcs[0].cidrs == ["192.168.0.0/16", "2001:db8:0:1a00::/56"]));
    let zones = client.call(&Call::DescribeAvailabilityZones { zone_ids: vec!["apne2-az1".to_owned()] });
    let expected = BTreeMap::from([("apne2-az1".to_owned(), "availability-zone".to_owned())]);
    assert_eq!(zones, Reply::ZoneTypes(expected));

    let described = client.call(&Call::DescribeInstances { ids: vec!["i-0a0000000000000a1".to_owned()] });
    let Reply::Instances(instances) = described else { panic!("no instances") };
    assert_eq!((instances[0].id.as_str(), instances[0].state.as_str()), ("i-0a0000000000000a1", "running"));
    let filters = vec![Filter { name: "private-ip-address".to_owned(), values: vec!["192.168.11.10".to_owned()] }];
    let described = client.call(&Call::DescribeNetworkInterfaces { filters });
    let Reply::NetworkInterfaces(interfaces) = described else { panic!("no interfaces") };
    assert_eq!(interfaces[0], instances[0].interfaces[0].clone());
    assert_eq!(interfaces[0].addresses, ["192.168.11.10"]);
    assert_eq!(interfaces[0].security_groups, ["sg-0d00000000000ddd1"]);
}

#[test]
fn listings_are_followed_to_their_end_and_marked_ones_are_not() {
    let mut client = Client::new();
    for n in 0..401 {
        client.group(&format!("g-{n}"));
    }
    let first = Call::DescribeTargetGroups(TargetGroupQuery::All { marker: None });
    let Reply::TargetGroups { target_groups, next_marker } = client.call(&first) else { panic!("no page") };
    assert_eq!(target_groups.len(), 400);
    let second = Call::DescribeTargetGroups(TargetGroupQuery::All { marker: next_marker });
    let Reply::TargetGroups { target_groups, next_marker: None } = client.call(&second) else { panic!("no page") };
    assert_eq!(target_groups.len(), 1);

    let arns: Vec<Arn> = (0..401).map(|n| client.group(&format!("g-{n}"))).collect();
    let by_arn = Call::DescribeTargetGroups(TargetGroupQuery::Arns(arns));
    let Reply::TargetGroups { target_groups, next_marker: None } = client.call(&by_arn) else { panic!("no pages") };
    assert_eq!(target_groups.len(), 401);
}

#[test]
fn each_way_to_fail_says_whether_the_call_may_have_been_done() {
    let mut client = Client::new();
    let group = client.group("web");
    let describe = Call::DescribeTargetHealth { group: group.clone() };
    let cases = [
        (OrderedEffect::Lose, "unknown"),
        (OrderedEffect::FailAfter, "unknown"),
        (OrderedEffect::FailBefore, "unknown"),
        (OrderedEffect::Unavailable, "unknown"),
        (OrderedEffect::Refuse { code: "Throttling".to_owned() }, "throttled"),
        (OrderedEffect::Refuse { code: "RequestLimitExceeded".to_owned() }, "throttled"),
        (OrderedEffect::Refuse { code: "AccessDenied".to_owned() }, "refused"),
    ];
    for (effect, expected) in cases {
        let order = Order { action: None, times: 1, effect: effect.clone() };
        client.model.order(order, Duration::ZERO).expect("an order");
        let kind = match client.try_call(&describe).expect_err("the call fails") {
            Fault::Unknown(_) => "unknown",
            Fault::Throttled { .. } => "throttled",
            Fault::Refused(_) => "refused",
            Fault::NotSent(_) => "not sent",
        };
        assert_eq!(kind, expected, "{effect:?}");
    }
    let missing = Call::DescribeTargetHealth { group: Arn::new(&group.as_str().replace("/web/", "/gone/")) };
    let fault = client.try_call(&missing).expect_err("there is no such group");
    assert!(fault.is("TargetGroupNotFound"), "{fault}");
}
