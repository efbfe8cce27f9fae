//! Reference scenes: short, without chance, for crashes at every boundary and for comparing runs.

use std::time::Duration;

use super::{Scene, steps::Step};

/// A reference scene by its name.
#[derive(Debug, Clone)]
pub struct Reference {
    /// Its name.
    pub name: &'static str,
    /// What happens in it.
    pub scene: Scene,
}

/// All reference scenes. Their steps come late enough for what a crash before them has held up.
pub fn all() -> Vec<Reference> {
    let mut ordinal = Scene::simple(2);
    ordinal.workloads[0].ordinal = true;
    let mut draining = Scene::simple(2);
    draining.workloads[0].drain = Duration::from_secs(8);
    let scenes = [
        ("create", Scene::simple(2)),
        ("scale-out", Scene::simple(1).doing(&[(65, Step::Scale(0, 3))])),
        ("scale-in", Scene::simple(3).doing(&[(65, Step::Scale(0, 1))])),
        ("rollout", Scene::simple(2).doing(&[(65, Step::Rollout(0))])),
        ("rollout-same-names", ordinal.doing(&[(65, Step::Rollout(0))])),
        ("drain", draining.doing(&[(65, Step::Delete(0, 0))])),
        ("binding-deleted", Scene::simple(2).doing(&[(65, Step::Binding(0, false))])),
        ("binding-replaced", Scene::simple(2).doing(&[(65, Step::Binding(0, false)), (80, Step::Binding(0, true))])),
        ("service-flip", Scene::simple(2).doing(&[(65, Step::Service(0, false)), (68, Step::Service(0, true))])),
        ("health-lost", Scene::simple(3).doing(&[(65, Step::Answers(0, 0, false)), (85, Step::Answers(0, 0, true))])),
    ];
    scenes.into_iter().map(|(name, scene)| Reference { name, scene }).collect()
}
