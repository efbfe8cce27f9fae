//! Security groups.

use std::net::{IpAddr, SocketAddr};

use super::{
    describe::{Item, Kind as Listed, describe, one},
    filters::{FILTER, MAX_RESULTS, NEXT_TOKEN, tag_set},
    permissions::{Rule, Source, show_permissions},
    tags::{SPECIFICATION, specified},
};
use crate::{
    Model, Value,
    elb::balancer::LoadBalancer,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Input, TEXT, TEXTS, optional, required},
    value::record,
};

/// A security group with its inbound rules. Outbound traffic is never limited.
#[derive(Debug, Clone)]
pub(crate) struct SecurityGroup {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) rules: Vec<Rule>,
}

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeSecurityGroups",
    bucket: Bucket::Ec2,
    accepts: &[FILTER, optional("GroupId", TEXTS), optional("GroupName", TEXTS), NEXT_TOKEN, MAX_RESULTS],
    refuses: &[Code::GroupNotFound, Code::GroupMalformed],
    run: |model, input| {
        if let Some(bad) = input.texts("GroupId").iter().find(|id| !id.starts_with("sg-")) {
            return Code::GroupMalformed.refuse(format!("Invalid id: \"{bad}\" (expecting \"sg-...\")"));
        }
        let kind =
            Listed { ids: "GroupId", set: "securityGroupInfo", missing: Code::GroupNotFound, noun: "security group" };
        let names = input.texts("GroupName");
        let named = |g: &&SecurityGroup| names.is_empty() || names.contains(&g.name.as_str());
        if let Some(name) = names.iter().find(|n| !model.security_groups.values().any(|g| g.name == **n)) {
            return Code::GroupNotFound.refuse(format!("The security group '{name}' does not exist"));
        }
        let items = model.security_groups.values().filter(named).map(|group| {
            let tags = model.tags_on(&group.id);
            Item {
                id: group.id.clone(),
                attributes: vec![
                    one("group-id", &group.id),
                    one("group-name", &group.name),
                    one("description", &group.description),
                    one("vpc-id", &model.world.vpc.id),
                    one("owner-id", &model.world.account),
                    ("ip-permission.group-id", group.rules.iter().filter_map(Rule::group).map(str::to_owned).collect()),
                ],
                tags,
                value: record! {
                    "ownerId": model.world.account.as_str(),
                    "groupId": group.id.as_str(),
                    "groupName": group.name.as_str(),
                    "groupDescription": group.description.as_str(),
                    "vpcId": model.world.vpc.id.as_str(),
                    "ipPermissions": show_permissions(&group.rules, &model.world.account),
                    "ipPermissionsEgress": Value::List(vec![record! {
                        "ipProtocol": "-1",
                        "groups": Value::List(Vec::new()),
                        "ipRanges": Value::List(vec![record! { "cidrIp": "0.0.0.0/0" }]),
                        "ipv6Ranges": Value::List(Vec::new()),
                        "prefixListIds": Value::List(Vec::new()),
                    }]),
                    "tagSet": tag_set(tags),
                },
            }
        });
        describe(input, &kind, items.collect())
    },
};

pub(super) const CREATE: Operation = Operation {
    name: "CreateSecurityGroup",
    bucket: Bucket::Ec2,
    accepts: &[required("GroupName", TEXT), required("GroupDescription", TEXT), optional("VpcId", TEXT), SPECIFICATION],
    refuses: &[Code::GroupDuplicate, Code::VpcNotFound, Code::SecurityGroupLimitExceeded],
    run: |model, input| model.create_security_group(input),
};

pub(super) const DELETE: Operation = Operation {
    name: "DeleteSecurityGroup",
    bucket: Bucket::Ec2,
    accepts: &[optional("GroupId", TEXT), optional("GroupName", TEXT)],
    refuses: &[Code::GroupNotFound, Code::DependencyViolation],
    run: |model, input| {
        let id = model.named_group(input)?;
        if model.security_group_in_use(&id) {
            return Code::DependencyViolation.refuse(format!("resource {id} has a dependent object"));
        }
        model.security_groups.remove(&id);
        model.ec2_tags.remove(&id);
        Ok(record! { "return": true })
    },
};

impl Model {
    fn create_security_group(&mut self, input: &Input) -> Result<Value> {
        let (name, description) = (input.need("GroupName"), input.need("GroupDescription"));
        let vpc = input.text("VpcId").unwrap_or(&self.world.vpc.id);
        if vpc != self.world.vpc.id {
            return Code::VpcNotFound.refuse(format!("The vpc ID '{vpc}' does not exist"));
        }
        if name.is_empty() || name.chars().count() > 255 || name.starts_with("sg-") {
            return Code::InvalidParameterValue.refuse(format!("Invalid security group name '{name}'"));
        }
        if description.is_empty() || description.chars().count() > 255 {
            return Code::InvalidParameterValue.refuse("Invalid value for parameter GroupDescription");
        }
        if self.security_groups.values().any(|g| g.name == name) {
            return Code::GroupDuplicate.refuse(format!("The security group '{name}' already exists for VPC '{vpc}'"));
        }
        if self.security_groups.len() >= self.settings.quota_security_groups as usize {
            return Code::SecurityGroupLimitExceeded.refuse("The maximum number of security groups has been reached.");
        }
        let tags = specified(input, "security-group")?;
        let id = format!("sg-{}{}", self.random.hex(16), self.random.hex(1));
        let tag_items = tag_set(&tags);
        self.ec2_tags.insert(id.clone(), tags);
        let group = SecurityGroup {
            id: id.clone(),
            name: name.to_owned(),
            description: description.to_owned(),
            rules: Vec::new(),
        };
        self.security_groups.insert(id.clone(), group);
        Ok(record! { "return": true, "groupId": id, "tagSet": tag_items })
    }

    /// The group that a call names by `GroupId` or `GroupName`.
    pub(super) fn named_group(&self, input: &Input) -> Result<String> {
        let found = match (input.text("GroupId"), input.text("GroupName")) {
            (Some(id), _) => self.security_groups.get(id).ok_or(id),
            (None, Some(name)) => self.security_groups.values().find(|g| g.name == name).ok_or(name),
            (None, None) => {
                return Code::MissingParameter.refuse("The request must contain the parameter groupName or groupId");
            }
        };
        match found {
            Ok(group) => Ok(group.id.clone()),
            Err(name) => Code::GroupNotFound.refuse(format!("The security group '{name}' does not exist")),
        }
    }

    fn has_address(&self, instance: &world::Instance, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => instance.address == address,
            IpAddr::V6(address) => self.world.ipv6_of(instance.address) == Some(address),
        }
    }

    /// Whether the security groups of a load balancer admit a client. One without groups admits everybody.
    pub(crate) fn admits(&self, balancer: &LoadBalancer, client: SocketAddr, port: u16) -> bool {
        let mut groups = balancer.security_groups.iter().filter_map(|id| self.security_groups.get(id));
        balancer.security_groups.is_empty()
            || groups.any(|group| {
                group.rules.iter().any(|rule| {
                    rule.covers_tcp(port)
                        && match &rule.source {
                            Source::Range(range) => {
                                matches!(client.ip(), IpAddr::V4(client) if range.contains(&client))
                            }
                            Source::Range6(range) => {
                                matches!(client.ip(), IpAddr::V6(client) if range.contains(&client))
                            }
                            Source::Group(id) => self
                                .world
                                .instances
                                .iter()
                                .any(|i| self.has_address(i, client.ip()) && i.security_groups.contains(id)),
                            Source::PrefixList(_) => false,
                        }
                })
            })
    }
}
