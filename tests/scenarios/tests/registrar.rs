//! Bindings, served by the registrar as its manifests install it: real pods, the webhook's gates, the emulator's own health
//! checks.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::{Api, ResourceExt as _};
use nlb::targetgroupbinding::TargetGroupBinding;
use scenarios::{Scenario, address, condition, eventually, is_ready};
use serde_json::Value;

use scenarios::target_group::{Emulator, TargetGroup, called};

const GATE: &str = "target-health.elbv2.k8s.aws/web";

/// A namespace whose pods get gates, with a target group that is bound to its Service `web`, and `replicas` pods.
async fn begin(test: &str, replicas: usize) -> Result<(Scenario, TargetGroup)> {
    let lab = Scenario::begin(test, &[("elbv2.k8s.aws/pod-readiness-gate-inject", "enabled")]).await?;
    let group = TargetGroup::create(&lab).await?;
    group.bind(&lab).await?;
    // The webhook has heard of the binding when a pod that is only tried gets its gate.
    let tried = "apiVersion: v1\nkind: Pod\nmetadata: { name: tried, labels: { app: web } }\nspec: { containers: [{ name: echo, image: echo }] }\n";
    eventually("the webhook knows the binding", || async {
        let made = lab.kubectl_with(&["create", "--dry-run=server", "-o", "yaml", "-f", "-"], tried).await?;
        Ok(made.contains(GATE).then_some(()))
    })
    .await?;
    lab.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web }}\nspec:\n  replicas: {replicas}\n  \
         selector: {{ matchLabels: {{ app: web }} }}\n  template:\n    metadata: {{ labels: {{ app: web }} }}\n    \
         spec: {{ containers: [{{ name: echo, image: echo, ports: [{{ containerPort: 8080 }}] }}] }}\n"
    ))
    .await?;
    Ok((lab, group))
}

async fn end(lab: Scenario, group: TargetGroup) -> Result<()> {
    lab.kubectl(&["delete", "targetgroupbinding", "--all", "--timeout=60s"]).await?;
    lab.end().await?;
    group.delete().await
}

fn gate(pod: &Pod) -> Option<&PodCondition> {
    condition(pod, GATE)
}

fn is_open(pod: &Pod) -> bool {
    gate(pod).is_some_and(|gate| gate.status == "True")
}

/// A condition of the binding: status, reason and message.
async fn said(lab: &Scenario, name: &str) -> Result<(String, String, String)> {
    let binding: TargetGroupBinding = lab.api().get("web").await?;
    let conditions = binding.status.and_then(|status| status.conditions).unwrap_or_default();
    let found = conditions.into_iter().find(|condition| condition.type_ == name);
    Ok(found.map(|found| (found.status, found.reason, found.message)).unwrap_or_default())
}

fn at(entry: &Value) -> f64 {
    entry["at"].as_f64().unwrap_or_default()
}

#[tokio::test]
async fn gates_open_only_after_the_load_balancers_own_check_has_passed() -> Result<()> {
    let emulator = Emulator::new()?;
    let before = emulator.last().await?;
    let (lab, group) = begin("opening", 2).await?;
    // While the load balancer has not said that a target is healthy, its gate is not open: looked at in this order, because
    // what was not healthy after the pod was read was not healthy before.
    let mut open = 0;
    while open < 2 {
        let pods = lab.pods("app=web").await?;
        let opened: Vec<_> = pods.iter().filter(|pod| is_open(pod)).collect();
        for pod in &opened {
            let entries = emulator.log(before, "target", &address(pod)).await?;
            let healthy = entries.iter().any(|entry| entry["to"] == "healthy");
            ensure!(healthy, "the gate of {} is open, and its target was never healthy: {entries:?}", pod.name_any());
        }
        open = opened.len();
    }
    let pods = lab.ready_pods("app=web", 2).await?;
    for pod in &pods {
        let gate = gate(pod).context("the gate")?;
        ensure!(gate.reason.as_deref().unwrap_or_default().is_empty(), "{gate:?}");
    }
    let ready = eventually("the binding says 2/2", || async {
        Ok(Some(said(&lab, "Ready").await?).filter(|(status, _, message)| status == "True" && message == "2/2"))
    })
    .await?;
    ensure!(ready.0 == "True", "{ready:?}");
    end(lab, group).await
}

