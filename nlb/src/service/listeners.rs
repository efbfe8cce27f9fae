//! Which listeners the ports of a Service become, and their TLS settings, attributes and actions.

use std::collections::BTreeMap;

use super::{
    Context, Port, actions,
    spec::{Forward, GroupRef, Listener, Protocol, TargetGroup, Weighted},
    tls,
};
use crate::{
    annotations::{attributes, keys, parse},
    tags,
    violation::{Severity, Violation},
};

/// A Service port that becomes a listener.
#[derive(Clone, Copy)]
pub(super) struct ListenerPort<'a> {
    pub(super) port: Port<'a>,
    pub(super) protocol: Protocol,
}

/// The ports that become listeners, each with the listener's protocol.
pub(super) fn ports<'a>(context: &Context<'a>, found: &mut Vec<Violation>) -> Vec<ListenerPort<'a>> {
    let merge =
        context.annotations.boolean(keys::TCP_UDP_LISTENER).unwrap_or(context.settings.features.tcp_udp_listener);
    let tls_ports = tls::TlsPorts::read(context, found);
    let mut listeners: Vec<ListenerPort> = Vec::new();
    for port in &context.ports {
        let protocol = match port.protocol() {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            other => {
                let problem = "is a protocol that a Network Load Balancer does not carry";
                let remedy = "use TCP or UDP, or remove the port";
                found.push(Violation::deny("protocol", port.path("protocol"), other, problem, remedy));
                continue;
            }
        };
        let Some(first) = listeners.iter_mut().find(|listener| listener.port.number == port.number) else {
            let protocol = if protocol == Protocol::Tcp && tls_ports.has(port) { Protocol::Tls } else { protocol };
            listeners.push(ListenerPort { port: *port, protocol });
            continue;
        };
        if !merge {
            let problem = format!("port {} has a listener already, a second one is impossible", port.number);
            let remedy = format!("set {}: \"true\" to serve TCP and UDP by one listener", keys::TCP_UDP_LISTENER);
            found.push(Violation::deny("port-twice", port.path("port"), &port.number.to_string(), problem, remedy));
        } else if matches!(
            (first.protocol, protocol),
            (Protocol::Tcp | Protocol::Tls, Protocol::Udp) | (Protocol::Udp, Protocol::Tcp)
        ) {
            check_merged(context, &tls_ports, &first.port, port, found);
            first.protocol = Protocol::TcpUdp;
        } else {
            let problem = format!("port {} is there more than once for {}", port.number, port.protocol());
            found.push(Violation::deny(
                "port-twice",
                port.path("port"),
                &port.number.to_string(),
                problem,
                "remove one of them",
            ));
        }
    }
    quic(context, &mut listeners, found);
    tls::warn_without_tls(context, &listeners, found);
    listeners
}

/// One target group serves both halves of a merged listener, so both must lead to the same place.
fn check_merged(context: &Context, tls_ports: &tls::TlsPorts, first: &Port, second: &Port, found: &mut Vec<Violation>) {
    if tls_ports.named(first) || tls_ports.named(second) {
        let value = context.annotations.text(keys::SSL_PORTS).unwrap_or_default();
        let problem = format!("names port {}, which is merged into a TCP_UDP listener and cannot be TLS", first.number);
        let remedy = "give TLS and UDP ports of their own";
        found.push(Violation::deny("merged-tls", keys::SSL_PORTS, value, problem, remedy));
    } else if tls_ports.has(first) {
        let value = context.annotations.text(keys::SSL_CERT).unwrap_or_default();
        let problem = format!("does not make port {} TLS, because it is merged into a TCP_UDP listener", first.number);
        let remedy = format!("name the ports that are TLS in {}", keys::SSL_PORTS);
        found.push(Violation::warn("merged-tls", keys::SSL_CERT, value, problem, remedy));
    }
    let (field, one, other) = match context.target_type {
        crate::settings::TargetType::Ip => {
            ("targetPort", super::target_groups::target_port(first), super::target_groups::target_port(second))
        }
        crate::settings::TargetType::Instance => {
            let node_port = |port: &Port| match port.entry.node_port {
                Some(number) if number > 0 => number.to_string(),
                _ => String::new(),
            };
            ("nodePort", node_port(first), node_port(second))
        }
    };
    if one != other && !one.is_empty() && !other.is_empty() {
        let problem = format!("differs from {one} of spec.ports[{}]; one target group has one port", first.index);
        let remedy = format!("write the same {field} in both");
        found.push(Violation::deny("merged-port", second.path(field), &other, problem, remedy));
    }
}

