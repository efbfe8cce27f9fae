//! Pods over time, from what the API said of them.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use serde::Serialize;

/// What matters of a pod at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodView {
    /// Its identity.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its address, once it has one.
    pub address: Option<String>,
    /// Whether its containers are ready.
    pub containers_ready: bool,
    /// Whether it is ready.
    pub ready: bool,
    /// Whether every readiness gate is open; `None` if it has none.
    pub gate: Option<bool>,
    /// Whether it is being deleted.
    pub leaving: bool,
}

impl PodView {
    /// Of an object.
    pub fn of(pod: &Pod) -> Self {
        let status = pod.status.as_ref();
        let conditions: Vec<_> = status.iter().flat_map(|s| s.conditions.iter().flatten()).collect();
        let holds = |type_: &str| conditions.iter().any(|c| c.type_ == type_ && c.status == "True");
        let gates: Vec<_> = pod.spec.iter().flat_map(|s| s.readiness_gates.iter().flatten()).collect();
        Self {
            uid: pod.uid().unwrap_or_default(),
            name: pod.name_any(),
            address: status.and_then(|s| s.pod_ip.clone()),
            containers_ready: holds("ContainersReady"),
            ready: holds("Ready"),
            gate: (!gates.is_empty()).then(|| gates.iter().all(|gate| holds(&gate.condition_type))),
            leaving: pod.metadata.deletion_timestamp.is_some(),
        }
    }
}

/// A pod over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodLine {
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: Option<String>,
    /// When it was seen first.
    pub from: f64,
    /// When its containers were ready first.
    pub containers_ready: Option<f64>,
    /// When it was ready first.
    pub ready: Option<f64>,
    /// When its readiness gates opened first; `None` too if it has none.
    pub gate_opened: Option<f64>,
    /// Whether it has readiness gates.
    pub gated: bool,
    /// When its deletion began.
    pub leaving: Option<f64>,
    /// When it was gone.
    pub gone: Option<f64>,
}

impl PodLine {
    pub(super) fn shift(&mut self, by: f64) {
        self.from += by;
        for time in
            [&mut self.containers_ready, &mut self.ready, &mut self.gate_opened, &mut self.leaving, &mut self.gone]
        {
            *time = time.map(|t| t + by);
        }
    }
}

/// The lines of all pods so far.
#[derive(Debug, Default)]
pub struct Pods {
    lines: Vec<PodLine>,
    by_uid: HashMap<String, usize>,
}

impl Pods {
    /// Takes in what a pod is at a time.
    pub fn see(&mut self, at: f64, pod: PodView) {
        let index = *self.by_uid.entry(pod.uid).or_insert(self.lines.len());
        if index == self.lines.len() {
            self.lines.push(PodLine {
                name: pod.name,
                address: None,
                from: at,
                containers_ready: None,
                ready: None,
                gate_opened: None,
                gated: pod.gate.is_some(),
                leaving: None,
                gone: None,
            });
        }
        let line = &mut self.lines[index];
        line.address = line.address.take().or(pod.address);
        for (time, holds) in [
            (&mut line.containers_ready, pod.containers_ready),
            (&mut line.ready, pod.ready),
            (&mut line.gate_opened, pod.gate == Some(true)),
            (&mut line.leaving, pod.leaving),
        ] {
            if holds {
                time.get_or_insert(at);
            }
        }
    }

    /// Takes in that a pod is gone.
    pub fn gone(&mut self, at: f64, uid: &str) {
        if let Some(line) = self.by_uid.get(uid).and_then(|index| self.lines.get_mut(*index)) {
            line.gone.get_or_insert(at);
        }
    }

    /// All lines.
    pub fn finish(self) -> Vec<PodLine> {
        self.lines
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(conditions: &[(&str, &str)], deleted: bool) -> PodView {
        let conditions: Vec<_> = conditions.iter().map(|(t, s)| json!({"type": t, "status": s})).collect();
        let mut pod = json!({
            "metadata": {"name": "echo-1", "uid": "u1"},
            "spec": {"containers": [], "readinessGates": [{"conditionType": "target-health.elbv2.k8s.aws/a"}]},
            "status": {"podIP": "192.168.1.7", "conditions": conditions},
        });
        if deleted {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        PodView::of(&serde_json::from_value(pod).expect("a pod"))
    }

    #[test]
    fn line_has_the_first_time_of_each_thing_that_happens_to_a_pod() {
        let gate = "target-health.elbv2.k8s.aws/a";
        let mut pods = Pods::default();
        pods.see(1.0, pod(&[], false));
        pods.see(2.0, pod(&[("ContainersReady", "True")], false));
        pods.see(3.0, pod(&[("ContainersReady", "True"), (gate, "False")], false));
        pods.see(4.0, pod(&[("ContainersReady", "True"), (gate, "True")], false));
        pods.see(5.0, pod(&[("ContainersReady", "True"), (gate, "True"), ("Ready", "True")], false));
        pods.see(6.0, pod(&[("ContainersReady", "True"), (gate, "True"), ("Ready", "True")], true));
        pods.see(7.0, pod(&[(gate, "False")], true));
        pods.gone(8.0, "u1");
        pods.gone(9.0, "never seen");
        let lines = pods.finish();
        assert_eq!(
            lines,
            [PodLine {
                name: "echo-1".to_owned(),
                address: Some("192.168.1.7".to_owned()),
                from: 1.0,
                containers_ready: Some(2.0),
                ready: Some(5.0),
                gate_opened: Some(4.0),
                gated: true,
                leaving: Some(6.0),
                gone: Some(8.0),
            }]
        );
    }
}
