//! Probes of the containers of one pod.

use std::{net::Ipv4Addr, time::Duration};

use k8s_openapi::api::core::v1::Probe;
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Event, Worker};
use crate::node::{
    probe::{Kind, Timing, Tracker},
    prober::{Failure, Target},
};

/// One probe of one run of a container.
struct Probing {
    slot: usize,
    run: u32,
    kind: Kind,
    timing: Timing,
    initial_delay: Duration,
    period: Duration,
    target: Result<Target, Failure>,
    from: Ipv4Addr,
    pod: Ipv4Addr,
    events: mpsc::UnboundedSender<Event>,
}

impl Probing {
    /// Reports each verdict that differs from the one before, until it is aborted. A startup probe has one verdict.
    async fn run(self) {
        let mut tracker = Tracker::new(self.timing);
        let mut verdict = None;
        sleep(self.initial_delay).await;
        let mut ticks = interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let result = match &self.target {
                Ok(target) => target.probe(self.from, self.pod, self.timing.timeout).await.map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            };
            let Some(success) = tracker.observe(result.is_ok()) else { continue };
            if verdict.replace(success) == Some(success) {
                continue;
            }
            let message = result.err().unwrap_or_default();
            let event = Event::Probed { slot: self.slot, run: self.run, kind: self.kind, success, message };
            if self.events.send(event).is_err() || self.kind == Kind::Startup {
                return;
            }
        }
    }
}

impl Worker {
    /// Starts the probes that a container's state calls for: the startup probe first, the others after it.
    pub(super) fn start_probes(&mut self, index: usize) {
        let container = &self.slots[index].container;
        let probes = if self.slots[index].view.started {
            vec![
                (Kind::Readiness, container.readiness_probe.clone()),
                (Kind::Liveness, container.liveness_probe.clone()),
            ]
        } else {
            vec![(Kind::Startup, container.startup_probe.clone())]
        };
        for (kind, probe) in probes {
            if let Some(probe) = probe {
                let handle = self.spawn_probe(index, kind, &probe);
                if let Some(running) = &mut self.slots[index].running {
                    running.probes.push(handle);
                }
            }
        }
    }

    fn spawn_probe(&mut self, index: usize, kind: Kind, probe: &Probe) -> AbortHandle {
        let slot = &self.slots[index];
        let (timing, scale, place) = (Timing::of(probe), self.machine.scale, self.place());
        let probing = Probing {
            slot: index,
            run: slot.runs,
            kind,
            timing,
            initial_delay: scale.real(timing.initial_delay),
            period: scale.real(timing.period),
            target: Target::of_probe(probe, &slot.container),
            from: place.host.v4,
            pod: place.pod.v4,
            events: self.events.clone(),
        };
        self.tasks.spawn(probing.run())
    }

    /// A probe has reached another verdict.
    pub(super) async fn probed(&mut self, index: usize, run: u32, kind: Kind, success: bool, message: String) {
        let slot = &mut self.slots[index];
        if slot.runs != run || slot.running.is_none() {
            return;
        }
        match (kind, success) {
            (Kind::Startup, true) => {
                slot.view.started = true;
                slot.view.ready = slot.container.readiness_probe.is_none();
                self.start_probes(index);
            }
            (Kind::Readiness, _) => slot.view.ready = success,
            (Kind::Liveness, true) => {}
            (Kind::Startup | Kind::Liveness, false) => self.restart(index),
        }
        if !success {
            let name = &self.slots[index].view.name;
            let note = format!("{} probe of container {name} failed: {message}", kind.name());
            self.warn("Unhealthy", &note).await;
        }
    }
}
