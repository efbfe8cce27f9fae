//! A container that is a process of this machine, in a mount namespace and a file system of its own.
//!
//! `unshare` makes the mount namespace and runs this program again as `lab container SPEC`, which mounts what [`Spec`]
//! says, changes its root and becomes the container's program, so the process that is signalled is the program itself.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr},
    fs, io,
    os::unix::{
        fs::symlink,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use rustix::{
    mount::{MountFlags, mount, mount_bind, mount_bind_recursive, mount_remount},
    process::{Pid, Signal, chroot, kill_process, kill_process_group},
};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::Command,
    task::JoinSet,
    time::timeout,
};

use super::{echo::Stop, logs::Log, status::Exit};
use crate::prerequisites;

/// Directories of this machine that every container sees: what programs and their interpreters are made of.
const SHARED: &[&str] =
    &["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix", "/proc", "/sys", "/dev"];
/// Files and directories of `/etc` that every container sees.
const SHARED_ETC: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "group",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "passwd",
    "pki",
    "resolv.conf",
    "ssl",
];
/// How long the rest of a process's output may take to arrive after its end.
const LAST_OUTPUT: Duration = Duration::from_secs(1);

/// What a container is made of.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// An empty directory that becomes the container's root.
    pub root: PathBuf,
    /// A program of this machine that the container sees under the same path, and under its file name in `/`.
    pub program: PathBuf,
    /// Command and arguments.
    pub command: Vec<String>,
    /// Its whole environment.
    pub environment: BTreeMap<String, String>,
    /// Working directory.
    pub directory: PathBuf,
    /// Content of `/etc/hosts`.
    pub hosts: String,
    /// Volumes.
    pub mounts: Vec<Mount>,
}

/// A volume in a container.
#[derive(Debug, Serialize, Deserialize)]
pub struct Mount {
    /// Directory or file on this machine.
    pub source: PathBuf,
    /// Where the container sees it.
    pub target: PathBuf,
    /// Whether it can only read it.
    pub read_only: bool,
}

