//! VPC, subnets, route tables and zones of the world.

use ipnet::{Ipv4Net, Ipv6Net};

use super::{
    describe::{Item, Kind as Listed, describe, one},
    filters::{FILTER, MAX_RESULTS, NEXT_TOKEN, tag_set},
};
use crate::{
    Model, Value,
    fault::Code,
    limits::Bucket,
    operations::Operation,
    schema::{Kind, TEXTS, optional},
    value::record,
};

pub(super) const SUBNETS: Operation = Operation {
    name: "DescribeSubnets",
    bucket: Bucket::Ec2,
    accepts: &[FILTER, optional("SubnetId", TEXTS), NEXT_TOKEN, MAX_RESULTS],
    refuses: &[Code::SubnetIdNotFound],
    run: |model, input| {
        let kind = Listed { ids: "SubnetId", set: "subnetSet", missing: Code::SubnetIdNotFound, noun: "subnet ID" };
        let items = model.world.subnets.iter().map(|subnet| {
            let tags = model.tags_on(&subnet.id);
            let zone_id = model.world.zones.iter().find(|z| z.name == subnet.zone).map_or("", |z| z.id.as_str());
            let free = model.free_addresses(subnet.cidr);
            let arn = model.ec2_arn(&format!("subnet/{}", subnet.id));
            Item {
                id: subnet.id.clone(),
                attributes: vec![
                    one("vpc-id", &model.world.vpc.id),
                    one("subnet-id", &subnet.id),
                    one("availability-zone", &subnet.zone),
                    one("availability-zone-id", zone_id),
                    one("cidr-block", subnet.cidr),
                    ("ipv6-cidr-block-association.ipv6-cidr-block", ipv6_text(subnet.ipv6)),
                    one("state", "available"),
                    one("owner-id", &model.world.account),
                ],
                tags,
                value: record! {
                    "subnetId": subnet.id.as_str(),
                    "subnetArn": arn,
                    "state": "available",
                    "vpcId": model.world.vpc.id.as_str(),
                    "cidrBlock": subnet.cidr.to_string(),
                    "ipv6CidrBlockAssociationSet": ipv6_blocks(&subnet.id.replacen("subnet-", "subnet-cidr-assoc-", 1), subnet.ipv6),
                    "availableIpAddressCount": free,
                    "availabilityZone": subnet.zone.as_str(),
                    "availabilityZoneId": zone_id,
                    "defaultForAz": false,
                    "mapPublicIpOnLaunch": subnet.public,
                    "assignIpv6AddressOnCreation": subnet.ipv6.is_some(),
                    "ownerId": model.world.account.as_str(),
                    "tagSet": tag_set(tags),
                },
            }
        });
        describe(input, &kind, items.collect())
    },
};

pub(super) const ROUTE_TABLES: Operation = Operation {
    name: "DescribeRouteTables",
    bucket: Bucket::Ec2,
    accepts: &[FILTER, optional("RouteTableId", TEXTS), NEXT_TOKEN, optional("MaxResults", Kind::int(5, 100))],
    refuses: &[Code::RouteTableNotFound],
    run: |model, input| {
        let kind = Listed {
            ids: "RouteTableId",
            set: "routeTableSet",
            missing: Code::RouteTableNotFound,
            noun: "routeTable ID",
        };
        let items = [model.route_table("rtb-0a", false), model.route_table("rtb-0b", true)];
        describe(input, &kind, items.into())
    },
};

pub(super) const ZONES: Operation = Operation {
    name: "DescribeAvailabilityZones",
    bucket: Bucket::Ec2,
    accepts: &[
        FILTER,
        optional("ZoneName", TEXTS),
        optional("ZoneId", TEXTS),
        optional("AllAvailabilityZones", Kind::Bool),
    ],
    refuses: &[],
    run: |model, input| {
        let (names, ids) = (input.texts("ZoneName"), input.texts("ZoneId"));
        let zones = &model.world.zones;
        if let Some(bad) = names.iter().find(|n| !zones.iter().any(|z| z.name == **n)) {
            return Code::InvalidParameterValue.refuse(format!("Invalid availability zone: [{bad}]"));
        }
        if let Some(bad) = ids.iter().find(|n| !zones.iter().any(|z| z.id == **n)) {
            return Code::InvalidParameterValue.refuse(format!("Invalid availability zone-id: [{bad}]"));
        }
        let kind = Listed {
            ids: "-", // Zones are named by two fields, which are dealt with here.
            set: "availabilityZoneInfo",
            missing: Code::InvalidParameterValue,
            noun: "zone",
        };
        let asked = |z: &&world::Zone| {
            (names.is_empty() || names.contains(&z.name.as_str())) && (ids.is_empty() || ids.contains(&z.id.as_str()))
        };
        let region = model.world.region.as_str();
        let items = zones.iter().filter(asked).map(|zone| Item {
            id: zone.name.clone(),
            attributes: vec![
                one("zone-name", &zone.name),
                one("zone-id", &zone.id),
                one("region-name", region),
                one("state", "available"),
                one("zone-type", "availability-zone"),
                one("opt-in-status", "opt-in-not-required"),
            ],
            tags: model.tags_on(""),
            value: record! {
                "optInStatus": "opt-in-not-required",
                "messageSet": Value::List(Vec::new()),
                "regionName": region,
                "zoneName": zone.name.as_str(),
                "zoneId": zone.id.as_str(),
                "groupName": region,
                "networkBorderGroup": region,
                "zoneType": "availability-zone",
                "zoneState": "available",
            },
        });
        describe(input, &kind, items.collect())
    },
};

