//! Scenes by choice.

use std::{net::Ipv4Addr, time::Duration};

use registrar_core::cluster::Kind;

use super::{BindingPlan, Scene, faults::Fault, steps::Step};
use crate::{
    choice::Choices,
    cluster::{etcd::KINDS, workload::Workload},
    crash::Moment,
    weather::{Falsified, Fate, Way},
};

/// When steps and faults begin: by then the first pods are up.
const BEGIN: Duration = Duration::from_secs(20);

impl Scene {
    /// A scene as the choices have it.
    pub fn random(choices: &mut Choices) -> Self {
        let mut scene = Self::simple(1 + choices.below(3) as usize);
        scene.rates = vec![choices.of(&[100, 100, 130, 70]), choices.of(&[100, 100, 80, 140])];
        scene.workloads[0].surge = 1 + choices.below(3) as usize;
        scene.workloads[0].ordinal = choices.chance(300);
        scene.workloads[0].drain = choices.of(&[0, 1, 3, 12].map(Duration::from_secs));
        scene.workloads[0].gated = !choices.chance(100);
        scene.bindings[0].sparse = choices.chance(200);
        scene.bindings[0].shared = choices.chance(200);
        if choices.chance(250) {
            scene.bindings.push(BindingPlan::new("shop", "web-81", "web"));
        }
        if choices.chance(400) {
            // A neighbour whose pods take addresses out of the same pool.
            let mut other = Workload::new("rival", "api", 1);
            other.ordinal = choices.chance(300);
            other.drain = choices.of(&[0, 2].map(Duration::from_secs));
            scene.workloads.push(other);
            scene.bindings.push(BindingPlan::new("rival", "api-80", "api"));
            scene.pool += 1;
        }
        scene.enforced = choices.chance(300);
        scene.stale_lists = choices.chance(300);
        if choices.chance(100) {
            scene.cursed.push(Ipv4Addr::new(203, 0, 113, 9));
        }
        scene.aws = vec![
            ("lag.registration", choices.of(&["0s", "1s", "5s"]).to_owned()),
            ("lag.deregistration", choices.of(&["0s", "4s", "20s"]).to_owned()),
            ("health.jitter", choices.of(&["0", "0.1"]).to_owned()),
            ("consistency.register", choices.of(&["0s", "2s"]).to_owned()),
            ("bucket.describe", choices.of(&["unlimited", "40/10"]).to_owned()),
            ("bucket.targets", choices.of(&["unlimited", "20/4"]).to_owned()),
            ("register.atomic", choices.of(&["true", "false"]).to_owned()),
        ];
        let time = Duration::from_secs(u64::from(20 + choices.below(50)));
        for _ in 0..=choices.below(6) {
            let at = BEGIN + choices.between(Duration::ZERO, time);
            let step = scene.random_step(choices);
            scene.steps.push((at, step));
        }
        scene.theme(choices, time);
        for _ in 0..choices.below(7) {
            let mut at = choices.between(Duration::from_secs(1), BEGIN + time);
            if choices.chance(600) {
                // Where something is going on, there is something to go wrong.
                let (step, _) = scene.steps[choices.below(u32::try_from(scene.steps.len()).unwrap_or(1)) as usize];
                at = step.saturating_sub(Duration::from_millis(300)) + choices.millis(0, 3000);
            }
            let fault = scene.random_fault(choices);
            scene.faults.push((at, fault));
        }
        scene.finish(choices, BEGIN + time)
    }

    /// Something that is done, and what of all things goes wrong with it.
    fn theme(&mut self, choices: &mut Choices, time: Duration) {
        let at = BEGIN + choices.between(Duration::ZERO, time);
        let workload = choices.below(u32::try_from(self.workloads.len()).unwrap_or(1)) as usize;
        let binding = choices.below(u32::try_from(self.bindings.len()).unwrap_or(1)) as usize;
        let lasts = Duration::from_secs(u64::from(1 + choices.below(12)));
        let lossy = choices.of(&[Fate::RequestLost, Fate::ReplyLost, Fate::FailedBefore, Fate::FailedAfter]);
        let aws = |operation, fate, lasts| Fault::Storm(Way::Aws(Some(operation)), fate, 1000, lasts);
        let (step, fault) = match choices.below(11) {
            1 => (Step::Scale(workload, choices.below(2) as usize), aws("DeregisterTargets", lossy, lasts)),
            2 => (Step::Scale(workload, 3), aws("RegisterTargets", lossy, lasts)),
            3 => {
                let operation = choices.of(&["DescribeTargetHealth", "DeregisterTargets"]);
                let code = choices.of(&["ValidationError", "AccessDenied"]);
                (Step::Binding(binding, false), aws(operation, Fate::Refused(code), lasts))
            }
            4 => {
                let operation = choices.of(&["RegisterTargets", "DescribeTargetHealth", "DeregisterTargets"]);
                (Step::Rollout(workload), aws(operation, Fate::Throttled, lasts * 6))
            }
            5 => {
                let (number, back) = (choices.below(2) as usize, choices.millis(500, 8000));
                let travel = Fault::TimeTravel(number, back, lasts / 2);
                let step = choices.of(&[Step::Rollout(workload), Step::DeleteAll(workload), Step::Scale(workload, 3)]);
                // It must have got somewhere first.
                self.faults.push((at + choices.millis(500, 15_000), travel));
                (step, Fault::Disconnect(number, Kind::Pod, true, Duration::ZERO))
            }
            6 => {
                self.workloads[workload].drain = Duration::ZERO;
                (Step::DeleteAll(workload), Fault::Stall(choices.below(2) as usize, choices.of(&KINDS), lasts))
            }
            7 => (Step::AllAnswer(workload, false), Fault::Crash(choices.below(2) as usize, choices.of(&Moment::ALL))),
            8 => {
                let how = choices.of(&[Falsified::Unavailable, Falsified::Unheard, Falsified::NotInUse]);
                (Step::Rollout(workload), aws("DescribeTargetHealth", Fate::Falsified(how), lasts))
            }
            _ => return,
        };
        let before = choices.between(Duration::ZERO, lasts / 2);
        self.faults.push((at.saturating_sub(before), fault));
        self.steps.push((at, step));
    }

