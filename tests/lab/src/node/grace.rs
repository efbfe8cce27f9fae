//! How long a pod that is deleted has: the kubelet's arithmetic (`calculateEffectiveGracePeriod` and `killContainer`).

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

/// A container has at least this long between its termination signal and its end, whatever its hook took.
pub const LEAST_AFTER_HOOK: Duration = Duration::from_secs(2);

const LEAST: Duration = Duration::from_secs(1);

/// The grace period of a pod that is being deleted, or is gone from the API: what the deletion says, else what the pod
/// asks for, never less than a second, and never more than `before`, what it had already.
pub fn period(pod: &Pod, before: Option<Duration>) -> Duration {
    let seconds = |value: i64| u64::try_from(value).ok().filter(|s| *s > 0).map(Duration::from_secs);
    let asked = pod
        .metadata
        .deletion_grace_period_seconds
        .and_then(seconds)
        .or_else(|| pod.spec.as_ref()?.termination_grace_period_seconds.and_then(seconds))
        .unwrap_or(LEAST);
    before.map_or(asked, |before| before.min(asked))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn deletion_wins_over_the_pod_and_time_only_gets_shorter() {
        let cases = [
            (None, Some(30), None, 30),
            (Some(5), Some(30), None, 5),
            (Some(60), Some(30), None, 60),
            (Some(0), Some(30), None, 30),
            (Some(0), Some(0), None, 1),
            (None, None, None, 1),
            (Some(60), Some(30), Some(10), 10),
            (Some(5), Some(30), Some(10), 5),
        ];
        for (deletion, asked, before, expected) in cases {
            let pod = json!({
                "metadata": {"deletionGracePeriodSeconds": deletion},
                "spec": {"containers": [], "terminationGracePeriodSeconds": asked},
            });
            let pod = serde_json::from_value(pod).expect("a pod");
            let found = period(&pod, before.map(Duration::from_secs));
            assert_eq!(found.as_secs(), expected, "{deletion:?} {asked:?} {before:?}");
        }
    }
}
