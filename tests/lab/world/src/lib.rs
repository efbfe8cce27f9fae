//! The lab's VPC as data: zones, subnets, instances, security groups and roles.
//!
//! `tests/lab/world.yaml` describes it once. The lab's node takes its addresses, zones and provider ids from it, the
//! AWS emulator its subnets, instances, security groups and roles, so that the two cannot disagree.
//!
//! A [`World`] that exists is valid: every subnet lies in the VPC and in a known zone, no two overlap, every instance's
//! address lies in its subnet, and every id is used once.
//!
//! IPv6 is optional, for the VPC and for each subnet. Who has an IPv4 address in a place with IPv6 has an IPv6 address
//! with the same last 32 bits ([`World::ipv6_of`]), so that addresses are given out once for both.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
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
        range: IpNet,
    },
    /// Two subnets that share addresses.
    #[error("subnets {0} and {1} overlap")]
    Overlap(String, String),
    /// A subnet with IPv6 in a VPC without.
    #[error("subnet {0} has an IPv6 block, but the VPC has none")]
    NoIpv6(String),
    /// An address of the lab itself inside a subnet.
    #[error("infrastructure address {address} lies in subnet {subnet}, so a pod could be given it")]
    InfrastructureInSubnet {
        /// The address.
        address: IpAddr,
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
    /// The same for clients with IPv6.
    #[serde(default)]
    pub ipv6_clients: Option<Ipv6Net>,
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

/// A VPC with one CIDR block of each family.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vpc {
    /// `vpc-` and 17 hexadecimal digits.
    pub id: String,
    /// Its IPv4 block.
    pub cidr: Ipv4Net,
    /// Its IPv6 block, of 56 bits in AWS.
    #[serde(default)]
    pub ipv6: Option<Ipv6Net>,
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
    /// Its IPv6 block, of 64 bits in AWS, inside the VPC's.
    #[serde(default)]
    pub ipv6: Option<Ipv6Net>,
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

impl Subnet {
    /// Whether an address belongs to it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.cidr.contains(&address),
            IpAddr::V6(address) => self.ipv6.is_some_and(|range| range.contains(&address)),
        }
    }

    /// The IPv6 address of who has this IPv4 address here, if the subnet has IPv6.
    pub fn ipv6_of(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        self.ipv6.map(|range| embedded(range, address))
    }
}

/// The address of a range that ends in an IPv4 address.
fn embedded(range: Ipv6Net, address: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(range.network()) | u128::from(u32::from(address)))
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
    pub fn subnet_of(&self, address: impl Into<IpAddr>) -> Option<&Subnet> {
        let address = address.into();
        self.subnets.iter().find(|s| s.contains(address))
    }

    /// The IPv6 address of who has this IPv4 address in the VPC: in its subnet's block, or for who is in no subnet, in
    /// the VPC's first 64 bits.
    pub fn ipv6_of(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        match self.subnet_of(address) {
            Some(subnet) => subnet.ipv6_of(address),
            None => self.vpc.ipv6.map(|range| embedded(range, address)),
        }
    }

    /// The same world for a machine without IPv6.
    #[must_use]
    pub fn without_ipv6(mut self) -> Self {
        self.vpc.ipv6 = None;
        self.ipv6_clients = None;
        for subnet in &mut self.subnets {
            subnet.ipv6 = None;
        }
        self
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
                let (address, range) = (address.to_string(), subnet.cidr.into());
                return Err(Error::Outside { owner: owner(), address, range });
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
                let (address, range) = (subnet.cidr.to_string(), self.vpc.cidr.into());
                return Err(Error::Outside { owner: owner(), address, range });
            }
            match (subnet.ipv6, self.vpc.ipv6) {
                (Some(range), Some(vpc)) if !vpc.contains(&range) => {
                    let address = range.to_string();
                    return Err(Error::Outside { owner: owner(), address, range: vpc.into() });
                }
                (Some(_), None) => return Err(Error::NoIpv6(subnet.id.clone())),
                _ => {}
            }
        }
        for (n, a) in self.subnets.iter().enumerate() {
            for b in &self.subnets[n + 1..] {
                let is_shared = |(a, b): (IpNet, IpNet)| a.contains(&b) || b.contains(&a);
                let ipv6 = a.ipv6.zip(b.ipv6).map(|(a, b)| (a.into(), b.into()));
                if is_shared((a.cidr.into(), b.cidr.into())) || ipv6.is_some_and(is_shared) {
                    return Err(Error::Overlap(a.id.clone(), b.id.clone()));
                }
            }
        }
        for address in self.infrastructure.addresses() {
            if !self.vpc.cidr.contains(&address) {
                let (owner, address) = ("infrastructure".to_owned(), address.to_string());
                return Err(Error::Outside { owner, address, range: self.vpc.cidr.into() });
            }
            let both = [Some(IpAddr::V4(address)), self.ipv6_of(address).map(IpAddr::V6)];
            for address in both.into_iter().flatten() {
                if let Some(subnet) = self.subnet_of(address) {
                    return Err(Error::InfrastructureInSubnet { address, subnet: subnet.id.clone() });
                }
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
    fn ipv6_address_has_the_last_bits_of_the_ipv4_address_in_the_block_of_its_place() {
        let world = World::parse(DEFAULT).expect("valid");
        let of = |address: [u8; 4]| world.ipv6_of(address.into()).map(|address| address.to_string());
        assert_eq!(of([192, 168, 12, 10]).as_deref(), Some("2001:db8:0:1a12::c0a8:c0a"));
        assert_eq!(of([192, 168, 0, 10]).as_deref(), Some("2001:db8:0:1a00::c0a8:a"), "of no subnet");
        for instance in &world.instances {
            let address = world.ipv6_of(instance.address).expect("the default world has IPv6");
            assert_eq!(world.subnet_of(address).map(|s| &s.id), Some(&instance.subnet), "{address}");
        }
        assert!(world.subnet_of("2001:db8:0:1a00::c0a8:a".parse::<Ipv6Addr>().expect("an address")).is_none());
        let without = world.without_ipv6();
        assert_eq!(without.ipv6_of([192, 168, 12, 10].into()), None);
        without.check().expect("IPv6 is optional");
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
            (
                "IPv6 outside the VPC",
                "ipv6: 2001:db8:0:1a02::/64",
                "ipv6: 2001:db8:0:2a02::/64",
                "2a02::/64 is not inside",
            ),
            ("overlapping IPv6", "ipv6: 2001:db8:0:1a02::/64", "ipv6: 2001:db8:0:1a01::/80", "overlap"),
            ("IPv6 without the VPC's", "  ipv6: 2001:db8:0:1a00::/56\n", "", "but the VPC has none"),
            ("infrastructure in IPv6 of a subnet", "1a02::/64", "1a00::/64", "subnet-0b00000000000bbb1"),
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
