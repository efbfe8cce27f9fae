//! `manifests/iam` grants what the registrar has code for, and nothing else.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot read its files has failed")]

use std::collections::{BTreeMap, BTreeSet};

use aws_model::{Service, operations::catalogue};
use manifests::text;
use serde_json::Value;

/// The policies of a registrar that serves Services and bindings.
const OWN: [&str; 3] = ["bindings", "load-balancers", "security-groups"];
const ALL: [&str; 5] = ["bindings", "load-balancers", "security-groups", "cross-account", "cross-account-remote"];
/// What AWS asks for on behalf of another call: see "API permissions" in the guide of Elastic Load Balancing.
const ON_BEHALF: [&str; 4] = [
    "ec2:DescribeAccountAttributes",
    "ec2:DescribeAddresses",
    "ec2:DescribeInternetGateways",
    "iam:CreateServiceLinkedRole",
];
/// What AWS accepts as a managed policy, without white space.
const LONGEST_POLICY: usize = 6144;
const LONGEST_CLUSTER_NAME: usize = 100;

fn statements(policy: &str) -> Vec<Value> {
    let policy: Value = serde_json::from_str(&text(&format!("manifests/iam/{policy}.json")).unwrap()).unwrap();
    policy["Statement"].as_array().unwrap().clone()
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        other => other.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect(),
    }
}

fn granted(policies: &[&str]) -> BTreeSet<String> {
    policies.iter().flat_map(|policy| statements(policy)).flat_map(|statement| texts(&statement["Action"])).collect()
}

/// The operations of the registrar's AWS port. An enum cannot list its variants, so its one table is read as text.
fn operations() -> BTreeSet<String> {
    let source = text("registrar/core/src/aws/call.rs").unwrap();
    let body = source.split("pub fn operation(&self)").nth(1).unwrap().split("\n    }\n").next().unwrap();
    let names = body.lines().filter(|line| line.contains("=>")).filter_map(|line| line.split('"').nth(1));
    let prefixes: BTreeMap<_, _> = catalogue()
        .into_iter()
        .filter(|op| op.service != Service::Sts)
        // Tags have other names in ELBv2, but for reading.
        .filter(|op| !(op.service == Service::Ec2 && op.name == "DescribeTags"))
        .map(|op| (op.name, if op.service == Service::Ec2 { "ec2" } else { "elasticloadbalancing" }))
        .collect();
    names.map(|name| format!("{}:{name}", prefixes.get(name).expect("the emulator knows it"))).collect()
}

#[test]
fn every_operation_of_the_registrar_is_granted_and_nothing_else() {
    let operations = operations();
    assert!(operations.len() > 30, "the table was not found: {operations:?}");
    let needed: BTreeSet<_> = operations.into_iter().chain(ON_BEHALF.map(str::to_owned)).collect();
    let granted = granted(&OWN);
    assert_eq!(granted.difference(&needed).collect::<Vec<_>>(), Vec::<&String>::new(), "granted, but not used");
    assert_eq!(needed.difference(&granted).collect::<Vec<_>>(), Vec::<&String>::new(), "used, but not granted");
}

#[test]
fn bindings_alone_can_change_nothing_but_targets() {
    for policy in ["bindings", "cross-account-remote"] {
        let writes: Vec<_> = granted(&[policy]).into_iter().filter(|action| !action.contains(":Describe")).collect();
        assert_eq!(
            writes,
            ["elasticloadbalancing:DeregisterTargets", "elasticloadbalancing:RegisterTargets"],
            "{policy}"
        );
    }
}

#[test]
fn the_other_account_grants_what_a_binding_needs() {
    assert_eq!(granted(&["cross-account-remote"]), granted(&["bindings"]));
}

#[test]
fn no_write_reaches_all_resources() {
    // A security group is made in a VPC, which bears no tag of ours.
    let without_condition = ["MakeSecurityGroupsInTheVpc", "RolesOfOtherAccounts"];
    for policy in ALL {
        for statement in statements(policy) {
            let (sid, actions) = (statement["Sid"].as_str().unwrap(), texts(&statement["Action"]));
            assert!(actions.iter().all(|action| !action.contains('*')), "{policy}: {sid}: a wildcard");
            if actions.iter().all(|action| action.contains(":Describe")) {
                continue;
            }
            assert!(texts(&statement["Resource"]).iter().all(|arn| arn.starts_with("arn:")), "{policy}: {sid}");
            assert!(
                statement.get("Condition").is_some() || without_condition.contains(&sid),
                "{policy}: {sid} has no condition"
            );
        }
    }
}

#[test]
fn only_what_bears_the_clusters_tag_is_changed() {
    let exempt = [
        // Opened to namespaces by whoever made the group.
        "TargetsOfGroupsOpenedToNamespaces",
        // Not made yet, or no resource of ours.
        "RoleOfTheServiceItself",
        "MakeSecurityGroupsInTheVpc",
        "RolesOfOtherAccounts",
        // The nodes' and pods' own groups, which bear the cluster's name in a key.
        "LetLoadBalancersIntoTheClustersNodes",
    ];
    for policy in ALL {
        for statement in statements(policy) {
            let sid = statement["Sid"].as_str().unwrap();
            if exempt.contains(&sid) || texts(&statement["Action"]).iter().all(|action| action.contains(":Describe")) {
                continue;
            }
            let equals = &statement["Condition"]["StringEquals"];
            let tag =
                ["aws:ResourceTag", "aws:RequestTag"].map(|place| &equals[format!("{place}/elbv2.k8s.aws/cluster")]);
            assert!(tag.into_iter().any(|value| value == "CLUSTER_NAME"), "{policy}: {sid}: {statement}");
        }
    }
}

#[test]
fn the_tag_that_gives_permission_cannot_be_removed_or_given_away() {
    for statement in OWN.into_iter().flat_map(statements) {
        let condition = &statement["Condition"];
        for action in texts(&statement["Action"]) {
            let kept = match action.split(':').next_back().unwrap() {
                "RemoveTags" | "DeleteTags" => {
                    texts(&condition["ForAllValues:StringNotEquals"]["aws:TagKeys"]) == ["elbv2.k8s.aws/cluster"]
                }
                "AddTags" | "CreateTags" => ["StringEquals", "StringEqualsIfExists"]
                    .iter()
                    .any(|test| condition[test]["aws:RequestTag/elbv2.k8s.aws/cluster"] == "CLUSTER_NAME"),
                _ => true,
            };
            assert!(kept, "{action} in {statement}");
        }
    }
}

#[test]
fn every_policy_is_short_enough_for_any_cluster() {
    for policy in ALL {
        let text = text(&format!("manifests/iam/{policy}.json")).unwrap();
        let filled = text
            .replace("CLUSTER_NAME", &"x".repeat(LONGEST_CLUSTER_NAME))
            .replace("ACCOUNT_ID", "111122223333")
            .replace("REGION", "ap-northeast-2")
            .replace("VPC_ID", "vpc-0a1b2c3d4e5f60718");
        let length = filled.chars().filter(|c| !c.is_whitespace()).count();
        assert!(length <= LONGEST_POLICY, "{policy}: {length}");
    }
}
