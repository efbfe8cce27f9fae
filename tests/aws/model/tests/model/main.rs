//! The model as its callers see it: requests, time and connections in, replies, commands and answers out.

mod support;
mod targets;
