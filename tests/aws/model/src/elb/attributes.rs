//! Reading and changing the attributes of load balancers, target groups and listeners.

use super::{
    attribute_table::{self, Attribute, Attributes, DRAINING_INTERVAL, TERMINATE_UNHEALTHY},
    balancer::LoadBalancer,
    group::TargetGroup,
    lookup::Noun,
};
use crate::{
    Value,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Input, Kind, TEXT, optional, required},
    value::record,
};

const ATTRIBUTE: Kind = Kind::Record(&[
    optional("Key", Kind::Text { min: 0, max: 256 }),
    optional("Value", Kind::Text { min: 0, max: 1024 }),
]);
const AT_MOST_20: Kind = Kind::List { of: &ATTRIBUTE, max: 20 };

pub(super) const DESCRIBE_BALANCER: Operation = Operation {
    name: "DescribeLoadBalancerAttributes",
    bucket: Bucket::Describe,
    accepts: &[required("LoadBalancerArn", TEXT)],
    refuses: &[Code::LoadBalancerNotFound],
    run: |model, input| {
        let key = model.balancer_key(input.need("LoadBalancerArn"))?;
        Ok(show(model.balancers.get(key).map(|b| &b.attributes)))
    },
};

pub(super) const MODIFY_BALANCER: Operation = Operation {
    name: "ModifyLoadBalancerAttributes",
    bucket: Bucket::Modify,
    accepts: &[required("LoadBalancerArn", TEXT), required("Attributes", AT_MOST_20)],
    refuses: &[Code::LoadBalancerNotFound, Code::InvalidConfigurationRequest],
    run: |model, input| {
        let key = model.balancer_key(input.need("LoadBalancerArn"))?;
        let changes = read(input, attribute_table::BALANCER, "Load balancer")?;
        let Some(balancer) = model.balancers.get_mut(key) else { return Err(Noun::Balancer.missing()) };
        let secondary = "secondary_ips.auto_assigned.per_subnet";
        if changes.iter().any(|(k, v)| *k == secondary && v.parse().ok() < balancer.attributes.number(secondary)) {
            return Code::InvalidConfigurationRequest
                .refuse(format!("The value of attribute '{secondary}' cannot be decreased"));
        }
        apply(&mut balancer.attributes, changes);
        let reply = show(Some(&balancer.attributes));
        model.review_groups_of(key);
        Ok(reply)
    },
};

pub(super) const DESCRIBE_GROUP: Operation = Operation {
    name: "DescribeTargetGroupAttributes",
    bucket: Bucket::Describe,
    accepts: &[required("TargetGroupArn", TEXT)],
    refuses: &[Code::TargetGroupNotFound],
    run: |model, input| {
        let key = model.group_key(input.need("TargetGroupArn"))?;
        Ok(show(model.groups.get(key).map(|g| &g.attributes)))
    },
};

pub(super) const MODIFY_GROUP: Operation = Operation {
    name: "ModifyTargetGroupAttributes",
    bucket: Bucket::Modify,
    accepts: &[required("TargetGroupArn", TEXT), required("Attributes", Kind::list(&ATTRIBUTE))],
    refuses: &[Code::TargetGroupNotFound, Code::InvalidConfigurationRequest],
    run: |model, input| {
        let key = model.group_key(input.need("TargetGroupArn"))?;
        let changes = read(input, attribute_table::GROUP, "Target group")?;
        let Some(group) = model.groups.get_mut(key) else { return Err(Noun::Group.missing()) };
        let mut after = group.attributes.clone();
        apply(&mut after, changes);
        if after.is(TERMINATE_UNHEALTHY, "true") && !after.is(DRAINING_INTERVAL, "0") {
            return Code::InvalidConfigurationRequest
                .refuse(format!("You cannot set '{DRAINING_INTERVAL}' while '{TERMINATE_UNHEALTHY}' is 'true'"));
        }
        let udp = matches!(group.protocol.as_str(), "UDP" | "TCP_UDP" | "QUIC" | "TCP_QUIC");
        if udp && after.is("preserve_client_ip.enabled", "false") {
            return Code::InvalidConfigurationRequest.refuse(format!(
                "Client IP preservation cannot be disabled for target groups with the protocol '{}'",
                group.protocol
            ));
        }
        group.attributes = after;
        let reply = show(Some(&group.attributes));
        model.review_group(key);
        Ok(reply)
    },
};

pub(super) const DESCRIBE_LISTENER: Operation = Operation {
    name: "DescribeListenerAttributes",
    bucket: Bucket::Describe,
    accepts: &[required("ListenerArn", TEXT)],
    refuses: &[Code::ListenerNotFound],
    run: |model, input| {
        let key = model.listener_key(input.need("ListenerArn"))?;
        Ok(show(model.listeners.get(key).map(|l| &l.attributes)))
    },
};

pub(super) const MODIFY_LISTENER: Operation = Operation {
    name: "ModifyListenerAttributes",
    bucket: Bucket::Modify,
    accepts: &[required("ListenerArn", TEXT), required("Attributes", Kind::list(&ATTRIBUTE))],
    refuses: &[Code::ListenerNotFound, Code::InvalidConfigurationRequest],
    run: |model, input| {
        let key = model.listener_key(input.need("ListenerArn"))?;
        let Some(listener) = model.listeners.get_mut(key) else { return Err(Noun::Listener.missing()) };
        let changes = read(input, attribute_table::listener_table(&listener.protocol), "Listener")?;
        apply(&mut listener.attributes, changes);
        Ok(show(Some(&listener.attributes)))
    },
};

/// All changes of a call, checked before any is made.
fn read(input: &Input, table: &'static [Attribute], kind: &str) -> Result<Vec<(&'static str, String)>> {
    let mut changes: Vec<(&'static str, String)> = Vec::new();
    for attribute in input.records("Attributes") {
        let (key, value) = (attribute.text("Key").unwrap_or_default(), attribute.text("Value").unwrap_or_default());
        let key = attribute_table::check(table, kind, key, value)?;
        if changes.iter().any(|(k, _)| *k == key) {
            return Code::ValidationError.refuse(format!("The attribute '{key}' is specified more than once"));
        }
        changes.push((key, value.to_owned()));
    }
    Ok(changes)
}

fn apply(attributes: &mut Attributes, changes: Vec<(&'static str, String)>) {
    for (key, value) in changes {
        attributes.set(key, value);
    }
}

fn show(attributes: Option<&Attributes>) -> Value {
    let list: Value = attributes
        .into_iter()
        .flat_map(Attributes::iter)
        .map(|(key, value)| record! { "Key": key, "Value": value })
        .collect();
    record! { "Attributes": list }
}

/// Whether a group's targets of all zones get flows that arrive in any.
pub(crate) fn cross_zone(group: &TargetGroup, balancer: &LoadBalancer) -> bool {
    const KEY: &str = "load_balancing.cross_zone.enabled";
    match group.attributes.get(KEY) {
        "true" => true,
        "false" => false,
        _ => balancer.attributes.is(KEY, "true"),
    }
}
