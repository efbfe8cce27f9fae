//! Address families of a load balancer that is there: they come before what needs them and go after it, and what AWS does
//! not change is not asked of it.

use registrar_core::aws::{Call, LoadBalancer, LoadBalancerQuery, Reply};

use crate::{bench::Bench, life::STORY};

/// In the public subnets of the world.
const ADDRESSES: &str = "2001:db8:0:1a01::a,2001:db8:0:1a02::a,2001:db8:0:1a03::a";
const OTHERS: &str = "2001:db8:0:1a01::b,2001:db8:0:1a02::b,2001:db8:0:1a03::b";
const PREFIXES: &str = "2001:db8:0:1a01:7::/80,auto_assigned,2001:db8:0:1a03:7::/80";

fn story() -> Bench {
    let mut bench = Bench::new(STORY);
    bench.done();
    bench
}

/// What is written after these annotations were set or, without a value, removed. A second look finds nothing to do.
fn writes_after(bench: &mut Bench, annotations: &[(&str, &str)]) -> Vec<String> {
    for (key, value) in annotations {
        if value.is_empty() { bench.unannotate(key) } else { bench.annotate(key, value) }
    }
    bench.log.clear();
    let rest = bench.done();
    assert!(rest.is_empty(), "{annotations:?}: {rest:?}");
    let writes = bench.writes().into_iter().filter(|name| *name != "SetManagedFields").map(str::to_owned).collect();
    let audit = bench.audit();
    assert!(audit.is_empty(), "{annotations:?}: a second look wants {audit:?}");
    writes
}

fn found(bench: &mut Bench) -> LoadBalancer {
    let name = bench.desired().load_balancer.load_balancer_name;
    match bench.call(&Call::DescribeLoadBalancers(LoadBalancerQuery::Name(name))) {
        Ok(Reply::LoadBalancers { mut load_balancers, .. }) => load_balancers.remove(0),
        other => panic!("{other:?}"),
    }
}

fn addresses(bench: &mut Bench) -> Vec<String> {
    found(bench).zones.into_iter().filter_map(|zone| zone.mapping.ipv6_address).collect()
}

fn prefixes(bench: &mut Bench) -> Vec<String> {
    found(bench).zones.into_iter().filter_map(|zone| zone.mapping.source_nat_ipv6_prefix).collect()
}

#[test]
fn the_type_alone_is_changed_by_a_call_of_its_own() {
    let mut bench = story();
    assert_eq!(
        writes_after(&mut bench, &[("ip-address-type", "dualstack")]),
        ["AuthorizeSecurityGroupIngress", "SetIpAddressType"]
    );
    assert_eq!(found(&mut bench).ip_address_type, "dualstack");
    assert_eq!(
        writes_after(&mut bench, &[("ip-address-type", "")]),
        ["RevokeSecurityGroupIngress", "SetIpAddressType"]
    );
    assert_eq!(found(&mut bench).ip_address_type, "ipv4");
}

#[test]
fn addresses_are_chosen_with_the_type_and_then_no_more() {
    let mut bench = story();
    let chosen = [("ip-address-type", "dualstack"), ("ipv6-addresses", ADDRESSES)];
    assert_eq!(writes_after(&mut bench, &chosen), ["AuthorizeSecurityGroupIngress", "SetSubnets"]);
    assert_eq!(addresses(&mut bench).join(","), ADDRESSES);
    assert_eq!(writes_after(&mut bench, &[("ipv6-addresses", OTHERS)]), [""; 0], "a change has no effect");
    // Nor is it in the way of others.
    assert_eq!(writes_after(&mut bench, &[("enable-prefix-for-ipv6-source-nat", "on")]), ["SetSubnets"]);
    assert_eq!(addresses(&mut bench).join(","), ADDRESSES);
    let subnets = "subnet-0a00000000000aaa1,subnet-0b00000000000bbb1";
    let fewer = [("subnets", subnets), ("ipv6-addresses", "2001:db8:0:1a01::b,2001:db8:0:1a02::b")];
    assert_eq!(writes_after(&mut bench, &fewer), ["SetSubnets"]);
    let more = [("subnets", ""), ("ipv6-addresses", "")];
    assert_eq!(writes_after(&mut bench, &more), [""; 0], "subnets that are named no more stay");
    let all = format!("{subnets},subnet-0c00000000000ccc1");
    assert_eq!(writes_after(&mut bench, &[("subnets", &all), ("ipv6-addresses", OTHERS)]), ["SetSubnets"]);
    assert_eq!(
        addresses(&mut bench),
        ["2001:db8:0:1a01::a", "2001:db8:0:1a02::a", "2001:db8:0:1a03::b"],
        "in a zone that is added it can be chosen"
    );
    let none = [("ip-address-type", ""), ("enable-prefix-for-ipv6-source-nat", ""), ("ipv6-addresses", "")];
    assert_eq!(writes_after(&mut bench, &none), ["RevokeSecurityGroupIngress", "SetSubnets"]);
    assert_eq!(addresses(&mut bench), [""; 0]);
}

