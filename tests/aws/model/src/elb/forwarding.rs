//! Where listeners forward to, and what must hold between them and their groups.

use std::collections::BTreeMap;

use super::{listener::Listener, lookup::Noun};
use crate::{
    Model, Value,
    fault::{Code, Result},
    schema::{Fields, Input, Kind, TEXT, optional, required},
    store::GroupKey,
    value::record,
};

/// The groups that a listener forwards to, with their weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Forward {
    pub(crate) groups: Vec<(GroupKey, u32)>,
    stickiness: bool,
}

const FORWARD: Kind = Kind::Record(&[
    optional(
        "TargetGroups",
        Kind::list(&Kind::Record(&[optional("TargetGroupArn", TEXT), optional("Weight", Kind::int(0, 999))])),
    ),
    optional(
        "TargetGroupStickinessConfig",
        Kind::Record(&[optional("Enabled", Kind::Bool), optional("DurationSeconds", Kind::int(1, 604_800))]),
    ),
]);
pub(super) const ACTIONS: Kind = Kind::list(&Kind::Record(&[
    required(
        "Type",
        Kind::OneOf(&[
            "forward",
            "authenticate-oidc",
            "authenticate-cognito",
            "redirect",
            "fixed-response",
            "jwt-validation",
        ]),
    ),
    optional("TargetGroupArn", TEXT),
    optional("Order", Kind::int(1, 50000)),
    optional("ForwardConfig", FORWARD),
]));

impl Model {
    /// The one `forward` action of a listener.
    pub(super) fn read_actions(&mut self, input: &Input, protocol: &str) -> Result<Forward> {
        if !matches!(protocol, "TCP" | "TLS" | "UDP" | "TCP_UDP" | "QUIC" | "TCP_QUIC") {
            return Code::UnsupportedProtocol
                .refuse(format!("Protocol '{protocol}' is not supported for load balancers of type 'network'"));
        }
        let actions = input.records("DefaultActions");
        let action = match actions.as_slice() {
            [] => return Code::ValidationError.refuse("A default action must be specified"),
            [action] => *action,
            more => {
                let count = more.len();
                return Code::TooManyActions.refuse(format!("A listener takes one default action, not {count}"));
            }
        };
        if action.need("Type") != "forward" {
            let kind = action.need("Type");
            return Code::InvalidLoadBalancerAction
                .refuse(format!("Action type '{kind}' is not valid for load balancers of type 'network'"));
        }
        let config = action.record("ForwardConfig");
        let listed = config.map(|c| c.records("TargetGroups")).unwrap_or_default();
        let mut groups = Vec::new();
        for tuple in &listed {
            let key = self.forwardable(tuple.text("TargetGroupArn").unwrap_or_default())?;
            groups.push((key, tuple.number("Weight").unwrap_or(1)));
        }
        if let Some(arn) = action.text("TargetGroupArn") {
            let key = self.forwardable(arn)?;
            if groups.is_empty() {
                groups.push((key, 1));
            } else if groups.len() > 1 || groups[0].0 != key {
                return Code::InvalidLoadBalancerAction
                    .refuse("The target group of the action and its forward configuration must be the same");
            }
        }
        let quota = self.settings.quota_groups_action as usize;
        let distinct: BTreeMap<_, _> = groups.iter().copied().collect();
        if groups.is_empty() {
            return Code::ValidationError.refuse("A target group ARN must be specified");
        }
        if distinct.len() < groups.len() {
            return Code::InvalidLoadBalancerAction.refuse("A target group can be named only once in an action");
        }
        if groups.len() > quota {
            return Code::TooManyUniqueTargetGroups
                .refuse(format!("The maximum number of target groups '{quota}' in an action has been reached"));
        }
        let sticky = |c: &Fields| c.record("TargetGroupStickinessConfig").and_then(|s| s.flag("Enabled"));
        Ok(Forward { groups, stickiness: config.and_then(sticky).unwrap_or(false) })
    }

    fn forwardable(&mut self, arn: &str) -> Result<GroupKey> {
        self.group_key(arn).map_err(|fault| {
            if fault.code == Code::TargetGroupNotFound {
                Code::TargetGroupNotFound.because(format!("Target groups '[{arn}]' not found"))
            } else {
                fault
            }
        })
    }

    /// What must hold between a listener, its groups and its load balancer.
    pub(super) fn check_listener(&self, listener: &Listener) -> Result<()> {
        let quota = self.settings.quota_certificates as usize;
        if self.certificates_of(listener.balancer) + listener.certificates.len() > quota {
            return Code::TooManyCertificates
                .refuse(format!("The maximum number of certificates '{quota}' has been reached"));
        }
        for (key, _) in &listener.forward.groups {
            let Some(group) = self.groups.get(*key) else { return Err(Noun::Group.missing()) };
            let compatible: &[&str] = match listener.protocol.as_str() {
                "TCP" => &["TCP", "TCP_UDP"],
                "TLS" => &["TCP", "TLS"],
                "UDP" => &["UDP", "TCP_UDP"],
                "TCP_UDP" => &["TCP_UDP"],
                "QUIC" => &["QUIC", "TCP_QUIC"],
                _ => &["TCP_QUIC"],
            };
            if !compatible.contains(&group.protocol.as_str()) {
                return Code::IncompatibleProtocols.refuse(format!(
                    "Listener protocol '{}' is not supported with a target group protocol of '{}'",
                    listener.protocol, group.protocol
                ));
            }
            if self.balancer_of(*key).is_some_and(|owner| owner != listener.balancer) {
                return Code::TargetGroupAssociationLimit.refuse(format!(
                    "The following target groups cannot be associated with more than one load balancer: {}",
                    group.arn
                ));
            }
        }
        self.check_listener_family(listener)?;
        let added = listener.forward.groups.iter().map(|(group, _)| *group);
        self.check_target_quotas(listener.balancer, added, &[])
    }

    pub(super) fn show_actions(&self, listener: &Listener) -> Value {
        let arn = |key: &GroupKey| self.groups.get(*key).map_or("", |g| g.arn.as_str());
        let groups = &listener.forward.groups;
        let tuples: Value =
            groups.iter().map(|(g, weight)| record! { "TargetGroupArn": arn(g), "Weight": *weight }).collect();
        let single = if let [(group, _)] = groups.as_slice() { Some(arn(group)) } else { None };
        let forward = record! {
            "TargetGroups": tuples,
            "TargetGroupStickinessConfig": record! { "Enabled": listener.forward.stickiness },
        };
        Value::List(vec![record! { "Type": "forward", ? "TargetGroupArn": single, "ForwardConfig": forward }])
    }
}
