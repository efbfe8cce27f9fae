//! What users and their programs do.

use std::time::Duration;

use crate::{scene::Scene, world::World};

/// One thing that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A workload gets so many replicas.
    Scale(usize, usize),
    /// All pods of a workload are replaced.
    Rollout(usize),
    /// The n-th pod of a workload is deleted.
    Delete(usize, usize),
    /// All pods of a workload are deleted.
    DeleteAll(usize),
    /// The n-th pod of a workload answers, or does not, while its own probes notice nothing.
    Answers(usize, usize, bool),
    /// All pods of a workload answer, or do not.
    AllAnswer(usize, bool),
    /// The containers of the n-th pod pass their own probes, or do not.
    Containers(usize, usize, bool),
    /// The Service of a workload is deleted or created.
    Service(usize, bool),
    /// A binding is deleted or created.
    Binding(usize, bool),
    /// Endpoints of a workload move to the other slice.
    Reslice(usize),
}

impl World {
    /// Does a step of the scene.
    pub(crate) fn scene_step(&mut self, index: usize) {
        let (_, step) = self.scene.steps[index];
        self.trace.say(self.now, || format!("step {step:?}"));
        match step {
            Step::Scale(workload, replicas) => {
                self.workloads[workload].replicas = replicas;
                self.poke_workload(workload);
            }
            Step::Rollout(workload) => {
                self.workloads[workload].generation += 1;
                self.poke_workload(workload);
            }
            Step::Delete(workload, nth) => {
                if let Some(uid) = self.pod_of(workload, nth) {
                    self.delete_pod(&uid);
                }
            }
            Step::DeleteAll(workload) => {
                for uid in self.pods_of(workload) {
                    self.delete_pod(&uid);
                }
            }
            Step::Answers(workload, nth, answers) => {
                if let Some(uid) = self.pod_of(workload, nth) {
                    self.set_answers(&uid, answers);
                }
            }
            Step::AllAnswer(workload, answers) => {
                for uid in self.pods_of(workload) {
                    self.set_answers(&uid, answers);
                }
            }
            Step::Containers(workload, nth, ready) => {
                if let Some(uid) = self.pod_of(workload, nth)
                    && self.kubelet.processes.get(&uid).is_some_and(|p| p.address.is_some() && p.answers)
                {
                    self.change_pod(&uid, |pod| pod.containers_ready = ready);
                }
            }
            Step::Service(workload, true) => self.create_service(workload),
            Step::Service(workload, false) => self.delete_service(workload),
            Step::Binding(binding, true) => self.create_binding(binding),
            Step::Binding(binding, false) => {
                let key = self.scene.bindings[binding].key();
                self.delete_binding(&key);
            }
            Step::Reslice(workload) => {
                self.workloads[workload].swapped ^= true;
                self.poke_slices(workload);
            }
        }
    }

    fn set_answers(&mut self, uid: &registrar_core::cluster::Uid, answers: bool) {
        if let Some(process) = self.kubelet.processes.get_mut(uid)
            && process.address.is_some()
            && !process.ending
        {
            process.answers = answers;
        }
    }

    fn pods_of(&self, workload: usize) -> Vec<registrar_core::cluster::Uid> {
        let all = self.kubelet.processes.iter();
        all.filter(|(_, p)| p.workload == workload && !p.ending).map(|(uid, _)| uid.clone()).collect()
    }

    fn pod_of(&self, workload: usize, nth: usize) -> Option<registrar_core::cluster::Uid> {
        let pods = self.pods_of(workload);
        pods.get(nth % pods.len().max(1)).cloned()
    }
}

impl Scene {
    /// Steps at times in seconds.
    pub(crate) fn doing(mut self, steps: &[(u64, Step)]) -> Self {
        self.steps.extend(steps.iter().map(|(at, step)| (Duration::from_secs(*at), *step)));
        let last = self.steps.iter().map(|(at, _)| *at).max().unwrap_or_default();
        self.calm_at = self.calm_at.max(last + Duration::from_secs(1));
        self
    }
}
