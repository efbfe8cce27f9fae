//! Node ports: which address and port leads to which pods, as kube-proxy has it. Pure; [`super::forward`] serves it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort, ServiceSpec},
    discovery::v1::{Endpoint, EndpointSlice},
};

use super::machine::NodeInfo;

/// A family of addresses, in the words of `ipFamilies` and `addressType`.
const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";

/// What a node port does with connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// Leads to one of these pods.
    Pods {
        /// Addresses and ports of the pods, of the family of the node's address.
        backends: Vec<SocketAddr>,
        /// Whether the pod sees the client's own address (`externalTrafficPolicy: Local`).
        keep_client: bool,
    },
    /// Answers a load balancer's question whether this node has pods of the Service (`healthCheckNodePort`).
    Health {
        /// The Service, as `namespace/name`.
        service: (String, String),
        /// Pods on this node that can serve.
        local: usize,
    },
}

/// Every node port of every node: at its addresses of the Service's families, leading to pods' addresses of the same.
pub fn table<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: &[&EndpointSlice],
    nodes: &[NodeInfo],
) -> BTreeMap<SocketAddr, Forward> {
    let mut table = BTreeMap::new();
    for service in services {
        let (Some(spec), Some(name)) = (&service.spec, &service.metadata.name) else { continue };
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        for family in families(spec) {
            let own: Vec<_> = slices.iter().copied().filter(|s| belongs(s, namespace, name, family)).collect();
            for node in nodes {
                for address in node.addresses.all().filter(|address| family_of(address) == family) {
                    table.extend(ports_at(address, &node.name, spec, &own));
                    table.extend(health_port_at(address, &node.name, (namespace, name), spec, &own));
                }
            }
        }
    }
    table
}

/// The ports of a Service at an address of a node. `slices` are the Service's, of the address's family.
fn ports_at(
    address: IpAddr,
    node: &str,
    spec: &ServiceSpec,
    slices: &[&EndpointSlice],
) -> impl Iterator<Item = (SocketAddr, Forward)> {
    let local_only = is_local_only(spec);
    let tcp = spec.ports.iter().flatten().filter(|p| p.protocol.as_deref().is_none_or(|p| p == "TCP"));
    tcp.filter_map(move |port| {
        let backends = backends(slices, port, local_only.then_some(node));
        Some((socket(address, port.node_port)?, Forward::Pods { backends, keep_client: local_only }))
    })
}

/// Where a load balancer asks whether this node has pods of the Service. It has pods of one family at each address.
fn health_port_at(
    address: IpAddr,
    node: &str,
    (namespace, name): (&str, &str),
    spec: &ServiceSpec,
    slices: &[&EndpointSlice],
) -> Option<(SocketAddr, Forward)> {
    let at = socket(address, spec.health_check_node_port).filter(|_| is_local_only(spec))?;
    let backends = spec.ports.iter().flatten().flat_map(|port| backends(slices, port, Some(node)));
    let pods: BTreeSet<_> = backends.map(|b| b.ip()).collect();
    Some((at, Forward::Health { service: (namespace.to_owned(), name.to_owned()), local: pods.len() }))
}

fn is_local_only(spec: &ServiceSpec) -> bool {
    spec.external_traffic_policy.as_deref() == Some("Local")
}

/// The families of a Service, as the API names them. One that names none has IPv4.
fn families(spec: &ServiceSpec) -> Vec<&str> {
    match spec.ip_families.as_deref() {
        None | Some([]) => vec![IPV4],
        Some(families) => families.iter().map(String::as_str).collect(),
    }
}

fn family_of(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { IPV4 } else { IPV6 }
}

fn socket(address: IpAddr, port: Option<i32>) -> Option<SocketAddr> {
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0)?;
    Some(SocketAddr::new(address, port))
}

fn belongs(slice: &EndpointSlice, namespace: &str, service: &str, family: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    slice.address_type == family
        && slice.metadata.namespace.as_deref() == Some(namespace)
        && labels.and_then(|l| l.get("kubernetes.io/service-name")).is_some_and(|name| name == service)
}