#[tokio::test]
async fn pod_that_leaves_is_deregistered_at_once_and_the_others_stay_as_they_are() -> Result<()> {
    let emulator = Emulator::new()?;
    let (lab, group) = begin("leaving", 2).await?;
    let pods = lab.ready_pods("app=web", 2).await?;
    let before = emulator.last().await?;
    lab.kubectl(&["scale", "deployment/web", "--replicas=1"]).await?;
    // The first word of the end is the deletion timestamp; seen here, it was written before.
    let (leaving, seen) = eventually("a pod is being deleted", || async {
        let now = lab.pods("app=web").await?;
        let gone = pods.iter().find(|pod| {
            now.iter()
                .find(|other| other.uid() == pod.uid())
                .is_none_or(|now| now.metadata.deletion_timestamp.is_some())
        });
        Ok(match gone {
            Some(pod) => Some((pod.clone(), emulator.now().await?)),
            None => None,
        })
    })
    .await?;
    let deregistered = called(&emulator, before, "DeregisterTargets", &address(&leaving)).await?;
    println!("DeregisterTargets {:.0} ms after the deletion was seen", (at(&deregistered) - seen) * 1000.0);
    group.reaches(&address(&leaving), "draining").await?;
    let staying = pods.iter().find(|pod| pod.uid() != leaving.uid()).context("the other pod")?;
    let now = lab.pod(&staying.name_any()).await?;
    ensure!(gate(&now) == gate(staying), "untouched: {:?}, then {:?}", gate(staying), gate(&now));
    let calls = emulator.log(before, "api", &address(staying)).await?;
    ensure!(calls.is_empty(), "nothing was asked about {}: {calls:?}", address(staying));

    lab.kubectl(&["scale", "deployment/web", "--replicas=3"]).await?;
    let pods = lab.ready_pods("app=web", 3).await?;
    ensure!(pods.iter().all(is_open), "all gates are open");
    end(lab, group).await
}

#[tokio::test]
async fn gate_closes_while_a_pod_fails_the_check_and_opens_when_it_recovers() -> Result<()> {
    let emulator = Emulator::new()?;
    let (lab, group) = begin("failing", 3).await?;
    let pods = lab.ready_pods("app=web", 3).await?;
    let sick = &pods[0];
    emulator.unreachable(&address(sick), true).await?;
    let closed = lab
        .pod_when(&sick.name_any(), "its gate closes", |pod| gate(pod).is_some_and(|gate| gate.status == "False"))
        .await?;
    let reason = gate(&closed).and_then(|gate| gate.reason.clone()).unwrap_or_default();
    ensure!(reason.starts_with("Target."), "as AWS says it: {reason}");
    lab.pod_when(&sick.name_any(), "it is not ready", |pod| !is_ready(pod)).await?;
    for other in &pods[1..] {
        ensure!(is_open(&lab.pod(&other.name_any()).await?), "{} is not concerned", other.name_any());
    }
    emulator.unreachable(&address(sick), false).await?;
    lab.pod_when(&sick.name_any(), "its gate opens", is_open).await?;
    lab.ready_pods("app=web", 3).await?;
    end(lab, group).await
}

#[tokio::test]
async fn when_all_targets_fail_at_once_gates_stay_open_and_the_binding_says_so() -> Result<()> {
    let emulator = Emulator::new()?;
    let (lab, group) = begin("all-failing", 3).await?;
    let pods = lab.ready_pods("app=web", 3).await?;
    for pod in &pods {
        emulator.unreachable(&address(pod), true).await?;
    }
    for pod in &pods {
        group.reaches(&address(pod), "unhealthy").await?;
    }
    eventually("the binding says FailOpen", || async {
        for name in ["Healthy", "Ready"] {
            let (status, reason, message) = said(&lab, name).await?;
            if reason == "FailOpen" || message.contains("FailOpen") {
                return Ok(Some((status, reason, message)));
            }
        }
        Ok(None)
    })
    .await?;
    for pod in &pods {
        emulator.unreachable(&address(pod), false).await?;
    }
    for pod in &pods {
        group.reaches(&address(pod), "healthy").await?;
    }
    lab.ready_pods("app=web", 3).await?;
    end(lab, group).await
}

#[tokio::test]
async fn deleted_binding_takes_its_targets_along_releases_the_gates_and_goes() -> Result<()> {
    let emulator = Emulator::new()?;
    let (lab, group) = begin("unbinding", 3).await?;
    let pods = lab.ready_pods("app=web", 3).await?;
    // One whose gate is closed, when nobody is left to open it.
    emulator.unreachable(&address(&pods[0]), true).await?;
    lab.pod_when(&pods[0].name_any(), "its gate closes", |pod| !is_open(pod)).await?;
    lab.kubectl(&["delete", "targetgroupbinding", "web", "--timeout=60s"]).await?;
    let bindings: Api<TargetGroupBinding> = lab.api();
    ensure!(bindings.get_opt("web").await?.is_none(), "its finalizer is gone, and it with that");
    let left = group.states().await?;
    ensure!(left.iter().all(|(_, state)| state == "draining"), "no target is left: {left:?}");
    ensure!(lab.pods("app=web").await?.iter().all(is_open), "gates are open");
    emulator.unreachable(&address(&pods[0]), false).await?;
    end(lab, group).await
}
