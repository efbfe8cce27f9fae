//! Histories that break each rule.
