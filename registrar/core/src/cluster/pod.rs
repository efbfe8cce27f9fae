//! Pods.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use k8s_openapi::api::core::v1::{Container, Pod, PodCondition};
use nlb::readiness_gate::{INJECT_LABEL, ReadinessGate, is_legacy};

use super::{Meta, created};

/// The annotation of pods that have a network interface of their own.
const POD_INTERFACE: &str = "vpc.amazonaws.com/pod-eni";

/// A pod.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct PodRecord {
    /// Identity.
    pub meta: Meta,
    /// `status.podIPs`.
    pub addresses: Vec<IpAddr>,
    /// Whether it shares its node's address.
    pub host_network: bool,
    /// Whether it has a network interface, and with it security groups, of its own: where pods have them the VPC's
    /// resource controller annotates them with it.
    pub own_interface: bool,
    /// Whether it has succeeded or failed, or its kubelet is ending it because the node shuts down. None of these is ever
    /// undone.
    pub finished: bool,
    /// Condition `ContainersReady`.
    pub containers_ready: bool,
    /// Condition `Ready`.
    pub ready: bool,
    /// Our readiness gates with what their conditions say.
    pub gates: Vec<GateRecord>,
    /// Whether a readiness gate of somebody else is not true.
    pub held_by_foreign_gate: bool,
    /// `elbv2.k8s.aws/pod-readiness-gate-inject: disabled` on the pod.
    pub gates_declined: bool,
    /// Node.
    pub node: Option<Arc<str>>,
    /// QUIC server ids by container port; port 0 stands for any.
    pub quic_server_ids: BTreeMap<u16, String>,
    /// Creation, seconds since the Unix epoch; said in messages, never decided by.
    pub created: i64,
}

/// One of our readiness gates on a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateRecord {
    /// Name of the binding.
    pub binding: Arc<str>,
    /// What its condition says; nothing if there is none yet.
    pub condition: Option<GateCondition>,
}

/// What a gate's condition says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateCondition {
    /// Status.
    pub status: GateStatus,
    /// `reason`, for example `Elb.InitialHealthChecking`.
    pub reason: String,
    /// `message`.
    pub message: String,
}

/// Status of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateStatus {
    /// Open.
    True,
    /// Closed.
    False,
    /// Not known, which closes it as well.
    Unknown,
}

impl GateStatus {
    /// Reads what the API writes.
    pub fn of(text: &str) -> Self {
        match text {
            "True" => Self::True,
            "False" => Self::False,
            _ => Self::Unknown,
        }
    }

    /// As the API writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl PodRecord {
    /// Reads a pod; nothing if it has no name or UID. `quic_variable` is the environment variable of a container that
    /// holds its QUIC server id.
    pub fn of(pod: &Pod, quic_variable: &str) -> Option<Self> {
        let meta = Meta::of(&pod.metadata)?;
        let (spec, status) = (pod.spec.as_ref(), pod.status.as_ref());
        let conditions = || status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
        let condition = |name: &str| conditions().find(|condition| condition.type_ == name);
        let is_true = |name: &str| condition(name).is_some_and(|condition| condition.status == "True");
        let mut gates = Vec::new();
        let mut held_by_foreign_gate = false;
        for gate in spec.and_then(|spec| spec.readiness_gates.as_ref()).into_iter().flatten() {
            match ReadinessGate::parse(&gate.condition_type) {
                Some(ours) => {
                    let condition = condition(&gate.condition_type).map(GateCondition::of);
                    gates.push(GateRecord { binding: ours.binding().into(), condition });
                }
                None if is_legacy(&gate.condition_type) => {}
                None => held_by_foreign_gate |= !is_true(&gate.condition_type),
            }
        }
        let phase = status.and_then(|status| status.phase.as_deref());
        let ended_with_node = condition("DisruptionTarget").is_some_and(|condition| {
            condition.status == "True" && condition.reason.as_deref() == Some("TerminationByKubelet")
        });
        let addresses = status.and_then(|status| status.pod_ips.as_ref()).into_iter().flatten();
        let containers = spec.map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let declined = pod.metadata.labels.as_ref().and_then(|labels| labels.get(INJECT_LABEL));
        Some(Self {
            addresses: addresses.filter_map(|address| address.ip.parse().ok()).collect(),
            own_interface: pod.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(POD_INTERFACE)),
            host_network: spec.is_some_and(|spec| spec.host_network == Some(true)),
            finished: matches!(phase, Some("Succeeded" | "Failed")) || ended_with_node,
            containers_ready: is_true("ContainersReady"),
            ready: is_true("Ready"),
            gates,
            held_by_foreign_gate,
            gates_declined: declined.is_some_and(|value| value == "disabled"),
            node: spec.and_then(|spec| spec.node_name.as_deref()).map(Into::into),
            quic_server_ids: quic_server_ids(containers, quic_variable),
            created: created(&pod.metadata),
            meta,
        })
    }

    /// Our gate for the binding of this name.
    pub fn gate(&self, binding: &str) -> Option<&GateRecord> {
        self.gates.iter().find(|gate| *gate.binding == *binding)
    }

    /// Whether it is on its way out or gone.
    pub fn is_leaving(&self) -> bool {
        self.meta.deleting || self.finished
    }
}

impl GateRecord {
    /// Whether it is open, and by health: then it has no reason.
    pub fn is_open_by_health(&self) -> bool {
        self.condition.as_ref().is_some_and(|gate| gate.status == GateStatus::True && gate.reason.is_empty())
    }
}

impl GateCondition {
    fn of(condition: &PodCondition) -> Self {
        Self {
            status: GateStatus::of(&condition.status),
            reason: condition.reason.clone().unwrap_or_default(),
            message: condition.message.clone().unwrap_or_default(),
        }
    }
}

/// The server id of each container that has one, by its ports and by port 0 for the first.
fn quic_server_ids(containers: &[Container], variable: &str) -> BTreeMap<u16, String> {
    let mut ids = BTreeMap::new();
    for container in containers {
        let value = container.env.iter().flatten().find(|env| env.name == variable).and_then(|env| env.value.as_ref());
        let Some(id) = value.and_then(|value| hexadecimal(value)) else { continue };
        for port in container.ports.iter().flatten() {
            if let Ok(port) = u16::try_from(port.container_port) {
                ids.entry(port).or_insert_with(|| id.clone());
            }
        }
        ids.entry(0).or_insert(id);
    }
    ids
}

/// `0x` and the hexadecimal digits of eight bytes that are written in base 64, which is how pods are told their server id.
fn hexadecimal(base64: &str) -> Option<String> {
    let mut bits = 0_u32;
    let mut held = 0_u128;
    for character in base64.trim_end_matches('=').bytes() {
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits += 6;
        if bits > 66 {
            return None;
        }
        held = (held << 6) | u128::from(value);
    }
    // Eleven characters make eight bytes and two bits that are nothing.
    (bits == 66).then(|| format!("0x{:016x}", held >> 2))
}
