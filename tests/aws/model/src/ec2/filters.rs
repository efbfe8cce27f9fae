//! Filters and pages of EC2's `Describe*`.

use std::collections::BTreeMap;

use crate::{
    Value,
    fault::{Code, Result},
    schema::{Field, Fields, Input, Kind, TEXT, TEXTS, optional},
};

/// Tags by key.
pub(crate) type Tags = BTreeMap<String, String>;

pub(super) const FILTER: Field =
    optional("Filter", Kind::list(&Kind::Record(&[optional("Name", TEXT), optional("Value", TEXTS)])));
pub(super) const NEXT_TOKEN: Field = optional("NextToken", TEXT);
pub(super) const MAX_RESULTS: Field = optional("MaxResults", Kind::int(5, 1000));

/// What a filter compares: attributes by their filter names, and tags.
pub(super) struct Facts<'a> {
    pub(super) attributes: &'a [(&'static str, Vec<String>)],
    pub(super) tags: &'a Tags,
}

/// Whether something passes all filters: each names an attribute or a tag and lists patterns, one of which must match.
pub(super) fn passes(input: &Fields, facts: &Facts<'_>) -> Result<bool> {
    for filter in input.records("Filter") {
        let name = filter.text("Name").unwrap_or_default();
        let patterns = filter.texts("Value");
        let values: Vec<&str> = if let Some(key) = name.strip_prefix("tag:") {
            facts.tags.get(key).map(String::as_str).into_iter().collect()
        } else if name == "tag-key" {
            facts.tags.keys().map(String::as_str).collect()
        } else if let Some((_, values)) = facts.attributes.iter().find(|(attribute, _)| *attribute == name) {
            values.iter().map(String::as_str).collect()
        } else {
            return Code::InvalidParameterValue.refuse(format!("The filter '{name}' is invalid"));
        };
        if !patterns.iter().any(|pattern| values.iter().any(|value| like(pattern.as_bytes(), value.as_bytes()))) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `*` stands for any text, `?` for one character. Linear in both: the last `*` is tried longer and longer.
fn like(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[t] => (p, t) = (p + 1, t + 1),
            _ => match retry {
                Some((after, from)) => {
                    (p, t) = (after, from + 1);
                    retry = Some((after, from + 1));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

/// A page of items, sorted by id, as the set of the given name, and the token of the next page.
pub(super) fn paged(input: &Input, set: &'static str, mut items: Vec<(String, Value)>) -> Result<Value> {
    items.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some(token) = input.text("NextToken").filter(|token| !token.is_empty()) {
        let Some(after) = unveil(token) else {
            return Code::InvalidParameterValue.refuse(format!("Invalid value '{token}' for NextToken"));
        };
        items.retain(|(id, _)| *id > after);
    }
    let size = input.number("MaxResults").unwrap_or(usize::MAX);
    let next = if items.len() > size { items.get(size - 1).map(|(id, _)| veil(id)) } else { None };
    items.truncate(size);
    let mut fields = vec![(set, items.into_iter().map(|(_, value)| value).collect())];
    fields.extend(next.map(|token| ("nextToken", Value::from(token))));
    Ok(Value::Record(fields))
}

fn veil(id: &str) -> String {
    id.bytes().fold(String::new(), |token, byte| format!("{token}{:02x}", byte ^ 0x5a))
}

fn unveil(token: &str) -> Option<String> {
    let digits = token.as_bytes().chunks(2);
    let bytes = digits.map(|pair| Some(u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()? ^ 0x5a));
    String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()
}

/// Items of a list of ids, each of which must exist.
pub(super) fn known<'a>(
    ids: &[&'a str],
    code: Code,
    noun: &str,
    exists: impl Fn(&str) -> bool,
) -> Result<Vec<&'a str>> {
    match ids.iter().find(|id| !exists(id)) {
        Some(id) => code.refuse(format!("The {noun} '{id}' does not exist")),
        None => Ok(ids.to_vec()),
    }
}

/// Tags as EC2 shows them.
pub(super) fn tag_set(tags: &Tags) -> Value {
    tags.iter().map(|(k, v)| crate::value::record! { "key": k.as_str(), "value": v.as_str() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_a_shell_would() {
        for (pattern, text, matches) in [
            ("", "", true),
            ("*", "anything", true),
            ("ELB net/*", "ELB net/a/b", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("*a*b", "xxaxxbxx", false),
        ] {
            assert_eq!(like(pattern.as_bytes(), text.as_bytes()), matches, "{pattern} on {text}");
        }
    }

    #[test]
    fn tokens_are_read_back_and_nonsense_is_not() {
        assert_eq!(unveil(&veil("subnet-1")).as_deref(), Some("subnet-1"));
        assert_eq!(unveil("zz"), None);
    }
}
