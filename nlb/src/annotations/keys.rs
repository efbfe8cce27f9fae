//! The keys, how one that was written is found in the table, and what is said of one that is not there.

use super::{Annotation, Object, TABLE, Tail, elsewhere};
use crate::violation::Violation;

/// What the keys of the family on Services begin with.
pub const FAMILY: &str = "service.beta.kubernetes.io/aws-load-balancer-";
/// What the keys of Sluice and of the peer on other objects begin with.
pub const OWN: &str = "elbv2.k8s.aws/";

/// Keys further from every known one than this many typing errors get no suggestion.
const NEAR: usize = 4;
/// Of how many unknown keys of one object the nearest known key is looked up; more than that are not typing errors.
const LOOKED_UP: usize = 20;

macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal $suffix:literal;)*) => {
        $(#[doc = concat!("`", $prefix, $suffix, "`")] pub const $name: &str = concat!($prefix, $suffix);)*
    };
}

keys! {
    TYPE = "service.beta.kubernetes.io/aws-load-balancer-" "type";
    TARGET_TYPE = "service.beta.kubernetes.io/aws-load-balancer-" "nlb-target-type";
    NAME = "service.beta.kubernetes.io/aws-load-balancer-" "name";
    SCHEME = "service.beta.kubernetes.io/aws-load-balancer-" "scheme";
    INTERNAL = "service.beta.kubernetes.io/aws-load-balancer-" "internal";
    IP_ADDRESS_TYPE = "service.beta.kubernetes.io/aws-load-balancer-" "ip-address-type";
    SUBNETS = "service.beta.kubernetes.io/aws-load-balancer-" "subnets";
    EIP_ALLOCATIONS = "service.beta.kubernetes.io/aws-load-balancer-" "eip-allocations";
    PRIVATE_IPV4_ADDRESSES = "service.beta.kubernetes.io/aws-load-balancer-" "private-ipv4-addresses";
    IPV6_ADDRESSES = "service.beta.kubernetes.io/aws-load-balancer-" "ipv6-addresses";
    SOURCE_NAT = "service.beta.kubernetes.io/aws-load-balancer-" "enable-prefix-for-ipv6-source-nat";
    SOURCE_NAT_PREFIXES = "service.beta.kubernetes.io/aws-load-balancer-" "source-nat-ipv6-prefixes";
    ALLOW_REPLACEMENT = "service.beta.kubernetes.io/aws-load-balancer-" "allow-replacement";
    SECURITY_GROUPS = "service.beta.kubernetes.io/aws-load-balancer-" "security-groups";
    MANAGE_BACKEND_RULES = "service.beta.kubernetes.io/aws-load-balancer-" "manage-backend-security-group-rules";
    DISABLE_SECURITY_GROUPS = "service.beta.kubernetes.io/aws-load-balancer-" "disable-nlb-sg";
    SOURCE_RANGES = "service.beta.kubernetes.io/" "load-balancer-source-ranges";
    PREFIX_LISTS = "service.beta.kubernetes.io/aws-load-balancer-" "security-group-prefix-lists";
    PRIVATE_LINK_RULES = "service.beta.kubernetes.io/aws-load-balancer-" "inbound-sg-rules-on-private-link-traffic";
    ICMP = "service.beta.kubernetes.io/aws-load-balancer-" "enable-icmp-for-path-mtu-discovery";
    ATTRIBUTES = "service.beta.kubernetes.io/aws-load-balancer-" "attributes";
    ACCESS_LOG_ENABLED = "service.beta.kubernetes.io/aws-load-balancer-" "access-log-enabled";
    ACCESS_LOG_BUCKET = "service.beta.kubernetes.io/aws-load-balancer-" "access-log-s3-bucket-name";
    ACCESS_LOG_PREFIX = "service.beta.kubernetes.io/aws-load-balancer-" "access-log-s3-bucket-prefix";
    CROSS_ZONE = "service.beta.kubernetes.io/aws-load-balancer-" "cross-zone-load-balancing-enabled";
    CAPACITY = "service.beta.kubernetes.io/aws-load-balancer-" "minimum-load-balancer-capacity";
    TAGS = "service.beta.kubernetes.io/aws-load-balancer-" "additional-resource-tags";
    SSL_CERT = "service.beta.kubernetes.io/aws-load-balancer-" "ssl-cert";
    SSL_PORTS = "service.beta.kubernetes.io/aws-load-balancer-" "ssl-ports";
    SSL_POLICY = "service.beta.kubernetes.io/aws-load-balancer-" "ssl-negotiation-policy";
    BACKEND_PROTOCOL = "service.beta.kubernetes.io/aws-load-balancer-" "backend-protocol";
    ALPN = "service.beta.kubernetes.io/aws-load-balancer-" "alpn-policy";
    LISTENER_ATTRIBUTES = "service.beta.kubernetes.io/aws-load-balancer-" "listener-attributes.";
    TCP_UDP_LISTENER = "service.beta.kubernetes.io/aws-load-balancer-" "enable-tcp-udp-listener";
    QUIC_PORTS = "service.beta.kubernetes.io/aws-load-balancer-" "quic-enabled-ports";
    ACTIONS = "service.beta.kubernetes.io/" "actions.";
    TARGET_GROUP_ATTRIBUTES = "service.beta.kubernetes.io/aws-load-balancer-" "target-group-attributes";
    TARGET_GROUP_ATTRIBUTES_OF_PORT = "service.beta.kubernetes.io/aws-load-balancer-" "target-group-attributes.";
    PROXY_PROTOCOL = "service.beta.kubernetes.io/aws-load-balancer-" "proxy-protocol";
    PROXY_PROTOCOL_PORTS = "service.beta.kubernetes.io/aws-load-balancer-" "proxy-protocol-per-target-group";
    NODE_LABELS = "service.beta.kubernetes.io/aws-load-balancer-" "target-node-labels";
    MULTI_CLUSTER = "service.beta.kubernetes.io/aws-load-balancer-" "multi-cluster-target-group";
    POD_DRAIN = "service.beta.kubernetes.io/aws-load-balancer-" "pod-drain";
    HEALTH_CHECK_PROTOCOL = "service.beta.kubernetes.io/aws-load-balancer-" "healthcheck-protocol";
    HEALTH_CHECK_PORT = "service.beta.kubernetes.io/aws-load-balancer-" "healthcheck-port";
    HEALTH_CHECK_PATH = "service.beta.kubernetes.io/aws-load-balancer-" "healthcheck-path";
    HEALTH_CHECK_CODES = "service.beta.kubernetes.io/aws-load-balancer-" "healthcheck-success-codes";
    HEALTH_CHECK_INTERVAL = "service.beta.kubernetes.io/aws-load-balancer-" "healthcheck-interval";
    HEALTH_CHECK_TIMEOUT = "service.beta.kubernetes.io/aws-load-balancer-" "healthcheck-timeout";
    HEALTHY_THRESHOLD = "service.beta.kubernetes.io/aws-load-balancer-" "healthcheck-healthy-threshold";
    UNHEALTHY_THRESHOLD = "service.beta.kubernetes.io/aws-load-balancer-" "healthcheck-unhealthy-threshold";
    QUIC_CONTAINERS = "service.beta.kubernetes.io/aws-load-balancer-" "quic-enabled-containers";
    MANAGED_FIELDS = "elbv2.k8s.aws/" "managed-fields";
    POD_DRAIN_OF_POD = "elbv2.k8s.aws/" "pod-drain";
    GATE_NOT_IN_USE = "elbv2.k8s.aws/" "gate-not-in-use";
    GATE_TIMEOUT = "elbv2.k8s.aws/" "gate-timeout";
    CHECKPOINT = "elbv2.k8s.aws/" "checkpoint";
    CHECKPOINT_TIMESTAMP = "elbv2.k8s.aws/" "checkpoint-timestamp";
}

