//! The registrar as a process of the scenario, outside of any pod: its memory, its processor time, and its end.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::process::{Child, Command};

use crate::{run, within};

/// The unit of processor time in `/proc`.
const TICKS: f64 = 100.0;

/// How registrars are started.
#[derive(Debug, Clone)]
pub struct Replicas {
    /// The program.
    pub program: PathBuf,
    /// Where their logs go.
    pub directory: PathBuf,
    /// Flags beside those that all have.
    pub arguments: Vec<String>,
}

/// A running registrar, killed with this value.
#[derive(Debug)]
pub struct Replica {
    /// Its name, as in the lease.
    pub name: String,
    /// Where it is asked for `/readyz` and `/metrics`.
    pub admin: String,
    child: Child,
}

impl Replicas {
    /// Starts one with a number of its own.
    pub fn start(&self, number: u16) -> Result<Replica> {
        let name = format!("replica-{number}");
        let admin = format!("127.0.0.1:{}", 18_080 + number);
        let log = self.directory.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(&log).with_context(|| log.display().to_string())?;
        let child = Command::new(&self.program)
            .args(["--cluster-name=lab", "--aws-vpc-id=vpc-0a1b2c3d4e5f60718", "--leader-election-namespace=default"])
            .args([format!("--pod-name={name}"), format!("--admin-listen={admin}")])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.program.display()))?;
        Ok(Replica { name, admin, child })
    }
}

impl Replica {
    /// Waits until it has seen the cluster.
    pub async fn ready(&self, limit: Duration) -> Result<()> {
        let url = format!("http://{}/readyz", self.admin);
        within(limit, &format!("{} is ready", self.name), || async {
            run("curl", &["-sS", "--fail", "--max-time", "5", &url], "").await.map(Some)
        })
        .await
        .map(drop)
    }

    fn id(&self) -> Result<u32> {
        self.child.id().with_context(|| format!("{} has ended", self.name))
    }

    /// Sends a signal, by its name without SIG.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        run("kill", &[&format!("-{signal}"), &self.id()?.to_string()], "").await.map(drop)
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> Result<()> {
        self.child.wait().await.map(drop).with_context(|| format!("wait for {}", self.name))
    }

    /// Resident memory in MiB.
    pub fn memory(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("resident memory")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
    }

    /// Processor time so far, in seconds.
    pub fn cpu(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()?))?;
        let fields = stat.rsplit_once(')').context("fields")?.1.split_whitespace().skip(11).take(2);
        let ticks = fields.map(str::parse::<f64>).sum::<Result<f64, _>>()?;
        Ok(ticks / TICKS)
    }
}

/// The registrar that `.ci/bench` has built, unless `REGISTRAR` names another program.
pub fn program() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench/bin/registrar");
    std::env::var_os("REGISTRAR").map_or(built, PathBuf::from)
}
