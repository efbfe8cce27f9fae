//! What all Services share: subnets, zones, the VPC, and security groups that are named by users. Answers are kept by the
//! question, so that each is asked once for all Services.

use std::collections::BTreeMap;

use crate::aws::{Call, Filter, Refusal, Reply, RouteTable, SecurityGroup, Subnet, Vpc};

/// Answers of EC2.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Network {
    answers: Vec<(Call, Result<Reply, Refusal>)>,
}

/// Something that has not been read yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unread(pub(crate) Box<Call>);

/// The filter that keeps a question within a VPC.
pub(crate) fn in_vpc(vpc: &str) -> Filter {
    Filter { name: "vpc-id".to_owned(), values: vec![vpc.to_owned()] }
}

/// The filter for a tag with one of some values.
pub(crate) fn tagged(key: &str, values: &[&str]) -> Filter {
    Filter { name: format!("tag:{key}"), values: values.iter().map(|value| (*value).to_owned()).collect() }
}

impl Network {
    /// Forgets everything: the questions are asked again.
    pub fn forget(&mut self) {
        self.answers.clear();
    }

    /// Whether a call reads nothing that is kept here.
    pub(crate) fn is_not_of(call: &Call) -> bool {
        !matches!(
            call,
            Call::DescribeSubnets { .. }
                | Call::DescribeRouteTables { .. }
                | Call::DescribeVpcs { .. }
                | Call::DescribeAvailabilityZones { .. }
                | Call::DescribeSecurityGroups { .. }
        )
    }

    pub(crate) fn learn(&mut self, call: &Call, result: Result<&Reply, &Refusal>) {
        if Self::is_not_of(call) {
            return;
        }
        self.answers.retain(|(known, _)| known != call);
        self.answers.push((call.clone(), result.cloned().map_err(Clone::clone)));
    }

    fn answer(&self, call: &Call) -> Result<&Result<Reply, Refusal>, Unread> {
        let known = self.answers.iter().find(|(known, _)| known == call).map(|(_, answer)| answer);
        known.ok_or_else(|| Unread(Box::new(call.clone())))
    }

    pub(crate) fn subnets(&self, call: &Call) -> Result<Result<&[Subnet], &Refusal>, Unread> {
        Ok(match self.answer(call)? {
            Ok(Reply::Subnets(found)) => Ok(found.as_slice()),
            Ok(_) => Ok(&[]),
            Err(refusal) => Err(refusal),
        })
    }

    pub(crate) fn security_groups(&self, call: &Call) -> Result<Result<&[SecurityGroup], &Refusal>, Unread> {
        Ok(match self.answer(call)? {
            Ok(Reply::SecurityGroups(found)) => Ok(found.as_slice()),
            Ok(_) => Ok(&[]),
            Err(refusal) => Err(refusal),
        })
    }

    pub(crate) fn route_tables(&self, vpc: &str) -> Result<&[RouteTable], Unread> {
        let call = Call::DescribeRouteTables { filters: vec![in_vpc(vpc)] };
        Ok(match self.answer(&call)? {
            Ok(Reply::RouteTables(found)) => found.as_slice(),
            _ => &[],
        })
    }

    pub(crate) fn vpc(&self, vpc: &str) -> Result<Option<&Vpc>, Unread> {
        let call = Call::DescribeVpcs { ids: vec![vpc.to_owned()] };
        Ok(match self.answer(&call)? {
            Ok(Reply::Vpcs(found)) => found.first(),
            _ => None,
        })
    }

    /// Types of zones (`availability-zone`, `local-zone`, ...) by zone id.
    pub(crate) fn zone_types(&self, zone_ids: Vec<String>) -> Result<BTreeMap<String, String>, Unread> {
        Ok(match self.answer(&Call::DescribeAvailabilityZones { zone_ids })? {
            Ok(Reply::ZoneTypes(found)) => found.clone(),
            _ => BTreeMap::new(),
        })
    }
}
