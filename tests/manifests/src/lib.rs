//! What is shipped beside the programs, as tests need it: files of this repository, and permissions in the cluster.

pub mod permissions;

use std::{fs, io, path::PathBuf};

/// Where a file of the repository is, by its path from the root.
pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// The text of a file of the repository.
pub fn text(name: &str) -> io::Result<String> {
    fs::read_to_string(path(name)).map_err(|e| io::Error::new(e.kind(), format!("{name}: {e}")))
}
