//! The per-user cache of built programs: one directory per family and key, complete or absent.
//!
//! An entry is written under another name and renamed when everything in it is there, with a seal that holds each
//! file's size and digest. An entry whose seal does not match its files is removed and built again.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use ring::digest;
use serde::{Deserialize, Serialize};

use super::{Error, pins::hex};

const SEAL: &str = "seal.json";

/// The cache's directory.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// What a complete entry contains: path inside the entry -> size and digest.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Seal {
    files: BTreeMap<String, Sealed>,
}

#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
struct Sealed {
    size: u64,
    sha256: String,
}

impl Cache {
    /// The user's cache: `$XDG_CACHE_HOME/sluice-lab` or `~/.cache/sluice-lab`.
    pub fn open() -> Result<Self, Error> {
        let base = env::var_os("XDG_CACHE_HOME")
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").filter(|v| !v.is_empty()).map(|home| Path::new(&home).join(".cache")))
            .ok_or(Error::NoCacheDirectory)?;
        Self::at(&base.join("sluice-lab"))
    }

    /// A cache in this directory, which is made if it is not there.
    pub fn at(root: &Path) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(failed("create", root))?;
        Ok(Self { root: root.to_owned() })
    }

    fn path(&self, family: &str, key: &str) -> PathBuf {
        self.root.join(format!("{family}-{key}"))
    }

    /// The directory of a complete, intact entry.
    pub(super) fn entry(&self, family: &str, key: &str) -> Option<PathBuf> {
        let path = self.path(family, key);
        is_intact(&path).then_some(path)
    }

    /// Waits until no other process builds into this cache; the lock lasts as long as the returned file.
    pub(super) fn lock(&self) -> Result<fs::File, Error> {
        let path = self.root.join("lock");
        let file = fs::File::create(&path).map_err(failed("open", &path))?;
        if file.try_lock().is_err() {
            eprintln!("lab: waiting for another lab that is building");
            file.lock().map_err(failed("lock", &path))?;
        }
        Ok(file)
    }

    /// An empty directory to build an entry in. Call with the lock held: what an earlier build left there is removed.
    pub(super) fn scratch(&self, family: &str, key: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(format!("{family}-{key}.unfinished"));
        remove(&path)?;
        fs::create_dir_all(&path).map_err(failed("create", &path))?;
        Ok(path)
    }

    /// Seals a scratch directory and makes it the entry, in place of a broken one and of entries with other keys.
    pub(super) fn commit(&self, family: &str, key: &str, scratch: &Path) -> Result<PathBuf, Error> {
        let seal = Seal { files: measure(scratch).map_err(failed("read", scratch))? };
        let text = serde_json::to_vec_pretty(&seal).map_err(io::Error::from).map_err(failed("describe", scratch))?;
        fs::write(scratch.join(SEAL), text).map_err(failed("write the seal of", scratch))?;
        for old in self.entries_of(family)? {
            if old != scratch {
                remove(&old)?;
            }
        }
        let path = self.path(family, key);
        fs::rename(scratch, &path).map_err(failed("finish", &path))?;
        Ok(path)
    }

    fn entries_of(&self, family: &str) -> Result<Vec<PathBuf>, Error> {
        let prefix = format!("{family}-");
        let listing = fs::read_dir(&self.root).map_err(failed("list", &self.root))?;
        Ok(listing
            .filter_map(Result::ok)
            .filter(|entry| {
                let name = entry.file_name();
                let key = name.to_str().and_then(|n| n.strip_prefix(&prefix)).unwrap_or_default();
                // `kubernetes-<key>` is not an entry of a family called `kube`: a key has no hyphen.
                !key.is_empty() && !key.contains('-')
            })
            .map(|entry| entry.path())
            .collect())
    }
}

/// An error of this cache about a file or directory.
pub(super) fn failed<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::Cache { action, path: path.to_owned(), source }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(e)),
        _ => Ok(()),
    }
}

