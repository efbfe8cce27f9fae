//! Node ports: which address and port leads to which pods, as kube-proxy has it. Pure; [`super::forward`] serves it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddrV4},
};

use k8s_openapi::api::{
    core::v1::{Service, ServicePort},
    discovery::v1::{Endpoint, EndpointSlice},
};

use super::machine::NodeInfo;

/// What a node port does with connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// Leads to one of these pods.
    Pods {
        /// Addresses and ports of the pods.
        backends: Vec<SocketAddrV4>,
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

/// Every node port of every node.
pub fn table<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    slices: &[&EndpointSlice],
    nodes: &[NodeInfo],
) -> BTreeMap<SocketAddrV4, Forward> {
    let mut table = BTreeMap::new();
    for service in services {
        let (Some(spec), Some(name)) = (&service.spec, &service.metadata.name) else { continue };
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let own: Vec<_> = slices.iter().copied().filter(|slice| belongs(slice, namespace, name)).collect();
        let local_only = spec.external_traffic_policy.as_deref() == Some("Local");
        for node in nodes {
            for port in spec.ports.iter().flatten().filter(|p| p.protocol.as_deref().is_none_or(|p| p == "TCP")) {
                if let Some(at) = socket(node.addresses.v4, port.node_port) {
                    let backends = backends(&own, port, local_only.then_some(node.name.as_str()));
                    table.insert(at, Forward::Pods { backends, keep_client: local_only });
                }
            }
            if let Some(at) = socket(node.addresses.v4, spec.health_check_node_port).filter(|_| local_only) {
                let ports = spec.ports.iter().flatten();
                let pods: BTreeSet<_> =
                    ports.flat_map(|port| backends(&own, port, Some(&node.name))).map(|b| *b.ip()).collect();
                let service = (namespace.to_owned(), name.clone());
                table.insert(at, Forward::Health { service, local: pods.len() });
            }
        }
    }
    table
}

fn socket(address: Ipv4Addr, port: Option<i32>) -> Option<SocketAddrV4> {
    let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0)?;
    Some(SocketAddrV4::new(address, port))
}

fn belongs(slice: &EndpointSlice, namespace: &str, service: &str) -> bool {
    let labels = slice.metadata.labels.as_ref();
    slice.address_type == "IPv4"
        && slice.metadata.namespace.as_deref() == Some(namespace)
        && labels.and_then(|l| l.get("kubernetes.io/service-name")).is_some_and(|name| name == service)
}

/// The pods behind a port: those that are ready, or where none is, those that serve while they terminate.
fn backends(slices: &[&EndpointSlice], port: &ServicePort, node: Option<&str>) -> Vec<SocketAddrV4> {
    let named = |wanted: fn(&Endpoint) -> bool| -> Vec<SocketAddrV4> {
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
            found.extend(addresses.map(|address| SocketAddrV4::new(address, number)));
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
            addresses: Addresses { v4: Ipv4Addr::new(192, 168, n, 10), v6: None },
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

    fn backends_at(table: &BTreeMap<SocketAddrV4, Forward>, at: &str) -> Vec<String> {
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
