//! Which ports are TLS, and the settings that only TLS listeners have.

use super::{Context, Port, listeners::ListenerPort, spec::Protocol};
use crate::{
    annotations::{forms::Arn, keys},
    violation::{Severity, Violation},
};

/// Which ports are to be TLS.
pub(super) struct TlsPorts<'a> {
    certificates: bool,
    named: Option<Vec<&'a str>>,
}

impl<'a> TlsPorts<'a> {
    pub(super) fn read(context: &Context<'a>, found: &mut Vec<Violation>) -> Self {
        let certificates = certificates(context);
        let named = context.annotations.list(keys::SSL_PORTS).filter(|items| !items.is_empty());
        let mut unknown = Vec::new();
        let mut udp = Vec::new();
        for item in named.iter().flatten().copied() {
            let mut meant = context.ports.iter().filter(|port| port.is(item)).peekable();
            if meant.peek().is_none() {
                unknown.push(item);
            } else if meant.all(|port| port.protocol() == "UDP") {
                udp.push(item);
            }
        }
        let remedy = if unknown == ["*"] {
            format!("remove {} to have TLS on every port", keys::SSL_PORTS)
        } else {
            "name ports of the Service by number or name".to_owned()
        };
        let problem = "is no port of the Service";
        found.extend(Violation::of_items(Severity::Deny, "no-such-port", keys::SSL_PORTS, &unknown, problem, remedy));
        let problem = "is a UDP port, which cannot be TLS, and has no effect";
        found.extend(Violation::of_items(Severity::Warn, "no-effect", keys::SSL_PORTS, &udp, problem, "remove it"));
        if let Some(written) = context.annotations.text(keys::SSL_PORTS)
            && certificates.is_empty()
            && named.is_some()
        {
            let problem = "asks for TLS, but without a certificate these ports are served in plain text";
            let remedy = format!("add {}: <certificate ARN>, or remove the annotation", keys::SSL_CERT);
            found.push(Violation::deny("no-certificate", keys::SSL_PORTS, written, problem, remedy));
        }
        check_regions(context, &certificates, found);
        Self { certificates: !certificates.is_empty(), named }
    }

    pub(super) fn has(&self, port: &Port) -> bool {
        self.certificates && self.named.as_ref().is_none_or(|items| items.iter().any(|item| port.is(item)))
    }

    /// Whether TLS is asked for on this very port.
    pub(super) fn named(&self, port: &Port) -> bool {
        self.certificates && self.named.as_ref().is_some_and(|items| items.iter().any(|item| port.is(item)))
    }
}

/// The certificates, the default one first.
pub(super) fn certificates<'a>(context: &Context<'a>) -> Vec<&'a str> {
    context.annotations.list(keys::SSL_CERT).unwrap_or_default()
}

fn check_regions(context: &Context, certificates: &[&str], found: &mut Vec<Violation>) {
    let Some(region) = &context.settings.region else { return };
    for arn in certificates {
        if let Some(parsed) = Arn::parse(arn)
            && parsed.is_certificate()
            && parsed.service == "acm"
            && parsed.region != region
        {
            let problem = format!("is a certificate of {}, but the load balancer is in {region}", parsed.region);
            let remedy = format!("use a certificate of {region}");
            found.push(Violation::deny("region", keys::SSL_CERT, arn, problem, remedy));
        }
    }
}

/// Settings of TLS listeners where there is none, and protocols towards targets that are not known.
pub(super) fn warn_without_tls(context: &Context, listeners: &[ListenerPort], found: &mut Vec<Violation>) {
    let tls = listeners.iter().any(|listener| listener.protocol == Protocol::Tls);
    for key in [keys::SSL_POLICY, keys::ALPN] {
        if let Some(written) = context.annotations.text(key).filter(|_| !tls) {
            let remedy = format!("add {}, or remove the annotation", keys::SSL_CERT);
            found.push(Violation::warn("no-effect", key, written, "has no effect: no listener is TLS", remedy));
        }
    }
    let Some(written) = context.annotations.text(keys::BACKEND_PROTOCOL) else { return };
    let lower = written.trim().to_ascii_lowercase();
    match (written, tls) {
        ("tcp", _) | ("ssl", true) => {}
        ("http", _) => {
            let problem = "means plain TCP here: a Network Load Balancer does not read HTTP";
            found.push(Violation::warn("backend-protocol", keys::BACKEND_PROTOCOL, written, problem, "write tcp"));
        }
        (_, false) => {
            let problem = "has no effect: no listener is TLS, connections are passed on as they come";
            found.push(Violation::warn(
                "no-effect",
                keys::BACKEND_PROTOCOL,
                written,
                problem,
                "write tcp, or remove the annotation",
            ));
        }
        (_, true) => {
            let remedy = if ["ssl", "tls", "https"].contains(&lower.as_str()) {
                "write ssl to talk TLS to the targets"
            } else {
                "write ssl to talk TLS to the targets, or tcp not to"
            };
            let problem = "is not known, so targets would be reached in plain text";
            found.push(Violation::deny("backend-protocol", keys::BACKEND_PROTOCOL, written, problem, remedy));
        }
    }
}
