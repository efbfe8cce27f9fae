//! How long a pod must go on serving after it was told to stop, and what that makes of its spec. Arithmetic only.
//!
//! An NLB keeps sending new connections to a target for about two minutes after it was deregistered, whatever the
//! deregistration delay. So every container sleeps before it is stopped, and the grace period grows by as much.

mod contradiction;

use std::{fmt, str::FromStr};

use k8s_openapi::api::core::v1::{Container, PodSpec};

pub use contradiction::{Contradiction, contradictions_of_hook, contradictions_of_service, warnings};

/// The grace period of a pod that does not say, in seconds: the default of the Kubernetes API.
const DEFAULT_GRACE: i64 = 30;
/// The longest delay that can be asked for, in seconds: the longest deregistration delay of AWS.
const LONGEST: u32 = 3600;

/// What a Service or a pod asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delay {
    /// The configured floor.
    Auto,
    /// None.
    Off,
    /// So many seconds, 1 to 3600.
    Seconds(u32),
}

/// Why a delay cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is neither auto, off nor 1 to {LONGEST} seconds")]
pub struct NotADelay;

impl FromStr for Delay {
    type Err = NotADelay;

    fn from_str(text: &str) -> Result<Self, NotADelay> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" | "0" => Ok(Self::Off),
            _ if text.bytes().all(|byte| byte.is_ascii_digit()) => match text.parse() {
                Ok(seconds @ 1..=LONGEST) => Ok(Self::Seconds(seconds)),
                _ => Err(NotADelay),
            },
            _ => Err(NotADelay),
        }
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Off => f.write_str("off"),
            Self::Seconds(seconds) => seconds.fmt(f),
        }
    }
}

impl Delay {
    /// The seconds it stands for, 0 for none.
    pub fn seconds(self, floor: u32) -> u32 {
        match self {
            Self::Auto => floor,
            Self::Off => 0,
            Self::Seconds(seconds) => seconds,
        }
    }
}

/// The delay of one pod, in seconds: its own if it has one, else the longest of its Services', which come with the floor
/// already put in.
pub fn of_pod(own: Option<Delay>, floor: u32, services: impl IntoIterator<Item = u32>) -> u32 {
    match own {
        Some(delay) => delay.seconds(floor),
        None => services.into_iter().max().unwrap_or(0),
    }
}

/// What a delay makes of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Seconds that each of `containers` and `init_containers` sleeps.
    pub sleep: i64,
    /// Indexes into `spec.containers`.
    pub containers: Vec<usize>,
    /// Indexes into `spec.initContainers`: those that run as long as the pod does.
    pub init_containers: Vec<usize>,
    /// The new `spec.terminationGracePeriodSeconds`; nothing if the pod stays as it is.
    pub grace: Option<i64>,
    /// Containers that have a hook of their own, which is left alone, and whether it is known to take long enough.
    pub hooked: Vec<Hooked>,
}

/// A container with a hook of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooked {
    /// Name of the container.
    pub container: String,
    /// How long its hook sleeps in seconds, if it does nothing else.
    pub sleeps: Option<i64>,
}

/// What of a container decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerFacts<'a> {
    /// Name.
    pub name: &'a str,
    /// Whether it is an init container that runs as long as the pod does. Without meaning for other containers.
    pub restarts_always: bool,
    /// What it does before it is stopped.
    pub pre_stop: PreStop,
}

/// What a container does before it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreStop {
    /// Nothing.
    None,
    /// It sleeps for so many seconds.
    Sleeps(i64),
    /// Something else.
    Other,
}

impl<'a> ContainerFacts<'a> {
    /// Takes the facts.
    pub fn of(container: &'a Container) -> Self {
        let hook = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        let pre_stop = match hook.map(|hook| hook.sleep.as_ref()) {
            None => PreStop::None,
            Some(Some(sleep)) => PreStop::Sleeps(sleep.seconds),
            Some(None) => PreStop::Other,
        };
        Self { name: &container.name, restarts_always: container.restart_policy.as_deref() == Some("Always"), pre_stop }
    }
}

/// What a delay of `seconds` makes of a pod; nothing to do if it is 0.
pub fn plan(spec: &PodSpec, seconds: u32) -> Plan {
    let containers = spec.containers.iter().map(ContainerFacts::of);
    let init_containers = spec.init_containers.iter().flatten().map(ContainerFacts::of);
    plan_of(containers, init_containers, spec.termination_grace_period_seconds, seconds)
}

