//! Every vector that is read without a refusal: its annotations applied, changed and removed, and the state of AWS compared
//! with the model after each.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use registrar_core::{
    aws::{Call, ListenerQuery, LoadBalancerQuery, Reply, TargetGroupQuery},
    balancers::{Intent, Plan, TargetGroup},
};
use vectors::{BACKENDS, SECURITY_GROUP, Vector, is_of_the_world, plain};

use crate::bench::Bench;

fn bench(vector: &Vector) -> Bench {
    let mut bench = Bench::new("{}");
    bench.environment.settings = std::sync::Arc::new(vector.settings.clone());
    // The subnets of the world are those of the cluster `lab`.
    bench.environment.options.subnets_cluster_tag_check = vector.settings.cluster_name == "lab";
    bench.others = BACKENDS.map(other).into();
    bench
}

fn other(name: &str) -> Service {
    let mut service = vectors::backend(name, "default").unwrap();
    service.metadata.uid = Some(format!("uid-{name}"));
    for port in service.spec.iter_mut().flat_map(|spec| &mut spec.ports).flatten() {
        port.node_port = Some(30999);
    }
    service
}

/// A security group of the world for the one that vectors name, and node ports as the API server allocates them.
fn settled_in(bench: &mut Bench, service: &Service) -> Service {
    let edge = bench.security_group("edge");
    let mut service = service.clone();
    let annotations = service.metadata.annotations.iter_mut().flatten();
    for (_, value) in annotations.filter(|(key, _)| vectors::is(key, "security-groups")) {
        *value = value.replace(SECURITY_GROUP, &edge);
    }
    if let Some(spec) = &mut service.spec
        && spec.type_.as_deref() != Some("ClusterIP")
    {
        for port in spec.ports.iter_mut().flatten() {
            port.node_port = port.node_port.filter(|number| *number > 0).or(Some(30000 + port.port % 2000));
        }
    }
    service
}

fn put(bench: &mut Bench, service: &Service) -> Plan {
    let mut service = service.clone();
    service.metadata.namespace.get_or_insert_with(|| "default".to_owned());
    service.metadata.name.get_or_insert_with(|| "web".to_owned());
    service.metadata.uid.get_or_insert_with(|| "bdca2bd0-bfc6-449a-88a3-03451f05f18c".to_owned());
    for other in &mut bench.others {
        other.metadata.namespace.clone_from(&service.metadata.namespace);
    }
    bench.service = service;
    bench.refused = None;
    bench.run().expect("not stopped")
}

/// Everything that is not in AWS as the model has it.
fn differences(bench: &mut Bench) -> Vec<String> {
    let desired = bench.desired();
    let mut wrong = Vec::new();
    let mut differ = |what: String, found: String, wanted: String| {
        if found != wanted {
            wrong.push(format!("{what} is {found}, not {wanted}"));
        }
    };
    let name = desired.load_balancer.load_balancer_name.clone();
    let Ok(Reply::LoadBalancers { load_balancers, .. }) =
        bench.call(&Call::DescribeLoadBalancers(LoadBalancerQuery::Name(name.clone())))
    else {
        return vec![format!("there is no load balancer {name}")];
    };
    let balancer = &load_balancers[0];
    let families = serde_json::to_value(desired.load_balancer.ip_address_type).unwrap();
    differ("families".to_owned(), balancer.ip_address_type.clone(), families.as_str().unwrap().to_owned());
    let source_nat = desired.load_balancer.enable_prefix_for_ipv6_source_nat.unwrap_or(false);
    let found = balancer.enable_prefix_for_ipv6_source_nat;
    differ("source NAT".to_owned(), format!("{found:?}"), format!("{:?}", Some(source_nat)));
    differ("scheme".to_owned(), balancer.scheme.clone(), desired.load_balancer.scheme.as_str().to_owned());
    let sorted = |mut groups: Vec<String>| {
        groups.sort();
        groups.join(",")
    };
    let groups = desired.load_balancer.security_groups.clone().unwrap_or_default();
    differ("security groups".to_owned(), sorted(balancer.security_groups.clone()), sorted(groups));
    let subnets: Vec<String> = balancer.zones.iter().map(|zone| zone.mapping.subnet_id.clone()).collect();
    let mappings = desired.load_balancer.subnet_mappings.clone().unwrap_or_default();
    differ("subnets".to_owned(), sorted(subnets), sorted(mappings.into_iter().map(|m| m.subnet_id).collect()));
    let Ok(Reply::Attributes(attributes)) =
        bench.call(&Call::DescribeLoadBalancerAttributes { load_balancer: balancer.arn.clone() })
    else {
        panic!("no attributes")
    };
    for (key, value) in &desired.load_balancer.attributes {
        differ(key.clone(), attributes.get(key).cloned().unwrap_or_default(), value.clone());
    }
    let Ok(Reply::Listeners(listeners)) =
        bench.call(&Call::DescribeListeners(ListenerQuery::LoadBalancer(balancer.arn.clone())))
    else {
        panic!("no listeners")
    };
    let found: BTreeMap<u16, String> = listeners.iter().map(|l| (l.port, l.protocol.clone())).collect();
    let wanted: BTreeMap<u16, String> =
        desired.listeners.iter().map(|l| (l.port, l.protocol.as_str().to_owned())).collect();
    differ("listeners".to_owned(), format!("{found:?}"), format!("{wanted:?}"));
    for listener in &desired.listeners {
        let Some(found) = listeners.iter().find(|found| found.port == listener.port) else { continue };
        differ(
            format!("policy of {}", listener.port),
            format!("{:?}", found.ssl_policy),
            format!("{:?}", listener.ssl_policy),
        );
        let groups = found.forward.as_ref().map_or(0, |forward| forward.groups.len());
        differ(
            format!("groups of {}", listener.port),
            groups.to_string(),
            listener.default_actions.target_groups.len().to_string(),
        );
        let Ok(Reply::Tags(tags)) = bench.call(&Call::DescribeTags { resources: vec![found.arn.clone()] }) else {
            panic!("no tags")
        };
        differ(format!("tags of {}", listener.port), format!("{:?}", tags[&found.arn]), format!("{:?}", listener.tags));
    }
    for group in &desired.target_groups {
        wrong.extend(group_differences(bench, group));
    }
    for (one, what, limit) in [
        (bench.counts().load_balancers, "load balancers", 1),
        (bench.counts().target_groups, "target groups", desired.target_groups.len()),
        (bench.bindings.len(), "bindings", desired.bindings.len()),
    ] {
        if one != limit {
            wrong.push(format!("{one} {what}, not {limit}"));
        }
    }
    wrong
}

