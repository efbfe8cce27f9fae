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

/// Where the kernel keeps its settings of IPv6, if it has IPv6.
const IPV6: &str = "/proc/sys/net/ipv6";

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

/// The same for a world with IPv6. A new namespace may inherit that IPv6 is off; and unlike those of IPv4, addresses that
/// only a route makes local are not bound without leave.
const IPV6_SETTINGS: &[(&str, &str)] = &[("ipv6/conf/all/disable_ipv6", "0"), ("ipv6/ip_nonlocal_bind", "1")];

/// The world as this machine can have it: without IPv6 where its kernel has none, which is then said on standard error.
pub fn possible(world: World) -> World {
    let (world, note) = adapted(world, Path::new(IPV6).exists());
    if let Some(note) = note {
        eprintln!("lab: {note}");
    }
    world
}

/// A world for a kernel with or without IPv6, and what there is to be said about it.
fn adapted(world: World, kernel_has_ipv6: bool) -> (World, Option<&'static str>) {
    if kernel_has_ipv6 || !has_ipv6(&world) {
        return (world, None);
    }
    (world.without_ipv6(), Some("this machine's kernel has no IPv6, so the world is one without IPv6 blocks"))
}

fn has_ipv6(world: &World) -> bool {
    world.vpc.ipv6.is_some() || world.ipv6_clients.is_some()
}

/// Makes every address of the world local, so that any pod's address can be bound and reached.
pub fn set_up(world: &World) -> Result<(), Error> {
    let ipv6 = if has_ipv6(world) { IPV6_SETTINGS } else { &[] };
    for (name, value) in SETTINGS.iter().chain(ipv6) {
        let path = Path::new("/proc/sys/net").join(name);
        fs::write(&path, value).map_err(failed("write", &path))?;
    }
    commands(world).iter().try_for_each(|command| ip(command))
}

/// What `ip` has to do, in order.
fn commands(world: &World) -> Vec<String> {
    let (host, vpc, clients) = (world.infrastructure.host, world.vpc.cidr, world.clients);
    let mut commands = vec![
        "link set lo up".to_owned(),
        format!("address add {host}/32 dev lo"),
        // `src`: a client that binds no address has the host's, not the one that it connects to.
        format!("route add local {vpc} dev lo src {host}"),
        format!("route add local {clients} dev lo"),
    ];
    if let Some((vpc, host)) = world.vpc.ipv6.zip(world.ipv6_of(host)) {
        commands.extend([
            // `nodad`: at once, without asking first whether somebody else has it.
            format!("-6 address add {host}/128 dev lo nodad"),
            format!("-6 route add local {vpc} dev lo src {host}"),
        ]);
    }
    commands.extend(world.ipv6_clients.map(|clients| format!("-6 route add local {clients} dev lo")));
    commands
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

fn ip(command: &str) -> Result<(), Error> {
    let error = |said: String| Error::Ip { arguments: command.to_owned(), said };
    let program = prerequisites::find("ip").ok_or_else(|| error("not installed".to_owned()))?;
    let output = Command::new(&program)
        .args(command.split_whitespace())
        .stdin(Stdio::null())
        .output()
        .map_err(|e| error(e.to_string()))?;
    if !output.status.success() {
        return Err(error(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(())
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::File { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World::parse(world::DEFAULT).expect("the shipped world is valid")
    }

    #[test]
    fn world_loses_its_ipv6_only_where_the_kernel_has_none_and_the_user_is_told() {
        let without = || world().without_ipv6();
        let cases = [
            ("IPv6 in both", world(), true, world(), false),
            ("IPv6 in the world alone", world(), false, without(), true),
            ("IPv6 in the kernel alone", without(), true, without(), false),
            ("no IPv6 at all", without(), false, without(), false),
        ];
        for (name, given, kernel_has_ipv6, expected, told) in cases {
            let (adapted, note) = adapted(given, kernel_has_ipv6);
            assert_eq!(adapted, expected, "{name}");
            assert_eq!(note.is_some(), told, "{name}");
        }
    }

    #[test]
    fn every_block_of_the_world_is_made_local_with_the_host_as_its_clients_address() {
        let ipv4 = [
            "link set lo up",
            "address add 192.168.0.10/32 dev lo",
            "route add local 192.168.0.0/16 dev lo src 192.168.0.10",
            "route add local 203.0.113.0/24 dev lo",
        ];
        let ipv6 = [
            "-6 address add 2001:db8:0:1a00::c0a8:a/128 dev lo nodad",
            "-6 route add local 2001:db8:0:1a00::/56 dev lo src 2001:db8:0:1a00::c0a8:a",
            "-6 route add local 2001:db8:ffff::/64 dev lo",
        ];
        assert_eq!(commands(&world()), [&ipv4[..], &ipv6].concat());
        assert_eq!(commands(&world().without_ipv6()), ipv4);
    }
}
