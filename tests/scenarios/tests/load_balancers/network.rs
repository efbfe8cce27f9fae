//! What the model of a Service alone does not tell: ids of subnets and security groups that it names or leaves to be found.

use nlb::service::spec::{LoadBalancerSpec, Named, SecurityGroups};
use serde_json::{Value, json};

/// Puts the ids into a model. A load balancer that was put somewhere stays there unless its Service names subnets.
pub(crate) fn fill(model: &mut Value, spec: &LoadBalancerSpec, state: &Value, placed: Option<&Value>) {
    let balancer = &mut model["loadBalancer"];
    if let Some(placed) = placed.filter(|_| spec.subnets.is_none()) {
        balancer["SubnetMappings"] = placed.clone();
        // Unlike others, these are given up with the annotation.
        for mapping in balancer["SubnetMappings"].as_array_mut().into_iter().flatten() {
            for (key, _) in of_ipv6(spec) {
                mapping[key].take();
            }
        }
        return fill_groups(balancer, spec, state);
    }
    let subnets = spec.subnets.as_ref().map_or_else(
        || discovered(balancer["SubnetDiscovery"].as_str(), state),
        |named| ids(named, &state["subnets"], |tags| tags),
    );
    let addresses = |given: &[String], key: &str, n: usize| given.get(n).map(|id| (key.to_owned(), id.clone().into()));
    let mapping = |(n, id): (usize, String)| {
        let mut mapping = serde_json::Map::from_iter([("SubnetId".to_owned(), id.into())]);
        mapping.extend(addresses(&spec.eip_allocations, "AllocationId", n));
        mapping.extend(addresses(&spec.private_ipv4_addresses, "PrivateIPv4Address", n));
        mapping.extend(of_ipv6(spec).into_iter().filter_map(|(key, given)| addresses(given, key, n)));
        Value::Object(mapping)
    };
    balancer["SubnetMappings"] = subnets.into_iter().enumerate().map(mapping).collect();
    fill_groups(balancer, spec, state);
}

fn of_ipv6(spec: &LoadBalancerSpec) -> [(&'static str, &[String]); 2] {
    [("IPv6Address", &spec.ipv6_addresses), ("SourceNatIpv6Prefix", &spec.source_nat_ipv6_prefixes)]
}

fn fill_groups(balancer: &mut Value, spec: &LoadBalancerSpec, state: &Value) {
    if let SecurityGroups::Given { groups, manage_backend_rules } = &spec.security_groups {
        let mut groups = ids(groups, &state["securityGroups"], |group| &group["Tags"]);
        groups.extend(manage_backend_rules.then(|| "$backend-sg".to_owned()));
        balancer["SecurityGroups"] = json!(groups);
    }
}

/// The ids of what is named by id or by its tag `Name`, in order, each once.
fn ids(named: &[Named], all: &Value, tags: impl Fn(&Value) -> &Value) -> Vec<String> {
    let mut ids = Vec::new();
    for named in named {
        let found: Vec<String> = match named {
            Named::Id(id) => vec![id.clone()],
            Named::Name(name) => {
                let all = all.as_object().into_iter().flatten();
                all.filter(|(_, found)| tags(found)["Name"] == name.as_str()).map(|(id, _)| id.clone()).collect()
            }
        };
        for id in found {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    ids
}

/// The subnets with a role, by id.
fn discovered(role: Option<&str>, state: &Value) -> Vec<String> {
    let Some(role) = role else { return Vec::new() };
    let all = state["subnets"].as_object().into_iter().flatten();
    let mut ids: Vec<String> = all.filter(|(_, tags)| !tags[role].is_null()).map(|(id, _)| id.clone()).collect();
    ids.sort();
    ids
}
