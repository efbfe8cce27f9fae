//! The model's answers as the port's.

use std::{collections::BTreeMap, str::FromStr};

use aws_model::Value;
use registrar_core::aws::{
    Arn, Call, CapacityReservation, Fault, Forward, HealthCheck, HealthState, Instance, Listener, LoadBalancer,
    NetworkInterface, Permission, Reply, RouteTable, SecurityGroup, Source, Subnet, SubnetMapping, Target, TargetGroup,
    TargetHealth, Vpc, Zone,
};

type Result<T> = std::result::Result<T, Fault>;

/// Reads the answer to a call.
pub(super) fn read(call: &Call, value: &Value) -> Result<Reply> {
    Ok(match call {
        Call::DescribeTargetHealth { .. } => {
            Reply::TargetHealth(each(value, "TargetHealthDescriptions", target_health)?)
        }
        Call::DescribeLoadBalancers(_) | Call::CreateLoadBalancer(_) => Reply::LoadBalancers {
            load_balancers: each(value, "LoadBalancers", load_balancer)?,
            next_marker: maybe(value, "NextMarker"),
        },
        Call::DescribeTargetGroups(_) | Call::CreateTargetGroup(_) | Call::ModifyTargetGroup { .. } => {
            Reply::TargetGroups {
                target_groups: each(value, "TargetGroups", target_group)?,
                next_marker: maybe(value, "NextMarker"),
            }
        }
        Call::DescribeListeners(_) | Call::CreateListener(_) | Call::ModifyListener(_) => {
            Reply::Listeners(each(value, "Listeners", listener)?)
        }
        Call::DescribeLoadBalancerAttributes { .. }
        | Call::ModifyLoadBalancerAttributes { .. }
        | Call::DescribeTargetGroupAttributes { .. }
        | Call::ModifyTargetGroupAttributes { .. }
        | Call::DescribeListenerAttributes { .. }
        | Call::ModifyListenerAttributes { .. } => Reply::Attributes(pairs(value, "Attributes", ["Key", "Value"])?),
        Call::DescribeListenerCertificates { .. } => Reply::Certificates(each(value, "Certificates", |certificate| {
            Ok((text(certificate, "CertificateArn")?, maybe(certificate, "IsDefault").as_deref() == Some("true")))
        })?),
        Call::DescribeTags { .. } => {
            let of_each = each(value, "TagDescriptions", |described| {
                Ok((arn(described, "ResourceArn")?, pairs(described, "Tags", ["Key", "Value"])?))
            })?;
            Reply::Tags(of_each.into_iter().collect())
        }
        Call::DescribeCapacityReservation { .. } | Call::ModifyCapacityReservation { .. } => {
            Reply::CapacityReservation(capacity(value)?)
        }
        Call::DescribeSubnets { .. } => Reply::Subnets(each(value, "subnetSet", subnet)?),
        Call::DescribeRouteTables { .. } => Reply::RouteTables(each(value, "routeTableSet", |v| Ok(route_table(v)))?),
        Call::DescribeVpcs { .. } => Reply::Vpcs(each(value, "vpcSet", vpc)?),
        Call::DescribeAvailabilityZones { .. } => {
            let kinds =
                each(value, "availabilityZoneInfo", |zone| Ok((text(zone, "zoneId")?, text(zone, "zoneType")?)))?;
            Reply::ZoneTypes(kinds.into_iter().collect())
        }
        Call::DescribeSecurityGroups { .. } => Reply::SecurityGroups(each(value, "securityGroupInfo", security_group)?),
        Call::CreateSecurityGroup { .. } => Reply::SecurityGroupId(text(value, "groupId")?),
        Call::DescribeInstances { .. } => {
            let reservations = each(value, "reservationSet", |r| each(r, "instancesSet", instance))?;
            Reply::Instances(reservations.into_iter().flatten().collect())
        }
        Call::DescribeNetworkInterfaces { .. } => {
            Reply::NetworkInterfaces(each(value, "networkInterfaceSet", interface)?)
        }
        Call::RegisterTargets { .. }
        | Call::DeregisterTargets { .. }
        | Call::DeleteLoadBalancer { .. }
        | Call::SetSubnets(_)
        | Call::SetSecurityGroups { .. }
        | Call::SetIpAddressType { .. }
        | Call::DeleteTargetGroup { .. }
        | Call::DeleteListener { .. }
        | Call::AddListenerCertificates { .. }
        | Call::RemoveListenerCertificates { .. }
        | Call::AddTags { .. }
        | Call::RemoveTags { .. }
        | Call::DeleteSecurityGroup { .. }
        | Call::AuthorizeSecurityGroupIngress { .. }
        | Call::RevokeSecurityGroupIngress { .. }
        | Call::CreateEc2Tags { .. }
        | Call::DeleteEc2Tags { .. } => Reply::Done,
    })
}

fn unreadable(name: &str, value: &Value) -> Fault {
    Fault::Unknown(format!("no {name} that can be read in {value:?}"))
}