pub(super) const VPCS: Operation = Operation {
    name: "DescribeVpcs",
    bucket: Bucket::Ec2,
    accepts: &[FILTER, optional("VpcId", TEXTS), NEXT_TOKEN, MAX_RESULTS],
    refuses: &[Code::VpcNotFound],
    run: |model, input| {
        let kind = Listed { ids: "VpcId", set: "vpcSet", missing: Code::VpcNotFound, noun: "vpc ID" };
        let vpc = &model.world.vpc;
        let tags = model.tags_on(&vpc.id);
        let association = record! {
            "associationId": vpc.id.replacen("vpc-", "vpc-cidr-assoc-", 1),
            "cidrBlock": vpc.cidr.to_string(),
            "cidrBlockState": record! { "state": "associated" },
        };
        let item = Item {
            id: vpc.id.clone(),
            attributes: vec![
                one("vpc-id", &vpc.id),
                one("cidr", vpc.cidr),
                one("cidr-block-association.cidr-block", vpc.cidr),
                ("ipv6-cidr-block-association.ipv6-cidr-block", ipv6_text(vpc.ipv6)),
                one("state", "available"),
                one("is-default", false),
                one("owner-id", &model.world.account),
            ],
            tags,
            value: record! {
                "vpcId": vpc.id.as_str(),
                "ownerId": model.world.account.as_str(),
                "instanceTenancy": "default",
                "ipv6CidrBlockAssociationSet": ipv6_blocks(&vpc.id.replacen("vpc-", "vpc-cidr-assoc-6", 1), vpc.ipv6),
                "cidrBlockAssociationSet": Value::List(vec![association]),
                "isDefault": false,
                "state": "available",
                "cidrBlock": vpc.cidr.to_string(),
                "tagSet": tag_set(tags),
            },
        };
        describe(input, &kind, vec![item])
    },
};

impl Model {
    pub(super) fn ec2_arn(&self, resource: &str) -> String {
        format!("arn:aws:ec2:{}:{}:{resource}", self.world.region, self.world.account)
    }

    /// Addresses of a subnet without those that AWS keeps, instances and load balancers have.
    fn free_addresses(&self, range: Ipv4Net) -> usize {
        let balancers = self.balancers.iter().flat_map(|(_, b)| b.mappings.iter().map(|m| m.address));
        let instances = self.world.instances.iter().map(|i| i.address);
        let used = balancers.chain(instances).filter(|address| range.contains(address)).count();
        let all = 1usize << (32 - range.prefix_len()).min(31);
        all.saturating_sub(5 + used)
    }

    /// The public subnets share a route table with a route to an internet gateway; the others share the main one.
    fn route_table(&self, prefix: &str, public: bool) -> Item<'_> {
        let suffix = self.world.vpc.id.trim_start_matches("vpc-");
        let id = format!("{prefix}{}", suffix.get(2..).unwrap_or(suffix));
        let subnets: Vec<&str> =
            self.world.subnets.iter().filter(|s| s.public == public).map(|s| s.id.as_str()).collect();
        let gateway = format!("igw-{suffix}");
        let mut routes = vec![record! {
            "destinationCidrBlock": self.world.vpc.cidr.to_string(),
            "gatewayId": "local",
            "state": "active",
            "origin": "CreateRouteTable",
        }];
        if let Some(range) = self.world.vpc.ipv6 {
            routes.push(record! {
                "destinationIpv6CidrBlock": range.to_string(),
                "gatewayId": "local",
                "state": "active",
                "origin": "CreateRouteTable",
            });
        }
        let everywhere = [
            Some(("destinationCidrBlock", "0.0.0.0/0")),
            self.world.vpc.ipv6.map(|_| ("destinationIpv6CidrBlock", "::/0")),
        ];
        for (field, range) in everywhere.into_iter().flatten().filter(|_| public) {
            routes.push(Value::Record(vec![
                (field, range.into()),
                ("gatewayId", gateway.as_str().into()),
                ("state", "active".into()),
                ("origin", "CreateRoute".into()),
            ]));
        }
        let associations: Value = subnets
            .iter()
            .map(|subnet| {
                record! {
                    "routeTableAssociationId": subnet.replacen("subnet-", "rtbassoc-", 1),
                    "routeTableId": id.as_str(),
                    "subnetId": *subnet,
                    "main": false,
                }
            })
            .collect();
        let tags = self.tags_on(&id);
        Item {
            attributes: vec![
                one("vpc-id", &self.world.vpc.id),
                one("route-table-id", &id),
                ("association.subnet-id", subnets.iter().map(ToString::to_string).collect()),
                one("association.main", !public),
                ("route.gateway-id", if public { vec!["local".to_owned(), gateway] } else { vec!["local".to_owned()] }),
            ],
            tags,
            value: record! {
                "routeTableId": id.as_str(),
                "vpcId": self.world.vpc.id.as_str(),
                "ownerId": self.world.account.as_str(),
                "routeSet": Value::List(routes),
                "associationSet": associations,
                "propagatingVgwSet": Value::List(Vec::new()),
                "tagSet": tag_set(tags),
            },
            id,
        }
    }
}

fn ipv6_text(range: Option<Ipv6Net>) -> Vec<String> {
    range.iter().map(ToString::to_string).collect()
}

/// The IPv6 block of a VPC or subnet as EC2 shows it: a list of associations.
fn ipv6_blocks(association: &str, range: Option<Ipv6Net>) -> Value {
    let block = |range: Ipv6Net| {
        record! {
            "associationId": association,
            "ipv6CidrBlock": range.to_string(),
            "ipv6CidrBlockState": record! { "state": "associated" },
        }
    };
    range.into_iter().map(block).collect()
}
