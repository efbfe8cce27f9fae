//! Where a load balancer is, and which address families it serves there: subnets, addresses in them, IPv6 source NAT.

use std::collections::BTreeSet;

use nlb::service::spec::AddressFamilies;

use super::{Change, Planner, Resource, Verb, on_or_off};
use crate::aws::{Call, LoadBalancer, SetSubnets, SubnetMapping};

/// What stands for any prefix that AWS chooses.
const ANY_PREFIX: &str = "auto_assigned";

/// What a load balancer serves beside IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Families {
    dualstack: bool,
    source_nat: bool,
}

impl Families {
    fn of(found: &LoadBalancer) -> Self {
        let source_nat = found.enable_prefix_for_ipv6_source_nat.unwrap_or(false);
        Self { dualstack: found.ip_address_type == AddressFamilies::Dualstack.as_str(), source_nat }
    }

    fn name(self) -> &'static str {
        if self.dualstack { AddressFamilies::Dualstack } else { AddressFamilies::Ipv4 }.as_str()
    }
}

impl Planner<'_> {
    /// Changes where it is and what it serves there. What only the new listeners need is there before them; what the old
    /// ones may need goes after they have changed, see [`Planner::narrow_places`]: AWS lets go neither of IPv6 below IPv6
    /// targets nor of source NAT below UDP.
    pub(super) fn change_places(&mut self, found: &LoadBalancer, outgrown: bool) {
        let (was, is) = (Families::of(found), self.wanted_families());
        if (was.dualstack && !is.dualstack) || (was.source_nat && !is.source_nat) {
            self.narrows = Some(outgrown);
        } else {
            self.set_places(found, outgrown);
        }
    }

    /// The rest of [`Planner::change_places`].
    pub(super) fn narrow_places(&mut self) {
        if let (Some(outgrown), Some(found)) = (self.narrows.take(), self.survey.load_balancer) {
            self.set_places(found, outgrown);
        }
    }

    fn wanted_families(&self) -> Families {
        let wanted = &self.desired.load_balancer;
        let dualstack = wanted.ip_address_type == AddressFamilies::Dualstack;
        Families { dualstack, source_nat: wanted.enable_prefix_for_ipv6_source_nat.unwrap_or(false) }
    }

    fn set_places(&mut self, found: &LoadBalancer, outgrown: bool) {
        let (was, is) = (Families::of(found), self.wanted_families());
        let present: Vec<SubnetMapping> = found.zones.iter().map(|zone| zone.mapping.clone()).collect();
        // One that waits for another in its place stays where it is.
        let chosen = self.desired.load_balancer.subnet_mappings.as_ref().filter(|_| !outgrown).unwrap_or(&present);
        let wanted: Vec<SubnetMapping> = chosen.iter().map(|mapping| settled(mapping, &present, was, is)).collect();
        let moved = self.desired.subnets_chosen && ids(&wanted) != ids(&present);
        let addressed = !was.dualstack && wanted.iter().any(|mapping| mapping.ipv6_address.is_some());
        let prefixed = wanted.iter().any(|mapping| {
            let explicit = mapping.source_nat_ipv6_prefix.as_ref().filter(|prefix| *prefix != ANY_PREFIX);
            explicit.is_some_and(|prefix| {
                here(mapping, &present).is_some_and(|has| has.source_nat_ipv6_prefix.as_ref() != Some(prefix))
            })
        });
        let (retyped, switched) = (was.dualstack != is.dualstack, was.source_nat != is.source_nat);
        let resource = Resource::new("load balancer", &found.name);
        let mut changes = Vec::new();
        if retyped {
            changes.push(Change::new("IpAddressType", Some(was.name().to_owned()), Some(is.name().to_owned())));
        }
        if !(moved || addressed || prefixed || switched) {
            if retyped {
                let ip_address_type = is.name().to_owned();
                let call = Call::SetIpAddressType { load_balancer: found.arn.clone(), ip_address_type };
                self.aws(Verb::Change, resource, changes, call);
            }
            return;
        }
        if moved || addressed || prefixed {
            changes.push(Change::new("SubnetMappings", Some(subnet_text(&present)), Some(subnet_text(&wanted))));
        }
        if switched {
            let old = found.enable_prefix_for_ipv6_source_nat.map(on_or_off);
            changes.push(Change::new("EnablePrefixForIpv6SourceNat", old, Some(on_or_off(is.source_nat))));
        }
        let call = Call::SetSubnets(SetSubnets {
            load_balancer: found.arn.clone(),
            subnet_mappings: wanted,
            ip_address_type: retyped.then(|| is.name().to_owned()),
            enable_prefix_for_ipv6_source_nat: switched.then_some(is.source_nat),
        });
        self.aws(Verb::Change, resource, changes, call);
    }
}

/// A place as AWS takes it: in a subnet in which the load balancer is already, its addresses are those that it has.
fn settled(wanted: &SubnetMapping, present: &[SubnetMapping], was: Families, is: Families) -> SubnetMapping {
    let has = here(wanted, present);
    let (ipv4, ipv6) = (has.unwrap_or(wanted), has.filter(|_| was.dualstack).unwrap_or(wanted));
    SubnetMapping {
        subnet_id: wanted.subnet_id.clone(),
        allocation_id: ipv4.allocation_id.clone(),
        private_ipv4_address: ipv4.private_ipv4_address.clone(),
        ipv6_address: ipv6.ipv6_address.clone().filter(|_| is.dualstack),
        source_nat_ipv6_prefix: wanted.source_nat_ipv6_prefix.clone().filter(|_| is.source_nat),
    }
}

/// The place in the same subnet.
fn here<'a>(wanted: &SubnetMapping, present: &'a [SubnetMapping]) -> Option<&'a SubnetMapping> {
    present.iter().find(|has| has.subnet_id == wanted.subnet_id)
}

fn ids(mappings: &[SubnetMapping]) -> BTreeSet<&str> {
    mappings.iter().map(|mapping| mapping.subnet_id.as_str()).collect()
}

/// Subnets with what was chosen in them beside their IPv4 address.
pub(super) fn subnet_text(mappings: &[SubnetMapping]) -> String {
    let one = |mapping: &SubnetMapping| {
        let more = [&mapping.ipv6_address, &mapping.source_nat_ipv6_prefix].into_iter().flatten();
        let more: Vec<&str> = more.map(String::as_str).collect();
        if more.is_empty() { mapping.subnet_id.clone() } else { format!("{} ({})", mapping.subnet_id, more.join(", ")) }
    };
    mappings.iter().map(one).collect::<Vec<_>>().join(", ")
}
