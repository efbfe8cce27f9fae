//! What ELBv2 answers.

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::types::{
    self, Action, AvailabilityZone, Certificate, LoadBalancerAddress, MinimumLoadBalancerCapacity, TagDescription,
    TargetHealthDescription, ZonalCapacityReservationState,
};
use registrar_core::aws::{
    Arn, CapacityReservation, Forward, HealthCheck, HealthState, Listener, LoadBalancer, Reply, SubnetMapping, Target,
    TargetGroup, TargetHealth, Zone,
};

use super::arn;

pub(super) fn target_health(descriptions: Vec<TargetHealthDescription>) -> Vec<TargetHealth> {
    let read = |description: TargetHealthDescription| {
        let target = description.target?;
        let health = description.target_health;
        let state = health.as_ref().and_then(types::TargetHealth::state).map_or("", |state| state.as_str());
        Some(TargetHealth {
            target: Target {
                id: target.id.unwrap_or_default(),
                port: port(target.port).unwrap_or_default(),
                availability_zone: target.availability_zone,
                quic_server_id: target.quic_server_id,
            },
            state: HealthState::of(state),
            reason: health.as_ref().and_then(types::TargetHealth::reason).map(|reason| reason.as_str().to_owned()),
            description: health.and_then(|health| health.description),
        })
    };
    descriptions.into_iter().filter_map(read).collect()
}

