//! What a Service says about its load balancer, and what is wrong with it.

mod actions;
mod addresses;
mod health_check;
mod listeners;
mod load_balancer;
pub mod ownership;
mod review;
mod security_groups;
pub mod spec;
mod target_groups;
mod tls;
mod update;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};

pub use ownership::Ownership;
pub use review::review;
pub use spec::LoadBalancerSpec;
pub use target_groups::backend as backend_target_group;

use crate::{
    annotations::{self, Annotations, Object},
    names::Identity,
    settings::{ModelSettings, Scheme, TargetType},
    violation::{Severity, Violation},
};

/// What was read from a Service.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// Whose the Service is.
    pub ownership: Ownership,
    /// What it asks for. Always there: where a value is denied, this holds what the peer would have made of it (a
    /// mistyped target type is `instance`), or the default where the peer would have made nothing of it.
    pub spec: LoadBalancerSpec,
    /// Everything that is wrong with it, in the order of keys and fields.
    pub violations: Vec<Violation>,
}

impl Reading {
    /// What to build, or everything for which the Service is refused.
    pub fn accepted(&self) -> Result<&LoadBalancerSpec, Vec<&Violation>> {
        let denied: Vec<_> = self.violations.iter().filter(|violation| violation.severity == Severity::Deny).collect();
        if denied.is_empty() { Ok(&self.spec) } else { Err(denied) }
    }
}

/// Reads a Service for which no load balancer exists yet.
pub fn read(service: &Service, settings: &ModelSettings) -> Reading {
    read_existing(service, settings, None)
}

/// Reads a Service whose load balancer has this scheme, which holds if the Service does not say.
pub fn read_existing(service: &Service, settings: &ModelSettings, existing: Option<Scheme>) -> Reading {
    let context = Context::new(service, settings);
    let mut found = annotations::check(Object::Service, service.metadata.annotations.iter().flatten());
    found.extend(ownership::check(service, settings));
    let spec = load_balancer::read(&context, existing, &mut found);
    spare_what_has_no_effect(&mut found);
    found.sort_by(|one, other| (&one.key, one.rule, &one.value).cmp(&(&other.key, other.rule, &other.value)));
    found.dedup();
    Reading { ownership: ownership::of(service, settings), spec, violations: found }
}

/// Reads a Service that may have a load balancer, whose scheme is not known. If the Service does not say the scheme, what is
/// wrong under the default scheme alone does not refuse it, unless something else is wrong under the other one.
pub fn read_undecided(service: &Service, settings: &ModelSettings) -> Reading {
    let mut reading = read(service, settings);
    if reading.spec.scheme_given || reading.accepted().is_ok() {
        return reading;
    }
    let other = reading.spec.scheme.other();
    let under_other = read_existing(service, settings, Some(other));
    let denies = |violations: &[Violation], one: &Violation| {
        violations.iter().any(|found| found.severity == Severity::Deny && found.identity() == one.identity())
    };
    let under_neither = under_other
        .accepted()
        .is_err_and(|refused| refused.into_iter().any(|violation| !denies(&reading.violations, violation)));
    if under_neither {
        return reading;
    }
    for violation in &mut reading.violations {
        if violation.severity == Severity::Deny && !denies(&under_other.violations, violation) {
            violation.severity = Severity::Warn;
            violation.problem = format!("{}, unless the one that exists is {}", violation.problem, other.as_str());
        }
    }
    reading
}

/// A value that nobody reads is no reason to refuse the Service, whatever it looks like and whatever family it is of.
fn spare_what_has_no_effect(found: &mut [Violation]) {
    let without_effect: std::collections::BTreeSet<String> =
        found.iter().filter(|violation| violation.rule == "no-effect").map(|violation| violation.key.clone()).collect();
    for violation in found {
        if matches!(violation.rule, "value" | "ipv6") && without_effect.contains(&violation.key) {
            violation.severity = Severity::Warn;
        }
    }
}

/// A Service taken apart once, for all topics.
struct Context<'a> {
    settings: &'a ModelSettings,
    annotations: Annotations<'a>,
    spec: &'a ServiceSpec,
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
    /// The ports whose numbers are ports, with their place in `spec.ports`.
    ports: Vec<Port<'a>>,
    target_type: TargetType,
}

/// A port of a Service.
#[derive(Clone, Copy)]
struct Port<'a> {
    index: usize,
    number: u16,
    entry: &'a ServicePort,
}

impl<'a> Port<'a> {
    /// `TCP`, `UDP` or `SCTP`.
    fn protocol(&self) -> &'a str {
        self.entry.protocol.as_deref().unwrap_or("TCP")
    }

    /// The path of one of its fields.
    fn path(&self, field: &str) -> String {
        format!("spec.ports[{}].{field}", self.index)
    }

    /// Whether an item of a list means this port, by number or by name.
    fn is(&self, item: &str) -> bool {
        self.entry.name.as_deref() == Some(item) || item.parse() == Ok(self.number)
    }
}

impl<'a> Context<'a> {
    fn new(service: &'a Service, settings: &'a ModelSettings) -> Self {
        static NOTHING: std::sync::LazyLock<ServiceSpec> = std::sync::LazyLock::new(ServiceSpec::default);
        let annotations = Annotations::new(service.metadata.annotations.as_ref());
        let spec = service.spec.as_ref().unwrap_or(&NOTHING);
        let number = |entry: &ServicePort| u16::try_from(entry.port).ok().filter(|number| *number > 0);
        let ports = spec
            .ports
            .iter()
            .flatten()
            .enumerate()
            .filter_map(|(index, entry)| Some(Port { index, number: number(entry)?, entry }))
            .collect();
        Self {
            settings,
            annotations,
            spec,
            namespace: service.metadata.namespace.as_deref().unwrap_or_default(),
            name: service.metadata.name.as_deref().unwrap_or_default(),
            uid: service.metadata.uid.as_deref().unwrap_or_default(),
            ports,
            target_type: target_groups::target_type(annotations, settings),
        }
    }

    fn identity(&self) -> Identity<'a> {
        Identity { cluster: &self.settings.cluster_name, namespace: self.namespace, name: self.name, uid: self.uid }
    }

    fn stack(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn is_load_balancer(&self) -> bool {
        self.spec.type_.as_deref() == Some("LoadBalancer")
    }

    /// Health checks that ask whether a node has pods of the Service.
    fn is_local(&self) -> bool {
        self.target_type == TargetType::Instance
            && self.is_load_balancer()
            && self.spec.external_traffic_policy.as_deref() == Some("Local")
    }

    fn has_ipv6(&self) -> bool {
        self.spec.ip_families.iter().flatten().any(|family| family == "IPv6")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ranges_of_the_spec_that_nobody_reads_refuse_nothing_whatever_family_they_are_of() {
        let with = |annotations: serde_json::Value| -> Service {
            serde_json::from_value(json!({
                "metadata": {"namespace": "shop", "name": "web", "annotations": annotations},
                "spec": {
                    "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb",
                    "ports": [{"name": "http", "port": 80}], "loadBalancerSourceRanges": ["0.0.0.0/0", "::/0"],
                },
            }))
            .unwrap()
        };
        let groups = json!({"service.beta.kubernetes.io/aws-load-balancer-security-groups": "sg-0123abcd"});
        let settings = ModelSettings::default();
        assert!(read(&with(groups), &settings).accepted().is_ok());
        assert!(read(&with(json!({})), &settings).accepted().is_err(), "they are read");
    }
}
