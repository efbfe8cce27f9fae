//! Operations: what each refuses, with AWS's codes and messages.

use aws_model::{Body, Service, settings::Profile};

use crate::support::{Lab, PODS, SUBNETS, VPC, path, seconds, targets};

fn lab() -> Lab {
    Lab::new(Profile::Instant, &[])
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_mistake_has_its_code_and_message() {
    let mut lab = lab();
    let nlb = lab.nlb(1);
    let other = lab.elb("CreateLoadBalancer", &format!("Name=two&Type=network&Subnets.member.1={}", SUBNETS[1]));
    let other = path(&other, &["LoadBalancers", "0", "LoadBalancerArn"]);
    let udp = lab.elb("CreateTargetGroup", &format!("Name=udp&Protocol=UDP&Port=53&VpcId={VPC}&TargetType=ip"));
    let udp = path(&udp, &["TargetGroups", "0", "TargetGroupArn"]);
    let (balancer, group, listener) = (&nlb.balancer, &nlb.group, &nlb.listener);
    let subnet = format!("Type=network&Subnets.member.1={}", SUBNETS[0]);
    let create = |rest: &str| format!("LoadBalancerArn={balancer}&Protocol=TCP&{rest}");
    let to =
        |group: &str| format!("DefaultActions.member.1.Type=forward&DefaultActions.member.1.TargetGroupArn={group}");
    let gone = |arn: &str| format!("{}0000000000000000", &arn[..arn.len() - 16]);
    let tag_keys = (1..=51).fold(String::new(), |keys, n| format!("{keys}&Tags.member.{n}.Key=k{n}"));
    let cases: Vec<(&str, String, &str, &str)> = vec![
        ("CreateLoadBalancer", format!("Name={}&{subnet}", "x".repeat(33)), "ValidationError", "longer than '32'"),
        ("CreateLoadBalancer", format!("Name=-x&{subnet}"), "ValidationError", "hyphen"),
        ("CreateLoadBalancer", format!("Name=internal-x&{subnet}"), "ValidationError", "internal-"),
        ("CreateLoadBalancer", format!("Name=a_b&{subnet}"), "ValidationError", "alphanumeric"),
        (
            "CreateLoadBalancer",
            format!("Name=web&{subnet}"),
            "DuplicateLoadBalancerName",
            "'web' exists, but with different",
        ),
        ("CreateLoadBalancer", "Name=x&Type=network".into(), "ValidationError", "At least one subnet"),
        ("CreateLoadBalancer", "Name=x&Type=network&Subnets.member.1=subnet-0".into(), "SubnetNotFound", "'subnet-0'"),
        (
            "CreateLoadBalancer",
            format!("Name=x&{subnet}&Subnets.member.2=subnet-0a00000000000aaa1"),
            "InvalidConfigurationRequest",
            "same Availability Zone",
        ),
        ("CreateLoadBalancer", format!("Name=x&{subnet}&SecurityGroups.member.1=sg-0"), "InvalidSecurityGroup", "sg-0"),
        (
            "CreateLoadBalancer",
            format!("Name=x&Subnets.member.1={}", SUBNETS[0]),
            "InvalidConfigurationRequest",
            "Type=network",
        ),
        ("CreateLoadBalancer", format!("Name=x&{subnet}{tag_keys}"), "TooManyTags", "'50'"),
        (
            "CreateLoadBalancer",
            format!("Name=x&{subnet}&Tags.member.1.Key=a&Tags.member.2.Key=a"),
            "DuplicateTagKeys",
            "'a'",
        ),
        (
            "CreateLoadBalancer",
            format!(
                "Name=x&Type=network&SubnetMappings.member.1.SubnetId={}&SubnetMappings.member.1.AllocationId=eipalloc-0",
                SUBNETS[0]
            ),
            "AllocationIdNotFound",
            "eipalloc-0",
        ),
        ("DescribeLoadBalancers", "Names.member.1=web&Names.member.2=gone".into(), "LoadBalancerNotFound", "'[gone]'"),
        (
            "DescribeLoadBalancers",
            format!("LoadBalancerArns.member.1={}", gone(balancer)),
            "LoadBalancerNotFound",
            "not found",
        ),
        (
            "DescribeLoadBalancers",
            "LoadBalancerArns.member.1=web".into(),
            "ValidationError",
            "'web' is not a valid load balancer ARN",
        ),
        ("DescribeLoadBalancers", "PageSize=401".into(), "ValidationError", "less than or equal to 400"),
        ("DescribeLoadBalancers", "Marker=nonsense".into(), "ValidationError", "nonsense"),
        (
            "SetSubnets",
            format!("LoadBalancerArn={balancer}&Subnets.member.1=subnet-0a00000000000aaa1"),
            "InvalidConfigurationRequest",
            "additional subnet",
        ),
        (
            "SetSecurityGroups",
            format!("LoadBalancerArn={balancer}&SecurityGroups.member.1=sg-0d00000000000ddd1"),
            "InvalidConfigurationRequest",
            "without security groups",
        ),
        (
            "CreateTargetGroup",
            format!("Name=web&Protocol=TCP&Port=81&VpcId={VPC}&TargetType=ip"),
            "DuplicateTargetGroupName",
            "'web' exists",
        ),
        (
            "CreateTargetGroup",
            format!("Name=x&Protocol=TCP&Port=80&VpcId={VPC}&HealthCheckIntervalSeconds=4"),
            "ValidationError",
            "healthCheckIntervalSeconds",
        ),
        (
            "CreateTargetGroup",
            format!("Name=x&Protocol=TCP&Port=80&VpcId={VPC}&HealthCheckIntervalSeconds=5&HealthCheckTimeoutSeconds=6"),
            "ValidationError",
            "smaller than or equal",
        ),
        ("CreateTargetGroup", "Name=x&Protocol=TCP&Port=80&VpcId=vpc-0".into(), "ValidationError", "vpc-0"),
        (
            "CreateTargetGroup",
            format!("Name=x&Protocol=TCP&Port=80&VpcId={VPC}&HealthCheckProtocol=UDP"),
            "ValidationError",
            "UDP",
        ),
        (
            "CreateTargetGroup",
            format!("Name=x&Protocol=TCP&Port=80&VpcId={VPC}&Matcher.HttpCode=200"),
            "InvalidConfigurationRequest",
            "matcher",
        ),
        (
            "DescribeTargetGroups",
            "Names.member.1=gone".into(),
            "TargetGroupNotFound",
            "One or more target groups not found",
        ),
        (
            "DeleteTargetGroup",
            format!("TargetGroupArn={group}"),
            "ResourceInUse",
            "is currently in use by a listener or a rule",
        ),
        (
            "ModifyTargetGroupAttributes",
            format!("TargetGroupArn={group}&Attributes.member.1.Key=nope&Attributes.member.1.Value=1"),
            "ValidationError",
            "'nope'",
        ),
        (
            "ModifyTargetGroupAttributes",
            format!(
                "TargetGroupArn={group}&Attributes.member.1.Key=deregistration_delay.timeout_seconds&Attributes.member.1.Value=3601"
            ),
            "InvalidConfigurationRequest",
            "'3600'",
        ),
        (
            "ModifyTargetGroupAttributes",
            format!(
                "TargetGroupArn={group}&Attributes.member.1.Key=target_health_state.unhealthy.draining_interval_seconds&Attributes.member.1.Value=5"
            ),
            "InvalidConfigurationRequest",
            "draining_interval",
        ),
        (
            "ModifyListenerAttributes",
            format!(
                "ListenerArn={listener}&Attributes.member.1.Key=tcp.idle_timeout.seconds&Attributes.member.1.Value=59"
            ),
            "InvalidConfigurationRequest",
            "'60'",
        ),
        ("RegisterTargets", format!("TargetGroupArn={group}{}", targets(&["8.8.8.8"])), "InvalidTarget", "8.8.8.8"),
        (
            "RegisterTargets",
            format!("TargetGroupArn={group}{}", targets(&["not-an-ip"])),
            "ValidationError",
            "not-an-ip",
        ),
        (
            "RegisterTargets",
            format!("TargetGroupArn={group}{}", targets(&["i-0a0000000000000a1"])),
            "ValidationError",
            "i-0a",
        ),
        (
            "RegisterTargets",
            format!("TargetGroupArn={group}{}", targets(&["10.1.1.1"])),
            "ValidationError",
            "You must specify a valid Availability Zone or select 'all'",
        ),
        (
            "RegisterTargets",
            format!("TargetGroupArn={group}{}&Targets.member.1.AvailabilityZone=all", targets(&PODS[..1])),
            "ValidationError",
            "is within the VPC, and cannot have its Availability Zone overridden to 'all' from 'ap-northeast-2a'",
        ),
        (
            "RegisterTargets",
            format!("TargetGroupArn={}{}", gone(group), targets(&PODS[..1])),
            "TargetGroupNotFound",
            "One or more target groups not found",
        ),
        ("RegisterTargets", format!("TargetGroupArn={group}&Targets="), "ValidationError", "At least one target"),
        ("CreateListener", create(&format!("Port=81&{}", to(&udp))), "IncompatibleProtocols", "UDP"),
        ("CreateListener", create(&format!("Port=80&{}", to(&gone(group)))), "TargetGroupNotFound", "Target groups '["),
        (
            "CreateListener",
            format!("LoadBalancerArn={other}&Protocol=TCP&Port=80&{}", to(group)),
            "TargetGroupAssociationLimit",
            group,
        ),
        (
            "CreateListener",
            format!("LoadBalancerArn={balancer}&Protocol=HTTP&Port=81&{}", to(group)),
            "UnsupportedProtocol",
            "HTTP",
        ),
        (
            "CreateListener",
            format!("LoadBalancerArn={balancer}&Protocol=TLS&Port=443&{}", to(group)),
            "ValidationError",
            "certificate",
        ),
        (
            "CreateListener",
            create("Port=81&DefaultActions.member.1.Type=redirect"),
            "InvalidLoadBalancerAction",
            "redirect",
        ),
        ("CreateListener", create(&format!("Port=0&{}", to(group))), "ValidationError", "'port'"),
        (
            "DeleteListener",
            format!("ListenerArn={}", gone(listener)),
            "ListenerNotFound",
            "One or more listeners not found",
        ),
        ("DescribeRules", "RuleArns.member.1=x".into(), "ValidationError", "not a valid rule ARN"),
        ("DescribeTags", format!("ResourceArns.member.1={}", gone(group)), "TargetGroupNotFound", "not found"),
        ("Frobnicate", String::new(), "InvalidAction", "Could not find operation Frobnicate for version 2015-12-01"),
    ];
    for (action, fields, code, says) in cases {
        let before = lab.model.counts();
        let (got, message) = lab.refused(Service::Elb, action, &fields);
        assert_eq!(got, code, "{action} {fields}: {message}");
        assert!(message.contains(says), "{action} {fields}: {message}");
        assert_eq!(lab.model.counts(), before, "{action} {fields} left something behind");
    }
}

#[test]
fn repeating_a_creation_answers_what_exists_and_deleting_twice_succeeds() {
    let mut lab = lab();
    let first = lab.nlb(2);
    let second = lab.nlb(2);
    assert_eq!((first.balancer, first.listener), (second.balancer.clone(), second.listener.clone()));
    assert_eq!(lab.model.counts().load_balancers, 1);
    lab.elb("DeleteListener", &format!("ListenerArn={}", second.listener));
    let (code, _) = lab.refused(Service::Elb, "DeleteListener", &format!("ListenerArn={}", second.listener));
    assert_eq!(code, "ListenerNotFound");
    for _ in 0..2 {
        lab.elb("DeleteLoadBalancer", &format!("LoadBalancerArn={}", second.balancer));
        lab.elb("DeleteTargetGroup", &format!("TargetGroupArn={}", second.group));
    }
    let counts = lab.model.counts();
    assert_eq!((counts.load_balancers, counts.target_groups, counts.listeners, counts.listening), (0, 0, 0, 0));
}

#[test]
fn protected_load_balancer_is_not_deleted_and_a_deleted_one_leaves_its_groups_unused() {
    let mut lab = lab();
    let nlb = lab.nlb(1);
    lab.register(&nlb.group, &PODS[..1]);
    let attribute = "Attributes.member.1.Key=deletion_protection.enabled&Attributes.member.1.Value";
    lab.elb("ModifyLoadBalancerAttributes", &format!("LoadBalancerArn={}&{attribute}=true", nlb.balancer));
    let (code, message) = lab.refused(Service::Elb, "DeleteLoadBalancer", &format!("LoadBalancerArn={}", nlb.balancer));
    assert_eq!(code, "OperationNotPermitted");
    assert!(message.ends_with("cannot be deleted because deletion protection is enabled"), "{message}");
    lab.elb("ModifyLoadBalancerAttributes", &format!("LoadBalancerArn={}&{attribute}=false", nlb.balancer));
    lab.elb("DeleteLoadBalancer", &format!("LoadBalancerArn={}", nlb.balancer));
    assert_eq!(lab.state(&nlb.group), "unused/Target.NotInUse");
    assert!(lab.open.is_empty());
    let group = lab.elb("DescribeTargetGroups", &format!("TargetGroupArns.member.1={}", nlb.group));
    let arns = group.get("TargetGroups").and_then(|g| g.at(0)?.get("LoadBalancerArns")).expect("the field");
    assert!(arns.items().is_empty());
}

#[test]
fn listings_come_in_pages_that_stay_right_when_items_go() {
    let mut lab = Lab::new(Profile::Instant, &[("quota.target-groups", "801")]);
    let arns: Vec<String> = (0..801).map(|n| lab.group(&format!("g{n}"))).collect();
    let mut seen: Vec<String> = Vec::new();
    let (mut marker, mut pages) = (String::new(), 0);
    loop {
        let page = lab.elb("DescribeTargetGroups", &format!("Marker={marker}"));
        let groups = page.get("TargetGroups").expect("groups").items();
        seen.extend(groups.iter().map(|g| path(g, &["TargetGroupArn"])));
        pages += 1;
        if pages == 1 {
            assert_eq!(groups.len(), 400);
            // The item that the mark stands for, one seen and one not yet seen.
            for n in [399, 0, 500] {
                lab.elb("DeleteTargetGroup", &format!("TargetGroupArn={}", arns[n]));
            }
        }
        match page.get("NextMarker").and_then(|m| m.text()) {
            Some(next) => next.clone_into(&mut marker),
            None => break,
        }
    }
    let expected: Vec<_> = arns.iter().enumerate().filter(|(n, _)| *n != 500).map(|(_, arn)| arn.clone()).collect();
    assert_eq!((pages, seen == expected), (2, true));
}

#[test]
fn pages_of_any_size_show_every_item_once() {
    let mut lab = lab();
    let arns: Vec<String> = (0..7).map(|n| lab.group(&format!("g{n}"))).collect();
    for size in 1..=8 {
        let (mut seen, mut marker) = (Vec::new(), String::new());
        loop {
            let page = lab.elb("DescribeTargetGroups", &format!("PageSize={size}&Marker={marker}"));
            seen.extend(page.get("TargetGroups").expect("groups").items().iter().map(|g| path(g, &["TargetGroupArn"])));
            assert!(seen.len() <= arns.len(), "pages of {size} repeat items");
            match page.get("NextMarker").and_then(|m| m.text()) {
                Some(next) => next.clone_into(&mut marker),
                None => break,
            }
        }
        assert_eq!(seen, arns, "pages of {size}");
    }
}

#[test]
fn quotas_are_checked_over_groups_zones_and_load_balancers() {
    let keys = [
        ("quota.network-load-balancers", "1"),
        ("quota.target-groups", "2"),
        ("quota.listeners-per-network-load-balancer", "1"),
        ("quota.targets-per-target-group", "4"),
        ("quota.targets-per-availability-zone-per-network-load-balancer", "2"),
    ];
    let mut lab = Lab::new(Profile::Instant, &keys);
    let nlb = lab.nlb(2);
    let fields = format!("Name=two&Type=network&Subnets.member.1={}", SUBNETS[0]);
    assert_eq!(lab.refused(Service::Elb, "CreateLoadBalancer", &fields).0, "TooManyLoadBalancers");
    let second = lab.group("second");
    let fields = format!("Name=third&Protocol=TCP&Port=80&VpcId={VPC}");
    assert_eq!(lab.refused(Service::Elb, "CreateTargetGroup", &fields).0, "TooManyTargetGroups");
    let action = format!("DefaultActions.member.1.Type=forward&DefaultActions.member.1.TargetGroupArn={second}");
    let fields = format!("LoadBalancerArn={}&Protocol=TCP&Port=81&{action}", nlb.balancer);
    assert_eq!(lab.refused(Service::Elb, "CreateListener", &fields).0, "TooManyListeners");
    let three =
        format!("TargetGroupArn={}{}", nlb.group, targets(&["192.168.11.21", "192.168.11.22", "192.168.11.23"]));
    let (code, message) = lab.refused(Service::Elb, "RegisterTargets", &three);
    assert_eq!(code, "TooManyTargets");
    assert!(message.contains(&nlb.balancer), "{message}");
    assert_eq!(lab.health(&nlb.group).len(), 0, "all or none");
    lab.register(&nlb.group, &["192.168.11.21", "192.168.11.22"]);
    lab.register(&second, &["192.168.11.21", "192.168.11.22", "192.168.11.23", "192.168.11.24"]);
    let one_more = format!("TargetGroupArn={second}{}", targets(&["192.168.12.25"]));
    assert_eq!(lab.refused(Service::Elb, "RegisterTargets", &one_more).0, "TooManyTargets");
    lab.elb("DeleteListener", &format!("ListenerArn={}", nlb.listener));
    let (code, _) = lab.refused(Service::Elb, "CreateListener", &fields);
    assert_eq!(code, "TooManyTargets", "a listener brings its group's targets with it");
}

#[test]
fn buckets_throttle_what_is_theirs_and_refill() {
    let mut lab = Lab::new(Profile::Fast, &[("bucket.describe", "3/1")]);
    for _ in 0..3 {
        lab.elb("DescribeLoadBalancers", "");
    }
    let (code, message) = lab.refused(Service::Elb, "DescribeTargetGroups", "");
    assert_eq!((code.as_str(), message.as_str()), ("Throttling", "Rate exceeded"));
    lab.ec2("DescribeVpcs", "");
    lab.model.set("bucket.throttling-exception", "true", lab.now).expect("a setting");
    assert_eq!(lab.refused(Service::Elb, "DescribeTags", "").0, "ThrottlingException");
    lab.pass(seconds(1));
    lab.elb("DescribeLoadBalancers", "");
}

#[test]
fn lost_reply_has_taken_effect_and_repeating_it_finds_what_exists() {
    let mut lab = lab();
    let order = r#"{"action":"CreateTargetGroup","effect":"lose"}"#;
    lab.model.order(serde_json::from_str(order).expect("an order"), lab.now).expect("valid");
    let fields = format!("Name=web&Protocol=TCP&Port=80&VpcId={VPC}");
    let lost = lab.send(Service::Elb, "CreateTargetGroup", &fields);
    let again = lab.send(Service::Elb, "CreateTargetGroup", &fields);
    assert_eq!((lost.delivery.lost, again.delivery.lost), (true, false));
    assert_eq!(lost.body, again.body);
    assert_eq!(lab.model.counts().target_groups, 1);
    let order = r#"{"effect":"fail-after"}"#;
    lab.model.order(serde_json::from_str(order).expect("an order"), lab.now).expect("valid");
    let reply = lab.send(Service::Elb, "DeleteTargetGroup", &arn_field(&again.body));
    assert_eq!((reply.status, lab.model.counts().target_groups), (500, 0));
    let order = r#"{"effect":{"delay":{"seconds":5}}}"#;
    lab.model.order(serde_json::from_str(order).expect("an order"), lab.now).expect("valid");
    let late = lab.send(Service::Elb, "CreateTargetGroup", &fields);
    assert_eq!((late.status, late.delivery.after), (200, seconds(5)));
}

fn arn_field(body: &Body) -> String {
    let Body::Result { value, .. } = body else { panic!("{body:?}") };
    format!("TargetGroupArn={}", path(value, &["TargetGroups", "0", "TargetGroupArn"]))
}

#[test]
fn what_was_just_created_may_be_unknown_to_other_calls_and_settles() {
    let keys = [("consistency.create", "10s"), ("consistency.miss", "1"), ("consistency.register", "10s")];
    let mut lab = Lab::new(Profile::Instant, &keys);
    let group = lab.group("web");
    let (code, _) = lab.refused(Service::Elb, "DescribeTargetHealth", &format!("TargetGroupArn={group}"));
    assert_eq!(code, "TargetGroupNotFound");
    lab.pass(seconds(10));
    lab.register(&group, &PODS[..1]);
    assert_eq!(lab.state(&group), "none");
    lab.pass(seconds(10));
    assert_eq!(lab.state(&group), "unused/Target.NotInUse");
}

#[test]
fn group_is_held_for_a_while_after_its_last_listener_is_gone() {
    let mut lab = Lab::new(Profile::Instant, &[("consistency.release", "20s")]);
    let nlb = lab.nlb(1);
    lab.elb("DeleteListener", &format!("ListenerArn={}", nlb.listener));
    let delete = format!("TargetGroupArn={}", nlb.group);
    assert_eq!(lab.refused(Service::Elb, "DeleteTargetGroup", &delete).0, "ResourceInUse");
    lab.pass(seconds(20));
    lab.elb("DeleteTargetGroup", &delete);
    assert_eq!(lab.model.counts().target_groups, 0);
}

#[test]
fn settings_of_chance_and_delay_hold_for_every_call() {
    let always = [("fault.health-unavailable", "1"), ("latency.slow-share", "1"), ("latency.slow", "7s")];
    let mut lab = Lab::new(Profile::Instant, &always);
    let group = lab.group("web");
    let reply = lab.send(Service::Elb, "DescribeTargetHealth", &format!("TargetGroupArn={group}"));
    assert_eq!((reply.status, reply.delivery.after), (500, seconds(7)));
    let Body::Error { code, .. } = reply.body else { panic!("answered") };
    assert_eq!(code, "HealthUnavailable");
    for (key, lost, status) in
        [("fault.lose-replies", true, 200), ("fault.fail-after", false, 0), ("fault.fail-before", false, 0)]
    {
        lab.model.set(key, "1", lab.now).expect("a setting");
        let reply = lab.send(Service::Elb, "DescribeLoadBalancers", "");
        assert_eq!(reply.delivery.lost, lost, "{key}");
        assert!(if status == 0 { matches!(reply.status, 500 | 503) } else { reply.status == status }, "{key}");
        lab.model.set(key, "0", lab.now).expect("a setting");
    }
}

#[test]
fn stale_signature_and_foreign_session_are_refused() {
    use std::time::Duration;

    use aws_model::{Caller, Request};
    let mut lab = lab();
    let call = |service: Service, caller: Option<Caller>| {
        let action = if service == Service::Ec2 { "DescribeVpcs" } else { "DescribeLoadBalancers" };
        let fields = vec![("Version".to_owned(), service.version().to_owned())];
        Request { service, action: Some(action.to_owned()), fields, defect: None, caller, token: None }
    };
    let signed = |seconds: u64| Caller {
        access_key: "AKIA".to_owned(),
        signed_at: Some(Duration::from_secs(seconds)),
        ..Caller::default()
    };
    let session = Caller { access_key: "ASIANOBODY".to_owned(), ..Caller::default() };
    let cases = [
        (call(Service::Elb, None), "MissingAuthenticationToken"),
        (call(Service::Elb, Some(signed(901))), "RequestExpired"),
        (call(Service::Elb, Some(session.clone())), "InvalidClientTokenId"),
        (call(Service::Ec2, Some(session)), "AuthFailure"),
    ];
    for (request, expected) in cases {
        match lab.model.handle(&request, lab.now).body {
            Body::Error { code, .. } => assert_eq!(code, expected),
            Body::Result { .. } => panic!("{expected} was due"),
        }
    }
    let fresh = call(Service::Elb, Some(signed(899)));
    assert_eq!(lab.model.handle(&fresh, lab.now).status, 200);
}

#[test]
fn security_group_of_a_deleted_load_balancer_is_held_until_its_interfaces_are_gone() {
    let mut lab = Lab::new(Profile::Instant, &[("lag.network-interface-release", "30s")]);
    let created = lab.ec2("CreateSecurityGroup", &format!("GroupName=front&GroupDescription=x&VpcId={VPC}"));
    let id = path(&created, &["groupId"]);
    let fields = format!("Name=web&Type=network&Subnets.member.1={}&SecurityGroups.member.1={id}", SUBNETS[0]);
    let balancer = path(&lab.elb("CreateLoadBalancer", &fields), &["LoadBalancers", "0", "LoadBalancerArn"]);
    let interfaces = "Filter.1.Name=description&Filter.1.Value.1=ELB+net/web/*".replace('+', " ");
    assert_eq!(
        lab.ec2("DescribeNetworkInterfaces", &interfaces).get("networkInterfaceSet").map(|s| s.items().len()),
        Some(1)
    );
    for wait in [0, 29] {
        lab.elb("DeleteLoadBalancer", &format!("LoadBalancerArn={balancer}"));
        lab.pass(seconds(wait));
        assert_eq!(lab.refused(Service::Ec2, "DeleteSecurityGroup", &format!("GroupId={id}")).0, "DependencyViolation");
    }
    lab.pass(seconds(1));
    lab.ec2("DeleteSecurityGroup", &format!("GroupId={id}"));
    assert_eq!(lab.refused(Service::Ec2, "DeleteSecurityGroup", &format!("GroupId={id}")).0, "InvalidGroup.NotFound");
}

#[test]
fn names_resolve_to_the_zones_with_healthy_targets() {
    use aws_model::Resolution;
    let mut lab = lab();
    let nlb = lab.nlb(3);
    let count = |lab: &Lab, name: &str| match lab.model.resolve(name) {
        Resolution::Addresses { addresses, ttl } => {
            assert_eq!(ttl, seconds(60));
            addresses.len()
        }
        Resolution::NoSuchName => 0,
        Resolution::NotOurs => 99,
    };
    assert_eq!(count(&lab, &nlb.dns), 3, "none is healthy, so all");
    lab.register(&nlb.group, &PODS[..2]);
    lab.pass(seconds(1));
    assert_eq!(count(&lab, &nlb.dns.to_uppercase()), 2);
    assert_eq!(count(&lab, &format!("ap-northeast-2c.{}.", nlb.dns)), 1, "a zone's name always has its address");
    assert_eq!(count(&lab, &format!("x{}", nlb.dns)), 0);
    assert_eq!(count(&lab, "example.com"), 99);
}

#[test]
fn role_is_assumed_by_its_service_accounts_and_its_credentials_end() {
    use aws_model::{Caller, Claims, Request};
    let mut lab = lab();
    let role = "arn:aws:iam::111122223333:role/sluice-registrar";
    let assume = |lab: &mut Lab, subject: &str, audience: &str| {
        let fields = [
            ("RoleArn", role),
            ("RoleSessionName", "lab"),
            ("WebIdentityToken", "a.b.c"),
            ("DurationSeconds", "900"),
            ("Version", "2011-06-15"),
        ];
        let claims = Claims {
            subject: subject.to_owned(),
            audience: vec![audience.to_owned()],
            issuer: "https://k8s".to_owned(),
        };
        let request = Request {
            service: Service::Sts,
            action: Some("AssumeRoleWithWebIdentity".to_owned()),
            fields: fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            defect: None,
            caller: None,
            token: Some(Ok(claims)),
        };
        lab.model.handle(&request, lab.now).body
    };
    let registrar = "system:serviceaccount:sluice-system:sluice-registrar";
    for (subject, audience, code) in [
        ("system:serviceaccount:default:default", "sts.amazonaws.com", "AccessDenied"),
        (registrar, "https://kubernetes", "InvalidIdentityToken"),
    ] {
        let Body::Error { code: got, .. } = assume(&mut lab, subject, audience) else { panic!("assumed by {subject}") };
        assert_eq!(got, code);
    }
    let Body::Result { value, .. } = assume(&mut lab, registrar, "sts.amazonaws.com") else { panic!("refused") };
    let caller = Caller {
        access_key: path(&value, &["Credentials", "AccessKeyId"]),
        session_token: Some(path(&value, &["Credentials", "SessionToken"])),
        ..Caller::default()
    };
    let whoami = |lab: &mut Lab, caller: &Caller| {
        let request = Request {
            service: Service::Sts,
            action: Some("GetCallerIdentity".to_owned()),
            fields: vec![("Version".to_owned(), "2011-06-15".to_owned())],
            defect: None,
            caller: Some(caller.clone()),
            token: None,
        };
        match lab.model.handle(&request, lab.now).body {
            Body::Result { value, .. } => path(&value, &["Arn"]),
            Body::Error { code, .. } => code,
        }
    };
    assert_eq!(whoami(&mut lab, &caller), "arn:aws:sts::111122223333:assumed-role/sluice-registrar/lab");
    let forged = Caller { session_token: Some("other".to_owned()), ..caller.clone() };
    assert_eq!(whoami(&mut lab, &forged), "InvalidClientTokenId");
    lab.pass(seconds(900));
    assert_eq!(whoami(&mut lab, &caller), "ExpiredToken");
}
