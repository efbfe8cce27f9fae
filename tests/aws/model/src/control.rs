//! What a test changes from outside: settings, reachability, zones, instances.

use std::{net::IpAddr, time::Duration};

use serde::Serialize;

use crate::{Event, Model, Settings, settings};

/// A change that names nothing in the world.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such zone.
    #[error("the world has no zone `{0}`")]
    Zone(String),
    /// No such instance.
    #[error("the world has no instance `{0}`")]
    Instance(String),
}

/// What is open and waiting: zero everywhere after a test has cleaned up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Load balancers.
    pub load_balancers: usize,
    /// Target groups.
    pub target_groups: usize,
    /// Listeners.
    pub listeners: usize,
    /// Targets, those still draining included.
    pub targets: usize,
    /// Security groups.
    pub security_groups: usize,
    /// Open flows.
    pub flows: usize,
    /// Health checks under way.
    pub probes: usize,
    /// Open sockets of listeners.
    pub listening: usize,
}

impl Model {
    /// The present settings.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes one setting. It holds for what begins from now on: a target whose registration is under way keeps its lag.
    pub fn set(&mut self, key: &str, value: &str, now: Duration) -> Result<(), settings::Error> {
        self.advance(now);
        self.settings.set(key, value)?;
        self.note(Event::Control { who: key.to_owned(), value: value.to_owned() });
        Ok(())
    }

    /// Makes an address a black hole, or reachable again. Connections to a target there hang, and the shell lets checks of
    /// it time out.
    pub fn set_unreachable(&mut self, address: IpAddr, unreachable: bool, now: Duration) {
        self.advance(now);
        if unreachable {
            self.unreachable.insert(address);
        } else {
            self.unreachable.remove(&address);
        }
        let value = if unreachable { "unreachable" } else { "reachable" };
        self.note(Event::Control { who: address.to_string(), value: value.to_owned() });
    }

    /// Whether an address was made a black hole.
    pub fn is_unreachable(&self, address: IpAddr) -> bool {
        self.unreachable.contains(&address)
    }

    /// Takes a whole zone away, or gives it back: its nodes answer nobody, its checks and those of its targets fail.
    pub fn set_impaired(&mut self, zone: &str, impaired: bool, now: Duration) -> Result<(), Error> {
        self.advance(now);
        if !self.world.zones.iter().any(|z| z.name == zone) {
            return Err(Error::Zone(zone.to_owned()));
        }
        if impaired {
            self.impaired.insert(zone.to_owned());
        } else {
            self.impaired.remove(zone);
        }
        let value = if impaired { "impaired" } else { "restored" };
        self.note(Event::Control { who: zone.to_owned(), value: value.to_owned() });
        Ok(())
    }

    /// Stops an instance, or starts it again.
    pub fn set_stopped(&mut self, instance: &str, stopped: bool, now: Duration) -> Result<(), Error> {
        self.advance(now);
        if !self.world.instances.iter().any(|i| i.id == instance) {
            return Err(Error::Instance(instance.to_owned()));
        }
        if stopped {
            self.stopped.insert(instance.to_owned());
        } else {
            self.stopped.remove(instance);
        }
        let value = if stopped { "stopped" } else { "running" };
        self.note(Event::Control { who: instance.to_owned(), value: value.to_owned() });
        for key in self.groups.keys() {
            self.review_group(key);
        }
        Ok(())
    }

    /// What is open and waiting.
    pub fn counts(&self) -> Counts {
        Counts {
            load_balancers: self.balancers.len(),
            target_groups: self.groups.len(),
            listeners: self.listeners.len(),
            targets: self.groups.iter().map(|(_, g)| g.targets.len()).sum(),
            security_groups: self.security_groups.len(),
            flows: self.flows.len(),
            probes: self.probes.len(),
            listening: self.listening.len(),
        }
    }
}