/// The row of a key on an object of this kind, with the tail if the row wants one.
pub fn find(object: Object, key: &str) -> Option<&'static Annotation> {
    TABLE.iter().filter(|row| row.object == object).find(|row| match row.tail {
        Tail::None => row.key == key,
        Tail::Port => tail(row, key).is_some_and(|tail| port(tail).is_some()),
        Tail::Listener => tail(row, key).is_some_and(|tail| listener(tail).is_some()),
    })
}

/// What follows the fixed part of a row's key.
pub fn tail<'a>(row: &Annotation, key: &'a str) -> Option<&'a str> {
    key.strip_prefix(row.key)
}

/// A port number as the tail of a key.
pub fn port(tail: &str) -> Option<u16> {
    tail.parse().ok().filter(|number| *number > 0 && tail.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Protocol and port number as the tail of a key: `TCP-80`. The protocol is not checked against anything.
pub fn listener(tail: &str) -> Option<(&str, u16)> {
    let (protocol, number) = tail.rsplit_once('-')?;
    let known = ["TCP", "UDP", "TLS", "TCP_UDP", "QUIC", "TCP_QUIC"].contains(&protocol);
    known.then_some(())?;
    Some((protocol, port(number)?))
}

/// The unknown keys of one object: of the first few the nearest known key is looked up.
#[derive(Default)]
pub(super) struct Unknown {
    seen: usize,
}

impl Unknown {
    /// What is to be said of a key that the table does not have for this kind of object; nothing if it is none of ours.
    pub(super) fn check(&mut self, object: Object, key: &str, value: &str) -> Option<Violation> {
        if let Some(other) = TABLE.iter().find(|row| row.key == key && row.object != object) {
            let place = match other.object {
                Object::Service => "Services",
                Object::Pod => "pods (for a Deployment: on its pod template)",
                Object::TargetGroupBinding => "TargetGroupBindings",
            };
            return Some(Violation::warn(
                "misplaced-key",
                key,
                value,
                format!("has no effect here, it is read on {place}"),
                "",
            ));
        }
        if object == Object::Service
            && let Some(remedy) = elsewhere::in_tree_only(key)
        {
            let problem = "is read by the in-tree controller only and has no effect on this load balancer";
            return Some(Violation::warn("in-tree-key", key, value, problem, remedy));
        }
        if let Some(row) =
            TABLE.iter().find(|row| row.tail != Tail::None && row.object == object && key.starts_with(row.key))
        {
            let form = match row.tail {
                Tail::Port => "a port number, for example \"80\"",
                _ => "protocol and port of a listener, for example \"TCP-80\"",
            };
            let problem = "does not name what it is for, so it has no effect";
            return Some(Violation::warn("unknown-key", key, value, problem, format!("end the key with {form}")));
        }
        let ours = key.starts_with(FAMILY) || key.starts_with(OWN);
        if !ours && !key.contains("kubernetes.io/") && !key.contains(OWN.trim_end_matches('/')) {
            return None;
        }
        self.seen += 1;
        let nearest = if self.seen <= LOOKED_UP { nearest(object, key) } else { None };
        match nearest {
            Some(known) => {
                Some(Violation::warn("unknown-key", key, value, "is not a known key", format!("did you mean {known}?")))
            }
            None if ours => Some(Violation::warn("unknown-key", key, value, "is not a known key", "")),
            None => None,
        }
    }
}

/// The known key that a mistyped one probably was meant to be.
pub fn nearest(object: Object, key: &str) -> Option<String> {
    if key.len() > 200 {
        return None;
    }
    let written = key.to_ascii_lowercase();
    let ours = written.starts_with(FAMILY) || written.starts_with(OWN);
    let (_, name) = written.split_once('/')?;
    let mut best: Option<(usize, String)> = None;
    for row in TABLE.iter().filter(|row| row.object == object) {
        let (_, known) = row.key.split_once('/').unwrap_or(("", row.key));
        // A key with a tail is compared by its fixed part and gets its tail back.
        let (name, tail) = match row.tail {
            Tail::None => (name, ""),
            _ => name.split_once('.').map_or((name, ""), |(fixed, tail)| (fixed, tail)),
        };
        let known = known.trim_end_matches('.');
        // Only the part after what all keys share is looked at, so that short names do not resemble each other.
        let shared = "aws-load-balancer-";
        let (short, known_short) = match (name.strip_prefix(shared), known.strip_prefix(shared)) {
            (Some(name), Some(known)) => (name, known),
            _ => (name, known),
        };
        let distance = strsim::osa_distance(short, known_short);
        let allowed = if ours { NEAR.min(known_short.len() / 3) } else { 2.min(known_short.len() / 8) };
        if distance <= allowed && best.as_ref().is_none_or(|(least, _)| distance < *least) {
            let tail = if tail.is_empty() { String::new() } else { key[key.len() - tail.len()..].to_owned() };
            best = Some((distance, format!("{}{tail}", row.key)));
        }
    }
    best.map(|(_, known)| known).filter(|known| known != key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_key_gets_the_nearest_known_one() {
        for (written, meant) in [
            ("service.beta.kubernetes.io/aws-load-balancer-nlb-target-typ", TARGET_TYPE),
            ("service.beta.kubernetes.io/aws-load-balancer-shceme", SCHEME),
            ("service.beta.kubernetes.io/aws-load-balancer-Scheme", SCHEME),
            ("service.beta.kubernetes.io/aws-loadbalancer-healthcheck-path", HEALTH_CHECK_PATH),
            ("service.kubernetes.io/aws-load-balancer-scheme", SCHEME),
            ("service.beta.kubernetes.io/aws-load-balancer-source-ranges", SOURCE_RANGES),
            (
                "service.beta.kubernetes.io/aws-load-balancer-target-group-attribute.8080",
                "service.beta.kubernetes.io/aws-load-balancer-target-group-attributes.8080",
            ),
        ] {
            assert_eq!(nearest(Object::Service, written).as_deref(), Some(meant), "{written}");
        }
    }

    #[test]
    fn keys_of_others_are_none_of_our_business() {
        for key in [
            "service.beta.kubernetes.io/azure-load-balancer-internal",
            "service.beta.kubernetes.io/do-loadbalancer-name",
            "kubectl.kubernetes.io/last-applied-configuration",
            "meta.helm.sh/release-name",
            "alb.ingress.kubernetes.io/healthcheck-path",
            "a/b",
            "plain",
        ] {
            assert_eq!(Unknown::default().check(Object::Service, key, ""), None, "{key}");
        }
    }

    #[test]
    fn every_key_of_the_table_is_found_and_used_once() {
        let mut seen = std::collections::BTreeSet::new();
        for row in TABLE {
            let tail = match row.tail {
                Tail::None => "",
                Tail::Port => "8080",
                Tail::Listener => "TCP_UDP-53",
            };
            let key = format!("{}{tail}", row.key);
            assert_eq!(find(row.object, &key).map(|found| found.key), Some(row.key), "{key}");
            assert!(seen.insert((row.key, format!("{:?}", row.object))), "{} is there twice", row.key);
            assert!(row.instead.is_none_or(|instead| TABLE.iter().any(|row| row.key == instead)), "{}", row.key);
        }
    }

    #[test]
    fn the_table_has_all_annotations_of_the_peer() {
        let ours = [ALLOW_REPLACEMENT, POD_DRAIN, MANAGED_FIELDS];
        let of_services = TABLE.iter().filter(|row| row.object == Object::Service && !ours.contains(&row.key));
        // 47 names, one of which stands here with and without a port, and the actions of listeners.
        assert_eq!(of_services.count(), 47 + 1 + 1);
        assert!(find(Object::Pod, QUIC_CONTAINERS).is_some());
    }

    #[test]
    fn tails_are_ports_and_listeners() {
        for (tail, expected) in
            [("80", Some(80)), ("0", None), ("65536", None), ("+80", None), ("http", None), ("", None)]
        {
            assert_eq!(port(tail), expected, "{tail}");
        }
        for (tail, expected) in [
            ("TCP-80", Some(("TCP", 80))),
            ("TCP_UDP-53", Some(("TCP_UDP", 53))),
            ("tcp-80", None),
            ("TCP-", None),
            ("80", None),
        ] {
            assert_eq!(listener(tail), expected, "{tail}");
        }
    }
}
