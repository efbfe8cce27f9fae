//! Kinds of bindings: of nodes, shared, of other accounts, half written, two of one group, and not allowed.

use std::{collections::BTreeMap, sync::Arc};

use nlb::{settings::TargetType, targetgroupbinding::TargetGroupProtocol};
use registrar_core::{
    Settings,
    aws::Account,
    cluster::{GateStatus, Key, Kind, NodeRecord, Record},
    effect::Action,
    event::Watched,
    settings::{FeatureSets, Isolation, Role, Vpc},
};

use super::stage::{GROUP, Group, NAMESPACE, Place, Stage, seconds};

fn node(stage: &mut Stage, name: &str, change: impl FnOnce(&mut NodeRecord)) {
    let meta = stage.meta("", name, &format!("node-{name}"));
    let mut node = NodeRecord {
        meta,
        instance: Some(format!("i-{name}")),
        labels: Arc::new(BTreeMap::new()),
        cordoned: false,
        taints: Vec::new(),
        ready: GateStatus::True,
    };
    change(&mut node);
    stage.tell(Watched::Applied(Record::Node(node)));
}

fn of_nodes() -> Stage {
    let mut stage = Stage::new(&Settings::default());
    stage.furnish();
    stage.group().target_type = "instance";
    stage.bindings.clear();
    stage.add_binding("web", GROUP, |record| {
        let mut spec = (*record.spec).clone();
        spec.target_type = Some(TargetType::Instance);
        record.spec = Arc::new(spec);
    });
    for name in ["a", "b", "c", "d"] {
        node(&mut stage, name, |_| {});
    }
    stage.list_all();
    stage.lead();
    stage.run(seconds(20));
    stage
}

#[test]
fn nodes_are_registered_by_instance_and_node_port() {
    let mut stage = of_nodes();
    assert_eq!(stage.registered(), ["i-a", "i-b", "i-c", "i-d"]);
    assert!(stage.group().targets.keys().all(|(_, port)| *port == 30080));
}

#[test]
fn a_node_that_is_about_to_go_leaves_at_once() {
    type Change = fn(&mut NodeRecord);
    let changes: [(&str, Change); 6] = [
        ("autoscaler", |node| node.taints.push(("ToBeDeletedByClusterAutoscaler".to_owned(), "NoSchedule".to_owned()))),
        ("karpenter", |node| node.taints.push(("karpenter.sh/disrupted".to_owned(), "NoSchedule".to_owned()))),
        ("spot", |node| {
            node.taints.push(("aws-node-termination-handler/spot-itn".to_owned(), "NoSchedule".to_owned()));
        }),
        ("deleted", |node| node.meta.deleting = true),
        ("cordoned", |node| node.cordoned = true),
        ("excluded", |node| {
            let label = ("node.kubernetes.io/exclude-from-external-load-balancers".to_owned(), String::new());
            node.labels = Arc::new(BTreeMap::from([label]));
        }),
    ];
    for (name, change) in changes {
        let mut stage = of_nodes();
        node(&mut stage, "a", change);
        stage.run(seconds(2));
        assert_eq!(stage.registered(), ["i-b", "i-c", "i-d"], "{name}");
    }
}

#[test]
fn nodes_that_are_all_not_ready_stay() {
    let mut stage = of_nodes();
    for name in ["a", "b", "c", "d"] {
        node(&mut stage, name, |node| node.ready = GateStatus::Unknown);
    }
    stage.run(seconds(120));
    assert_eq!(stage.registered().len(), 4);
}

#[test]
fn a_node_without_an_instance_harms_nobody_else() {
    let mut stage = of_nodes();
    node(&mut stage, "odd", |node| node.instance = None);
    node(&mut stage, "e", |_| {});
    stage.run(seconds(5));
    assert_eq!(stage.registered().len(), 5);
    for name in ["a", "b", "c", "d", "e"] {
        node(&mut stage, name, |node| node.cordoned = true);
    }
    stage.run(seconds(60));
    assert_eq!(stage.registered().len(), 5, "there is no other that could serve");
}

#[test]
fn targets_of_others_in_a_shared_group_are_left_alone() {
    let mut stage = Stage::new(&Settings::default());
    stage.furnish();
    let foreign = Place { since: seconds(0), draining: false, zone: None };
    stage.group().targets.insert(("10.5.5.5".to_owned(), 8080), foreign);
    stage.add_binding("web", GROUP, |record| {
        let mut spec = (*record.spec).clone();
        spec.multi_cluster_target_group = Some(true);
        record.spec = Arc::new(spec);
    });
    stage.list_all();
    stage.lead();
    stage.add_pod("a", "10.0.0.1");
    stage.add_pod("b", "10.0.0.2");
    stage.run(seconds(20));
    assert_eq!(stage.registered(), ["10.0.0.1", "10.0.0.2", "10.5.5.5"]);
    assert_eq!(stage.ledgers[&Key::new(NAMESPACE, "web")], ["10.0.0.1:8080", "10.0.0.2:8080"]);
    stage.terminate("a");
    // For a minute AWS may not show what is there: so long the ledger keeps it.
    stage.run(seconds(80));
    assert_eq!(stage.registered(), ["10.0.0.2", "10.5.5.5"]);
    assert_eq!(stage.ledgers[&Key::new(NAMESPACE, "web")], ["10.0.0.2:8080"]);
    stage.delete_binding("web");
    stage.run(seconds(30));
    assert_eq!(stage.registered(), ["10.5.5.5"]);
    assert!(stage.ledgers.is_empty() && stage.bindings.is_empty());
}

