//! The load balancer: made, changed in place, or, where somebody has allowed it, replaced.

use nlb::{
    annotations::{attributes::DELETION_PROTECTION, keys},
    service::spec::SecurityGroups,
};

use super::{
    Change, Intent, Planner, Resource, Verb, Wait, attribute_changes, attribute_fields, in_parts, on_or_off,
    places::subnet_text,
};
use crate::{
    aws::{Arn, Call, CreateLoadBalancer, LoadBalancer},
    balancers::{managed::balancer_default, placement::may_be_replaced},
};

/// Stands for the ARN of a load balancer that is not there yet.
pub(super) const NEW: &str = "$LoadBalancer";

impl Planner<'_> {
    pub(super) fn load_balancer(&mut self) {
        let Some(found) = self.survey.load_balancer else { return self.create_balancer() };
        match self.outgrown(found) {
            Some(why) if may_be_replaced(self.inputs, found) => self.replace_balancer(found, &why),
            why => {
                if let Some(why) = &why {
                    let remedy = format!("set {}: \"{}\" to give it up", keys::ALLOW_REPLACEMENT, found.name);
                    let message = format!("{why}, which needs a new load balancer with another DNS name");
                    self.waiting("Replacement", message, &remedy);
                }
                self.change_balancer(found, why.is_some());
                self.listeners_on = Some(found.arn.clone());
                for old in self.survey.surplus.clone() {
                    if found.state == "provisioning" {
                        self.wait(Resource::new("load balancer", &found.name), Wait::Active(found.name.clone()));
                    }
                    // One that AWS could not make takes nobody's place.
                    if found.state == "failed" || !self.delete_balancer(old) {
                        // Its target groups cannot serve two load balancers.
                        self.listeners_on = None;
                    }
                }
            }
        }
    }

    /// Why a load balancer cannot be changed into what is wanted.
    fn outgrown(&self, found: &LoadBalancer) -> Option<String> {
        let wanted = self.inputs.spec.scheme.as_str();
        if found.scheme != wanted {
            return Some(format!("load balancer {} is {} and is to be {wanted}", found.name, found.scheme));
        }
        match (&self.inputs.spec.security_groups, found.security_groups.is_empty()) {
            (SecurityGroups::Given { .. }, true) => {
                Some(format!("load balancer {} was made without security groups and is to have some", found.name))
            }
            (SecurityGroups::None { .. }, false) => {
                Some(format!("load balancer {} was made with security groups and is to have none", found.name))
            }
            _ => None,
        }
    }

    fn create_balancer(&mut self) {
        let wanted = &self.desired.load_balancer;
        let (Some(mappings), Some(groups)) = (wanted.subnet_mappings.clone(), wanted.security_groups.clone()) else {
            return;
        };
        let name = self.inputs.spec.name.clone();
        let resource = Resource::new("load balancer", &name);
        if groups.iter().any(|id| id == crate::balancers::security_groups::SHARED) {
            self.wait(resource.clone(), Wait::SharedGroup);
        }
        let changes = vec![
            Change::set("Scheme", wanted.scheme.as_str()),
            Change::set("IpAddressType", wanted.ip_address_type.as_str()),
            Change::set("SubnetMappings", subnet_text(&mappings)),
            Change::set("SecurityGroups", groups.join(", ")),
        ];
        let call = Call::CreateLoadBalancer(CreateLoadBalancer {
            name,
            scheme: wanted.scheme.as_str().to_owned(),
            ip_address_type: wanted.ip_address_type.as_str().to_owned(),
            subnet_mappings: mappings,
            security_groups: groups,
            enable_prefix_for_ipv6_source_nat: wanted.enable_prefix_for_ipv6_source_nat.filter(|on| *on),
            tags: wanted.tags.clone(),
        });
        self.aws(Verb::Create, resource.clone(), changes, call);
        let arn = Arn::new(NEW);
        self.listeners_on = Some(arn.clone());
        let default = |key: &str| balancer_default(key, wanted.scheme);
        let unusual: std::collections::BTreeMap<String, String> = wanted
            .attributes
            .iter()
            .filter(|(key, value)| default(key).as_ref() != Some(*value))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for part in in_parts(unusual) {
            let fields = part.iter().map(|(key, value)| Change::set(format!("Attributes[{key}]"), value)).collect();
            let call = Call::ModifyLoadBalancerAttributes { load_balancer: arn.clone(), attributes: part };
            self.aws(Verb::Change, resource.clone(), fields, call);
        }
        // A new one lets inbound rules hold.
        if wanted.enforce_security_group_inbound_rules_on_private_link_traffic == Some(false) {
            self.set_private_link(resource, &arn, wanted.security_groups.clone().unwrap_or_default(), None, false);
        }
    }

    /// Gives up a load balancer for another. The new one is made and active before the old one goes, unless both have the
    /// same name. Its target groups can be moved only once the old one is gone.
    fn replace_balancer(&mut self, old: &LoadBalancer, why: &str) {
        let first = self.draft.plan.steps.len();
        if old.name == self.inputs.spec.name {
            if self.delete_balancer(old) {
                self.create_balancer();
            }
        } else {
            self.create_balancer();
            if self.listeners_on.is_some() {
                let name = self.inputs.spec.name.clone();
                self.wait(Resource::new("load balancer", &name), Wait::Active(name));
                if !self.delete_balancer(old) {
                    self.listeners_on = None;
                }
            }
        }
        if let Some(step) = self.draft.plan.steps.iter_mut().skip(first).find(|step| step.verb == Verb::Create) {
            step.verb = Verb::Replace;
            step.changes.insert(0, Change::new("LoadBalancerName", Some(old.name.clone()), Some(why.to_owned())));
        }
    }

    fn change_balancer(&mut self, found: &LoadBalancer, outgrown: bool) {
        let wanted = self.desired.load_balancer.clone();
        let resource = Resource::new("load balancer", &found.name);
        let has_groups = !found.security_groups.is_empty();
        if let Some(groups) = wanted.security_groups.as_ref().filter(|_| has_groups && !outgrown) {
            self.change_security_groups(found, groups);
        }
        self.change_places(found, outgrown);
        let read = Call::DescribeLoadBalancerAttributes { load_balancer: found.arn.clone() };
        if let Some(known) = self.attributes_of(&found.arn, read) {
            let set_once = self.inputs.managed().attributes;
            let default = |key: &str| balancer_default(key, wanted.scheme);
            let changed = attribute_changes(&known, &wanted.attributes, Some(&set_once), default);
            for part in in_parts(changed) {
                let fields = attribute_fields(&known, &part);
                let call = Call::ModifyLoadBalancerAttributes { load_balancer: found.arn.clone(), attributes: part };
                self.aws(Verb::Change, resource.clone(), fields, call);
            }
        }
        self.tags(&resource, &found.arn, &wanted.tags);
    }

    fn change_security_groups(&mut self, found: &LoadBalancer, groups: &[String]) {
        let resource = Resource::new("load balancer", &found.name);
        let sorted = |groups: &[String]| groups.iter().cloned().collect::<std::collections::BTreeSet<_>>();
        let wanted = match self.desired.load_balancer.enforce_security_group_inbound_rules_on_private_link_traffic {
            // What AWS does unless it is told otherwise.
            None if self.inputs.managed().private_link => Some(true),
            wanted => wanted,
        };
        let enforce = wanted.filter(|wanted| found.enforce_on_private_link != Some(*wanted));
        if sorted(groups) != sorted(&found.security_groups) {
            if groups.iter().any(|id| id == crate::balancers::security_groups::SHARED) {
                self.wait(resource.clone(), Wait::SharedGroup);
            }
            let changes =
                vec![Change::new("SecurityGroups", Some(found.security_groups.join(", ")), Some(groups.join(", ")))];
            let call = Call::SetSecurityGroups {
                load_balancer: found.arn.clone(),
                security_groups: groups.to_vec(),
                enforce_on_private_link: enforce,
            };
            self.aws(Verb::Change, resource, changes, call);
        } else if let Some(enforce) = enforce {
            let groups = found.security_groups.clone();
            self.set_private_link(resource, &found.arn, groups, found.enforce_on_private_link, enforce);
        }
    }

    fn set_private_link(&mut self, on: Resource, arn: &Arn, groups: Vec<String>, old: Option<bool>, new: bool) {
        let field = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic";
        let changes = vec![Change::new(field, old.map(on_or_off), Some(on_or_off(new)))];
        let call = Call::SetSecurityGroups {
            load_balancer: arn.clone(),
            security_groups: groups,
            enforce_on_private_link: Some(new),
        };
        self.aws(Verb::Change, on, changes, call);
    }

    /// Deletes a load balancer, unless it is protected: by the Service's word, whether AWS has heard it or not, or by
    /// anybody else's that the Service does not take back. Says whether it goes.
    pub(super) fn delete_balancer(&mut self, found: &LoadBalancer) -> bool {
        let resource = Resource::new("load balancer", &found.name);
        let read = Call::DescribeLoadBalancerAttributes { load_balancer: found.arn.clone() };
        let Some(known) = self.attributes_of(&found.arn, read) else { return false };
        let told = self.desired.load_balancer.attributes.get(DELETION_PROTECTION).map(String::as_str);
        let protected = known.get(DELETION_PROTECTION).is_some_and(|value| value == "true");
        if told == Some("true") || protected && told != Some("false") {
            let message = format!("load balancer {} is protected against deletion", found.name);
            let elsewhere = if told.is_none() { ", or switch it off in AWS" } else { "" };
            let remedy = format!("set {}: {DELETION_PROTECTION}=false{elsewhere}", keys::ATTRIBUTES);
            self.waiting("DeletionProtection", message, &remedy);
            return false;
        }
        if protected {
            let attributes = [(DELETION_PROTECTION.to_owned(), "false".to_owned())].into();
            let fields = attribute_fields(&known, &attributes);
            let call = Call::ModifyLoadBalancerAttributes { load_balancer: found.arn.clone(), attributes };
            self.aws(Verb::Change, resource.clone(), fields, call);
        }
        let changes = vec![Change::new("DNSName", Some(found.dns_name.clone()), None)];
        self.aws(Verb::Delete, resource, changes, Call::DeleteLoadBalancer { load_balancer: found.arn.clone() });
        true
    }

    /// The capacity reservation, which can be made once the load balancer is active.
    pub(super) fn capacity(&mut self) {
        debug_assert_eq!(self.inputs.intent, Intent::Keep);
        let wanted = self.desired.load_balancer.minimum_load_balancer_capacity;
        if wanted.is_none() && !self.inputs.managed().capacity {
            return;
        }
        let wanted = wanted.filter(|units| *units > 0);
        let name = self.desired.load_balancer.load_balancer_name.clone();
        let resource = Resource::new("load balancer", &name);
        let found = self.survey.load_balancer;
        if wanted.is_some() && found.is_none_or(|found| found.state == "provisioning") {
            self.wait(resource.clone(), Wait::Active(name));
        }
        let arn = found.map_or_else(|| Arn::new(NEW), |found| found.arn.clone());
        let known = match found {
            None => None,
            Some(found) => {
                let Some(known) = self.observed.capacity.get(&found.arn) else {
                    let read = Call::DescribeCapacityReservation { load_balancer: found.arn.clone() };
                    return self.draft.reads.push(read);
                };
                known.capacity_units.filter(|units| *units > 0)
            }
        };
        if wanted != known {
            let text = |units: Option<u32>| units.map(|units| units.to_string());
            let changes = vec![Change::new("CapacityUnits", text(known), text(wanted))];
            let call = Call::ModifyCapacityReservation { load_balancer: arn, capacity_units: wanted };
            self.aws(Verb::Change, resource, changes, call);
        }
    }
}
