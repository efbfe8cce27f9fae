//! Health checks: when each zone's nodes run one, and what its outcome means.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    Check, Command, Event, Model, Probe, ProbeId, ProbeOutcome,
    agenda::Due,
    elb::{group::TargetGroup, target::TargetId},
    plane,
    store::GroupKey,
};

/// How much longer than its timeout a check may be under way before it counts as lost. Long, because the shell may be
/// late under load and a check that was never made says nothing of the target.
const PATIENCE: Duration = Duration::from_mins(1);

impl Model {
    /// A checker's time has come: start a check, or give one up.
    pub(crate) fn step_check(&mut self, key: GroupKey, id: &TargetId, zone: &str) {
        let now = self.now;
        let Some((_, target)) = self.target(key, id) else { return };
        let Some(checker) = target.checkers.get(zone) else { return };
        match checker.waiting {
            Some((probe, until)) if until <= now => {
                self.probes.remove(&probe);
                self.count(key, id, zone, &ProbeOutcome::TimedOut);
            }
            None if checker.next <= now => self.start_check(key, id, zone),
            _ => {}
        }
    }

    fn start_check(&mut self, key: GroupKey, id: &TargetId, zone: &str) {
        let Some(probe) = self.probe(key, id, zone) else { return };
        let Some(interval) = self.groups.get(key).map(|g| g.check.interval()) else { return };
        let jitter = self.settings.check_jitter.0;
        let spread = interval.mul_f64(jitter);
        let next = self.now + interval.saturating_sub(spread / 2) + self.random.within(spread);
        let until = self.now + probe.timeout + PATIENCE;
        let impaired =
            self.impaired.contains(zone) || self.zone_of_target(key, id).is_some_and(|z| self.impaired.contains(z));
        let waiting = (!impaired).then_some((probe.id, until));
        let Some(checker) = self.target_mut(key, id).and_then(|t| t.checkers.get_mut(zone)) else { return };
        (checker.next, checker.waiting) = (next, waiting);
        self.agenda.add(next, Due::Check(key, id.clone(), zone.to_owned()));
        if impaired {
            self.count(key, id, zone, &ProbeOutcome::TimedOut);
            return;
        }
        self.agenda.add(until, Due::Check(key, id.clone(), zone.to_owned()));
        self.probes.insert(probe.id, (key, id.clone(), zone.to_owned()));
        self.commands.push_back(Command::Probe(probe));
    }

    fn zone_of_target(&self, key: GroupKey, id: &TargetId) -> Option<&str> {
        self.target(key, id)?.1.zone.as_deref()
    }

    fn probe(&mut self, key: GroupKey, id: &TargetId, zone: &str) -> Option<Probe> {
        let balancer = self.balancers.get(self.balancer_of(key)?)?;
        let group = self.groups.get(key)?;
        let to = SocketAddr::new(self.address_of(group, id)?, group.check.port_for(id.port));
        let from = balancer.mappings.iter().find(|m| m.zone == zone)?.address_facing(to.ip())?;
        let check = if let Some(path) = &group.check.path {
            let listener = self.listeners.find(|l| l.forwards_to(key))?.1;
            let host = SocketAddr::new(from, listener.port).to_string();
            Check::Http { path: path.clone(), host, tls: group.check.protocol == "HTTPS" }
        } else {
            Check::Tcp
        };
        let timeout = group.check.timeout();
        let proxy = group.attributes.is("proxy_protocol_v2.enabled", "true");
        let proxy_header = proxy.then(plane::proxy_header_local);
        self.last_probe += 1;
        Some(Probe { id: ProbeId(self.last_probe), from, to, check, timeout, proxy_header })
    }

    /// Where a target's packets go.
    pub(crate) fn address_of(&self, group: &TargetGroup, target: &TargetId) -> Option<IpAddr> {
        if group.target_type != "instance" {
            return target.id.parse().ok();
        }
        let address = self.world.instances.iter().find(|i| i.id == target.id)?.address;
        if group.ip_address_type == "ipv6" { self.world.ipv6_of(address).map(Into::into) } else { Some(address.into()) }
    }

    /// Takes the outcome of a [`Command::Probe`]. Outcomes of checks that no longer matter are ignored.
    pub fn probed(&mut self, id: ProbeId, outcome: &ProbeOutcome, now: Duration) {
        self.advance(now);
        let Some((group, target, zone)) = self.probes.remove(&id) else { return };
        let waiting = |t: &crate::elb::target::Target| {
            t.checkers.get(&zone).and_then(|c| c.waiting).is_some_and(|(waiting, _)| waiting == id)
        };
        if self.target(group, &target).is_some_and(|(_, t)| waiting(t)) {
            self.count(group, &target, &zone, outcome);
        }
    }

    /// Forgets the checks under way of what is no longer checked. Their outcomes will be ignored.
    pub(crate) fn forget_probes(&mut self, meant: impl Fn(GroupKey, &TargetId, &str) -> bool) {
        self.probes.retain(|_, (group, id, zone)| !meant(*group, id, zone));
    }

    /// Counts an outcome. The first pass of a zone is enough for its approval; losing it takes the unhealthy threshold,
    /// winning it back the healthy one.
    fn count(&mut self, key: GroupKey, id: &TargetId, zone: &str, outcome: &ProbeOutcome) {
        let now = self.now;
        let Some((group, _)) = self.target(key, id) else { return };
        let passed = match outcome {
            ProbeOutcome::Connected => group.check.path.is_none(),
            ProbeOutcome::Status(status) => group.check.matches(*status),
            ProbeOutcome::Refused | ProbeOutcome::TimedOut | ProbeOutcome::Failed(_) => false,
        };
        let (arn, up, down) = (group.arn.clone(), group.check.healthy_threshold, group.check.unhealthy_threshold);
        let Some(checker) = self.target_mut(key, id).and_then(|t| t.checkers.get_mut(zone)) else { return };
        checker.waiting = None;
        let overdue = checker.next <= now;
        if passed {
            (checker.passes, checker.fails) = (checker.passes.saturating_add(1), 0);
            if checker.verdict.is_none() || checker.passes >= up {
                checker.verdict = Some(true);
            }
        } else {
            (checker.passes, checker.fails) = (0, checker.fails.saturating_add(1));
            if checker.fails >= down {
                checker.verdict = Some(false);
            }
        }
        self.note(Event::Probe {
            who: id.to_string(),
            target_group: arn,
            zone: zone.to_owned(),
            passed,
            outcome: match outcome {
                ProbeOutcome::Connected => "connected".to_owned(),
                ProbeOutcome::Status(status) => status.to_string(),
                ProbeOutcome::Refused => "refused".to_owned(),
                ProbeOutcome::TimedOut => "timed out".to_owned(),
                ProbeOutcome::Failed(why) => why.clone(),
            },
        });
        self.judge(key, id);
        if overdue {
            self.agenda.add(now, Due::Check(key, id.clone(), zone.to_owned()));
        }
    }
}
