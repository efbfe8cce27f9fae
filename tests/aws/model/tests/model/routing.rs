//! Where connections go: weights, stickiness, changes of listeners and zones, addresses outside the VPC, instances.

use aws_model::{Answer, Command, Service, Source, settings::Profile};

use crate::support::{Lab, PODS, SUBNETS, VPC, at, path, route, seconds};

fn instant() -> Lab {
    Lab::new(Profile::Instant, &[])
}

fn forward(groups: &[(&str, u32)]) -> String {
    let tuple = |(n, (group, weight)): (usize, &(&str, u32))| {
        let tuple = format!("DefaultActions.member.1.ForwardConfig.TargetGroups.member.{}", n + 1);
        format!("&{tuple}.TargetGroupArn={group}&{tuple}.Weight={weight}")
    };
    groups.iter().enumerate().map(tuple).fold("DefaultActions.member.1.Type=forward".to_owned(), |all, one| all + &one)
}

#[test]
fn listener_that_is_moved_sends_to_the_old_group_for_the_lag() {
    let mut lab = Lab::new(Profile::Fast, &[("lag.listener-change", "75s")]);
    let nlb = lab.nlb(1);
    let (old, new) = ("192.168.11.21", "192.168.11.22");
    let second = lab.group("second");
    lab.register(&nlb.group, &[old]);
    lab.register(&second, &[new]);
    lab.pass(seconds(5));
    lab.elb("ModifyListener", &format!("ListenerArn={}&{}", nlb.listener, forward(&[(&second, 1)])));
    assert_eq!(lab.state(&nlb.group), "unused/Target.NotInUse");
    lab.pass(seconds(10));
    assert_eq!(lab.state(&second), "healthy/-");
    assert_eq!((lab.spread_to(old, 20), lab.spread_to(new, 20)), (20, 0));
    lab.pass(seconds(66));
    assert_eq!((lab.spread_to(old, 20), lab.spread_to(new, 20)), (0, 20));
}

#[test]
fn groups_get_flows_by_weight_and_a_group_of_weight_zero_gets_none() {
    let mut lab = instant();
    let nlb = lab.nlb(1);
    let groups: Vec<String> = (0..2).map(|n| lab.group(&format!("w{n}"))).collect();
    lab.register(&nlb.group, &["192.168.11.20"]);
    lab.register(&groups[0], &["192.168.11.21"]);
    lab.register(&groups[1], &["192.168.11.22"]);
    let weights = [(nlb.group.as_str(), 0), (groups[0].as_str(), 1), (groups[1].as_str(), 3)];
    lab.elb("ModifyListener", &format!("ListenerArn={}&{}", nlb.listener, forward(&weights)));
    lab.pass(seconds(1));
    assert_eq!(lab.spread_to("192.168.11.20", 400), 0);
    // Four standard deviations of a binomial distribution with n = 4000 and p = 3/4 are 110.
    let heavy = lab.spread_to("192.168.11.22", 4000);
    assert!(heavy.abs_diff(3000) < 110, "{heavy}");
}

#[test]
fn sticky_source_meets_one_target_and_sources_spread() {
    let mut lab = instant();
    let nlb = lab.nlb(1);
    let pods: Vec<String> = (1..=4).map(|n| format!("192.168.11.{n}")).collect();
    lab.register(&nlb.group, &pods.iter().map(String::as_str).collect::<Vec<_>>());
    lab.attribute(&nlb.group, "stickiness.enabled", "true");
    lab.pass(seconds(1));
    let front = lab.front(0);
    let mut all = std::collections::BTreeSet::new();
    for client in 1..=40 {
        let met: std::collections::BTreeSet<_> = (0..10)
            .map(|port| {
                route(lab.model.connect(front, at(&format!("203.0.113.{client}"), 1000 + port), lab.now)).target
            })
            .collect();
        assert_eq!(met.len(), 1);
        all.extend(met);
    }
    assert_eq!(all.len(), 4);
}

#[test]
fn zone_that_is_removed_closes_its_sockets_and_leaves_its_targets_unused() {
    let mut lab = instant();
    let nlb = lab.nlb(2);
    lab.register(&nlb.group, &PODS[..2]);
    lab.pass(seconds(1));
    let front = lab.front(1);
    route(lab.connect(front, "203.0.113.1"));
    lab.elb("SetSubnets", &format!("LoadBalancerArn={}&Subnets.member.1={}", nlb.balancer, SUBNETS[0]));
    assert_eq!((lab.open.len(), lab.resets.len()), (1, 1));
    assert_eq!(lab.health(&nlb.group)[1], "192.168.12.21:8080 unused/Target.NotInUse");
    lab.elb(
        "SetSubnets",
        &format!("LoadBalancerArn={}&Subnets.member.1={}&Subnets.member.2={}", nlb.balancer, SUBNETS[0], SUBNETS[1]),
    );
    lab.pass(seconds(1));
    assert_eq!(lab.health(&nlb.group)[1], "192.168.12.21:8080 healthy/-");
    assert_eq!(lab.open.len(), 2);
}

#[test]
fn address_outside_the_vpc_is_a_target_of_all_zones() {
    let mut lab = instant();
    let nlb = lab.nlb(2);
    let target = "Targets.member.1.Id=10.1.1.1&Targets.member.1.AvailabilityZone=all";
    lab.elb("RegisterTargets", &format!("TargetGroupArn={}&{target}", nlb.group));
    lab.pass(seconds(1));
    for zone in 0..2 {
        let front = lab.front(zone);
        assert_eq!(route(lab.connect(front, "203.0.113.1")).target, at("10.1.1.1", 8080));
    }
}

