//! The registrar when its leader goes, is killed, or does not hear from the API server. These tests disturb what all of them
//! use, so that one waits for the other.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Pod};
use kube::{Api, ResourceExt as _, api::ListParams};
use scenarios::{Scenario, address, eventually, run};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant, sleep},
};

use scenarios::target_group::{Emulator, TargetGroup, called};

const OURS: &str = "sluice-system";
/// Longer than a leader goes on without an answer, shorter than the others wait for it.
const FREEZE: Duration = Duration::from_secs(12);

async fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

/// The leader, once there are two replicas that are ready.
async fn replicas(lab: &Scenario) -> Result<Pod> {
    eventually("two replicas, one of which leads", || async {
        let pods: Api<Pod> = Api::namespaced(lab.client.clone(), OURS);
        let pods = pods.list(&ListParams::default().labels("app.kubernetes.io/name=sluice-registrar")).await?.items;
        let ready = pods.iter().filter(|pod| scenarios::is_ready(pod) && pod.metadata.deletion_timestamp.is_none());
        let ready: Vec<_> = ready.collect();
        let holder = holder(lab).await?;
        let leader = ready.iter().find(|pod| holder.starts_with(&format!("{}_", pod.name_any())));
        Ok(leader.filter(|_| ready.len() == 2).map(|leader| (*leader).clone()))
    })
    .await
}

async fn holder(lab: &Scenario) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(lab.client.clone(), OURS);
    let lease = leases.get("sluice-registrar").await?;
    Ok(lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default())
}

/// The id of the process whose command line contains this.
fn process(wanted: &str) -> Result<String> {
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(wanted) && !line.contains("container ") {
            return Ok(entry.file_name().to_string_lossy().into_owned());
        }
    }
    anyhow::bail!("no process has {wanted}")
}

/// A bound target group with pods.
async fn begin(test: &str, pods: usize) -> Result<(Scenario, TargetGroup)> {
    let lab = Scenario::begin(test, &[]).await?;
    let group = TargetGroup::create(&lab).await?;
    group.bind(&lab).await?;
    for number in 0..pods {
        lab.apply(&pod(number)).await?;
    }
    for pod in lab.ready_pods("app=web", pods).await? {
        group.reaches(&address(&pod), "healthy").await?;
    }
    Ok((lab, group))
}

fn pod(number: usize) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{ name: web-{number}, labels: {{ app: web }} }}\n\
         spec: {{ containers: [{{ name: echo, image: echo, ports: [{{ containerPort: 8080 }}] }}] }}\n"
    )
}

async fn end(lab: Scenario, group: TargetGroup) -> Result<()> {
    lab.kubectl(&["delete", "targetgroupbinding", "--all", "--timeout=60s"]).await?;
    lab.end().await?;
    group.delete().await
}

/// Makes a pod that only a new leader can register, and waits until it has. Returns who has registered it.
async fn taken_over(lab: &Scenario, emulator: &Emulator, before: u64) -> Result<String> {
    lab.apply(&pod(9)).await?;
    let pod = lab.pod_when("web-9", "it has an address", |pod| !address(pod).is_empty()).await?;
    let registered = called(emulator, before, "RegisterTargets", &address(&pod)).await?;
    Ok(registered["who"].as_str().unwrap_or_default().to_owned())
}

async fn nothing_was_removed(emulator: &Emulator, before: u64, group: &TargetGroup) -> Result<()> {
    let calls = emulator.log(before, "api", &group.arn).await?;
    let removals: Vec<_> = calls.iter().filter(|call| call["action"] == "DeregisterTargets").collect();
    ensure!(removals.is_empty(), "{removals:?}");
    Ok(())
}

#[tokio::test]
async fn leader_that_is_told_to_go_hands_over_and_no_target_is_removed() -> Result<()> {
    let _alone = alone().await;
    let emulator = Emulator::new()?;
    let (lab, group) = begin("handover", 2).await?;
    let leader = replicas(&lab).await?;
    let before = emulator.last().await?;
    let told = Instant::now();
    let pods: Api<Pod> = Api::namespaced(lab.client.clone(), OURS);
    pods.delete(&leader.name_any(), &kube::api::DeleteParams::default()).await?;
    eventually("the other one leads", || async {
        let holder = holder(&lab).await?;
        Ok((!holder.is_empty() && !holder.starts_with(&format!("{}_", leader.name_any()))).then_some(()))
    })
    .await?;
    println!("handed over {:.1} s after SIGTERM", told.elapsed().as_secs_f64());
    taken_over(&lab, &emulator, before).await?;
    println!(
        "first write of the next leader {:.1} s after SIGTERM, with the start of a pod",
        told.elapsed().as_secs_f64()
    );
    nothing_was_removed(&emulator, before, &group).await?;
    end(lab, group).await
}

#[tokio::test]
async fn leader_that_is_killed_is_replaced_and_no_target_is_removed() -> Result<()> {
    let _alone = alone().await;
    let emulator = Emulator::new()?;
    let (lab, group) = begin("killed", 2).await?;
    let leader = replicas(&lab).await?;
    let was = holder(&lab).await?;
    let before = emulator.last().await?;
    let killed = Instant::now();
    run("kill", &["-KILL", &process(&format!("--admin-listen={}:8080", address(&leader)))?], "").await?;
    lab.apply(&pod(8)).await?;
    let waiting = lab.pod_when("web-8", "it has an address", |pod| !address(pod).is_empty()).await?;
    eventually("another one leads", || async {
        let holder = holder(&lab).await?;
        Ok((!holder.is_empty() && holder != was).then_some(()))
    })
    .await?;
    called(&emulator, before, "RegisterTargets", &address(&waiting)).await?;
    println!("first write of the next leader {:.1} s after SIGKILL", killed.elapsed().as_secs_f64());
    nothing_was_removed(&emulator, before, &group).await?;
    end(lab, group).await
}

#[tokio::test]
async fn silent_api_server_ends_the_leadership_and_nothing_else() -> Result<()> {
    let _alone = alone().await;
    let emulator = Emulator::new()?;
    let (lab, group) = begin("silent", 2).await?;
    replicas(&lab).await?;
    let before = emulator.last().await?;
    let api = process("kube-apiserver ")?;
    run("kill", &["-STOP", &api], "").await?;
    // Not a wait for something to happen: nothing may.
    sleep(FREEZE).await;
    let meanwhile = emulator.log(before, "api", &group.arn).await;
    run("kill", &["-CONT", &api], "").await?;
    let heard = Instant::now();
    let meanwhile = meanwhile?;
    let writes: Vec<_> = meanwhile.iter().filter(|call| call["action"] != "DescribeTargetHealth").collect();
    ensure!(writes.is_empty(), "{writes:?}");
    taken_over(&lab, &emulator, before).await.context("it goes on")?;
    println!(
        "first write {:.1} s after the API server answers again, with the start of a pod",
        heard.elapsed().as_secs_f64()
    );
    nothing_was_removed(&emulator, before, &group).await?;
    end(lab, group).await
}
