//! The life of a target: what the API says of it, and what the nodes do meanwhile.

use std::time::Duration;

use crate::{
    Event, Model, Standing,
    agenda::Due,
    elb::{
        attribute_table::{DRAINING_INTERVAL, TERMINATE_DEREGISTERED, TERMINATE_UNHEALTHY},
        group::TargetGroup,
        target::{Checker, Life, Linger, Target, TargetId, Unused},
    },
    store::{BalancerKey, GroupKey, ListenerKey},
};

impl Model {
    pub(crate) fn target(&self, group: GroupKey, id: &TargetId) -> Option<(&TargetGroup, &Target)> {
        let group = self.groups.get(group)?;
        Some((group, group.targets.get(id)?))
    }

    pub(crate) fn target_mut(&mut self, group: GroupKey, id: &TargetId) -> Option<&mut Target> {
        self.groups.get_mut(group)?.targets.get_mut(id)
    }

    /// Brings every group of a load balancer in line with its zones and listeners.
    pub(crate) fn review_groups_of(&mut self, balancer: BalancerKey) {
        for group in self.groups_of(balancer) {
            self.review_group(group);
        }
    }

    /// Brings the targets of a group in line with whether they can be used at all.
    pub(crate) fn review_group(&mut self, key: GroupKey) {
        let ids: Vec<TargetId> = self.groups.get(key).map(|g| g.targets.keys().cloned().collect()).unwrap_or_default();
        for id in ids {
            let Some((_, target)) = self.target(key, &id) else { continue };
            let life = target.life;
            if !life.registered() {
                continue;
            }
            match self.use_of(key, &id) {
                Err(reason) if life != Life::Unused(reason) => self.put_out_of_use(key, &id, reason),
                Err(_) => {}
                Ok(balancer) if matches!(life, Life::Unused(_)) => self.put_into_use(key, &id, balancer),
                Ok(balancer) => self.sync_checkers(key, &id, balancer),
            }
        }
    }

    /// Whether a target can be used, and by which load balancer.
    fn use_of(&self, key: GroupKey, id: &TargetId) -> Result<BalancerKey, Unused> {
        let balancer = self.balancer_of(key).ok_or(Unused::Group)?;
        let owner = self.balancers.get(balancer).ok_or(Unused::Group)?;
        let Some((group, target)) = self.target(key, id) else { return Err(Unused::Group) };
        if group.target_type == "instance" {
            if self.stopped.contains(&id.id) {
                return Err(Unused::Stopped);
            }
        } else if let Ok(address) = id.id.parse()
            && self.balancers.find(|b| b.zone_of(address).is_some()).is_some()
        {
            return Err(Unused::Address);
        }
        match &target.zone {
            Some(zone) if !owner.has_zone(zone) => Err(Unused::Zone),
            _ => Ok(balancer),
        }
    }

    /// Gives a target that was just registered its first state. `from` is what the log shows before.
    pub(crate) fn start_target(&mut self, key: GroupKey, id: &TargetId, arn: &str, from: &str) {
        let first = self.use_of(key, id);
        let life = match first {
            Err(reason) => Life::Unused(reason),
            Ok(balancer) => self.first_life(balancer),
        };
        let Some(target) = self.target_mut(key, id) else { return };
        target.life = life;
        let (to, reason, _) = life.words();
        self.note(Event::Target {
            who: id.to_string(),
            target_group: arn.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            reason: reason.map(str::to_owned),
        });
        self.schedule_registration(key, id, life);
        self.note_standing(key, id);
    }

    fn first_life(&self, balancer: BalancerKey) -> Life {
        let active_at = self.balancers.get(balancer).map_or(Duration::ZERO, |b| b.active_at);
        Life::Registering { until: active_at.max(self.now + self.settings.registration) }
    }

    fn schedule_registration(&mut self, key: GroupKey, id: &TargetId, life: Life) {
        if let Life::Registering { until } = life {
            self.agenda.add(until, Due::Target(key, id.clone()));
        }
    }

