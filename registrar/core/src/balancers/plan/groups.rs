//! Target groups: made, or changed in place where AWS can.

use nlb::service::spec;

use super::{Change, Planner, Resource, Verb, attribute_changes, attribute_fields, in_parts};
use crate::{
    aws::{self, Call, CreateTargetGroup, HealthCheck},
    balancers::{desired::TargetGroup, managed::group_default},
};

impl Planner<'_> {
    pub(super) fn target_groups(&mut self) {
        for wanted in &self.desired.target_groups {
            match self.survey.current(self.inputs, &wanted.spec) {
                Some(found) => self.change_group(wanted, found),
                None => self.create_group(wanted),
            }
        }
    }

    fn create_group(&mut self, wanted: &TargetGroup) {
        let spec = &wanted.spec;
        let resource = Resource::new("target group", &spec.name);
        let Some(port) = spec.port else {
            let message = format!("target group {} waits for the node port of port {}", spec.name, spec.service_port);
            self.problem("NoNodePort", message, "");
            self.unmade.insert(wanted.target_group_arn.clone());
            return;
        };
        let replaced = self.survey.groups.iter().find(|found| found.resource == spec.resource).map(|found| found.group);
        if let Some(old) = replaced.filter(|old| old.name == spec.name) {
            let message = format!("target group {} is there, but cannot be changed into what is wanted", old.name);
            self.waiting("Replacement", message, "make a new Service");
            self.unmade.insert(wanted.target_group_arn.clone());
            return;
        }
        let check = health_check(&spec.health_check);
        let mut changes = vec![
            Change::set("Protocol", spec.protocol.as_str()),
            Change::set("Port", port.to_string()),
            Change::set("TargetType", spec.target_type.as_str()),
        ];
        if let Some(old) = replaced {
            let old = format!("{} ({} {})", old.name, old.target_type, old.protocol);
            changes.push(Change::new("TargetGroupName", Some(old), Some(spec.name.clone())));
        }
        let verb = if replaced.is_some() { Verb::Replace } else { Verb::Create };
        let call = Call::CreateTargetGroup(CreateTargetGroup {
            name: spec.name.clone(),
            protocol: spec.protocol.as_str().to_owned(),
            port,
            vpc_id: wanted.vpc_id.clone(),
            target_type: spec.target_type.as_str().to_owned(),
            ip_address_type: spec.ip_address_type.as_str().to_owned(),
            health_check: check,
            tags: spec.tags.clone(),
        });
        self.aws(verb, resource.clone(), changes, call);
        let attributes = spec.attributes.clone();
        // A new group has the defaults, one of which is that there is no proxy protocol.
        let unusual = attributes.iter().filter(|(key, value)| group_default(key, spec).as_ref() != Some(*value));
        let unusual: std::collections::BTreeMap<_, _> = unusual.map(|(k, v)| (k.clone(), v.clone())).collect();
        for part in in_parts(unusual) {
            let fields = part.iter().map(|(key, value)| Change::set(format!("Attributes[{key}]"), value)).collect();
            let call = Call::ModifyTargetGroupAttributes { group: wanted.target_group_arn.clone(), attributes: part };
            self.aws(Verb::Change, resource.clone(), fields, call);
        }
    }

    fn change_group(&mut self, wanted: &TargetGroup, found: &aws::TargetGroup) {
        let spec = &wanted.spec;
        let resource = Resource::new("target group", &found.name);
        if found.ip_address_type.as_deref().unwrap_or("ipv4") != spec.ip_address_type.as_str() {
            let message = format!(
                "target group {} has {} targets, and AWS cannot change that to {}",
                found.name,
                found.ip_address_type.as_deref().unwrap_or("ipv4"),
                spec.ip_address_type.as_str()
            );
            self.waiting("Replacement", message, "put ipFamilies back, or make a new Service");
        }
        let changes = check_changes(&spec.health_check, &found.health_check);
        if !changes.is_empty() {
            let call =
                Call::ModifyTargetGroup { group: found.arn.clone(), health_check: health_check(&spec.health_check) };
            self.aws(Verb::Change, resource.clone(), changes, call);
        }
        let read = Call::DescribeTargetGroupAttributes { group: found.arn.clone() };
        if let Some(known) = self.attributes_of(&found.arn, read) {
            let set_once = self.inputs.managed().target_group_attributes;
            let default = |key: &str| group_default(key, spec);
            let moved = attribute_changes(&known, &spec.attributes, set_once.get(&spec.resource), default);
            for part in in_parts(moved) {
                let fields = attribute_fields(&known, &part);
                let call = Call::ModifyTargetGroupAttributes { group: found.arn.clone(), attributes: part };
                self.aws(Verb::Change, resource.clone(), fields, call);
            }
        }
        self.tags(&resource, &found.arn, &spec.tags);
    }
}

fn health_check(check: &spec::HealthCheck) -> HealthCheck {
    HealthCheck {
        protocol: Some(check.health_check_protocol.as_str().to_owned()),
        port: Some(check.health_check_port.clone()),
        path: check.health_check_path.clone(),
        matcher: check.matcher.clone(),
        interval_seconds: Some(check.health_check_interval_seconds),
        timeout_seconds: check.health_check_timeout_seconds,
        healthy_threshold: Some(check.healthy_threshold_count),
        unhealthy_threshold: Some(check.unhealthy_threshold_count),
    }
}

/// What differs; what the Service leaves alone does not.
fn check_changes(wanted: &spec::HealthCheck, found: &HealthCheck) -> Vec<Change> {
    let number = |number: Option<i32>| number.map(|number| number.to_string());
    let set = health_check(wanted);
    let pairs = [
        ("HealthCheckProtocol", set.protocol, found.protocol.clone()),
        ("HealthCheckPort", set.port, found.port.clone()),
        ("HealthCheckPath", set.path, found.path.clone()),
        ("Matcher", set.matcher, found.matcher.clone()),
        ("HealthCheckIntervalSeconds", number(set.interval_seconds), number(found.interval_seconds)),
        ("HealthCheckTimeoutSeconds", number(set.timeout_seconds), number(found.timeout_seconds)),
        ("HealthyThresholdCount", number(set.healthy_threshold), number(found.healthy_threshold)),
        ("UnhealthyThresholdCount", number(set.unhealthy_threshold), number(found.unhealthy_threshold)),
    ];
    let differs = |(field, new, old): (&str, Option<String>, Option<String>)| {
        (new.is_some() && new != old).then(|| Change::new(field, old, new))
    };
    pairs.into_iter().filter_map(differs).collect()
}
