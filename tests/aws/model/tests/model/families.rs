//! IPv6: dualstack load balancers, their addresses and prefixes, and targets with IPv6 addresses.

use std::net::IpAddr;

use aws_model::{Answer, Resolution, Service, Source, settings::Profile};
use world::World;

use crate::support::{Lab, SUBNETS, VPC, at, path, route, seconds};

/// In the IPv6 block of the first and the second private subnet.
const PODS: [&str; 2] = ["2001:db8:0:1a11::15", "2001:db8:0:1a12::15"];
const CLIENT: &str = "2001:db8:ffff::7";

fn instant() -> Lab {
    Lab::new(Profile::Instant, &[])
}

/// Subnet mappings of the private subnets, with one more field each.
fn mappings(field: &str, values: &[&str]) -> String {
    let one = |(n, value): (usize, &&str)| {
        let member = format!("&SubnetMappings.member.{}", n + 1);
        let more = if value.is_empty() { String::new() } else { format!("{member}.{field}={value}") };
        format!("{member}.SubnetId={}{more}", SUBNETS[n])
    };
    values.iter().enumerate().map(one).collect()
}

/// A dualstack load balancer with these mappings: its ARN and its DNS name.
fn dualstack(lab: &mut Lab, mappings: &str) -> (String, String) {
    let fields = format!("Name=six&Type=network&Scheme=internal&IpAddressType=dualstack{mappings}");
    let created = lab.elb("CreateLoadBalancer", &fields);
    let of = |field: &str| path(&created, &["LoadBalancers", "0", field]);
    (of("LoadBalancerArn"), of("DNSName"))
}

fn ipv6_group(lab: &mut Lab, name: &str) -> String {
    let fields = format!(
        "Name={name}&Protocol=TCP&Port=8080&VpcId={VPC}&TargetType=ip&IpAddressType=ipv6&HealthCheckIntervalSeconds=10"
    );
    path(&lab.elb("CreateTargetGroup", &fields), &["TargetGroups", "0", "TargetGroupArn"])
}

fn addresses(lab: &Lab, dns: &str) -> Vec<IpAddr> {
    match lab.model.resolve(dns) {
        Resolution::Addresses { addresses, .. } => addresses,
        other => panic!("{other:?}"),
    }
}

#[test]
fn dualstack_load_balancer_answers_with_both_families_and_loses_ipv6_with_its_type() {
    let mut lab = instant();
    let (arn, dns) = dualstack(&mut lab, &mappings("", &["", ""]));
    let group = lab.group("four");
    lab.listener(&arn, 80, &group);
    lab.register(&group, &["192.168.11.21", "192.168.12.21"]);
    lab.pass(seconds(1));
    let both = addresses(&lab, &dns);
    assert_eq!(both.iter().filter(|address| address.is_ipv6()).count(), 2, "{both:?}");
    assert_eq!(lab.open.len(), 4, "a listener at every address: {:?}", lab.open);
    let front = *lab.open.iter().find(|at| at.is_ipv6()).expect("an IPv6 address");
    let flow = route(lab.connect(front, CLIENT));
    assert_eq!(flow.target, at("192.168.11.21", 8080));
    let Source::LoadBalancer(IpAddr::V4(source)) = flow.source else {
        panic!("an IPv4 target cannot see an IPv6 client: {:?}", flow.source)
    };
    assert!(both.contains(&source.into()));
    let reply = lab.elb("SetIpAddressType", &format!("LoadBalancerArn={arn}&IpAddressType=ipv4"));
    assert_eq!(path(&reply, &["IpAddressType"]), "ipv4");
    lab.pass(seconds(1));
    assert_eq!(lab.resets, [flow.flow], "the flow at an address that is gone");
    assert!(addresses(&lab, &dns).iter().all(IpAddr::is_ipv4) && lab.open.iter().all(std::net::SocketAddr::is_ipv4));
}

