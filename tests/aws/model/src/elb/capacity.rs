//! Capacity reservations: stored and answered, with no effect on the data plane.

use super::lookup::Noun;
use crate::{
    Model, Value,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Kind, TEXT, optional, required},
    store::BalancerKey,
    value::record,
};

const CAPACITY: Kind = Kind::Record(&[optional("CapacityUnits", Kind::int(0, i32::MAX as i64))]);
/// Least reservation of one zone.
const LEAST_PER_ZONE: u32 = 2750;

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeCapacityReservation",
    bucket: Bucket::Describe,
    accepts: &[required("LoadBalancerArn", TEXT)],
    refuses: &[Code::LoadBalancerNotFound],
    run: |model, input| {
        let key = model.balancer_key(input.need("LoadBalancerArn"))?;
        model.show_capacity(key)
    },
};

pub(super) const MODIFY: Operation = Operation {
    name: "ModifyCapacityReservation",
    bucket: Bucket::Modify,
    accepts: &[
        required("LoadBalancerArn", TEXT),
        optional("MinimumLoadBalancerCapacity", CAPACITY),
        optional("ResetCapacityReservation", Kind::Bool),
    ],
    refuses: &[
        Code::LoadBalancerNotFound,
        Code::InvalidConfigurationRequest,
        Code::CapacityUnitsLimitExceeded,
        Code::CapacityReservationPending,
        Code::InsufficientCapacity,
        Code::CapacityDecreaseRequestLimitExceeded,
        Code::PriorRequestNotComplete,
        Code::OperationNotPermitted,
    ],
    run: |model, input| {
        let key = model.balancer_key(input.need("LoadBalancerArn"))?;
        let units = input.record("MinimumLoadBalancerCapacity").and_then(|c| c.number::<u32>("CapacityUnits"));
        let reset = input.flag("ResetCapacityReservation") == Some(true);
        if reset == units.is_some() {
            return Code::InvalidConfigurationRequest
                .refuse("You must specify either a minimum capacity or its reset, and not both");
        }
        let Some(balancer) = model.balancers.get_mut(key) else { return Err(Noun::Balancer.missing()) };
        let least = LEAST_PER_ZONE * u32::try_from(balancer.mappings.len()).unwrap_or(1);
        if units.is_some_and(|units| units < least) {
            return Code::InvalidConfigurationRequest
                .refuse(format!("The minimum capacity must be at least {least} capacity units"));
        }
        balancer.capacity = units;
        model.show_capacity(key)
    },
};

impl Model {
    fn show_capacity(&self, key: BalancerKey) -> Result<Value> {
        let Some(balancer) = self.balancers.get(key) else { return Err(Noun::Balancer.missing()) };
        let zones = u32::try_from(balancer.mappings.len()).unwrap_or(1).max(1);
        let states: Option<Value> = balancer.capacity.map(|units| {
            let state = |zone: &str| {
                record! {
                    "State": record! { "Code": "provisioned" },
                    "AvailabilityZone": zone,
                    "EffectiveCapacityUnits": f64::from(units / zones).to_string(),
                }
            };
            balancer.mappings.iter().map(|m| state(&m.zone)).collect()
        });
        Ok(record! {
            "DecreaseRequestsRemaining": 2u32,
            ? "MinimumLoadBalancerCapacity": balancer.capacity.map(|units| record! { "CapacityUnits": units }),
            ? "CapacityReservationState": states,
        })
    }
}