/// Why a container did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mount or a file.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The spec is not readable.
    #[error("container spec {path}: {source}")]
    Spec {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A mount path that is shared with this machine.
    #[error("mountPath {0} lies inside a directory that is shared with this machine: choose one outside of {SHARED:?}")]
    SharedTarget(PathBuf),
    /// There is nothing to run.
    #[error("the container has no command")]
    NoCommand,
    /// The command could not be started.
    #[error("run {command}: {source}")]
    Exec {
        /// The command.
        command: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs a container until it ends or is told to.
pub async fn run(spec: &Spec, stop: Stop, log: Arc<Log>) -> Exit {
    let mut output = JoinSet::new();
    let exit = match supervise(spec, &stop, &log, &mut output).await {
        Ok(status) => exit_of(status),
        Err(e) => {
            log.write(Timestamp::now(), e.to_string());
            Exit { code: 128, reason: "StartError".to_owned(), message: e.to_string() }
        }
    };
    // A child of the process may hold the pipe open for as long as it likes.
    let _ = timeout(LAST_OUTPUT, async { while output.join_next().await.is_some() {} }).await;
    exit
}

async fn supervise(spec: &Spec, stop: &Stop, log: &Arc<Log>, output: &mut JoinSet<()>) -> Result<ExitStatus, Error> {
    let path = spec.root.with_extension("json");
    let text = serde_json::to_vec(spec).map_err(|source| Error::Spec { path: path.clone(), source })?;
    fs::create_dir_all(&spec.root).map_err(failed("create", &spec.root))?;
    fs::write(&path, text).map_err(failed("write", &path))?;
    let unshare = prerequisites::find("unshare").unwrap_or_else(|| PathBuf::from("unshare"));
    let lab = std::env::current_exe().map_err(failed("find the file of", Path::new("lab")))?;
    let mut child = Command::new(&unshare)
        .args(["--mount", "--propagation", "private", "--"])
        .args([lab.as_os_str(), OsStr::new("container"), path.as_os_str()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed("run", &unshare))?;
    if let Some(stdout) = child.stdout.take() {
        output.spawn(copy_lines(stdout, Arc::clone(log)));
    }
    if let Some(stderr) = child.stderr.take() {
        output.spawn(copy_lines(stderr, Arc::clone(log)));
    }
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let group = Group(pid);
    let mut terminated = false;
    loop {
        tokio::select! {
            status = child.wait() => return status.map_err(failed("wait for", &spec.program)),
            () = stop.terminate.cancelled(), if !terminated => {
                terminated = true;
                if let Some(pid) = group.0 {
                    // Gone already is as good as signalled.
                    let _ = kill_process(pid, Signal::TERM);
                }
            }
            () = stop.kill.cancelled() => {
                group.kill();
                return child.wait().await.map_err(failed("wait for", &spec.program));
            }
        }
    }
}

/// All processes of a container, which end with it.
struct Group(Option<Pid>);

impl Group {
    fn kill(&self) {
        if let Some(pid) = self.0 {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn copy_lines(stream: impl AsyncRead + Unpin, log: Arc<Log>) {
    let mut lines = BufReader::new(stream).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        log.write(Timestamp::now(), String::from_utf8_lossy(&line).into_owned());
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::with_code(code),
        (None, signal) => Exit::with_code(128 + signal.unwrap_or_default()),
    }
}

/// `lab container`: prepares the file system and becomes the container's program. Returns only if that fails.
pub fn become_container(path: &Path) -> Result<std::convert::Infallible, Error> {
    let text = fs::read(path).map_err(failed("read", path))?;
    let spec: Spec = serde_json::from_slice(&text).map_err(|source| Error::Spec { path: path.to_owned(), source })?;
    assemble(&spec)?;
    chroot(&spec.root).map_err(|e| failed("change root to", &spec.root)(e.into()))?;
    std::env::set_current_dir(&spec.directory).map_err(failed("change to directory", &spec.directory))?;
    let (program, arguments) = spec.command.split_first().ok_or(Error::NoCommand)?;
    let source = std::process::Command::new(program).args(arguments).env_clear().envs(&spec.environment).exec();
    Err(Error::Exec { command: program.clone(), source })
}

fn assemble(spec: &Spec) -> Result<(), Error> {
    let root = &spec.root;
    mount("container", root, "tmpfs", MountFlags::empty(), None::<&CString>.map(CString::as_c_str))
        .map_err(|e| failed("mount a file system in memory on", root)(e.into()))?;
    for path in SHARED {
        share(root, Path::new(path))?;
    }
    for name in SHARED_ETC {
        share(root, &Path::new("/etc").join(name))?;
    }
    for path in ["tmp", "run", "var/run", "root"] {
        make_directory(&root.join(path))?;
    }
    let hosts = root.join("etc/hosts");
    fs::write(&hosts, &spec.hosts).map_err(failed("write", &hosts))?;
    if !is_shared(&spec.program) {
        bind(&spec.program, &below(root, &spec.program))?;
    }
    if let Some(name) = spec.program.file_name() {
        let short = root.join(name);
        if !short.exists() {
            symlink(&spec.program, &short).map_err(failed("link", &short))?;
        }
    }
    // Outer mounts first: one volume may be mounted inside another.
    let mut mounts: Vec<_> = spec.mounts.iter().collect();
    mounts.sort_by_key(|m| m.target.components().count());
    for volume in mounts {
        if is_shared(&volume.target) {
            return Err(Error::SharedTarget(volume.target.clone()));
        }
        let target = below(root, &volume.target);
        bind(&volume.source, &target)?;
        if volume.read_only {
            mount_remount(&target, MountFlags::BIND | MountFlags::RDONLY, c"")
                .map_err(|e| failed("make read-only", &target)(e.into()))?;
        }
    }
    Ok(())
}

fn is_shared(path: &Path) -> bool {
    SHARED.iter().any(|shared| path.starts_with(shared))
}

/// The same path below the container's root.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// Shows a path of this machine in the container, if this machine has it.
fn share(root: &Path, path: &Path) -> Result<(), Error> {
    let target = below(root, path);
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        // `/bin` is a link to `usr/bin` on most machines; one inside /etc may lead anywhere, so what it means is shown.
        Ok(found) if found.is_symlink() && !path.starts_with("/etc") => {
            let link = fs::read_link(path).map_err(failed("read link", path))?;
            symlink(link, &target).map_err(failed("link", &target))
        }
        Ok(_) if !path.exists() => Ok(()),
        Ok(_) => bind(path, &target),
    }
}

fn bind(source: &Path, target: &Path) -> Result<(), Error> {
    let refused = |e: rustix::io::Errno| failed("mount", source)(e.into());
    if source.is_dir() {
        make_directory(target)?;
        // With everything below it: a user namespace may not uncover what a mount covers.
        mount_bind_recursive(source, target).map_err(refused)
    } else {
        if let Some(parent) = target.parent() {
            make_directory(parent)?;
        }
        fs::write(target, "").map_err(failed("create", target))?;
        mount_bind(source, target).map_err(refused)
    }
}

fn make_directory(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(failed("create", path))
}

fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::File { action, path: path.to_owned(), source }
}
