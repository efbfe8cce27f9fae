//! How a value is read, by kind, exactly as the peer reads it: what it accepts is accepted, what it refuses is an error.

use std::collections::BTreeMap;

/// Why a value of a given kind cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not one of the words for true and false.
    #[error("is not a boolean")]
    Boolean,
    /// Not a base-10 integer of 32 bits, without blanks or units.
    #[error("is not an integer")]
    Integer,
    /// A pair of a map without `=`.
    #[error("has the entry \"{0}\" without \"=\"")]
    PairWithoutEquals(String),
    /// A pair of a map that begins with `=`.
    #[error("has an entry with an empty key")]
    EmptyKey,
    /// Not hours, minutes and seconds.
    #[error("is not a duration")]
    Duration,
}

/// Reads `1 t T TRUE true True` and `0 f F FALSE false False`, and nothing else.
pub fn boolean(value: &str) -> Result<bool, Error> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(Error::Boolean),
    }
}

/// Reads a base-10 integer of 32 bits with an optional sign. Blanks are not trimmed.
pub fn integer(value: &str) -> Result<i32, Error> {
    value.parse().map_err(|_| Error::Integer)
}

/// Splits at commas, trims, and leaves out what is empty.
pub fn list(value: &str) -> Vec<&str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// Reads `key=value` pairs split at commas, each at its first `=`, both sides trimmed. A backslash takes the next
/// character as it is; the last of several equal keys wins. A comma at the very end belongs to the last value.
pub fn map(value: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut pairs = BTreeMap::new();
    if value.trim().is_empty() {
        return Ok(pairs);
    }
    let mut pair = Pair::default();
    let mut characters = value.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' => pair.push(characters.next().unwrap_or('\\')),
            ',' if characters.peek().is_some() => {
                let (key, value) = std::mem::take(&mut pair).finish()?;
                pairs.insert(key, value);
            }
            '=' if pair.value.is_none() => pair.value = Some(String::new()),
            other => pair.push(other),
        }
    }
    let (key, value) = pair.finish()?;
    pairs.insert(key, value);
    Ok(pairs)
}

/// Writes a map such that [`map`] reads the same pairs back.
pub fn print_map(pairs: &BTreeMap<String, String>) -> String {
    let escape = |text: &str| {
        let mut escaped = String::with_capacity(text.len());
        for character in text.chars() {
            if matches!(character, '\\' | ',' | '=') {
                escaped.push('\\');
            }
            escaped.push(character);
        }
        escaped
    };
    pairs.iter().map(|(key, value)| format!("{}={}", escape(key), escape(value))).collect::<Vec<_>>().join(",")
}

#[derive(Default)]
struct Pair {
    key: String,
    value: Option<String>,
}

impl Pair {
    fn push(&mut self, character: char) {
        self.value.as_mut().unwrap_or(&mut self.key).push(character);
    }

    fn finish(self) -> Result<(String, String), Error> {
        let Some(value) = self.value else {
            return Err(Error::PairWithoutEquals(crate::violation::excerpt(&self.key)));
        };
        let key = self.key.trim();
        if key.is_empty() { Err(Error::EmptyKey) } else { Ok((key.to_owned(), value.trim().to_owned())) }
    }
}

/// Reads a duration such as `90s`, `5m` or `1h30m`, in seconds: whole hours, minutes and seconds, each at most once and in
/// that order.
pub fn duration(value: &str) -> Result<u32, Error> {
    let mut rest = value;
    let mut total: u32 = 0;
    for (unit, seconds) in [('h', 3600_u32), ('m', 60), ('s', 1)] {
        let Some(end) = rest.find(|character: char| !character.is_ascii_digit()) else { break };
        if rest[end..].starts_with(unit) {
            let count: u32 = rest[..end].parse().map_err(|_| Error::Duration)?;
            total = count.checked_mul(seconds).and_then(|part| total.checked_add(part)).ok_or(Error::Duration)?;
            rest = &rest[end + 1..];
        }
    }
    if rest.is_empty() && !value.is_empty() { Ok(total) } else { Err(Error::Duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(given: &[(&str, &str)]) -> BTreeMap<String, String> {
        given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn booleans_are_the_twelve_words_and_nothing_else() {
        for word in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(boolean(word), Ok(true), "{word}");
        }
        for word in ["0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(boolean(word), Ok(false), "{word}");
        }
        for word in ["", " true", "true ", "yes", "on", "tRUE", "2"] {
            assert_eq!(boolean(word), Err(Error::Boolean), "{word}");
        }
    }

    #[test]
    fn integers_have_32_bits_and_no_units_or_blanks() {
        for (text, number) in [("10", 10), ("+5", 5), ("-1", -1), ("007", 7), ("2147483647", i32::MAX)] {
            assert_eq!(integer(text), Ok(number), "{text}");
        }
        for text in ["", " 10", "10 ", "10s", "1.5", "2147483648", "0x10", "1_000"] {
            assert_eq!(integer(text), Err(Error::Integer), "{text}");
        }
    }

    #[test]
    fn lists_are_trimmed_and_lose_what_is_empty() {
        assert_eq!(list(" a, b ,,c,"), ["a", "b", "c"]);
        assert!(list("").is_empty());
        assert!(list(" , ").is_empty());
    }

    #[test]
    fn maps_are_read_as_the_peer_reads_them() {
        for (text, expected) in [
            ("", pairs(&[])),
            ("a=1", pairs(&[("a", "1")])),
            (" a = 1 , b=2", pairs(&[("a", "1"), ("b", "2")])),
            ("a=", pairs(&[("a", "")])),
            ("a=1=2", pairs(&[("a", "1=2")])),
            ("a=1,a=2", pairs(&[("a", "2")])),
            ("a=x\\,y,b=1", pairs(&[("a", "x,y"), ("b", "1")])),
            ("a=x\\\\", pairs(&[("a", "x\\")])),
            ("a=1,", pairs(&[("a", "1,")])),
        ] {
            assert_eq!(map(text), Ok(expected), "{text}");
        }
        assert_eq!(map("a"), Err(Error::PairWithoutEquals("a".into())));
        assert_eq!(map("a=1,,b=2"), Err(Error::PairWithoutEquals(String::new())));
        assert_eq!(map("=1"), Err(Error::EmptyKey));
        assert_eq!(map("a=1,b"), Err(Error::PairWithoutEquals("b".into())));
    }

    #[test]
    fn durations_are_whole_hours_minutes_and_seconds() {
        for (text, seconds) in [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1h1s", 3601), ("0s", 0)] {
            assert_eq!(duration(text), Ok(seconds), "{text}");
        }
        for text in ["", "5", "m", "5m1h", "1.5h", "-5m", "5 m", "99999999h", "5ms"] {
            assert_eq!(duration(text), Err(Error::Duration), "{text}");
        }
    }
}
