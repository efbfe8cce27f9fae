//! Which permissions are missing, found out by asking for what cannot be there.

use std::{collections::BTreeMap, time::Instant};

use registrar_core::aws::{
    Account, Arn, Call, Fault, Filter, ListenerQuery, LoadBalancerQuery, Refusal, TargetGroupQuery,
};

use super::{Aws, Identity, Port as _};

/// What the registrar may be set to do; each feature takes permissions of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Feature {
    /// Targets of bindings.
    Bindings,
    /// Security-group rules for targets: their interfaces must be found.
    TargetRules,
    /// Load balancers of Services.
    LoadBalancers,
}

/// A permission that is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} lacks the permission {action}: {refusal}", name(account))]
pub struct Missing {
    /// In which account.
    pub account: Account,
    /// `elasticloadbalancing:DescribeTargetHealth`, as policies have it.
    pub action: String,
    /// What AWS said.
    pub refusal: Refusal,
}

fn name(account: &Account) -> String {
    match account {
        Account::Own => "the registrar's own identity".to_owned(),
        Account::Role(name) => format!("the role `{name}`"),
    }
}

/// Codes of missing permissions.
const DENIED: &[&str] = &["AccessDenied", "AccessDeniedException", "UnauthorizedOperation"];

/// Tries every read that `features` take. Faults that say nothing of permissions end it only if nothing was answered.
pub(super) async fn probe(aws: &Aws, features: &[Feature], deadline: Instant) -> Result<Vec<Missing>, Fault> {
    let identity = aws.identity(&Account::Own, deadline).await?;
    let mut missing = Vec::new();
    for call in calls(&identity, &aws.region().unwrap_or_default(), features) {
        missing.extend(denied(aws, &Account::Own, &call, deadline).await);
    }
    for name in aws.settings.roles.keys() {
        let account = Account::Role(name.clone());
        match aws.identity(&account, deadline).await {
            Ok(identity) => {
                for call in calls(&identity, &aws.region().unwrap_or_default(), &[Feature::Bindings]) {
                    missing.extend(denied(aws, &account, &call, deadline).await);
                }
            }
            Err(fault) => missing.push(Missing {
                account,
                action: "sts:AssumeRole".to_owned(),
                refusal: Refusal { code: fault.code().unwrap_or("no session").to_owned(), message: fault.to_string() },
            }),
        }
    }
    Ok(missing)
}

async fn denied(aws: &Aws, account: &Account, call: &Call, deadline: Instant) -> Option<Missing> {
    match aws.call(account, call, deadline).await {
        Err(Fault::Refused(refusal)) if DENIED.contains(&refusal.code.as_str()) => {
            let service = if super::ec2::is_of_ec2(call) { "ec2" } else { "elasticloadbalancing" };
            Some(Missing { account: account.clone(), action: format!("{service}:{}", call.operation()), refusal })
        }
        _ => None,
    }
}

/// One call for each operation that only reads. The resources are of our account and do not exist, so the answer to whoever
/// may ask is "not found".
fn calls(identity: &Identity, region: &str, features: &[Feature]) -> Vec<Call> {
    let partition = identity.arn.split(':').nth(1).unwrap_or("aws");
    let arn = |resource: &str| {
        let account = &identity.account;
        Arn::new(&format!("arn:{partition}:elasticloadbalancing:{region}:{account}:{resource}"))
    };
    let group = arn("targetgroup/sluice-permission-check/0000000000000000");
    let load_balancer = arn("loadbalancer/net/sluice-permission-check/0000000000000000");
    let listener = arn("listener/net/sluice-permission-check/0000000000000000/0000000000000000");
    let none = || vec![Filter { name: "tag:sluice-permission-check".to_owned(), values: vec!["none".to_owned()] }];
    let by_feature = BTreeMap::from([
        (
            Feature::Bindings,
            vec![
                Call::DescribeTargetGroups(TargetGroupQuery::Arns(vec![group.clone()])),
                Call::DescribeTargetHealth { group: group.clone() },
                Call::DescribeTags { resources: vec![group.clone()] },
                Call::DescribeVpcs { ids: vec!["vpc-00000000000000000".to_owned()] },
            ],
        ),
        (
            Feature::TargetRules,
            vec![
                Call::DescribeSecurityGroups { ids: Vec::new(), filters: none() },
                Call::DescribeNetworkInterfaces { filters: none() },
                Call::DescribeInstances { ids: vec!["i-00000000000000000".to_owned()] },
            ],
        ),
        (
            Feature::LoadBalancers,
            vec![
                Call::DescribeLoadBalancers(LoadBalancerQuery::Arn(load_balancer.clone())),
                Call::DescribeLoadBalancerAttributes { load_balancer: load_balancer.clone() },
                Call::DescribeCapacityReservation { load_balancer: load_balancer.clone() },
                Call::DescribeListeners(ListenerQuery::LoadBalancer(load_balancer)),
                Call::DescribeListenerAttributes { listener: listener.clone() },
                Call::DescribeListenerCertificates { listener },
                Call::DescribeTargetGroupAttributes { group },
                Call::DescribeSubnets { ids: Vec::new(), filters: none() },
                Call::DescribeRouteTables { filters: none() },
                Call::DescribeAvailabilityZones { zone_ids: Vec::new() },
                Call::DescribeSecurityGroups { ids: Vec::new(), filters: none() },
            ],
        ),
    ]);
    let mut calls: Vec<Call> = Vec::new();
    for call in by_feature.into_iter().filter(|(feature, _)| features.contains(feature)).flat_map(|(_, calls)| calls) {
        if !calls.contains(&call) {
            calls.push(call);
        }
    }
    calls
}
