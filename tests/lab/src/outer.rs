//! The half of the lab outside its namespaces: makes them, waits, passes signals on, and takes everything along when it
//! ends, however it ends.
//!
//! Nothing here needs unsafe code because others do the system calls: `unshare` (util-linux) makes the namespaces and
//! runs this program again as process 1 of them, and process 1 cannot outlive them. `setpriv --pdeathsig` lets the
//! kernel kill `unshare` when this process dies, and `--kill-child` lets it kill process 1 when `unshare` dies; with
//! process 1 gone the kernel kills every process of the lab, and network and mounts go with the namespaces.

use std::{
    ffi::OsString,
    fs,
    io::{self, IsTerminal as _},
    process::ExitStatus,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

use crate::{
    assets::Assets,
    prerequisites::{self, Privilege},
};

/// Why the lab could not be entered.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The namespaces' first program did not start.
    #[error("{0} could not be started: {1}")]
    Start(&'static str, #[source] io::Error),
    /// Waiting for the lab failed.
    #[error("waiting for the lab failed: {0}")]
    Wait(#[source] io::Error),
    /// The paths of the programs could not be handed over.
    #[error("the paths of the programs cannot be written as JSON: {0}")]
    Assets(#[from] serde_json::Error),
}

/// Runs this program again inside new namespaces, with the same arguments, and returns how it ended.
///
/// To be called on the main thread: the kernel watches the death of the thread that starts the lab.
pub fn enter(privilege: Privilege, assets: &Assets, arguments: Vec<OsString>) -> Result<ExitStatus, Error> {
    let assets = serde_json::to_string(assets)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::Start("the runtime", e))?;
    runtime.block_on(async {
        // Installed before the child exists, so that no signal can end this process without it.
        let mut signals = Signals::install().map_err(|e| Error::Start("the signal handlers", e))?;
        let mut child = start(privilege, &assets, arguments)?;
        loop {
            tokio::select! {
                status = child.wait() => return status.map_err(Error::Wait),
                signal = signals.next() => forward(&child, signal),
            }
        }
    })
}

fn start(privilege: Privilege, assets: &str, arguments: Vec<OsString>) -> Result<Child, Error> {
    let program = |name: &'static str| {
        prerequisites::find(name).ok_or_else(|| Error::Start(name, io::ErrorKind::NotFound.into()))
    };
    Command::new(program("setpriv")?)
        .args(["--pdeathsig", "KILL", "--"])
        .arg(program("unshare")?)
        .args(privilege.unshare_arguments())
        .arg(std::env::current_exe().map_err(|e| Error::Start("lab", e))?)
        .args(["inside", "--assets", assets, "--"])
        .args(arguments)
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| Error::Start("setpriv", e))
}

/// `unshare` blocks signals while it waits, so they are sent to its child, process 1 of the lab.
fn forward(child: &Child, signal: Signal) {
    let Some(unshare) = child.id() else { return };
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).unwrap_or_default();
    for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok().and_then(Pid::from_raw)) {
        // Gone already is as good as signalled.
        let _ = kill_process(pid, signal);
    }
}

struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    fn install() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next signal to pass on. On a terminal Ctrl-C reaches the whole foreground group by itself.
    async fn next(&mut self) -> Signal {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Signal::TERM,
                _ = self.hangup.recv() => return Signal::TERM,
                _ = self.interrupt.recv() => {
                    if !io::stdin().is_terminal() {
                        return Signal::INT;
                    }
                }
            }
        }
    }
}