/// As [`plan`], from the containers, the init containers and the grace period of a pod.
pub fn plan_of<'a>(
    containers: impl IntoIterator<Item = ContainerFacts<'a>>,
    init_containers: impl IntoIterator<Item = ContainerFacts<'a>>,
    grace: Option<i64>,
    seconds: u32,
) -> Plan {
    if seconds == 0 {
        return Plan::default();
    }
    let mut plan = Plan { sleep: i64::from(seconds), ..Plan::default() };
    let mut needs_sleep = |container: &ContainerFacts| {
        let sleeps = match container.pre_stop {
            PreStop::None => return true,
            PreStop::Sleeps(seconds) => Some(seconds),
            PreStop::Other => None,
        };
        plan.hooked.push(Hooked { container: container.name.to_owned(), sleeps });
        false
    };
    let positions = |(index, _)| index;
    let running =
        containers.into_iter().enumerate().filter(|(_, container)| needs_sleep(container)).map(positions).collect();
    let sidecars = init_containers
        .into_iter()
        .enumerate()
        .filter(|(_, container)| container.restarts_always && needs_sleep(container))
        .map(positions)
        .collect();
    (plan.containers, plan.init_containers) = (running, sidecars);
    if !plan.containers.is_empty() || !plan.init_containers.is_empty() {
        plan.grace = Some(lengthened(grace, seconds));
    }
    plan
}

/// A grace period with the delay added. None counts as the API's default; negative ones, which the API takes for 1, do too.
pub fn lengthened(grace: Option<i64>, seconds: u32) -> i64 {
    let grace = match grace {
        None => DEFAULT_GRACE,
        Some(negative) if negative < 0 => 1,
        Some(grace) => grace,
    };
    grace.saturating_add(i64::from(seconds))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Lifecycle, LifecycleHandler, SleepAction};

    use super::*;

    fn container(name: &str, sleep: Option<i64>, always: bool) -> Container {
        let hook = |seconds| LifecycleHandler { sleep: Some(SleepAction { seconds }), ..LifecycleHandler::default() };
        Container {
            name: name.into(),
            lifecycle: sleep.map(|seconds| Lifecycle { pre_stop: Some(hook(seconds)), ..Lifecycle::default() }),
            restart_policy: always.then(|| "Always".to_owned()),
            ..Container::default()
        }
    }

    #[test]
    fn delays_are_auto_off_or_seconds() {
        for (text, delay) in [
            ("auto", Delay::Auto),
            ("off", Delay::Off),
            ("0", Delay::Off),
            ("1", Delay::Seconds(1)),
            ("3600", Delay::Seconds(3600)),
        ] {
            assert_eq!(text.parse(), Ok(delay), "{text}");
        }
        for text in ["", "on", "3601", "-1", "+5", "120s", " 120", "99999999999"] {
            assert_eq!(text.parse::<Delay>(), Err(NotADelay), "{text}");
        }
    }

    #[test]
    fn every_container_that_lives_as_long_as_the_pod_sleeps() {
        let spec = PodSpec {
            containers: vec![container("app", None, false), container("own", Some(5), false)],
            init_containers: Some(vec![container("once", None, false), container("sidecar", None, true)]),
            termination_grace_period_seconds: Some(0),
            ..PodSpec::default()
        };
        let plan = plan(&spec, 120);
        assert_eq!((plan.sleep, plan.grace), (120, Some(120)));
        assert_eq!((plan.containers, plan.init_containers), (vec![0], vec![1]));
        assert_eq!(plan.hooked, [Hooked { container: "own".into(), sleeps: Some(5) }]);
    }

    #[test]
    fn a_pod_whose_containers_all_have_hooks_stays_as_it_is() {
        let spec = PodSpec { containers: vec![container("own", Some(5), false)], ..PodSpec::default() };
        let plan = plan(&spec, 120);
        assert_eq!((plan.grace, plan.containers.len(), plan.hooked.len()), (None, 0, 1));
    }

    #[test]
    fn the_grace_period_grows_by_the_delay() {
        for (grace, expected) in
            [(None, 150), (Some(0), 120), (Some(60), 180), (Some(-5), 121), (Some(i64::MAX), i64::MAX)]
        {
            assert_eq!(lengthened(grace, 120), expected, "{grace:?}");
        }
    }

    #[test]
    fn the_pods_own_delay_wins_over_the_longest_of_its_services() {
        assert_eq!(of_pod(None, 120, [30, 200, 120]), 200);
        assert_eq!(of_pod(Some(Delay::Off), 120, [30]), 0);
        assert_eq!(of_pod(Some(Delay::Auto), 120, []), 120);
        assert_eq!(of_pod(None, 120, []), 0);
    }
}
