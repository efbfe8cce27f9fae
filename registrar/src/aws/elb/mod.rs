//! ELBv2, through its SDK: each operation of a [`Call`], with what is sent ([`request`]) and what is read ([`reply`]).

mod reply;
mod request;

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::{Client, types};
use registrar_core::aws::{Arn, Call, Fault, ListenerQuery, LoadBalancerQuery, Reply, TargetGroupQuery};

use super::exchange::Exchange;

/// Makes one request of the SDK's fluent builder, with what every request carries.
macro_rules! send {
    ($exchange:expr, $builder:expr) => {
        $exchange.request(|sent| $builder.customize().interceptor(sent).send()).await
    };
}

/// Carries out a call of ELBv2. The operations of EC2 are elsewhere.
pub(super) async fn carry_out(client: &Client, exchange: &Exchange<'_>, call: &Call) -> Result<Reply, Fault> {
    match call {
        Call::DescribeTargetHealth { .. } | Call::RegisterTargets { .. } | Call::DeregisterTargets { .. } => {
            targets(client, exchange, call).await
        }
        Call::DescribeLoadBalancers(query) => load_balancers(client, exchange, query).await,
        Call::DescribeTargetGroups(query) => target_groups(client, exchange, query).await,
        Call::DescribeListeners(query) => listeners(client, exchange, query).await,
        Call::CreateTargetGroup(_)
        | Call::ModifyTargetGroup { .. }
        | Call::DeleteTargetGroup { .. }
        | Call::DescribeTargetGroupAttributes { .. }
        | Call::ModifyTargetGroupAttributes { .. } => group(client, exchange, call).await,
        Call::CreateListener(_)
        | Call::ModifyListener(_)
        | Call::DeleteListener { .. }
        | Call::DescribeListenerAttributes { .. }
        | Call::ModifyListenerAttributes { .. }
        | Call::DescribeListenerCertificates { .. }
        | Call::AddListenerCertificates { .. }
        | Call::RemoveListenerCertificates { .. } => listener(client, exchange, call).await,
        Call::DescribeTags { .. } | Call::AddTags { .. } | Call::RemoveTags { .. } => {
            tags(client, exchange, call).await
        }
        _ => load_balancer(client, exchange, call).await,
    }
}

async fn targets(client: &Client, exchange: &Exchange<'_>, call: &Call) -> Result<Reply, Fault> {
    match call {
        Call::DescribeTargetHealth { group } => {
            let output = send!(exchange, client.describe_target_health().target_group_arn(group.as_str()))?;
            Ok(Reply::TargetHealth(reply::target_health(output.target_health_descriptions.unwrap_or_default())))
        }
        Call::RegisterTargets { group, targets } => {
            let targets: Vec<_> = targets.iter().map(request::target).collect();
            let call = client.register_targets().target_group_arn(group.as_str()).set_targets(Some(targets));
            send!(exchange, call).map(|_| Reply::Done)
        }
        Call::DeregisterTargets { group, targets } => {
            let targets: Vec<_> = targets.iter().map(request::target).collect();
            let call = client.deregister_targets().target_group_arn(group.as_str()).set_targets(Some(targets));
            send!(exchange, call).map(|_| Reply::Done)
        }
        other => Err(foreign(other)),
    }
}

async fn load_balancers(client: &Client, exchange: &Exchange<'_>, query: &LoadBalancerQuery) -> Result<Reply, Fault> {
    let call = client.describe_load_balancers();
    let call = match query {
        LoadBalancerQuery::Name(name) => call.names(name),
        LoadBalancerQuery::Arn(arn) => call.load_balancer_arns(arn.as_str()),
        LoadBalancerQuery::All { marker } => call.set_marker(marker.clone()),
    };
    let output = send!(exchange, call)?;
    Ok(Reply::LoadBalancers {
        load_balancers: reply::load_balancers(output.load_balancers),
        next_marker: output.next_marker,
    })
}

async fn target_groups(client: &Client, exchange: &Exchange<'_>, query: &TargetGroupQuery) -> Result<Reply, Fault> {
    if let TargetGroupQuery::All { marker } = query {
        let output = send!(exchange, client.describe_target_groups().set_marker(marker.clone()))?;
        return Ok(Reply::TargetGroups {
            target_groups: reply::target_groups(output.target_groups),
            next_marker: output.next_marker,
        });
    }
    let pages = exchange.pages(|from| async move {
        let call = client.describe_target_groups().set_marker(from);
        let call = match query {
            TargetGroupQuery::Name(name) => call.names(name),
            TargetGroupQuery::Arns(arns) => call.set_target_group_arns(Some(request::texts(arns))),
            TargetGroupQuery::LoadBalancer(arn) => call.load_balancer_arn(arn.as_str()),
            TargetGroupQuery::All { .. } => call,
        };
        let output = send!(exchange, call)?;
        Ok((reply::target_groups(output.target_groups), output.next_marker))
    });
    Ok(Reply::TargetGroups { target_groups: pages.await?, next_marker: None })
}

