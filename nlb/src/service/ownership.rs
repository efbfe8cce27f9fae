//! Which Services are ours.

use k8s_openapi::api::core::v1::Service;

use crate::{
    annotations::{Annotations, keys},
    settings::ModelSettings,
    violation::Violation,
};

/// Whose a Service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Ours: a load balancer is made for it.
    Ours,
    /// Not ours, but it asks for a controller of our kind or has annotations of the family, so that it is looked at.
    Related,
    /// None of our business.
    Foreign,
}

/// Whose a Service is. One that is being deleted is not ours, as far as building is concerned.
pub fn of(service: &Service, settings: &ModelSettings) -> Ownership {
    let annotations = Annotations::new(service.metadata.annotations.as_ref());
    if is_ours(service, annotations, settings) {
        return Ownership::Ours;
    }
    let keys = service.metadata.annotations.iter().flatten().map(|(key, _)| key);
    let family = |key: &String| {
        key.starts_with(keys::FAMILY)
            || key.starts_with(keys::ACTIONS)
            || key.starts_with(keys::OWN)
            || key == keys::SOURCE_RANGES
    };
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    if class == Some(settings.load_balancer_class.as_str()) || keys.into_iter().any(family) {
        Ownership::Related
    } else {
        Ownership::Foreign
    }
}

fn is_ours(service: &Service, annotations: Annotations, settings: &ModelSettings) -> bool {
    if service.metadata.deletion_timestamp.is_some() {
        return false;
    }
    let Some(spec) = &service.spec else { return false };
    if settings.features.service_type_load_balancer_only && spec.type_.as_deref() != Some("LoadBalancer") {
        return false;
    }
    if let Some(class) = &spec.load_balancer_class {
        return *class == settings.load_balancer_class;
    }
    match annotations.text(keys::TYPE) {
        Some("nlb-ip") => true,
        // The peer leaves a Service with any other target type alone without a word. It asks for nobody but us, so it
        // is ours, and the target type is a violation for which nothing is built.
        Some("external") => annotations.has(keys::TARGET_TYPE),
        _ => false,
    }
}

/// What is to be said of a Service that asks for us in a way that nobody reads.
pub(super) fn check(service: &Service, settings: &ModelSettings) -> Vec<Violation> {
    let annotations = Annotations::new(service.metadata.annotations.as_ref());
    let mut found = Vec::new();
    let class = service.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_deref());
    let written = annotations.text(keys::TYPE);
    match (class, written) {
        (None, Some("external")) if !annotations.has(keys::TARGET_TYPE) => found.push(Violation::warn(
            "unclaimed",
            keys::TYPE,
            "external",
            "does nothing without a target type: no load balancer is made",
            format!("add {}: ip", keys::TARGET_TYPE),
        )),
        (None, Some(other)) if !matches!(other, "external" | "nlb-ip" | "nlb" | "clb") => {
            let near = ["external", "nlb-ip"].into_iter().find(|word| {
                let written = other.trim().to_ascii_lowercase().replace('_', "-");
                other.len() < 40 && strsim::osa_distance(&written, word) <= 2
            });
            let remedy = match near {
                Some(word) => format!("did you mean {word}?"),
                None => format!("write external, or set spec.loadBalancerClass: {}", settings.load_balancer_class),
            };
            found.push(Violation::warn("unclaimed", keys::TYPE, other, "is not a type that is known here", remedy));
        }
        _ => {}
    }
    found
}
