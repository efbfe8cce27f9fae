//! The lab's VPC as data: zones, subnets, instances, security groups and roles.
//!
//! `tests/lab/world.yaml` describes it once. The lab's node takes its addresses, zones and provider ids from it, the
//! AWS emulator its subnets, instances, security groups and roles, so that the two cannot disagree.
//!
//! A [`World`] that exists is valid: every subnet lies in the VPC and in a known zone, no two overlap, every instance's
//! address lies in its subnet, and every id is used once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::Deserialize;

/// The world of the lab unless another file is named.
pub const DEFAULT: &str = include_str!("../../world.yaml");

/// Why a description of a world was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not YAML, a missing or unknown field, or a value of the wrong form.
    #[error("the world is not readable: {0}")]
    Unreadable(String),
    /// A name that nothing defines.
    #[error("{owner} names the {kind} {name}, which does not exist")]
    Unknown {
        /// Who names it, for example `subnet subnet-1`.
        owner: String,
        /// What kind of thing is named.
        kind: &'static str,
        /// The name that nothing has.
        name: String,
    },
    /// Two things with one identity.
    #[error("{kind} {name} is described twice")]
    Duplicate {
        /// What kind of thing.
        kind: &'static str,
        /// Its id, name or address.
        name: String,
    },
    /// An address or a range in the wrong place.
    #[error("{owner}: {address} is not inside {range}")]
    Outside {
        /// Whose address it is.
        owner: String,
        /// The address or range.
        address: String,
        /// Where it would have to be.
        range: Ipv4Net,
    },
    /// Two subnets that share addresses.
    #[error("subnets {0} and {1} overlap")]
    Overlap(String, String),
    /// An address of the lab itself inside a subnet.
    #[error("infrastructure address {address} lies in subnet {subnet}, so a pod could be given it")]
    InfrastructureInSubnet {
        /// The address.
        address: Ipv4Addr,
        /// The subnet's id.
        subnet: String,
    },
    /// A list that must not be empty is.
    #[error("the world has no {0}")]
    Empty(&'static str),
}

/// Everything that node and emulator must agree on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct World {
    /// AWS region, for example `ap-northeast-2`.
    pub region: String,
    /// Twelve-digit account id.
    pub account: String,
    /// Cluster name, as in the tag `kubernetes.io/cluster/<name>`.
    pub cluster: String,
    /// The one VPC.
    pub vpc: Vpc,
    /// Addresses of the lab's own servers, in the VPC but in no subnet.
    pub infrastructure: Infrastructure,
    /// Addresses outside the VPC for clients of load balancers.
    pub clients: Ipv4Net,
    /// Availability zones, in the order in which nodes are spread over them.
    pub zones: Vec<Zone>,
    /// Subnets of the VPC.
    pub subnets: Vec<Subnet>,
    /// Security groups that exist from the start.
    #[serde(default)]
    pub security_groups: Vec<SecurityGroup>,
    /// Instances, one per node.
    pub instances: Vec<Instance>,
    /// Interfaces beside those of instances: those of pods that have some of their own.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Roles that service accounts may assume.
    #[serde(default)]
    pub roles: Vec<Role>,
}

/// A VPC with one CIDR block.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vpc {
    /// `vpc-` and 17 hexadecimal digits.
    pub id: String,
    /// Its IPv4 block.
    pub cidr: Ipv4Net,
}

/// Where the lab's own servers listen.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Infrastructure {
    /// Source address of commands run in the lab.
    pub host: Ipv4Addr,
    /// DNS server.
    pub dns: Ipv4Addr,
    /// Kubernetes API server.
    pub apiserver: Ipv4Addr,
    /// AWS API and the emulator's control API.
    pub aws: Ipv4Addr,
}

impl Infrastructure {
    fn addresses(&self) -> [Ipv4Addr; 4] {
        [self.host, self.dns, self.apiserver, self.aws]
    }
}

/// An availability zone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// Name, for example `ap-northeast-2a`.
    pub name: String,
    /// Id, for example `apne2-az1`.
    pub id: String,
}

