//! What every process here needs: [logs](log), [supervised tasks](tasks) and [shutdown](shutdown).

pub mod log;
pub mod shutdown;
pub mod tasks;
