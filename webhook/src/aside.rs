//! Work that takes long, set aside so that it does not hold up reviews.

use std::cell::Cell;

use tokio::task::{JoinHandle, spawn_blocking};

/// By how much the threads that do it stand back behind those that answer: such a thread gets about a third of a core that
/// it shares with one of them (sched(7): each step of the nice value is a factor of 1.25).
const STANDS_BACK: i32 = 5;

thread_local! {
    static STANDING_BACK: Cell<bool> = const { Cell::new(false) };
}

/// Does work on a thread for it, which the system runs after those that answer reviews when both want to.
///
/// A system that refuses to lower the priority of a thread gets it done as all else.
pub(crate) fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    spawn_blocking(move || {
        if !STANDING_BACK.replace(true)
            && let Err(error) = rustix::process::nice(STANDS_BACK)
        {
            tracing::debug!(%error, "the priority of a thread stays as it is");
        }
        work()
    })
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    /// Nothing stands further back (setpriority(2)).
    const LAST: i32 = 19;

    #[tokio::test]
    async fn work_set_aside_stands_back_once_and_nothing_else_does() {
        let before = getpriority_process(None).unwrap();
        for _ in 0..3 {
            let aside = aside(|| getpriority_process(None)).await.unwrap();
            assert_eq!(aside, Ok((before + STANDS_BACK).min(LAST)));
        }
        assert_eq!(getpriority_process(None), Ok(before));
    }
}
