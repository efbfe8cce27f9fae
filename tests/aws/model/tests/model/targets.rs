//! The life of targets on both planes.

use crate::support::{Lab, PODS, SUBNETS, at, route, seconds};
use aws_model::{Answer, Command, Event, ProbeId, ProbeOutcome, Service, settings::Profile};

#[test]
fn target_goes_through_registration_and_checks_to_healthy_and_drains_away() {
    let mut lab = Lab::new(Profile::Real2023, &[("consistency.register", "0"), ("consistency.create", "0")]);
    let nlb = lab.nlb(1);
    lab.register(&nlb.group, &PODS[..1]);
    assert_eq!(lab.state(&nlb.group), "initial/Elb.RegistrationInProgress");
    assert_eq!((lab.probes, lab.open.len()), (0, 0), "neither checks nor sockets while all is being set up");
    lab.pass(seconds(119));
    assert_eq!(lab.state(&nlb.group), "initial/Elb.RegistrationInProgress");
    lab.pass(seconds(3));
    assert_eq!(lab.state(&nlb.group), "healthy/-", "one pass is enough for a new target");
    lab.deregister(&nlb.group, &PODS[..1]);
    assert_eq!(lab.state(&nlb.group), "draining/Target.DeregistrationInProgress");
    lab.pass(seconds(119));
    assert_eq!(lab.spread(0, 10), ([10, 0, 0], 0), "new flows for 120 s, whatever the API says");
    lab.pass(seconds(2));
    assert_eq!(lab.spread(0, 10), ([0; 3], 10));
    assert_eq!(lab.state(&nlb.group), "draining/Target.DeregistrationInProgress");
    lab.pass(seconds(180));
    assert_eq!(lab.state(&nlb.group), "none");
}

#[test]
fn deregistered_target_gets_flows_after_it_has_left_the_list() {
    let mut lab = Lab::new(Profile::Real2023, &[("consistency.register", "0"), ("consistency.create", "0")]);
    let nlb = lab.nlb(1);
    lab.attribute(&nlb.group, "deregistration_delay.timeout_seconds", "0");
    lab.register(&nlb.group, &PODS[..1]);
    lab.pass(seconds(130));
    lab.deregister(&nlb.group, &PODS[..1]);
    assert_eq!(lab.state(&nlb.group), "none");
    assert_eq!(lab.spread(0, 10), ([10, 0, 0], 0));
    lab.pass(seconds(121));
    assert_eq!(lab.spread(0, 10), ([0; 3], 10));
}

#[test]
fn target_of_a_group_without_listener_is_not_in_use_and_not_checked() {
    let mut lab = Lab::new(Profile::Instant, &[]);
    let group = lab.group("idle");
    lab.register(&group, &PODS[..1]);
    lab.pass(seconds(60));
    assert_eq!(lab.state(&group), "unused/Target.NotInUse");
    assert_eq!(lab.probes, 0);
    lab.deregister(&group, &PODS[..1]);
    assert_eq!(lab.state(&group), "none", "there is nothing to drain");
}

#[test]
fn target_in_a_zone_that_is_not_enabled_is_not_in_use() {
    let mut lab = Lab::new(Profile::Instant, &[]);
    let nlb = lab.nlb(1);
    lab.register(&nlb.group, &PODS[1..2]);
    lab.pass(seconds(60));
    assert_eq!(lab.state(&nlb.group), "unused/Target.NotInUse");
}

#[test]
fn thresholds_decide_when_a_target_fails_and_when_it_is_back() {
    let mut lab = Lab::new(Profile::Fast, &[("health.jitter", "0")]);
    let nlb = lab.nlb(1);
    lab.register(&nlb.group, &PODS[..1]);
    lab.pass(seconds(5));
    assert_eq!(lab.state(&nlb.group), "healthy/-");
    lab.down.insert(at(PODS[0], 8080));
    lab.pass(seconds(10));
    assert_eq!(lab.state(&nlb.group), "healthy/-", "one failure of two");
    lab.pass(seconds(10));
    assert_eq!(lab.state(&nlb.group), "unhealthy/Target.FailedHealthChecks");
    lab.down.clear();
    lab.pass(seconds(40));
    assert_eq!(lab.state(&nlb.group), "unhealthy/Target.FailedHealthChecks", "four passes of five");
    lab.pass(seconds(10));
    assert_eq!(lab.state(&nlb.group), "healthy/-");
}

