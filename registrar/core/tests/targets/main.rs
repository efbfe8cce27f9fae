//! Targets and gates: the promises, as sentences.

mod faults;
mod gates;
mod kinds;
mod leaving;
mod meanwhile;
mod properties;
mod stage;