/// A subnet in one zone.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subnet {
    /// `subnet-` and 17 hexadecimal digits.
    pub id: String,
    /// Name of its zone.
    pub zone: String,
    /// Its IPv4 block, inside the VPC's.
    pub cidr: Ipv4Net,
    /// Whether its route table leads to an internet gateway.
    #[serde(default)]
    pub public: bool,
    /// Tags, among them the role tags that subnet discovery reads.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// A security group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityGroup {
    /// `sg-` and 17 hexadecimal digits.
    pub id: String,
    /// Its group name.
    pub name: String,
    /// Its description.
    #[serde(default)]
    pub description: String,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// An EC2 instance that carries one node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    /// `i-` and 17 hexadecimal digits.
    pub id: String,
    /// Id of its subnet.
    pub subnet: String,
    /// Its primary private address.
    pub address: Ipv4Addr,
    /// Ids of the security groups of its network interface.
    #[serde(default)]
    pub security_groups: Vec<String>,
}

/// The network interface of one pod.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// `eni-` and 17 hexadecimal digits.
    pub id: String,
    /// Id of its subnet.
    pub subnet: String,
    /// Its private address, which is the pod's.
    pub address: Ipv4Addr,
    /// Ids of its security groups.
    #[serde(default)]
    pub security_groups: Vec<String>,
}

/// A role and the service accounts that may assume it with a web identity token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Role {
    /// The role's ARN.
    pub arn: String,
    /// Who may assume it, each as `namespace:name`.
    pub service_accounts: Vec<String>,
}

impl World {
    /// Reads and checks a description in the format of `world.yaml`.
    pub fn parse(yaml: &str) -> Result<Self, Error> {
        let world: Self = serde_saphyr::from_str(yaml).map_err(|e| Error::Unreadable(e.to_string()))?;
        world.check()?;
        Ok(world)
    }

    /// The same world with exactly `count` instances: the first ones of the description, then generated ones, each in
    /// the subnet of the instance one round before it, at the next address.
    #[must_use]
    pub fn with_instances(mut self, count: usize) -> Self {
        let described = self.instances.len();
        self.instances.truncate(count);
        for n in described..count {
            let model = self.instances[n % described].clone();
            let round = u32::try_from(n / described).unwrap_or(u32::MAX);
            self.instances.push(Instance {
                id: format!("i-{n:017x}"),
                address: Ipv4Addr::from(u32::from(model.address).saturating_add(round)),
                ..model
            });
        }
        self
    }

    /// The subnet with this id.
    pub fn subnet(&self, id: &str) -> Option<&Subnet> {
        self.subnets.iter().find(|s| s.id == id)
    }

    /// The subnet that an address belongs to.
    pub fn subnet_of(&self, address: Ipv4Addr) -> Option<&Subnet> {
        self.subnets.iter().find(|s| s.cidr.contains(&address))
    }

    fn check(&self) -> Result<(), Error> {
        for (what, empty) in [
            ("zones", self.zones.is_empty()),
            ("subnets", self.subnets.is_empty()),
            ("instances", self.instances.is_empty()),
        ] {
            if empty {
                return Err(Error::Empty(what));
            }
        }
        unique("zone", self.zones.iter().map(|z| &z.name))?;
        unique("zone id", self.zones.iter().map(|z| &z.id))?;
        unique("subnet", self.subnets.iter().map(|s| &s.id))?;
        unique("security group", self.security_groups.iter().map(|g| &g.id))?;
        unique("instance", self.instances.iter().map(|i| &i.id))?;
        unique("interface", self.interfaces.iter().map(|i| &i.id))?;
        let addresses = self.instances.iter().map(|i| i.address);
        unique("address", addresses.chain(self.interfaces.iter().map(|i| i.address)))?;
        unique("role", self.roles.iter().map(|r| &r.arn))?;
        unique("infrastructure address", self.infrastructure.addresses())?;
        self.check_addresses()?;
        let instances = self.instances.iter().map(|i| ("instance", &i.id, &i.subnet, i.address, &i.security_groups));
        let interfaces = self.interfaces.iter().map(|i| ("interface", &i.id, &i.subnet, i.address, &i.security_groups));
        for (kind, id, subnet, address, groups) in instances.chain(interfaces) {
            let owner = || format!("{kind} {id}");
            let Some(subnet) = self.subnet(subnet) else {
                return Err(Error::Unknown { owner: owner(), kind: "subnet", name: subnet.clone() });
            };
            if !subnet.cidr.contains(&address) {
                return Err(Error::Outside { owner: owner(), address: address.to_string(), range: subnet.cidr });
            }
            if let Some(name) = groups.iter().find(|id| !self.security_groups.iter().any(|g| g.id == **id)) {
                return Err(Error::Unknown { owner: owner(), kind: "security group", name: name.clone() });
            }
        }
        Ok(())
    }

