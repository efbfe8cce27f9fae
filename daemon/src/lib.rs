//! What every process here needs: [settings](settings), [logs](log), [supervised tasks](tasks) and [shutdown](shutdown), [readiness](readiness)
//! by name, a [port to administer it](admin), what [it takes](process), [listening sockets](socket), and an [HTTP server](http)
//! with deadlines.

pub mod admin;
pub mod http;
pub mod log;
pub mod process;
pub mod readiness;
pub mod settings;
pub mod shutdown;
pub mod socket;
pub mod tasks;
