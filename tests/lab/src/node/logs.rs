//! The last lines that each container wrote, for `kubectl logs`.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use tokio::sync::watch;

/// Bytes kept per container; the oldest lines go first.
const KEPT: usize = 1 << 20;

/// Which container: pod UID and container name.
pub type Key = (String, String);

/// The logs of all containers of all nodes.
#[derive(Debug, Default)]
pub struct LogBook {
    logs: Mutex<BTreeMap<Key, Arc<Log>>>,
}

impl LogBook {
    /// The log of a container, made on first use.
    pub fn open(&self, uid: &str, container: &str) -> Arc<Log> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(logs.entry((uid.to_owned(), container.to_owned())).or_default())
    }

    /// The log of a container that has one.
    pub fn find(&self, uid: &str, container: &str) -> Option<Arc<Log>> {
        let logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        logs.get(&(uid.to_owned(), container.to_owned())).cloned()
    }

    /// Forgets a pod that is gone.
    pub fn remove(&self, uid: &str) {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner).retain(|(owner, _), _| owner != uid);
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was written.
    pub at: Timestamp,
    /// Which run of the container wrote it: the number of restarts before it.
    pub run: u32,
    /// The line, without its end.
    pub text: String,
}

/// What one container wrote, over all its runs.
#[derive(Debug)]
pub struct Log {
    kept: Mutex<Kept>,
    /// Number of lines ever written, for those who follow.
    written: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    /// Number of the first line that is kept.
    first: u64,
    bytes: usize,
    run: u32,
}

impl Default for Log {
    fn default() -> Self {
        Self { kept: Mutex::default(), written: watch::Sender::new(0) }
    }
}

impl Log {
    /// Adds a line of the current run.
    pub fn write(&self, at: Timestamp, text: String) {
        let end = {
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.bytes += text.len();
            let run = kept.run;
            kept.lines.push_back(Line { at, run, text });
            while kept.bytes > KEPT && kept.lines.len() > 1 {
                if let Some(line) = kept.lines.pop_front() {
                    kept.bytes -= line.text.len();
                    kept.first += 1;
                }
            }
            kept.first + kept.lines.len() as u64
        };
        self.written.send_replace(end);
    }

    /// Begins another run of the container.
    pub fn begin_run(&self, run: u32) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).run = run;
    }

    /// The run that writes now.
    pub fn run(&self) -> u32 {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).run
    }

    /// The kept lines from number `from` on, and the number of the next one.
    pub fn read(&self, from: u64) -> (Vec<Line>, u64) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = usize::try_from(from.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        (kept.lines.iter().skip(skip).cloned().collect(), kept.first + kept.lines.len() as u64)
    }

    /// Sees every number of lines written from now on.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.written.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_goes_on_where_it_stopped_and_old_lines_make_room() {
        let log = Log::default();
        for n in 0..3 {
            log.write(Timestamp::UNIX_EPOCH, format!("line {n}"));
        }
        let (lines, next) = log.read(0);
        assert_eq!(lines.iter().map(|l| l.text.as_str()).collect::<Vec<_>>(), ["line 0", "line 1", "line 2"]);
        log.write(Timestamp::UNIX_EPOCH, "x".repeat(KEPT));
        let (lines, next) = log.read(next);
        assert_eq!((lines.len(), next), (1, 4));
        assert_eq!(log.read(0).0.len(), 1, "the old lines are gone");
    }

    #[test]
    fn lines_know_the_run_that_wrote_them() {
        let book = LogBook::default();
        let log = book.open("u", "app");
        log.write(Timestamp::UNIX_EPOCH, "first".to_owned());
        log.begin_run(1);
        log.write(Timestamp::UNIX_EPOCH, "second".to_owned());
        let runs: Vec<_> = book.find("u", "app").expect("kept").read(0).0.iter().map(|l| l.run).collect();
        assert_eq!(runs, [0, 1]);
        book.remove("u");
        assert!(book.find("u", "app").is_none());
    }
}
