//! Changing a load balancer in place: subnets, security groups, address type.

use std::{collections::BTreeSet, net::IpAddr};

use super::{
    balancer::{IP_ADDRESS_TYPE, ON_OFF},
    families::Families,
    lookup::Noun,
    placement::{MAPPINGS, Mapping, Wanted},
};
use crate::{
    Model, Value,
    agenda::Due,
    ec2::interfaces::Retiring,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Input, TEXT, TEXTS, optional, required},
    store::BalancerKey,
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
        let key = model.balancer_key(input.need("LoadBalancerArn"))?;
        let Some(balancer) = model.balancers.get(key) else { return Err(Noun::Balancer.missing()) };
        let families = balancer.families.read(input)?;
        let wanted = model.same_places(&balancer.mappings, families)?;
        model.move_to(key, wanted, families)?;
        Ok(record! { "IpAddressType": families.ip_address_type() })
    },
};

impl Model {
    /// Subnets may be added and, since 2025, removed; a zone's subnet cannot be exchanged for another.
    fn set_subnets(&mut self, input: &Input) -> Result<Value> {
        let key = self.balancer_key(input.need("LoadBalancerArn"))?;
        let Some(balancer) = self.balancers.get(key) else { return Err(Noun::Balancer.missing()) };
        let present = balancer.mappings.clone();
        let families = balancer.families.read(input)?;
        let wanted = self.read_mappings(input, balancer.internal, families)?;
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
        let placed = self.move_to(key, wanted, families)?;
        Ok(record! {
            "AvailabilityZones": self.show_mappings(&placed),
            "IpAddressType": families.ip_address_type(),
            "EnablePrefixForIpv6SourceNat": families.prefix_for_source_nat(),
        })
    }

    /// Gives a load balancer other places and families. What it has no more is gone at once for its flows, and a while
    /// later for EC2.
    fn move_to(&mut self, key: BalancerKey, wanted: Vec<Wanted>, families: Families) -> Result<Vec<Mapping>> {
        self.check_families(key, families)?;
        let present = self.balancers.get(key).map(|b| b.mappings.clone()).unwrap_or_default();
        let placed = self.place(wanted, &present, families)?;
        let gone_at = self.now + self.settings.network_interface_release;
        let Some(balancer) = self.balancers.get_mut(key) else { return Err(Noun::Balancer.missing()) };
        balancer.families = families;
        balancer.mappings.clone_from(&placed);
        let (label, groups) = (balancer.interface_label(), balancer.security_groups.clone());
        let kept: BTreeSet<IpAddr> = placed.iter().flat_map(Mapping::addresses).collect();
        let lost: BTreeSet<IpAddr> =
            present.iter().flat_map(Mapping::addresses).filter(|address| !kept.contains(address)).collect();
        self.reset_flows(|flow| lost.contains(&flow.listener.ip()), "zone-removed");
        for mapping in present.into_iter().filter(|old| placed.iter().all(|new| new.interface != old.interface)) {
            let (label, groups) = (label.clone(), groups.clone());
            self.retiring.push(Retiring { mapping, label, groups, gone_at });
            self.agenda.add(gone_at, Due::InterfacesGone);
        }
        self.review_listening(key);
        self.review_groups_of(key);
        Ok(placed)
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
