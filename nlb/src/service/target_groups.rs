//! Target groups: one per listener.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};

use super::{
    Context, Port, health_check,
    listeners::{ListenerPort, tags_of},
    spec::{AddressFamily, HealthCheck, Protocol, TargetGroup, TargetPort},
};
use crate::{
    annotations::{
        Annotations,
        attributes::{PRESERVE_CLIENT_IP, PROXY_PROTOCOL, STICKINESS, UNHEALTHY_DRAINING, UNHEALTHY_TERMINATION},
        keys, parse,
    },
    names::{self, Identity, TargetGroupTraits},
    settings::{ModelSettings, Scheme, TargetType},
    tags,
    violation::{Severity, Violation},
};

/// What the targets of a Service are, as the peer reads it: only `ip` means pods, and the old type `nlb-ip` does too.
pub(super) fn target_type(annotations: Annotations, settings: &ModelSettings) -> TargetType {
    match (annotations.text(keys::TYPE), annotations.text(keys::TARGET_TYPE)) {
        (Some("nlb-ip"), _) | (_, Some("ip")) => TargetType::Ip,
        (_, Some(_)) => TargetType::Instance,
        (_, None) => settings.default_target_type,
    }
}

pub(super) fn read(
    context: &Context,
    ports: &[ListenerPort],
    asked_tags: &BTreeMap<String, String>,
    scheme: Scheme,
    found: &mut Vec<Violation>,
) -> Vec<TargetGroup> {
    check_target_type(context, ports, found);
    let health_check = health_check::read(context, found);
    health_check::warn_udp(context, ports, &health_check, found);
    let global = context.annotations.map(keys::TARGET_GROUP_ATTRIBUTES).unwrap_or_default();
    check_ports_of_keys(context, found);
    let groups: Vec<_> = ports
        .iter()
        .map(|listener| build(context, listener, &context.identity(), None, &health_check, &global, asked_tags))
        .collect();
    for group in &groups {
        check_attributes(context, group, scheme, found);
    }
    groups
}

/// The target group of another Service that a listener of `base` forwards to by weight: the backend's port, and in all
/// else what the annotations of `base` say. Nothing if the backend has no such port.
pub fn backend(
    base: &Service,
    backend: &Service,
    port: &IntOrString,
    listener: Protocol,
    settings: &ModelSettings,
) -> Option<TargetGroup> {
    let context = Context::new(base, settings);
    let behind = Context::new(backend, settings);
    let port = behind.ports.iter().find(|candidate| match port {
        IntOrString::Int(number) => i32::from(candidate.number) == *number,
        IntOrString::String(name) => candidate.is(name),
    })?;
    let health_check = health_check::read(&context, &mut Vec::new());
    let global = context.annotations.map(keys::TARGET_GROUP_ATTRIBUTES).unwrap_or_default();
    let asked = context.annotations.map(keys::TAGS).unwrap_or_default();
    let listener = ListenerPort { port: *port, protocol: listener };
    Some(build(&context, &listener, &behind.identity(), Some(context.uid), &health_check, &global, &asked))
}

fn build(
    context: &Context,
    listener: &ListenerPort,
    identity: &Identity,
    base_uid: Option<&str>,
    health_check: &HealthCheck,
    global: &BTreeMap<String, String>,
    asked_tags: &BTreeMap<String, String>,
) -> TargetGroup {
    let port = &listener.port;
    let protocol = match listener.protocol {
        Protocol::Tls if context.annotations.text(keys::BACKEND_PROTOCOL) == Some("ssl") => Protocol::Tls,
        Protocol::Tls => Protocol::Tcp,
        other => other,
    };
    let group_port = group_port(context.target_type, port);
    let traits = TargetGroupTraits {
        base_uid,
        port: group_port.unwrap_or(0),
        service_port: port.number,
        target_type: context.target_type.as_str(),
        protocol: protocol.as_str(),
        health_check_protocol: health_check.health_check_protocol.as_str(),
        health_check_interval: health_check.health_check_interval_seconds,
    };
    let resource = tags::target_group_resource(identity.namespace, identity.name, port.number);
    TargetGroup {
        name: names::target_group(identity, &traits),
        service_port: port.number,
        port: group_port,
        protocol,
        target_type: context.target_type,
        ip_address_type: if context.has_ipv6() { AddressFamily::Ipv6 } else { AddressFamily::Ipv4 },
        health_check: health_check.clone(),
        attributes: attributes(context, port.number, global),
        tags: tags_of(context, asked_tags, &resource),
        multi_cluster: context.annotations.boolean(keys::MULTI_CLUSTER) == Some(true),
        node_selector: match context.target_type {
            TargetType::Instance => context.annotations.map(keys::NODE_LABELS).unwrap_or_default(),
            TargetType::Ip => BTreeMap::new(),
        },
        target_ports: target_ports(context.target_type, port, protocol, health_check),
        resource,
    }
}