    fn put_into_use(&mut self, key: GroupKey, id: &TargetId, balancer: BalancerKey) {
        let life = self.first_life(balancer);
        self.set_life(key, id, life);
        self.schedule_registration(key, id, life);
    }

    fn put_out_of_use(&mut self, key: GroupKey, id: &TargetId, reason: Unused) {
        let (now, initial) = (self.now, self.settings.traffic_to_initial);
        // A listener that was moved to another group still sends flows to this one for a while.
        let until = now + if reason == Unused::Group { self.settings.listener_change } else { Duration::ZERO };
        let Some(target) = self.target_mut(key, id) else { return };
        let standing = target.standing(now, initial);
        target.checkers.clear();
        target.linger = (standing > Standing::None).then_some(Linger { standing, until });
        self.forget_probes(|group, target, _| group == key && target == id);
        self.agenda.add(until, Due::Target(key, id.clone()));
        self.set_life(key, id, Life::Unused(reason));
    }

    /// Every zone of the load balancer checks every target.
    fn sync_checkers(&mut self, key: GroupKey, id: &TargetId, balancer: BalancerKey) {
        let zones: Vec<String> = self
            .balancers
            .get(balancer)
            .map(|b| b.mappings.iter().map(|m| m.zone.clone()).collect())
            .unwrap_or_default();
        let jitter = self.settings.check_jitter.0;
        let Some((group, target)) = self.target(key, id) else { return };
        if !target.life.checked() {
            return;
        }
        let spread = group.check.interval().mul_f64(jitter);
        let missing: Vec<String> = zones.iter().filter(|z| !target.checkers.contains_key(*z)).cloned().collect();
        let starts: Vec<Duration> = missing.iter().map(|_| self.now + self.random.within(spread)).collect();
        let Some(target) = self.target_mut(key, id) else { return };
        target.checkers.retain(|zone, _| zones.contains(zone));
        for (zone, next) in missing.iter().zip(&starts) {
            target.checkers.insert(zone.clone(), Checker { next: *next, ..Checker::default() });
        }
        self.forget_probes(|group, target, zone| group == key && target == id && !zones.iter().any(|z| z == zone));
        for (zone, next) in missing.into_iter().zip(starts) {
            self.agenda.add(next, Due::Check(key, id.clone(), zone));
        }
    }

    /// Changes what the API says.
    pub(crate) fn set_life(&mut self, key: GroupKey, id: &TargetId, life: Life) {
        let Some((group, target)) = self.target(key, id) else { return };
        let (before, after) = (target.life.words(), life.words());
        let arn = group.arn.clone();
        if let Some(target) = self.target_mut(key, id) {
            target.life = life;
        }
        if before != after {
            let gone = matches!(life, Life::Gone);
            self.note(Event::Target {
                who: id.to_string(),
                target_group: arn,
                from: before.0.to_owned(),
                to: if gone { "none" } else { after.0 }.to_owned(),
                reason: after.1.map(str::to_owned),
            });
        }
        self.note_standing(key, id);
    }

    /// Logs what the nodes do, if it changed.
    fn note_standing(&mut self, key: GroupKey, id: &TargetId) {
        let (now, initial) = (self.now, self.settings.traffic_to_initial);
        let Some(group) = self.groups.get_mut(key) else { return };
        let arn = group.arn.clone();
        let Some(target) = group.targets.get_mut(id) else { return };
        let standing = target.standing(now, initial);
        if standing != target.logged {
            target.logged = standing;
            self.note(Event::Routing { who: id.to_string(), target_group: arn, standing });
        }
    }

