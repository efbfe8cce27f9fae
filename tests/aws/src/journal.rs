//! The ordered log as it is kept: in memory for queries, and as JSON lines in a file.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_model::Entry;
use tokio::{io::AsyncWriteExt as _, sync::watch};
use tokio_util::sync::CancellationToken;

/// Entries kept in memory; the oldest go first. The file has them all.
const KEPT: usize = 1 << 19;
/// Entries that are taken out under one hold of the lock, which the model waits for.
const BATCH: usize = 1024;

/// The log could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the log to {}: {source}", path.display())]
pub struct Error {
    path: PathBuf,
    source: std::io::Error,
}

/// The log, in the model's order.
#[derive(Debug, Default)]
pub struct Journal {
    entries: Mutex<VecDeque<Arc<Entry>>>,
    last: watch::Sender<u64>,
}

impl Journal {
    /// Adds what the model has just logged. To be called under the model's lock, which makes it the model's order.
    pub(crate) fn append(&self, new: Vec<Entry>) {
        let Some(last) = new.last().map(|entry| entry.sequence) else { return };
        let mut entries = self.lock();
        entries.extend(new.into_iter().map(Arc::new));
        let surplus = entries.len().saturating_sub(KEPT);
        entries.drain(..surplus);
        drop(entries);
        self.last.send_replace(last);
    }

    /// Sequence number of the latest entry; 0 when there is none.
    pub fn last(&self) -> u64 {
        *self.last.borrow()
    }

    /// Follows [`Journal::last`].
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// The first entries after a sequence number that `wanted` accepts, at most `limit`, and the number of the last entry
    /// that was looked at.
    pub fn after(&self, sequence: u64, limit: usize, wanted: impl Fn(&Entry) -> bool) -> (Vec<Arc<Entry>>, u64) {
        let (mut found, mut seen) = (Vec::new(), sequence);
        loop {
            let batch = self.batch(seen);
            if batch.is_empty() {
                return (found, seen);
            }
            for entry in batch {
                if found.len() == limit {
                    return (found, seen);
                }
                seen = entry.sequence;
                if wanted(&entry) {
                    found.push(entry);
                }
            }
        }
    }

    /// The next entries after a sequence number, a batch of them.
    pub(crate) fn batch(&self, sequence: u64) -> Vec<Arc<Entry>> {
        let entries = self.lock();
        let first = entries.front().map_or(1, |entry| entry.sequence);
        let skip = usize::try_from((sequence + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        entries.iter().skip(skip).take(BATCH).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An entry as one line of JSON.
pub(crate) fn line(entry: &Entry) -> String {
    serde_json::to_string(entry).unwrap_or_else(|e| format!("{{\"sequence\":{},\"error\":\"{e}\"}}", entry.sequence))
}

/// Writes the journal of `engine` to a file until `stop`, and what there is then.
pub(crate) async fn write(engine: Arc<crate::Engine>, path: PathBuf, stop: CancellationToken) -> Result<(), Error> {
    let failed = |source| Error { path: path.clone(), source };
    let mut file = create(&path).await.map_err(failed)?;
    let mut news = engine.journal().watch();
    let mut written = 0;
    loop {
        let stopping = stop.is_cancelled();
        loop {
            let entries = engine.journal().batch(written);
            let Some(last) = entries.last() else { break };
            let text: String = entries.iter().map(|entry| line(entry) + "\n").collect();
            file.write_all(text.as_bytes()).await.map_err(failed)?;
            written = last.sequence;
        }
        file.flush().await.map_err(failed)?;
        if stopping {
            return Ok(());
        }
        tokio::select! {
            _ = news.changed() => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn create(path: &Path) -> std::io::Result<tokio::fs::File> {
    tokio::fs::File::create(path).await
}
