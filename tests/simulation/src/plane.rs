//! The account with its load balancer, and who answers its health checks.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use aws_model::{Command, Event, Model, Probe, ProbeId, ProbeOutcome, Settings, settings::Profile};
use registrar_core::{
    aws::{
        Arn, Call, CreateListener, CreateLoadBalancer, CreateTargetGroup, Fault, Forward, HealthCheck, Reply,
        SubnetMapping, Target,
    },
    cluster::{BindingRecord, Uid},
};

use crate::{
    aws::{self, Answered},
    fact::{Allowed, Fact, TargetKey},
    world::{Happening, World},
};

/// What pods listen on.
pub(crate) const TARGET_PORT: u16 = 8080;
/// The least interval that AWS takes.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// Both thresholds of the groups.
pub(crate) const THRESHOLD: u32 = 2;

/// The VPC of the lab.
const VPC: &str = "vpc-0a1b2c3d4e5f60718";
const SUBNETS: [&str; 3] = ["subnet-0a00000000000aaa2", "subnet-0b00000000000bbb2", "subnet-0c00000000000ccc2"];

/// The account.
#[derive(Debug)]
pub(crate) struct Plane {
    pub(crate) model: Model,
    /// Which pod each check under way has reached.
    reached: BTreeMap<ProbeId, Option<Uid>>,
    wakes: Option<Duration>,
    /// Registered targets of each group as AWS has them.
    pub(crate) registered: BTreeMap<TargetKey, String>,
    pub(crate) tags: BTreeMap<String, Allowed>,
    /// Targets of groups that somebody else has registered.
    pub(crate) foreign: BTreeSet<TargetKey>,
    /// Those of them that came while no binding had the group, or while the last one was leaving it.
    pub(crate) unbound: BTreeSet<TargetKey>,
}

impl Plane {
    /// An account without a load balancer.
    pub(crate) fn new(seed: u64, changes: &[(&str, String)]) -> anyhow::Result<Self> {
        let world = world::World::parse(world::DEFAULT)?;
        let mut settings = Settings::profile(Profile::Instant);
        for (key, value) in changes {
            settings.set(key, value)?;
        }
        Ok(Self {
            model: Model::new(&world, settings, seed),
            reached: BTreeMap::new(),
            wakes: None,
            registered: BTreeMap::new(),
            tags: BTreeMap::new(),
            foreign: BTreeSet::new(),
            unbound: BTreeSet::new(),
        })
    }

    fn made(&mut self, call: &Call) -> anyhow::Result<Reply> {
        aws::call(&mut self.model, call, Duration::ZERO).outcome.map_err(|fault| anyhow::anyhow!("{call:?}: {fault}"))
    }

    /// A load balancer with one listener and one group for each name; the groups' ARNs.
    pub(crate) fn build(&mut self, names: &[String]) -> anyhow::Result<Vec<String>> {
        let mapping = |id: &&str| SubnetMapping { subnet_id: (*id).to_owned(), ..SubnetMapping::default() };
        let created = self.made(&Call::CreateLoadBalancer(CreateLoadBalancer {
            name: "front".to_owned(),
            scheme: "internal".to_owned(),
            ip_address_type: "ipv4".to_owned(),
            subnet_mappings: SUBNETS.iter().map(mapping).collect(),
            security_groups: Vec::new(),
            enable_prefix_for_ipv6_source_nat: None,
            tags: BTreeMap::new(),
        }))?;
        let Reply::LoadBalancers { load_balancers, .. } = created else { anyhow::bail!("no load balancer") };
        let mut arns = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let group = self.build_group(name)?;
            self.made(&Call::CreateListener(CreateListener {
                load_balancer: load_balancers[0].arn.clone(),
                protocol: "TCP".to_owned(),
                port: 80 + u16::try_from(n)?,
                forward: Forward { groups: vec![(group.clone(), None)], sticky: None },
                ssl_policy: None,
                certificate: None,
                alpn_policy: None,
                tags: BTreeMap::new(),
            }))?;
            arns.push(group.as_str().to_owned());
        }
        Ok(arns)
    }

    fn build_group(&mut self, name: &str) -> anyhow::Result<Arn> {
        let threshold = Some(i32::try_from(THRESHOLD)?);
        let created = self.made(&Call::CreateTargetGroup(CreateTargetGroup {
            name: name.to_owned(),
            protocol: "TCP".to_owned(),
            port: TARGET_PORT,
            vpc_id: VPC.to_owned(),
            target_type: "ip".to_owned(),
            ip_address_type: "ipv4".to_owned(),
            health_check: HealthCheck {
                interval_seconds: Some(i32::try_from(INTERVAL.as_secs())?),
                timeout_seconds: Some(2),
                healthy_threshold: threshold,
                unhealthy_threshold: threshold,
                ..HealthCheck::default()
            },
            tags: BTreeMap::new(),
        }))?;
        let Reply::TargetGroups { target_groups, .. } = created else { anyhow::bail!("no target group") };
        let group = target_groups[0].arn.clone();
        let delay = BTreeMap::from([("deregistration_delay.timeout_seconds".to_owned(), "20".to_owned())]);
        self.made(&Call::ModifyTargetGroupAttributes { group: group.clone(), attributes: delay })?;
        Ok(group)
    }
}

