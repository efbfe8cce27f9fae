//! What is sent to ELBv2.

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::{
    Client,
    operation::{
        create_listener::builders::CreateListenerFluentBuilder,
        create_load_balancer::builders::CreateLoadBalancerFluentBuilder,
        create_target_group::builders::CreateTargetGroupFluentBuilder,
        modify_listener::builders::ModifyListenerFluentBuilder,
        modify_target_group::builders::ModifyTargetGroupFluentBuilder, set_subnets::builders::SetSubnetsFluentBuilder,
    },
    types::{
        Action, ActionTypeEnum, Certificate, ForwardActionConfig, LoadBalancerTypeEnum, Matcher,
        MinimumLoadBalancerCapacity, SubnetMapping as SdkSubnetMapping, Tag, TargetDescription,
        TargetGroupStickinessConfig, TargetGroupTuple,
    },
};
use registrar_core::aws::{
    Arn, CreateListener, CreateLoadBalancer, CreateTargetGroup, Forward, HealthCheck, ModifyListener, SetSubnets,
    SubnetMapping, Target,
};

pub(super) fn create_load_balancer(client: &Client, wanted: &CreateLoadBalancer) -> CreateLoadBalancerFluentBuilder {
    let groups = &wanted.security_groups;
    client
        .create_load_balancer()
        .name(&wanted.name)
        .r#type(LoadBalancerTypeEnum::Network)
        .scheme(wanted.scheme.as_str().into())
        .ip_address_type(wanted.ip_address_type.as_str().into())
        .set_subnet_mappings(Some(wanted.subnet_mappings.iter().map(subnet_mapping).collect()))
        .set_security_groups((!groups.is_empty()).then(|| groups.clone()))
        .set_enable_prefix_for_ipv6_source_nat(wanted.enable_prefix_for_ipv6_source_nat.map(|on| on_or_off(on).into()))
        .set_tags(some_tags(&wanted.tags))
}

pub(super) fn set_subnets(client: &Client, wanted: &SetSubnets) -> SetSubnetsFluentBuilder {
    client
        .set_subnets()
        .load_balancer_arn(wanted.load_balancer.as_str())
        .set_subnet_mappings(Some(wanted.subnet_mappings.iter().map(subnet_mapping).collect()))
        .set_ip_address_type(wanted.ip_address_type.as_deref().map(Into::into))
        .set_enable_prefix_for_ipv6_source_nat(wanted.enable_prefix_for_ipv6_source_nat.map(|on| on_or_off(on).into()))
}

pub(super) fn create_target_group(client: &Client, wanted: &CreateTargetGroup) -> CreateTargetGroupFluentBuilder {
    let check = &wanted.health_check;
    client
        .create_target_group()
        .name(&wanted.name)
        .protocol(wanted.protocol.as_str().into())
        .port(wanted.port.into())
        .vpc_id(&wanted.vpc_id)
        .target_type(wanted.target_type.as_str().into())
        .ip_address_type(wanted.ip_address_type.as_str().into())
        .set_health_check_protocol(check.protocol.as_deref().map(Into::into))
        .set_health_check_port(check.port.clone())
        .set_health_check_path(check.path.clone())
        .set_matcher(check.matcher.as_deref().map(matcher))
        .set_health_check_interval_seconds(check.interval_seconds)
        .set_health_check_timeout_seconds(check.timeout_seconds)
        .set_healthy_threshold_count(check.healthy_threshold)
        .set_unhealthy_threshold_count(check.unhealthy_threshold)
        .set_tags(some_tags(&wanted.tags))
}

pub(super) fn modify_target_group(client: &Client, group: &Arn, check: &HealthCheck) -> ModifyTargetGroupFluentBuilder {
    client
        .modify_target_group()
        .target_group_arn(group.as_str())
        .set_health_check_protocol(check.protocol.as_deref().map(Into::into))
        .set_health_check_port(check.port.clone())
        .set_health_check_path(check.path.clone())
        .set_matcher(check.matcher.as_deref().map(matcher))
        .set_health_check_interval_seconds(check.interval_seconds)
        .set_health_check_timeout_seconds(check.timeout_seconds)
        .set_healthy_threshold_count(check.healthy_threshold)
        .set_unhealthy_threshold_count(check.unhealthy_threshold)
}

