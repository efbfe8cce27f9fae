//! The nodes' own objects: registered once, then kept alive by their leases.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::machine::NodeInfo;
use crate::controlplane::NODE_PORT;

/// As the kubelet's: a node is given up after 40 s without a renewal.
const RENEWAL: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
const LEASES: &str = "kube-node-lease";
/// More pods than any subnet of the world has addresses for.
const PODS: &str = "250";

/// A node could not be registered.
#[derive(Debug, thiserror::Error)]
#[error("register node {node}: {source}")]
pub struct Error {
    node: String,
    source: Box<kube::Error>,
}

/// Creates a node's object and its first lease.
pub async fn register(client: &Client, node: &NodeInfo, region: &str) -> Result<(), Error> {
    let failed = |source| Error { node: node.name.clone(), source: Box::new(source) };
    let object: Node = serde_json::from_value(object(node, region, Timestamp::now()))
        .map_err(|e| failed(kube::Error::SerdeError(e)))?;
    Api::<Node>::all(client.clone()).create(&PostParams::default(), &object).await.map_err(failed)?;
    renew(client, node).await.map_err(failed)
}

/// Renews the nodes' leases until `stop`. A renewal that fails is tried again with the next one.
pub async fn heartbeat(client: Client, nodes: Vec<Arc<NodeInfo>>, stop: CancellationToken) {
    let mut ticks = interval(RENEWAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        for node in &nodes {
            if let Err(error) = renew(&client, node).await {
                tracing::warn!(node = node.name, %error, "lease not renewed");
            }
        }
    }
}

async fn renew(client: &Client, node: &NodeInfo) -> Result<(), kube::Error> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": node.name},
        "spec": {
            "holderIdentity": node.name,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        },
    });
    leases.patch(&node.name, &PatchParams::apply("lab-node").force(), &Patch::Apply(lease)).await.map(drop)
}

/// The node as the API shows it. It makes no promises about memory and processors that anybody would have to keep.
fn object(node: &NodeInfo, region: &str, now: Timestamp) -> serde_json::Value {
    // The API server fetches logs at the first of these, where the node's own API is.
    let internal = node.addresses.all().map(|address| json!({"type": "InternalIP", "address": address.to_string()}));
    let named =
        [json!({"type": "Hostname", "address": node.name}), json!({"type": "InternalDNS", "address": node.name})];
    let addresses: Vec<_> = internal.chain(named).collect();
    let condition = |type_: &str, status: &str, reason: &str| {
        json!({"type": type_, "status": status, "reason": reason, "message": "",
               "lastHeartbeatTime": now.to_string(), "lastTransitionTime": now.to_string()})
    };
    let resources = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "100Gi", "pods": PODS});
    json!({
        "metadata": {
            "name": node.name,
            "labels": {
                "kubernetes.io/hostname": node.name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "node.kubernetes.io/instance-type": "lab",
                "topology.kubernetes.io/region": region,
                "topology.kubernetes.io/zone": node.zone,
            },
        },
        "spec": {"providerID": format!("aws:///{}/{}", node.zone, node.instance)},
        "status": {
            "addresses": addresses,
            "capacity": resources,
            "allocatable": resources,
            "conditions": [
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"),
                condition("Ready", "True", "KubeletReady"),
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": NODE_PORT}},
            "nodeInfo": {
                "machineID": node.instance,
                "systemUUID": node.instance,
                "bootID": node.instance,
                "kernelVersion": "lab",
                "osImage": "lab",
                "containerRuntimeVersion": concat!("lab://", env!("CARGO_PKG_VERSION")),
                "kubeletVersion": "v1.36.3",
                "kubeProxyVersion": "",
                "operatingSystem": "linux",
                "architecture": "amd64",
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::address::Addresses;

    fn node(v6: Option<&str>) -> Node {
        let v6 = v6.map(|text| text.parse().expect("an address"));
        let info = NodeInfo {
            name: "n1".to_owned(),
            addresses: Addresses { v4: [192, 168, 11, 10].into(), v6 },
            instance: "i-1".to_owned(),
            subnet: "subnet-1".to_owned(),
            zone: "ap-northeast-2a".to_owned(),
        };
        serde_json::from_value(object(&info, "ap-northeast-2", Timestamp::UNIX_EPOCH)).expect("a node")
    }

    #[test]
    fn internal_ips_are_the_ipv4_address_and_after_it_the_ipv6_address_if_there_is_one() {
        let cases = [(None, vec!["192.168.11.10"]), (Some("2001:db8::a"), vec!["192.168.11.10", "2001:db8::a"])];
        for (v6, expected) in cases {
            let addresses = node(v6).status.expect("a status").addresses.expect("addresses");
            let internal = addresses.iter().filter(|a| a.type_ == "InternalIP").map(|a| a.address.as_str());
            assert_eq!(internal.collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn object_is_a_node_with_provider_id_zone_and_ready() {
        let node = node(None);
        let spec = node.spec.expect("a spec");
        assert_eq!(spec.provider_id.as_deref(), Some("aws:///ap-northeast-2a/i-1"));
        let status = node.status.expect("a status");
        let ready = status.conditions.into_iter().flatten().find(|c| c.type_ == "Ready").expect("a condition");
        assert_eq!(ready.status, "True");
        assert_eq!(status.daemon_endpoints.and_then(|d| d.kubelet_endpoint).map(|e| e.port), Some(10250));
    }
}