impl World {
    /// Makes a call, with all that follows from it at once.
    pub(crate) fn call(&mut self, call: &Call) -> Answered {
        let answered = aws::call(&mut self.plane.model, call, self.now);
        self.plane_changed();
        answered
    }

    /// Carries out what the model asks for, and tells what it has logged.
    pub(crate) fn plane_changed(&mut self) {
        self.plane.wakes = self.plane.wakes.filter(|at| *at > self.now);
        loop {
            let commands = self.plane.model.tick(self.now);
            self.tell_log();
            if commands.is_empty() {
                break;
            }
            for command in commands {
                if let Command::Probe(probe) = command {
                    self.probe(&probe);
                }
            }
        }
        if let Some(at) = self.plane.model.deadline()
            && self.plane.wakes.is_none_or(|wakes| at < wakes)
        {
            self.plane.wakes = Some(at);
            self.at(at, Happening::Plane);
        }
    }

    /// A check reaches whoever has the address now.
    fn probe(&mut self, probe: &Probe) {
        // The simulated cluster has no IPv6.
        let holder = match probe.to.ip() {
            IpAddr::V4(address) => self.kubelet.held.get(&address).cloned(),
            IpAddr::V6(_) => None,
        };
        let process = holder.as_ref().and_then(|uid| self.kubelet.processes.get(uid));
        let (outcome, after) = match process {
            None => (ProbeOutcome::TimedOut, probe.timeout),
            Some(process) if process.answers => (ProbeOutcome::Connected, Duration::from_millis(2)),
            Some(_) => (ProbeOutcome::Refused, Duration::from_millis(2)),
        };
        self.plane.reached.insert(probe.id, holder);
        self.after(after, Happening::Probed(probe.id, outcome));
    }

    /// A check comes back.
    pub(crate) fn probed(&mut self, id: ProbeId, outcome: &ProbeOutcome) {
        let by = self.plane.reached.remove(&id).flatten();
        self.plane.model.probed(id, outcome, self.now);
        self.tell_log_of(by.as_ref());
        self.plane_changed();
    }

    fn tell_log(&mut self) {
        self.tell_log_of(None);
    }

    fn tell_log_of(&mut self, by: Option<&Uid>) {
        for entry in self.plane.model.drain_log() {
            match &entry.event {
                Event::Probe { who, target_group, zone, passed, .. } => {
                    let Some(key) = target_key(target_group, who) else { continue };
                    self.tell(&Fact::Probed { key: &key, zone, by, passed: *passed });
                }
                Event::Target { who, target_group, from, to, .. } => {
                    let Some(key) = target_key(target_group, who) else { continue };
                    if to == "none" || to == "draining" {
                        self.plane.registered.remove(&key);
                    } else {
                        self.plane.registered.insert(key.clone(), to.clone());
                    }
                    self.tell(&Fact::Target { key: &key, from, to });
                }
                _ => {}
            }
        }
    }

    /// Sets the tag that says who may bind a group.
    pub(crate) fn tag(&mut self, group: &str, allowed: Allowed) {
        let resource = Arn::new(group);
        let key = nlb::tags::NAMESPACES.to_owned();
        let call = match &allowed {
            Allowed::Namespaces(list) => Call::AddTags { resource, tags: BTreeMap::from([(key, list.join(" "))]) },
            Allowed::Untagged => Call::RemoveTags { resource, keys: vec![key] },
        };
        self.call(&call);
        self.tell(&Fact::Tagged { group, allowed: &allowed });
        self.plane.tags.insert(group.to_owned(), allowed);
    }

    fn bound_to(&self, group: &str) -> Option<&BindingRecord> {
        self.etcd.bindings().find(|binding| binding.spec.target_group_arn.as_deref() == Some(group))
    }

    /// Registers or deregisters a target behind the registrars' back.
    pub(crate) fn meddle(&mut self, key: &TargetKey, register: bool) -> Result<Reply, Fault> {
        let target = Target { id: key.address.clone(), port: key.port, availability_zone: None, quic_server_id: None };
        let (group, targets) = (Arn::new(&key.group), vec![target]);
        let call = if register {
            Call::RegisterTargets { group, targets }
        } else {
            Call::DeregisterTargets { group, targets }
        };
        if register {
            self.plane.foreign.insert(key.clone());
            if self.bound_to(&key.group).is_none_or(|binding| binding.meta.deleting) {
                self.plane.unbound.insert(key.clone());
            }
        }
        self.call(&call).outcome
    }
}

/// The key of a target as the model's log names it, `address:port`.
fn target_key(group: &str, who: &str) -> Option<TargetKey> {
    let (address, port) = who.rsplit_once(':')?;
    Some(TargetKey { group: group.to_owned(), address: address.to_owned(), port: port.parse().ok()? })
}

/// The key of a target of a call.
pub(crate) fn key_of(group: &Arn, target: &Target) -> TargetKey {
    TargetKey { group: group.as_str().to_owned(), address: target.id.clone(), port: target.port }
}

/// Addresses for pods: of the three private subnets, so that every zone has some.
pub(crate) fn addresses(count: usize) -> Vec<Ipv4Addr> {
    let host = |n: usize| u8::try_from(21 + n / 3).unwrap_or(100);
    (0..count).map(|n| Ipv4Addr::new(192, 168, [11, 12, 13][n % 3], host(n))).collect()
}
