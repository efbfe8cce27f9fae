//! What is wrong with a binding.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{NetworkingRule, TargetGroupBinding, TargetGroupBindingSpec, TargetGroupProtocol};
use crate::{
    annotations::{self, Object, forms, forms::Arn},
    readiness_gate::ReadinessGate,
    settings::{ModelSettings, TargetType},
    violation::{Violation, ratchet},
};

const ARN: &str = "spec.targetGroupARN";

/// Everything that is wrong with a binding, and with the change that leads to it if there is an old one. As with
/// Services, an update is denied only for what the old object did not have.
pub fn review(old: Option<&TargetGroupBinding>, new: &TargetGroupBinding, settings: &ModelSettings) -> Vec<Violation> {
    let mut violations = check(new, settings);
    if let Some(old) = old {
        ratchet(&check(old, settings), &mut violations);
        violations.extend(changes(&old.spec, &new.spec));
    }
    violations
}

/// Everything that is wrong with a binding as such.
pub fn check(binding: &TargetGroupBinding, settings: &ModelSettings) -> Vec<Violation> {
    let spec = &binding.spec;
    let mut found = annotations::check(Object::TargetGroupBinding, binding.metadata.annotations.iter().flatten());
    target_group(spec, settings, &mut found);
    service_ref(spec, &mut found);
    excluded(spec, &mut found);
    selector(spec, &mut found);
    for (index, rule) in spec.networking.iter().flat_map(|networking| networking.ingress.iter().flatten()).enumerate() {
        networking(spec, index, rule, &mut found);
    }
    let name = binding.metadata.name.as_deref().unwrap_or_default();
    if !name.is_empty()
        && spec.target_type == Some(TargetType::Ip)
        && let Err(error) = ReadinessGate::of_binding(name)
    {
        let remedy = "choose a name of at most 63 characters";
        found.push(Violation::warn(
            "no-gate",
            "metadata.name",
            name,
            format!("leaves its pods without a gate: {error}"),
            remedy,
        ));
    }
    found.sort_by(|one, other| (&one.key, one.rule, &one.value).cmp(&(&other.key, other.rule, &other.value)));
    found
}

fn given(field: Option<&String>) -> Option<&str> {
    field.map(String::as_str).filter(|text| !text.is_empty())
}

fn target_group(spec: &TargetGroupBindingSpec, settings: &ModelSettings, found: &mut Vec<Violation>) {
    let arn = given(spec.target_group_arn.as_ref());
    if arn.is_none() && given(spec.target_group_name.as_ref()).is_none() {
        let remedy = "write the ARN or the name of a target group";
        found.push(Violation::deny("no-target-group", ARN, "", "is missing, and so is spec.targetGroupName", remedy));
    }
    if let Some(arn) = arn {
        match Arn::parse(arn).filter(Arn::is_target_group) {
            None => {
                let remedy = "write arn:aws:elasticloadbalancing:<region>:<account>:targetgroup/<name>/<id>";
                found.push(Violation::deny("value", ARN, arn, "is not the ARN of a target group", remedy));
            }
            Some(parsed) => {
                if let Some(region) = settings.region.as_deref().filter(|region| *region != parsed.region) {
                    let problem = format!("is a target group of {}, but this cluster is in {region}", parsed.region);
                    found.push(Violation::deny("region", ARN, arn, problem, format!("use a target group of {region}")));
                }
            }
        }
    } else if let Some(name) = given(spec.target_group_name.as_ref())
        && let Some(problem) = forms::aws_name_problem(name)
    {
        let remedy = "write the name as AWS shows it";
        found.push(Violation::deny("value", "spec.targetGroupName", name, problem, remedy));
    }
    if let Some(vpc) = given(spec.vpc_id.as_ref()).filter(|vpc| !forms::is_vpc_id(vpc)) {
        let remedy = "write vpc- and 8 or 17 hexadecimal digits, or leave it out";
        found.push(Violation::deny("value", "spec.vpcID", vpc, "is not a VPC id", remedy));
    }
    if let Some(role) = given(spec.iam_role_arn_to_assume.as_ref()) {
        if !Arn::parse(role).is_some_and(|arn| arn.is_role()) {
            let remedy = "write arn:aws:iam::<account>:role/<name>";
            found.push(Violation::deny("value", "spec.iamRoleArnToAssume", role, "is not the ARN of a role", remedy));
        }
    } else if let Some(id) = given(spec.assume_role_external_id.as_ref()) {
        let problem = "has no effect without spec.iamRoleArnToAssume";
        found.push(Violation::warn("no-effect", "spec.assumeRoleExternalId", id, problem, "remove it"));
    }
}

