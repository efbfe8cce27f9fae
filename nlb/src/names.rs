//! Names of AWS resources, computed as the peer computes them, so that what it made is found again.
//!
//! A name is `k8s-<8 of the namespace>-<8 of the Service>-<10 hexadecimal digits>`: both parts stripped to ASCII letters
//! and digits, then cut; the digits are the beginning of a SHA-256 over what would make another resource necessary.

use ring::digest::{SHA256, digest};

/// Who a Service is, as far as names depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity<'a> {
    /// Name of the cluster.
    pub cluster: &'a str,
    /// Namespace of the Service.
    pub namespace: &'a str,
    /// Name of the Service.
    pub name: &'a str,
    /// UID of the Service; empty if it is not known yet.
    pub uid: &'a str,
}

/// What the name of a target group depends on, besides the Service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetGroupTraits<'a> {
    /// UID of the Service whose listener forwards here by weight, if that is another one.
    pub base_uid: Option<&'a str>,
    /// Port of the target group, `0` if it has none yet.
    pub port: u16,
    /// Number of the Service port.
    pub service_port: u16,
    /// `instance` or `ip`.
    pub target_type: &'a str,
    /// `TCP`, `TLS`, `UDP`, `TCP_UDP`, `QUIC` or `TCP_QUIC`.
    pub protocol: &'a str,
    /// `TCP`, `HTTP` or `HTTPS`.
    pub health_check_protocol: &'a str,
    /// Seconds.
    pub health_check_interval: i32,
}

/// The name of a Service's load balancer.
pub fn load_balancer(identity: &Identity, scheme: &str) -> String {
    stacked(identity, &[identity.cluster, identity.uid, scheme])
}

/// The name of a target group, which is also that of its binding.
pub fn target_group(identity: &Identity, traits: &TargetGroupTraits) -> String {
    let mut parts = vec![identity.cluster];
    parts.extend(traits.base_uid);
    let numbers = [traits.port.to_string(), traits.service_port.to_string(), traits.health_check_interval.to_string()];
    parts.extend([
        identity.uid,
        &numbers[0],
        &numbers[1],
        traits.target_type,
        traits.protocol,
        traits.health_check_protocol,
        &numbers[2],
    ]);
    stacked(identity, &parts)
}

/// The name of a Service's managed security group.
pub fn security_group(identity: &Identity) -> String {
    stacked(identity, &[identity.cluster, identity.name, identity.namespace, identity.uid])
}

/// The name of the security group that all load balancers of a cluster share towards their targets.
pub fn backend_security_group(cluster: &str) -> String {
    format!("k8s-traffic-{}-{}", alphanumeric(cluster, 232), hash(&[cluster]))
}

/// The name of the `ConfigMap` that records which targets of a shared target group are this cluster's.
pub fn shared_targets(binding: &str) -> String {
    format!("aws-lbc-targets-{binding}")
}

fn stacked(identity: &Identity, hashed: &[&str]) -> String {
    format!("k8s-{}-{}-{}", alphanumeric(identity.namespace, 8), alphanumeric(identity.name, 8), hash(hashed))
}

fn alphanumeric(text: &str, most: usize) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).take(most).collect()
}

/// The first ten hexadecimal digits of the SHA-256 of all parts, one after the other.
fn hash(parts: &[&str]) -> String {
    let digest = digest(&SHA256, parts.concat().as_bytes());
    let digits = digest.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.take(10).filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "bdca2bd0-bfc6-449a-88a3-03451f05f18c";

    fn identity<'a>(cluster: &'a str, namespace: &'a str, name: &'a str, uid: &'a str) -> Identity<'a> {
        Identity { cluster, namespace, name, uid }
    }

    #[test]
    fn load_balancers_are_named_as_the_peer_names_them() {
        assert_eq!(load_balancer(&identity("", "foo", "bar", ""), "internet-facing"), "k8s-foo-bar-e053368fb2");
        let service = identity("my-cluster", "default", "nlb-ip-svc", UID);
        assert_eq!(load_balancer(&service, "internet-facing"), "k8s-default-nlbipsvc-4d831c6ca6");
        assert_eq!(load_balancer(&service, "internal"), "k8s-default-nlbipsvc-6b0ba8ff70");
    }

    #[test]
    fn target_groups_are_named_as_the_peer_names_them() {
        let traits = TargetGroupTraits {
            base_uid: None,
            port: 80,
            service_port: 80,
            target_type: "ip",
            protocol: "TCP",
            health_check_protocol: "TCP",
            health_check_interval: 10,
        };
        let name = target_group(&identity("my-cluster", "default", "nlb-ip-svc", UID), &traits);
        assert_eq!(name, "k8s-default-nlbipsvc-d4818dcd51");
    }

    #[test]
    fn names_never_exceed_32_characters() {
        let long = "x-".repeat(40);
        let identity = identity("c", &long, &long, UID);
        assert_eq!(load_balancer(&identity, "internal").len(), 32);
        assert_eq!(security_group(&identity).len(), 32);
        assert_eq!(backend_security_group(&"c".repeat(300)).len(), 12 + 232 + 1 + 10);
    }
}