pub(super) fn load_balancers(list: Option<Vec<types::LoadBalancer>>) -> Vec<LoadBalancer> {
    let read = |balancer: types::LoadBalancer| LoadBalancer {
        arn: arn(balancer.load_balancer_arn.as_deref()),
        name: balancer.load_balancer_name.unwrap_or_default(),
        load_balancer_type: text(balancer.r#type.as_ref().map(types::LoadBalancerTypeEnum::as_str)),
        dns_name: balancer.dns_name.unwrap_or_default(),
        scheme: text(balancer.scheme.as_ref().map(types::LoadBalancerSchemeEnum::as_str)),
        ip_address_type: text(balancer.ip_address_type.as_ref().map(types::IpAddressType::as_str)),
        vpc_id: balancer.vpc_id.unwrap_or_default(),
        state: text(
            balancer.state.as_ref().and_then(types::LoadBalancerState::code).map(types::LoadBalancerStateEnum::as_str),
        ),
        state_reason: balancer.state.and_then(|state| state.reason),
        zones: balancer.availability_zones.into_iter().flatten().map(zone).collect(),
        security_groups: balancer.security_groups.unwrap_or_default(),
        enforce_on_private_link: balancer
            .enforce_security_group_inbound_rules_on_private_link_traffic
            .map(|word| word == "on"),
        enable_prefix_for_ipv6_source_nat: balancer.enable_prefix_for_ipv6_source_nat.map(|word| word.as_str() == "on"),
    };
    list.into_iter().flatten().map(read).collect()
}

fn zone(zone: AvailabilityZone) -> Zone {
    // The families may come together or one by one.
    let addresses = zone.load_balancer_addresses.unwrap_or_default();
    let any = |field: fn(&LoadBalancerAddress) -> Option<&str>| addresses.iter().find_map(field).map(str::to_owned);
    Zone {
        name: zone.zone_name.unwrap_or_default(),
        mapping: SubnetMapping {
            subnet_id: zone.subnet_id.unwrap_or_default(),
            allocation_id: any(LoadBalancerAddress::allocation_id),
            private_ipv4_address: any(LoadBalancerAddress::private_ipv4_address),
            ipv6_address: any(LoadBalancerAddress::ipv6_address),
            source_nat_ipv6_prefix: zone.source_nat_ipv6_prefixes.and_then(|prefixes| prefixes.into_iter().next()),
        },
    }
}

pub(super) fn target_groups(list: Option<Vec<types::TargetGroup>>) -> Vec<TargetGroup> {
    let read = |group: types::TargetGroup| TargetGroup {
        arn: arn(group.target_group_arn.as_deref()),
        name: group.target_group_name.unwrap_or_default(),
        protocol: text(group.protocol.as_ref().map(types::ProtocolEnum::as_str)),
        port: port(group.port),
        vpc_id: group.vpc_id,
        target_type: text(group.target_type.as_ref().map(types::TargetTypeEnum::as_str)),
        ip_address_type: group.ip_address_type.map(|kind| kind.as_str().to_owned()),
        health_check: HealthCheck {
            protocol: group.health_check_protocol.map(|protocol| protocol.as_str().to_owned()),
            port: group.health_check_port,
            path: group.health_check_path,
            matcher: group.matcher.and_then(|matcher| matcher.http_code),
            interval_seconds: group.health_check_interval_seconds,
            timeout_seconds: group.health_check_timeout_seconds,
            healthy_threshold: group.healthy_threshold_count,
            unhealthy_threshold: group.unhealthy_threshold_count,
        },
        load_balancers: group.load_balancer_arns.into_iter().flatten().map(|arn| Arn::new(&arn)).collect(),
    };
    list.into_iter().flatten().map(read).collect()
}

pub(super) fn listeners(list: Option<Vec<types::Listener>>) -> Vec<Listener> {
    let read = |listener: types::Listener| Listener {
        arn: arn(listener.listener_arn.as_deref()),
        load_balancer: arn(listener.load_balancer_arn.as_deref()),
        port: port(listener.port).unwrap_or_default(),
        protocol: text(listener.protocol.as_ref().map(types::ProtocolEnum::as_str)),
        forward: listener.default_actions.and_then(|actions| actions.into_iter().find_map(forward)),
        ssl_policy: listener.ssl_policy,
        certificate: listener.certificates.and_then(|list| list.into_iter().find_map(|one| one.certificate_arn)),
        alpn_policy: listener.alpn_policy.and_then(|policies| policies.into_iter().next()),
    };
    list.into_iter().flatten().map(read).collect()
}

/// AWS shows a single group in both of its ways of naming groups; only the longer one has weights.
fn forward(action: Action) -> Option<Forward> {
    let config = action.forward_config;
    let sticky = config.as_ref().and_then(|config| config.target_group_stickiness_config.as_ref()?.enabled);
    let listed = config.and_then(|config| config.target_groups).into_iter().flatten();
    let mut groups: Vec<_> = listed
        .filter_map(|group| {
            let weight = group.weight.and_then(|weight| u16::try_from(weight).ok());
            Some((Arn::new(&group.target_group_arn?), weight))
        })
        .collect();
    if groups.is_empty() {
        groups.push((Arn::new(&action.target_group_arn?), None));
    }
    Some(Forward { groups, sticky })
}

pub(super) fn certificates(list: Option<Vec<Certificate>>) -> Vec<(String, bool)> {
    let read = |one: Certificate| Some((one.certificate_arn?, one.is_default.unwrap_or_default()));
    list.into_iter().flatten().filter_map(read).collect()
}

pub(super) fn tags(list: Option<Vec<TagDescription>>) -> BTreeMap<Arn, BTreeMap<String, String>> {
    let read = |of: TagDescription| {
        let pairs = of.tags.into_iter().flatten().filter_map(|tag| Some((tag.key?, tag.value.unwrap_or_default())));
        (arn(of.resource_arn.as_deref()), pairs.collect())
    };
    list.into_iter().flatten().map(read).collect()
}

pub(super) fn capacity(
    minimum: Option<MinimumLoadBalancerCapacity>,
    zones: Option<Vec<ZonalCapacityReservationState>>,
) -> Reply {
    let state = |zone: ZonalCapacityReservationState| Some(zone.state?.code?.as_str().to_owned());
    Reply::CapacityReservation(CapacityReservation {
        capacity_units: minimum.and_then(|m| m.capacity_units).and_then(|units| u32::try_from(units).ok()),
        states: zones.into_iter().flatten().filter_map(state).collect(),
    })
}

fn text(word: Option<&str>) -> String {
    word.unwrap_or_default().to_owned()
}

fn port(number: Option<i32>) -> Option<u16> {
    number.and_then(|number| u16::try_from(number).ok())
}
