//! The EC2 calls that an NLB controller makes: the world's subnets, zones, instances and interfaces, and security groups.

mod addresses;
mod describe;
pub(crate) mod filters;
mod instances;
pub(crate) mod interfaces;
mod network;
mod permissions;
pub(crate) mod security_groups;
mod tags;

pub(crate) use addresses::Elastic;
pub(crate) use tags::initial;

use crate::operations::Operation;

pub(crate) const OPERATIONS: &[&Operation] = &[
    &network::SUBNETS,
    &network::ROUTE_TABLES,
    &network::ZONES,
    &network::VPCS,
    &instances::DESCRIBE,
    &interfaces::DESCRIBE,
    &security_groups::DESCRIBE,
    &security_groups::CREATE,
    &security_groups::DELETE,
    &permissions::AUTHORIZE,
    &permissions::REVOKE,
    &tags::CREATE,
    &tags::DELETE,
    &addresses::ALLOCATE,
    &addresses::DESCRIBE,
    &addresses::RELEASE,
];