async fn listeners(client: &Client, exchange: &Exchange<'_>, query: &ListenerQuery) -> Result<Reply, Fault> {
    let pages = exchange.pages(|from| async move {
        let call = client.describe_listeners();
        let call = match query {
            ListenerQuery::LoadBalancer(arn) => call.load_balancer_arn(arn.as_str()),
            ListenerQuery::Arn(arn) => call.listener_arns(arn.as_str()),
        };
        let output = send!(exchange, call.set_marker(from))?;
        Ok((reply::listeners(output.listeners), output.next_marker))
    });
    Ok(Reply::Listeners(pages.await?))
}

async fn load_balancer(client: &Client, exchange: &Exchange<'_>, call: &Call) -> Result<Reply, Fault> {
    match call {
        Call::CreateLoadBalancer(wanted) => {
            let output = send!(exchange, request::create_load_balancer(client, wanted))?;
            Ok(Reply::LoadBalancers { load_balancers: reply::load_balancers(output.load_balancers), next_marker: None })
        }
        Call::DeleteLoadBalancer { load_balancer: arn } => {
            send!(exchange, client.delete_load_balancer().load_balancer_arn(arn.as_str())).map(|_| Reply::Done)
        }
        Call::DescribeLoadBalancerAttributes { load_balancer: arn } => {
            let output = send!(exchange, client.describe_load_balancer_attributes().load_balancer_arn(arn.as_str()))?;
            Ok(attributes(output.attributes, |attribute| (attribute.key, attribute.value)))
        }
        Call::ModifyLoadBalancerAttributes { load_balancer: arn, attributes: wanted } => {
            let wanted =
                wanted.iter().map(|(key, value)| types::LoadBalancerAttribute::builder().key(key).value(value).build());
            let call = client.modify_load_balancer_attributes().load_balancer_arn(arn.as_str());
            let output = send!(exchange, call.set_attributes(Some(wanted.collect())))?;
            Ok(attributes(output.attributes, |attribute| (attribute.key, attribute.value)))
        }
        Call::SetSubnets(wanted) => send!(exchange, request::set_subnets(client, wanted)).map(|_| Reply::Done),
        Call::SetSecurityGroups { load_balancer: arn, security_groups, enforce_on_private_link } => {
            let call = client.set_security_groups().load_balancer_arn(arn.as_str());
            let call = call.set_security_groups(Some(security_groups.clone()));
            let enforce = enforce_on_private_link.map(|on| request::on_or_off(on).into());
            let call = call.set_enforce_security_group_inbound_rules_on_private_link_traffic(enforce);
            send!(exchange, call).map(|_| Reply::Done)
        }
        Call::SetIpAddressType { load_balancer: arn, ip_address_type } => {
            let call = client.set_ip_address_type().load_balancer_arn(arn.as_str());
            send!(exchange, call.ip_address_type(ip_address_type.as_str().into())).map(|_| Reply::Done)
        }
        Call::DescribeCapacityReservation { load_balancer: arn } => {
            let output = send!(exchange, client.describe_capacity_reservation().load_balancer_arn(arn.as_str()))?;
            Ok(reply::capacity(output.minimum_load_balancer_capacity, output.capacity_reservation_state))
        }
        Call::ModifyCapacityReservation { load_balancer: arn, capacity_units } => {
            let call = client.modify_capacity_reservation().load_balancer_arn(arn.as_str());
            let call = match capacity_units {
                Some(units) => call.minimum_load_balancer_capacity(request::capacity(*units)),
                None => call.reset_capacity_reservation(true),
            };
            let output = send!(exchange, call)?;
            Ok(reply::capacity(output.minimum_load_balancer_capacity, output.capacity_reservation_state))
        }
        other => Err(foreign(other)),
    }
}