/// The port of the target group: the node port, the target port if it is a number, else 1.
fn group_port(target_type: TargetType, port: &Port) -> Option<u16> {
    match target_type {
        TargetType::Instance => {
            port.entry.node_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0)
        }
        TargetType::Ip => Some(match &port.entry.target_port {
            Some(IntOrString::String(_)) => 1,
            Some(IntOrString::Int(number)) => {
                u16::try_from(*number).ok().filter(|number| *number > 0).unwrap_or(port.number)
            }
            None => port.number,
        }),
    }
}

/// The target port as it is written, or as the API server fills it in.
pub(super) fn target_port(port: &Port) -> String {
    match &port.entry.target_port {
        Some(IntOrString::String(name)) => name.clone(),
        Some(IntOrString::Int(number)) if *number > 0 => number.to_string(),
        _ => port.number.to_string(),
    }
}

/// What targets must let in: the traffic, and the health checks where they are not part of it.
fn target_ports(target_type: TargetType, port: &Port, protocol: Protocol, check: &HealthCheck) -> Vec<TargetPort> {
    let traffic = match (target_type, &port.entry.target_port) {
        (TargetType::Instance, _) => IntOrString::Int(port.entry.node_port.unwrap_or(0)),
        (TargetType::Ip, Some(IntOrString::String(name))) => IntOrString::String(name.clone()),
        (TargetType::Ip, _) => IntOrString::Int(i32::from(group_port(target_type, port).unwrap_or(port.number))),
    };
    let protocols: &[&str] = match protocol {
        Protocol::Tcp | Protocol::Tls => &["TCP"],
        Protocol::TcpUdp | Protocol::TcpQuic => &["TCP", "UDP"],
        Protocol::Udp | Protocol::Quic => &["UDP"],
    };
    let mut ports: Vec<TargetPort> =
        protocols.iter().map(|protocol| TargetPort { protocol, port: traffic.clone() }).collect();
    let check = match check.health_check_port.parse::<i32>() {
        Ok(number) => IntOrString::Int(number),
        Err(_) => traffic,
    };
    let check = TargetPort { protocol: "TCP", port: check };
    if !ports.contains(&check) {
        ports.push(check);
    }
    ports
}

fn attributes(context: &Context, port: u16, global: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut attributes = global.clone();
    let own = context.annotations.of_ports(keys::TARGET_GROUP_ATTRIBUTES_OF_PORT).find(|(_, of, _)| *of == port);
    if let Some(own) = own.and_then(|(_, _, written)| parse::map(written).ok()) {
        // An empty value does not override.
        attributes.extend(own.into_iter().filter(|(_, value)| !value.is_empty()));
    }
    let listed = context.annotations.list(keys::PROXY_PROTOCOL_PORTS);
    if context.annotations.text(keys::PROXY_PROTOCOL) == Some("*") {
        attributes.insert(PROXY_PROTOCOL.to_owned(), "true".to_owned());
    } else if let Some(listed) = listed {
        let on = listed.iter().any(|item| item.parse() == Ok(port));
        attributes.insert(PROXY_PROTOCOL.to_owned(), on.to_string());
    } else {
        attributes.entry(PROXY_PROTOCOL.to_owned()).or_insert_with(|| "false".to_owned());
    }
    attributes
}

fn check_target_type(context: &Context, ports: &[ListenerPort], found: &mut Vec<Violation>) {
    let written = context.annotations.text(keys::TARGET_TYPE).unwrap_or_default();
    if context.target_type == TargetType::Ip {
        if !context.settings.features.ip_target_type && context.annotations.text(keys::TYPE) != Some("nlb-ip") {
            let problem = "is switched off here (features.ipTargetType)";
            found.push(Violation::deny("ip-targets-off", keys::TARGET_TYPE, written, problem, "write instance"));
        }
        if let Some(labels) = context.annotations.text(keys::NODE_LABELS) {
            let problem = "has no effect: targets are pods, not nodes";
            found.push(Violation::warn("no-effect", keys::NODE_LABELS, labels, problem, "remove the annotation"));
        }
        return;
    }
    let kind = context.spec.type_.as_deref().unwrap_or("ClusterIP");
    if !matches!(kind, "LoadBalancer" | "NodePort") {
        let problem = "has no node ports, which targets of type instance need";
        let remedy = format!("set spec.type: LoadBalancer, or {}: ip", keys::TARGET_TYPE);
        found.push(Violation::deny("no-node-ports", "spec.type", kind, problem, remedy));
    } else if context.spec.allocate_load_balancer_node_ports == Some(false) {
        for listener in ports.iter().filter(|listener| listener.port.entry.node_port.is_none_or(|number| number == 0)) {
            let problem = "is not set and none is allocated, but targets of type instance need it";
            let remedy =
                format!("set it, remove allocateLoadBalancerNodePorts: false, or set {}: ip", keys::TARGET_TYPE);
            found.push(Violation::deny("no-node-ports", listener.port.path("nodePort"), "", problem, remedy));
        }
    }
}

