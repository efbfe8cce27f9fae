//! How the targets of a Service are checked. One health check holds for all of its target groups.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{
    Context,
    listeners::ListenerPort,
    spec::{HealthCheck, HealthCheckProtocol, Protocol},
    target_groups::target_port,
};
use crate::{annotations::keys, settings::TargetType, violation::Violation};

const TRAFFIC_PORT: &str = "traffic-port";

pub(super) fn read(context: &Context, found: &mut Vec<Violation>) -> HealthCheck {
    let annotations = &context.annotations;
    let local = context.is_local();
    let protocol = match annotations.text(keys::HEALTH_CHECK_PROTOCOL).map(str::to_ascii_lowercase).as_deref() {
        Some("tcp") => HealthCheckProtocol::Tcp,
        Some("http") => HealthCheckProtocol::Http,
        Some("https") => HealthCheckProtocol::Https,
        _ if local => HealthCheckProtocol::Http,
        _ => HealthCheckProtocol::Tcp,
    };
    let requests = protocol != HealthCheckProtocol::Tcp;
    let advanced = context.settings.features.advanced_health_checks;
    if !requests {
        for key in [keys::HEALTH_CHECK_PATH, keys::HEALTH_CHECK_CODES] {
            if let Some(written) = annotations.text(key) {
                let remedy = format!("set {}: http, or remove the annotation", keys::HEALTH_CHECK_PROTOCOL);
                found.push(Violation::warn("no-effect", key, written, "has no effect on TCP health checks", remedy));
            }
        }
    }
    let interval = annotations.integer(keys::HEALTH_CHECK_INTERVAL).unwrap_or(10);
    let timeout = annotations.integer(keys::HEALTH_CHECK_TIMEOUT).unwrap_or(if local { 6 } else { 10 });
    if advanced && timeout > interval && (5..=300).contains(&interval) && (2..=120).contains(&timeout) {
        let (key, value) = match annotations.text(keys::HEALTH_CHECK_TIMEOUT) {
            Some(written) => (keys::HEALTH_CHECK_TIMEOUT, written),
            None => (keys::HEALTH_CHECK_INTERVAL, annotations.text(keys::HEALTH_CHECK_INTERVAL).unwrap_or_default()),
        };
        let problem = format!("makes a timeout of {timeout} s longer than the interval of {interval} s");
        let remedy = format!("set {} to {interval} or less", keys::HEALTH_CHECK_TIMEOUT);
        found.push(Violation::deny("timeout-interval", key, value, problem, remedy));
    }
    let threshold = |key| annotations.integer(key).unwrap_or(if local { 2 } else { 3 });
    let path = || annotations.text(keys::HEALTH_CHECK_PATH).unwrap_or(if local { "/healthz" } else { "/" }).to_owned();
    let codes = || annotations.text(keys::HEALTH_CHECK_CODES).unwrap_or("200-399").to_owned();
    HealthCheck {
        health_check_protocol: protocol,
        health_check_port: port(context, found),
        health_check_path: requests.then(path),
        matcher: (requests && advanced).then(codes),
        health_check_interval_seconds: interval,
        health_check_timeout_seconds: advanced.then_some(timeout),
        healthy_threshold_count: threshold(keys::HEALTHY_THRESHOLD),
        unhealthy_threshold_count: threshold(keys::UNHEALTHY_THRESHOLD),
    }
}

/// The port that is checked: a number, or that of the traffic.
fn port(context: &Context, found: &mut Vec<Violation>) -> String {
    let Some(written) = context.annotations.text(keys::HEALTH_CHECK_PORT) else {
        return match context.spec.health_check_node_port.filter(|number| *number > 0 && context.is_local()) {
            Some(number) => number.to_string(),
            None => TRAFFIC_PORT.to_owned(),
        };
    };
    if written == TRAFFIC_PORT || written.parse::<i64>().is_ok() {
        return written.to_owned();
    }
    let Some(port) = context.ports.iter().find(|port| port.entry.name.as_deref() == Some(written)) else {
        let names = context.ports.iter().filter_map(|port| port.entry.name.as_deref()).collect::<Vec<_>>().join(", ");
        let remedy = format!("write traffic-port, a number, or the name of a Service port ({names})");
        found.push(Violation::deny(
            "no-such-port",
            keys::HEALTH_CHECK_PORT,
            written,
            "is no port of the Service",
            remedy,
        ));
        return TRAFFIC_PORT.to_owned();
    };
    match (context.target_type, &port.entry.target_port) {
        (TargetType::Instance, _) => match port.entry.node_port.filter(|number| *number > 0) {
            Some(number) => number.to_string(),
            // Not allocated yet.
            None => TRAFFIC_PORT.to_owned(),
        },
        (TargetType::Ip, Some(IntOrString::String(name))) => {
            let problem =
                format!("is a Service port whose target port is the name \"{name}\", which has no one number");
            let remedy = "write the number of the container port";
            found.push(Violation::deny("named-port", keys::HEALTH_CHECK_PORT, written, problem, remedy));
            TRAFFIC_PORT.to_owned()
        }
        (TargetType::Ip, _) => target_port(port),
    }
}

/// UDP cannot be checked: the load balancer opens TCP connections to the same port, and sends to all targets when none
/// of them answers.
pub(super) fn warn_udp(context: &Context, ports: &[ListenerPort], check: &HealthCheck, found: &mut Vec<Violation>) {
    if check.health_check_port != TRAFFIC_PORT {
        return;
    }
    let answered = |udp: &ListenerPort| {
        let mut tcp = context.ports.iter().filter(|port| port.protocol() == "TCP");
        context.target_type == TargetType::Ip && tcp.any(|port| target_port(port) == target_port(&udp.port))
    };
    let unanswered =
        |listener: &&ListenerPort| matches!(listener.protocol, Protocol::Udp | Protocol::Quic) && !answered(listener);
    if let Some(udp) = ports.iter().find(unanswered) {
        let written = context.annotations.text(keys::HEALTH_CHECK_PORT).unwrap_or_default();
        let problem = format!(
            "lets TCP health checks go to UDP port {}; if nothing answers them there, all targets are unhealthy and all get traffic",
            target_port(&udp.port)
        );
        let remedy = "write the number of a TCP port that tells whether the pod works";
        found.push(Violation::warn("udp-health-check", keys::HEALTH_CHECK_PORT, written, problem, remedy));
    }
}
