//! Tags by which what a Service caused in AWS is found again, and the tags that a Service asks for.

use std::collections::BTreeMap;

use crate::{
    annotations::forms,
    settings::ModelSettings,
    violation::{Violation, excerpt},
};

/// On everything: the cluster's name.
pub const CLUSTER: &str = "elbv2.k8s.aws/cluster";
/// On everything of one Service: `<namespace>/<name>`.
pub const STACK: &str = "service.k8s.aws/stack";
/// On everything of one Service: which of its resources it is.
pub const RESOURCE: &str = "service.k8s.aws/resource";
/// On the security group that all load balancers of a cluster share, with the value [`BACKEND_GROUP`].
pub const BACKEND_RESOURCE: &str = "elbv2.k8s.aws/resource";
/// See [`BACKEND_RESOURCE`].
pub const BACKEND_GROUP: &str = "backend-sg";
/// On target groups made by others: the namespaces that may bind them, as a list or `*`.
pub const NAMESPACES: &str = "elbv2.k8s.aws/namespaces";
/// Labels of the bindings that are made for a Service.
pub const STACK_LABELS: [&str; 2] = ["service.k8s.aws/stack-namespace", "service.k8s.aws/stack-name"];
/// Finalizer of Services that have a load balancer.
pub const SERVICE_FINALIZER: &str = "service.k8s.aws/resources";
/// Finalizer of bindings.
pub const BINDING_FINALIZER: &str = "elbv2.k8s.aws/resources";
/// Value of [`RESOURCE`] on the load balancer.
pub const LOAD_BALANCER: &str = "LoadBalancer";
/// Value of [`RESOURCE`] on the managed security group.
pub const SECURITY_GROUP: &str = "ManagedLBSecurityGroup";

/// The rule that too many tags break.
pub(crate) const TOO_MANY: &str = "too-many-tags";
/// How many tags AWS takes on one resource.
const MOST: usize = 50;

/// Value of [`RESOURCE`] on a target group and its binding.
pub fn target_group_resource(namespace: &str, service: &str, port: u16) -> String {
    format!("{namespace}/{service}:{port}")
}

/// The tags of one resource: those asked for, the configured defaults, and those by which it is found. The later win,
/// unless the settings let those asked for win over the defaults.
pub fn of_resource(
    settings: &ModelSettings,
    asked: &BTreeMap<String, String>,
    stack: &str,
    resource: &str,
) -> BTreeMap<String, String> {
    let (first, second) = if settings.features.default_tags_low_priority {
        (&settings.default_tags, asked)
    } else {
        (asked, &settings.default_tags)
    };
    let tracking = [(CLUSTER, settings.cluster_name.as_str()), (STACK, stack), (RESOURCE, resource)]
        .map(|(k, v)| (k.to_owned(), v.to_owned()));
    first.clone().into_iter().chain(second.clone()).chain(tracking).collect()
}

/// What is wrong with the tags that a Service asks for, whatever the settings.
pub(crate) fn check(key: &str, asked: &BTreeMap<String, String>) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (name, value) in asked {
        let written = format!("{name}={value}");
        let mut deny =
            |problem: &str, remedy: &str| violations.push(Violation::deny("tag", key, &written, problem, remedy));
        if name.to_ascii_lowercase().starts_with("aws:") {
            deny("has a key that begins with \"aws:\", which AWS keeps for itself", "choose another key");
        }
        if name.chars().count() > 128 {
            deny("has a key of more than 128 characters", "shorten the key");
        }
        if value.chars().count() > 256 {
            deny("has a value of more than 256 characters", "shorten the value");
        }
        if !forms::is_tag_text(name) || !forms::is_tag_text(value) {
            deny("has characters that AWS does not take in tags", "use letters, digits, blanks and + - = . _ : / @");
        }
        if [CLUSTER, STACK, RESOURCE].contains(&name.as_str()) {
            let problem = format!("{} is set by Sluice, the value given here has no effect", excerpt(name));
            violations.push(Violation::warn("no-effect", key, &written, problem, "remove it"));
        }
    }
    violations
}

/// What is wrong with the tags that a Service asks for, under these settings.
pub(crate) fn check_against_settings(
    key: &str,
    asked: &BTreeMap<String, String>,
    settings: &ModelSettings,
) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (name, value) in asked {
        let written = format!("{name}={value}");
        if settings.external_managed_tags.contains(name) {
            let problem =
                format!("{} is one of the tags that are managed elsewhere (externalManagedTags)", excerpt(name));
            violations.push(Violation::deny("managed-elsewhere", key, &written, problem, "remove it"));
        } else if !settings.features.default_tags_low_priority
            && settings.default_tags.get(name).is_some_and(|default| default != value)
        {
            let problem = format!("{} is one of the configured default tags, which win", excerpt(name));
            violations.push(Violation::warn("no-effect", key, &written, problem, "remove it"));
        }
    }
    let count = of_resource(settings, asked, "", "").len();
    if count > MOST {
        let problem = format!("makes {count} tags together with those that Sluice sets, AWS takes {MOST}");
        violations.push(Violation::deny(TOO_MANY, key, &asked.len().to_string(), problem, "ask for fewer tags"));
    }
    violations
}
