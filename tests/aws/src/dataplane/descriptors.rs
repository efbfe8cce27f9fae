//! How many files a process may have open, which is how many connections a data plane can carry.

use nix::{
    errno::Errno,
    sys::resource::{Resource, getrlimit, setrlimit},
};

/// The limit of open files could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot raise the limit of open files: {0}")]
pub struct Error(Errno);

/// Raises this process's limit of open files to the most that the system lets it have, and says how many that is. A flow
/// has two open, and the limit that processes begin with is often 1024.
pub fn raise_limit() -> Result<u64, Error> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(Error)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(Error)?;
    Ok(most)
}