fn text(value: &Value, name: &str) -> Result<String> {
    maybe(value, name).ok_or_else(|| unreadable(name, value))
}

fn maybe(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::text).map(str::to_owned)
}

fn number<T: FromStr>(value: &Value, name: &str) -> Result<T> {
    maybe_number(value, name).ok_or_else(|| unreadable(name, value))
}

fn maybe_number<T: FromStr>(value: &Value, name: &str) -> Option<T> {
    value.get(name).and_then(Value::text).and_then(|text| text.parse().ok())
}

fn arn(value: &Value, name: &str) -> Result<Arn> {
    text(value, name).map(|text| Arn::new(&text))
}

/// The items of a list, none if it is absent.
fn items<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value.get(name).map(Value::items).unwrap_or_default()
}

fn each<T>(value: &Value, name: &str, read: impl Fn(&Value) -> Result<T>) -> Result<Vec<T>> {
    items(value, name).iter().map(read).collect()
}

/// The scalars of a list.
fn texts(value: &Value, name: &str) -> Vec<String> {
    items(value, name).iter().filter_map(Value::text).map(str::to_owned).collect()
}

/// One field of each record of a list.
fn fields(value: &Value, list: &str, field: &str) -> Vec<String> {
    items(value, list).iter().filter_map(|item| maybe(item, field)).collect()
}

fn pairs(value: &Value, list: &str, [key, named]: [&str; 2]) -> Result<BTreeMap<String, String>> {
    let pairs = each(value, list, |pair| Ok((text(pair, key)?, text(pair, named)?)))?;
    Ok(pairs.into_iter().collect())
}

fn on_off(value: &Value, name: &str) -> Option<bool> {
    maybe(value, name).map(|text| text == "on")
}

fn target_health(value: &Value) -> Result<TargetHealth> {
    let target = value.get("Target").ok_or_else(|| unreadable("Target", value))?;
    let health = value.get("TargetHealth").ok_or_else(|| unreadable("TargetHealth", value))?;
    Ok(TargetHealth {
        target: Target {
            id: text(target, "Id")?,
            port: number(target, "Port")?,
            availability_zone: maybe(target, "AvailabilityZone"),
            quic_server_id: maybe(target, "QuicServerId"),
        },
        state: HealthState::of(&text(health, "State")?),
        reason: maybe(health, "Reason"),
        description: maybe(health, "Description"),
    })
}

fn load_balancer(value: &Value) -> Result<LoadBalancer> {
    let state = value.get("State").ok_or_else(|| unreadable("State", value))?;
    Ok(LoadBalancer {
        arn: arn(value, "LoadBalancerArn")?,
        name: text(value, "LoadBalancerName")?,
        load_balancer_type: text(value, "Type")?,
        dns_name: text(value, "DNSName")?,
        scheme: text(value, "Scheme")?,
        ip_address_type: text(value, "IpAddressType")?,
        vpc_id: text(value, "VpcId")?,
        state: text(state, "Code")?,
        state_reason: maybe(state, "Reason"),
        zones: each(value, "AvailabilityZones", |zone| {
            Ok(Zone { name: text(zone, "ZoneName")?, mapping: mapping(zone)? })
        })?,
        security_groups: texts(value, "SecurityGroups"),
        enforce_on_private_link: on_off(value, "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"),
        enable_prefix_for_ipv6_source_nat: on_off(value, "EnablePrefixForIpv6SourceNat"),
    })
}

fn mapping(zone: &Value) -> Result<SubnetMapping> {
    let address = |field: &str| fields(zone, "LoadBalancerAddresses", field).into_iter().next();
    Ok(SubnetMapping {
        subnet_id: text(zone, "SubnetId")?,
        allocation_id: address("AllocationId"),
        private_ipv4_address: address("PrivateIPv4Address"),
        ipv6_address: address("IPv6Address"),
        source_nat_ipv6_prefix: texts(zone, "SourceNatIpv6Prefixes").into_iter().next(),
    })
}

fn target_group(value: &Value) -> Result<TargetGroup> {
    Ok(TargetGroup {
        arn: arn(value, "TargetGroupArn")?,
        name: text(value, "TargetGroupName")?,
        protocol: text(value, "Protocol")?,
        port: maybe_number(value, "Port"),
        vpc_id: maybe(value, "VpcId"),
        target_type: text(value, "TargetType")?,
        ip_address_type: maybe(value, "IpAddressType"),
        health_check: HealthCheck {
            protocol: maybe(value, "HealthCheckProtocol"),
            port: maybe(value, "HealthCheckPort"),
            path: maybe(value, "HealthCheckPath"),
            matcher: value.get("Matcher").and_then(|matcher| maybe(matcher, "HttpCode")),
            interval_seconds: maybe_number(value, "HealthCheckIntervalSeconds"),
            timeout_seconds: maybe_number(value, "HealthCheckTimeoutSeconds"),
            healthy_threshold: maybe_number(value, "HealthyThresholdCount"),
            unhealthy_threshold: maybe_number(value, "UnhealthyThresholdCount"),
        },
        load_balancers: texts(value, "LoadBalancerArns").iter().map(|arn| Arn::new(arn)).collect(),
    })
}