/// Keys and items that name Service ports which do not exist.
fn check_ports_of_keys(context: &Context, found: &mut Vec<Violation>) {
    let exists = |number: u16| context.ports.iter().any(|port| port.number == number);
    for (key, port, written) in context.annotations.of_ports(keys::TARGET_GROUP_ATTRIBUTES_OF_PORT) {
        if !exists(port) {
            let problem = format!("has no effect: the Service has no port {port}");
            found.push(Violation::warn("no-such-port", key, written, problem, "remove it, or add the port"));
        }
    }
    let Some(written) = context.annotations.text(keys::PROXY_PROTOCOL_PORTS) else { return };
    if context.annotations.text(keys::PROXY_PROTOCOL) == Some("*") {
        let problem = format!("has no effect beside {}", keys::PROXY_PROTOCOL);
        found.push(Violation::warn("no-effect", keys::PROXY_PROTOCOL_PORTS, written, problem, "remove one of them"));
        return;
    }
    let mut listed = parse::list(written);
    listed.retain(|item| item.parse().is_ok_and(|number| number > 0 && !exists(number)));
    let (problem, remedy) = ("is no port of the Service and has no effect", "name Service ports by number");
    let key = keys::PROXY_PROTOCOL_PORTS;
    found.extend(Violation::of_items(Severity::Warn, "no-such-port", key, &listed, problem, remedy));
}

/// Attributes that contradict each other or the group that they are set on.
fn check_attributes(context: &Context, group: &TargetGroup, scheme: Scheme, found: &mut Vec<Violation>) {
    let of_port = format!("{}{}", keys::TARGET_GROUP_ATTRIBUTES_OF_PORT, group.service_port);
    let key = |attribute: &str| {
        let own = context.annotations.map(&of_port).is_some_and(|own| own.contains_key(attribute));
        if own { of_port.clone() } else { keys::TARGET_GROUP_ATTRIBUTES.to_owned() }
    };
    let boolean = |attribute: &str| group.attributes.get(attribute).and_then(|value| parse::boolean(value).ok());
    let given = |attribute: &str| format!("{attribute}={}", group.attributes.get(attribute).map_or("", String::as_str));
    let draining: u32 = group.attributes.get(UNHEALTHY_DRAINING).and_then(|value| value.parse().ok()).unwrap_or(0);
    if draining > 0 && boolean(UNHEALTHY_TERMINATION) != Some(false) {
        let problem = format!("can be set only while {UNHEALTHY_TERMINATION} is false");
        let remedy = format!("add {UNHEALTHY_TERMINATION}=false");
        let key = key(UNHEALTHY_DRAINING);
        found.push(match boolean(UNHEALTHY_TERMINATION) {
            Some(_) => Violation::deny("attributes-contradict", key, &given(UNHEALTHY_DRAINING), problem, remedy),
            // It may have been set in AWS by hand.
            None => Violation::warn("attributes-contradict", key, &given(UNHEALTHY_DRAINING), problem, remedy),
        });
    }
    if boolean(STICKINESS) == Some(true) && group.protocol == Protocol::Tls {
        let problem = "does not work on TLS target groups";
        found.push(Violation::warn("attributes-contradict", key(STICKINESS), &given(STICKINESS), problem, "remove it"));
    }
    if boolean(PRESERVE_CLIENT_IP) == Some(false) && group.protocol.has_udp() {
        let problem = format!("cannot be switched off for a {} target group", group.protocol);
        found.push(Violation::warn(
            "attributes-contradict",
            key(PRESERVE_CLIENT_IP),
            &given(PRESERVE_CLIENT_IP),
            problem,
            "remove it",
        ));
    }
    if boolean(PRESERVE_CLIENT_IP) == Some(true)
        && scheme == Scheme::Internal
        && group.target_type == TargetType::Ip
        && !group.protocol.has_udp()
    {
        let problem = "lets connections of a pod to itself through this internal load balancer time out";
        let remedy = "remove it unless no target ever calls this load balancer";
        found.push(Violation::warn("hairpin", key(PRESERVE_CLIENT_IP), &given(PRESERVE_CLIENT_IP), problem, remedy));
    }
}
