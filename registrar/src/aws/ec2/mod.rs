//! EC2, by a small client of its own: the SDK for all of EC2 costs more to build than everything else together, and about a
//! dozen operations are needed.
//!
//! It is the same machinery as the SDK's clients (credentials, SigV4, time skew, connections), with forms and XML of our
//! own.

mod client;
mod endpoint;
mod form;
mod reply;

use registrar_core::aws::{Call, Fault, Filter, Reply};

pub(super) use self::client::Ec2;
use self::{client::Request, form::Form};
use super::exchange::Exchange;

/// Whether a call is one of EC2.
pub(super) fn is_of_ec2(call: &Call) -> bool {
    form(call).is_some()
}

/// Carries out a call of EC2.
pub(super) async fn carry_out(client: &Ec2, exchange: &Exchange<'_>, call: &Call) -> Result<Reply, Fault> {
    let Some(form) = form(call) else {
        return Err(Fault::NotSent(format!("{} is not of EC2", call.operation())));
    };
    let request = Request { client, exchange, operation: call.operation(), form };
    match call {
        Call::DescribeSubnets { .. } => reply::subnets(&request).await,
        Call::DescribeRouteTables { .. } => reply::route_tables(&request).await,
        Call::DescribeVpcs { .. } => reply::vpcs(&request).await,
        Call::DescribeAvailabilityZones { .. } => reply::zone_types(&request).await,
        Call::DescribeSecurityGroups { .. } => reply::security_groups(&request).await,
        Call::DescribeInstances { .. } => reply::instances(&request).await,
        Call::DescribeNetworkInterfaces { .. } => reply::network_interfaces(&request).await,
        Call::CreateSecurityGroup { .. } => reply::created_security_group(&request).await,
        _ => reply::done(&request).await,
    }
}

/// What is sent for a call, besides its action; nothing for calls of other services.
fn form(call: &Call) -> Option<Form> {
    Some(match call {
        Call::DescribeSubnets { ids, filters } => listing("SubnetId", ids, filters, 1000),
        Call::DescribeSecurityGroups { ids, filters } => listing("GroupId", ids, filters, 1000),
        Call::DescribeRouteTables { filters } => listing("RouteTableId", &[], filters, 100),
        Call::DescribeNetworkInterfaces { filters } => listing("NetworkInterfaceId", &[], filters, 1000),
        Call::DescribeVpcs { ids } => listing("VpcId", ids, &[], 1000),
        Call::DescribeInstances { ids } => listing("InstanceId", ids, &[], 1000),
        Call::DescribeAvailabilityZones { zone_ids } => Form::default().list("ZoneId", zone_ids),
        Call::CreateSecurityGroup { name, description, vpc_id, tags } => {
            let form = Form::default().with("GroupName", name).with("GroupDescription", description);
            let form = form.with("VpcId", vpc_id);
            if tags.is_empty() {
                form
            } else {
                let form = form.with("TagSpecification.1.ResourceType", "security-group");
                form.tags("TagSpecification.1.Tag", tags)
            }
        }
        Call::DeleteSecurityGroup { group_id } => Form::default().with("GroupId", group_id),
        Call::AuthorizeSecurityGroupIngress { group_id, permissions }
        | Call::RevokeSecurityGroupIngress { group_id, permissions } => {
            Form::default().with("GroupId", group_id).permissions(permissions)
        }
        Call::CreateEc2Tags { resource, tags } => Form::default().with("ResourceId.1", resource).tags("Tag", tags),
        Call::DeleteEc2Tags { resource, keys } => Form::default().with("ResourceId.1", resource).tag_keys("Tag", keys),
        _ => return None,
    })
}

/// Things by id, or those that pass all filters. Only the latter may be asked for by the page: `MaxResults` beside ids is
/// refused.
fn listing(id: &str, ids: &[String], filters: &[Filter], most: u32) -> Form {
    if ids.is_empty() {
        Form::default().filters(filters).with("MaxResults", &most.to_string())
    } else {
        Form::default().list(id, ids)
    }
}
