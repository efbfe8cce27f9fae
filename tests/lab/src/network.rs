//! The lab's own network and file system: what has to be set up inside the namespaces before anything runs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::{
    mount::{MountFlags, mount, mount_bind},
    process::{Resource, Rlimit, getrlimit, setrlimit},
};
use world::World;

use crate::prerequisites;

/// Where the lab keeps its files: a file system in memory that only the lab sees.
pub const STATE: &str = "/run/lab";

/// What could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mount, a file or a setting.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The `ip` program refused.
    #[error("ip {arguments}: {said}")]
    Ip {
        /// Its arguments.
        arguments: String,
        /// What it wrote.
        said: String,
    },
}

/// Settings of the network namespace: file below `/proc/sys/net` and value.
///
/// All addresses share one machine, so a connection's two ends meet in one table: ports that wait out their last
/// minute must be usable again at once, or each pair of addresses ends at 470 connections a second. Ports that servers
/// bind (node ports, the node's own API) are never picked for the client's end.
const SETTINGS: &[(&str, &str)] = &[
    ("ipv4/tcp_tw_reuse", "1"),
    ("ipv4/ip_local_port_range", "10240 65535"),
    ("ipv4/ip_local_reserved_ports", "10250,30000-32767"),
    ("ipv4/tcp_max_syn_backlog", "16384"),
    ("core/somaxconn", "16384"),
];

/// Makes every address of the world local, so that any pod's address can be bound and reached.
pub fn set_up(world: &World) -> Result<(), Error> {
    let (host, vpc, clients) = (world.infrastructure.host, world.vpc.cidr, world.clients);
    ip(&format!("link set lo up\naddress add {host}/32 dev lo\n"))?;
    // `src`: a client that binds no address has the host's, not the one that it connects to.
    ip(&format!("route add local {vpc} dev lo src {host}\nroute add local {clients} dev lo\n"))?;
    for (name, value) in SETTINGS {
        let path = Path::new("/proc/sys/net").join(name);
        fs::write(&path, value).map_err(failed("write", &path))?;
    }
    Ok(())
}

/// Gives the lab a `/run` of its own in memory, and a `resolv.conf` that names the lab's DNS server.
pub fn mount_state(world: &World) -> Result<(), Error> {
    let run = Path::new("/run");
    mount("lab", run, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=755")
        .map_err(|e| failed("mount a file system in memory on", run)(e.into()))?;
    let state = Path::new(STATE);
    fs::create_dir_all(state).map_err(failed("create", state))?;
    let ours = state.join("resolv.conf");
    let text = format!("nameserver {}\noptions timeout:2 attempts:2\n", world.infrastructure.dns);
    fs::write(&ours, &text).map_err(failed("write", &ours))?;
    let resolv = Path::new("/etc/resolv.conf");
    // Where it is a link into /run (systemd-resolved), its target is gone with the machine's /run and is made anew.
    if let Ok(target) = fs::read_link(resolv)
        && !resolv.exists()
    {
        let target = Path::new("/etc").join(target);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed("create", parent))?;
        }
        return fs::write(&target, text).map_err(failed("write", &target));
    }
    if resolv.exists() {
        mount_bind(&ours, resolv).map_err(|e| failed("mount the lab's own", resolv)(e.into()))?;
    }
    Ok(())
}

/// Lets this process and its children open as many files as the machine allows.
pub fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    // Refused is no reason to stop: only very large tests need more than the usual limit.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

fn ip(batch: &str) -> Result<(), Error> {
    let error = |said: String| Error::Ip { arguments: batch.trim().replace('\n', "; "), said };
    let program = prerequisites::find("ip").ok_or_else(|| error("not installed".to_owned()))?;
    for line in batch.lines() {
        let output = Command::new(&program)
            .args(line.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .map_err(|e| error(e.to_string()))?;
        if !output.status.success() {
            return Err(error(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
    }
    Ok(())
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::File { action, path: path.to_owned(), source }
}
