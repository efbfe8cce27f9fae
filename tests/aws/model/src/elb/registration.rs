//! Registering and deregistering targets.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use super::{
    attribute_table::DEREGISTRATION_DELAY,
    lookup::Noun,
    target::{Life, Linger, Target, TargetId},
};
use crate::{
    Model, Standing, Value,
    agenda::Due,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Fields, Input, Kind, TEXT, optional, required},
    store::{BalancerKey, GroupKey},
};

const TARGET: Kind = Kind::Record(&[
    required("Id", TEXT),
    optional("Port", Kind::int(1, 65535)),
    optional("AvailabilityZone", TEXT),
    optional("QuicServerId", Kind::Text { min: 1, max: 256 }),
]);
pub(super) const TARGETS: Kind = Kind::list(&TARGET);

pub(super) const REGISTER: Operation = Operation {
    name: "RegisterTargets",
    bucket: Bucket::Targets,
    accepts: &[required("TargetGroupArn", TEXT), required("Targets", TARGETS)],
    refuses: &[
        Code::TargetGroupNotFound,
        Code::TooManyTargets,
        Code::InvalidTarget,
        Code::TooManyRegistrationsForTargetId,
    ],
    run: |model, input| model.register(input),
};

pub(super) const DEREGISTER: Operation = Operation {
    name: "DeregisterTargets",
    bucket: Bucket::Targets,
    accepts: &[required("TargetGroupArn", TEXT), required("Targets", TARGETS)],
    refuses: &[Code::TargetGroupNotFound, Code::TooManyTargets, Code::InvalidTarget],
    run: |model, input| model.deregister(input),
};

/// A target that a call names.
#[derive(Debug, Clone)]
struct Named {
    id: TargetId,
    zone: Option<String>,
    quic_server_id: Option<String>,
}

impl Model {
    /// All targets are checked before the first is registered, unless the setting says otherwise.
    fn register(&mut self, input: &Input) -> Result<Value> {
        let key = self.group_key(input.need("TargetGroupArn"))?;
        self.check_batch(input)?;
        let mut named = Vec::new();
        let mut invalid = None;
        for fields in input.records("Targets") {
            match self.read_target(key, fields) {
                Ok(target) => named.push(target),
                Err(fault) => {
                    invalid = Some(fault);
                    break;
                }
            }
        }
        if let Some(fault) = &invalid
            && self.settings.register_atomic
        {
            return Err(fault.clone());
        }
        let new: Vec<TargetId> = named.iter().map(|t| t.id.clone()).collect();
        self.check_group_quota(key, &new)?;
        if let Some(balancer) = self.balancer_of(key) {
            let zones: Vec<_> = named.iter().map(|t| (key, t.id.clone(), t.zone.clone())).collect();
            self.check_target_quotas(balancer, self.groups_of(balancer), &zones)?;
        }
        for target in named {
            self.register_one(key, target);
        }
        self.review_group(key);
        self.advance(self.now);
        invalid.map_or(Ok(Value::empty()), Err)
    }

    fn register_one(&mut self, key: GroupKey, named: Named) {
        let now = self.now;
        let listed_at = now + self.random.within(self.settings.consistency_register);
        let Some(group) = self.groups.get_mut(key) else { return };
        let arn = group.arn.clone();
        let Named { id, zone, quic_server_id } = named;
        let fresh = Target {
            zone,
            quic_server_id,
            listed_at,
            life: Life::Unused(super::target::Unused::Group),
            checkers: BTreeMap::new(),
            linger: None,
            logged: Standing::None,
        };
        let mut from = "none";
        match group.targets.get_mut(&id) {
            // Registering what is registered changes nothing.
            Some(present) if present.life.registered() => {
                present.quic_server_id = fresh.quic_server_id;
                return;
            }
            // Back before it was gone: what lingers goes on.
            Some(leaving) => {
                if !matches!(leaving.life, Life::Gone) {
                    from = leaving.life.words().0;
                }
                let (linger, logged) = (leaving.linger, leaving.logged);
                *leaving = Target { linger, logged, listed_at: now, ..fresh };
            }
            None => {
                group.targets.insert(id.clone(), fresh);
            }
        }
        self.start_target(key, &id, &arn, from);
    }