    fn check_addresses(&self) -> Result<(), Error> {
        for subnet in &self.subnets {
            let owner = || format!("subnet {}", subnet.id);
            if !self.zones.iter().any(|z| z.name == subnet.zone) {
                return Err(Error::Unknown { owner: owner(), kind: "zone", name: subnet.zone.clone() });
            }
            if !self.vpc.cidr.contains(&subnet.cidr) {
                return Err(Error::Outside { owner: owner(), address: subnet.cidr.to_string(), range: self.vpc.cidr });
            }
        }
        for (n, a) in self.subnets.iter().enumerate() {
            for b in &self.subnets[n + 1..] {
                if a.cidr.contains(&b.cidr) || b.cidr.contains(&a.cidr) {
                    return Err(Error::Overlap(a.id.clone(), b.id.clone()));
                }
            }
        }
        for address in self.infrastructure.addresses() {
            if !self.vpc.cidr.contains(&address) {
                let (owner, address) = ("infrastructure".to_owned(), address.to_string());
                return Err(Error::Outside { owner, address, range: self.vpc.cidr });
            }
            if let Some(subnet) = self.subnet_of(address) {
                return Err(Error::InfrastructureInSubnet { address, subnet: subnet.id.clone() });
            }
        }
        Ok(())
    }
}

fn unique<T: Ord + ToString>(kind: &'static str, names: impl IntoIterator<Item = T>) -> Result<(), Error> {
    let mut seen = BTreeSet::new();
    for name in names {
        let text = name.to_string();
        if !seen.insert(name) {
            return Err(Error::Duplicate { kind, name: text });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_world_has_one_instance_in_each_of_three_zones() {
        let world = World::parse(DEFAULT).expect("the shipped world is valid");
        let zones: BTreeSet<_> =
            world.instances.iter().map(|i| &world.subnet(&i.subnet).expect("checked").zone).collect();
        assert_eq!(zones.len(), 3);
        assert_eq!(world.instances.len(), 3);
    }

    #[test]
    fn generated_instances_are_spread_over_the_zones_and_stay_valid() {
        for count in [1, 2, 3, 4, 7, 30] {
            let world = World::parse(DEFAULT).expect("valid").with_instances(count);
            assert_eq!(world.instances.len(), count);
            world.check().expect("a grown world is as valid as the described one");
        }
    }

    #[test]
    fn each_mistake_is_refused_with_the_names_that_it_concerns() {
        let cases = [
            ("unknown field", "region:", "regoin:", "regoin"),
            ("subnet in no zone", "zone: ap-northeast-2b", "zone: ap-northeast-2x", "the zone ap-northeast-2x"),
            ("subnet outside the VPC", "cidr: 192.168.3.0/24", "cidr: 10.0.3.0/24", "10.0.3.0/24 is not inside"),
            ("overlapping subnets", "192.168.2.0/24", "192.168.1.0/25", "overlap"),
            ("instance outside its subnet", "address: 192.168.12.10", "address: 192.168.11.11", "192.168.11.11"),
            ("two instances, one id", "i-0b0000000000000b1", "i-0a0000000000000a1", "twice"),
            ("infrastructure in a subnet", "dns: 192.168.0.2", "dns: 192.168.1.2", "subnet-0a00000000000aaa1"),
            ("unknown group", "[sg-0d00000000000ddd1]", "[sg-1]", "the security group sg-1"),
        ];
        for (name, from, to, says) in cases {
            let yaml = DEFAULT.replacen(from, to, 1);
            assert_ne!(yaml, DEFAULT, "{name}: the case changes nothing");
            let error = World::parse(&yaml).expect_err(name).to_string();
            assert!(error.contains(says), "{name}: {error}");
        }
    }
}
