//! Calls as the fields of a query.

use std::{collections::BTreeMap, fmt::Display};

use registrar_core::aws::{
    Call, CreateListener, CreateLoadBalancer, CreateTargetGroup, Filter, Forward, HealthCheck, ListenerQuery,
    LoadBalancerQuery, ModifyListener, Permission, SetSubnets, Source, SubnetMapping, Target, TargetGroupQuery,
};

/// The fields of a call, without action and version.
pub(super) fn fields(call: &Call) -> Vec<(String, String)> {
    let mut form = Form::default();
    write(&mut form, call);
    form.0
}

/// Fields under construction. ELBv2 numbers the items of a list after `.member`, EC2 does so without.
#[derive(Default)]
struct Form(Vec<(String, String)>);

impl Form {
    fn put(&mut self, name: impl Into<String>, value: impl Display) -> &mut Self {
        self.0.push((name.into(), value.to_string()));
        self
    }

    fn maybe(&mut self, name: impl Into<String>, value: Option<impl Display>) -> &mut Self {
        if let Some(value) = value {
            self.put(name, value);
        }
        self
    }

    /// A list of ELBv2.
    fn members(&mut self, name: &str, values: impl IntoIterator<Item = impl Display>) -> &mut Self {
        for (n, value) in values.into_iter().enumerate() {
            self.put(format!("{name}.member.{}", n + 1), value);
        }
        self
    }

    /// A list of EC2.
    fn items(&mut self, name: &str, values: impl IntoIterator<Item = impl Display>) -> &mut Self {
        for (n, value) in values.into_iter().enumerate() {
            self.put(format!("{name}.{}", n + 1), value);
        }
        self
    }

    fn targets(&mut self, targets: &[Target]) {
        for (n, target) in targets.iter().enumerate() {
            let at = format!("Targets.member.{}", n + 1);
            self.put(format!("{at}.Id"), &target.id)
                .put(format!("{at}.Port"), target.port)
                .maybe(format!("{at}.AvailabilityZone"), target.availability_zone.as_ref())
                .maybe(format!("{at}.QuicServerId"), target.quic_server_id.as_ref());
        }
    }

    /// Pairs such as tags and attributes, each item a record of `Key` and `Value`.
    fn pairs(&mut self, item: &str, pairs: &BTreeMap<String, String>) -> &mut Self {
        for (n, (key, value)) in pairs.iter().enumerate() {
            let at = format!("{item}{}", n + 1);
            self.put(format!("{at}.Key"), key).put(format!("{at}.Value"), value);
        }
        self
    }

    fn certificates(&mut self, certificates: impl IntoIterator<Item = impl Display>) -> &mut Self {
        for (n, certificate) in certificates.into_iter().enumerate() {
            self.put(format!("Certificates.member.{}.CertificateArn", n + 1), certificate);
        }
        self
    }

    fn mappings(&mut self, mappings: &[SubnetMapping]) -> &mut Self {
        for (n, mapping) in mappings.iter().enumerate() {
            let at = format!("SubnetMappings.member.{}", n + 1);
            self.put(format!("{at}.SubnetId"), &mapping.subnet_id)
                .maybe(format!("{at}.AllocationId"), mapping.allocation_id.as_ref())
                .maybe(format!("{at}.PrivateIPv4Address"), mapping.private_ipv4_address.as_ref())
                .maybe(format!("{at}.IPv6Address"), mapping.ipv6_address.as_ref())
                .maybe(format!("{at}.SourceNatIpv6Prefix"), mapping.source_nat_ipv6_prefix.as_ref());
        }
        self
    }

    fn health_check(&mut self, check: &HealthCheck) -> &mut Self {
        self.maybe("HealthCheckProtocol", check.protocol.as_ref())
            .maybe("HealthCheckPort", check.port.as_ref())
            .maybe("HealthCheckPath", check.path.as_ref())
            .maybe("Matcher.HttpCode", check.matcher.as_ref())
            .maybe("HealthCheckIntervalSeconds", check.interval_seconds)
            .maybe("HealthCheckTimeoutSeconds", check.timeout_seconds)
            .maybe("HealthyThresholdCount", check.healthy_threshold)
            .maybe("UnhealthyThresholdCount", check.unhealthy_threshold)
    }

    fn forward(&mut self, forward: &Forward) -> &mut Self {
        let at = "DefaultActions.member.1";
        self.put(format!("{at}.Type"), "forward");
        for (n, (group, weight)) in forward.groups.iter().enumerate() {
            let group_at = format!("{at}.ForwardConfig.TargetGroups.member.{}", n + 1);
            self.put(format!("{group_at}.TargetGroupArn"), group).maybe(format!("{group_at}.Weight"), weight.as_ref());
        }
        self.maybe(format!("{at}.ForwardConfig.TargetGroupStickinessConfig.Enabled"), forward.sticky)
    }

