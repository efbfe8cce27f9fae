//! Which annotations of Services came and went in some vector, and why the others did not.

use std::collections::{BTreeMap, BTreeSet};

use nlb::annotations::{Object, TABLE, keys};

/// Those that no vector can be driven with in the lab, each with its reason.
const NOT_HERE: [(&str, &str); 1] =
    [(keys::MANAGED_FIELDS, "the registrar writes it itself, on every Service that has a load balancer")];

/// Why something is in the way of a vector, by a part of what is said of it.
const REASONS: [(&str, &str); 7] = [
    ("is not recognized", UNKNOWN),
    ("while 'target_health_state", WARNED),
    ("Client IP preservation cannot be disabled", WARNED),
    ("needs EnablePrefixForIpv6SourceNat 'on'", WARNED),
    ("spec.ports: Required value", NOT_STORED),
    ("may only be used when `type` is 'LoadBalancer'", NOT_STORED),
    ("must not have bits set beyond the prefix length", NOT_STORED),
];
const UNKNOWN: &str = "AWS has no such attribute, as admission remarked";
const WARNED: &str = "AWS does not take the value, as admission warned";
const NOT_STORED: &str = "Kubernetes itself does not store such a Service";

/// Why a vector cannot be driven, if that is known.
pub(crate) fn excuse(said: &str) -> Option<&'static str> {
    REASONS.iter().find(|(part, _)| said.contains(part)).map(|(_, why)| *why)
}

/// The annotations of Services.
fn of_services() -> impl Iterator<Item = &'static str> {
    TABLE.iter().filter(|row| row.object == Object::Service).map(|row| row.key)
}

/// What is wrong with the list: annotations that came and went although they are in it, and others that did not.
pub(crate) fn gaps(driven: &BTreeSet<&str>) -> Vec<String> {
    let excused: BTreeMap<&str, &str> = NOT_HERE.into();
    of_services()
        .filter_map(|key| match (driven.contains(key), excused.contains_key(key)) {
            (true, true) => Some(format!("{key} was driven, though it is said that it cannot be")),
            (false, false) => Some(format!("{key} was driven by no vector")),
            _ => None,
        })
        .collect()
}

/// The list, to be printed.
pub(crate) fn excused() -> impl Iterator<Item = String> {
    NOT_HERE.into_iter().map(|(key, why)| format!("{key}: {why}"))
}

#[test]
fn an_annotation_is_driven_or_excused_and_never_both() {
    let excused: BTreeSet<&str> = NOT_HERE.iter().map(|(key, _)| *key).collect();
    let mut driven: BTreeSet<&str> = of_services().filter(|key| !excused.contains(key)).collect();
    assert_eq!(gaps(&driven), Vec::<String>::new());
    driven.remove(keys::TAGS);
    driven.insert(keys::MANAGED_FIELDS);
    let expected = [
        format!("{} was driven by no vector", keys::TAGS),
        format!("{} was driven, though it is said that it cannot be", keys::MANAGED_FIELDS),
    ];
    assert_eq!(gaps(&driven), expected);
}
