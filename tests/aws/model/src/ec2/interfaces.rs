//! Network interfaces: those of instances and of pods and, with the description `ELB net/<name>/<id>`, those of load balancers.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use super::{
    describe::{Item, Kind as Listed, describe, one},
    filters::{FILTER, MAX_RESULTS, NEXT_TOKEN, tag_set},
};
use crate::{
    Model, Value,
    elb::placement::Mapping,
    fault::Code,
    limits::Bucket,
    operations::Operation,
    schema::{TEXTS, optional},
    value::record,
};

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeNetworkInterfaces",
    bucket: Bucket::Ec2,
    accepts: &[FILTER, optional("NetworkInterfaceId", TEXTS), NEXT_TOKEN, MAX_RESULTS],
    refuses: &[Code::InterfaceNotFound],
    run: |model, input| {
        let kind = Listed {
            ids: "NetworkInterfaceId",
            set: "networkInterfaceSet",
            missing: Code::InterfaceNotFound,
            noun: "networkInterface ID",
        };
        let interfaces = model.interfaces();
        describe(input, &kind, interfaces.iter().map(|i| model.interface_item(i)).collect())
    },
};

/// The interface of a load balancer that is deleted already.
#[derive(Debug, Clone)]
pub(crate) struct Retiring {
    pub(crate) mapping: Mapping,
    /// `ELB net/<name>/<id>`.
    pub(crate) label: String,
    pub(crate) groups: Vec<String>,
    pub(crate) gone_at: Duration,
}

struct Interface {
    id: String,
    subnet: String,
    address: Ipv4Addr,
    ipv6: Option<Ipv6Addr>,
    groups: Vec<String>,
    description: String,
    of_balancer: bool,
    instance: Option<String>,
}

/// The id of an instance's first interface.
pub(super) fn primary_interface(instance: &str) -> String {
    instance.replacen("i-", "eni-", 1)
}

impl Model {
    fn interfaces(&self) -> Vec<Interface> {
        let of_instances = self.world.instances.iter().map(|i| Interface {
            id: primary_interface(&i.id),
            subnet: i.subnet.clone(),
            address: i.address,
            ipv6: self.world.ipv6_of(i.address),
            groups: i.security_groups.clone(),
            description: String::new(),
            of_balancer: false,
            instance: Some(i.id.clone()),
        });
        let of_pods = self.world.interfaces.iter().map(|i| Interface {
            id: i.id.clone(),
            subnet: i.subnet.clone(),
            address: i.address,
            ipv6: self.world.ipv6_of(i.address),
            groups: i.security_groups.clone(),
            description: "aws-k8s-branch-eni".to_owned(),
            of_balancer: false,
            instance: None,
        });
        let of_balancer = |mapping: &Mapping, label: &str, groups: &[String]| Interface {
            id: mapping.interface.clone(),
            subnet: mapping.subnet.clone(),
            address: mapping.address,
            ipv6: mapping.ipv6.map(|ipv6| ipv6.address),
            groups: groups.to_vec(),
            description: label.to_owned(),
            of_balancer: true,
            instance: None,
        };
        let live = self.balancers.iter().flat_map(|(_, b)| {
            b.mappings.iter().map(move |m| of_balancer(m, &b.interface_label(), &b.security_groups))
        });
        let retiring = self.retiring.iter().map(|r| of_balancer(&r.mapping, &r.label, &r.groups));
        of_instances.chain(of_pods).chain(live).chain(retiring).collect()
    }

    fn interface_item(&self, interface: &Interface) -> Item<'_> {
        let zone = self.world.subnet(&interface.subnet).map_or("", |s| s.zone.as_str());
        let tags = self.tags_on(&interface.id);
        let kind = if interface.of_balancer { "network_load_balancer" } else { "interface" };
        let requester = interface.of_balancer.then_some("amazon-elb");
        let address = record! { "privateIpAddress": interface.address, "primary": true };
        let attachment = record! {
            "attachmentId": interface.id.replacen("eni-", "eni-attach-", 1),
            ? "instanceId": interface.instance.as_deref(),
            "instanceOwnerId": requester.unwrap_or(self.world.account.as_str()),
            "status": "attached",
        };
        Item {
            id: interface.id.clone(),
            attributes: vec![
                one("network-interface-id", &interface.id),
                one("vpc-id", &self.world.vpc.id),
                one("subnet-id", &interface.subnet),
                one("availability-zone", zone),
                one("description", &interface.description),
                one("interface-type", kind),
                one("status", "in-use"),
                one("private-ip-address", interface.address),
                one("addresses.private-ip-address", interface.address),
                ("ipv6-addresses.ipv6-address", interface.ipv6.iter().map(ToString::to_string).collect()),
                ("group-id", interface.groups.clone()),
                ("requester-id", requester.map(str::to_owned).into_iter().collect()),
                ("attachment.instance-id", interface.instance.iter().cloned().collect()),
            ],
            tags,
            value: record! {
                "networkInterfaceId": interface.id.as_str(),
                "subnetId": interface.subnet.as_str(),
                "vpcId": self.world.vpc.id.as_str(),
                "availabilityZone": zone,
                "description": interface.description.as_str(),
                "ownerId": self.world.account.as_str(),
                ? "requesterId": requester,
                "requesterManaged": interface.of_balancer,
                "status": "in-use",
                "privateIpAddress": interface.address,
                "sourceDestCheck": !interface.of_balancer,
                "groupSet": self.group_set(&interface.groups),
                "attachment": attachment,
                "tagSet": tag_set(tags),
                "privateIpAddressesSet": Value::List(vec![address]),
                "ipv6AddressesSet": interface
                    .ipv6
                    .into_iter()
                    .map(|address| record! { "ipv6Address": address, "isPrimaryIpv6": false })
                    .collect::<Value>(),
                "interfaceType": kind,
            },
        }
    }

    /// Whether some interface or rule holds on to a security group.
    pub(super) fn security_group_in_use(&self, id: &str) -> bool {
        self.interfaces().iter().any(|i| i.groups.iter().any(|g| g == id))
            || self.security_groups.values().any(|g| g.id != id && g.rules.iter().any(|r| r.names_group(id)))
    }
}