#[test]
fn the_ledger_is_written_before_the_target_is_registered() {
    let mut stage = Stage::new(&Settings::default());
    stage.furnish();
    stage.add_binding("web", GROUP, |record| {
        let mut spec = (*record.spec).clone();
        spec.multi_cluster_target_group = Some(true);
        record.spec = Arc::new(spec);
    });
    stage.list_all();
    stage.lead();
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(20));
    let position = |wanted: &str| {
        let mut texts = stage.sent.iter().map(|(_, effect)| format!("{:?}", effect.action));
        texts.position(|text| text.contains(wanted)).unwrap()
    };
    assert!(position("PutLedger") < position("RegisterTargets"));
}

#[test]
fn of_two_bindings_of_one_group_only_the_first_is_served() {
    let mut stage = Stage::ready(&Settings::default());
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(20));
    stage.add_binding("late", GROUP, |_| {});
    stage.run(seconds(20));
    assert_eq!(stage.condition("late", "Ready").1, "DuplicateTargetGroup");
    assert!(!stage.bindings[&Key::new(NAMESPACE, "late")].has_finalizer);
    stage.delete_binding("web");
    stage.run(seconds(60));
    assert_eq!(stage.registered(), ["10.0.0.1"], "now it is the late one's");
    assert_eq!(stage.condition("late", "Registered").0, "True");
}

#[test]
fn a_role_that_the_operator_has_not_named_is_not_assumed() {
    let roles =
        BTreeMap::from([("partner".into(), Role { arn: "arn:aws:iam::2:role/p".to_owned(), external_id: None })]);
    let settings = Settings { roles, ..Settings::default() };
    for (arn, served) in [("arn:aws:iam::2:role/p", true), ("arn:aws:iam::3:role/x", false)] {
        let mut stage = Stage::new(&settings);
        stage.furnish();
        stage.add_binding("web", GROUP, |record| {
            let mut spec = (*record.spec).clone();
            spec.iam_role_arn_to_assume = Some(arn.to_owned());
            record.spec = Arc::new(spec);
        });
        stage.list_all();
        stage.lead();
        stage.add_pod("a", "10.0.0.1");
        stage.run(seconds(20));
        assert_eq!(stage.is_open("a"), served, "{arn}");
        for (_, effect) in &stage.sent {
            if let Action::Aws { account, .. } = &effect.action {
                assert_eq!(*account, Account::Role("partner".into()));
            }
        }
        if !served {
            assert_eq!(stage.condition("web", "Resolved").1, "RoleNotConfigured");
        }
    }
}

#[test]
fn fields_that_are_absent_are_filled_in_once() {
    let mut stage = Stage::new(&Settings::default());
    stage.furnish();
    stage.add_binding("web", GROUP, |record| {
        let mut spec = (*record.spec).clone();
        spec.target_group_arn = None;
        spec.target_group_name = Some("web".to_owned());
        spec.target_type = None;
        spec.target_group_protocol = None;
        spec.ip_address_type = None;
        spec.vpc_id = None;
        record.spec = Arc::new(spec);
    });
    stage.list_all();
    stage.lead();
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(20));
    assert!(stage.is_open("a"));
    let spec = &stage.bindings[&Key::new(NAMESPACE, "web")].spec;
    assert_eq!(spec.target_group_arn.as_deref(), Some(GROUP));
    assert_eq!((spec.target_type, spec.vpc_id.as_deref()), (Some(TargetType::Ip), Some("vpc-1")));
    assert_eq!(stage.writes().iter().filter(|write| write.contains("ResolveBinding")).count(), 1);
}

#[test]
fn a_group_whose_tags_do_not_allow_the_namespace_gets_no_target_where_that_is_enforced() {
    let cases = [
        (Isolation::Off, None, true),
        (Isolation::Warn, None, true),
        (Isolation::Enforce, None, false),
        (Isolation::Enforce, Some(("elbv2.k8s.aws/namespaces", "shop")), true),
        (Isolation::Enforce, Some(("elbv2.k8s.aws/namespaces", "other")), false),
        (Isolation::Enforce, Some(("service.k8s.aws/stack", "shop/web")), true),
    ];
    for (isolation, tag, served) in cases {
        let mut stage = Stage::new(&Settings { isolation, ..Settings::default() });
        stage.furnish();
        if let Some((key, value)) = tag {
            stage.group().tags.insert(key.to_owned(), value.to_owned());
        }
        stage.list_all();
        stage.lead();
        stage.add_pod("a", "10.0.0.1");
        stage.run(seconds(20));
        assert_eq!(stage.is_open("a"), served, "{isolation:?} {tag:?}");
        assert!(served || stage.gate("a").1 == "NotAuthorised");
        let warned = tag.is_none_or(|(_, value)| value == "other") && isolation != Isolation::Off;
        assert_eq!(!stage.events("NotAuthorised").is_empty(), warned, "{isolation:?} {tag:?}");
    }
}

