//! ELBv2, the half that Network Load Balancers have.

pub(crate) mod attribute_table;
pub(crate) mod attributes;
pub(crate) mod balancer;
mod balancer_settings;
mod capacity;
mod certificates;
mod families;
mod forwarding;
pub(crate) mod group;
mod health_check;
pub(crate) mod listener;
mod listing;
mod lookup;
pub(crate) mod placement;
mod quotas;
mod registration;
mod rules;
mod tags;
pub(crate) mod target;
mod target_health;

use crate::operations::Operation;

pub(crate) const OPERATIONS: &[&Operation] = &[
    &balancer::CREATE,
    &balancer::DESCRIBE,
    &balancer::DELETE,
    &balancer_settings::SET_SUBNETS,
    &balancer_settings::SET_SECURITY_GROUPS,
    &balancer_settings::SET_IP_ADDRESS_TYPE,
    &attributes::DESCRIBE_BALANCER,
    &attributes::MODIFY_BALANCER,
    &group::CREATE,
    &group::DESCRIBE,
    &group::MODIFY,
    &group::DELETE,
    &attributes::DESCRIBE_GROUP,
    &attributes::MODIFY_GROUP,
    &registration::REGISTER,
    &registration::DEREGISTER,
    &target_health::DESCRIBE,
    &listener::CREATE,
    &listener::DESCRIBE,
    &listener::MODIFY,
    &listener::DELETE,
    &attributes::DESCRIBE_LISTENER,
    &attributes::MODIFY_LISTENER,
    &rules::DESCRIBE,
    &certificates::DESCRIBE,
    &certificates::ADD,
    &certificates::REMOVE,
    &tags::DESCRIBE,
    &tags::ADD,
    &tags::REMOVE,
    &capacity::DESCRIBE,
    &capacity::MODIFY,
    &quotas::DESCRIBE,
];
