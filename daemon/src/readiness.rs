//! Readiness as a set of named conditions, so that whoever asks why a process is not ready is told.

use std::{
    borrow::Cow,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// All conditions that a process has to meet before it may be sent work.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    conditions: Arc<Mutex<Vec<Condition>>>,
}

/// One of them. Clones are the same condition.
#[derive(Debug, Clone)]
pub struct Condition {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: &'static str,
    met: AtomicBool,
    /// What is missing, or a remark if nothing is.
    remark: Mutex<Cow<'static, str>>,
}

impl Readiness {
    /// Adds a condition, which is not met; `missing` says what it waits for.
    pub fn condition(&self, name: &'static str, missing: impl Into<Cow<'static, str>>) -> Condition {
        let condition = Condition {
            inner: Arc::new(Inner { name, met: AtomicBool::new(false), remark: Mutex::new(missing.into()) }),
        };
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner).push(condition.clone());
        condition
    }

    /// Whether all conditions are met, and one line about each.
    pub fn report(&self) -> (bool, String) {
        let (mut ready, mut report) = (true, String::new());
        for condition in self.conditions.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let met = condition.is_met();
            ready &= met;
            let remark = condition.inner.remark.lock().unwrap_or_else(PoisonError::into_inner);
            let state = if met { "ok" } else { "not ready" };
            // Writing to a string cannot fail.
            let _ = write!(report, "{}: {state}", condition.inner.name);
            let _ = if remark.is_empty() { writeln!(report) } else { writeln!(report, ", {remark}") };
        }
        (ready, report)
    }
}

impl Condition {
    /// The condition is met; `remark` is shown beside it and may be empty.
    pub fn met(&self, remark: impl Into<Cow<'static, str>>) {
        self.set(true, remark.into());
    }

    /// The condition is met no longer, or not yet, for the reason given.
    pub fn unmet(&self, missing: impl Into<Cow<'static, str>>) {
        self.set(false, missing.into());
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.inner.name
    }

    /// Whether it is met.
    pub fn is_met(&self) -> bool {
        self.inner.met.load(Ordering::Acquire)
    }

    fn set(&self, met: bool, remark: Cow<'static, str>) {
        let before = self.inner.met.swap(met, Ordering::AcqRel);
        let mut current = self.inner.remark.lock().unwrap_or_else(PoisonError::into_inner);
        if before != met || *current != remark {
            tracing::info!(condition = self.inner.name, met, remark = %remark, "readiness");
            *current = remark;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_names_what_is_missing() {
        let readiness = Readiness::default();
        assert_eq!(readiness.report(), (true, String::new()));
        let (cache, server) = (readiness.condition("cache", "no list yet"), readiness.condition("server", "not bound"));
        assert_eq!(readiness.report(), (false, "cache: not ready, no list yet\nserver: not ready, not bound\n".into()));
        cache.met("");
        server.met("3 listeners");
        assert_eq!(readiness.report(), (true, "cache: ok\nserver: ok, 3 listeners\n".into()));
        server.unmet("shutting down");
        assert_eq!(readiness.report(), (false, "cache: ok\nserver: not ready, shutting down\n".into()));
        assert!(cache.is_met() && !server.is_met());
    }
}
