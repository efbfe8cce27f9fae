//! The annotations of one object, read by kind. What cannot be read is as if it were absent: [`super::check`] has
//! reported it already.

use std::collections::BTreeMap;

use super::{keys, parse};

/// The annotations of one object.
#[derive(Debug, Clone, Copy)]
pub struct Annotations<'a>(Option<&'a BTreeMap<String, String>>);

impl<'a> Annotations<'a> {
    /// Wraps the annotations of an object's metadata.
    pub fn new(annotations: Option<&'a BTreeMap<String, String>>) -> Self {
        Self(annotations)
    }

    /// The raw value.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.0?.get(key).map(String::as_str)
    }

    /// Whether the key is there, whatever its value.
    pub fn has(&self, key: &str) -> bool {
        self.text(key).is_some()
    }

    /// A boolean.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        parse::boolean(self.text(key)?).ok()
    }

    /// An integer, whatever its range.
    pub fn integer(&self, key: &str) -> Option<i32> {
        parse::integer(self.text(key)?).ok()
    }

    /// The items of a list; `Some` of none if the value is empty.
    pub fn list(&self, key: &str) -> Option<Vec<&'a str>> {
        Some(parse::list(self.text(key)?))
    }

    /// The pairs of a map.
    pub fn map(&self, key: &str) -> Option<BTreeMap<String, String>> {
        parse::map(self.text(key)?).ok()
    }

    /// The keys that begin with `prefix` and name a listener, with their values.
    pub fn of_listeners(&self, prefix: &'static str) -> impl Iterator<Item = (&'a str, &'a str, u16, &'a str)> {
        self.0.into_iter().flatten().filter_map(move |(key, value)| {
            let (protocol, port) = keys::listener(key.strip_prefix(prefix)?)?;
            Some((key.as_str(), protocol, port, value.as_str()))
        })
    }

    /// The keys that begin with `prefix` and name a port, with their values.
    pub fn of_ports(&self, prefix: &'static str) -> impl Iterator<Item = (&'a str, u16, &'a str)> {
        self.0.into_iter().flatten().filter_map(move |(key, value)| {
            Some((key.as_str(), keys::port(key.strip_prefix(prefix)?)?, value.as_str()))
        })
    }
}
