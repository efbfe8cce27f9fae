//! Tasks that nobody can lose: every one has a name, and one that ends too early, fails or panics ends the others.

use std::{borrow::Cow, collections::HashMap, time::Duration};

use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// What a task failed with.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

type Name = Cow<'static, str>;

/// How a set of tasks ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A task returned an error.
    #[error("{task} failed: {source}")]
    Failed {
        /// The task's name.
        task: String,
        /// What it returned.
        source: Failure,
    },
    /// A task panicked; the panic's message is on standard error.
    #[error("{task} panicked")]
    Panicked {
        /// The task's name.
        task: String,
    },
    /// A task returned although nobody had asked it to stop.
    #[error("{task} ended before shutdown")]
    Ended {
        /// The task's name.
        task: String,
    },
    /// Tasks that were asked to stop and did not in time.
    #[error("still running {grace:?} after shutdown began: {tasks}")]
    Stuck {
        /// Their names, separated by commas.
        tasks: String,
        /// How long they had.
        grace: Duration,
    },
}

/// Named tasks under one shutdown token.
///
/// [`Tasks::spawn`] is for work that lasts as long as the process, [`Tasks::watch`] for what may outlive shutdown
/// without anybody waiting for it. [`Tasks::wait`] returns when the work is over.
#[derive(Debug)]
pub struct Tasks {
    stop: CancellationToken,
    work: JoinSet<Result<(), Failure>>,
    names: HashMap<Id, (Name, Kind)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Work,
    Watch,
}

impl Tasks {
    /// An empty set that cancels `stop` when one of its tasks ends early.
    pub fn new(stop: CancellationToken) -> Self {
        Self { stop, work: JoinSet::new(), names: HashMap::new() }
    }

    /// The token that every task of this set must end on.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Runs work that ends only after shutdown began. Ending before, failing or panicking ends the whole set.
    pub fn spawn<E: Into<Failure>>(
        &mut self,
        name: impl Into<Name>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.add(name.into(), Kind::Work, task);
    }

    /// Runs something that shutdown does not wait for, a signal handler say. Failing or panicking ends the whole set at
    /// once, even during shutdown.
    pub fn watch<E: Into<Failure>>(
        &mut self,
        name: impl Into<Name>,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.add(name.into(), Kind::Watch, task);
    }

    fn add<E: Into<Failure>>(
        &mut self,
        name: Name,
        kind: Kind,
        task: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        let handle = self.work.spawn(async move { task.await.map_err(Into::into) });
        self.names.insert(handle.id(), (name, kind));
    }

    /// Waits until shutdown was asked for and all work has ended, or until the first task ends badly. Work has `grace`
    /// from the beginning of shutdown. Whatever is left then is aborted.
    pub async fn wait(mut self, grace: Duration) -> Result<(), Error> {
        let result = self.supervise(grace).await;
        self.stop.cancel();
        self.work.shutdown().await;
        result
    }

    async fn supervise(&mut self, grace: Duration) -> Result<(), Error> {
        let stop = self.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = self.work.join_next_with_id() => self.check(ended)?,
                else => return Ok(()),
            }
        }
        let deadline = tokio::time::sleep(grace);
        tokio::pin!(deadline);
        while self.names.values().any(|(_, kind)| *kind == Kind::Work) {
            tokio::select! {
                Some(ended) = self.work.join_next_with_id() => self.check(ended)?,
                () = &mut deadline => {
                    let mut left: Vec<_> =
                        self.names.values().filter(|(_, k)| *k == Kind::Work).map(|(n, _)| n.as_ref()).collect();
                    left.sort_unstable();
                    return Err(Error::Stuck { tasks: left.join(", "), grace });
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, ended: Result<(Id, Result<(), Failure>), JoinError>) -> Result<(), Error> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(e) => e.id(),
        };
        let (task, kind) = self.names.remove(&id).unwrap_or((Cow::Borrowed("a task"), Kind::Work));
        let task = task.into_owned();
        match ended {
            Err(_) => Err(Error::Panicked { task }),
            Ok((_, Err(source))) => Err(Error::Failed { task, source }),
            Ok((_, Ok(()))) if kind == Kind::Work && !self.stop.is_cancelled() => Err(Error::Ended { task }),
            Ok((_, Ok(()))) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    async fn until(stop: CancellationToken) -> Result<(), Failure> {
        stop.cancelled().await;
        Ok(())
    }

    #[expect(clippy::unused_async, reason = "a task is a future")]
    async fn bug() -> Result<(), Failure> {
        panic!("on purpose")
    }

    fn set() -> Tasks {
        let mut tasks = Tasks::new(CancellationToken::new());
        let stop = tasks.stop().clone();
        tasks.spawn("steady", until(stop));
        tasks
    }

    #[tokio::test]
    async fn work_that_ends_after_shutdown_is_a_clean_end() {
        let tasks = set();
        tasks.stop().cancel();
        tasks.wait(GRACE).await.expect("clean");
    }

    #[tokio::test]
    async fn task_that_ends_fails_or_panics_early_ends_the_set_by_name() {
        let mut tasks = set();
        tasks.spawn("brief", async { Ok::<_, Failure>(()) });
        assert_eq!(tasks.wait(GRACE).await.expect_err("ended").to_string(), "brief ended before shutdown");

        let mut tasks = set();
        tasks.spawn("broken", async { Err::<(), _>("no disk") });
        assert_eq!(tasks.wait(GRACE).await.expect_err("failed").to_string(), "broken failed: no disk");

        let mut tasks = set();
        tasks.spawn("bug", bug());
        assert_eq!(tasks.wait(GRACE).await.expect_err("panicked").to_string(), "bug panicked");
    }

    #[tokio::test]
    async fn failing_watch_ends_the_wait_even_during_shutdown() {
        let mut tasks = Tasks::new(CancellationToken::new());
        tasks.spawn("deaf", std::future::pending::<Result<(), Failure>>());
        tasks.watch("signals", async { Err::<(), _>("second signal") });
        tasks.stop().cancel();
        assert_eq!(tasks.wait(GRACE).await.expect_err("aborted").to_string(), "signals failed: second signal");
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_stop_in_time_is_named() {
        let mut tasks = set();
        tasks.spawn("deaf", std::future::pending::<Result<(), Failure>>());
        tasks.stop().cancel();
        let error = tasks.wait(GRACE).await.expect_err("stuck").to_string();
        assert_eq!(error, "still running 1s after shutdown began: deaf");
    }
}
