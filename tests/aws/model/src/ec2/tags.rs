//! Tags of EC2 resources.

use std::collections::BTreeMap;

use world::World;

use super::filters::Tags;
use crate::{
    Model,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Field, Fields, Input, Kind, TEXT, TEXTS, optional, required},
    value::record,
};

const TAG: Kind = Kind::list(&Kind::Record(&[optional("Key", TEXT), optional("Value", TEXT)]));
/// Tags for what a call creates.
pub(super) const SPECIFICATION: Field =
    optional("TagSpecification", Kind::list(&Kind::Record(&[optional("ResourceType", TEXT), optional("Tag", TAG)])));

pub(super) const CREATE: Operation = Operation {
    name: "CreateTags",
    bucket: Bucket::Ec2,
    accepts: &[required("ResourceId", TEXTS), required("Tag", TAG)],
    refuses: &[Code::IdNotFound, Code::TagLimitExceeded],
    run: |model, input| {
        let added = read(input, "Tag")?;
        let ids = model.taggable(input)?;
        let quota = model.settings.quota_tags as usize;
        for id in &ids {
            let mut all = model.tags_on(id).clone();
            all.extend(added.clone());
            if all.len() > quota {
                return Code::TagLimitExceeded.refuse(format!("The maximum number of Tags '{quota}' for a resource"));
            }
        }
        for id in ids {
            model.ec2_tags.entry(id).or_default().extend(added.clone());
        }
        Ok(record! { "return": true })
    },
};

pub(super) const DELETE: Operation = Operation {
    name: "DeleteTags",
    bucket: Bucket::Ec2,
    accepts: &[required("ResourceId", TEXTS), optional("Tag", TAG)],
    refuses: &[Code::IdNotFound],
    run: |model, input| {
        let ids = model.taggable(input)?;
        for id in ids {
            let tags = model.ec2_tags.entry(id).or_default();
            for tag in input.records("Tag") {
                // A tag with a value goes only if it has that value.
                let (key, value) = (tag.text("Key").unwrap_or_default(), tag.text("Value"));
                if value.is_none_or(|value| tags.get(key).is_some_and(|present| present == value)) {
                    tags.remove(key);
                }
            }
            if !input.has("Tag") {
                tags.clear();
            }
        }
        Ok(record! { "return": true })
    },
};

/// The tags that the world begins with.
pub(crate) fn initial(world: &World) -> BTreeMap<String, Tags> {
    let mut tags: BTreeMap<String, Tags> =
        BTreeMap::from([(String::new(), Tags::new()), (world.vpc.id.clone(), Tags::new())]);
    tags.extend(world.subnets.iter().map(|s| (s.id.clone(), s.tags.clone())));
    tags.extend(world.security_groups.iter().map(|g| (g.id.clone(), g.tags.clone())));
    tags.extend(world.instances.iter().map(|i| (i.id.clone(), Tags::new())));
    tags
}

/// Tags of a list of records with `Key` and `Value`.
fn read(fields: &Fields, name: &str) -> Result<Tags> {
    let mut tags = Tags::new();
    for tag in fields.records(name) {
        let (key, value) = (tag.text("Key").unwrap_or_default(), tag.text("Value").unwrap_or_default());
        if key.is_empty() || key.chars().count() > 127 {
            return Code::InvalidParameterValue.refuse(format!("Tag key '{key}' must have 1 to 127 characters"));
        }
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Code::InvalidParameterValue
                .refuse(format!("Tag keys starting with 'aws:' are reserved for internal use: '{key}'"));
        }
        if value.chars().count() > 255 {
            return Code::InvalidParameterValue.refuse(format!("Tag value of '{key}' has more than 255 characters"));
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Code::InvalidParameterValue.refuse(format!("Duplicate tag key '{key}' specified."));
        }
    }
    Ok(tags)
}

/// The tags of a call for what it creates.
pub(super) fn specified(input: &Input, resource_type: &str) -> Result<Tags> {
    let mut tags = Tags::new();
    for specification in input.records("TagSpecification") {
        let kind = specification.text("ResourceType").unwrap_or_default();
        if kind != resource_type {
            return Code::InvalidParameterValue
                .refuse(format!("'{kind}' is not a valid taggable resource type for this operation."));
        }
        tags.extend(read(specification, "Tag")?);
    }
    Ok(tags)
}

impl Model {
    pub(super) fn tags_on(&self, id: &str) -> &Tags {
        // The empty id is there from the start and has none.
        const NONE: &Tags = &Tags::new();
        self.ec2_tags.get(id).unwrap_or(NONE)
    }

    fn taggable(&self, input: &Input) -> Result<Vec<String>> {
        let ids = input.texts("ResourceId");
        match ids.iter().find(|id| id.is_empty() || !self.ec2_tags.contains_key(**id)) {
            Some(id) => Code::IdNotFound.refuse(format!("The ID '{id}' is not valid")),
            None => Ok(ids.into_iter().map(str::to_owned).collect()),
        }
    }
}