    fn filters(&mut self, filters: &[Filter]) -> &mut Self {
        for (n, filter) in filters.iter().enumerate() {
            let at = format!("Filter.{}", n + 1);
            self.put(format!("{at}.Name"), &filter.name).items(&format!("{at}.Value"), &filter.values);
        }
        self
    }

    fn permissions(&mut self, permissions: &[Permission]) {
        for (n, permission) in permissions.iter().enumerate() {
            let at = format!("IpPermissions.{}", n + 1);
            self.put(format!("{at}.IpProtocol"), &permission.ip_protocol)
                .maybe(format!("{at}.FromPort"), permission.from_port)
                .maybe(format!("{at}.ToPort"), permission.to_port);
            let (list, field, value) = match &permission.source {
                Source::Ipv4(range) => ("IpRanges", "CidrIp", range),
                Source::Ipv6(range) => ("Ipv6Ranges", "CidrIpv6", range),
                Source::PrefixList(id) => ("PrefixListIds", "PrefixListId", id),
                Source::Group(id) => ("Groups", "GroupId", id),
            };
            self.put(format!("{at}.{list}.1.{field}"), value)
                .maybe(format!("{at}.{list}.1.Description"), permission.description.as_ref());
        }
    }
}

#[expect(clippy::too_many_lines, reason = "a table: one line per operation")]
fn write(form: &mut Form, call: &Call) {
    match call {
        Call::DescribeTargetHealth { group }
        | Call::DeleteTargetGroup { group }
        | Call::DescribeTargetGroupAttributes { group } => _ = form.put("TargetGroupArn", group),
        Call::RegisterTargets { group, targets } | Call::DeregisterTargets { group, targets } => {
            form.put("TargetGroupArn", group).targets(targets);
        }
        Call::DescribeLoadBalancers(query) => match query {
            LoadBalancerQuery::Name(name) => _ = form.members("Names", [name]),
            LoadBalancerQuery::Arn(arn) => _ = form.members("LoadBalancerArns", [arn]),
            LoadBalancerQuery::All { marker } => _ = form.maybe("Marker", marker.as_ref()),
        },
        Call::CreateLoadBalancer(create) => create_load_balancer(form, create),
        Call::DeleteLoadBalancer { load_balancer }
        | Call::DescribeLoadBalancerAttributes { load_balancer }
        | Call::DescribeCapacityReservation { load_balancer } => _ = form.put("LoadBalancerArn", load_balancer),
        Call::ModifyLoadBalancerAttributes { load_balancer, attributes } => {
            form.put("LoadBalancerArn", load_balancer).pairs("Attributes.member.", attributes);
        }
        Call::SetSubnets(SetSubnets {
            load_balancer,
            subnet_mappings,
            ip_address_type,
            enable_prefix_for_ipv6_source_nat,
        }) => {
            form.put("LoadBalancerArn", load_balancer)
                .mappings(subnet_mappings)
                .maybe("IpAddressType", ip_address_type.as_deref())
                .maybe("EnablePrefixForIpv6SourceNat", enable_prefix_for_ipv6_source_nat.map(on_off));
        }
        Call::SetSecurityGroups { load_balancer, security_groups, enforce_on_private_link } => {
            let enforce = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic";
            form.put("LoadBalancerArn", load_balancer)
                .members("SecurityGroups", security_groups)
                .maybe(enforce, enforce_on_private_link.map(on_off));
        }
        Call::SetIpAddressType { load_balancer, ip_address_type } => {
            form.put("LoadBalancerArn", load_balancer).put("IpAddressType", ip_address_type);
        }
        Call::ModifyCapacityReservation { load_balancer, capacity_units } => {
            form.put("LoadBalancerArn", load_balancer);
            match capacity_units {
                Some(units) => form.put("MinimumLoadBalancerCapacity.CapacityUnits", units),
                None => form.put("ResetCapacityReservation", true),
            };
        }
        Call::DescribeTargetGroups(query) => match query {
            TargetGroupQuery::Name(name) => _ = form.members("Names", [name]),
            TargetGroupQuery::Arns(arns) => _ = form.members("TargetGroupArns", arns),
            TargetGroupQuery::LoadBalancer(arn) => _ = form.put("LoadBalancerArn", arn),
            TargetGroupQuery::All { marker } => _ = form.maybe("Marker", marker.as_ref()),
        },
        Call::CreateTargetGroup(create) => create_target_group(form, create),
        Call::ModifyTargetGroup { group, health_check } => {
            form.put("TargetGroupArn", group).health_check(health_check);
        }
        Call::ModifyTargetGroupAttributes { group, attributes } => {
            form.put("TargetGroupArn", group).pairs("Attributes.member.", attributes);
        }
        Call::DescribeListeners(query) => match query {
            ListenerQuery::LoadBalancer(arn) => _ = form.put("LoadBalancerArn", arn),
            ListenerQuery::Arn(arn) => _ = form.members("ListenerArns", [arn]),
        },
        Call::CreateListener(create) => create_listener(form, create),
        Call::ModifyListener(modify) => modify_listener(form, modify),
        Call::DeleteListener { listener }
        | Call::DescribeListenerAttributes { listener }
        | Call::DescribeListenerCertificates { listener } => _ = form.put("ListenerArn", listener),
        Call::ModifyListenerAttributes { listener, attributes } => {
            form.put("ListenerArn", listener).pairs("Attributes.member.", attributes);
        }
        Call::AddListenerCertificates { listener, certificates }
        | Call::RemoveListenerCertificates { listener, certificates } => {
            form.put("ListenerArn", listener).certificates(certificates);
        }
        Call::DescribeTags { resources } => _ = form.members("ResourceArns", resources),
        Call::AddTags { resource, tags } => _ = form.members("ResourceArns", [resource]).pairs("Tags.member.", tags),
        Call::RemoveTags { resource, keys } => {
            form.members("ResourceArns", [resource]).members("TagKeys", keys);
        }
        Call::DescribeSubnets { ids, filters } => _ = form.items("SubnetId", ids).filters(filters),
        Call::DescribeRouteTables { filters } | Call::DescribeNetworkInterfaces { filters } => {
            form.filters(filters);
        }
        Call::DescribeVpcs { ids } => _ = form.items("VpcId", ids),
        Call::DescribeAvailabilityZones { zone_ids } => {
            form.put("AllAvailabilityZones", true).items("ZoneId", zone_ids);
        }
        Call::DescribeSecurityGroups { ids, filters } => _ = form.items("GroupId", ids).filters(filters),
        Call::CreateSecurityGroup { name, description, vpc_id, tags } => {
            form.put("GroupName", name).put("GroupDescription", description).put("VpcId", vpc_id);
            if !tags.is_empty() {
                form.put("TagSpecification.1.ResourceType", "security-group").pairs("TagSpecification.1.Tag.", tags);
            }
        }
        Call::DeleteSecurityGroup { group_id } => _ = form.put("GroupId", group_id),
        Call::AuthorizeSecurityGroupIngress { group_id, permissions }
        | Call::RevokeSecurityGroupIngress { group_id, permissions } => {
            form.put("GroupId", group_id).permissions(permissions);
        }
        Call::CreateEc2Tags { resource, tags } => _ = form.items("ResourceId", [resource]).pairs("Tag.", tags),
        Call::DeleteEc2Tags { resource, keys } => {
            form.items("ResourceId", [resource]);
            for (n, key) in keys.iter().enumerate() {
                form.put(format!("Tag.{}.Key", n + 1), key);
            }
        }
        Call::DescribeInstances { ids } => _ = form.items("InstanceId", ids),
    }
}

