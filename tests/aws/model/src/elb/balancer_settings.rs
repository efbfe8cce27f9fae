//! Changing a load balancer in place: subnets, security groups, address type.

use super::{
    balancer::{IP_ADDRESS_TYPE, ON_OFF},
    lookup::Noun,
    placement::MAPPINGS,
};
use crate::{
    Model, Value,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Input, TEXT, TEXTS, optional, required},
    value::record,
};

pub(super) const SET_SUBNETS: Operation = Operation {
    name: "SetSubnets",
    bucket: Bucket::Other,
    accepts: &[
        required("LoadBalancerArn", TEXT),
        optional("Subnets", TEXTS),
        optional("SubnetMappings", MAPPINGS),
        optional("IpAddressType", IP_ADDRESS_TYPE),
        optional("EnablePrefixForIpv6SourceNat", ON_OFF),
    ],
    refuses: &[
        Code::LoadBalancerNotFound,
        Code::InvalidConfigurationRequest,
        Code::SubnetNotFound,
        Code::InvalidSubnet,
        Code::AllocationIdNotFound,
        Code::AvailabilityZoneNotSupported,
        Code::CapacityReservationPending,
        Code::ResourceInUse,
    ],
    run: |model, input| model.set_subnets(input),
};

pub(super) const SET_SECURITY_GROUPS: Operation = Operation {
    name: "SetSecurityGroups",
    bucket: Bucket::Other,
    accepts: &[
        required("LoadBalancerArn", TEXT),
        required("SecurityGroups", TEXTS),
        optional("EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic", ON_OFF),
    ],
    refuses: &[Code::LoadBalancerNotFound, Code::InvalidConfigurationRequest, Code::InvalidSecurityGroup],
    run: |model, input| model.set_security_groups(input),
};

pub(super) const SET_IP_ADDRESS_TYPE: Operation = Operation {
    name: "SetIpAddressType",
    bucket: Bucket::Other,
    accepts: &[required("LoadBalancerArn", TEXT), required("IpAddressType", IP_ADDRESS_TYPE)],
    refuses: &[Code::LoadBalancerNotFound, Code::InvalidConfigurationRequest, Code::InvalidSubnet],
    run: |model, input| {
        model.balancer_key(input.need("LoadBalancerArn"))?;
        let kept = model.check_ip_address_type(input.need("IpAddressType"))?;
        Ok(record! { "IpAddressType": kept })
    },
};

impl Model {
    /// Subnets may be added and, since 2025, removed; a zone's subnet cannot be exchanged for another.
    fn set_subnets(&mut self, input: &Input) -> Result<Value> {
        let key = self.balancer_key(input.need("LoadBalancerArn"))?;
        let Some(balancer) = self.balancers.get(key) else { return Err(Noun::Balancer.missing()) };
        let present = balancer.mappings.clone();
        let wanted = self.read_mappings(input, balancer.internal)?;
        let exchanged = |subnet: &str| {
            let zone = self.world.subnet(subnet).map(|s| s.zone.as_str());
            present.iter().any(|m| Some(m.zone.as_str()) == zone && m.subnet != subnet)
        };
        if wanted.iter().any(|w| exchanged(&w.subnet)) {
            return Code::InvalidConfigurationRequest.refuse(
                "You cannot specify an additional subnet from an Availability Zone that is already associated with \
                 the load balancer. To update the subnet of an Availability Zone, remove it first",
            );
        }
        if let Some(kind) = input.text("IpAddressType") {
            self.check_ip_address_type(kind)?;
        }
        let placed = self.place(wanted, &present)?;
        let shown = self.show_mappings(&placed);
        let gone_at = self.now + self.settings.network_interface_release;
        let Some(balancer) = self.balancers.get_mut(key) else { return Err(Noun::Balancer.missing()) };
        if let Some(prefix) = input.text("EnablePrefixForIpv6SourceNat") {
            prefix.clone_into(&mut balancer.prefix_for_source_nat);
        }
        let removed: Vec<_> = present.into_iter().filter(|old| !placed.contains(old)).collect();
        balancer.mappings = placed;
        let reply = record! {
            "AvailabilityZones": shown,
            "IpAddressType": balancer.ip_address_type.as_str(),
            "EnablePrefixForIpv6SourceNat": balancer.prefix_for_source_nat.as_str(),
        };
        let label = balancer.interface_label();
        let groups = balancer.security_groups.clone();
        for mapping in removed {
            let address = mapping.address;
            self.reset_flows(|flow| *flow.listener.ip() == address, "zone-removed");
            let (label, groups) = (label.clone(), groups.clone());
            self.retiring.push(crate::ec2::interfaces::Retiring { mapping, label, groups, gone_at });
            self.agenda.add(gone_at, crate::agenda::Due::InterfacesGone);
        }
        self.review_listening(key);
        self.review_groups_of(key);
        Ok(reply)
    }

    fn set_security_groups(&mut self, input: &Input) -> Result<Value> {
        let key = self.balancer_key(input.need("LoadBalancerArn"))?;
        let groups: Vec<String> = input.texts("SecurityGroups").into_iter().map(str::to_owned).collect();
        let Some(balancer) = self.balancers.get(key) else { return Err(Noun::Balancer.missing()) };
        if !balancer.created_with_groups {
            return Code::InvalidConfigurationRequest.refuse(
                "Security groups cannot be set on a Network Load Balancer that was created without security groups",
            );
        }
        if groups.is_empty() {
            return Code::InvalidConfigurationRequest.refuse(
                "All security groups cannot be removed from a Network Load Balancer that was created with one",
            );
        }
        self.check_security_groups(&groups)?;
        let Some(balancer) = self.balancers.get_mut(key) else { return Err(Noun::Balancer.missing()) };
        balancer.security_groups = groups;
        if let Some(mode) = input.text("EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic") {
            mode.clone_into(&mut balancer.enforce_on_private_link);
        }
        Ok(record! {
            "SecurityGroupIds": balancer.security_groups.iter().map(|g| Value::from(g.as_str())).collect::<Value>(),
            "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic": balancer.enforce_on_private_link.as_str(),
        })
    }
}
