//! The live counter: one line that is rewritten on a terminal, and now and then a new one elsewhere.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use load::Progress;
use tokio::sync::watch;

/// How often a line is written where none can be rewritten.
const SELDOM: Duration = Duration::from_secs(5);
/// Pods that are named.
const NAMED: usize = 4;

/// Shows how a run goes.
pub struct Counter {
    progress: watch::Receiver<Progress>,
    terminal: bool,
    began: Instant,
    last: Instant,
}

impl Counter {
    /// A counter that has shown nothing yet.
    pub fn new(progress: watch::Receiver<Progress>) -> Self {
        let now = Instant::now();
        Self { progress, terminal: io::stdout().is_terminal(), began: now, last: now }
    }

    /// Shows what is new, for ever.
    pub async fn run(&mut self) -> ! {
        while self.progress.changed().await.is_ok() {
            self.show();
        }
        std::future::pending().await
    }

    /// Writes a line of somebody else above the counter.
    pub fn line(&mut self, text: &str) {
        self.write(&format!("{}{text}\n", self.clear()));
        if self.terminal {
            self.show();
        }
    }

    /// Writes the last lines in its place.
    pub fn finish(&mut self, text: &str) {
        self.write(&format!("{}{text}\n", self.clear()));
    }

    fn clear(&self) -> &'static str {
        if self.terminal { "\r\x1b[K" } else { "" }
    }

    fn show(&mut self) {
        let text = words(self.began.elapsed(), &self.progress.borrow());
        if self.terminal {
            self.write(&format!("{}{text}", self.clear()));
        } else if self.last.elapsed() >= SELDOM {
            self.last = Instant::now();
            self.write(&format!("{text}\n"));
        }
    }

    /// A reader who went away does not end the run.
    #[expect(clippy::unused_self, reason = "everything that is shown goes through the counter")]
    fn write(&self, text: &str) {
        let mut out = io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn words(elapsed: Duration, progress: &Progress) -> String {
    let failed: u64 = progress.failed.values().sum();
    let mut text = format!("  {:3} s  {:6} requests  {failed} failed", elapsed.as_secs(), progress.requests);
    for (pod, count) in progress.pods.iter().take(NAMED) {
        let _ = write!(text, "  {} {count}/s", pod.rsplit('-').next().unwrap_or(pod));
    }
    if progress.pods.len() > NAMED {
        let _ = write!(text, "  and {} more", progress.pods.len() - NAMED);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_requests_failures_and_a_few_pods() {
        let pods = (1..=6).map(|n| (format!("echo-abc-p{n}"), n)).collect();
        let progress = Progress { requests: 1234, failed: [(load::Kind::Reset, 2)].into(), pods };
        let text = words(Duration::from_secs(7), &progress);
        assert_eq!(text, "    7 s    1234 requests  2 failed  p1 1/s  p2 2/s  p3 3/s  p4 4/s  and 2 more");
    }
}
