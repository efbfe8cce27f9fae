//! The simulation: the registrar's unchanged core against a simulated cluster and the emulator's model.

#![allow(clippy::doc_markdown, reason = "names of AWS operations and Kubernetes kinds are the vocabulary here")]

pub mod aws;