pub(super) fn create_listener(client: &Client, wanted: &CreateListener) -> CreateListenerFluentBuilder {
    client
        .create_listener()
        .load_balancer_arn(wanted.load_balancer.as_str())
        .protocol(wanted.protocol.as_str().into())
        .port(wanted.port.into())
        .default_actions(action(&wanted.forward))
        .set_ssl_policy(wanted.ssl_policy.clone())
        .set_certificates(wanted.certificate.clone().map(|arn| certificates(&[arn])))
        .set_alpn_policy(wanted.alpn_policy.clone().map(|policy| vec![policy]))
        .set_tags(some_tags(&wanted.tags))
}

pub(super) fn modify_listener(client: &Client, wanted: &ModifyListener) -> ModifyListenerFluentBuilder {
    client
        .modify_listener()
        .listener_arn(wanted.listener.as_str())
        .set_protocol(wanted.protocol.as_deref().map(Into::into))
        .set_port(wanted.port.map(Into::into))
        .set_default_actions(wanted.forward.as_ref().map(|forward| vec![action(forward)]))
        .set_ssl_policy(wanted.ssl_policy.clone())
        .set_certificates(wanted.certificate.clone().map(|arn| certificates(&[arn])))
        .set_alpn_policy(wanted.alpn_policy.clone().map(|policy| vec![policy]))
}

/// One group without weight and stickiness is named directly, as the peer's listeners have it.
fn action(forward: &Forward) -> Action {
    let action = Action::builder().r#type(ActionTypeEnum::Forward);
    if let ([(group, None)], None) = (forward.groups.as_slice(), forward.sticky) {
        return action.target_group_arn(group.as_str()).build();
    }
    let groups = forward.groups.iter().map(|(arn, weight)| {
        TargetGroupTuple::builder().target_group_arn(arn.as_str()).set_weight(weight.map(i32::from)).build()
    });
    let config = ForwardActionConfig::builder().set_target_groups(Some(groups.collect()));
    let sticky = forward.sticky.map(|on| TargetGroupStickinessConfig::builder().enabled(on).build());
    action.forward_config(config.set_target_group_stickiness_config(sticky).build()).build()
}

pub(super) fn target(target: &Target) -> TargetDescription {
    TargetDescription::builder()
        .id(&target.id)
        .port(target.port.into())
        .set_availability_zone(target.availability_zone.clone())
        .set_quic_server_id(target.quic_server_id.clone())
        .build()
}

fn subnet_mapping(mapping: &SubnetMapping) -> SdkSubnetMapping {
    SdkSubnetMapping::builder()
        .subnet_id(&mapping.subnet_id)
        .set_allocation_id(mapping.allocation_id.clone())
        .set_private_ipv4_address(mapping.private_ipv4_address.clone())
        .set_ipv6_address(mapping.ipv6_address.clone())
        .set_source_nat_ipv6_prefix(mapping.source_nat_ipv6_prefix.clone())
        .build()
}

fn matcher(codes: &str) -> Matcher {
    Matcher::builder().http_code(codes).build()
}

pub(super) fn capacity(units: u32) -> MinimumLoadBalancerCapacity {
    MinimumLoadBalancerCapacity::builder().capacity_units(i32::try_from(units).unwrap_or(i32::MAX)).build()
}

pub(super) fn certificates(arns: &[String]) -> Vec<Certificate> {
    arns.iter().map(|arn| Certificate::builder().certificate_arn(arn).build()).collect()
}

pub(super) fn tags(tags: &BTreeMap<String, String>) -> Vec<Tag> {
    tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// An empty list is refused where tags are optional.
fn some_tags(wanted: &BTreeMap<String, String>) -> Option<Vec<Tag>> {
    (!wanted.is_empty()).then(|| tags(wanted))
}

pub(super) fn texts(arns: &[Arn]) -> Vec<String> {
    arns.iter().map(ToString::to_string).collect()
}

pub(super) fn on_or_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