    /// What was taken away comes back, so that there is something to settle to; mostly.
    fn finish(mut self, choices: &mut Choices, end: Duration) -> Self {
        for workload in 0..self.workloads.len() {
            if !choices.chance(50) {
                self.steps.push((end, Step::Service(workload, true)));
            }
        }
        for binding in 0..self.bindings.len() {
            if !choices.chance(100) {
                self.steps.push((end + Duration::from_secs(1), Step::Binding(binding, true)));
            }
        }
        for (at, _) in &mut self.faults {
            *at = (*at).min(end);
        }
        self.calm_at = end + Duration::from_secs(2);
        if choices.chance(60) {
            self.quiet = Duration::from_mins(10);
        }
        self
    }

    fn random_step(&self, choices: &mut Choices) -> Step {
        let workload = choices.below(u32::try_from(self.workloads.len()).unwrap_or(1)) as usize;
        let binding = choices.below(u32::try_from(self.bindings.len()).unwrap_or(1)) as usize;
        let nth = choices.below(4) as usize;
        match choices.below(16) {
            0..3 => Step::Scale(workload, choices.below(4) as usize),
            3..6 => Step::Rollout(workload),
            6..8 => Step::Delete(workload, nth),
            8 => Step::DeleteAll(workload),
            9 => Step::Answers(workload, nth, choices.chance(500)),
            10 => Step::AllAnswer(workload, choices.chance(600)),
            11 => Step::Containers(workload, nth, choices.chance(500)),
            12 => Step::Service(workload, choices.chance(500)),
            13 => Step::Binding(binding, choices.chance(500)),
            14 => Step::Binding(binding, true),
            _ => Step::Reslice(workload),
        }
    }

    fn random_fault(&self, choices: &mut Choices) -> Fault {
        let number = choices.below(2) as usize;
        let binding = choices.below(u32::try_from(self.bindings.len()).unwrap_or(1)) as usize;
        let time = Duration::from_secs(u64::from(1 + choices.below(12)));
        let kind = choices.of(&KINDS);
        match choices.below(24) {
            0..4 => Fault::Crash(number, choices.of(&Moment::ALL)),
            4 => Fault::Kill(number),
            5 => Fault::Terminate(number),
            6..8 => Fault::Pause(number, time * 3),
            8..10 => Fault::Stall(number, kind, time),
            10 => Fault::Disconnect(number, kind, choices.chance(700), time / 4),
            11 => Fault::TimeTravel(number, time, choices.millis(200, 6000)),
            12 => Fault::Disconnect(number, choices.of(&[Kind::Pod, Kind::Slice]), true, time / 8),
            13 => Fault::ApiDown(time),
            14 => Fault::Behind(number, time / 4),
            15 => Fault::SlicesBehind(time / 2),
            16..20 => random_storm(choices, time),
            20 => Fault::Credentials(number, time * 2),
            21 => Fault::Untag(binding),
            22 => {
                if choices.chance(500) {
                    Fault::Deregister(binding, choices.below(4) as usize)
                } else {
                    Fault::Register(binding, 90 + u8::try_from(choices.below(5)).unwrap_or_default())
                }
            }
            _ => Fault::Neighbour(20 + choices.below(40)),
        }
    }
}

fn random_storm(choices: &mut Choices, time: Duration) -> Fault {
    let per_mille = choices.of(&[200, 500, 1000]);
    let operation =
        choices.of(&[None, Some("RegisterTargets"), Some("DeregisterTargets"), Some("DescribeTargetHealth")]);
    let both = [
        Fate::Slow(Duration::from_millis(700)),
        Fate::Slow(Duration::from_secs(4)),
        Fate::RequestLost,
        Fate::ReplyLost,
        Fate::FailedBefore,
        Fate::FailedAfter,
        Fate::Twice,
    ];
    let aws = [
        Fate::Throttled,
        Fate::Refused("AccessDenied"),
        Fate::Refused("ValidationError"),
        Fate::Refused("InvalidTarget"),
        Fate::Falsified(Falsified::Unavailable),
        Fate::Falsified(Falsified::Unheard),
        Fate::Falsified(Falsified::NotInUse),
    ];
    match choices.below(4) {
        0 => Fault::Storm(Way::Kubernetes, choices.of(&both), per_mille, time),
        1 => Fault::Storm(Way::Kubernetes, Fate::Conflict, per_mille, time),
        2 => Fault::Storm(Way::Aws(operation), choices.of(&both), per_mille, time),
        _ => {
            let fate = choices.of(&aws);
            // Throttling may last: nothing may come to wait longer for it.
            let time = if fate == Fate::Throttled { time * 5 } else { time };
            Fault::Storm(Way::Aws(operation), fate, per_mille, time)
        }
    }
}
