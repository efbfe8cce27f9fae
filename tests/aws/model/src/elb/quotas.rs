//! `DescribeAccountLimits`: the quotas as they are set.

use super::listing::{MARKER, PAGE_SIZE, listing, page};
use crate::{Value, limits::Bucket, operations::Operation, value::record};

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeAccountLimits",
    bucket: Bucket::Describe,
    accepts: &[MARKER, PAGE_SIZE],
    refuses: &[],
    run: |model, input| {
        let entries = model.settings.entries();
        let limits: Vec<(&str, String)> = entries
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("quota.")?, value)))
            .filter(|(name, _)| PUBLISHED.contains(name))
            .collect();
        let (page, next) = page(input, 1..=limits.len() as u64)?;
        let at = |n: u64| usize::try_from(n).ok().and_then(|n| limits.get(n - 1));
        let shown = page.into_iter().filter_map(at).map(|(name, max)| -> Value {
            record! { "Name": *name, "Max": max.as_str() }
        });
        Ok(listing("Limits", shown, next))
    },
};

/// The quotas that the API tells; the others are told by Service Quotas or nowhere.
const PUBLISHED: [&str; 8] = [
    "network-load-balancers",
    "listeners-per-network-load-balancer",
    "targets-per-availability-zone-per-network-load-balancer",
    "targets-per-network-load-balancer",
    "targets-per-target-group",
    "target-groups",
    "target-groups-per-action-on-network-load-balancer",
    "network-load-balancer-enis-per-vpc",
];