#[test]
fn prefixes_follow_the_service_and_those_that_aws_assigned_stay() {
    let mut bench = story();
    let on = [("ip-address-type", "dualstack"), ("enable-prefix-for-ipv6-source-nat", "on")];
    assert_eq!(writes_after(&mut bench, &on), ["AuthorizeSecurityGroupIngress", "SetSubnets"]);
    let assigned = prefixes(&mut bench);
    assert_eq!(assigned.len(), 3);
    assert_eq!(
        writes_after(&mut bench, &[("source-nat-ipv6-prefixes", "auto_assigned,auto_assigned,auto_assigned")]),
        [""; 0]
    );
    assert_eq!(writes_after(&mut bench, &[("source-nat-ipv6-prefixes", PREFIXES)]), ["SetSubnets"]);
    let now = prefixes(&mut bench);
    assert_eq!(
        (now[0].as_str(), &now[1], now[2].as_str()),
        ("2001:db8:0:1a01:7::/80", &assigned[1], "2001:db8:0:1a03:7::/80")
    );
    let off = [("enable-prefix-for-ipv6-source-nat", ""), ("source-nat-ipv6-prefixes", "")];
    assert_eq!(writes_after(&mut bench, &off), ["SetSubnets"]);
    assert_eq!(prefixes(&mut bench), [""; 0]);
    assert_eq!(writes_after(&mut bench, &[on[1]]), ["SetSubnets"]);
    let none = [("ip-address-type", ""), ("enable-prefix-for-ipv6-source-nat", "")];
    assert_eq!(writes_after(&mut bench, &none), ["RevokeSecurityGroupIngress", "SetSubnets"], "one call for both");
    let now = found(&mut bench);
    assert_eq!((now.ip_address_type.as_str(), now.enable_prefix_for_ipv6_source_nat), ("ipv4", Some(false)));
}

/// Writes on load balancers, listeners and target groups, in their order.
fn order(writes: &[String]) -> Vec<&str> {
    let of_balancers =
        ["SetSubnets", "SetIpAddressType", "CreateListener", "ModifyListener", "DeleteListener", "DeleteTargetGroup"];
    writes.iter().map(String::as_str).filter(|name| of_balancers.contains(name)).collect()
}

#[test]
fn source_nat_comes_before_udp_and_goes_after_it() {
    let mut bench = story();
    let dns = r#"[{"name": "http", "port": 80, "targetPort": 8080}, {"name": "dns", "port": 53, "targetPort": 8053, "protocol": "UDP"}]"#;
    let ports = bench.service.spec.as_ref().unwrap().ports.clone();
    bench.service.spec.as_mut().unwrap().ports = serde_json::from_str(dns).unwrap();
    let on = [("ip-address-type", "dualstack"), ("enable-prefix-for-ipv6-source-nat", "on")];
    assert_eq!(order(&writes_after(&mut bench, &on)), ["SetSubnets", "CreateListener"]);
    bench.service.spec.as_mut().unwrap().ports = ports;
    let off = [("ip-address-type", ""), ("enable-prefix-for-ipv6-source-nat", "")];
    assert_eq!(order(&writes_after(&mut bench, &off)), ["DeleteListener", "SetSubnets", "DeleteTargetGroup"]);
}
