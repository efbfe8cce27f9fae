//! Tags of load balancers, target groups, listeners and rules.

use std::collections::{BTreeMap, BTreeSet};

use super::lookup::Noun;
use crate::{
    Model, Value,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Fields, Input, Kind, TEXTS, optional, required},
    settings::Settings,
    value::record,
};

/// Tags by key.
pub(crate) type Tags = BTreeMap<String, String>;

const KEY: Kind = Kind::Text { min: 1, max: 128 };
const TAG: Kind = Kind::Record(&[required("Key", KEY), optional("Value", Kind::Text { min: 0, max: 256 })]);
pub(super) const TAGS: Kind = Kind::list(&TAG);

const NOT_FOUND: [Code; 4] =
    [Code::LoadBalancerNotFound, Code::TargetGroupNotFound, Code::ListenerNotFound, Code::RuleNotFound];

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeTags",
    bucket: Bucket::Describe,
    accepts: &[required("ResourceArns", TEXTS)],
    refuses: &NOT_FOUND,
    run: |model, input| {
        let mut descriptions = Vec::new();
        for arn in resources(input)? {
            let tags: Value =
                model.tags_of(arn)?.iter().map(|(k, v)| record! { "Key": k.as_str(), "Value": v.as_str() }).collect();
            descriptions.push(record! { "ResourceArn": arn, "Tags": tags });
        }
        Ok(record! { "TagDescriptions": Value::List(descriptions) })
    },
};

pub(super) const ADD: Operation = Operation {
    name: "AddTags",
    bucket: Bucket::Other,
    accepts: &[required("ResourceArns", TEXTS), required("Tags", TAGS)],
    refuses: &[
        Code::DuplicateTagKeys,
        Code::TooManyTags,
        Code::LoadBalancerNotFound,
        Code::TargetGroupNotFound,
        Code::ListenerNotFound,
        Code::RuleNotFound,
    ],
    run: |model, input| {
        let added = read(&model.settings, input)?;
        let quota = model.settings.quota_tags as usize;
        let arns = resources(input)?;
        for arn in &arns {
            let present: BTreeSet<_> = model.tags_of(arn)?.keys().chain(added.keys()).cloned().collect();
            if present.len() > quota {
                return too_many(quota);
            }
        }
        for arn in &arns {
            model.tags_of(arn)?.extend(added.clone());
        }
        Ok(Value::empty())
    },
};

pub(super) const REMOVE: Operation = Operation {
    name: "RemoveTags",
    bucket: Bucket::Other,
    accepts: &[required("ResourceArns", TEXTS), required("TagKeys", Kind::list(&KEY))],
    refuses: &[
        Code::LoadBalancerNotFound,
        Code::TargetGroupNotFound,
        Code::ListenerNotFound,
        Code::RuleNotFound,
        Code::TooManyTags,
    ],
    run: |model, input| {
        let arns = resources(input)?;
        for arn in &arns {
            model.tags_of(arn)?;
        }
        for arn in &arns {
            let tags = model.tags_of(arn)?;
            for key in input.texts("TagKeys") {
                tags.remove(key);
            }
        }
        Ok(Value::empty())
    },
};

/// The ARNs that a call is about: 20 at most.
fn resources(input: &Input) -> Result<Vec<&str>> {
    let arns = input.texts("ResourceArns");
    match arns.len() {
        0 => Code::ValidationError.refuse("At least one resource ARN must be specified"),
        1..=20 => Ok(arns),
        more => Code::ValidationError.refuse(format!("You can specify up to 20 resources, not {more}")),
    }
}

/// The `Tags` of a call.
pub(super) fn read(settings: &Settings, fields: &Fields) -> Result<Tags> {
    let quota = settings.quota_tags as usize;
    let mut tags = Tags::new();
    for tag in fields.records("Tags") {
        let key = tag.need("Key");
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Code::ValidationError.refuse(format!("The tag key '{key}' begins with the reserved prefix 'aws:'"));
        }
        let value = tag.text("Value").unwrap_or_default();
        for text in [key, value] {
            if !text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c)) {
                return Code::ValidationError.refuse(format!("The tag '{key}' holds characters that are not allowed"));
            }
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Code::DuplicateTagKeys.refuse(format!("Tag keys must be unique; '{key}' is specified twice"));
        }
    }
    if tags.len() > quota { too_many(quota) } else { Ok(tags) }
}

fn too_many<T>(quota: usize) -> Result<T> {
    Code::TooManyTags.refuse(format!("The maximum number of tags per resource '{quota}' has been reached"))
}

impl Model {
    fn tags_of(&mut self, arn: &str) -> Result<&mut Tags> {
        let missing = |noun: Noun| move || noun.missing();
        match Noun::of(arn) {
            Some(Noun::Balancer) => {
                let key = self.balancer_key(arn)?;
                self.balancers.get_mut(key).map(|b| &mut b.tags).ok_or_else(missing(Noun::Balancer))
            }
            Some(Noun::Group) => {
                let key = self.group_key(arn)?;
                self.groups.get_mut(key).map(|g| &mut g.tags).ok_or_else(missing(Noun::Group))
            }
            Some(Noun::Listener) => {
                let key = self.listener_key(arn)?;
                self.listeners.get_mut(key).map(|l| &mut l.tags).ok_or_else(missing(Noun::Listener))
            }
            Some(Noun::Rule) => {
                let key = self.rule_key(arn)?;
                self.listeners.get_mut(key).map(|l| &mut l.rule_tags).ok_or_else(missing(Noun::Rule))
            }
            None => Code::ValidationError.refuse(format!("'{arn}' is not a valid ARN")),
        }
    }
}
