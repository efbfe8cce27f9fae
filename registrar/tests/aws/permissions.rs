//! What is missing is found before it is needed.

use std::{collections::BTreeMap, sync::Arc};

use registrar::aws::{Aws, Feature, Role, Settings};
use registrar_core::aws::Account;

use crate::support::{Emulator, ROLE, connect, settings, soon};

const ALL: [Feature; 3] = [Feature::Bindings, Feature::TargetRules, Feature::LoadBalancers];

#[tokio::test]
async fn nothing_is_missing_where_everything_is_allowed_and_only_reads_were_tried() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    assert_eq!(aws.permissions(&ALL, soon()).await, Ok(Vec::new()));
    let calls = emulator.calls();
    let reads = calls.iter().filter(|call| call.action.starts_with("Describe") || call.action == "GetCallerIdentity");
    assert_eq!(reads.count(), calls.len());
    assert_eq!(calls.len(), 18);
}

#[tokio::test]
async fn each_missing_permission_is_named_as_policies_name_it() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    for action in ["DescribeTargetHealth", "DescribeSecurityGroups"] {
        emulator.order(&format!(r#"{{"action":"{action}","effect":{{"refuse":{{"code":"AccessDenied"}}}}}}"#));
    }
    let missing = aws.permissions(&ALL, soon()).await.expect("answered");
    let actions: Vec<_> = missing.iter().map(|missing| missing.action.as_str()).collect();
    assert_eq!(actions, ["elasticloadbalancing:DescribeTargetHealth", "ec2:DescribeSecurityGroups"]);
    let says = "the registrar's own identity lacks the permission elasticloadbalancing:DescribeTargetHealth: \
                AccessDenied: User is not authorized to perform this action";
    assert_eq!(missing[0].to_string(), says);
}

#[tokio::test]
async fn a_feature_that_is_off_needs_nothing() {
    let emulator = Emulator::start().await;
    let aws = connect(&emulator.url()).await;
    assert_eq!(aws.permissions(&[Feature::Bindings], soon()).await, Ok(Vec::new()));
    assert_eq!(emulator.count("DescribeSubnets") + emulator.count("DescribeInstances"), 0);
}

#[tokio::test]
async fn roles_of_other_accounts_are_tried_as_well() {
    let emulator = Emulator::start().await;
    let role = |arn: &str| Role { role_arn: arn.to_owned(), external_id: None };
    let roles: BTreeMap<Arc<str>, Role> =
        BTreeMap::from([("good".into(), role(ROLE)), ("gone".into(), role("arn:aws:iam::999988887777:role/gone"))]);
    let aws = Aws::connect(Settings { roles, ..settings(&emulator.url()) }, Arc::new(())).await;
    let missing = aws.permissions(&[Feature::Bindings], soon()).await.expect("answered");
    let [gone] = missing.as_slice() else { panic!("{missing:?}") };
    assert_eq!((&gone.account, gone.action.as_str()), (&Account::Role("gone".into()), "sts:AssumeRole"));
    assert!(gone.refusal.message.contains("AccessDenied"), "{gone}");
}
