//! A process that is killed at any point, and another that goes on.

use aws_model::settings::Profile;
use registrar_core::balancers::Intent;

use crate::{
    bench::{Bench, CUTS},
    life::STORY,
};

/// Two ports, with node ports, so that target groups can be replaced and listeners come and go.
fn service() -> String {
    STORY.replace(
        "ports: [{name: http, port: 80, targetPort: 8080, protocol: TCP}]",
        "ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}, {name: tls, port: 443, targetPort: 8443, nodePort: 30443}]",
    )
}

/// Everything that can be changed, changed: one target type for another, a port for another, settings set and unset.
fn change(bench: &mut Bench) {
    bench.annotate("nlb-target-type", "instance");
    bench.annotate("attributes", "deletion_protection.enabled=false");
    bench.annotate("target-group-attributes", "deregistration_delay.timeout_seconds=30");
    bench.annotate("additional-resource-tags", "team=edge");
    bench.unannotate("cross-zone-load-balancing-enabled");
    bench.service.spec.as_mut().unwrap().ports.as_mut().unwrap()[1].port = 8443;
}

/// Creates, changes and removes, and stops once on the way: in phase `phase`, after `n` operations, as `cut` says.
/// Whether it came to that.
fn life(profile: Profile, seed: u64, phase: usize, n: usize, cut: crate::bench::Cut) -> bool {
    let mut bench = Bench::with(&service(), profile, seed);
    let before = bench.counts();
    let mut stopped = false;
    for step in 0..3 {
        match step {
            0 => {}
            1 => change(&mut bench),
            _ => bench.intent = Intent::Remove,
        }
        if step == phase {
            bench.cut = Some((n, cut));
            stopped = bench.run().is_err();
            bench.cut = None;
        }
        let rest = bench.done();
        assert!(rest.is_empty(), "phase {phase}, operation {n}, {cut:?}: {rest:?}");
        let counts = bench.counts();
        let (balancers, groups, listeners) = if step < 2 { (1, 2, 2) } else { (0, 0, 0) };
        let found = (counts.load_balancers, counts.target_groups, counts.listeners);
        assert_eq!(found, (balancers, groups, listeners), "phase {phase}, operation {n}, {cut:?}, in {step}");
        assert_eq!(bench.bindings.len(), groups, "phase {phase}, operation {n}, {cut:?}, in {step}");
        let audit = bench.audit();
        assert!(audit.is_empty(), "phase {phase}, operation {n}, {cut:?}: {audit:?}");
    }
    // Interfaces of a load balancer hold its security groups for a while after it is gone.
    assert_eq!(bench.counts().security_groups, before.security_groups, "phase {phase}, operation {n}, {cut:?}");
    stopped
}

/// Every operation of every phase, in every way.
fn everywhere(profile: Profile, seed: u64) -> usize {
    let mut lives = 0;
    for phase in 0..3 {
        for cut in CUTS {
            let mut n = 0;
            while life(profile, seed, phase, n, cut) {
                n += 1;
            }
            assert!(n > 3, "phase {phase} has {n} operations");
            lives += n;
        }
    }
    lives
}

#[test]
fn a_crash_at_any_point_of_creation_change_and_removal_leaves_no_trace() {
    let lives = everywhere(Profile::Instant, 1);
    assert!(lives > 60, "{lives}");
}
