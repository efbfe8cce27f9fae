//! Load balancers: creating, listing and deleting them.

use std::{net::IpAddr, time::Duration};

use super::{
    attribute_table::{self, Attributes},
    families::Families,
    listing::{MARKER, PAGE_SIZE, listing, page},
    lookup::Noun,
    placement::{MAPPINGS, Mapping},
    tags::{self, TAGS, Tags},
};
use crate::{
    Event, Model, Value,
    agenda::Due,
    ec2::interfaces::Retiring,
    fault::{Code, Result},
    identity::timestamp,
    limits::Bucket,
    operations::Operation,
    schema::{Input, Kind, TEXT, TEXTS, optional, required},
    store::{BalancerKey, Resource},
    value::record,
};

/// A Network Load Balancer.
#[derive(Debug, Clone)]
pub(crate) struct LoadBalancer {
    pub(crate) arn: String,
    pub(crate) name: String,
    /// Sixteen hexadecimal digits, the end of the ARN and part of the DNS name.
    pub(crate) id: String,
    pub(crate) internal: bool,
    pub(crate) families: Families,
    pub(crate) security_groups: Vec<String>,
    /// Security groups can be set only on a load balancer that was created with some.
    pub(super) created_with_groups: bool,
    pub(super) enforce_on_private_link: String,
    /// One per zone, in the order of the zones' names.
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) attributes: Attributes,
    pub(super) tags: Tags,
    /// Capacity units reserved.
    pub(super) capacity: Option<u32>,
    created: Duration,
    pub(crate) active_at: Duration,
    pub(super) settled_at: Duration,
}

impl Resource for LoadBalancer {
    fn arn(&self) -> &str {
        &self.arn
    }
}

impl LoadBalancer {
    pub(crate) fn dns_label(&self) -> String {
        format!("{}-{}", self.name, self.id)
    }

    /// What EC2 calls its network interfaces.
    pub(crate) fn interface_label(&self) -> String {
        format!("ELB net/{}/{}", self.name, self.id)
    }

    pub(crate) fn zone_of(&self, address: IpAddr) -> Option<&Mapping> {
        self.mappings.iter().find(|m| m.addresses().any(|own| own == address))
    }

    pub(crate) fn has_zone(&self, zone: &str) -> bool {
        self.mappings.iter().any(|m| m.zone == zone)
    }
}

pub(super) const SCHEME: Kind = Kind::OneOf(&["internet-facing", "internal"]);
pub(super) const IP_ADDRESS_TYPE: Kind = Kind::OneOf(&["ipv4", "dualstack", "dualstack-without-public-ipv4"]);
pub(super) const ON_OFF: Kind = Kind::OneOf(&["on", "off"]);
/// Route 53's zone of Network Load Balancers; clients store it and never look inside.
const HOSTED_ZONE: &str = "ZIBE1TIR4HY56";

pub(super) const CREATE: Operation = Operation {
    name: "CreateLoadBalancer",
    bucket: Bucket::Other,
    accepts: &[
        required("Name", TEXT),
        optional("Subnets", TEXTS),
        optional("SubnetMappings", MAPPINGS),
        optional("SecurityGroups", TEXTS),
        optional("Scheme", SCHEME),
        optional("Tags", TAGS),
        optional("Type", Kind::OneOf(&["application", "network", "gateway"])),
        optional("IpAddressType", IP_ADDRESS_TYPE),
        optional("EnablePrefixForIpv6SourceNat", ON_OFF),
    ],
    refuses: &[
        Code::DuplicateLoadBalancerName,
        Code::TooManyLoadBalancers,
        Code::InvalidConfigurationRequest,
        Code::SubnetNotFound,
        Code::InvalidSubnet,
        Code::InvalidSecurityGroup,
        Code::InvalidScheme,
        Code::OperationNotPermitted,
        Code::TooManyTags,
        Code::DuplicateTagKeys,
        Code::ResourceInUse,
        Code::AllocationIdNotFound,
        Code::AvailabilityZoneNotSupported,
    ],
    run: |model, input| model.create_balancer(input),
};

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeLoadBalancers",
    bucket: Bucket::Describe,
    accepts: &[optional("LoadBalancerArns", TEXTS), optional("Names", TEXTS), MARKER, PAGE_SIZE],
    refuses: &[Code::LoadBalancerNotFound],
    run: |model, input| {
        let keys = model.listed_balancers(input)?;
        let (page, next) = page(input, keys)?;
        let shown = page.into_iter().filter_map(|key| model.balancers.get(key)).map(|b| model.show_balancer(b));
        Ok(listing("LoadBalancers", shown, next))
    },
};

