//! YAML with the line on which everything stands.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;

/// A value and the line on which it begins, counted from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The line; 0 where it cannot be told.
    pub line: u64,
    /// The value.
    pub content: Content,
}

/// A value of YAML.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A scalar.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order in which it is written.
    Map(Vec<(String, Node)>),
}

/// All documents of a text.
pub fn read(text: &str) -> Result<Vec<Node>, Box<serde_saphyr::Error>> {
    let documents: Vec<Spanned<Content>> = serde_saphyr::from_multiple(text).map_err(Box::new)?;
    Ok(documents.into_iter().map(Node::from).collect())
}

impl From<Spanned<Content>> for Node {
    fn from(spanned: Spanned<Content>) -> Self {
        Self { line: spanned.referenced.line(), content: spanned.value }
    }
}

impl Node {
    /// An entry of a map.
    pub fn get(&self, key: &str) -> Option<&Node> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The entries of a list.
    pub fn items(&self) -> &[Node] {
        match &self.content {
            Content::List(items) => items,
            _ => &[],
        }
    }

    /// A text.
    pub fn text(&self) -> Option<&str> {
        match &self.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The same without lines.
    pub fn value(&self) -> Value {
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => Value::Array(items.iter().map(Self::value).collect()),
            Content::Map(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.clone(), node.value())).collect::<Map<_, _>>())
            }
        }
    }

    /// The line of what a violation names: an annotation, or a path such as `spec.ports[1].protocol`. What is not there
    /// is reported where it would have to be.
    pub fn line_of(&self, key: &str) -> u64 {
        let annotations = self.get("metadata").and_then(|metadata| metadata.get("annotations"));
        if let Some(annotation) = annotations.and_then(|annotations| annotations.get(key)) {
            return annotation.line;
        }
        let mut node = self;
        for step in key.split('.') {
            let (field, index) = match step.split_once('[') {
                Some((field, index)) => (field, index.trim_end_matches(']').parse::<usize>().ok()),
                None => (step, None),
            };
            let next = node.get(field).and_then(|next| match index {
                Some(index) => next.items().get(index),
                None => Some(next),
            });
            let Some(next) = next else { break };
            node = next;
        }
        node.line
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyContent)
    }
}

struct AnyContent;

impl<'de> Visitor<'de> for AnyContent {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("anything that YAML can say")
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Content, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number that JSON cannot say"))?;
        Ok(Content::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_string<E>(self, value: String) -> Result<Content, E> {
        Ok(Content::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Content>>()? {
            items.push(item.into());
        }
        Ok(Content::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            entries.push((key, map.next_value::<Spanned<Content>>()?.into()));
        }
        Ok(Content::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = "\
kind: Service
metadata:
  annotations:
    a.b/c: x
spec:
  ports:
    - port: 80
    - port: 443
      protocol: SCTP
---
{kind: List, items: [{n: 1.5, b: true, z: null, s: \"1\"}]}
";

    #[test]
    fn everything_has_its_line() {
        let documents = read(TEXT).unwrap();
        assert_eq!(documents.len(), 2);
        for (key, line) in [
            ("a.b/c", 4),
            ("spec.ports[1].protocol", 9),
            ("spec.ports[1].name", 8),
            ("spec.ports[0].protocol", 7),
            ("nowhere", 1),
        ] {
            assert_eq!(documents[0].line_of(key), line, "{key}");
        }
        assert_eq!(documents[1].line, 11);
    }

    #[test]
    fn values_keep_their_types() {
        let documents = read(TEXT).unwrap();
        let expected = json!({"kind": "List", "items": [{"n": 1.5, "b": true, "z": null, "s": "1"}]});
        assert_eq!(documents[1].value(), expected);
    }
}
