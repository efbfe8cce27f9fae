//! Security groups that a Service no longer wants: those that can go do, and those that its load balancer has stay.

use std::time::Duration;

use registrar_core::aws::{Call, Reply, SecurityGroup};
use simulation::aws;

use crate::{life::STORY, services::service, stage::Stage};

/// A security group of the world, which a Service may name.
const NAMED: &str = "sg-0d00000000000ddd1";

fn minutes(n: u64) -> Duration {
    Duration::from_mins(n)
}

/// The security groups that were made for Services, the shared one aside.
fn managed(stage: &mut Stage) -> Vec<SecurityGroup> {
    let call = Call::DescribeSecurityGroups { ids: Vec::new(), filters: Vec::new() };
    let Ok(Reply::SecurityGroups(mut found)) = aws::call(&mut stage.model, &call, stage.now).outcome else {
        panic!("no answer")
    };
    found.retain(|group| group.tags.contains_key("service.k8s.aws/stack"));
    found
}

#[test]
fn a_managed_group_goes_however_late_the_service_names_others_again() {
    for deleted in [false, true] {
        let mut stage = Stage::new();
        let named =
            "  annotations:\n    service.beta.kubernetes.io/aws-load-balancer-security-groups: ".to_owned() + NAMED;
        let key = stage.apply(service(&STORY.replace("  annotations:", &named)));
        stage.run(minutes(1));
        assert!(stage.is_active(&key), "{:?}", stage.conditions(&key));
        assert!(managed(&mut stage).is_empty());
        stage.annotate(&key, "security-groups", None);
        stage.run(minutes(1));
        assert_eq!(managed(&mut stage).len(), 1);
        if deleted {
            stage.delete(&key);
        } else {
            stage.annotate(&key, "security-groups", Some(NAMED));
        }
        stage.run(minutes(2));
        assert!(managed(&mut stage).is_empty(), "deleted: {deleted}, {:#?}", stage.sent);
    }
}

#[test]
fn a_load_balancer_that_is_asked_for_no_groups_keeps_those_that_it_has_and_their_rules() {
    let mut stage = Stage::new();
    let key = stage.apply(service(STORY));
    stage.run(minutes(1));
    let (groups, bindings) = (managed(&mut stage), stage.bindings.clone());
    assert_eq!((groups.len(), bindings.len()), (1, 1));
    stage.sent.clear();
    stage.annotate(&key, "disable-nlb-sg", Some("true"));
    stage.run(minutes(10));
    let conditions = stage.conditions(&key);
    assert!(conditions.iter().any(|said| said.starts_with("Blocked=True Replacement:")), "{conditions:?}");
    assert_eq!(managed(&mut stage), groups);
    let networking = |bindings: &std::collections::BTreeMap<_, nlb::targetgroupbinding::TargetGroupBinding>| {
        bindings.values().map(|binding| binding.spec.networking.clone()).collect::<Vec<_>>()
    };
    assert_eq!(networking(&stage.bindings), networking(&bindings));
    assert!(!stage.writes().iter().any(|write| write.contains("SecurityGroup")), "{:?}", stage.writes());
}

#[test]
fn a_load_balancer_without_groups_keeps_its_rules_for_targets_when_the_service_asks_for_groups() {
    const GROUPLESS: &str = "  annotations:
    service.beta.kubernetes.io/aws-load-balancer-target-group-attributes: preserve_client_ip.enabled=true
    service.beta.kubernetes.io/aws-load-balancer-disable-nlb-sg: 'true'";
    let switched_off =
        "service.beta.kubernetes.io/aws-load-balancer-manage-backend-security-group-rules: 'false'".to_owned();
    let in_annotation = |ranges: &str| format!("service.beta.kubernetes.io/load-balancer-source-ranges: {ranges}");
    let written = [
        (String::new(), ""),
        (switched_off, ""),
        (in_annotation("0.0.0.0/0"), ""),
        (in_annotation("198.51.100.0/24"), ""),
        (String::new(), "loadBalancerSourceRanges: [0.0.0.0/0]"),
        (String::new(), "loadBalancerSourceRanges: [198.51.100.0/24, 203.0.113.0/24]"),
    ];
    for (annotation, ranges) in written {
        for groups in [None, Some(NAMED)] {
            let mut stage = Stage::new();
            let annotations = format!("{GROUPLESS}\n    {annotation}");
            let story = STORY.replace("internet-facing", "internal").replace("  annotations:", &annotations);
            let key = stage.apply(service(&story.replace("  type:", &format!("  {ranges}\n  type:"))));
            stage.run(minutes(1));
            assert!(stage.is_active(&key), "{:?}", stage.conditions(&key));
            let networking = |stage: &Stage| {
                stage.bindings.values().map(|binding| binding.spec.networking.clone()).collect::<Vec<_>>()
            };
            let before = networking(&stage);
            assert_eq!(before.len(), 1);
            stage.annotate(&key, "security-groups", groups);
            stage.annotate(&key, "disable-nlb-sg", None);
            stage.run(minutes(2));
            assert_eq!(networking(&stage), before, "{annotation} {ranges} {groups:?}");
        }
    }
}

#[test]
fn the_rules_of_each_family_have_room_of_their_own() {
    let ports: Vec<String> =
        (0..40).map(|n| format!("{{name: p{n}, port: {}, targetPort: 8080}}", 80 + 2 * n)).collect();
    let of_ports = STORY.replace("{name: http, port: 80, targetPort: 8080, protocol: TCP}", &ports.join(", "));
    let dualstack = "  annotations:\n    service.beta.kubernetes.io/aws-load-balancer-ip-address-type: dualstack";
    let mut stage = Stage::new();
    let key = stage.apply(service(&of_ports.replace("  annotations:", dualstack)));
    stage.run(minutes(3));
    assert!(stage.is_active(&key), "{:?}", stage.conditions(&key));
    let rules: Vec<usize> = managed(&mut stage).iter().map(|group| group.permissions.len()).collect();
    assert_eq!(rules, [80]);

    let ranges = "  loadBalancerSourceRanges: [198.51.100.0/24, 203.0.113.0/24]\n  type:";
    let mut stage = Stage::new();
    let key = stage.apply(service(&of_ports.replace("  type:", ranges)));
    stage.run(minutes(3));
    let said = stage.conditions(&key).join("\n");
    assert!(said.contains("needs 80 inbound rules for IPv4, AWS takes 60"), "{said}");
}