fn quic(context: &Context, listeners: &mut [ListenerPort], found: &mut Vec<Violation>) {
    let Some(written) = context.annotations.text(keys::QUIC_PORTS) else { return };
    let mut unknown = Vec::new();
    let mut not_udp = Vec::new();
    for item in parse::list(written) {
        let mut known = false;
        for listener in listeners.iter_mut().filter(|listener| names_listener(context, listener, item)) {
            known = true;
            match listener.protocol {
                Protocol::Udp | Protocol::Quic => listener.protocol = Protocol::Quic,
                Protocol::TcpUdp | Protocol::TcpQuic => listener.protocol = Protocol::TcpQuic,
                Protocol::Tcp | Protocol::Tls => not_udp.push(item),
            }
        }
        if !known {
            unknown.push(item);
        }
    }
    let (problem, remedy) = ("is a TCP or TLS listener, and QUIC runs over UDP", "name UDP ports only");
    found.extend(Violation::of_items(Severity::Deny, "quic-protocol", keys::QUIC_PORTS, &not_udp, problem, remedy));
    let (problem, remedy) =
        ("is no port of the Service and has no effect", "name a port of the Service by number or name");
    found.extend(Violation::of_items(Severity::Warn, "no-such-port", keys::QUIC_PORTS, &unknown, problem, remedy));
    if context.target_type == crate::settings::TargetType::Instance
        && listeners.iter().any(|listener| listener.protocol.is_quic())
    {
        let problem = "needs pods as targets: QUIC is routed by ids that pods carry";
        let remedy = format!("set {}: ip", keys::TARGET_TYPE);
        found.push(Violation::deny("quic-instance", keys::QUIC_PORTS, written, problem, remedy));
    }
}

/// Whether an item means a listener, by its number or by the name of any of its ports.
fn names_listener(context: &Context, listener: &ListenerPort, item: &str) -> bool {
    context.ports.iter().any(|port| port.number == listener.port.number && port.is(item))
}

/// The listeners, with everything that stands in annotations about them.
pub(super) fn read(
    context: &Context,
    ports: &[ListenerPort],
    groups: &[TargetGroup],
    tags: &dyn Fn(&str) -> BTreeMap<String, String>,
    found: &mut Vec<Violation>,
) -> Vec<Listener> {
    let annotations = &context.annotations;
    let alpn = match annotations.text(keys::ALPN) {
        None if context.settings.features.enhanced_default_behavior => Some("None".to_owned()),
        given => given.map(str::to_owned),
    };
    let policy = annotations.text(keys::SSL_POLICY).unwrap_or(&context.settings.default_ssl_policy);
    let mut listeners = Vec::new();
    for (listener, group) in ports.iter().zip(groups) {
        let tls = listener.protocol == Protocol::Tls;
        let own = Weighted { group: GroupRef::Own(group.resource.clone()), weight: None, decrypt: None };
        listeners.push(Listener {
            port: listener.port.number,
            protocol: listener.protocol,
            ssl_policy: tls.then(|| policy.to_owned()),
            certificates: if tls {
                tls::certificates(context).into_iter().map(str::to_owned).collect()
            } else {
                Vec::new()
            },
            alpn_policy: alpn.clone().filter(|_| tls),
            default_actions: Forward { target_groups: vec![own], sticky: None },
            attributes: BTreeMap::new(),
            tags: tags(&listener.port.number.to_string()),
        });
    }
    listener_attributes(context, &mut listeners, found);
    actions::read(context, &mut listeners, found);
    listeners
}

fn listener_attributes(context: &Context, listeners: &mut [Listener], found: &mut Vec<Violation>) {
    for (key, protocol, port, written) in context.annotations.of_listeners(keys::LISTENER_ATTRIBUTES) {
        let Some(listener) = find_listener(listeners, key, keys::LISTENER_ATTRIBUTES, protocol, port, written, found)
        else {
            continue;
        };
        if listener.protocol == Protocol::Tls {
            let problem = "has no effect: TLS listeners have no attributes that can be set";
            found.push(Violation::warn("no-effect", key, written, problem, "remove the annotation"));
            continue;
        }
        let Ok(map) = parse::map(written) else { continue };
        if map.contains_key(attributes::IDLE_TIMEOUT)
            && !matches!(listener.protocol, Protocol::Tcp | Protocol::TcpUdp | Protocol::TcpQuic)
        {
            let problem =
                format!("sets {} on a {} listener, which has none", attributes::IDLE_TIMEOUT, listener.protocol);
            found.push(Violation::warn("no-effect", key, written, problem, "remove the annotation"));
        }
        listener.attributes = map;
    }
}

/// The listener that a key names; what is wrong with the key if there is none.
pub(super) fn find_listener<'a>(
    listeners: &'a mut [Listener],
    key: &str,
    prefix: &str,
    protocol: &str,
    port: u16,
    written: &str,
    found: &mut Vec<Violation>,
) -> Option<&'a mut Listener> {
    let same_port = listeners.iter().position(|listener| listener.port == port);
    match same_port.and_then(|index| listeners.get_mut(index)) {
        Some(listener) if listener.protocol.as_str() == protocol => Some(listener),
        Some(listener) => {
            let problem = format!("has no effect: the listener on port {port} is {}", listener.protocol);
            let remedy = format!("write {prefix}{}-{port}", listener.protocol);
            found.push(Violation::warn("no-such-listener", key, written, problem, remedy));
            None
        }
        None => {
            let problem = format!("has no effect: there is no listener on port {port}");
            found.push(Violation::warn("no-such-listener", key, written, problem, "remove it, or add the port"));
            None
        }
    }
}

/// Tags of a listener, target group or anything else of a Service.
pub(super) fn tags_of(context: &Context, asked: &BTreeMap<String, String>, resource: &str) -> BTreeMap<String, String> {
    tags::of_resource(context.settings, asked, &context.stack(), resource)
}
