//! Connections: which target each goes to, and which are cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use crate::{
    Answer, Command, Event, FlowEnd, FlowId, Model, Route, Source, Standing,
    elb::{attributes::cross_zone, balancer::LoadBalancer, group::TargetGroup, placement::Mapping, target::TargetId},
    plane,
    random::mix,
    store::{BalancerKey, GroupKey, ListenerKey},
};

/// An open connection.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) balancer: BalancerKey,
    pub(crate) listener: SocketAddr,
    pub(crate) group: GroupKey,
    pub(crate) target: TargetId,
    client: SocketAddr,
    /// Why it was cut, once it was.
    cut: Option<&'static str>,
}

/// Why a connection becomes no flow.
enum Refusal {
    Refuse(String),
    Silent(String),
}

/// What was chosen for a connection.
struct Choice {
    balancer: BalancerKey,
    group: GroupKey,
    target: TargetId,
    zone: String,
    fail_open: bool,
    route: Route,
}

impl Model {
    /// Opens and closes the sockets of a load balancer's listeners in its zones.
    pub(crate) fn review_listening(&mut self, key: BalancerKey) {
        let mut wanted: BTreeMap<SocketAddr, ListenerKey> = BTreeMap::new();
        if let Some(balancer) = self.balancers.get(key).filter(|b| self.now >= b.active_at) {
            for (listener_key, listener) in self.listeners.iter().filter(|(_, l)| l.balancer == key && l.accepts_tcp())
            {
                for address in balancer.mappings.iter().flat_map(Mapping::addresses) {
                    wanted.insert(SocketAddr::new(address, listener.port), listener_key);
                }
            }
        }
        let present: BTreeSet<SocketAddr> =
            self.listening.iter().filter(|(_, (owner, _))| *owner == key).map(|(at, _)| *at).collect();
        for at in present.iter().filter(|at| !wanted.contains_key(at)) {
            self.listening.remove(at);
            self.commands.push_back(Command::Unlisten { at: *at });
        }
        for (at, listener) in wanted {
            self.listening.insert(at, (key, listener));
            if !present.contains(&at) {
                self.commands.push_back(Command::Listen { at });
            }
        }
    }

    /// Decides about a new connection from `client` to the zone address `listener`. A [`Route`] opens a flow, which
    /// lasts until [`Model::closed`].
    pub fn connect(&mut self, listener: SocketAddr, client: SocketAddr, now: Duration) -> Answer {
        self.advance(now);
        match self.choose(listener, client) {
            Ok(choice) => {
                let Choice { balancer, group, target, zone, fail_open, route } = choice;
                let target_group = self.groups.get(group).map(|g| g.arn.clone()).unwrap_or_default();
                let flow = route.flow;
                self.note(Event::FlowOpened {
                    who: client,
                    flow,
                    listener,
                    zone,
                    target_group,
                    target: target.to_string(),
                    fail_open,
                });
                self.flows.insert(flow, Flow { balancer, listener, group, target, client, cut: None });
                Answer::Forward(route)
            }
            Err(refusal) => {
                let (answer, cause) = match refusal {
                    Refusal::Refuse(cause) => (Answer::Refuse, cause),
                    Refusal::Silent(cause) => (Answer::Silent, cause),
                };
                self.note(Event::FlowRefused { who: client, listener, cause });
                answer
            }
        }
    }

