//! The objects of one kind, as far as a watch has told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Key, Meta, Uid};

/// How long the UID of an object that is gone is remembered, so that a view from before does not bring it back.
const REMEMBERED: Duration = Duration::from_mins(5);
/// How many are remembered at most.
const MOST_REMEMBERED: usize = 20_000;

/// What has an identity.
pub trait Recorded: PartialEq {
    /// It.
    fn meta(&self) -> &Meta;
    /// It, to be changed.
    fn meta_mut(&mut self) -> &mut Meta;
}

/// An object with what is known of it beside itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry<R> {
    /// What was read of it.
    pub record: R,
    /// When this life of it was first seen.
    pub seen_at: Duration,
}

/// The objects of one kind.
#[derive(Debug)]
pub struct Store<R> {
    entries: BTreeMap<Key, Entry<R>>,
    listed: bool,
    /// While a list is read: what it has had so far.
    listing: Option<BTreeSet<Key>>,
    gone: BTreeMap<Uid, Duration>,
    gone_order: BTreeSet<(Duration, Uid)>,
}

impl<R> Default for Store<R> {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            listed: false,
            listing: None,
            gone: BTreeMap::new(),
            gone_order: BTreeSet::new(),
        }
    }
}

/// What became of something that a watch said.
#[derive(Debug, PartialEq)]
pub enum Taken<R> {
    /// Nothing: it was known, or older than what is known.
    Nothing,
    /// It is new, or has changed; with what was there before.
    Applied(Option<R>),
}

impl<R> Taken<R> {
    /// Nothing if nothing came of it, else what was there before, as something else.
    pub fn map<S>(self, change: impl FnOnce(R) -> S) -> Option<Before<S>> {
        match self {
            Self::Nothing => None,
            Self::Applied(old) => Some(Before(old.map(change))),
        }
    }
}

/// What was there before a change, if anything was.
#[derive(Debug)]
pub struct Before<R>(pub Option<R>);

impl<R: Recorded> Store<R> {
    /// The object of this name.
    pub fn get(&self, key: &Key) -> Option<&R> {
        self.entries.get(key).map(|entry| &entry.record)
    }

    /// The object of this name, with what is known of it beside itself.
    pub fn entry(&self, key: &Key) -> Option<&Entry<R>> {
        self.entries.get(key)
    }