fn listener(value: &Value) -> Result<Listener> {
    let action = items(value, "DefaultActions").first();
    Ok(Listener {
        arn: arn(value, "ListenerArn")?,
        load_balancer: arn(value, "LoadBalancerArn")?,
        port: number(value, "Port")?,
        protocol: text(value, "Protocol")?,
        forward: action.and_then(|action| action.get("ForwardConfig")).map(forward).transpose()?,
        ssl_policy: maybe(value, "SslPolicy"),
        certificate: fields(value, "Certificates", "CertificateArn").into_iter().next(),
        alpn_policy: texts(value, "AlpnPolicy").into_iter().next(),
    })
}

fn forward(value: &Value) -> Result<Forward> {
    let stickiness = value.get("TargetGroupStickinessConfig");
    Ok(Forward {
        groups: each(value, "TargetGroups", |group| {
            Ok((arn(group, "TargetGroupArn")?, maybe_number(group, "Weight")))
        })?,
        sticky: stickiness.and_then(|s| maybe(s, "Enabled")).map(|text| text == "true"),
    })
}

fn capacity(value: &Value) -> Result<CapacityReservation> {
    Ok(CapacityReservation {
        capacity_units: value.get("MinimumLoadBalancerCapacity").and_then(|least| maybe_number(least, "CapacityUnits")),
        states: each(value, "CapacityReservationState", |zone| {
            text(zone.get("State").ok_or_else(|| unreadable("State", zone))?, "Code")
        })?,
    })
}

fn subnet(value: &Value) -> Result<Subnet> {
    Ok(Subnet {
        id: text(value, "subnetId")?,
        vpc_id: text(value, "vpcId")?,
        zone: text(value, "availabilityZone")?,
        zone_id: text(value, "availabilityZoneId")?,
        cidr: text(value, "cidrBlock")?,
        ipv6_cidrs: fields(value, "ipv6CidrBlockAssociationSet", "ipv6CidrBlock"),
        free_addresses: number(value, "availableIpAddressCount")?,
        outpost: maybe(value, "outpostArn"),
        tags: pairs(value, "tagSet", ["key", "value"])?,
    })
}

fn route_table(value: &Value) -> RouteTable {
    let main = items(value, "associationSet").iter().any(|a| maybe(a, "main").as_deref() == Some("true"));
    RouteTable {
        main,
        subnets: fields(value, "associationSet", "subnetId"),
        gateways: fields(value, "routeSet", "gatewayId"),
    }
}

fn vpc(value: &Value) -> Result<Vpc> {
    let mut cidrs = fields(value, "cidrBlockAssociationSet", "cidrBlock");
    cidrs.extend(fields(value, "ipv6CidrBlockAssociationSet", "ipv6CidrBlock"));
    Ok(Vpc { id: text(value, "vpcId")?, cidrs })
}

fn security_group(value: &Value) -> Result<SecurityGroup> {
    let permissions = each(value, "ipPermissions", rules)?;
    Ok(SecurityGroup {
        id: text(value, "groupId")?,
        name: text(value, "groupName")?,
        vpc_id: text(value, "vpcId")?,
        permissions: permissions.into_iter().flatten().collect(),
        tags: pairs(value, "tagSet", ["key", "value"])?,
    })
}

/// A permission as one rule for each of its sources.
fn rules(value: &Value) -> Result<Vec<Permission>> {
    type Wrap = fn(String) -> Source;
    let kinds: [(&str, &str, Wrap); 4] = [
        ("ipRanges", "cidrIp", Source::Ipv4),
        ("ipv6Ranges", "cidrIpv6", Source::Ipv6),
        ("prefixListIds", "prefixListId", Source::PrefixList),
        ("groups", "groupId", Source::Group),
    ];
    let mut rules = Vec::new();
    for (list, field, wrap) in kinds {
        for source in items(value, list) {
            rules.push(Permission {
                ip_protocol: text(value, "ipProtocol")?,
                from_port: maybe_number(value, "fromPort"),
                to_port: maybe_number(value, "toPort"),
                source: wrap(text(source, field)?),
                description: maybe(source, "description"),
            });
        }
    }
    Ok(rules)
}

fn instance(value: &Value) -> Result<Instance> {
    let state = value.get("instanceState").ok_or_else(|| unreadable("instanceState", value))?;
    Ok(Instance {
        id: text(value, "instanceId")?,
        state: text(state, "name")?,
        interfaces: each(value, "networkInterfaceSet", interface)?,
    })
}

fn interface(value: &Value) -> Result<NetworkInterface> {
    Ok(NetworkInterface {
        id: text(value, "networkInterfaceId")?,
        description: maybe(value, "description").unwrap_or_default(),
        addresses: fields(value, "privateIpAddressesSet", "privateIpAddress"),
        security_groups: fields(value, "groupSet", "groupId"),
    })
}