pub(super) const DELETE: Operation = Operation {
    name: "DeleteLoadBalancer",
    bucket: Bucket::Other,
    accepts: &[required("LoadBalancerArn", TEXT)],
    refuses: &[Code::LoadBalancerNotFound, Code::OperationNotPermitted, Code::ResourceInUse],
    run: |model, input| {
        let arn = input.need("LoadBalancerArn");
        match model.balancer_key(arn) {
            Ok(key) => model.delete_balancer(key, arn)?,
            Err(missing) if missing.code == Code::LoadBalancerNotFound => {}
            Err(fault) => return Err(fault),
        }
        Ok(Value::empty())
    },
};

impl Model {
    fn create_balancer(&mut self, input: &Input) -> Result<Value> {
        let name = input.need("Name");
        check_name(name)?;
        if input.text("Type") != Some("network") {
            let kind = input.text("Type").unwrap_or("application (the default)");
            return Code::InvalidConfigurationRequest
                .refuse(format!("Load balancers of type {kind} are not emulated; pass Type=network"));
        }
        let tags = tags::read(&self.settings, input)?;
        let internal = input.text("Scheme") == Some("internal");
        let families = Families::default().read(input)?;
        let wanted = self.read_mappings(input, internal, families)?;
        let groups: Vec<String> = input.texts("SecurityGroups").into_iter().map(str::to_owned).collect();
        self.check_security_groups(&groups)?;
        if let Some((_, existing)) = self.balancers.find(|b| b.name == name) {
            let same = existing.internal == internal
                && existing.families == families
                && existing.security_groups == groups
                && wanted.iter().map(|w| &w.subnet).eq(existing.mappings.iter().map(|m| &m.subnet))
                && wanted.iter().zip(&existing.mappings).all(|(w, m)| w.fits(m))
                && (!self.settings.create_compares_tags || existing.tags == tags);
            if !same {
                return Code::DuplicateLoadBalancerName.refuse(format!(
                    "A load balancer with the same name '{name}' exists, but with different settings"
                ));
            }
            return Ok(listing("LoadBalancers", std::iter::once(self.show_balancer(existing)), None));
        }
        if self.balancers.len() >= self.settings.quota_load_balancers as usize {
            return Code::TooManyLoadBalancers.refuse(format!(
                "The maximum number of load balancers '{}' has been reached",
                self.settings.quota_load_balancers
            ));
        }
        let mappings = self.place(wanted, &[], families)?;
        let id = self.random.hex(16);
        let arn = self.arn(&format!("loadbalancer/net/{name}/{id}"));
        let settled_at = self.settling();
        let active_at = self.now + self.settings.load_balancer_active;
        let key = self.balancers.add(LoadBalancer {
            arn: arn.clone(),
            name: name.to_owned(),
            id,
            internal,
            families,
            created_with_groups: !groups.is_empty(),
            security_groups: groups,
            enforce_on_private_link: "on".to_owned(),
            mappings,
            attributes: attribute_table::balancer_defaults(internal),
            tags,
            capacity: None,
            created: self.wall(),
            active_at,
            settled_at,
        });
        self.note(Event::LoadBalancer { who: arn, state: "provisioning".to_owned() });
        // The reply says `provisioning` even when there is no lag, as AWS's does.
        let reply = self.balancers.get(key).map(|b| self.show_balancer_as(b, "provisioning"));
        self.agenda.add(active_at, Due::BalancerActive(key));
        self.advance(self.now);
        Ok(listing("LoadBalancers", reply.into_iter(), None))
    }

