//! Runs that leave nothing to chance: a crash at every boundary of every reference scene, every defect that can be planted.

use std::{
    num::NonZero,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{CrashPoint, Moment, Reference, Trace, run};

/// Does something for each item, on as many threads as there are processors. The results come in the order of the items.
pub fn on_all<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> anyhow::Result<R> + Sync) -> anyhow::Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, anyhow::Result<R>)>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(index) else { break };
                    let result = work(item);
                    if let Ok(mut done) = done.lock() {
                        done.push((index, result));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_default();
    anyhow::ensure!(done.len() == items.len(), "a run has panicked");
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// A crash that was tried.
#[derive(Debug, Clone)]
pub struct Tried {
    /// Name of the reference scene.
    pub scene: &'static str,
    /// Where its process died.
    pub point: CrashPoint,
    /// What was wrong with it.
    pub wrong: Option<String>,
}

/// Tries a crash at every `stride`-th boundary of a reference scene, in each of the four ways.
pub fn crashes(reference: &Reference, stride: u64) -> anyhow::Result<Vec<Tried>> {
    let plain = run::reference(reference.scene.clone(), None, Trace::default())?;
    if let Some(complaint) = plain.complaint {
        anyhow::bail!("{} without a crash: {}: {}", reference.name, complaint.rule, complaint.what);
    }
    let mut points = Vec::new();
    for (moment, passed) in Moment::ALL.into_iter().zip(plain.passed) {
        points.extend((0..passed).step_by(usize::try_from(stride)?).map(|nth| CrashPoint { moment, nth }));
    }
    on_all(&points, |point| {
        let outcome = run::reference(reference.scene.clone(), Some(*point), Trace::default())?;
        let wrong = match outcome.complaint {
            Some(complaint) => Some(format!("{}: {}", complaint.rule, complaint.what)),
            None => outcome.tally.differs_from(&plain.tally),
        };
        Ok(Tried { scene: reference.name, point: *point, wrong })
    })
}

/// The first seed below `most` at which a planted defect is found, and the rule that it breaks.
#[cfg(feature = "planted-bugs")]
pub fn found_at(bug: registrar_core::planted::Bug, most: u64) -> anyhow::Result<Option<(u64, &'static str)>> {
    const ROUND: u64 = 32;
    for from in (0..most).step_by(usize::try_from(ROUND)?) {
        let seeds: Vec<u64> = (from..(from + ROUND).min(most)).collect();
        let found = on_all(&seeds, |seed| {
            let choices = crate::Choices::seeded(*seed);
            let outcome = run::changed(choices, Trace::default(), |scene| scene.planted = Some(bug))?;
            Ok(outcome.complaint.map(|complaint| (*seed, complaint.rule)))
        })?;
        if let Some(found) = found.into_iter().flatten().next() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}
