//! What EC2 answers: its XML as records, and records as replies.

use std::collections::BTreeMap;

use registrar_core::aws::{
    Fault, Instance, NetworkInterface, Permission, Reply, RouteTable, SecurityGroup, Source, Subnet, Vpc,
};
use serde::Deserialize;

use super::client::Request;

/// An answer with a list, by the name of its element.
macro_rules! page {
    ($name:ident, $set:ident: $item:ty) => {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct $name {
            $set: Items<$item>,
            #[serde(default)]
            next_token: Option<String>,
        }

        impl $name {
            fn split(self) -> (Vec<$item>, Option<String>) {
                (self.$set.item, self.next_token)
            }
        }
    };
}

page!(Subnets, subnet_set: XmlSubnet);
page!(RouteTables, route_table_set: XmlRouteTable);
page!(Vpcs, vpc_set: XmlVpc);
page!(Zones, availability_zone_info: XmlZone);
page!(SecurityGroups, security_group_info: XmlSecurityGroup);
page!(Reservations, reservation_set: XmlReservation);
page!(Interfaces, network_interface_set: XmlInterface);

pub(super) async fn subnets(request: &Request<'_>) -> Result<Reply, Fault> {
    Ok(Reply::Subnets(request.all(Subnets::split).await?.into_iter().map(Into::into).collect()))
}

pub(super) async fn route_tables(request: &Request<'_>) -> Result<Reply, Fault> {
    Ok(Reply::RouteTables(request.all(RouteTables::split).await?.into_iter().map(Into::into).collect()))
}

pub(super) async fn vpcs(request: &Request<'_>) -> Result<Reply, Fault> {
    Ok(Reply::Vpcs(request.all(Vpcs::split).await?.into_iter().map(Into::into).collect()))
}

pub(super) async fn zone_types(request: &Request<'_>) -> Result<Reply, Fault> {
    let zones = request.all(Zones::split).await?;
    Ok(Reply::ZoneTypes(zones.into_iter().map(|zone| (zone.zone_id, zone.zone_type)).collect()))
}

pub(super) async fn security_groups(request: &Request<'_>) -> Result<Reply, Fault> {
    Ok(Reply::SecurityGroups(request.all(SecurityGroups::split).await?.into_iter().map(Into::into).collect()))
}

pub(super) async fn instances(request: &Request<'_>) -> Result<Reply, Fault> {
    let reservations = request.all(Reservations::split).await?;
    let instances = reservations.into_iter().flat_map(|reservation| reservation.instances_set.item);
    Ok(Reply::Instances(instances.map(Into::into).collect()))
}

pub(super) async fn network_interfaces(request: &Request<'_>) -> Result<Reply, Fault> {
    Ok(Reply::NetworkInterfaces(request.all(Interfaces::split).await?.into_iter().map(Into::into).collect()))
}

pub(super) async fn created_security_group(request: &Request<'_>) -> Result<Reply, Fault> {
    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Created {
        group_id: String,
    }
    let created: Created = request.once(None).await?;
    Ok(Reply::SecurityGroupId(created.group_id))
}

/// `<return>true</return>`, or nothing: EC2 says `false` of no call that it answers with 200, and what it refuses it refuses
/// as an error.
pub(super) async fn done(request: &Request<'_>) -> Result<Reply, Fault> {
    #[derive(Debug, Deserialize)]
    struct Done {
        #[serde(rename = "return", default = "yes")]
        done: bool,
    }
    fn yes() -> bool {
        true
    }
    let answer: Done = request.once(None).await?;
    if answer.done { Ok(Reply::Done) } else { Err(Fault::Unknown(format!("{}: answered `false`", request.operation))) }
}

#[derive(Debug, Deserialize)]
struct Items<T> {
    #[serde(default = "Vec::new")]
    item: Vec<T>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { item: Vec::new() }
    }
}

#[derive(Debug, Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

fn tags(set: Items<Tag>) -> BTreeMap<String, String> {
    set.item.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

/// Ranges that are associated; others are on their way in or out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Association {
    #[serde(alias = "ipv6CidrBlock")]
    cidr_block: String,
    #[serde(alias = "ipv6CidrBlockState", default)]
    cidr_block_state: AssociationState,
}

#[derive(Debug, Deserialize, Default)]
struct AssociationState {
    #[serde(default)]
    state: String,
}

