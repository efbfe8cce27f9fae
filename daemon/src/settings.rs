//! Settings in a file of YAML.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("settings {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not hold settings.
    #[error("settings {}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why, and on which line.
        source: Box<serde_saphyr::Error>,
    },
}

/// Reads a file; without one, everything is as it is by default.
pub fn read<T: DeserializeOwned + Default>(path: Option<&Path>) -> Result<T, Error> {
    let Some(path) = path else { return Ok(T::default()) };
    let text = fs::read_to_string(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    serde_saphyr::from_str(&text).map_err(|source| Error::Parse { path: path.to_owned(), source: Box::new(source) })
}

/// What a flag or its environment variable says; empty means that nothing is said, as templates write it.
pub fn said(flag: Option<&str>) -> Option<&str> {
    flag.filter(|value| !value.is_empty())
}