#[test]
fn ipv6_targets_are_checked_and_served_from_ipv6_addresses() {
    let mut lab = instant();
    let (arn, dns) = dualstack(&mut lab, &mappings("", &["", ""]));
    let group = ipv6_group(&mut lab, "six");
    lab.listener(&arn, 80, &group);
    lab.register(&group, &["2001:DB8:0:1a11:0::15", PODS[1]]);
    lab.pass(seconds(1));
    let mut health = lab.health(&group);
    health.sort();
    assert_eq!(health, PODS.map(|pod| format!("{pod}:8080 healthy/-")), "addresses are written in one form");
    let of_ipv6 = |address: &IpAddr| address.is_ipv6();
    let fronts: Vec<_> = addresses(&lab, &dns).into_iter().filter(of_ipv6).collect();
    let flow = route(lab.connect((fronts[0], 80).into(), CLIENT));
    assert!(PODS.iter().any(|pod| flow.target == at(pod, 8080)), "{flow:?}");
    assert_eq!(flow.source, Source::LoadBalancer(fronts[0]));
    lab.attribute(&group, "preserve_client_ip.enabled", "true");
    let flow = route(lab.connect((fronts[0], 80).into(), CLIENT));
    assert_eq!(flow.source, Source::Client(at(CLIENT, 40000)), "of one family it can be kept");
    lab.attribute(&group, "proxy_protocol_v2.enabled", "true");
    let header = route(lab.connect((fronts[0], 80).into(), CLIENT)).proxy_header.expect("a header");
    assert_eq!((header.len(), header[13]), (16 + 36, 0x21));
    for pod in PODS {
        lab.model.set_unreachable(pod.parse().expect("an address"), true, lab.now);
    }
    assert_eq!(lab.connect((fronts[0], 80).into(), CLIENT), Answer::Silent);
}

#[test]
fn chosen_addresses_and_prefixes_are_kept_and_shown() {
    let mut lab = instant();
    let chosen = ["2001:db8:0:1a11::abcd", "2001:db8:0:1a12::abcd"];
    let (arn, dns) = dualstack(&mut lab, &mappings("IPv6Address", &chosen));
    let shown = |lab: &mut Lab, zone: &str, fields: &[&str]| {
        let reply = lab.elb("DescribeLoadBalancers", "Names.member.1=six");
        path(&reply, &[&["LoadBalancers", "0", "AvailabilityZones", zone], fields].concat())
    };
    assert_eq!(shown(&mut lab, "1", &["LoadBalancerAddresses", "0", "IPv6Address"]), chosen[1]);
    assert!(chosen.iter().all(|address| addresses(&lab, &dns).contains(&address.parse().expect("an address"))));
    let prefix = "2001:db8:0:1a12:7::/80";
    let on = format!("LoadBalancerArn={arn}&EnablePrefixForIpv6SourceNat=on");
    let wanted = mappings("SourceNatIpv6Prefix", &["auto_assigned", prefix]);
    let reply = lab.elb("SetSubnets", &format!("{on}{wanted}"));
    assert_eq!(path(&reply, &["EnablePrefixForIpv6SourceNat"]), "on");
    let given = shown(&mut lab, "0", &["SourceNatIpv6Prefixes", "0"]);
    assert!(given.starts_with("2001:db8:0:1a11:") && given.ends_with("/80"), "{given}");
    assert_eq!(shown(&mut lab, "1", &["SourceNatIpv6Prefixes", "0"]), prefix);
    lab.elb("SetSubnets", &format!("LoadBalancerArn={arn}{}", mappings("", &["", ""])));
    assert_eq!(shown(&mut lab, "0", &["SourceNatIpv6Prefixes", "0"]), given, "what is not asked for otherwise stays");
    assert_eq!(shown(&mut lab, "1", &["LoadBalancerAddresses", "0", "IPv6Address"]), chosen[1]);
}

#[test]
fn an_address_that_is_chosen_is_given_to_nobody_else() {
    let mut lab = instant();
    let (first, dns) = dualstack(&mut lab, &mappings("", &[""]));
    let automatic = addresses(&lab, &dns).into_iter().find(IpAddr::is_ipv6).expect("an IPv6 address");
    lab.elb("DeleteLoadBalancer", &format!("LoadBalancerArn={first}"));
    lab.pass(seconds(100));
    let create = |name: &str, mapping: &str| {
        format!("Name={name}&Type=network&Scheme=internal&IpAddressType=dualstack{mapping}")
    };
    let taken = mappings("IPv6Address", &[&automatic.to_string()]);
    lab.elb(
        "CreateLoadBalancer",
        &create("chooser", &format!("{taken}&SubnetMappings.member.1.PrivateIPv4Address=192.168.11.250")),
    );
    let (_, dns) = dualstack(&mut lab, &mappings("", &[""]));
    let other = addresses(&lab, &dns).into_iter().find(IpAddr::is_ipv6).expect("an IPv6 address");
    assert_ne!(other, automatic);
    let (_, message) = lab.refused(Service::Elb, "CreateLoadBalancer", &create("third", &taken));
    assert!(message.contains("in use"), "{message}");
}