    /// All, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &R> {
        self.entries.values().map(|entry| &entry.record)
    }

    /// Those of a namespace.
    pub fn in_namespace<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a R> {
        let entries = self.entries.range(Key::new(namespace, "")..);
        entries.take_while(move |(key, _)| *key.namespace == *namespace).map(|(_, entry)| &entry.record)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a list has been complete in this process.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether this UID is known to be gone, by a deletion or a successor that was seen. Absence from a list is no such
    /// knowledge: the list may be older than what was seen before.
    pub fn is_gone(&self, uid: &Uid) -> bool {
        self.gone.contains_key(uid)
    }

    /// Takes in an object. Of two versions the older one is refused, and so is a UID that is gone.
    pub fn apply(&mut self, record: R, now: Duration) -> Taken<R> {
        let meta = record.meta();
        let key = meta.key.clone();
        if let Some(listing) = &mut self.listing {
            listing.insert(key.clone());
        }
        if self.gone.contains_key(&meta.uid) {
            return Taken::Nothing;
        }
        let Some(old) = self.entries.get_mut(&key) else {
            self.entries.insert(key, Entry { record, seen_at: now });
            return Taken::Applied(None);
        };
        let known = old.record.meta();
        let older = meta.revision < known.revision && meta.revision != 0;
        if older {
            return Taken::Nothing;
        }
        if known.uid != meta.uid {
            let uid = known.uid.clone();
            let old = std::mem::replace(old, Entry { record, seen_at: now });
            self.remember(uid, now);
            return Taken::Applied(Some(old.record));
        }
        let revision = meta.revision;
        old.record.meta_mut().revision = revision;
        if old.record == record {
            return Taken::Nothing;
        }
        Taken::Applied(Some(std::mem::replace(&mut old.record, record)))
    }

    /// Takes in any version, for a defect that is planted.
    #[cfg(feature = "planted-bugs")]
    pub fn apply_any(&mut self, record: R, now: Duration) -> Taken<R> {
        let key = record.meta().key.clone();
        if let Some(listing) = &mut self.listing {
            listing.insert(key.clone());
        }
        let old = self.entries.insert(key, Entry { record, seen_at: now });
        Taken::Applied(old.map(|old| old.record))
    }

    /// Takes in that an object is gone.
    pub fn delete(&mut self, key: &Key, uid: &Uid, now: Duration) -> Option<R> {
        self.remember(uid.clone(), now);
        if self.entries.get(key)?.record.meta().uid != *uid {
            return None;
        }
        self.entries.remove(key).map(|entry| entry.record)
    }

    /// A list begins.
    pub fn restart(&mut self) {
        self.listing = Some(BTreeSet::new());
    }

    /// Forgets everything, for a defect that is planted.
    #[cfg(feature = "planted-bugs")]
    pub fn clear(&mut self, now: Duration) -> Vec<R> {
        let cleared: Vec<R> = std::mem::take(&mut self.entries).into_values().map(|entry| entry.record).collect();
        for record in &cleared {
            self.remember(record.meta().uid.clone(), now);
        }
        cleared
    }

    /// The list is complete: what was not in it is taken out, and given.
    pub fn complete(&mut self) -> Vec<R> {
        self.listed = true;
        let Some(listing) = self.listing.take() else { return Vec::new() };
        let missing: Vec<Key> = self.entries.keys().filter(|key| !listing.contains(*key)).cloned().collect();
        missing.iter().filter_map(|key| self.entries.remove(key)).map(|entry| entry.record).collect()
    }

    fn remember(&mut self, uid: Uid, now: Duration) {
        if let Some(before) = self.gone.insert(uid.clone(), now) {
            self.gone_order.remove(&(before, uid.clone()));
        }
        self.gone_order.insert((now, uid));
        while let Some((at, uid)) = self.gone_order.first().cloned()
            && (now.saturating_sub(at) > REMEMBERED || self.gone.len() > MOST_REMEMBERED)
        {
            self.gone_order.remove(&(at, uid.clone()));
            self.gone.remove(&uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::NamespaceRecord, *};

    const NOW: Duration = Duration::from_secs(1);

    fn object(name: &str, uid: &str, revision: u64) -> NamespaceRecord {
        let meta = Meta { key: Key::new("", name), uid: Uid(uid.into()), revision, deleting: false };
        NamespaceRecord { meta, gates_wanted: revision > 5 }
    }

    fn names(store: &Store<NamespaceRecord>) -> Vec<(String, String, u64)> {
        let text = |meta: &Meta| (meta.key.name.to_string(), meta.uid.to_string(), meta.revision);
        store.iter().map(|record| text(&record.meta)).collect()
    }

    #[test]
    fn older_versions_are_refused() {
        let mut store = Store::default();
        store.apply(object("a", "1", 9), NOW);
        assert_eq!(store.apply(object("a", "1", 8), NOW), Taken::Nothing);
        assert_eq!(store.apply(object("a", "0", 3), NOW), Taken::Nothing, "an earlier life of the name");
        assert_eq!(names(&store), [("a".into(), "1".into(), 9)]);
    }

    #[test]
    fn a_version_that_says_nothing_new_is_nothing_new() {
        let mut store = Store::default();
        store.apply(object("a", "1", 9), NOW);
        assert_eq!(store.apply(object("a", "1", 10), NOW), Taken::Nothing);
        assert_eq!(names(&store), [("a".into(), "1".into(), 10)]);
    }

    #[test]
    fn what_is_gone_does_not_come_back_under_its_uid() {
        let mut store = Store::default();
        store.apply(object("a", "1", 9), NOW);
        assert!(store.delete(&Key::new("", "a"), &Uid("1".into()), NOW).is_some());
        assert_eq!(store.apply(object("a", "1", 9), NOW), Taken::Nothing);
        assert_eq!(store.apply(object("a", "2", 12), NOW), Taken::Applied(None));
        assert!(store.is_gone(&Uid("1".into())) && !store.is_gone(&Uid("2".into())));
    }

    #[test]
    fn the_deletion_of_an_earlier_life_leaves_the_later_one() {
        let mut store = Store::default();
        store.apply(object("a", "2", 12), NOW);
        assert_eq!(store.delete(&Key::new("", "a"), &Uid("1".into()), NOW), None);
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn nothing_leaves_until_a_list_is_complete() {
        let mut store = Store::default();
        store.apply(object("a", "1", 1), NOW);
        store.apply(object("b", "2", 2), NOW);
        store.restart();
        store.apply(object("b", "2", 2), NOW);
        assert_eq!(store.len(), 2);
        assert!(!store.is_listed());
        assert_eq!(store.complete().len(), 1);
        assert_eq!(names(&store), [("b".into(), "2".into(), 2)]);
        assert!(store.is_listed());
        assert!(!store.is_gone(&Uid("1".into())), "absence from a list is no proof");
    }

    #[test]
    fn what_is_remembered_of_the_gone_is_bounded() {
        let mut store = Store::<NamespaceRecord>::default();
        for index in 0..30_000 {
            store.delete(&Key::new("", "a"), &Uid(index.to_string().into()), NOW);
        }
        assert_eq!(store.gone.len(), MOST_REMEMBERED);
        store.delete(&Key::new("", "a"), &Uid("last".into()), NOW + REMEMBERED * 2);
        assert_eq!((store.gone.len(), store.gone_order.len()), (1, 1));
    }
}
