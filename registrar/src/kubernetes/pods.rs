//! Pods and endpoints, by reads that no cache answers, and the conditions of readiness gates.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::{core::v1::Pod, discovery::v1::EndpointSlice},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use registrar_core::{
    cluster::{GateCondition, GateStatus, Key, PodRecord, SliceRecord, Uid},
    event::{Answer, Denial},
};
use serde_json::json;

use super::{Cluster, MANAGER, denial};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const PAGE: u32 = 500;

impl Cluster {
    pub(super) async fn list_endpoints(&self, service: &Key) -> Result<Answer, Denial> {
        let of_service = ListParams::default().labels(&format!("{SERVICE_NAME}={}", service.name));
        let listed = self.api::<EndpointSlice>(service).list(&of_service).await.map_err(denial)?;
        let slices: Vec<_> = listed.iter().filter_map(SliceRecord::of).collect();
        let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
        let named: BTreeSet<_> = endpoints.filter_map(|endpoint| Some(&*endpoint.pod.as_ref()?.0)).collect();
        let pods = if named.is_empty() { Vec::new() } else { self.named_pods(&self.api(service), &named).await? };
        Ok(Answer::Endpoints { slices, pods })
    }

    pub(super) async fn patch_gate(
        &self,
        pod: &Key,
        uid: &Uid,
        condition_type: &str,
        condition: &GateCondition,
        moves: bool,
    ) -> Result<Answer, Denial> {
        let mut written = json!({
            "type": condition_type,
            "status": condition.status.as_str(),
            "reason": condition.reason,
            "message": condition.message,
        });
        let now = Timestamp::now();
        if moves {
            written["lastTransitionTime"] = json!(Time(now));
        }
        // Conditions are merged by type, so that those of others stay.
        let patch = json!({"metadata": {"uid": &*uid.0}, "status": {"conditions": [written]}});
        let parameters = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patched = self.api::<Pod>(pod).patch_status(&pod.name, &parameters, &Patch::Strategic(&patch)).await;
        let patched = patched.map_err(denial)?;
        if moves && condition.status == GateStatus::True {
            self.observe_opened(pod, condition_type, &patched, now);
        }
        Ok(Answer::Done)
    }

    /// How long the pod has waited for this gate since its containers were ready.
    fn observe_opened(&self, pod: &Key, condition_type: &str, patched: &Pod, now: Timestamp) {
        let conditions = patched.status.as_ref().and_then(|status| status.conditions.as_ref());
        let ready = conditions.into_iter().flatten().find(|condition| condition.type_ == "ContainersReady");
        if let Some(since) = ready.and_then(|condition| condition.last_transition_time.as_ref())
            && let Some((_, binding)) = condition_type.split_once('/')
        {
            let seconds = now.duration_since(since.0).as_secs_f64().max(0.0);
            self.metrics.gate_opened(&pod.namespace, binding, seconds);
        }
    }

    /// The pods of these names, of a namespace. By pages, all of one view.
    async fn named_pods(&self, api: &Api<Pod>, named: &BTreeSet<&str>) -> Result<Vec<PodRecord>, Denial> {
        let mut found = Vec::new();
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let listed = api.list(&page).await.map_err(denial)?;
            let is_named = |pod: &&Pod| pod.metadata.name.as_deref().is_some_and(|name| named.contains(name));
            let quic_variable = &self.settings.quic_variable;
            found.extend(listed.items.iter().filter(is_named).filter_map(|pod| PodRecord::of(pod, quic_variable)));
            match listed.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return Ok(found),
            }
        }
    }
}