#[test]
fn what_ipv6_does_not_allow_is_refused_with_the_reason() {
    let mut world = World::parse(world::DEFAULT).expect("the shipped world");
    if let Some(subnet) = world.subnets.iter_mut().find(|subnet| subnet.id == SUBNETS[2]) {
        subnet.ipv6 = None;
    }
    let mut lab = Lab::inside(&world, Profile::Instant, &[], 7);
    let four = lab.nlb(1);
    let (six, _) = dualstack(&mut lab, &mappings("", &["", ""]));
    let group = ipv6_group(&mut lab, "six");
    lab.listener(&six, 80, &group);
    let (four, six) = (format!("LoadBalancerArn={}", four.balancer), format!("LoadBalancerArn={six}"));
    let create = "Name=x&Type=network&Scheme=internal";
    let lacking = format!("&Subnets.member.1={}", SUBNETS[2]);
    let other = ipv6_group(&mut lab, "other");
    let to_other = format!("DefaultActions.member.1.Type=forward&DefaultActions.member.1.TargetGroupArn={other}");
    let one = |field: &str, value: &str| mappings(field, &[value]);
    let cases = [
        (
            "CreateLoadBalancer",
            format!("{create}&IpAddressType=dualstack{lacking}"),
            "InvalidSubnet",
            "no associated IPv6",
        ),
        (
            "CreateLoadBalancer",
            format!("{create}{}", one("IPv6Address", PODS[0])),
            "InvalidConfigurationRequest",
            "'dualstack'",
        ),
        (
            "CreateLoadBalancer",
            format!("{create}&IpAddressType=dualstack{}", one("IPv6Address", PODS[1])),
            "InvalidConfigurationRequest",
            "not in the range of the subnet",
        ),
        (
            "CreateLoadBalancer",
            format!("{create}&IpAddressType=dualstack{}", one("IPv6Address", "192.168.11.99")),
            "InvalidConfigurationRequest",
            "not in the range of the subnet",
        ),
        (
            "CreateLoadBalancer",
            format!("{create}&IpAddressType=dualstack{}", one("SourceNatIpv6Prefix", "auto_assigned")),
            "InvalidConfigurationRequest",
            "EnablePrefixForIpv6SourceNat",
        ),
        (
            "CreateLoadBalancer",
            format!(
                "{create}&IpAddressType=dualstack&EnablePrefixForIpv6SourceNat=on{}",
                one("SourceNatIpv6Prefix", "2001:db8:0:1a11::/64")
            ),
            "InvalidConfigurationRequest",
            "80 bits",
        ),
        (
            "CreateLoadBalancer",
            format!("{create}&EnablePrefixForIpv6SourceNat=on{}", one("", "")),
            "InvalidConfigurationRequest",
            "'dualstack'",
        ),
        (
            "CreateLoadBalancer",
            format!("{create}&IpAddressType=dualstack-without-public-ipv4{}", one("", "")),
            "InvalidConfigurationRequest",
            "without-public-ipv4",
        ),
        ("CreateListener", format!("{four}&Protocol=TCP&Port=81&{to_other}"), "InvalidConfigurationRequest", "'ipv6'"),
        ("SetIpAddressType", format!("{six}&IpAddressType=ipv4"), "InvalidConfigurationRequest", "'ipv6'"),
        (
            "SetSubnets",
            format!("{six}{}", mappings("IPv6Address", &["2001:db8:0:1a11::77", ""])),
            "InvalidConfigurationRequest",
            "cannot be changed",
        ),
        (
            "SetSubnets",
            format!("{six}&Subnets.member.1={}&Subnets.member.2={}", SUBNETS[0], SUBNETS[2]),
            "InvalidSubnet",
            SUBNETS[2],
        ),
    ];
    for (action, fields, code, says) in cases {
        let (found, message) = lab.refused(Service::Elb, action, &fields);
        assert!(found == code && message.contains(says), "{action} {fields}: {found}: {message}");
    }
    let pod = format!("TargetGroupArn={group}&Targets.member.1.Id=192.168.11.21");
    let (code, message) = lab.refused(Service::Elb, "RegisterTargets", &pod);
    assert!(code == "ValidationError" && message.contains("IPv6"), "{code}: {message}");
}