/// The pods behind a port: those that are ready, or where none is, those that serve while they terminate.
fn backends(slices: &[&EndpointSlice], port: &ServicePort, node: Option<&str>) -> Vec<SocketAddr> {
    let named = |wanted: fn(&Endpoint) -> bool| -> Vec<SocketAddr> {
        let mut found = BTreeSet::new();
        for slice in slices {
            let target = slice
                .ports
                .iter()
                .flatten()
                .find(|p| p.name.as_deref().unwrap_or_default() == port.name.as_deref().unwrap_or_default());
            let Some(number) = target.and_then(|p| p.port).and_then(|p| u16::try_from(p).ok()) else { continue };
            let here = slice.endpoints.iter().filter(|e| node.is_none() || e.node_name.as_deref() == node);
            let addresses = here.filter(|e| wanted(e)).flat_map(|e| &e.addresses).filter_map(|a| a.parse().ok());
            found.extend(addresses.map(|address| SocketAddr::new(address, number)));
        }
        found.into_iter().collect()
    };
    let ready = named(|e| e.conditions.as_ref().is_none_or(|c| c.ready != Some(false)));
    if !ready.is_empty() {
        return ready;
    }
    named(|e| e.conditions.as_ref().is_some_and(|c| c.serving == Some(true) && c.terminating == Some(true)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::node::address::Addresses;

    fn nodes() -> Vec<NodeInfo> {
        let node = |n: u8| NodeInfo {
            name: format!("n{n}"),
            addresses: Addresses {
                v4: [192, 168, n, 10].into(),
                v6: Some([0x2001, 0xdb8, 0, n.into(), 0, 0, 0, 0x10].into()),
            },
            instance: String::new(),
            subnet: String::new(),
            zone: String::new(),
        };
        vec![node(1), node(2)]
    }

    fn service(policy: &str) -> Service {
        let service = json!({"metadata": {"namespace": "web", "name": "echo"}, "spec": {
            "type": "NodePort", "externalTrafficPolicy": policy, "healthCheckNodePort": 30999,
            "ports": [{"name": "http", "port": 80, "nodePort": 30080}],
        }});
        serde_json::from_value(service).expect("a service")
    }

    fn slice(endpoints: &[(&str, &str, Value)]) -> EndpointSlice {
        let endpoints: Vec<_> = endpoints
            .iter()
            .map(|(address, node, conditions)| json!({"addresses": [address], "nodeName": node, "conditions": conditions}))
            .collect();
        let slice = json!({
            "metadata": {"namespace": "web", "name": "echo-x", "labels": {"kubernetes.io/service-name": "echo"}},
            "addressType": "IPv4", "endpoints": endpoints, "ports": [{"name": "http", "port": 8080}],
        });
        serde_json::from_value(slice).expect("a slice")
    }

    fn backends_at(table: &BTreeMap<SocketAddr, Forward>, at: &str) -> Vec<String> {
        match &table[&at.parse().expect("an address")] {
            Forward::Pods { backends, .. } => backends.iter().map(ToString::to_string).collect(),
            Forward::Health { .. } => panic!("{at} is a health port"),
        }
    }

    #[test]
    fn cluster_policy_leads_to_all_ready_pods_from_every_node() {
        let slice = slice(&[
            ("192.168.1.20", "n1", json!({"ready": true})),
            ("192.168.2.20", "n2", json!({"ready": true})),
            ("192.168.2.21", "n2", json!({"ready": false, "serving": true, "terminating": true})),
        ]);
        let table = table([&service("Cluster")], &[&slice], &nodes());
        for node in ["192.168.1.10:30080", "192.168.2.10:30080"] {
            assert_eq!(backends_at(&table, node), ["192.168.1.20:8080", "192.168.2.20:8080"], "{node}");
        }
        assert_eq!(table.len(), 2, "no health port under policy Cluster");
    }

    #[test]
    fn service_is_reached_at_the_node_addresses_of_its_families_and_leads_to_pods_of_the_same_family() {
        let ready = || json!({"ready": true});
        let ipv4 = slice(&[("192.168.1.20", "n1", ready()), ("192.168.2.20", "n2", ready())]);
        let ipv6 = EndpointSlice {
            address_type: "IPv6".to_owned(),
            ..slice(&[("2001:db8:0:1::20", "n1", ready()), ("2001:db8:0:2::20", "n2", ready())])
        };
        let at_ipv4 = [
            ("192.168.1.10:30080", "192.168.1.20:8080 192.168.2.20:8080"),
            ("192.168.2.10:30080", "192.168.1.20:8080 192.168.2.20:8080"),
        ];
        let at_ipv6 = [
            ("[2001:db8:0:1::10]:30080", "[2001:db8:0:1::20]:8080 [2001:db8:0:2::20]:8080"),
            ("[2001:db8:0:2::10]:30080", "[2001:db8:0:1::20]:8080 [2001:db8:0:2::20]:8080"),
        ];
        let cases = [
            (json!(null), at_ipv4.to_vec()),
            (json!([]), at_ipv4.to_vec()),
            (json!(["IPv4"]), at_ipv4.to_vec()),
            (json!(["IPv6"]), at_ipv6.to_vec()),
            (json!(["IPv4", "IPv6"]), [at_ipv4, at_ipv6].concat()),
            (json!(["IPv6", "IPv4"]), [at_ipv4, at_ipv6].concat()),
        ];
        for (families, expected) in cases {
            let mut service = service("Cluster");
            service.spec.as_mut().expect("a spec").ip_families =
                serde_json::from_value(families.clone()).expect("a list");
            let table = table([&service], &[&ipv4, &ipv6], &nodes());
            let found: Vec<_> =
                table.keys().map(|at| (at.to_string(), backends_at(&table, &at.to_string()).join(" "))).collect();
            let found: Vec<_> = found.iter().map(|(at, pods)| (at.as_str(), pods.as_str())).collect();
            assert_eq!(found, expected, "{families}");
        }
    }

    #[test]
    fn health_port_of_an_address_counts_the_pods_of_its_family() {
        let mut service = service("Local");
        service.spec.as_mut().expect("a spec").ip_families = Some(vec![IPV4.to_owned(), IPV6.to_owned()]);
        let ipv4 = slice(&[("192.168.1.20", "n1", json!({"ready": true}))]);
        let ipv6 = EndpointSlice { address_type: IPV6.to_owned(), ..slice(&[]) };
        let table = table([&service], &[&ipv4, &ipv6], &nodes());
        for (node, count) in [("192.168.1.10:30999", 1), ("[2001:db8:0:1::10]:30999", 0)] {
            let Forward::Health { local, .. } = &table[&node.parse().expect("an address")] else { panic!("{node}") };
            assert_eq!(*local, count, "{node}");
        }
    }

    #[test]
    fn local_policy_leads_to_pods_of_the_node_only_and_its_health_port_counts_them() {
        let slice = slice(&[("192.168.1.20", "n1", json!({"ready": true}))]);
        let table = table([&service("Local")], &[&slice], &nodes());
        assert_eq!(backends_at(&table, "192.168.1.10:30080"), ["192.168.1.20:8080"]);
        assert_eq!(backends_at(&table, "192.168.2.10:30080"), [""; 0]);
        for (node, count) in [("192.168.1.10:30999", 1), ("192.168.2.10:30999", 0)] {
            let Forward::Health { local, .. } = &table[&node.parse().expect("an address")] else { panic!("{node}") };
            assert_eq!(*local, count, "{node}");
        }
    }

    #[test]
    fn pods_that_serve_while_terminating_are_used_only_where_no_other_is_ready() {
        let leaving = json!({"ready": false, "serving": true, "terminating": true});
        let dead = json!({"ready": false, "serving": false, "terminating": true});
        let slice = slice(&[("192.168.1.20", "n1", leaving), ("192.168.1.21", "n1", dead)]);
        let table = table([&service("Cluster")], &[&slice], &nodes());
        assert_eq!(backends_at(&table, "192.168.1.10:30080"), ["192.168.1.20:8080"]);
    }
}
