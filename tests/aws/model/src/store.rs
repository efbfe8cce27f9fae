//! Resources by key and by ARN, listed in the order of their creation.

use std::{collections::BTreeMap, fmt::Debug};

macro_rules! key {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) struct $name(u64);

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }

        impl From<$name> for u64 {
            fn from(key: $name) -> Self {
                key.0
            }
        }
    )*};
}

key! {
    /// Identifies a load balancer.
    BalancerKey
    /// Identifies a target group.
    GroupKey
    /// Identifies a listener.
    ListenerKey
}

/// What has an ARN.
pub(crate) trait Resource {
    fn arn(&self) -> &str;
}

/// Resources of one kind. Keys grow with every creation and are never used again, so they are also the marks between
/// the pages of a listing.
#[derive(Debug, Clone)]
pub(crate) struct Store<K, T> {
    last: u64,
    items: BTreeMap<K, T>,
    arns: BTreeMap<String, K>,
}

impl<K: Ord + Copy + From<u64> + Debug, T: Resource> Store<K, T> {
    pub(crate) const fn new() -> Self {
        Self { last: 0, items: BTreeMap::new(), arns: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, item: T) -> K {
        self.last += 1;
        let key = K::from(self.last);
        self.arns.insert(item.arn().to_owned(), key);
        self.items.insert(key, item);
        key
    }

    pub(crate) fn remove(&mut self, key: K) -> Option<T> {
        let item = self.items.remove(&key)?;
        self.arns.remove(item.arn());
        Some(item)
    }

    pub(crate) fn key(&self, arn: &str) -> Option<K> {
        self.arns.get(arn).copied()
    }

    pub(crate) fn get(&self, key: K) -> Option<&T> {
        self.items.get(&key)
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut T> {
        self.items.get_mut(&key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.items.iter().map(|(key, item)| (*key, item))
    }

    pub(crate) fn find(&self, is: impl Fn(&T) -> bool) -> Option<(K, &T)> {
        self.iter().find(|(_, item)| is(item))
    }

    pub(crate) fn keys(&self) -> Vec<K> {
        self.items.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}