    fn choose(&mut self, at: SocketAddr, client: SocketAddr) -> Result<Choice, Refusal> {
        let refuse = |cause: &str| Refusal::Refuse(cause.to_owned());
        let silent = |cause: &str| Refusal::Silent(cause.to_owned());
        let (balancer_key, listener_key) = *self.listening.get(&at).ok_or_else(|| refuse("no-listener"))?;
        let salt = self.random.next();
        let balancer = self.balancers.get(balancer_key).ok_or_else(|| refuse("no-listener"))?;
        let listener = self.listeners.get(listener_key).ok_or_else(|| refuse("no-listener"))?;
        let place = balancer.zone_of(at.ip()).ok_or_else(|| refuse("no-listener"))?;
        let zone = place.zone.clone();
        if self.impaired.contains(&zone) {
            return Err(silent("zone-impaired"));
        }
        if listener.protocol == "TLS" {
            return Err(refuse("tls-is-not-emulated"));
        }
        if self.settings.enforce_security_groups && !self.admits(balancer, client, listener.port) {
            return Err(silent("security-group"));
        }
        let offers: Vec<_> = listener
            .routes(self.now)
            .groups
            .iter()
            .filter_map(|(key, weight)| {
                let (ids, fail_open) = self.candidates(self.groups.get(*key)?, balancer, &zone);
                (!ids.is_empty()).then_some((*key, *weight, ids, fail_open))
            })
            .collect();
        let total: u64 = offers.iter().map(|(_, weight, ..)| u64::from(*weight)).sum();
        if total == 0 {
            let cause = "no-targets";
            return Err(if self.settings.empty_group_silent { silent(cause) } else { refuse(cause) });
        }
        let hash = tuple_hash(client, at, salt);
        let mut ticket = mix(hash ^ 0x9d) % total;
        let chosen = offers.into_iter().find(|(_, weight, ..)| {
            let hit = ticket < u64::from(*weight);
            ticket = ticket.saturating_sub(u64::from(*weight));
            hit
        });
        let Some((group_key, _, ids, fail_open)) = chosen else { return Err(refuse("no-targets")) };
        let group = self.groups.get(group_key).ok_or_else(|| refuse("no-targets"))?;
        let sticky = group.attributes.is("stickiness.enabled", "true");
        let picked = if sticky { by_source(client, &ids) } else { by_hash(hash, &ids) };
        let target = picked.cloned().ok_or_else(|| refuse("no-targets"))?;
        let address = self.address_of(group, &target).ok_or_else(|| refuse("no-targets"))?;
        if self.unreachable.contains(&address) {
            return Err(Refusal::Silent(format!("address-gone {target}")));
        }
        // An address of one family cannot be shown to a target of the other.
        let preserves =
            group.attributes.is("preserve_client_ip.enabled", "true") && client.is_ipv4() == address.is_ipv4();
        let source = if preserves {
            Source::Client(client)
        } else {
            Source::LoadBalancer(place.address_facing(address).ok_or_else(|| refuse("no-targets"))?)
        };
        if preserves && client.ip() == address {
            // The target would see a packet from itself and drop it.
            return Err(Refusal::Silent(format!("hairpin {target}")));
        }
        let idle = listener.attributes.number("tcp.idle_timeout.seconds").unwrap_or(350);
        let proxies = group.attributes.is("proxy_protocol_v2.enabled", "true");
        let route = Route {
            flow: FlowId(self.last_flow + 1),
            target: SocketAddr::new(address, target.port),
            source,
            idle_timeout: Duration::from_secs(idle.into()),
            proxy_header: proxies.then(|| plane::proxy_header(client, at)),
        };
        self.last_flow += 1;
        Ok(Choice { balancer: balancer_key, group: group_key, target, zone, fail_open, route })
    }

    /// The targets that a zone's nodes choose from, and whether they do so because too few are good.
    fn candidates<'a>(&self, group: &'a TargetGroup, balancer: &LoadBalancer, zone: &str) -> (Vec<&'a TargetId>, bool) {
        const COUNT: &str = "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count";
        const SHARE: &str = "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage";
        let cross = cross_zone(group, balancer);
        let here = group.targets.iter().filter(|(_, t)| cross || t.zone.as_deref().is_none_or(|z| z == zone));
        let standings: Vec<_> =
            here.map(|(id, t)| (id, t.standing(self.now, self.settings.traffic_to_initial))).collect();
        let share = |percent: u32| (standings.len() * percent as usize).div_ceil(100);
        let least = group.attributes.number(COUNT).map_or(1, |n| n as usize);
        let least = least.max(group.attributes.number(SHARE).map_or(0, share));
        let with = |floor: Standing| -> Vec<&'a TargetId> {
            standings.iter().filter(|(_, s)| *s >= floor).map(|(id, _)| *id).collect()
        };
        let good = with(Standing::InService);
        if good.len() >= least { (good, false) } else { (with(Standing::Fallback), true) }
    }

    /// Takes the end of a flow.
    pub fn closed(&mut self, flow: FlowId, end: FlowEnd, now: Duration) {
        self.advance(now);
        let Some(ended) = self.flows.remove(&flow) else { return };
        self.note(Event::FlowClosed {
            who: ended.client,
            flow,
            target: ended.target.to_string(),
            how: end.how,
            cause: ended.cut,
            to_target: end.to_target,
            to_client: end.to_client,
        });
    }

    /// Cuts the flows that are meant.
    pub(crate) fn reset_flows(&mut self, meant: impl Fn(&Flow) -> bool, cause: &'static str) {
        for (id, flow) in &mut self.flows {
            if flow.cut.is_none() && meant(flow) {
                flow.cut = Some(cause);
                self.commands.push_back(Command::Reset { flow: *id });
            }
        }
    }
}

/// Stands for the hash over protocol, addresses, ports and TCP sequence number; the salt is the last of these.
fn tuple_hash(client: SocketAddr, at: SocketAddr, salt: u64) -> u64 {
    let word = |a: SocketAddr| address_hash(a.ip()) << 16 | u64::from(a.port());
    mix(mix(word(client)) ^ word(at) ^ salt)
}

fn address_hash(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.segments().iter().fold(0, |hash, part| mix(hash ^ u64::from(*part))),
    }
}

fn by_hash<'a>(hash: u64, ids: &[&'a TargetId]) -> Option<&'a TargetId> {
    let index = hash.checked_rem(ids.len() as u64)?;
    ids.get(usize::try_from(index).ok()?).copied()
}

/// The same source meets the same target as long as that is there: the target with the greatest weight for it.
fn by_source<'a>(client: SocketAddr, ids: &[&'a TargetId]) -> Option<&'a TargetId> {
    let source = mix(address_hash(client.ip()));
    let weight = |id: &TargetId| {
        let name = id.id.bytes().fold(u64::from(id.port), |hash, byte| mix(hash ^ u64::from(byte)));
        mix(source ^ name)
    };
    ids.iter().copied().max_by_key(|id| weight(id))
}
