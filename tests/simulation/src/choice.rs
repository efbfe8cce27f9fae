//! The one source of chance: every choice of a run is drawn here and recorded, so that a run is its list of choices.
//!
//! Zero is always the plainest choice: the shortest wait, no fault, the first of a list. A list that has ended goes on with
//! zeros, so that a shorter or flatter list is a simpler run.

use std::time::Duration;

/// How many steps a range of durations has.
const STEPS: u32 = 64;

/// Draws choices, and remembers them.
#[derive(Debug, Clone)]
pub struct Choices {
    /// What is replayed; nothing for a run that draws.
    given: Option<Vec<u32>>,
    taken: Vec<u32>,
    state: u64,
}

impl Choices {
    /// Choices that a seed determines.
    pub const fn seeded(seed: u64) -> Self {
        Self { given: None, taken: Vec::new(), state: seed }
    }

    /// The choices of an earlier run, then zeros.
    pub const fn replayed(list: Vec<u32>) -> Self {
        Self { given: Some(list), taken: Vec::new(), state: 0 }
    }

    /// What was chosen so far.
    pub fn into_list(self) -> Vec<u32> {
        self.taken
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u32) -> u32 {
        let drawn = match &self.given {
            Some(list) => list.get(self.taken.len()).copied().unwrap_or_default(),
            None => self.next(),
        };
        let choice = drawn % bound.max(1);
        self.taken.push(choice);
        choice
    }

    /// True with a probability of so many in a thousand.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) >= 1000 - per_mille.min(1000)
    }

    /// A duration from `least` to just below `most`.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        least + (most.saturating_sub(least)) * self.below(STEPS) / STEPS
    }

    /// A duration in milliseconds, as [`Choices::between`].
    pub fn millis(&mut self, least: u64, most: u64) -> Duration {
        self.between(Duration::from_millis(least), Duration::from_millis(most))
    }

    /// One of some things; the slice is not empty.
    pub fn of<T: Copy>(&mut self, things: &[T]) -> T {
        let index = self.below(u32::try_from(things.len()).unwrap_or(u32::MAX));
        things[index as usize]
    }

    /// `SplitMix64` (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replayed_list_gives_the_same_choices_and_then_zeros() {
        let mut drawn = Choices::seeded(7);
        let first: Vec<u32> = (1..50).map(|bound| drawn.below(bound)).collect();
        let mut replayed = Choices::replayed(drawn.into_list());
        let second: Vec<u32> = (1..50).map(|bound| replayed.below(bound)).collect();
        assert_eq!(first, second);
        assert!(first.iter().any(|choice| *choice > 0));
        assert_eq!(replayed.below(1000), 0);
        assert!(!replayed.chance(999), "zero is no fault");
    }

    #[test]
    fn chances_come_about_as_often_as_they_say() {
        let mut choices = Choices::seeded(1);
        let hits = (0..10_000).filter(|_| choices.chance(100)).count();
        assert!((800..1200).contains(&hits), "{hits}");
    }
}