#[test]
fn every_zone_checks_every_target_and_the_majority_decides() {
    let mut lab = Lab::new(Profile::Instant, &[("health.jitter", "0")]);
    let nlb = lab.nlb(3);
    lab.register(&nlb.group, &PODS);
    lab.pass(seconds(1));
    assert_eq!(lab.probes, 9);
    lab.model.set_impaired("ap-northeast-2a", true, lab.now).expect("a zone");
    lab.pass(seconds(60));
    let health = lab.health(&nlb.group);
    assert_eq!(health[0], "192.168.11.21:8080 unhealthy/Target.FailedHealthChecks", "its own zone is gone");
    assert_eq!(health[1..], ["192.168.12.21:8080 healthy/-", "192.168.13.21:8080 healthy/-"]);
}

#[test]
fn one_zone_that_cannot_reach_a_target_is_outvoted_and_two_are_not() {
    let mut lab = Lab::new(Profile::Instant, &[("health.jitter", "0")]);
    let nlb = lab.nlb(3);
    lab.register(&nlb.group, &PODS[..1]);
    lab.pass(seconds(1));
    lab.blind.insert(12);
    lab.pass(seconds(60));
    assert_eq!(lab.state(&nlb.group), "healthy/-");
    lab.blind.insert(13);
    lab.pass(seconds(60));
    assert_eq!(lab.state(&nlb.group), "unhealthy/Target.FailedHealthChecks");
    lab.blind.remove(&12);
    lab.pass(seconds(60));
    assert_eq!(lab.state(&nlb.group), "healthy/-");
    let changes = lab.log.iter().filter(|entry| matches!(entry.event, Event::Target { .. })).count();
    assert_eq!(changes, 5, "initial twice, healthy, unhealthy, healthy: the minority moves nothing in between");
}

#[test]
fn targets_are_not_checked_before_their_load_balancer_is_active() {
    let mut lab = Lab::new(Profile::Fast, &[("lag.load-balancer-active", "60s")]);
    let nlb = lab.nlb(1);
    lab.register(&nlb.group, &PODS[..1]);
    lab.pass(seconds(59));
    assert_eq!(
        (lab.state(&nlb.group).as_str(), lab.probes, lab.open.len()),
        ("initial/Elb.RegistrationInProgress", 0, 0)
    );
    lab.pass(seconds(3));
    assert_eq!((lab.state(&nlb.group).as_str(), lab.open.len()), ("healthy/-", 1));
}

#[test]
fn unhealthy_target_gets_new_flows_for_the_lag_and_then_loses_the_old_ones() {
    let mut lab = Lab::new(Profile::Fast, &[("lag.unhealthy", "5s")]);
    let nlb = lab.nlb(1);
    lab.elb("ModifyLoadBalancerAttributes", &cross_zone(&nlb.balancer));
    lab.register(&nlb.group, &["192.168.11.21", "192.168.11.22"]);
    lab.pass(seconds(5));
    let flows: Vec<_> = (0..50u16)
        .map(|n| {
            let answer = lab.model.connect(lab.front(0), at("203.0.113.1", 1024 + n), lab.now);
            route(answer)
        })
        .collect();
    lab.down.insert(at(PODS[0], 8080));
    while !lab.health(&nlb.group)[0].contains("unhealthy") {
        lab.pass(seconds(1));
    }
    assert!(lab.spread_to(PODS[0], 50) > 0, "the nodes have not heard yet");
    assert!(lab.resets.is_empty());
    lab.pass(seconds(6));
    assert_eq!(lab.spread_to(PODS[0], 50), 0);
    let expected: Vec<_> = flows.iter().filter(|r| r.target.ip().to_string() == PODS[0]).map(|r| r.flow).collect();
    assert_eq!(lab.resets, expected, "flows of the failed target and no others");
}

