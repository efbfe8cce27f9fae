//! What goes wrong.

use std::time::Duration;

use registrar_core::cluster::Kind;

use crate::{
    crash::Moment,
    fact::{Allowed, Number, TargetKey},
    plane::TARGET_PORT,
    weather::{Fate, Storm, Way},
    world::{Happening, World},
};

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// A registrar dies at the next effect to pass a moment.
    Crash(Number, Moment),
    /// A registrar dies at once.
    Kill(Number),
    /// A registrar is told to end.
    Terminate(Number),
    /// A registrar stands still for a while.
    Pause(Number, Duration),
    /// A watch tells nothing for a while.
    Stall(Number, Kind, Duration),
    /// A watch breaks for a while; with a new list after it or not.
    Disconnect(Number, Kind, bool, Duration),
    /// A registrar is connected to an API server that is so far behind storage, for so long: it lists everything anew.
    TimeTravel(Number, Duration, Duration),
    /// No API server answers for a while, and all watches break.
    ApiDown(Duration),
    /// The API server of a registrar is behind storage.
    Behind(Number, Duration),
    /// The endpoint slice controller is behind.
    SlicesBehind(Duration),
    /// Requests meet something.
    Storm(Way, Fate, u32, Duration),
    /// A registrar gets no credentials.
    Credentials(Number, Duration),
    /// The tag of a binding's group goes.
    Untag(usize),
    /// A target of a binding's group is deregistered behind the registrars' back: the n-th.
    Deregister(usize, usize),
    /// A foreign target is registered in a binding's group.
    Register(usize, u8),
    /// Somebody else uses up the rate of `Describe*` calls.
    Neighbour(u32),
}

impl World {
    /// Lets something go wrong.
    pub(crate) fn scene_fault(&mut self, index: usize) {
        let (_, fault) = self.scene.faults[index];
        let now = self.now;
        self.trace.say(now, || format!("fault {fault:?}"));
        self.settling.disturbed(now);
        match fault {
            Fault::Crash(number, moment) => self.crashes.next.push((number, moment)),
            Fault::Kill(number) => self.crash(number),
            Fault::Terminate(number) => self.terminate(number),
            Fault::Pause(number, time) => {
                let until = (now + time).max(self.replicas[number].paused_until.unwrap_or_default());
                self.replicas[number].paused_until = Some(until);
                self.at(until, Happening::Resume(number));
            }
            Fault::Stall(number, kind, time) => self.stall(number, kind, time),
            Fault::Disconnect(number, kind, relist, time) => self.disconnect(number, kind, relist, time),
            Fault::TimeTravel(number, back, time) => {
                self.weather.past[number % 2] = Some((now.saturating_sub(back), now + time));
                for kind in crate::cluster::etcd::KINDS {
                    let down = self.choices.millis(1, 100);
                    self.disconnect(number, kind, true, down);
                }
            }
            Fault::ApiDown(time) => {
                self.weather.api_down = self.weather.api_down.max(now + time);
                for number in 0..self.replicas.len() {
                    for kind in crate::cluster::etcd::KINDS {
                        let relist = self.choices.chance(500);
                        let back = time + self.choices.millis(50, 1500);
                        self.disconnect(number, kind, relist, back);
                    }
                }
            }
            Fault::Behind(number, by) => self.weather.view_lag[number % 2] = by,
            Fault::SlicesBehind(by) => self.weather.slices_lag = by,
            Fault::Storm(way, fate, per_mille, time) => {
                self.weather.storms.push(Storm { way, fate, per_mille, until: now + time });
            }
            Fault::Credentials(number, time) => self.replicas[number].without_credentials = now + time,
            Fault::Untag(binding) => {
                let group = self.groups[binding].clone();
                self.tag(&group, Allowed::Untagged);
            }
            Fault::Deregister(binding, nth) => {
                let group = self.groups[binding].clone();
                let of_group: Vec<TargetKey> =
                    self.plane.registered.keys().filter(|key| key.group == group).cloned().collect();
                if let Some(key) = of_group.get(nth % of_group.len().max(1)) {
                    let _ = self.meddle(key, false);
                    self.settling.meddled(now);
                }
            }
            Fault::Register(binding, host) => {
                let group = self.groups[binding].clone();
                let key = TargetKey { group, address: format!("192.168.12.{host}"), port: TARGET_PORT };
                let _ = self.meddle(&key, true);
                self.settling.meddled(now);
            }
            Fault::Neighbour(calls) => {
                for _ in 0..calls {
                    self.call(&registrar_core::aws::Call::DescribeTags { resources: Vec::new() });
                }
            }
        }
    }

    /// All faults are over.
    pub(crate) fn calm(&mut self) {
        self.trace.say(self.now, || "calm".to_owned());
        self.weather.storms.clear();
        self.weather.view_lag = [Duration::ZERO; 2];
        self.weather.past = [None; 2];
        self.weather.slices_lag = Duration::ZERO;
        self.weather.api_down = self.weather.api_down.min(self.now);
        self.crashes.next.clear();
        for number in 0..self.replicas.len() {
            self.replicas[number].without_credentials = Duration::ZERO;
            if let Some(until) = self.replicas[number].paused_until {
                self.settling.disturbed(until);
            }
        }
        for index in 0..self.groups.len() {
            let group = self.groups[index].clone();
            let namespace = self.scene.bindings[index].namespace.clone();
            let allowed = Allowed::Namespaces(vec![namespace]);
            if self.plane.tags.get(&group) != Some(&allowed) {
                self.tag(&group, allowed);
            }
        }
        self.tell(&crate::fact::Fact::Calm);
        self.settling.disturbed(self.now);
        self.after(Duration::from_secs(1), Happening::Settled);
    }
}