fn service_ref(spec: &TargetGroupBindingSpec, found: &mut Vec<Violation>) {
    let name = &spec.service_ref.name;
    if name.contains('.') || !forms::is_dns_subdomain(name) {
        let remedy = "write the name of a Service in the same namespace";
        found.push(Violation::deny("value", "spec.serviceRef.name", name, "is not the name of a Service", remedy));
    }
    let port = &spec.service_ref.port;
    if !is_port(port) {
        let remedy = "write the number or the name of a port of the Service";
        found.push(Violation::deny("value", "spec.serviceRef.port", &print(port), "is not a port", remedy));
    }
}

fn is_port(port: &IntOrString) -> bool {
    match port {
        IntOrString::Int(number) => (1..=65535).contains(number),
        IntOrString::String(name) => !name.is_empty() && forms::is_label_value(name),
    }
}

fn print(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

/// Fields that exclude each other.
fn excluded(spec: &TargetGroupBindingSpec, found: &mut Vec<Violation>) {
    if spec.node_selector.is_some() && spec.target_type == Some(TargetType::Ip) {
        let problem = "selects nodes, but the targets are pods";
        found.push(Violation::deny(
            "node-selector-ip",
            "spec.nodeSelector",
            "",
            problem,
            "remove it, or write targetType: instance",
        ));
    }
    if spec.target_type != Some(TargetType::Instance) {
        return;
    }
    if let Some(role) = given(spec.iam_role_arn_to_assume.as_ref()) {
        let problem = "is for targets of type ip: instances of one account are no targets in another";
        found.push(Violation::deny(
            "role-instance",
            "spec.iamRoleArnToAssume",
            role,
            problem,
            "remove it, or write targetType: ip",
        ));
    }
    let protocol = match spec.target_group_protocol {
        Some(TargetGroupProtocol::Quic) => "QUIC",
        Some(TargetGroupProtocol::TcpQuic) => "TCP_QUIC",
        _ => return,
    };
    let problem = "needs pods as targets: QUIC is routed by ids that pods carry";
    found.push(Violation::deny("quic-instance", "spec.targetGroupProtocol", protocol, problem, "write targetType: ip"));
}

fn selector(spec: &TargetGroupBindingSpec, found: &mut Vec<Violation>) {
    let Some(selector) = &spec.node_selector else { return };
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        let values = expression.values.as_ref().map_or(0, Vec::len);
        let problem = match (expression.operator.as_str(), values) {
            ("In" | "NotIn", 0) => "needs values",
            ("Exists" | "DoesNotExist", 1..) => "takes no values",
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => continue,
            _ => "is no operator",
        };
        let key = format!("spec.nodeSelector.matchExpressions[{index}].operator");
        let remedy = "write In or NotIn with values, or Exists or DoesNotExist without";
        found.push(Violation::deny("selector", key, &expression.operator, problem, remedy));
    }
}

