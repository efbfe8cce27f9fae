//! Target groups: creating, listing, changing and deleting them.

use std::{collections::BTreeMap, time::Duration};

use super::{
    attribute_table::{self, Attributes},
    balancer::check_resource_name,
    health_check::{self, HealthCheck, PROTOCOL},
    listing::{MARKER, PAGE_SIZE, listing, page},
    lookup::Noun,
    tags::{self, TAGS, Tags},
    target::{Target, TargetId},
};
use crate::{
    Model, Value,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Field, Input, Kind, TEXT, TEXTS, optional, required},
    store::{BalancerKey, GroupKey, Resource},
};

/// A target group.
#[derive(Debug, Clone)]
pub(crate) struct TargetGroup {
    pub(crate) arn: String,
    name: String,
    pub(crate) protocol: String,
    pub(crate) port: u16,
    vpc: String,
    pub(crate) target_type: String,
    pub(crate) ip_address_type: String,
    pub(crate) check: HealthCheck,
    pub(crate) attributes: Attributes,
    pub(super) tags: Tags,
    pub(super) settled_at: Duration,
    /// Until then `DeleteTargetGroup` answers `ResourceInUse`, although the last listener is gone.
    pub(super) released_at: Duration,
    /// Registered targets, and those that left the list but may still get flows.
    pub(crate) targets: BTreeMap<TargetId, Target>,
}

impl Resource for TargetGroup {
    fn arn(&self) -> &str {
        &self.arn
    }
}

const CREATE_FIELDS: [Field; 17] = {
    let h = health_check::FIELDS;
    [
        required("Name", TEXT),
        optional("Protocol", PROTOCOL),
        optional("ProtocolVersion", TEXT),
        optional("Port", Kind::int(1, 65535)),
        optional("VpcId", TEXT),
        optional("TargetType", Kind::OneOf(&["instance", "ip", "lambda", "alb"])),
        optional("IpAddressType", Kind::OneOf(&["ipv4", "ipv6"])),
        optional("Tags", TAGS),
        h[0],
        h[1],
        h[2],
        h[3],
        h[4],
        h[5],
        h[6],
        h[7],
        h[8],
    ]
};

const MODIFY_FIELDS: [Field; 10] = {
    let h = health_check::FIELDS;
    [required("TargetGroupArn", TEXT), h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7], h[8]]
};

pub(super) const CREATE: Operation = Operation {
    name: "CreateTargetGroup",
    bucket: Bucket::Other,
    accepts: &CREATE_FIELDS,
    refuses: &[
        Code::DuplicateTargetGroupName,
        Code::TooManyTargetGroups,
        Code::InvalidConfigurationRequest,
        Code::TooManyTags,
        Code::DuplicateTagKeys,
    ],
    run: |model, input| model.create_group(input),
};

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeTargetGroups",
    bucket: Bucket::Describe,
    accepts: &[
        optional("LoadBalancerArn", TEXT),
        optional("TargetGroupArns", TEXTS),
        optional("Names", TEXTS),
        MARKER,
        PAGE_SIZE,
    ],
    refuses: &[Code::LoadBalancerNotFound, Code::TargetGroupNotFound],
    run: |model, input| {
        let keys = model.listed_groups(input)?;
        let (page, next) = page(input, keys)?;
        let shown = page.into_iter().filter_map(|key| model.show_group(key));
        Ok(listing("TargetGroups", shown, next))
    },
};

pub(super) const MODIFY: Operation = Operation {
    name: "ModifyTargetGroup",
    bucket: Bucket::Modify,
    accepts: &MODIFY_FIELDS,
    refuses: &[Code::TargetGroupNotFound, Code::InvalidConfigurationRequest],
    run: |model, input| {
        let key = model.group_key(input.need("TargetGroupArn"))?;
        let Some(group) = model.groups.get_mut(key) else { return Err(Noun::Group.missing()) };
        group.check = group.check.with(input)?;
        Ok(listing("TargetGroups", model.show_group(key).into_iter(), None))
    },
};

pub(super) const DELETE: Operation = Operation {
    name: "DeleteTargetGroup",
    bucket: Bucket::Other,
    accepts: &[required("TargetGroupArn", TEXT)],
    refuses: &[Code::ResourceInUse],
    run: |model, input| {
        let arn = input.need("TargetGroupArn");
        let key = match model.group_key(arn) {
            Ok(key) => key,
            Err(missing) if missing.code == Code::TargetGroupNotFound => return Ok(Value::empty()),
            Err(fault) => return Err(fault),
        };
        let releasing = model.groups.get(key).is_some_and(|g| model.now < g.released_at);
        if releasing || !model.listeners_to(key).is_empty() {
            return Code::ResourceInUse
                .refuse(format!("Target group '{arn}' is currently in use by a listener or a rule"));
        }
        model.reset_flows(|flow| flow.group == key, "target-group-deleted");
        model.forget_probes(|group, _, _| group == key);
        model.groups.remove(key);
        Ok(Value::empty())
    },
};

