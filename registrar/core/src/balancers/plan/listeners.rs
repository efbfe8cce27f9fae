//! Listeners, and how they move from one target group to another without a gap.

use std::collections::{BTreeMap, BTreeSet};

use nlb::service::spec::{self, GroupRef};

use super::{Change, Planner, Resource, Verb, Wait, attribute_changes, attribute_fields};
use crate::{
    aws::{Arn, Call, CreateListener, Forward, HealthState, Listener, ModifyListener, TargetHealth},
    balancers::{
        managed::listener_default,
        step::{Operation, Step, name_of},
        survey::listeners_by_port,
    },
};

impl Planner<'_> {
    pub(super) fn listeners(&mut self) {
        let Some(balancer) = self.listeners_on.clone() else { return };
        let serving = self.survey.load_balancer.filter(|found| found.arn == balancer);
        let present: BTreeMap<u16, &Listener> =
            serving.map(|found| listeners_by_port(self.observed, found)).unwrap_or_default();
        let wanted = self.desired.listeners.clone();
        let stale: Vec<&Listener> =
            present.values().filter(|found| !wanted.iter().any(|wanted| wanted.port == found.port)).copied().collect();
        for found in stale {
            match self.observed.tags.get(&found.arn) {
                None => self.draft.reads.push(Call::DescribeTags { resources: vec![found.arn.clone()] }),
                // A listener that somebody else added stays.
                Some(tags) if !self.inputs.owns(tags) => {}
                Some(_) => {
                    let changes = vec![Change::new("Protocol", Some(found.protocol.clone()), None)];
                    let call = Call::DeleteListener { listener: found.arn.clone() };
                    self.aws(Verb::Delete, resource(found.port), changes, call);
                }
            }
        }
        // A listener that waits for the targets of a group holds up no other.
        let mut late = Vec::new();
        for listener in &wanted {
            let Some(forward) = self.forward(listener) else { continue };
            let first = self.draft.plan.steps.len();
            match present.get(&listener.port) {
                None => self.create_listener(&balancer, listener, forward),
                Some(found) if self.is_foreign(found) => {
                    let message = format!(
                        "listener {} of port {} is not the Service's by its tags, and forwards to nothing of it",
                        found.arn, found.port
                    );
                    self.problem("ListenerTaken", message, "delete it, or take the port from the Service");
                }
                Some(found) => self.change_listener(found, listener, forward),
            }
            let steps = &mut self.draft.plan.steps;
            let waits = |step: &Step| matches!(step.operation, Operation::Wait(_));
            if let Some(at) = steps.iter().skip(first).position(waits) {
                late.extend(steps.split_off(first + at));
            }
        }
        self.draft.plan.steps.append(&mut late);
    }

    /// Whether a listener under a wanted port is somebody else's.
    fn is_foreign(&self, found: &Listener) -> bool {
        let tagged = self.observed.tags.get(&found.arn).is_none_or(|tags| self.inputs.owns(tags));
        let groups = found.forward.iter().flat_map(|forward| &forward.groups);
        let forwards_here =
            groups.into_iter().any(|(arn, _)| self.survey.groups.iter().any(|known| known.group.arn == *arn));
        !tagged && !forwards_here
    }

    /// Where a listener is to forward to; nothing if that cannot be said.
    fn forward(&self, listener: &spec::Listener) -> Option<Forward> {
        let of_resource = |resource: &str| {
            let group = self.desired.target_groups.iter().find(|group| group.spec.resource == resource)?;
            (!self.unmade.contains(&group.target_group_arn)).then(|| group.target_group_arn.clone())
        };
        let mut groups = Vec::new();
        for weighted in &listener.default_actions.target_groups {
            let arn = match &weighted.group {
                GroupRef::Own(resource) => of_resource(resource)?,
                GroupRef::Arn(arn) => Arn::new(arn),
                GroupRef::Service { name, port } => {
                    let is_it = |backend: &&super::super::Backend| backend.service == *name && backend.port == *port;
                    let backend = self.inputs.backends.iter().find(is_it)?.group.as_ref()?;
                    let group = self.desired.target_groups.iter().find(|group| group.spec.name == backend.name)?;
                    group.target_group_arn.clone()
                }
            };
            groups.push((arn, weighted.weight));
        }
        let sticky = match listener.default_actions.sticky {
            None if self.inputs.managed().stickiness.contains(&listener.port) => Some(false),
            sticky => sticky,
        };
        Some(Forward { groups, sticky })
    }

    fn create_listener(&mut self, balancer: &Arn, wanted: &spec::Listener, forward: Forward) {
        let changes = vec![
            Change::set("Protocol", wanted.protocol.as_str()),
            Change::set("DefaultActions", self.forward_text(&forward)),
        ];
        let call = Call::CreateListener(CreateListener {
            load_balancer: balancer.clone(),
            protocol: wanted.protocol.as_str().to_owned(),
            port: wanted.port,
            forward,
            ssl_policy: wanted.ssl_policy.clone(),
            certificate: wanted.certificates.first().cloned(),
            alpn_policy: wanted.alpn_policy.clone(),
            tags: wanted.tags.clone(),
        });
        self.aws(Verb::Create, resource(wanted.port), changes, call);
        let arn = Arn::new(&format!("${}", wanted.port));
        self.add_certificates(&arn, wanted, &[]);
        let default = |key: &String| listener_default(key);
        let unusual = wanted.attributes.iter().filter(|(key, value)| default(key).as_ref() != Some(*value));
        let unusual: BTreeMap<String, String> = unusual.map(|(key, value)| (key.clone(), value.clone())).collect();
        if !unusual.is_empty() {
            let fields = unusual.iter().map(|(key, value)| Change::set(format!("Attributes[{key}]"), value)).collect();
            let call = Call::ModifyListenerAttributes { listener: arn, attributes: unusual };
            self.aws(Verb::Change, resource(wanted.port), fields, call);
        }
    }

    fn change_listener(&mut self, found: &Listener, wanted: &spec::Listener, forward: Forward) {
        match self.observed.certificates.get(&found.arn).cloned() {
            _ if wanted.certificates.is_empty() => self.modify(found, wanted, forward),
            _ if found.protocol != "TLS" => {
                self.modify(found, wanted, forward);
                self.add_certificates(&found.arn, wanted, &[]);
            }
            // A default certificate that is to stay as another one is among the others before it ceases to be the default.
            Some(known) => {
                self.add_certificates(&found.arn, wanted, &known);
                self.modify(found, wanted, forward);
                self.remove_certificates(&found.arn, wanted, &known);
            }
            None => self.draft.reads.push(Call::DescribeListenerCertificates { listener: found.arn.clone() }),
        }
        let set_once = self.inputs.managed().listener_attributes.remove(&wanted.port).unwrap_or_default();
        if found.protocol == wanted.protocol.as_str() && !(wanted.attributes.is_empty() && set_once.is_empty()) {
            let read = Call::DescribeListenerAttributes { listener: found.arn.clone() };
            if let Some(known) = self.attributes_of(&found.arn, read) {
                let changed = attribute_changes(&known, &wanted.attributes, Some(&set_once), listener_default);
                // An attribute that this listener does not have any more has no default to go back to.
                let changed: BTreeMap<String, String> = changed
                    .into_iter()
                    .filter(|(key, _)| known.contains_key(key) || wanted.attributes.contains_key(key))
                    .collect();
                if !changed.is_empty() {
                    let fields = attribute_fields(&known, &changed);
                    let call = Call::ModifyListenerAttributes { listener: found.arn.clone(), attributes: changed };
                    self.aws(Verb::Change, resource(wanted.port), fields, call);
                }
            }
        }
        self.tags(&resource(wanted.port), &found.arn, &wanted.tags);
    }

    /// Certificates besides the default one that a listener is to have. Known are those that it has, and which of them is
    /// its default; that one may be among the others too.
    fn add_certificates(&mut self, listener: &Arn, wanted: &spec::Listener, known: &[(String, bool)]) {
        let default = wanted.certificates.first();
        let is_known = |certificate: &String| known.iter().any(|(known, default)| !default && known == certificate);
        let missing: BTreeSet<&String> = wanted
            .certificates
            .iter()
            .filter(|certificate| Some(*certificate) != default && !is_known(certificate))
            .collect();
        for certificate in missing {
            let changes = vec![Change::set("Certificates", certificate)];
            let certificates = vec![certificate.clone()];
            let call = Call::AddListenerCertificates { listener: listener.clone(), certificates };
            self.aws(Verb::Change, resource(wanted.port), changes, call);
        }
    }

    fn remove_certificates(&mut self, listener: &Arn, wanted: &spec::Listener, known: &[(String, bool)]) {
        let excess =
            known.iter().filter(|(certificate, default)| !default && !wanted.certificates.contains(certificate));
        for (certificate, _) in excess {
            let changes = vec![Change::new("Certificates", Some(certificate.clone()), None)];
            let certificates = vec![certificate.clone()];
            let call = Call::RemoveListenerCertificates { listener: listener.clone(), certificates };
            self.aws(Verb::Change, resource(wanted.port), changes, call);
        }
    }

    fn modify(&mut self, found: &Listener, wanted: &spec::Listener, forward: Forward) {
        let known = found.forward.clone().unwrap_or_default();
        let mut change = ModifyListener {
            listener: found.arn.clone(),
            protocol: None,
            port: None,
            forward: None,
            ssl_policy: None,
            certificate: None,
            alpn_policy: None,
        };
        let mut fields = Vec::new();
        let becomes_other = found.protocol != wanted.protocol.as_str();
        if becomes_other {
            change.protocol = Some(wanted.protocol.as_str().to_owned());
            fields.push(Change::new("Protocol", Some(found.protocol.clone()), change.protocol.clone()));
        }
        let alpn = match &wanted.alpn_policy {
            None if self.inputs.managed().alpn_policies.contains(&wanted.port) && wanted.ssl_policy.is_some() => {
                Some("None".to_owned())
            }
            wanted => wanted.clone(),
        };
        let alpn_now = found.alpn_policy.clone().or(wanted.ssl_policy.is_some().then(|| "None".to_owned()));
        let tls = [
            ("SslPolicy", &wanted.ssl_policy, &found.ssl_policy, &mut change.ssl_policy),
            ("Certificates", &wanted.certificates.first().cloned(), &found.certificate, &mut change.certificate),
            ("AlpnPolicy", &alpn, &alpn_now, &mut change.alpn_policy),
        ];
        for (field, new, old, slot) in tls {
            if new.is_some() && (new != old || becomes_other) {
                slot.clone_from(new);
                fields.push(Change::new(field, old.clone(), new.clone()));
            }
        }
        if !same_forward(&known, &forward) {
            if self.overlap(found, wanted, &known, &forward, &change) {
                return;
            }
            fields.push(Change::new(
                "DefaultActions",
                Some(self.forward_text(&known)),
                Some(self.forward_text(&forward)),
            ));
            change.forward = Some(forward);
        }
        if !fields.is_empty() {
            self.aws(Verb::Change, resource(found.port), fields, Call::ModifyListener(change));
        }
    }

    /// Where one target group takes over from another: puts the new one into use without traffic, so that its targets are
    /// checked, and waits for them, before the listener moves. Says whether it has planned all of that.
    fn overlap(
        &mut self,
        found: &Listener,
        wanted: &spec::Listener,
        known: &Forward,
        forward: &Forward,
        change: &ModifyListener,
    ) -> bool {
        let enabled = self.inputs.settings().features.weighted_target_groups;
        let (old, new) = self.successions(known, forward);
        if !enabled || old.is_empty() || new.is_empty() {
            return false;
        }
        let cold: Vec<&Arn> = new.iter().filter(|arn| !known.groups.iter().any(|(known, _)| known == *arn)).collect();
        let mut warm = known.clone();
        if let [(_, weight @ None)] = warm.groups.as_mut_slice() {
            *weight = Some(1);
        }
        warm.groups.extend(cold.iter().map(|arn| ((*arn).clone(), Some(0))));
        let protocols: Vec<&str> = warm.groups.iter().filter_map(|(arn, _)| self.protocol_of(arn)).collect();
        let hosts = [wanted.protocol.as_str(), found.protocol.as_str()];
        let carries = |host: &&&str| protocols.iter().all(|protocol| carried_by(host).contains(protocol));
        let Some(host) = hosts.iter().find(carries) else {
            // No listener carries both, so the old one serves until the moment that the new one does.
            return false;
        };
        let final_change = |fields: &mut Vec<Change>, planner: &Self| {
            fields.push(Change::new(
                "DefaultActions",
                Some(planner.forward_text(&warm)),
                Some(planner.forward_text(forward)),
            ));
            ModifyListener { forward: Some(forward.clone()), ..change.clone() }
        };
        if !cold.is_empty() {
            let mut first = if *host == wanted.protocol.as_str() {
                change.clone()
            } else {
                ModifyListener {
                    protocol: None,
                    ssl_policy: None,
                    certificate: None,
                    alpn_policy: None,
                    ..change.clone()
                }
            };
            first.forward = Some(warm.clone());
            let fields =
                vec![Change::new("DefaultActions", Some(self.forward_text(known)), Some(self.forward_text(&warm)))];
            self.aws(Verb::Change, resource(found.port), fields, Call::ModifyListener(first));
        }
        for group in &new {
            if !cold.is_empty() || !self.may_take_over(group, &old) {
                self.wait(Resource::new("target group", name_of(group)), Wait::Healthy(group.clone()));
            }
        }
        let mut fields = Vec::new();
        let last = final_change(&mut fields, self);
        self.aws(Verb::Change, resource(found.port), fields, Call::ModifyListener(last));
        true
    }

    /// Groups of the listener that others take over from, and those others.
    fn successions(&self, known: &Forward, forward: &Forward) -> (Vec<Arn>, Vec<Arn>) {
        let (mut old, mut new) = (Vec::new(), Vec::new());
        for (arn, _) in &forward.groups {
            let serving = known.groups.iter().any(|(known, weight)| known == arn && *weight != Some(0));
            let wanted = self.desired.target_groups.iter().find(|group| group.target_group_arn == *arn);
            let Some(wanted) = wanted.filter(|_| !serving) else { continue };
            let of_resource = |arn: &Arn| {
                self.survey.groups.iter().any(|found| found.group.arn == *arn && found.resource == wanted.spec.resource)
            };
            let before: Vec<Arn> = known
                .groups
                .iter()
                .map(|(arn, _)| arn)
                .filter(|known| of_resource(known) && !forward.groups.iter().any(|(wanted, _)| wanted == *known))
                .cloned()
                .collect();
            if !before.is_empty() {
                old.extend(before);
                new.push(arn.clone());
            }
        }
        (old, new)
    }

    /// Whether a group that is in use without traffic can take over: its targets are checked and some are healthy, or
    /// those before it are no better.
    fn may_take_over(&mut self, new: &Arn, old: &[Arn]) -> bool {
        for arn in std::iter::once(new).chain(old) {
            if !self.observed.health.contains_key(arn) {
                self.draft.reads.push(Call::DescribeTargetHealth { group: arn.clone() });
            }
        }
        let targets = |arn: &Arn| self.observed.health.get(arn).map(Vec::as_slice);
        let healthy = |targets: &[TargetHealth]| targets.iter().any(|target| target.state == HealthState::Healthy);
        let Some(ours) = targets(new) else { return false };
        // Where some are healthy the group is in use, and those that are unused stay so: in zones that are not enabled.
        let ready = healthy(ours) && !ours.iter().any(|target| target.state == HealthState::Initial);
        ready || old.iter().all(|old| targets(old).is_some_and(|theirs| !healthy(theirs)))
    }

    /// Groups that listeners forward to even after the steps so far, and through which ports.
    pub(super) fn still_in_use(&self) -> BTreeMap<Arn, u16> {
        let steps = self.draft.plan.steps.iter().filter_map(|step| match &step.operation {
            Operation::Aws(call) => Some(call),
            Operation::Kubernetes(_) | Operation::Wait(_) => None,
        });
        let mut in_use = BTreeMap::new();
        for balancer in self.survey.balancers() {
            if steps.clone().any(
                |call| matches!(call, Call::DeleteLoadBalancer { load_balancer } if *load_balancer == balancer.arn),
            ) {
                continue;
            }
            for (port, found) in listeners_by_port(self.observed, balancer) {
                let mut forward = found.forward.clone().unwrap_or_default();
                for call in steps.clone() {
                    match call {
                        Call::DeleteListener { listener } if *listener == found.arn => forward = Forward::default(),
                        Call::ModifyListener(ModifyListener { listener, forward: Some(changed), .. })
                            if *listener == found.arn =>
                        {
                            forward = changed.clone();
                        }
                        _ => {}
                    }
                }
                in_use.extend(forward.groups.into_iter().map(|(arn, _)| (arn, port)));
            }
        }
        in_use
    }

    fn protocol_of(&self, arn: &Arn) -> Option<&str> {
        let found = self.observed.groups.get(arn).and_then(Option::as_ref).map(|group| group.protocol.as_str());
        let wanted = || self.desired.target_groups.iter().find(|group| group.target_group_arn == *arn);
        found.or_else(|| wanted().map(|group| group.spec.protocol.as_str()))
    }

    fn forward_text(&self, forward: &Forward) -> String {
        let name = |arn: &Arn| {
            let wanted = self.desired.target_groups.iter().find(|group| group.target_group_arn == *arn);
            wanted
                .filter(|_| arn.as_str().starts_with('$'))
                .map_or_else(|| name_of(arn).to_owned(), |group| group.spec.name.clone())
        };
        let group = |(arn, weight): &(Arn, Option<u16>)| match weight {
            Some(weight) if forward.groups.len() > 1 => format!("{} ({weight})", name(arn)),
            _ => name(arn),
        };
        let mut text = forward.groups.iter().map(group).collect::<Vec<_>>().join(", ");
        if forward.sticky == Some(true) {
            text.push_str(", sticky");
        }
        text
    }
}

fn resource(port: u16) -> Resource {
    Resource::new("listener", port.to_string())
}

/// Whether a listener forwards as it is wanted to.
fn same_forward(known: &Forward, wanted: &Forward) -> bool {
    let groups = |forward: &Forward| -> BTreeMap<Arn, Option<u16>> {
        let alone = forward.groups.len() == 1;
        let weight =
            |weight: Option<u16>| if alone { weight.filter(|weight| *weight == 0) } else { weight.or(Some(1)) };
        forward.groups.iter().map(|(arn, given)| (arn.clone(), weight(*given))).collect()
    };
    groups(known) == groups(wanted) && wanted.sticky.is_none_or(|sticky| sticky == known.sticky.unwrap_or(false))
}

/// Protocols of target groups that a listener of a protocol can forward to.
fn carried_by(listener: &str) -> &'static [&'static str] {
    match listener {
        "TCP" => &["TCP", "TCP_UDP"],
        "TLS" => &["TCP", "TLS"],
        "UDP" => &["UDP", "TCP_UDP"],
        "TCP_UDP" => &["TCP_UDP"],
        "QUIC" => &["QUIC", "TCP_QUIC"],
        "TCP_QUIC" => &["TCP_QUIC"],
        _ => &[],
    }
}
