//! A queue ordered by priority, and fair between objects within a priority.

use std::collections::BTreeMap;

use crate::{cluster::Key, effect::Priority};

/// Within a priority, each object's first item is in the round under way, its second in the next, and so on ("start-time
/// fair queueing"): who queues a hundred items delays another's first by one.
#[derive(Debug)]
pub struct Queue<T> {
    items: BTreeMap<(Priority, u64, u64), (Key, T)>,
    pushed: u64,
    round: BTreeMap<Priority, u64>,
    /// The last round in which an object has an item.
    rounds: BTreeMap<(Priority, Key), u64>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), pushed: 0, round: BTreeMap::new(), rounds: BTreeMap::new() }
    }
}

impl<T> Queue<T> {
    pub fn push(&mut self, priority: Priority, object: Key, item: T) {
        let current = self.round.get(&priority).copied().unwrap_or_default();
        let last = self.rounds.get(&(priority, object.clone())).map_or(0, |round| round + 1);
        let round = current.max(last);
        self.rounds.insert((priority, object.clone()), round);
        self.pushed += 1;
        self.items.insert((priority, round, self.pushed), (object, item));
    }

    /// The priority of what comes next.
    pub fn first(&self) -> Option<Priority> {
        self.items.first_key_value().map(|((priority, ..), _)| *priority)
    }

    pub fn pop(&mut self) -> Option<(Priority, T)> {
        let ((priority, round, _), (object, item)) = self.items.pop_first()?;
        self.round.insert(priority, round);
        let place = (priority, object);
        if self.rounds.get(&place) == Some(&round) {
            self.rounds.remove(&place);
        }
        Some((priority, item))
    }

    pub fn remove(&mut self, is_it: impl Fn(&T) -> bool) {
        self.items.retain(|_, (_, item)| !is_it(item));
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(items: &[(Priority, &str, u32)]) -> Vec<u32> {
        let mut queue = Queue::default();
        for (priority, object, item) in items {
            queue.push(*priority, Key::new("", object), *item);
        }
        std::iter::from_fn(|| queue.pop().map(|(_, item)| item)).collect()
    }

    #[test]
    fn the_more_urgent_comes_first() {
        use Priority::{Deregister, Drift, Gates, LoadBalancers, Register};
        let items =
            [(Drift, "a", 5), (LoadBalancers, "a", 4), (Gates, "a", 3), (Register, "b", 2), (Deregister, "b", 1)];
        assert_eq!(order(&items), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn an_object_with_many_items_does_not_delay_the_others() {
        use Priority::Register;
        let items =
            [(Register, "a", 1), (Register, "a", 2), (Register, "a", 3), (Register, "b", 10), (Register, "c", 20)];
        assert_eq!(order(&items), [1, 10, 20, 2, 3]);
    }
}