impl Model {
    fn create_group(&mut self, input: &Input) -> Result<Value> {
        let name = input.need("Name");
        check_resource_name("Target group", name)?;
        let tags = tags::read(&self.settings, input)?;
        let target_type = input.text("TargetType").unwrap_or("instance");
        if target_type == "lambda" {
            return Code::InvalidConfigurationRequest.refuse("Target groups of type 'lambda' are not emulated");
        }
        let Some(protocol) = input.text("Protocol") else {
            return Code::ValidationError.refuse("A protocol must be specified");
        };
        let Some(port) = input.number::<u16>("Port") else {
            return Code::ValidationError.refuse("A port must be specified");
        };
        let Some(vpc) = input.text("VpcId") else {
            return Code::ValidationError.refuse("A VPC ID must be specified");
        };
        if vpc != self.world.vpc.id {
            return Code::ValidationError.refuse(format!("The VPC ID '{vpc}' is not found"));
        }
        if protocol == "GENEVE" || target_type == "alb" && protocol != "TCP" {
            return Code::InvalidConfigurationRequest
                .refuse(format!("Protocol '{protocol}' is not supported for target groups of type '{target_type}'"));
        }
        let check = HealthCheck::create(input, matches!(protocol, "HTTP" | "HTTPS"))?;
        let group = TargetGroup {
            arn: String::new(),
            name: name.to_owned(),
            protocol: protocol.to_owned(),
            port,
            vpc: vpc.to_owned(),
            target_type: target_type.to_owned(),
            ip_address_type: input.text("IpAddressType").unwrap_or("ipv4").to_owned(),
            check,
            attributes: attribute_table::group_defaults(target_type, protocol),
            tags,
            settled_at: Duration::ZERO,
            released_at: Duration::ZERO,
            targets: BTreeMap::new(),
        };
        if let Some((key, existing)) = self.groups.find(|g| g.name == name) {
            let same = existing.protocol == group.protocol
                && existing.port == group.port
                && existing.target_type == group.target_type
                && existing.ip_address_type == group.ip_address_type
                && existing.check == group.check
                && (!self.settings.create_compares_tags || existing.tags == group.tags);
            if !same {
                return Code::DuplicateTargetGroupName
                    .refuse(format!("A target group with the same name '{name}' exists, but with different settings"));
            }
            return Ok(listing("TargetGroups", self.show_group(key).into_iter(), None));
        }
        if self.groups.len() >= self.settings.quota_groups as usize {
            return Code::TooManyTargetGroups.refuse(format!(
                "The maximum number of target groups '{}' has been reached",
                self.settings.quota_groups
            ));
        }
        let id = self.random.hex(16);
        let arn = self.arn(&format!("targetgroup/{name}/{id}"));
        let settled_at = self.settling();
        let key = self.groups.add(TargetGroup { arn, settled_at, ..group });
        Ok(listing("TargetGroups", self.show_group(key).into_iter(), None))
    }

    fn listed_groups(&mut self, input: &Input) -> Result<Vec<GroupKey>> {
        let (arns, names) = (input.texts("TargetGroupArns"), input.texts("Names"));
        let balancer = input.text("LoadBalancerArn");
        if usize::from(!arns.is_empty()) + usize::from(!names.is_empty()) + usize::from(balancer.is_some()) > 1 {
            return Code::ValidationError
                .refuse("You can specify only one of load balancer ARN, target group ARNs and target group names");
        }
        let mut keys = Vec::new();
        if let Some(arn) = balancer {
            let balancer = self.balancer_key(arn)?;
            keys = self.groups_of(balancer);
        } else if !arns.is_empty() {
            for arn in &arns {
                keys.push(self.group_key(arn)?);
            }
        } else if !names.is_empty() {
            for name in &names {
                let found = self.groups.find(|g| g.name == *name).map(|(key, g)| (key, g.settled_at));
                match found {
                    Some((key, settled)) if self.sees(settled) => keys.push(key),
                    _ => return Err(Noun::Group.missing()),
                }
            }
        } else {
            for key in self.groups.keys() {
                let settled = self.groups.get(key).map_or(Duration::ZERO, |g| g.settled_at);
                if self.sees(settled) {
                    keys.push(key);
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// The load balancer whose listeners forward to a group: a group belongs to one at most.
    pub(crate) fn balancer_of(&self, group: GroupKey) -> Option<BalancerKey> {
        self.listeners.find(|l| l.forwards_to(group)).map(|(_, l)| l.balancer)
    }

    /// The groups that a load balancer's listeners forward to.
    pub(crate) fn groups_of(&self, balancer: BalancerKey) -> Vec<GroupKey> {
        let listeners = self.listeners.iter().filter(|(_, l)| l.balancer == balancer);
        let mut groups: Vec<_> = listeners.flat_map(|(_, l)| l.forward.groups.iter().map(|(g, _)| *g)).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    fn show_group(&self, key: GroupKey) -> Option<Value> {
        let group = self.groups.get(key)?;
        let balancer = self.balancer_of(key).and_then(|b| self.balancers.get(b));
        let mut fields: Vec<(&'static str, Value)> = vec![
            ("TargetGroupArn", group.arn.as_str().into()),
            ("TargetGroupName", group.name.as_str().into()),
            ("Protocol", group.protocol.as_str().into()),
            ("Port", group.port.into()),
            ("VpcId", group.vpc.as_str().into()),
        ];
        fields.extend(group.check.show());
        fields.push(("LoadBalancerArns", balancer.iter().map(|b| b.arn.as_str().into()).collect()));
        fields.push(("TargetType", group.target_type.as_str().into()));
        if matches!(group.protocol.as_str(), "HTTP" | "HTTPS") {
            fields.push(("ProtocolVersion", "HTTP1".into()));
        }
        fields.push(("IpAddressType", group.ip_address_type.as_str().into()));
        Some(Value::Record(fields))
    }
}
