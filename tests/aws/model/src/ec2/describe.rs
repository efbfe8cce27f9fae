//! One shape for most `Describe*`: ids or filters in, a sorted page out.

use std::fmt::Display;

use super::filters::{Facts, Tags, known, paged, passes};
use crate::{
    Value,
    fault::{Code, Result},
    schema::Input,
};

/// Something that can be listed.
pub(super) struct Item<'a> {
    pub(super) id: String,
    /// Attributes by their filter names.
    pub(super) attributes: Vec<(&'static str, Vec<String>)>,
    pub(super) tags: &'a Tags,
    pub(super) value: Value,
}

/// How a kind of thing is listed.
pub(super) struct Kind {
    /// The field of ids, for example `SubnetId`.
    pub(super) ids: &'static str,
    /// The element of the result, for example `subnetSet`.
    pub(super) set: &'static str,
    /// Answered for an id that does not exist.
    pub(super) missing: Code,
    /// What an id is of, in messages.
    pub(super) noun: &'static str,
}

/// Answers a `Describe*`.
pub(super) fn describe(input: &Input, kind: &Kind, items: Vec<Item<'_>>) -> Result<Value> {
    let asked = input.texts(kind.ids);
    known(&asked, kind.missing, kind.noun, |id| items.iter().any(|item| item.id == id))?;
    let mut shown = Vec::new();
    for item in items {
        let facts = Facts { attributes: &item.attributes, tags: item.tags };
        if (asked.is_empty() || asked.contains(&item.id.as_str())) && passes(input, &facts)? {
            shown.push((item.id, item.value));
        }
    }
    paged(input, kind.set, shown)
}

/// An attribute with one value.
pub(super) fn one(name: &'static str, value: impl Display) -> (&'static str, Vec<String>) {
    (name, vec![format!("{value}")])
}