    /// Deregistering what is not registered succeeds.
    fn deregister(&mut self, input: &Input) -> Result<Value> {
        let key = self.group_key(input.need("TargetGroupArn"))?;
        self.check_batch(input)?;
        let Some(group) = self.groups.get(key) else { return Err(Noun::Group.missing()) };
        let delay = group.attributes.number(DEREGISTRATION_DELAY).unwrap_or(300);
        let mut ids = Vec::new();
        for target in input.records("Targets") {
            let id = target.need("Id");
            check_form(&group.target_type, id)?;
            ids.push(TargetId::new(id, target.number("Port").unwrap_or(group.port)));
        }
        let delay = Duration::from_secs(delay.into());
        for id in ids {
            self.deregister_one(key, &id, delay);
        }
        self.advance(self.now);
        Ok(Value::empty())
    }

    fn deregister_one(&mut self, key: GroupKey, id: &TargetId, delay: Duration) {
        let (now, initial) = (self.now, self.settings.traffic_to_initial);
        let lag = self.settings.deregistration;
        let Some(target) = self.groups.get_mut(key).and_then(|g| g.targets.get_mut(id)) else { return };
        if !target.life.registered() {
            return;
        }
        let standing = target.standing(now, initial);
        // A target that nobody uses is gone at once; there is nothing to drain.
        let idle = matches!(target.life, Life::Unused(_));
        let mut until = now + lag;
        if let Some(linger) = target.linger {
            until = until.max(linger.until);
        }
        target.linger = (standing > Standing::None).then_some(Linger { standing, until });
        target.checkers.clear();
        self.forget_probes(|group, target, _| group == key && target == id);
        self.agenda.add(until, Due::Target(key, id.clone()));
        let life = if idle { Life::Gone } else { Life::Draining { until: now + delay } };
        self.set_life(key, id, life);
        self.agenda.add(now + delay, Due::Target(key, id.clone()));
    }

    fn check_batch(&self, input: &Input) -> Result<()> {
        let (count, quota) = (input.records("Targets").len(), self.settings.quota_batch as usize);
        if count == 0 {
            return Code::ValidationError.refuse("At least one target must be specified");
        }
        if count > quota {
            return Code::TooManyTargets
                .refuse(format!("A call takes up to {quota} targets, not {count}; split it into several"));
        }
        Ok(())
    }

    fn read_target(&self, key: GroupKey, fields: &Fields) -> Result<Named> {
        let Some(group) = self.groups.get(key) else { return Err(Noun::Group.missing()) };
        let id = fields.need("Id");
        let port = fields.number("Port").unwrap_or(group.port);
        let zone = fields.text("AvailabilityZone");
        check_form(&group.target_type, id)?;
        let zone = match group.target_type.as_str() {
            "ip" => match id.parse::<IpAddr>() {
                Ok(address) if address.is_ipv6() == (group.ip_address_type == "ipv6") => {
                    self.zone_for(address, zone)?
                }
                _ => {
                    let family = if group.ip_address_type == "ipv6" { "IPv6" } else { "IPv4" };
                    return Code::ValidationError
                        .refuse(format!("The IP address '{id}' is not a valid {family} address"));
                }
            },
            "instance" => self.zone_of_instance(id, zone)?,
            _ => return Code::InvalidTarget.refuse(format!("The load balancer '{id}' does not exist")),
        };
        let quic_server_id = fields.text("QuicServerId").map(str::to_owned);
        Ok(Named { id: TargetId::new(id, port), zone, quic_server_id })
    }

    /// The zone of an address: that of its subnet, or, outside the VPC's subnets, the one that the caller names.
    fn zone_for(&self, address: IpAddr, zone: Option<&str>) -> Result<Option<String>> {
        if let Some(subnet) = self.world.subnet_of(address) {
            return match zone {
                Some(other) if other != subnet.zone => Code::ValidationError.refuse(format!(
                    "The IP address '{address}' is within the VPC, and cannot have its Availability Zone overridden \
                     to '{other}' from '{}'",
                    subnet.zone
                )),
                _ => Ok(Some(subnet.zone.clone())),
            };
        }
        if matches!(address, IpAddr::V4(address) if !address.is_private() && !is_shared(address)) {
            return Code::InvalidTarget.refuse(format!(
                "The IP address '{address}' is not valid: it must be from a subnet of the VPC, or from the ranges of \
                 RFC 1918 and RFC 6598"
            ));
        }
        match zone {
            Some("all") => Ok(None),
            Some(zone) if self.world.zones.iter().any(|z| z.name == zone) => Ok(Some(zone.to_owned())),
            _ => Code::ValidationError.refuse(format!(
                "You must specify a valid Availability Zone or select 'all' for all enabled Availability zones, since \
                 the IP address '{address}' is outside the VPC"
            )),
        }
    }