fn create_load_balancer(form: &mut Form, create: &CreateLoadBalancer) {
    let CreateLoadBalancer {
        name,
        scheme,
        ip_address_type,
        subnet_mappings,
        security_groups,
        enable_prefix_for_ipv6_source_nat,
        tags,
    } = create;
    form.put("Name", name)
        .put("Type", "network")
        .put("Scheme", scheme)
        .put("IpAddressType", ip_address_type)
        .mappings(subnet_mappings)
        .members("SecurityGroups", security_groups)
        .maybe("EnablePrefixForIpv6SourceNat", enable_prefix_for_ipv6_source_nat.map(on_off))
        .pairs("Tags.member.", tags);
}

fn create_target_group(form: &mut Form, create: &CreateTargetGroup) {
    let CreateTargetGroup { name, protocol, port, vpc_id, target_type, ip_address_type, health_check, tags } = create;
    form.put("Name", name)
        .put("Protocol", protocol)
        .put("Port", port)
        .put("VpcId", vpc_id)
        .put("TargetType", target_type)
        .put("IpAddressType", ip_address_type)
        .health_check(health_check)
        .pairs("Tags.member.", tags);
}

fn create_listener(form: &mut Form, create: &CreateListener) {
    let CreateListener { load_balancer, protocol, port, forward, ssl_policy, certificate, alpn_policy, tags } = create;
    form.put("LoadBalancerArn", load_balancer)
        .put("Protocol", protocol)
        .put("Port", port)
        .forward(forward)
        .maybe("SslPolicy", ssl_policy.as_ref())
        .certificates(certificate)
        .members("AlpnPolicy", alpn_policy)
        .pairs("Tags.member.", tags);
}

fn modify_listener(form: &mut Form, modify: &ModifyListener) {
    let ModifyListener { listener, protocol, port, forward, ssl_policy, certificate, alpn_policy } = modify;
    form.put("ListenerArn", listener).maybe("Protocol", protocol.as_ref()).maybe("Port", port.as_ref());
    if let Some(forward) = forward {
        form.forward(forward);
    }
    form.maybe("SslPolicy", ssl_policy.as_ref()).certificates(certificate).members("AlpnPolicy", alpn_policy);
}

const fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}
