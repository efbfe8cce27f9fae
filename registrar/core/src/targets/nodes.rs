//! Which nodes are targets.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{
    brake::Reason,
    pods::Reading,
    spot::{Owner, Spot, Wanted},
};
use crate::cluster::{Cluster, GateStatus, NodeRecord, ServicePort, ServiceRecord};

/// Labels whose presence keeps a node out.
const EXCLUDED: [&str; 4] = [
    "node-role.kubernetes.io/master",
    "node-role.kubernetes.io/control-plane",
    "node.kubernetes.io/exclude-from-external-load-balancers",
    "alpha.service-controller.kubernetes.io/exclude-balancer",
];
/// Taints of nodes that are about to go: key, and the effect if only one counts.
const LEAVING: [(&str, Option<&str>); 8] = [
    ("ToBeDeletedByClusterAutoscaler", None),
    ("karpenter.sh/disrupted", Some("NoSchedule")),
    ("karpenter.sh/disruption", Some("NoSchedule")),
    ("aws-node-termination-handler/spot-itn", None),
    ("aws-node-termination-handler/asg-lifecycle-termination", None),
    ("aws-node-termination-handler/scheduled-maintenance", None),
    ("node.cloudprovider.kubernetes.io/shutdown", None),
    ("node.kubernetes.io/out-of-service", None),
];

/// Why a node is no target, if it is none whatever its state.
fn exclusion(node: &NodeRecord, selector: Option<&LabelSelector>) -> Option<&'static str> {
    let labels = &node.labels;
    if EXCLUDED.iter().any(|label| labels.contains_key(*label)) {
        return Some("a label excludes it");
    }
    if node.is_fargate() {
        return Some("it is no instance");
    }
    if selector.is_some_and(|selector| !selects(selector, node)) {
        return Some("spec.nodeSelector does not select it");
    }
    None
}

/// Why a node is about to go, if it is.
fn leaving(node: &NodeRecord) -> Option<String> {
    if node.meta.deleting {
        return Some("is being deleted".to_owned());
    }
    let taint = node
        .taints
        .iter()
        .find(|(key, effect)| LEAVING.iter().any(|(name, only)| key == name && only.is_none_or(|only| only == effect)));
    taint.map(|(key, _)| format!("has the taint {key}"))
}

fn selects(selector: &LabelSelector, node: &NodeRecord) -> bool {
    let labels = &node.labels;
    let exact = selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value));
    exact
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let listed = value.is_some_and(|value| expression.values.iter().flatten().any(|one| one == value));
            match expression.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Reads the nodes. Cordoned nodes leave, since they are about to be drained, which is quicker than a load balancer. If no
/// other is ready they stay; if none is ready at all, those that the control plane has lost sight of count: the load
/// balancer's own checks know better.
///
/// With `only_with_endpoints` (`externalTrafficPolicy: Local`, on request) nodes without a ready endpoint are left out.
pub fn read(
    service: &ServiceRecord,
    port: &ServicePort,
    selector: Option<&LabelSelector>,
    only_with_endpoints: bool,
    cluster: &Cluster,
) -> Reading {
    let mut reading = Reading::default();
    let Some(node_port) = port.node_port else { return reading };
    let with_endpoints: BTreeSet<&str> = cluster
        .slices_of(&service.meta.key)
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| endpoint.ready && !endpoint.terminating)
        .filter_map(|endpoint| endpoint.node.as_deref())
        .collect();
    let candidates = cluster.nodes.iter().filter(|node| {
        exclusion(node, selector).is_none()
            && leaving(node).is_none()
            && (!only_with_endpoints || with_endpoints.contains(&*node.meta.key.name))
    });
    let candidates: Vec<&NodeRecord> = candidates.collect();
    let rank = |node: &NodeRecord| match (node.ready, node.cordoned) {
        (GateStatus::True, false) => 0,
        (GateStatus::True, true) => 1,
        (GateStatus::Unknown, _) => 2,
        (GateStatus::False, _) => 3,
    };
    // A node without an instance harms nobody but itself.
    let best = candidates.iter().filter(|node| node.instance.is_some()).map(|node| rank(node)).min();
    let best = best.filter(|rank| *rank < 3);
    let wanted = |node: &&NodeRecord| if node.instance.is_some() { Some(rank(node)) == best } else { rank(node) == 0 };
    for node in candidates.into_iter().filter(wanted) {
        let Some(instance) = &node.instance else {
            reading
                .left_out
                .insert(node.meta.key.clone(), super::pods::LeftOut::Unproven("its providerID names no instance"));
            continue;
        };
        let spot = Spot { id: instance.as_str().into(), port: node_port };
        let owner = Owner { key: node.meta.key.clone(), uid: node.meta.uid.clone(), gated: false };
        reading
            .wanted
            .insert(spot, Wanted { owner, contested: false, unproven: false, zone: None, quic_server_id: None });
    }
    reading
}

/// Why an instance leaves.
pub(super) fn reason(spot: &Spot, cluster: &Cluster) -> Reason {
    let node = cluster.nodes.iter().find(|node| node.instance.as_deref() == Some(&*spot.id));
    match node {
        None => Reason::NotReady(format!("no node is instance {}", spot.id)),
        Some(node) => match leaving(node) {
            Some(how) => Reason::Proven(format!("node {} {how}", node.meta.key.name)),
            None if node.cordoned => Reason::NotReady(format!("node {} is cordoned", node.meta.key.name)),
            None => Reason::NotReady(format!("node {} is no target for {spot}", node.meta.key.name)),
        },
    }
}
