//! What the machine must offer: a few programs of the system, and permission to make namespaces.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What is missing, in one sentence that says what to do about it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// A program of the system is not installed.
    #[error("the program {program} is not on PATH: install {package} (the lab needs it to {purpose})")]
    Missing {
        /// The program.
        program: &'static str,
        /// The package that has it, as most distributions call it.
        package: &'static str,
        /// What for.
        purpose: &'static str,
    },
    /// Neither this user nor root may make the namespaces.
    #[error(
        "this machine does not let the lab make its own namespaces ({said}): run the lab as root, or allow unprivileged \
         user namespaces (sysctl -w kernel.unprivileged_userns_clone=1, and on Ubuntu sysctl -w \
         kernel.apparmor_restrict_unprivileged_userns=0; inside a container, run it privileged)"
    )]
    Namespaces {
        /// What `unshare` said.
        said: String,
    },
}

/// Programs of the system that the lab calls: name, package, purpose.
const PROGRAMS: &[(&str, &str, &str)] = &[
    ("unshare", "util-linux", "make its own network, mount and process namespaces"),
    ("setpriv", "util-linux", "end when the process that started it ends"),
    ("ip", "iproute2", "give every pod an address of its own"),
];

/// How the namespaces are made here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privilege {
    /// In a user namespace of the user's own.
    Rootless,
    /// As root, where the kernel allows no user namespaces.
    Root,
}

impl Privilege {
    /// The arguments of `unshare` that make all of the lab's namespaces, up to the command to run in them.
    pub fn unshare_arguments(self) -> Vec<&'static str> {
        let user: &[&str] = match self {
            Self::Rootless => &["--user", "--map-root-user"],
            Self::Root => &[],
        };
        let others = ["--net", "--mount", "--pid", "--mount-proc", "--fork", "--kill-child=KILL", "--"];
        user.iter().copied().chain(others).collect()
    }
}

/// Checks everything that does not depend on what has to be built.
pub fn check() -> Result<Privilege, Error> {
    for (program, package, purpose) in PROGRAMS {
        find(program).ok_or(Error::Missing { program, package, purpose })?;
    }
    let mut said = String::new();
    for privilege in [Privilege::Rootless, Privilege::Root] {
        match try_unshare(privilege) {
            Ok(()) => return Ok(privilege),
            // The first refusal is the one that a user without root rights can do something about.
            Err(refusal) if said.is_empty() => said = refusal,
            Err(_) => {}
        }
    }
    Err(Error::Namespaces { said })
}

fn try_unshare(privilege: Privilege) -> Result<(), String> {
    let Some(unshare) = find("unshare") else { return Err("no unshare".to_owned()) };
    let output = Command::new(unshare)
        .args(privilege.unshare_arguments())
        .arg("true")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| e.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    Err(text.lines().next().unwrap_or("unshare failed without a word").trim().to_owned())
}

/// The file of a program on PATH, or in the system's own directories, which are not on every user's PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    file.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}
