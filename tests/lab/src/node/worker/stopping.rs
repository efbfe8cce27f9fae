//! Stopping containers, one after a failed probe or all of them because the pod is deleted.
//!
//! The order is the kubelet's: every preStop hook at once; then the termination signal, to sidecars only after the
//! other containers have ended; then the kill, at the end of the grace period but not sooner than two seconds after the
//! signal.

use std::{net::Ipv4Addr, time::Duration};

use k8s_openapi::api::core::v1::{Container, Lifecycle, LifecycleHandler};
use kube::{
    ResourceExt as _,
    api::{DeleteParams, Preconditions},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{RETRY, Worker};
use crate::{
    node::{
        echo::Stop,
        grace,
        prober::Target,
        status::{Exit, Role, State},
    },
    scale::Scale,
};

/// Stops one container.
struct Stopping {
    hook: Hook,
    stop: Stop,
    /// Cancelled when the container may get its signal.
    turn: CancellationToken,
    /// When its grace period ends; may move closer.
    deadline: watch::Receiver<Instant>,
    scale: Scale,
}

impl Stopping {
    async fn run(mut self) {
        tokio::select! {
            () = self.hook.run(self.scale) => {}
            () = reached(&mut self.deadline) => {}
        }
        tokio::select! {
            () = self.turn.cancelled() => {}
            () = reached(&mut self.deadline) => {}
        }
        self.stop.terminate.cancel();
        let least = Instant::now() + self.scale.real(grace::LEAST_AFTER_HOOK);
        reached(&mut self.deadline).await;
        sleep_until(least).await;
        self.stop.kill.cancel();
    }
}

/// Returns at the deadline, wherever it moves.
async fn reached(deadline: &mut watch::Receiver<Instant>) {
    loop {
        let at = *deadline.borrow_and_update();
        tokio::select! {
            () = sleep_until(at) => return,
            moved = deadline.changed() => if moved.is_err() { return sleep_until(at).await },
        }
    }
}

/// What a container does before its termination signal.
enum Hook {
    Nothing,
    Sleep(Duration),
    Http { target: Target, from: Ipv4Addr, pod: Ipv4Addr },
}

impl Hook {
    async fn run(&self, scale: Scale) {
        match self {
            Self::Nothing => {}
            Self::Sleep(time) => sleep(scale.real(*time)).await,
            // Its answer does not matter, only that it has answered; the grace period bounds it.
            Self::Http { target, from, pod } => drop(target.probe(*from, *pod, Duration::MAX).await),
        }
    }
}

fn pre_stop(container: &Container) -> Option<&LifecycleHandler> {
    let Lifecycle { pre_stop, .. } = container.lifecycle.as_ref()?;
    pre_stop.as_ref()
}

impl Worker {
    /// Stops one container, which is then started again as its restart policy says.
    pub(super) fn restart(&mut self, index: usize) {
        let turn = CancellationToken::new();
        turn.cancel();
        let deadline = Instant::now() + self.machine.scale.real(grace::period(&self.pod, None));
        // Without a sender the deadline stays where it is.
        self.stop_container(index, turn, watch::channel(deadline).1);
    }

    fn stop_container(&mut self, index: usize, turn: CancellationToken, deadline: watch::Receiver<Instant>) {
        let hook = self.hook(index);
        let scale = self.machine.scale;
        let Some(running) = &mut self.slots[index].running else { return };
        let stopping = Stopping { hook, stop: running.stop.clone(), turn, deadline, scale };
        self.tasks.spawn(stopping.run());
    }

    fn hook(&self, index: usize) -> Hook {
        let (container, place) = (&self.slots[index].container, self.place());
        let Some(handler) = pre_stop(container) else { return Hook::Nothing };
        if let Some(sleep) = &handler.sleep {
            return Hook::Sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or_default()));
        }
        let target = handler.http_get.as_ref().and_then(|action| Target::of_http(action, container).ok());
        target.map_or(Hook::Nothing, |target| Hook::Http { target, from: place.host.v4, pod: place.pod.v4 })
    }

    /// Stops every container and waits until all have ended.
    pub(super) async fn stop_containers(&mut self) {
        let unsupported: Vec<_> = self
            .slots
            .iter()
            .filter(|s| s.running.is_some() && pre_stop(&s.container).is_some_and(|h| h.exec.is_some()))
            .map(|s| s.view.name.clone())
            .collect();
        for name in unsupported {
            let note =
                format!("container {name}: the lab runs sleep and httpGet hooks only, so its preStop is passed over");
            self.warn("FailedPreStopHook", &note).await;
        }
        let mut period = grace::period(&self.pod, None);
        let begun = Instant::now();
        let (deadline, watched) = watch::channel(begun + self.machine.scale.real(period));
        let (main, sidecars) = (CancellationToken::new(), CancellationToken::new());
        main.cancel();
        for index in 0..self.slots.len() {
            let turn = if self.slots[index].view.role == Role::Sidecar { &sidecars } else { &main };
            self.stop_container(index, turn.clone(), watched.clone());
        }
        loop {
            let running =
                |role| self.slots.iter().any(|s| s.running.is_some() && (s.view.role == Role::Sidecar) == role);
            if !running(false) {
                sidecars.cancel();
                if !running(true) {
                    return;
                }
            }
            tokio::select! {
                Some(event) = self.inbox.recv() => self.apply(event).await,
                Some(ended) = self.tasks.join_next() => super::report(ended),
                changed = self.updates.changed(), if !self.gone => {
                    if self.take_update(changed.is_ok()) {
                        period = grace::period(&self.pod, Some(period));
                        deadline.send_replace(begun + self.machine.scale.real(period));
                    }
                }
            }
            self.publish(false).await;
        }
    }

    /// Stops every container and writes the final status.
    pub(super) async fn stop_for_good(&mut self) {
        self.stop_containers().await;
        if self.gone {
            return;
        }
        for slot in &mut self.slots {
            if !matches!(slot.view.state, State::Terminated { .. }) {
                let now = jiff::Timestamp::now();
                let reason = "ContainerStatusUnknown".to_owned();
                let message = "the container had not been started when the pod was deleted".to_owned();
                let exit = Exit { code: 137, reason, message };
                slot.view.state = State::Terminated { exit, since: now, until: now };
            }
        }
        self.publish(true).await;
    }

    /// Lets the API forget the pod, which nothing of is left here.
    pub(super) async fn delete(&mut self) {
        if self.gone {
            return;
        }
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: self.pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        loop {
            match self.api().delete(&self.pod.name_any(), &parameters).await {
                Ok(_) => return,
                Err(kube::Error::Api(e)) if matches!(e.code, 404 | 409) => return,
                Err(error) => {
                    tracing::warn!(pod = self.pod.name_any(), %error, "final delete failed, trying again");
                    sleep(RETRY).await;
                }
            }
        }
    }
}