#[test]
fn group_without_healthy_targets_fails_open_and_cuts_nothing() {
    let mut lab = Lab::new(Profile::Instant, &[]);
    let nlb = lab.nlb(1);
    lab.register(&nlb.group, &PODS[..1]);
    lab.pass(seconds(1));
    let front = lab.front(0);
    route(lab.connect(front, "203.0.113.1"));
    lab.down.insert(at(PODS[0], 8080));
    lab.pass(seconds(60));
    assert_eq!(lab.state(&nlb.group), "unhealthy/Target.FailedHealthChecks");
    assert_eq!(lab.spread(0, 10), ([10, 0, 0], 0));
    assert!(lab.resets.is_empty());
}

#[test]
fn zones_keep_to_their_own_targets_unless_cross_zone_is_on() {
    let mut lab = Lab::new(Profile::Instant, &[]);
    let nlb = lab.nlb(3);
    lab.register(&nlb.group, &PODS);
    lab.pass(seconds(1));
    assert_eq!(lab.spread(1, 30), ([0, 30, 0], 0));
    lab.elb("ModifyLoadBalancerAttributes", &cross_zone(&nlb.balancer));
    let (counts, refused) = lab.spread(1, 3000);
    assert_eq!(refused, 0);
    // Two degrees of freedom; 13.8 is exceeded once in a thousand, and the seed is fixed.
    let chi_square: f64 =
        counts.iter().map(|n| (f64::from(u32::try_from(*n).expect("small")) - 1000.0).powi(2) / 1000.0).sum();
    assert!(chi_square < 13.8, "{counts:?}");
    lab.attribute(&nlb.group, "load_balancing.cross_zone.enabled", "false");
    assert_eq!(lab.spread(1, 30), ([0, 30, 0], 0), "the group's setting is stronger");
}

#[test]
fn flows_outlive_deregistration_unless_termination_is_asked_for() {
    for (terminate, resets) in [("false", 0), ("true", 1)] {
        let mut lab = Lab::new(Profile::Fast, &[]);
        let nlb = lab.nlb(1);
        lab.attribute(&nlb.group, "deregistration_delay.timeout_seconds", "10");
        lab.attribute(&nlb.group, "deregistration_delay.connection_termination.enabled", terminate);
        lab.register(&nlb.group, &PODS[..1]);
        lab.pass(seconds(5));
        let front = lab.front(0);
        route(lab.connect(front, "203.0.113.1"));
        lab.deregister(&nlb.group, &PODS[..1]);
        lab.pass(seconds(9));
        assert_eq!(lab.resets.len(), 0);
        lab.pass(seconds(2));
        assert_eq!(lab.resets.len(), resets, "termination {terminate}");
    }
}

#[test]
fn target_registered_again_while_draining_starts_anew_and_keeps_its_flows() {
    let mut lab = Lab::new(Profile::Fast, &[]);
    let nlb = lab.nlb(1);
    lab.register(&nlb.group, &PODS[..1]);
    lab.pass(seconds(5));
    lab.deregister(&nlb.group, &PODS[..1]);
    lab.pass(seconds(1));
    lab.register(&nlb.group, &PODS[..1]);
    assert_eq!(lab.state(&nlb.group), "initial/Elb.RegistrationInProgress");
    assert_eq!(lab.spread(0, 5), ([5, 0, 0], 0), "the nodes have not dropped it yet");
    lab.pass(seconds(5));
    assert_eq!(lab.state(&nlb.group), "healthy/-");
}

#[test]
fn one_address_at_two_ports_is_two_targets() {
    let mut lab = Lab::new(Profile::Instant, &[]);
    let nlb = lab.nlb(1);
    let both = "&Targets.member.1.Id=192.168.11.21&Targets.member.1.Port=8080\
                &Targets.member.2.Id=192.168.11.21&Targets.member.2.Port=9090";
    lab.elb("RegisterTargets", &format!("TargetGroupArn={}{both}", nlb.group));
    lab.pass(seconds(1));
    assert_eq!(lab.health(&nlb.group).len(), 2);
    lab.deregister(&nlb.group, &PODS[..1]);
    assert_eq!(
        lab.health(&nlb.group),
        ["192.168.11.21:8080 draining/Target.DeregistrationInProgress", "192.168.11.21:9090 healthy/-"]
    );
}