fn is_intact(entry: &Path) -> bool {
    let Ok(text) = fs::read(entry.join(SEAL)) else { return false };
    let Ok(seal) = serde_json::from_slice::<Seal>(&text) else { return false };
    // Sizes first: a digest of all programs takes most of a second.
    let sizes = seal.files.iter().all(|(name, sealed)| {
        fs::metadata(entry.join(name)).is_ok_and(|found| found.is_file() && found.len() == sealed.size)
    });
    sizes && measure(entry).is_ok_and(|files| files == seal.files)
}

/// Every file below `directory` but the seal.
fn measure(directory: &Path) -> io::Result<BTreeMap<String, Sealed>> {
    let mut files = BTreeMap::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(path) = pending.pop() {
        for entry in fs::read_dir(&path)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                pending.push(path);
                continue;
            }
            let name = path.strip_prefix(directory).unwrap_or(&path).to_string_lossy().into_owned();
            if name != SEAL {
                files.insert(name, seal(&path)?);
            }
        }
    }
    Ok(files)
}

fn seal(path: &Path) -> io::Result<Sealed> {
    let mut file = fs::File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut chunk = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let n = file.read(&mut chunk)?;
        if n == 0 {
            break;
        }
        context.update(&chunk[..n]);
        size += n as u64;
    }
    Ok(Sealed { size, sha256: hex(context.finish().as_ref()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A cache with one complete entry that holds the file `etcd`.
    fn with_entry(name: &str) -> (Cache, PathBuf) {
        let root = env::temp_dir().join(format!("sluice-cache-{}-{name}", std::process::id()));
        remove(&root).expect("a clean start");
        let cache = Cache::at(&root).expect("cache");
        let scratch = cache.scratch("etcd", "k1").expect("scratch");
        fs::write(scratch.join("etcd"), "program").expect("write");
        let entry = cache.commit("etcd", "k1", &scratch).expect("commit");
        (cache, entry)
    }

    #[test]
    fn finished_entry_is_found_under_its_key_only() {
        let (cache, entry) = with_entry("found");
        assert_eq!(cache.entry("etcd", "k1"), Some(entry));
        assert_eq!(cache.entry("etcd", "k2"), None);
        remove(&cache.root).expect("clean up");
    }

    #[test]
    fn entry_that_is_truncated_changed_unsealed_or_half_built_is_not_used() {
        type Damage = fn(&Path) -> io::Result<()>;
        let cases: [(&str, Damage); 5] = [
            ("truncated", |e| fs::write(e.join("etcd"), "prog")),
            ("changed", |e| fs::write(e.join("etcd"), "PROGRAM")),
            ("missing", |e| fs::remove_file(e.join("etcd"))),
            ("unsealed", |e| fs::remove_file(e.join(SEAL))),
            ("garbled", |e| fs::write(e.join(SEAL), "{")),
        ];
        for (name, damage) in cases {
            let (cache, entry) = with_entry(name);
            damage(&entry).expect("damage");
            assert_eq!(cache.entry("etcd", "k1"), None, "{name}");
            remove(&cache.root).expect("clean up");
        }
        let (cache, _) = with_entry("half-built");
        fs::write(cache.scratch("etcd", "k2").expect("scratch").join("etcd"), "prog").expect("write");
        assert_eq!(cache.entry("etcd", "k2"), None, "half-built");
        remove(&cache.root).expect("clean up");
    }

    #[test]
    fn commit_replaces_a_broken_entry_and_entries_of_old_pins() {
        let (cache, entry) = with_entry("replace");
        fs::remove_file(entry.join(SEAL)).expect("break it");
        for key in ["k1", "k2"] {
            let scratch = cache.scratch("etcd", key).expect("scratch");
            fs::write(scratch.join("etcd"), "new").expect("write");
            cache.commit("etcd", key, &scratch).expect("commit");
            assert!(cache.entry("etcd", key).is_some(), "{key}");
        }
        assert_eq!(cache.entry("etcd", "k1"), None, "the old pins' entry is gone");
        remove(&cache.root).expect("clean up");
    }
}