fn networking(spec: &TargetGroupBindingSpec, index: usize, rule: &NetworkingRule, found: &mut Vec<Violation>) {
    let place = format!("spec.networking.ingress[{index}]");
    for (name, empty) in [("from", rule.from.is_empty()), ("ports", rule.ports.is_empty())] {
        if empty {
            let key = format!("{place}.{name}");
            found.push(Violation::warn(
                "no-effect",
                key,
                "",
                "is empty, so the rule lets nothing in",
                "list at least one",
            ));
        }
    }
    for (index, peer) in rule.from.iter().enumerate() {
        let place = format!("{place}.from[{index}]");
        if peer.ip_block.is_some() == peer.security_group.is_some() {
            let problem = if peer.ip_block.is_some() {
                "has both ipBlock and securityGroup"
            } else {
                "has neither ipBlock nor securityGroup"
            };
            found.push(Violation::deny("peer", place.clone(), "", problem, "write exactly one of them"));
        }
        if let Some(block) = peer.ip_block.as_ref().filter(|block| forms::cidr(&block.cidr).is_none()) {
            let remedy = "write a range such as 10.0.0.0/8";
            found.push(Violation::deny(
                "value",
                format!("{place}.ipBlock.cidr"),
                &block.cidr,
                "is not an address range",
                remedy,
            ));
        }
        if let Some(group) = peer.security_group.as_ref().filter(|group| !forms::is_ec2_id("sg-", &group.group_id)) {
            let key = format!("{place}.securityGroup.groupID");
            let remedy = "write sg- and 8 or 17 hexadecimal digits";
            found.push(Violation::deny("value", key, &group.group_id, "is not a security group id", remedy));
        }
    }
    for (index, port) in rule.ports.iter().enumerate() {
        let Some(port) = &port.port else { continue };
        let key = format!("{place}.ports[{index}].port");
        if !is_port(port) {
            found.push(Violation::deny(
                "value",
                key,
                &print(port),
                "is not a port",
                "write a number, or the name of a container port",
            ));
        } else if matches!(port, IntOrString::String(_)) && spec.target_type == Some(TargetType::Instance) {
            let problem = "is the name of a container port, which nodes do not have";
            found.push(Violation::deny("port-name", key, &print(port), problem, "write a number"));
        }
    }
}

/// What is wrong with a change. Fields that were empty may be filled in once; the controller does so itself.
fn changes(old: &TargetGroupBindingSpec, new: &TargetGroupBindingSpec) -> Vec<Violation> {
    let text = |field: &Option<String>| given(field.as_ref()).map(str::to_owned);
    let target_type = |field: Option<TargetType>| field.map(|target_type| target_type.as_str().to_owned());
    let family = |spec: &TargetGroupBindingSpec| spec.ip_address_type.map(|family| family.as_str().to_owned());
    let fields = [
        (ARN, text(&old.target_group_arn), text(&new.target_group_arn)),
        ("spec.targetType", target_type(old.target_type), target_type(new.target_type)),
        ("spec.ipAddressType", family(old), family(new)),
        ("spec.vpcID", text(&old.vpc_id), text(&new.vpc_id)),
    ];
    let mut found = Vec::new();
    for (key, before, after) in fields {
        if let Some(before) = before.filter(|before| after.as_ref() != Some(before)) {
            let problem = format!("was {before} and cannot be changed");
            let remedy = "make a new TargetGroupBinding";
            found.push(Violation::deny("immutable", key, &after.unwrap_or_default(), problem, remedy));
        }
    }
    let shared = |spec: &TargetGroupBindingSpec| spec.multi_cluster_target_group == Some(true);
    if shared(old) && !shared(new) {
        let problem = "is switched off: from now on targets of other clusters are deregistered";
        let remedy = "make sure that no other cluster uses the target group";
        found.push(Violation::warn("multi-cluster", "spec.multiClusterTargetGroup", "false", problem, remedy));
    }
    found
}

/// What is wrong with a binding beside all others of the cluster: two on one target group deregister each other's
/// targets, unless all of them share it.
pub fn duplicates<'a>(
    binding: &TargetGroupBinding,
    others: impl IntoIterator<Item = &'a TargetGroupBinding>,
) -> Vec<Violation> {
    let Some(arn) = given(binding.spec.target_group_arn.as_ref()) else { return Vec::new() };
    let shared = |binding: &TargetGroupBinding| binding.spec.multi_cluster_target_group == Some(true);
    // By name and not by UID: one that was deleted and made again is no rival of what a cache still has of it.
    let same_object = |other: &TargetGroupBinding| {
        binding.metadata.namespace == other.metadata.namespace && binding.metadata.name == other.metadata.name
    };
    let rival = others.into_iter().find(|other| {
        given(other.spec.target_group_arn.as_ref()) == Some(arn)
            && !same_object(other)
            && !(shared(binding) && shared(other))
    });
    let Some(rival) = rival else { return Vec::new() };
    let name = |field: &Option<String>| field.clone().unwrap_or_default();
    let (namespace, name) = (name(&rival.metadata.namespace), name(&rival.metadata.name));
    let problem = format!("belongs to TargetGroupBinding {namespace}/{name} already");
    let remedy = "use another target group, or set multiClusterTargetGroup: true on both";
    vec![Violation::deny("duplicate", ARN, arn, problem, remedy)]
}
