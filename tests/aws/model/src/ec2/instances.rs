//! Instances of the world.

use super::{
    describe::{Item, Kind as Listed, describe, one},
    filters::{FILTER, NEXT_TOKEN, tag_set},
    interfaces::primary_interface,
};
use crate::{
    Model, Value,
    fault::Code,
    limits::Bucket,
    operations::Operation,
    schema::{Kind, TEXTS, optional},
    value::record,
};

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeInstances",
    bucket: Bucket::Ec2,
    accepts: &[FILTER, optional("InstanceId", TEXTS), NEXT_TOKEN, optional("MaxResults", Kind::int(5, 1000))],
    refuses: &[Code::InstanceMalformed, Code::InstanceNotFound],
    run: |model, input| {
        if let Some(bad) = input.texts("InstanceId").iter().find(|id| !id.starts_with("i-")) {
            return Code::InstanceMalformed.refuse(format!("Invalid id: \"{bad}\""));
        }
        let kind =
            Listed { ids: "InstanceId", set: "reservationSet", missing: Code::InstanceNotFound, noun: "instance ID" };
        describe(input, &kind, model.world.instances.iter().map(|i| model.instance_item(i)).collect())
    },
};

impl Model {
    fn instance_item(&self, instance: &world::Instance) -> Item<'_> {
        let subnet = self.world.subnet(&instance.subnet);
        let zone = subnet.map_or("", |s| s.zone.as_str());
        let tags = self.tags_on(&instance.id);
        let (code, state) = if self.stopped.contains(&instance.id) { (80u16, "stopped") } else { (16, "running") };
        let private_name =
            format!("ip-{}.{}.compute.internal", instance.address.to_string().replace('.', "-"), self.world.region);
        let groups = self.group_set(&instance.security_groups);
        let address = record! {
            "privateIpAddress": instance.address,
            "privateDnsName": private_name.as_str(),
            "primary": true,
        };
        let ipv6 = self.world.ipv6_of(instance.address);
        let interface = record! {
            "networkInterfaceId": primary_interface(&instance.id),
            "subnetId": instance.subnet.as_str(),
            "vpcId": self.world.vpc.id.as_str(),
            "ownerId": self.world.account.as_str(),
            "status": "in-use",
            "privateIpAddress": instance.address,
            "privateDnsName": private_name.as_str(),
            "groupSet": groups.clone(),
            "attachment": record! { "deviceIndex": 0u16, "status": "attached" },
            "privateIpAddressesSet": Value::List(vec![address]),
            "ipv6AddressesSet": ipv6.into_iter().map(|address| record! { "ipv6Address": address }).collect::<Value>(),
            "interfaceType": "interface",
        };
        let value = record! {
            "instanceId": instance.id.as_str(),
            "imageId": "ami-00000000000000000",
            "instanceState": record! { "code": code, "name": state },
            "privateDnsName": private_name.as_str(),
            "instanceType": "m5.large",
            "placement": record! { "availabilityZone": zone, "tenancy": "default" },
            "subnetId": instance.subnet.as_str(),
            "vpcId": self.world.vpc.id.as_str(),
            "privateIpAddress": instance.address,
            ? "ipv6Address": ipv6,
            "sourceDestCheck": true,
            "groupSet": groups,
            "networkInterfaceSet": Value::List(vec![interface]),
            "tagSet": tag_set(tags),
        };
        Item {
            id: instance.id.clone(),
            attributes: vec![
                one("instance-id", &instance.id),
                one("vpc-id", &self.world.vpc.id),
                one("subnet-id", &instance.subnet),
                one("availability-zone", zone),
                one("private-ip-address", instance.address),
                one("private-dns-name", private_name),
                one("instance-state-name", state),
                ("instance.group-id", instance.security_groups.clone()),
            ],
            tags,
            value: record! {
                "reservationId": instance.id.replacen("i-", "r-", 1),
                "ownerId": self.world.account.as_str(),
                "groupSet": Value::List(Vec::new()),
                "instancesSet": Value::List(vec![value]),
            },
        }
    }

    /// Security groups as interfaces and instances name them.
    pub(super) fn group_set(&self, ids: &[String]) -> Value {
        let name = |id: &String| self.security_groups.get(id).map_or("", |g| g.name.as_str());
        ids.iter().map(|id| record! { "groupId": id.as_str(), "groupName": name(id) }).collect()
    }
}