#[test]
fn health_asked_for_with_another_zone_is_not_registered() {
    let mut lab = Lab::new(Profile::Instant, &[]);
    let nlb = lab.nlb(1);
    lab.register(&nlb.group, &PODS[..1]);
    lab.pass(seconds(1));
    for (zone, state) in [("ap-northeast-2a", "healthy/-"), ("ap-northeast-2b", "unused/Target.NotRegistered")] {
        let asked = format!("&Targets.member.1.Id={}&Targets.member.1.AvailabilityZone={zone}", PODS[0]);
        let reply = lab.elb("DescribeTargetHealth", &format!("TargetGroupArn={}{asked}", nlb.group));
        let line =
            crate::support::health_line(reply.get("TargetHealthDescriptions").and_then(|d| d.at(0)).expect("one"));
        assert!(line.ends_with(state), "{line}");
    }
}

#[test]
fn checks_of_what_is_gone_are_forgotten_and_their_late_outcomes_ignored() {
    let mut lab = Lab::new(Profile::Instant, &[("health.jitter", "0")]);
    let nlb = lab.nlb(3);
    let register = format!("TargetGroupArn={}&Targets.member.1.Id={}", nlb.group, PODS[0]);
    let request = lab.request(Service::Elb, "RegisterTargets", &register);
    lab.model.handle(&request, lab.now);
    let probes: Vec<_> = lab.model.tick(lab.now).into_iter().filter_map(probe).collect();
    assert_eq!((probes.len(), lab.model.counts().probes), (3, 3));
    lab.elb("SetSubnets", &format!("LoadBalancerArn={}&Subnets.member.1={}", nlb.balancer, SUBNETS[0]));
    assert_eq!(lab.model.counts().probes, 1);
    lab.deregister(&nlb.group, &PODS[..1]);
    assert_eq!(lab.model.counts().probes, 0);
    for id in probes {
        lab.model.probed(id, &ProbeOutcome::Connected, lab.now);
    }
    assert_eq!(lab.state(&nlb.group), "draining/Target.DeregistrationInProgress");
}

fn probe(command: Command) -> Option<ProbeId> {
    if let Command::Probe(probe) = command { Some(probe.id) } else { None }
}

#[test]
fn unhealthy_draining_keeps_flows_for_its_interval() {
    let mut lab = Lab::new(Profile::Instant, &[]);
    let nlb = lab.nlb(1);
    lab.attribute(&nlb.group, "target_health_state.unhealthy.connection_termination.enabled", "false");
    lab.attribute(&nlb.group, "target_health_state.unhealthy.draining_interval_seconds", "30");
    lab.register(&nlb.group, &PODS[..1]);
    lab.pass(seconds(1));
    let front = lab.front(0);
    route(lab.connect(front, "203.0.113.1"));
    lab.down.insert(at(PODS[0], 8080));
    lab.pass(seconds(25));
    assert_eq!(lab.state(&nlb.group), "unhealthy.draining/Target.FailedHealthChecks");
    assert!(lab.resets.is_empty());
    lab.pass(seconds(30));
    assert_eq!(lab.state(&nlb.group), "unhealthy/Target.FailedHealthChecks");
    assert_eq!(lab.resets.len(), 1);
}

#[test]
fn black_hole_and_hairpin_are_silent_and_an_empty_group_refuses() {
    let mut lab = Lab::new(Profile::Instant, &[]);
    let nlb = lab.nlb(1);
    let front = lab.front(0);
    assert_eq!(lab.connect(front, "203.0.113.1"), Answer::Refuse);
    lab.register(&nlb.group, &PODS[..1]);
    lab.pass(seconds(1));
    lab.model.set_unreachable(PODS[0].parse().expect("an address"), true, lab.now);
    assert_eq!(lab.connect(front, "203.0.113.1"), Answer::Silent);
    lab.model.set_unreachable(PODS[0].parse().expect("an address"), false, lab.now);
    lab.attribute(&nlb.group, "preserve_client_ip.enabled", "true");
    assert_eq!(lab.connect(front, PODS[0]), Answer::Silent);
}

fn cross_zone(balancer: &str) -> String {
    format!(
        "LoadBalancerArn={balancer}&Attributes.member.1.Key=load_balancing.cross_zone.enabled\
         &Attributes.member.1.Value=true"
    )
}