fn group_differences(bench: &mut Bench, group: &TargetGroup) -> Vec<String> {
    let mut wrong = Vec::new();
    let query = TargetGroupQuery::Arns(vec![group.target_group_arn.clone()]);
    let Ok(Reply::TargetGroups { target_groups, .. }) = bench.call(&Call::DescribeTargetGroups(query)) else {
        return vec![format!("there is no target group {}", group.spec.name)];
    };
    let found = &target_groups[0];
    let check = &group.spec.health_check;
    let checked = &found.health_check;
    let what = |field: &str| format!("{field} of {}", group.spec.resource);
    let mut differ = |what: String, found: String, wanted: String| {
        if found != wanted {
            wrong.push(format!("{what} is {found}, not {wanted}"));
        }
    };
    differ(what("protocol"), found.protocol.clone(), group.spec.protocol.as_str().to_owned());
    let family = serde_json::to_value(group.spec.ip_address_type).unwrap();
    differ(what("family"), found.ip_address_type.clone().unwrap_or_default(), family.as_str().unwrap().to_owned());
    differ(what("type"), found.target_type.clone(), group.spec.target_type.as_str().to_owned());
    differ(
        what("check"),
        checked.protocol.clone().unwrap_or_default(),
        check.health_check_protocol.as_str().to_owned(),
    );
    differ(what("check port"), checked.port.clone().unwrap_or_default(), check.health_check_port.clone());
    differ(
        what("interval"),
        checked.interval_seconds.unwrap_or_default().to_string(),
        check.health_check_interval_seconds.to_string(),
    );
    let Ok(Reply::Attributes(attributes)) =
        bench.call(&Call::DescribeTargetGroupAttributes { group: found.arn.clone() })
    else {
        panic!("no attributes")
    };
    for (key, value) in &group.spec.attributes {
        let found = attributes.get(key).cloned().unwrap_or_default();
        if found != *value {
            wrong.push(format!("{key} is {found}, not {value}"));
        }
    }
    wrong
}

#[test]
fn every_vector_applied_changed_and_removed_leaves_aws_as_the_model_says() {
    let (mut driven, mut refused, mut wrong) = (0, BTreeMap::new(), Vec::new());
    for vector in vectors::accepted().unwrap() {
        let mut bench = bench(&vector);
        let service = settled_in(&mut bench, &vector.service);
        let before = bench.counts();
        let plain = plain(&service);
        let stages = [("applied", &service), ("removed", &plain), ("changed", &service)];
        let mut reason = None;
        for (stage, service) in stages {
            let rest = put(&mut bench, service);
            let said = rest.problems.first().or(rest.waiting.first()).map(ToString::to_string);
            reason = reason.or(bench.refused.clone()).or(said);
            if reason.is_some() {
                break;
            }
            wrong.extend(differences(&mut bench).into_iter().map(|text| format!("{} {stage}: {text}", vector.name)));
            let audit = bench.audit();
            if !audit.is_empty() {
                let steps: Vec<_> = audit.steps.iter().map(ToString::to_string).collect();
                wrong.push(format!("{} {stage}: a second look wants {steps:?}", vector.name));
            }
        }
        match reason {
            Some(reason) if is_of_the_world(&reason) => _ = refused.insert(vector.name.clone(), reason),
            Some(reason) => wrong.push(format!("{}: {reason}", vector.name)),
            None => driven += 1,
        }
        bench.intent = Intent::Remove;
        bench.refused = None;
        bench.annotate("attributes", "deletion_protection.enabled=false");
        let _ = bench.stop();
        let rest = bench.run().expect("not stopped");
        if !rest.is_empty() || bench.counts() != before {
            wrong.push(format!("{}: left {rest:?} {:?} {:?}", vector.name, bench.counts(), bench.refused));
        }
    }
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    // Those that are left name subnets, addresses or attributes that the world has not got, or values that AWS does not take.
    assert!(driven >= 165, "{driven} were driven, and {} not: {refused:#?}", refused.len());
}