async fn group(client: &Client, exchange: &Exchange<'_>, call: &Call) -> Result<Reply, Fault> {
    match call {
        Call::CreateTargetGroup(wanted) => {
            let output = send!(exchange, request::create_target_group(client, wanted))?;
            Ok(Reply::TargetGroups { target_groups: reply::target_groups(output.target_groups), next_marker: None })
        }
        Call::ModifyTargetGroup { group, health_check } => {
            let output = send!(exchange, request::modify_target_group(client, group, health_check))?;
            Ok(Reply::TargetGroups { target_groups: reply::target_groups(output.target_groups), next_marker: None })
        }
        Call::DeleteTargetGroup { group } => {
            send!(exchange, client.delete_target_group().target_group_arn(group.as_str())).map(|_| Reply::Done)
        }
        Call::DescribeTargetGroupAttributes { group } => {
            let output = send!(exchange, client.describe_target_group_attributes().target_group_arn(group.as_str()))?;
            Ok(attributes(output.attributes, |attribute| (attribute.key, attribute.value)))
        }
        Call::ModifyTargetGroupAttributes { group, attributes: wanted } => {
            let wanted =
                wanted.iter().map(|(key, value)| types::TargetGroupAttribute::builder().key(key).value(value).build());
            let call = client.modify_target_group_attributes().target_group_arn(group.as_str());
            let output = send!(exchange, call.set_attributes(Some(wanted.collect())))?;
            Ok(attributes(output.attributes, |attribute| (attribute.key, attribute.value)))
        }
        other => Err(foreign(other)),
    }
}

async fn listener(client: &Client, exchange: &Exchange<'_>, call: &Call) -> Result<Reply, Fault> {
    match call {
        Call::CreateListener(wanted) => {
            let output = send!(exchange, request::create_listener(client, wanted))?;
            Ok(Reply::Listeners(reply::listeners(output.listeners)))
        }
        Call::ModifyListener(wanted) => {
            let output = send!(exchange, request::modify_listener(client, wanted))?;
            Ok(Reply::Listeners(reply::listeners(output.listeners)))
        }
        Call::DeleteListener { listener } => {
            send!(exchange, client.delete_listener().listener_arn(listener.as_str())).map(|_| Reply::Done)
        }
        Call::DescribeListenerAttributes { listener } => {
            let output = send!(exchange, client.describe_listener_attributes().listener_arn(listener.as_str()))?;
            Ok(attributes(output.attributes, |attribute| (attribute.key, attribute.value)))
        }
        Call::ModifyListenerAttributes { listener, attributes: wanted } => {
            let wanted =
                wanted.iter().map(|(key, value)| types::ListenerAttribute::builder().key(key).value(value).build());
            let call = client.modify_listener_attributes().listener_arn(listener.as_str());
            let output = send!(exchange, call.set_attributes(Some(wanted.collect())))?;
            Ok(attributes(output.attributes, |attribute| (attribute.key, attribute.value)))
        }
        Call::DescribeListenerCertificates { listener } => {
            let pages = exchange.pages(|from| async move {
                let call = client.describe_listener_certificates().listener_arn(listener.as_str());
                let output = send!(exchange, call.set_marker(from))?;
                Ok((reply::certificates(output.certificates), output.next_marker))
            });
            Ok(Reply::Certificates(pages.await?))
        }
        Call::AddListenerCertificates { listener, certificates } => {
            let call = client.add_listener_certificates().listener_arn(listener.as_str());
            send!(exchange, call.set_certificates(Some(request::certificates(certificates)))).map(|_| Reply::Done)
        }
        Call::RemoveListenerCertificates { listener, certificates } => {
            let call = client.remove_listener_certificates().listener_arn(listener.as_str());
            send!(exchange, call.set_certificates(Some(request::certificates(certificates)))).map(|_| Reply::Done)
        }
        other => Err(foreign(other)),
    }
}

async fn tags(client: &Client, exchange: &Exchange<'_>, call: &Call) -> Result<Reply, Fault> {
    match call {
        Call::DescribeTags { resources } => {
            let call = client.describe_tags().set_resource_arns(Some(request::texts(resources)));
            let output = send!(exchange, call)?;
            Ok(Reply::Tags(reply::tags(output.tag_descriptions)))
        }
        Call::AddTags { resource, tags } => {
            let call = client.add_tags().resource_arns(resource.as_str()).set_tags(Some(request::tags(tags)));
            send!(exchange, call).map(|_| Reply::Done)
        }
        Call::RemoveTags { resource, keys } => {
            let call = client.remove_tags().resource_arns(resource.as_str()).set_tag_keys(Some(keys.clone()));
            send!(exchange, call).map(|_| Reply::Done)
        }
        other => Err(foreign(other)),
    }
}

fn attributes<A>(list: Option<Vec<A>>, pair: impl Fn(A) -> (Option<String>, Option<String>)) -> Reply {
    let pairs = list.into_iter().flatten().filter_map(|attribute| {
        let (key, value) = pair(attribute);
        Some((key?, value.unwrap_or_default()))
    });
    Reply::Attributes(pairs.collect::<BTreeMap<_, _>>())
}

/// The ARN that a reply gives, empty if it gives none.
fn arn(text: Option<&str>) -> Arn {
    Arn::new(text.unwrap_or_default())
}

/// A call that was brought to the wrong place, which the tests of every variant would show.
fn foreign(call: &Call) -> Fault {
    Fault::NotSent(format!("{} is not known here", call.operation()))
}
