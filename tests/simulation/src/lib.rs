//! The simulation: the registrar's unchanged core against a simulated cluster and the emulator's model.
//!
//! Everything is a value in one loop with a virtual clock; a run is determined by its [`Choices`]. What happens is told to a
//! judge, fact by fact, who complains of the first that breaks a rule.
//!
//! Two registrars run, each on a clock that began with its process and runs at a rate of its own (0.7 to 1.4), over one
//! lease by client-go's algorithm. They are paused, killed, told to end and cut off. That every write carries the present
//! leadership's fence, and reaches AWS only while its sender has the lease, is rule S9.
//!
//! What is simulated besides the core is not the shell: the checks that its executor and its election make are written here
//! once more, as values (`replica::executor`, `replica::lease`). The API server takes the core's requests, not HTTP: it
//! knows UIDs, finalizers and deletion, and one row of revisions; lists may be old, and watches go on where they were or
//! list anew, which is what is left of bookmarks and of `410 Gone` behind the shell's watches. It knows no resourceVersion
//! preconditions (conflicts are ordered by a storm), no field validation and no managed fields.

#![allow(clippy::doc_markdown, reason = "names of AWS operations and Kubernetes kinds are the vocabulary here")]

pub mod aws;
mod choice;
mod cluster;
mod crash;
pub mod enumerate;
mod fact;
mod judge;
mod plane;
mod replica;
pub mod run;
mod scene;
pub mod script;
mod settle;
pub mod shrink;
mod trace;
mod weather;
mod world;

pub use choice::Choices;
pub use cluster::fake::Fake;
pub use crash::{CrashPoint, Moment};
pub use judge::Complaint;
pub use scene::{
    Scene,
    reference::{Reference, all as references},
};
pub use trace::Trace;
