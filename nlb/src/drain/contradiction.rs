//! Numbers of a drain that contradict each other: hooks, grace periods, deregistration delays, notices of nodes that go.

use super::{DEFAULT_GRACE, Plan, lengthened};

/// How long before it takes a spot node away AWS gives notice, in seconds.
const SPOT_NOTICE: u32 = 120;

/// Numbers that contradict each other, in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// A hook that ends before new connections stop.
    #[error("the preStop hook sleeps {sleeps} s, but new connections arrive for {floor} s; the minimum is {floor} s")]
    HookTooShort {
        /// Seconds that the hook sleeps.
        sleeps: i64,
        /// Seconds for which new connections arrive.
        floor: u32,
    },
    /// A grace period that leaves the application no time after the sleep.
    #[error(
        "terminationGracePeriodSeconds is {grace}, of which {sleeps} s are slept; the minimum is {minimum} s to leave the application time to stop"
    )]
    GraceTooShort {
        /// The grace period in seconds.
        grace: i64,
        /// Seconds that the hook sleeps.
        sleeps: i64,
        /// Seconds that would do.
        minimum: i64,
    },
    /// Connections are closed by the load balancer while the pod still waits.
    #[error(
        "connections are closed {delay} s after deregistration, but pods serve for {seconds} s; the minimum deregistration delay is {seconds} s"
    )]
    ClosedTooEarly {
        /// The deregistration delay in seconds.
        delay: u32,
        /// The drain delay in seconds.
        seconds: u32,
    },
    /// A delay that a spot node does not leave.
    #[error(
        "pods serve for {seconds} s after they are told to stop, but a spot node is taken away {SPOT_NOTICE} s after its notice"
    )]
    LongerThanSpotNotice {
        /// The drain delay in seconds.
        seconds: u32,
    },
    /// A delay shorter than the time in which new connections arrive.
    #[error(
        "pods serve for {seconds} s after they are told to stop, but new connections arrive for {floor} s; the minimum is {floor} s"
    )]
    ShorterThanFloor {
        /// The drain delay in seconds.
        seconds: u32,
        /// Seconds for which new connections arrive.
        floor: u32,
    },
}

/// What contradicts in a Service: its drain delay, and the deregistration delay of its target groups, which closes
/// connections if `terminates`.
pub fn contradictions_of_service(seconds: u32, floor: u32, delay: u32, terminates: bool) -> Vec<Contradiction> {
    let mut found = Vec::new();
    if seconds > SPOT_NOTICE {
        found.push(Contradiction::LongerThanSpotNotice { seconds });
    }
    if (1..floor).contains(&seconds) {
        found.push(Contradiction::ShorterThanFloor { seconds, floor });
    }
    if terminates && delay < seconds {
        found.push(Contradiction::ClosedTooEarly { delay, seconds });
    }
    found
}

/// What contradicts in a pod with a hook of its own that sleeps.
pub fn contradictions_of_hook(sleeps: i64, grace: Option<i64>, floor: u32) -> Vec<Contradiction> {
    let mut found = Vec::new();
    if sleeps < i64::from(floor) {
        found.push(Contradiction::HookTooShort { sleeps, floor });
    }
    let grace = lengthened(grace, 0);
    if grace <= sleeps {
        let minimum = sleeps.max(i64::from(floor)).saturating_add(DEFAULT_GRACE);
        found.push(Contradiction::GraceTooShort { grace, sleeps, minimum });
    }
    found
}

/// What is to be said of a pod that is drained: of containers that keep their own hooks, and of a long delay.
pub fn warnings(plan: &Plan, grace: Option<i64>, floor: u32) -> Vec<String> {
    let mut said = Vec::new();
    if plan.grace.is_some()
        && let Ok(seconds) = u32::try_from(plan.sleep)
        && seconds > SPOT_NOTICE
    {
        said.push(Contradiction::LongerThanSpotNotice { seconds }.to_string());
    }
    for hooked in &plan.hooked {
        let name = &hooked.container;
        match hooked.sleeps {
            None => {
                said.push(format!("container {name} keeps its own preStop hook; it has to take at least {floor} s"));
            }
            Some(sleeps) => {
                let grace = plan.grace.or(grace);
                let contradictions = contradictions_of_hook(sleeps, grace, floor);
                said.extend(contradictions.iter().map(|contradiction| format!("container {name}: {contradiction}")));
            }
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contradictions_show_the_minimum() {
        assert!(contradictions_of_service(120, 120, 300, true).is_empty());
        assert_eq!(
            contradictions_of_service(300, 120, 30, true),
            [
                Contradiction::LongerThanSpotNotice { seconds: 300 },
                Contradiction::ClosedTooEarly { delay: 30, seconds: 300 }
            ]
        );
        assert_eq!(contradictions_of_service(0, 120, 30, false), []);
        assert_eq!(
            contradictions_of_service(35, 120, 300, false),
            [Contradiction::ShorterThanFloor { seconds: 35, floor: 120 }]
        );
        let texts: Vec<_> = contradictions_of_hook(35, None, 120).iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), 2);
        assert!(texts[0].contains("the minimum is 120 s") && texts[1].contains("the minimum is 150 s"), "{texts:?}");
    }
}