#[test]
fn udp_wants_source_nat_beside_ipv6_and_holds_on_to_it() {
    let mut lab = instant();
    let (balancer, _) = dualstack(&mut lab, &mappings("", &["", ""]));
    let fields = format!("Name=udp&Protocol=UDP&Port=53&VpcId={VPC}&TargetType=ip&HealthCheckPort=80");
    let group = path(&lab.elb("CreateTargetGroup", &fields), &["TargetGroups", "0", "TargetGroupArn"]);
    let action = format!("DefaultActions.member.1.Type=forward&DefaultActions.member.1.TargetGroupArn={group}");
    let listener = format!("LoadBalancerArn={balancer}&Protocol=UDP&Port=53&{action}");
    let (code, message) = lab.refused(Service::Elb, "CreateListener", &listener);
    assert!(code == "InvalidConfigurationRequest" && message.contains("EnablePrefixForIpv6SourceNat"), "{message}");
    let switched = |word: &str| {
        let places = mappings("", &["", ""]);
        format!("LoadBalancerArn={balancer}&EnablePrefixForIpv6SourceNat={word}{places}")
    };
    lab.elb("SetSubnets", &switched("on"));
    lab.elb("CreateListener", &listener);
    let (_, message) = lab.refused(Service::Elb, "SetSubnets", &switched("off"));
    assert!(message.contains("UDP listener"), "{message}");
}

#[test]
fn ec2_shows_the_ipv6_of_subnets_and_interfaces() {
    let mut lab = instant();
    dualstack(&mut lab, &mappings("", &[""]));
    let reply = lab.ec2("DescribeSubnets", &format!("SubnetId.1={}", SUBNETS[0]));
    let association = ["subnetSet", "0", "ipv6CidrBlockAssociationSet", "0"];
    assert_eq!(path(&reply, &[&association[..], &["ipv6CidrBlock"]].concat()), "2001:db8:0:1a11::/64");
    assert_eq!(path(&reply, &[&association[..], &["ipv6CidrBlockState", "state"]].concat()), "associated");
    let reply = lab.ec2("DescribeVpcs", "");
    let block = ["vpcSet", "0", "ipv6CidrBlockAssociationSet", "0", "ipv6CidrBlock"];
    assert_eq!(path(&reply, &block), "2001:db8:0:1a00::/56");
    let filter = "Filter.1.Name=ipv6-addresses.ipv6-address&Filter.1.Value.1=2001:db8:0:1a11::c0a8:b0a";
    let reply = lab.ec2("DescribeNetworkInterfaces", filter);
    let instance = ["networkInterfaceSet", "0", "attachment", "instanceId"];
    assert_eq!(path(&reply, &instance), "i-0a0000000000000a1");
    let reply =
        lab.ec2("DescribeNetworkInterfaces", "Filter.1.Name=interface-type&Filter.1.Value.1=network_load_balancer");
    let address = ["networkInterfaceSet", "0", "ipv6AddressesSet", "0", "ipv6Address"];
    assert!(path(&reply, &address).starts_with("2001:db8:0:1a11::"));
}

#[test]
fn quota_of_rules_holds_for_each_family_and_a_prefix_list_counts_in_both() {
    let ipv4 = ["IpRanges.1.CidrIp=10.1.0.0/16", "IpRanges.1.CidrIp=10.2.0.0/16", "IpRanges.1.CidrIp=10.3.0.0/16"];
    let ipv6 = ["Ipv6Ranges.1.CidrIpv6=2001:db8:1::/48", "Ipv6Ranges.1.CidrIpv6=2001:db8:2::/48"];
    let (list, full) = ("PrefixListIds.1.PrefixListId=pl-1", "RulesPerSecurityGroupLimitExceeded");
    let cases: [(&[&str], &[&str]); 4] = [
        (&[ipv4[0], ipv4[1], ipv6[0], ipv6[1]], &[ipv4[2], list]),
        (&[ipv4[0], ipv4[1], ipv6[0]], &[ipv4[2], list]),
        (&[ipv6[0], ipv6[1], ipv4[0]], &[list]),
        (&[list, ipv4[0], ipv6[0]], &[ipv4[1], ipv6[1]]),
    ];
    for (taken, refused) in cases {
        let mut lab = Lab::new(Profile::Instant, &[("quota.rules-per-security-group", "2")]);
        let id = path(&lab.ec2("CreateSecurityGroup", "GroupName=front&GroupDescription=x"), &["groupId"]);
        let ports = "IpPermissions.1.IpProtocol=tcp&IpPermissions.1.FromPort=80&IpPermissions.1.ToPort=80";
        let fields = |source: &&str| format!("GroupId={id}&{ports}&IpPermissions.1.{source}");
        for source in taken {
            lab.ec2("AuthorizeSecurityGroupIngress", &fields(source));
        }
        for source in refused {
            let (code, _) = lab.refused(Service::Ec2, "AuthorizeSecurityGroupIngress", &fields(source));
            assert_eq!(code, full, "{source} beside {taken:?}");
        }
    }
}