#[test]
fn instance_is_reached_at_its_address_and_is_unused_while_it_is_stopped() {
    let mut lab = instant();
    let nlb = lab.nlb(1);
    let fields = format!("Name=nodes&Protocol=TCP&Port=30080&VpcId={VPC}");
    let group = path(&lab.elb("CreateTargetGroup", &fields), &["TargetGroups", "0", "TargetGroupArn"]);
    lab.elb("ModifyListener", &format!("ListenerArn={}&{}", nlb.listener, forward(&[(&group, 1)])));
    lab.register(&group, &["i-0a0000000000000a1"]);
    lab.pass(seconds(1));
    let front = lab.front(0);
    let way = route(lab.connect(front, "203.0.113.1"));
    assert_eq!(way.target, at("192.168.11.10", 30080));
    assert_eq!(way.source, Source::Client(at("203.0.113.1", 40000)), "instance groups preserve the client's address");
    lab.model.set_stopped("i-0a0000000000000a1", true, lab.now).expect("an instance");
    assert_eq!(lab.state(&group), "unused/Target.InvalidState");
    assert_eq!(lab.connect(front, "203.0.113.1"), Answer::Refuse);
    let (code, _) =
        lab.refused(Service::Elb, "RegisterTargets", &format!("TargetGroupArn={group}&Targets.member.1.Id=i-0"));
    assert_eq!(code, "InvalidTarget");
}

#[test]
fn security_groups_stop_clients_only_when_switched_on() {
    let mut lab = instant();
    let id = path(&lab.ec2("CreateSecurityGroup", "GroupName=front&GroupDescription=x"), &["groupId"]);
    let fields = format!("Name=web&Type=network&Subnets.member.1={}&SecurityGroups.member.1={id}", SUBNETS[0]);
    let balancer = path(&lab.elb("CreateLoadBalancer", &fields), &["LoadBalancers", "0", "LoadBalancerArn"]);
    let group = lab.group("web");
    lab.listener(&balancer, 80, &group);
    lab.register(&group, &PODS[..1]);
    lab.pass(seconds(1));
    let front = lab.front(0);
    route(lab.connect(front, "203.0.113.1"));
    lab.model.set("flow.enforce-security-groups", "true", lab.now).expect("a setting");
    assert_eq!(lab.connect(front, "203.0.113.1"), Answer::Silent);
    let rule = "IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=80&IpPermissions.1.ToPort=80\
                &IpPermissions.1.IpRanges.1.CidrIp=203.0.113.0/24";
    lab.ec2("AuthorizeSecurityGroupIngress", &format!("GroupId={id}&{rule}"));
    route(lab.connect(front, "203.0.113.1"));
    assert_eq!(lab.connect(front, "198.51.100.1"), Answer::Silent);
}

#[test]
fn fewer_good_targets_than_asked_for_fail_open_to_registered_ones() {
    let mut lab = instant();
    let nlb = lab.nlb(1);
    let key = "target_group_health.unhealthy_state_routing.minimum_healthy_targets";
    lab.down.insert(at("192.168.11.22", 8080));
    lab.register(&nlb.group, &["192.168.11.21", "192.168.11.22", "192.168.11.23", "192.168.11.24"]);
    lab.pass(seconds(60));
    assert_eq!(lab.spread_to("192.168.11.22", 100), 0);
    lab.attribute(&nlb.group, &format!("{key}.percentage"), "75");
    assert_eq!(lab.spread_to("192.168.11.22", 100), 0, "three of four are 75 percent");
    lab.attribute(&nlb.group, &format!("{key}.count"), "4");
    assert!(lab.spread_to("192.168.11.22", 100) > 0);
}

#[test]
fn every_connection_is_chosen_for_anew_even_from_one_port() {
    let mut lab = instant();
    let nlb = lab.nlb(1);
    lab.register(&nlb.group, &["192.168.11.21", "192.168.11.22"]);
    lab.pass(seconds(1));
    let front = lab.front(0);
    let met: std::collections::BTreeSet<_> = (0..40).map(|_| route(lab.connect(front, "203.0.113.1")).target).collect();
    assert_eq!(met.len(), 2, "the sequence number of a connection is part of its hash");
}

#[test]
fn target_in_its_first_checks_gets_flows_only_where_that_is_switched_on() {
    for (switch, takes) in [("false", false), ("true", true)] {
        let mut lab = Lab::new(Profile::Instant, &[("health.traffic-to-initial", switch)]);
        let nlb = lab.nlb(1);
        lab.down.insert(at("192.168.11.22", 8080));
        lab.register(&nlb.group, &["192.168.11.21", "192.168.11.22"]);
        lab.pass(seconds(1));
        assert_eq!(lab.health(&nlb.group)[1], "192.168.11.22:8080 initial/Elb.InitialHealthChecking");
        assert_eq!(lab.spread_to("192.168.11.22", 40) > 0, takes, "switch {switch}");
    }
}

#[test]
fn flow_is_cut_once_whatever_else_would_cut_it() {
    let mut lab = instant();
    let nlb = lab.nlb(1);
    lab.register(&nlb.group, &PODS[..1]);
    lab.pass(seconds(1));
    let front = lab.front(0);
    let flow = route(lab.connect(front, "203.0.113.1")).flow;
    for (action, field, arn) in
        [("DeleteLoadBalancer", "LoadBalancerArn", &nlb.balancer), ("DeleteTargetGroup", "TargetGroupArn", &nlb.group)]
    {
        let request = lab.request(Service::Elb, action, &format!("{field}={arn}"));
        lab.model.handle(&request, lab.now);
    }
    let resets = lab.model.tick(lab.now).into_iter().filter(|c| *c == Command::Reset { flow }).count();
    assert_eq!(resets, 1);
}
