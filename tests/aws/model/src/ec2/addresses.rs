//! Elastic IP addresses, which internet-facing load balancers can be given by allocation id.

use std::net::Ipv4Addr;

use super::{
    describe::{Item, Kind as Listed, describe, one},
    filters::{FILTER, tag_set},
    tags::{SPECIFICATION, specified},
};
use crate::{
    Value,
    fault::Code,
    limits::Bucket,
    operations::Operation,
    schema::{Kind, TEXT, TEXTS, optional},
    value::record,
};

/// An elastic address, out of a range for documentation (RFC 5737): it is shown and never carries traffic.
#[derive(Debug, Clone)]
pub(crate) struct Elastic {
    pub(crate) address: Ipv4Addr,
}

pub(super) const ALLOCATE: Operation = Operation {
    name: "AllocateAddress",
    bucket: Bucket::Ec2,
    accepts: &[optional("Domain", Kind::OneOf(&["vpc", "standard"])), SPECIFICATION],
    refuses: &[],
    run: |model, input| {
        let tags = specified(input, "elastic-ip")?;
        let id = format!("eipalloc-{}{}", model.random.hex(16), model.random.hex(1));
        let taken = |address: &Ipv4Addr| model.elastic.values().any(|e| e.address == *address);
        let free = (1..255).map(|n| Ipv4Addr::new(198, 51, 100, n)).find(|address| !taken(address));
        let Some(address) = free else {
            return Code::InvalidParameterValue.refuse("The emulator has 254 elastic addresses, and all are allocated");
        };
        model.elastic.insert(id.clone(), Elastic { address });
        model.ec2_tags.insert(id.clone(), tags);
        Ok(record! { "publicIp": address, "domain": "vpc", "allocationId": id })
    },
};

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeAddresses",
    bucket: Bucket::Ec2,
    accepts: &[FILTER, optional("AllocationId", TEXTS)],
    refuses: &[Code::AddressNotFound],
    run: |model, input| {
        let kind =
            Listed { ids: "AllocationId", set: "addressesSet", missing: Code::AddressNotFound, noun: "allocation ID" };
        let items = model.elastic.iter().map(|(id, elastic)| {
            let tags = model.tags_on(id);
            Item {
                id: id.clone(),
                attributes: vec![one("allocation-id", id), one("public-ip", elastic.address), one("domain", "vpc")],
                tags,
                value: record! {
                    "publicIp": elastic.address,
                    "allocationId": id.as_str(),
                    "domain": "vpc",
                    "tagSet": tag_set(tags),
                },
            }
        });
        describe(input, &kind, items.collect())
    },
};

pub(super) const RELEASE: Operation = Operation {
    name: "ReleaseAddress",
    bucket: Bucket::Ec2,
    accepts: &[optional("AllocationId", TEXT)],
    refuses: &[Code::AddressNotFound, Code::AddressInUse],
    run: |model, input| {
        let Some(id) = input.text("AllocationId") else {
            return Code::MissingParameter.refuse("The request must contain the parameter allocationId");
        };
        if !model.elastic.contains_key(id) {
            return Code::AddressNotFound.refuse(format!("The allocation ID '{id}' does not exist"));
        }
        if let Some(holder) = model.holder_of(id) {
            return Code::AddressInUse.refuse(format!("Address {id} is in use by {holder}"));
        }
        model.elastic.remove(id);
        model.ec2_tags.remove(id);
        Ok(record! { "return": Value::from(true) })
    },
};
