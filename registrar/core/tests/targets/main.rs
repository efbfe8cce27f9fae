//! Targets and gates: the promises, as sentences.

mod gates;
mod leaving;
mod stage;
