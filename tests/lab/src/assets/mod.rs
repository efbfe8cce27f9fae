//! The programs that the lab runs: found where the user keeps them, or built once from pinned Go modules.
//!
//! Order of search for each program: `KUBEBUILDER_ASSETS`, the cache, `PATH`; the first one of the needed version wins.
//! What is left is built into the cache. A program of another version is passed over with a word on standard error.

mod build;
mod cache;
mod pins;

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde::{Deserialize, Serialize};

pub use cache::Cache;
use pins::{FAMILIES, Family, Program};

/// Why the programs are not all there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is neither a home directory nor a cache directory of the user.
    #[error("there is no place for the cache of built programs: set XDG_CACHE_HOME or HOME")]
    NoCacheDirectory,
    /// Go is needed to build and is not installed.
    #[error(
        "Go is needed to build {0} and is not on PATH: install Go 1.26 or newer, or point KUBEBUILDER_ASSETS at a \
         directory that holds the programs"
    )]
    NoGo(String),
    /// A file or directory of the cache could not be used.
    #[error("cache: {action} {path}: {source}")]
    Cache {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The Go compiler refused.
    #[error("building {program} failed; the last lines of the compiler's output:\n{output}")]
    Build {
        /// The program.
        program: &'static str,
        /// What the compiler wrote last.
        output: String,
    },
}

/// Where each program is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Assets {
    programs: BTreeMap<String, PathBuf>,
    /// Directory of cert-manager's custom resource definitions.
    pub certificate_crds: PathBuf,
}

impl Assets {
    /// The program's file. Every program of the pins has one once [`ensure`] has returned.
    pub fn program(&self, name: &str) -> &Path {
        self.programs.get(name).map_or(Path::new(""), PathBuf::as_path)
    }

    /// All programs with their files, by name.
    pub fn programs(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.programs.iter().map(|(name, path)| (name.as_str(), path.as_path()))
    }
}

/// Finds or builds every program, telling about progress on standard error.
pub fn ensure() -> Result<Assets, Error> {
    let cache = Cache::open()?;
    let mut assets = Assets::default();
    let mut to_build: Vec<(&Family, Vec<&Program>)> = Vec::new();
    for family in FAMILIES {
        let key = family.key();
        let entry = cache.entry(family.name, &key);
        let mut missing = Vec::new();
        for program in family.programs {
            let found = in_kubebuilder_assets(program)
                .or_else(|| entry.as_ref().map(|dir| dir.join(program.name)))
                .or_else(|| on_path(program));
            match found {
                Some(path) => drop(assets.programs.insert(program.name.to_owned(), path)),
                None => missing.push(program),
            }
        }
        if let Some(crds) = family.certificate_crds(entry.as_deref()) {
            assets.certificate_crds = crds;
        }
        if !missing.is_empty() {
            to_build.push((family, missing));
        }
    }
    if !to_build.is_empty() {
        build::all(&cache, &to_build, &mut assets)?;
    }
    Ok(assets)
}

fn in_kubebuilder_assets(program: &Program) -> Option<PathBuf> {
    let directory = env::var_os("KUBEBUILDER_ASSETS")?;
    usable(program, Path::new(&directory).join(program.name), "KUBEBUILDER_ASSETS")
}

fn on_path(program: &Program) -> Option<PathBuf> {
    usable(program, crate::prerequisites::find(program.name)?, "PATH")
}

/// The file, if it is there and of the version that the lab needs.
fn usable(program: &Program, path: PathBuf, place: &str) -> Option<PathBuf> {
    let wanted = program.version?;
    if !path.is_file() {
        return None;
    }
    let output = Command::new(&path).args(wanted.arguments).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains(wanted.contains) {
        return Some(path);
    }
    let said = text.lines().next().unwrap_or("nothing").trim().to_owned();
    eprintln!("lab: passing over {} from {place}: needs {}, it says {said}", path.display(), wanted.contains);
    None
}