fn associated(set: Items<Association>) -> impl Iterator<Item = String> {
    set.item.into_iter().filter(|of| of.cidr_block_state.state == "associated").map(|of| of.cidr_block)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct XmlSubnet {
    subnet_id: String,
    #[serde(default)]
    vpc_id: String,
    #[serde(default)]
    availability_zone: String,
    #[serde(default)]
    availability_zone_id: String,
    /// Absent in subnets of IPv6 only.
    #[serde(default)]
    cidr_block: String,
    #[serde(default)]
    ipv6_cidr_block_association_set: Items<Association>,
    #[serde(default)]
    available_ip_address_count: u32,
    #[serde(default)]
    outpost_arn: Option<String>,
    #[serde(default)]
    tag_set: Items<Tag>,
}

impl From<XmlSubnet> for Subnet {
    fn from(subnet: XmlSubnet) -> Self {
        Self {
            id: subnet.subnet_id,
            vpc_id: subnet.vpc_id,
            zone: subnet.availability_zone,
            zone_id: subnet.availability_zone_id,
            cidr: subnet.cidr_block,
            ipv6_cidrs: associated(subnet.ipv6_cidr_block_association_set).collect(),
            free_addresses: subnet.available_ip_address_count,
            outpost: subnet.outpost_arn.filter(|arn| !arn.is_empty()),
            tags: tags(subnet.tag_set),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct XmlRouteTable {
    #[serde(default)]
    association_set: Items<RouteTableAssociation>,
    #[serde(default)]
    route_set: Items<Route>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RouteTableAssociation {
    #[serde(default)]
    main: bool,
    #[serde(default)]
    subnet_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Route {
    #[serde(default)]
    gateway_id: Option<String>,
}

impl From<XmlRouteTable> for RouteTable {
    fn from(table: XmlRouteTable) -> Self {
        let associations = table.association_set.item;
        Self {
            main: associations.iter().any(|association| association.main),
            subnets: associations.into_iter().filter_map(|association| association.subnet_id).collect(),
            gateways: table.route_set.item.into_iter().filter_map(|route| route.gateway_id).collect(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct XmlVpc {
    vpc_id: String,
    #[serde(default)]
    cidr_block_association_set: Items<Association>,
    #[serde(default)]
    ipv6_cidr_block_association_set: Items<Association>,
}

impl From<XmlVpc> for Vpc {
    fn from(vpc: XmlVpc) -> Self {
        let six = associated(vpc.ipv6_cidr_block_association_set);
        Self { id: vpc.vpc_id, cidrs: associated(vpc.cidr_block_association_set).chain(six).collect() }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct XmlZone {
    zone_id: String,
    #[serde(default)]
    zone_type: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct XmlSecurityGroup {
    group_id: String,
    #[serde(default)]
    group_name: String,
    #[serde(default)]
    vpc_id: String,
    #[serde(default)]
    ip_permissions: Items<XmlPermission>,
    #[serde(default)]
    tag_set: Items<Tag>,
}

/// What holds for one protocol and range of ports, from all its sources.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct XmlPermission {
    ip_protocol: String,
    #[serde(default)]
    from_port: Option<i32>,
    #[serde(default)]
    to_port: Option<i32>,
    #[serde(default)]
    ip_ranges: Items<XmlSource>,
    #[serde(default)]
    ipv6_ranges: Items<XmlSource>,
    #[serde(default)]
    prefix_list_ids: Items<XmlSource>,
    #[serde(default)]
    groups: Items<XmlSource>,
}

#[derive(Debug, Deserialize)]
struct XmlSource {
    #[serde(alias = "cidrIp", alias = "cidrIpv6", alias = "prefixListId", alias = "groupId")]
    source: String,
    #[serde(default)]
    description: Option<String>,
}

impl From<XmlSecurityGroup> for SecurityGroup {
    fn from(group: XmlSecurityGroup) -> Self {
        Self {
            id: group.group_id,
            name: group.group_name,
            vpc_id: group.vpc_id,
            permissions: group.ip_permissions.item.into_iter().flat_map(rules).collect(),
            tags: tags(group.tag_set),
        }
    }
}

fn rules(permission: XmlPermission) -> Vec<Permission> {
    let (ip_protocol, from_port, to_port) = (permission.ip_protocol, permission.from_port, permission.to_port);
    let of = |sources: Items<XmlSource>, kind: fn(String) -> Source| {
        sources.item.into_iter().map(move |one| (kind(one.source), one.description))
    };
    let rules = of(permission.ip_ranges, Source::Ipv4)
        .chain(of(permission.ipv6_ranges, Source::Ipv6))
        .chain(of(permission.prefix_list_ids, Source::PrefixList))
        .chain(of(permission.groups, Source::Group));
    rules
        .map(|(source, description)| Permission {
            ip_protocol: ip_protocol.clone(),
            from_port,
            to_port,
            source,
            description: description.filter(|text| !text.is_empty()),
        })
        .collect()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct XmlReservation {
    #[serde(default)]
    instances_set: Items<XmlInstance>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct XmlInstance {
    instance_id: String,
    #[serde(default)]
    instance_state: InstanceState,
    #[serde(default)]
    network_interface_set: Items<XmlInterface>,
}

#[derive(Debug, Deserialize, Default)]
struct InstanceState {
    #[serde(default)]
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct XmlInterface {
    network_interface_id: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    attachment: Attachment,
    #[serde(default)]
    private_ip_addresses_set: Items<Address>,
    #[serde(default)]
    ipv6_addresses_set: Items<Address>,
    #[serde(default)]
    ipv4_prefix_set: Items<Address>,
    #[serde(default)]
    ipv6_prefix_set: Items<Address>,
    #[serde(default)]
    group_set: Items<Group>,
}

#[derive(Debug, Deserialize, Default, PartialEq, Eq, PartialOrd, Ord, Clone, Copy)]
#[serde(rename_all = "camelCase")]
struct Attachment {
    #[serde(default)]
    network_card_index: u32,
    #[serde(default)]
    device_index: u32,
}

#[derive(Debug, Deserialize)]
struct Address {
    #[serde(alias = "privateIpAddress", alias = "ipv6Address", alias = "ipv4Prefix", alias = "ipv6Prefix")]
    address: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    group_id: String,
}

impl From<XmlInstance> for Instance {
    fn from(instance: XmlInstance) -> Self {
        let mut interfaces = instance.network_interface_set.item;
        interfaces.sort_by_key(|interface| interface.attachment);
        Self {
            id: instance.instance_id,
            state: instance.instance_state.name,
            interfaces: interfaces.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<XmlInterface> for NetworkInterface {
    fn from(interface: XmlInterface) -> Self {
        let sets = [
            interface.private_ip_addresses_set,
            interface.ipv6_addresses_set,
            interface.ipv4_prefix_set,
            interface.ipv6_prefix_set,
        ];
        Self {
            id: interface.network_interface_id,
            description: interface.description,
            addresses: sets.into_iter().flat_map(|set| set.item).map(|one| one.address).collect(),
            security_groups: interface.group_set.item.into_iter().map(|group| group.group_id).collect(),
        }
    }
}
