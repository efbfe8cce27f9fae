//! DNS names of load balancers.

use std::net::IpAddr;

use crate::{
    Model, Resolution,
    elb::{attributes::cross_zone, balancer::LoadBalancer, group::TargetGroup, placement::Mapping, target::Life},
    store::{BalancerKey, GroupKey},
};

impl Model {
    /// What DNS answers for `<name>-<id>.elb.<region>.amazonaws.com` and `<zone>.<name>-<id>.elb...`, in any case of
    /// letters, with or without the final dot.
    ///
    /// The whole name has the addresses of the zones whose targets are healthy, or of all zones if there is none; a
    /// zone's name always has the zone's address.
    pub fn resolve(&self, name: &str) -> Resolution {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let domain = format!("elb.{}.amazonaws.com", self.world.region);
        let Some(labels) = name.strip_suffix(&domain) else { return Resolution::NotOurs };
        let Some(labels) = labels.strip_suffix('.') else {
            return if labels.is_empty() { Resolution::NoSuchName } else { Resolution::NotOurs };
        };
        let (zone, label) = labels.split_once('.').map_or((None, labels), |(zone, label)| (Some(zone), label));
        let Some((key, balancer)) = self.balancers.find(|b| b.dns_label().eq_ignore_ascii_case(label)) else {
            return Resolution::NoSuchName;
        };
        let mut addresses: Vec<IpAddr> = match zone {
            Some(zone) => balancer.mappings.iter().filter(|m| m.zone == zone).flat_map(Mapping::addresses).collect(),
            None => self.answered(key, balancer),
        };
        if addresses.is_empty() {
            return Resolution::NoSuchName;
        }
        addresses.sort_unstable();
        Resolution::Addresses { addresses, ttl: self.settings.dns_ttl }
    }

    fn answered(&self, key: BalancerKey, balancer: &LoadBalancer) -> Vec<IpAddr> {
        let groups = self.groups_of(key);
        let healthy = balancer.mappings.iter().filter(|m| {
            !self.impaired.contains(&m.zone)
                && !groups.is_empty()
                && groups.iter().all(|group| self.healthy_in(*group, balancer, &m.zone))
        });
        let addresses: Vec<_> = healthy.flat_map(Mapping::addresses).collect();
        if addresses.is_empty() { balancer.mappings.iter().flat_map(Mapping::addresses).collect() } else { addresses }
    }

    /// Whether a zone has as many healthy targets of a group as DNS fail-over asks for.
    fn healthy_in(&self, group: GroupKey, balancer: &LoadBalancer, zone: &str) -> bool {
        const COUNT: &str = "target_group_health.dns_failover.minimum_healthy_targets.count";
        const SHARE: &str = "target_group_health.dns_failover.minimum_healthy_targets.percentage";
        let Some(group): Option<&TargetGroup> = self.groups.get(group) else { return true };
        let cross = cross_zone(group, balancer);
        let here = group.targets.values().filter(|t| cross || t.zone.as_deref().is_none_or(|z| z == zone));
        let registered: Vec<_> = here.filter(|t| t.life.registered()).collect();
        let healthy = registered.iter().filter(|t| matches!(t.life, Life::Healthy)).count();
        let count = group.attributes.number(COUNT).unwrap_or(0) as usize;
        let share = group.attributes.number(SHARE).unwrap_or(0) as usize;
        healthy >= count && healthy * 100 >= registered.len() * share
    }
}