#[test]
fn a_group_whose_tags_do_not_allow_the_namespace_loses_no_target_where_that_is_enforced() {
    let mut stage = Stage::new(&Settings { isolation: Isolation::Enforce, ..Settings::default() });
    stage.furnish();
    stage.group().tags.insert("elbv2.k8s.aws/namespaces".to_owned(), "other".to_owned());
    for id in ["10.5.5.5", "10.5.5.6"] {
        let foreign = Place { since: seconds(0), draining: false, zone: None };
        stage.group().targets.insert((id.to_owned(), 8080), foreign);
    }
    stage.list_all();
    stage.lead();
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(60));
    assert_eq!(stage.registered(), ["10.5.5.5", "10.5.5.6"]);
}

#[test]
fn a_permission_that_is_withdrawn_takes_the_targets_out() {
    let mut stage = Stage::new(&Settings { isolation: Isolation::Enforce, ..Settings::default() });
    stage.furnish();
    stage.group().tags.insert("elbv2.k8s.aws/namespaces".to_owned(), "*".to_owned());
    stage.list_all();
    stage.lead();
    stage.add_pod("a", "10.0.0.1");
    stage.run(seconds(20));
    assert_eq!(stage.registered().len(), 1);
    stage.group().tags.clear();
    stage.run(seconds(60));
    assert!(stage.registered().is_empty());
    stage.add_pod("b", "10.0.0.2");
    stage.run(seconds(100));
    assert!(stage.registered().is_empty());
}

#[test]
fn features_that_are_off_are_refused_in_words() {
    let features = FeatureSets { instance_targets: false, shared_groups: false, load_balancers: false };
    let settings = Settings { features, ..Settings::default() };
    let mut stage = Stage::new(&settings);
    stage.furnish();
    stage.add_binding("web", GROUP, |record| {
        let mut spec = (*record.spec).clone();
        spec.multi_cluster_target_group = Some(true);
        record.spec = Arc::new(spec);
    });
    for kind in [Kind::Service, Kind::Binding, Kind::Slice, Kind::Pod, Kind::Namespace] {
        stage.tell(Watched::Listed(kind));
    }
    stage.lead();
    stage.run(seconds(20));
    assert_eq!(stage.condition("web", "Resolved").1, "FeatureOff");
}

#[test]
fn addresses_outside_the_subnets_are_registered_for_all_zones() {
    let vpc = Vpc { id: "vpc-1".to_owned(), subnets: vec!["10.0.0.0/16".parse().unwrap()] };
    let mut stage = Stage::ready(&Settings { vpc: Some(vpc), ..Settings::default() });
    stage.add_pod("in", "10.0.0.1");
    stage.add_pod("out", "172.16.0.1");
    stage.run(seconds(10));
    let zones: Vec<_> = stage.group().targets.values().map(|place| place.zone.clone()).collect();
    assert_eq!(zones, [None, Some("all".to_owned())]);
}

#[test]
fn a_quic_target_has_the_server_id_of_its_pod_and_is_none_without() {
    let mut stage = Stage::new(&Settings::default());
    stage.furnish();
    stage.groups.insert(GROUP.to_owned(), Group { target_type: "ip", ..Group::default() });
    stage.add_binding("web", GROUP, |record| {
        let mut spec = (*record.spec).clone();
        spec.target_group_protocol = Some(TargetGroupProtocol::Quic);
        record.spec = Arc::new(spec);
    });
    stage.list_all();
    stage.lead();
    stage.add_pod("without", "10.0.0.1");
    stage.add_pod_with("with", "10.0.0.2", |pod| {
        pod.quic_server_ids = BTreeMap::from([(0, "0x0123456789abcdef".to_owned())]);
    });
    stage.run(seconds(10));
    assert_eq!(stage.registered(), ["10.0.0.2"]);
    assert!(stage.is_open("with"));
    assert_eq!(stage.gate("without").1, "QuicServerIdMissing");
}

#[test]
fn the_configured_limit_is_kept_without_a_panic() {
    let mut stage = Stage::new(&Settings { most_targets: Some(2), ..Settings::default() });
    stage.furnish();
    stage.list_all();
    let since = seconds(0);
    for index in 0..5 {
        let place = Place { since, draining: false, zone: None };
        stage.group().targets.insert((format!("10.0.0.{index}"), 8080), place);
        stage.add_pod(&format!("pod-{index}"), &format!("10.0.0.{index}"));
    }
    stage.lead();
    stage.add_pod("more", "10.0.1.1");
    stage.run(seconds(60));
    assert_eq!(stage.registered().len(), 5, "what is there stays, and nothing is added");
    assert_eq!(stage.gate("more").1, "TargetLimitReached");
}
