//! How long nobody writes: when the leader is told to go, when it is killed, and when the API server is killed and comes
//! back while pods come and go.
//!
//! Run in a lab without nodes: see the part `failover` of `figures`. The API server that is killed is a second one, on the
//! data of the first; the registrars ask that one only.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use figures::record;
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use scenarios::{
    fleet::Fleet,
    replica::{Replica, Replicas, program},
    run,
    target_group::{Emulator, is_write},
    within,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, interval, sleep},
};

use crate::calls::{registered, settled};

const BINDINGS: usize = 20;
const PODS: usize = 5;
/// Bounds a failure.
const PATIENCE: Duration = Duration::from_mins(2);
/// The second API server's port, in place of 6443.
const PORT: &str = "6444";
/// How often a pod comes or goes while the API server is away.
const CHURN: Duration = Duration::from_millis(200);
/// How many of those pods there are at a time.
const LIVING: usize = 10;

pub(crate) async fn measure() -> Result<()> {
    let emulator = Emulator::new()?;
    let directory = std::env::temp_dir().join(format!("sluice-failover-{}", std::process::id()));
    std::fs::create_dir_all(&directory)?;
    let mut server = ApiServer::start(&directory)?;
    server.ready().await?;
    let arguments = vec![format!("--kubeconfig={}", server.kubeconfig.display())];
    let replicas = Replicas { program: program(), directory: directory.clone(), arguments };

    println!("{BINDINGS} target groups, {} pods", BINDINGS * PODS);
    let mut fleet = Fleet::begin(BINDINGS).await?;
    fleet.target_groups(BINDINGS).await?;
    let all = fleet.pods_of_each(BINDINGS, PODS, true).await?;
    let late = fleet.pods(0, 2, true, false).await?;
    fleet.bindings().await?;
    let mut pair = vec![replicas.start(0)?, replicas.start(1)?];
    within(PATIENCE, "all gates are open", || async { Ok((fleet.open_gates().await? >= all.len()).then_some(())) })
        .await?;
    fleet.set_ready(&all).await?;

    for (number, (figure, signal, place)) in
        (2..).zip([("failover.sigterm", "TERM", late[0]), ("failover.sigkill", "KILL", late[1])])
    {
        for replica in &pair {
            replica.ready(PATIENCE).await?;
        }
        let mut leader = take_leader(&fleet, &mut pair).await?;
        settled(&emulator, 100, PATIENCE).await?;
        println!("SIG{signal} to {}", leader.name);
        let before = emulator.last().await?;
        let told = Instant::now();
        leader.signal(signal).await?;
        fleet.set_containers_ready(place, true).await?;
        registered(&emulator, before, place, PATIENCE).await?;
        record(figure, told.elapsed().as_secs_f64())?;
        leader.ended().await?;
        pair.push(replicas.start(number)?);
    }

    for replica in &pair {
        replica.ready(PATIENCE).await?;
    }
    settled(&emulator, 100, PATIENCE).await?;
    println!("SIGKILL to the API server, which is started again at once");
    let restarted = async {
        sleep(Duration::from_secs(2)).await;
        server.kill().await?;
        let killed = Instant::now();
        server = ApiServer::start(&directory)?;
        server.ready().await?;
        println!("  it answers after {:.1} s", killed.elapsed().as_secs_f64());
        // What was on its way when the API server went does not count.
        let (before, answered) = (emulator.last().await?, Instant::now());
        within(PATIENCE, "a write", || async { Ok(emulator.calls(before).await?.iter().any(is_write).then_some(())) })
            .await?;
        record("failover.apiserver", answered.elapsed().as_secs_f64())?;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = churn(&mut fleet) => ended?,
        measured = restarted => measured?,
    }
    // What is measured is of use only if nothing was harmed.
    let removed = emulator.calls(0).await?;
    let removed = removed.iter().filter(|call| call["action"] == "DeregisterTargets").map(ToString::to_string);
    let removed: Vec<_> = removed.collect();
    let harmed = all.iter().find(|place| removed.iter().any(|call| call.contains(&format!("\"{}\"", place.address()))));
    ensure!(harmed.is_none(), "{harmed:?} was deregistered although it was ready");
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

/// The replica that leads, taken out of the others.
async fn take_leader(fleet: &Fleet, pair: &mut Vec<Replica>) -> Result<Replica> {
    let leases: Api<Lease> = Api::namespaced(fleet.client.clone(), "default");
    let place = within(PATIENCE, "one of the two leads", || async {
        let spec = leases.get("sluice-registrar").await?.spec;
        let holder = spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        Ok(pair.iter().position(|replica| holder.starts_with(&format!("{}_", replica.name))))
    })
    .await?;
    Ok(pair.remove(place))
}

/// Makes pods and deletes them a while later, in all Services by turns, without end.
async fn churn(fleet: &mut Fleet) -> Result<()> {
    let (mut ticks, mut living) = (interval(CHURN), VecDeque::new());
    for service in (0..BINDINGS).cycle() {
        ticks.tick().await;
        living.extend(fleet.pods(service, 1, true, true).await?);
        if living.len() > LIVING
            && let Some(oldest) = living.pop_front()
        {
            fleet.delete(oldest).await?;
        }
    }
    Ok(())
}

/// A second API server.
struct ApiServer {
    child: Child,
    kubeconfig: PathBuf,
}

impl ApiServer {
    /// One with the arguments of the lab's own, on another port.
    fn start(directory: &Path) -> Result<Self> {
        let own = std::env::var("KUBECONFIG").context("the lab's kubeconfig")?;
        let kubeconfig = directory.join("kubeconfig");
        std::fs::write(&kubeconfig, std::fs::read_to_string(own)?.replace(":6443", &format!(":{PORT}")))?;
        let mut arguments = lab_api_server()?.into_iter();
        let program = arguments.next().context("a program")?;
        let log = std::fs::File::options().create(true).append(true).open(directory.join("kube-apiserver.log"))?;
        let child = Command::new(program)
            .args(arguments.filter(|argument| !argument.starts_with("--audit-")))
            .arg(format!("--secure-port={PORT}"))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("start a second API server")?;
        Ok(Self { child, kubeconfig })
    }

    async fn ready(&self) -> Result<()> {
        let kubeconfig = format!("--kubeconfig={}", self.kubeconfig.display());
        within(PATIENCE, "the second API server is ready", || async {
            run("kubectl", &[&kubeconfig, "get", "--raw", "/readyz"], "").await.map(Some)
        })
        .await
        .map(drop)
    }

    /// Ends it at once, by SIGKILL.
    async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("kill the second API server")
    }
}

/// The command line of the lab's API server.
fn lab_api_server() -> Result<Vec<String>> {
    for entry in std::fs::read_dir("/proc")? {
        let line = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        let line: Vec<_> =
            line.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect();
        let is_program = line.first().is_some_and(|program| program.ends_with("/kube-apiserver"));
        if is_program && line.iter().any(|argument| argument == "--secure-port=6443") {
            return Ok(line.into_iter().filter(|argument| !argument.is_empty()).collect());
        }
    }
    anyhow::bail!("no process is the lab's API server")
}