    fn listed_balancers(&mut self, input: &Input) -> Result<Vec<BalancerKey>> {
        let (arns, names) = (input.texts("LoadBalancerArns"), input.texts("Names"));
        if !arns.is_empty() && !names.is_empty() {
            return Code::ValidationError.refuse("You cannot specify both load balancer ARNs and names");
        }
        if arns.len() > 20 || names.len() > 20 {
            let count = arns.len().max(names.len());
            return Code::ValidationError.refuse(format!("You can specify up to 20 load balancers, not {count}"));
        }
        let mut keys = Vec::new();
        for arn in &arns {
            keys.push(self.balancer_key(arn)?);
        }
        for name in &names {
            let found = self.balancers.find(|b| b.name == *name).map(|(key, b)| (key, b.settled_at));
            match found {
                Some((key, settled)) if self.sees(settled) => keys.push(key),
                _ => {
                    return Code::LoadBalancerNotFound.refuse(format!("Load balancers '[{name}]' not found"));
                }
            }
        }
        if arns.is_empty() && names.is_empty() {
            for key in self.balancers.keys() {
                let settled = self.balancers.get(key).map_or(Duration::ZERO, |b| b.settled_at);
                if self.sees(settled) {
                    keys.push(key);
                }
            }
        }
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    fn delete_balancer(&mut self, key: BalancerKey, arn: &str) -> Result<()> {
        let Some(balancer) = self.balancers.get(key) else { return Err(Noun::Balancer.missing()) };
        if balancer.attributes.is("deletion_protection.enabled", "true") {
            return Code::OperationNotPermitted
                .refuse(format!("Load balancer '{arn}' cannot be deleted because deletion protection is enabled"));
        }
        for listener in self.listeners_of(key) {
            self.remove_listener(listener);
        }
        self.reset_flows(|flow| flow.balancer == key, "load-balancer-deleted");
        if let Some(balancer) = self.balancers.remove(key) {
            let gone_at = self.now + self.settings.network_interface_release;
            self.agenda.add(gone_at, Due::InterfacesGone);
            let label = balancer.interface_label();
            for mapping in balancer.mappings {
                let groups = balancer.security_groups.clone();
                self.retiring.push(Retiring { mapping, label: label.clone(), groups, gone_at });
            }
            self.note(Event::LoadBalancer { who: balancer.arn, state: "deleted".to_owned() });
        }
        self.advance(self.now);
        Ok(())
    }

    pub(crate) fn balancer_activated(&mut self, key: BalancerKey) {
        let Some(balancer) = self.balancers.get(key) else { return };
        if self.now < balancer.active_at {
            return;
        }
        let who = balancer.arn.clone();
        self.note(Event::LoadBalancer { who, state: "active".to_owned() });
        self.review_listening(key);
        self.review_groups_of(key);
    }

    fn show_balancer(&self, balancer: &LoadBalancer) -> Value {
        let state = if self.now >= balancer.active_at { "active" } else { "provisioning" };
        self.show_balancer_as(balancer, state)
    }

    fn show_balancer_as(&self, balancer: &LoadBalancer, state: &str) -> Value {
        let has_groups = !balancer.security_groups.is_empty();
        let groups: Value = balancer.security_groups.iter().map(|g| Value::from(g.as_str())).collect();
        record! {
            "LoadBalancerArn": balancer.arn.as_str(),
            "DNSName": format!("{}.elb.{}.amazonaws.com", balancer.dns_label(), self.world.region),
            "CanonicalHostedZoneId": HOSTED_ZONE,
            "CreatedTime": timestamp(balancer.created),
            "LoadBalancerName": balancer.name.as_str(),
            "Scheme": if balancer.internal { "internal" } else { "internet-facing" },
            "VpcId": self.world.vpc.id.as_str(),
            "State": record! { "Code": state },
            "Type": "network",
            "AvailabilityZones": self.show_mappings(&balancer.mappings),
            ? "SecurityGroups": has_groups.then_some(groups),
            "IpAddressType": balancer.families.ip_address_type(),
            ? "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic":
                has_groups.then_some(balancer.enforce_on_private_link.as_str()),
            "EnablePrefixForIpv6SourceNat": balancer.families.prefix_for_source_nat(),
        }
    }

    pub(super) fn arn(&self, resource: &str) -> String {
        format!("arn:aws:elasticloadbalancing:{}:{}:{resource}", self.world.region, self.world.account)
    }

    pub(super) fn check_security_groups(&self, groups: &[String]) -> Result<()> {
        match groups.iter().find(|id| !self.security_groups.contains_key(*id)) {
            Some(id) => Code::InvalidSecurityGroup.refuse(format!("Security group '{id}' is not valid")),
            None => Ok(()),
        }
    }
}

/// The name rules that load balancers and target groups share.
pub(super) fn check_resource_name(kind: &str, name: &str) -> Result<()> {
    let complaint = if name.is_empty() {
        format!("{kind} name cannot be empty")
    } else if name.chars().count() > 32 {
        format!("{kind} name '{name}' cannot be longer than '32' characters")
    } else if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        format!("{kind} name '{name}' can only contain characters that are alphanumeric characters and hyphens(-)")
    } else if name.starts_with('-') || name.ends_with('-') {
        format!("{kind} name '{name}' cannot begin or end with a hyphen(-)")
    } else {
        return Ok(());
    };
    Code::ValidationError.refuse(complaint)
}

fn check_name(name: &str) -> Result<()> {
    check_resource_name("The load balancer", name)?;
    if name.starts_with("internal-") {
        return Code::ValidationError.refuse(format!("The load balancer name '{name}' cannot begin with 'internal-'"));
    }
    Ok(())
}
