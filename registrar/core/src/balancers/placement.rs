//! Where a load balancer is, or is to be.

use super::{Gap, Inputs, Observed, subnets};
use crate::aws::{LoadBalancer, SubnetMapping};

/// The subnets of a load balancer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Placement {
    /// Those that it has, with what is chosen of IPv6 in them.
    Kept(Vec<SubnetMapping>),
    /// These.
    Chosen(Vec<SubnetMapping>),
}

impl Placement {
    pub(crate) fn of(inputs: &Inputs, observed: &Observed, existing: Option<&LoadBalancer>) -> Result<Self, Gap> {
        match existing {
            Some(found)
                if inputs.spec.subnets.is_none()
                    && (found.scheme == inputs.spec.scheme.as_str() || !may_be_replaced(inputs, found)) =>
            {
                let present = found.zones.iter().map(|zone| zone.mapping.clone()).collect();
                Ok(Self::Kept(subnets::keep(inputs, present, &observed.network)?))
            }
            _ => Ok(Self::Chosen(subnets::choose(inputs, inputs.spec.scheme, &observed.network)?)),
        }
    }

    pub(crate) fn mappings(&self) -> &[SubnetMapping] {
        match self {
            Self::Kept(mappings) | Self::Chosen(mappings) => mappings,
        }
    }
}

/// Whether somebody has allowed to give this load balancer up.
pub(crate) fn may_be_replaced(inputs: &Inputs, found: &LoadBalancer) -> bool {
    inputs.spec.allow_replacement.as_ref() == Some(&found.name)
}
