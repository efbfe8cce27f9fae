//! SIGTERM and SIGINT: the first asks every task to finish, the second gives up on them.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Why waiting for signals ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The handlers could not be installed.
    #[error("signal handlers could not be installed: {0}")]
    Install(#[from] std::io::Error),
    /// A second signal came before the tasks had finished.
    #[error("ended by a second signal before every task had finished")]
    Aborted,
}

/// Cancels `stop` on the first SIGTERM or SIGINT and fails with [`Error::Aborted`] on the second.
///
/// Run it as a task of [`crate::tasks::Tasks`] with [`crate::tasks::Tasks::watch`], where its failure ends the wait.
pub async fn on_signal(stop: CancellationToken) -> Result<(), Error> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    for attempt in 0..2 {
        let name = tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = int.recv() => "SIGINT",
        };
        if attempt == 0 {
            tracing::info!(signal = name, "shutting down");
            stop.cancel();
        }
    }
    Err(Error::Aborted)
}