    fn zone_of_instance(&self, id: &str, zone: Option<&str>) -> Result<Option<String>> {
        if zone.is_some() {
            return Code::ValidationError
                .refuse("You cannot specify an Availability Zone for a target of type 'instance'");
        }
        let Some(instance) = self.world.instances.iter().find(|i| i.id == id) else {
            return Code::InvalidTarget.refuse(format!("The following targets do not exist: '{id}'"));
        };
        if self.stopped.contains(id) {
            return Code::InvalidTarget
                .refuse(format!("The following targets are not in a running state and cannot be registered: '{id}'"));
        }
        Ok(self.world.subnet(&instance.subnet).map(|s| s.zone.clone()))
    }

    fn check_group_quota(&self, key: GroupKey, new: &[TargetId]) -> Result<()> {
        let Some(group) = self.groups.get(key) else { return Err(Noun::Group.missing()) };
        let registered = group.targets.iter().filter(|(_, t)| t.life.registered()).map(|(id, _)| id);
        let all: BTreeSet<_> = registered.chain(new).collect();
        let quota = self.settings.quota_targets_group as usize;
        if all.len() > quota {
            return Code::TooManyTargets.refuse(format!(
                "The maximum number of targets per target group '{quota}' has been reached on target group '{}'",
                group.arn
            ));
        }
        Ok(())
    }

    /// Targets of a load balancer over the given groups and those that it has, with `new` ones.
    pub(super) fn check_target_quotas(
        &self,
        balancer: BalancerKey,
        groups: impl IntoIterator<Item = GroupKey>,
        new: &[(GroupKey, TargetId, Option<String>)],
    ) -> Result<()> {
        let Some(owner) = self.balancers.get(balancer) else { return Err(Noun::Balancer.missing()) };
        let mut keys = self.groups_of(balancer);
        keys.extend(groups);
        keys.sort_unstable();
        keys.dedup();
        let mut all: BTreeMap<(GroupKey, &TargetId), Option<&str>> = BTreeMap::new();
        for key in keys {
            let targets = self.groups.get(key).into_iter().flat_map(|g| &g.targets);
            all.extend(targets.filter(|(_, t)| t.life.registered()).map(|(id, t)| ((key, id), t.zone.as_deref())));
        }
        all.extend(new.iter().map(|(key, id, zone)| ((*key, id), zone.as_deref())));
        let mut zones: BTreeMap<Option<&str>, usize> = BTreeMap::new();
        for zone in all.values() {
            *zones.entry(*zone).or_default() += 1;
        }
        let per_zone = self.settings.quota_targets_zone as usize;
        let cross_zone = owner.attributes.is("load_balancing.cross_zone.enabled", "true");
        let most = self.settings.quota_targets as usize;
        let limit = if cross_zone {
            per_zone.min(most)
        } else if zones.values().any(|n| *n > per_zone) {
            return Code::TooManyTargets.refuse(format!(
                "The maximum number of targets per Availability Zone '{per_zone}' has been reached on load balancer '{}'",
                owner.arn
            ));
        } else {
            most
        };
        if all.len() > limit {
            return Code::TooManyTargets.refuse(format!(
                "The maximum number of targets per load balancer '{limit}' has been reached on load balancer '{}'",
                owner.arn
            ));
        }
        Ok(())
    }
}

/// 100.64.0.0/10, RFC 6598.
fn is_shared(address: Ipv4Addr) -> bool {
    u32::from(address) & 0xffc0_0000 == 0x6440_0000
}

/// Whether an id can be of the group's type at all.
fn check_form(target_type: &str, id: &str) -> Result<()> {
    let instance = id.strip_prefix("i-").is_some_and(|rest| !rest.is_empty());
    if target_type == "instance" && !instance {
        return Code::ValidationError.refuse(format!("Instance ID '{id}' is not valid"));
    }
    if target_type == "ip" && id.parse::<IpAddr>().is_err() {
        return Code::ValidationError.refuse(format!("The IP address '{id}' is not a valid IPv4 address"));
    }
    Ok(())
}