    /// Does what is due for a target: the end of its registration, of its drain, of what lingers.
    pub(crate) fn step_target(&mut self, key: GroupKey, id: &TargetId) {
        let now = self.now;
        let Some((group, target)) = self.target(key, id) else { return };
        let terminates = group.attributes.is(TERMINATE_DEREGISTERED, "true");
        match target.life {
            Life::Registering { until } if until <= now => {
                self.set_life(key, id, Life::Checking);
                if let Ok(balancer) = self.use_of(key, id) {
                    self.sync_checkers(key, id, balancer);
                }
            }
            Life::UnhealthyDraining { until } if until <= now => {
                self.set_life(key, id, Life::Unhealthy);
                self.reset_target(key, id, "unhealthy-draining-over");
            }
            Life::Draining { until } if until <= now => {
                if terminates {
                    self.reset_target(key, id, "deregistration-delay-over");
                }
                self.set_life(key, id, Life::Gone);
            }
            _ => {}
        }
        self.end_linger(key, id);
        let Some(group) = self.groups.get_mut(key) else { return };
        if group.targets.get(id).is_some_and(|t| matches!(t.life, Life::Gone) && t.linger.is_none()) {
            group.targets.remove(id);
        }
    }

    fn end_linger(&mut self, key: GroupKey, id: &TargetId) {
        let now = self.now;
        let Some(target) = self.target_mut(key, id) else { return };
        if target.linger.is_none_or(|linger| linger.until > now) {
            return;
        }
        target.linger = None;
        let unhealthy = matches!(target.life, Life::Unhealthy);
        self.note_standing(key, id);
        if unhealthy && self.terminates_unhealthy(key) {
            self.reset_target(key, id, "unhealthy");
        }
    }

    /// Whether flows to an unhealthy target are reset: not while the group fails open.
    fn terminates_unhealthy(&self, key: GroupKey) -> bool {
        let (now, initial) = (self.now, self.settings.traffic_to_initial);
        self.groups.get(key).is_some_and(|group| {
            group.attributes.is(TERMINATE_UNHEALTHY, "true")
                && group.targets.values().any(|t| t.standing(now, initial) == Standing::InService)
        })
    }

    fn reset_target(&mut self, key: GroupKey, id: &TargetId, cause: &'static str) {
        self.reset_flows(|flow| flow.group == key && flow.target == *id, cause);
    }

    /// The zones' opinions have changed: the majority decides, and without one nothing changes.
    pub(crate) fn judge(&mut self, key: GroupKey, id: &TargetId) {
        let Some((group, target)) = self.target(key, id) else { return };
        let votes = |verdict| target.checkers.values().filter(|c| c.verdict == Some(verdict)).count();
        let majority = target.checkers.len() / 2;
        let (passing, failing) = (votes(true) > majority, votes(false) > majority);
        let interval = group.attributes.number(DRAINING_INTERVAL).unwrap_or(0);
        let drains = group.attributes.is(TERMINATE_UNHEALTHY, "false") && interval > 0;
        match target.life {
            Life::Checking | Life::Unhealthy | Life::UnhealthyDraining { .. } if passing => {
                if let Some(target) = self.target_mut(key, id) {
                    target.linger = None;
                }
                self.set_life(key, id, Life::Healthy);
            }
            Life::Healthy if failing => {
                let until = self.now + self.settings.unhealthy;
                if let Some(target) = self.target_mut(key, id) {
                    target.linger = Some(Linger { standing: Standing::InService, until });
                }
                let over = self.now + Duration::from_secs(interval.into());
                let life = if drains { Life::UnhealthyDraining { until: over } } else { Life::Unhealthy };
                self.set_life(key, id, life);
                self.agenda.add(until, Due::Target(key, id.clone()));
                if drains {
                    self.agenda.add(over, Due::Target(key, id.clone()));
                }
                self.advance(self.now);
            }
            Life::Checking if failing => self.set_life(key, id, Life::Unhealthy),
            _ => {}
        }
    }

    /// A listener's change has reached the nodes; targets that it left have nothing more to wait for.
    pub(crate) fn listener_settled(&mut self, key: ListenerKey) {
        let groups = self.listeners.get(key).map(|l| l.forward.groups.clone()).unwrap_or_default();
        for (group, _) in groups {
            self.review_group(group);
        }
    }
}
