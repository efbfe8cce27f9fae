//! Listeners: creating, listing, changing and deleting them.

use std::{collections::BTreeMap, time::Duration};

use super::{
    attribute_table::{self, Attributes},
    certificates::{self, CERTIFICATES},
    forwarding::{ACTIONS, Forward},
    health_check::PROTOCOL,
    listing::{MARKER, PAGE_SIZE, listing, page},
    lookup::Noun,
    tags::{self, TAGS, Tags},
};
use crate::{
    Model, Value,
    fault::{Code, Result},
    limits::Bucket,
    operations::Operation,
    schema::{Input, Kind, TEXT, TEXTS, optional, required},
    store::{BalancerKey, GroupKey, ListenerKey, Resource},
    value::record,
};

/// A listener.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) arn: String,
    pub(crate) balancer: BalancerKey,
    pub(crate) port: u16,
    pub(crate) protocol: String,
    pub(crate) forward: Forward,
    /// Where flows still go shortly after a change.
    previous: Option<(Forward, Duration)>,
    ssl_policy: Option<String>,
    pub(super) certificates: Vec<String>,
    alpn: Vec<String>,
    pub(crate) attributes: Attributes,
    pub(super) tags: Tags,
    pub(super) rule_arn: String,
    pub(super) rule_tags: Tags,
    pub(super) settled_at: Duration,
}

impl Resource for Listener {
    fn arn(&self) -> &str {
        &self.arn
    }
}

impl Listener {
    pub(crate) fn forwards_to(&self, group: GroupKey) -> bool {
        self.forward.groups.iter().any(|(g, _)| *g == group)
    }

    /// Where flows go: a change takes its time to reach the nodes.
    pub(crate) fn routes(&self, now: Duration) -> &Forward {
        match &self.previous {
            Some((previous, until)) if now < *until => previous,
            _ => &self.forward,
        }
    }

    /// Whether it accepts TCP connections in the data plane.
    pub(crate) fn accepts_tcp(&self) -> bool {
        matches!(self.protocol.as_str(), "TCP" | "TCP_UDP" | "TLS")
    }
}

const PORT: Kind = Kind::int(1, 65535);
const ALPN_POLICIES: [&str; 5] = ["None", "HTTP1Only", "HTTP2Only", "HTTP2Optional", "HTTP2Preferred"];

pub(super) const CREATE: Operation = Operation {
    name: "CreateListener",
    bucket: Bucket::Other,
    accepts: &[
        required("LoadBalancerArn", TEXT),
        optional("Protocol", PROTOCOL),
        optional("Port", PORT),
        optional("SslPolicy", TEXT),
        optional("Certificates", CERTIFICATES),
        required("DefaultActions", ACTIONS),
        optional("AlpnPolicy", TEXTS),
        optional("Tags", TAGS),
    ],
    refuses: &[
        Code::DuplicateListener,
        Code::TooManyListeners,
        Code::TooManyCertificates,
        Code::LoadBalancerNotFound,
        Code::TargetGroupNotFound,
        Code::TargetGroupAssociationLimit,
        Code::IncompatibleProtocols,
        Code::InvalidConfigurationRequest,
        Code::SslPolicyNotFound,
        Code::CertificateNotFound,
        Code::UnsupportedProtocol,
        Code::TooManyTargets,
        Code::TooManyRegistrationsForTargetId,
        Code::TooManyActions,
        Code::InvalidLoadBalancerAction,
        Code::TooManyUniqueTargetGroups,
        Code::AlpnPolicyNotSupported,
        Code::TooManyTags,
        Code::DuplicateTagKeys,
    ],
    run: |model, input| model.create_listener(input),
};

pub(super) const DESCRIBE: Operation = Operation {
    name: "DescribeListeners",
    bucket: Bucket::Describe,
    accepts: &[optional("LoadBalancerArn", TEXT), optional("ListenerArns", TEXTS), MARKER, PAGE_SIZE],
    refuses: &[Code::ListenerNotFound, Code::LoadBalancerNotFound, Code::UnsupportedProtocol],
    run: |model, input| {
        let (balancer, arns) = (input.text("LoadBalancerArn"), input.texts("ListenerArns"));
        if balancer.is_some() != arns.is_empty() {
            return Code::ValidationError.refuse("You must specify either listener ARNs or a load balancer ARN");
        }
        let mut keys = Vec::new();
        if let Some(arn) = balancer {
            let balancer = model.balancer_key(arn)?;
            keys = model.listeners_of(balancer);
            let settled: BTreeMap<_, _> = model.listeners.iter().map(|(key, l)| (key, l.settled_at)).collect();
            keys.retain(|key| settled.get(key).is_some_and(|at| model.sees(*at)));
        }
        for arn in arns {
            keys.push(model.listener_key(arn)?);
        }
        keys.sort_unstable();
        let (page, next) = page(input, keys)?;
        let shown = page.into_iter().filter_map(|key| model.show_listener(key));
        Ok(listing("Listeners", shown, next))
    },
};

pub(super) const MODIFY: Operation = Operation {
    name: "ModifyListener",
    bucket: Bucket::Modify,
    accepts: &[
        required("ListenerArn", TEXT),
        optional("Port", PORT),
        optional("Protocol", PROTOCOL),
        optional("SslPolicy", TEXT),
        optional("Certificates", CERTIFICATES),
        optional("DefaultActions", ACTIONS),
        optional("AlpnPolicy", TEXTS),
    ],
    refuses: &[
        Code::DuplicateListener,
        Code::TooManyListeners,
        Code::TooManyCertificates,
        Code::ListenerNotFound,
        Code::TargetGroupNotFound,
        Code::TargetGroupAssociationLimit,
        Code::IncompatibleProtocols,
        Code::SslPolicyNotFound,
        Code::CertificateNotFound,
        Code::InvalidConfigurationRequest,
        Code::UnsupportedProtocol,
        Code::TooManyTargets,
        Code::TooManyRegistrationsForTargetId,
        Code::TooManyActions,
        Code::InvalidLoadBalancerAction,
        Code::TooManyUniqueTargetGroups,
        Code::AlpnPolicyNotSupported,
    ],
    run: |model, input| model.modify_listener(input),
};

pub(super) const DELETE: Operation = Operation {
    name: "DeleteListener",
    bucket: Bucket::Other,
    accepts: &[required("ListenerArn", TEXT)],
    refuses: &[Code::ListenerNotFound, Code::ResourceInUse],
    run: |model, input| {
        let key = model.listener_key(input.need("ListenerArn"))?;
        model.remove_listener(key);
        Ok(Value::empty())
    },
};

impl Model {
    fn create_listener(&mut self, input: &Input) -> Result<Value> {
        let tags = tags::read(&self.settings, input)?;
        let balancer = self.balancer_key(input.need("LoadBalancerArn"))?;
        let Some(protocol) = input.text("Protocol") else {
            return Code::ValidationError.refuse("A listener protocol must be specified");
        };
        let Some(port) = input.number::<u16>("Port") else {
            return Code::ValidationError.refuse("A listener port must be specified");
        };
        let forward = self.read_actions(input, protocol)?;
        let draft = Listener {
            arn: String::new(),
            balancer,
            port,
            protocol: protocol.to_owned(),
            forward,
            previous: None,
            ssl_policy: None,
            certificates: Vec::new(),
            alpn: Vec::new(),
            attributes: attribute_table::listener_defaults(protocol),
            tags,
            rule_arn: String::new(),
            rule_tags: Tags::new(),
            settled_at: Duration::ZERO,
        };
        let draft = with_tls(draft, input)?;
        if let Some((key, existing)) = self.listeners.find(|l| l.balancer == balancer && l.port == port) {
            let same = existing.protocol == draft.protocol
                && existing.forward == draft.forward
                && existing.ssl_policy == draft.ssl_policy
                && existing.certificates == draft.certificates
                && existing.alpn == draft.alpn
                && (!self.settings.create_compares_tags || existing.tags == draft.tags);
            if same {
                return Ok(listing("Listeners", self.show_listener(key).into_iter(), None));
            }
            let arn = input.need("LoadBalancerArn");
            return Code::DuplicateListener
                .refuse(format!("A listener already exists on port {port} for this load balancer '{arn}'"));
        }
        let quota = self.settings.quota_listeners as usize;
        if self.listeners_of(balancer).len() >= quota {
            return Code::TooManyListeners
                .refuse(format!("The maximum number of listeners '{quota}' has been reached"));
        }
        self.check_listener(&draft)?;
        let Some(owner) = self.balancers.get(balancer) else { return Err(Noun::Balancer.missing()) };
        let (name, id) = (owner.name.clone(), owner.id.clone());
        let (own, rule) = (self.random.hex(16), self.random.hex(16));
        let arn = self.arn(&format!("listener/net/{name}/{id}/{own}"));
        let rule_arn = self.arn(&format!("listener-rule/net/{name}/{id}/{own}/{rule}"));
        let settled_at = self.settling();
        let key = self.listeners.add(Listener { arn, rule_arn, settled_at, ..draft });
        self.review_listening(balancer);
        self.review_groups_of(balancer);
        Ok(listing("Listeners", self.show_listener(key).into_iter(), None))
    }

    fn modify_listener(&mut self, input: &Input) -> Result<Value> {
        let key = self.listener_key(input.need("ListenerArn"))?;
        let Some(before) = self.listeners.get(key).cloned() else { return Err(Noun::Listener.missing()) };
        let mut after = before.clone();
        if let Some(protocol) = input.text("Protocol") {
            if protocol != after.protocol {
                after.attributes = attribute_table::listener_defaults(protocol);
            }
            protocol.clone_into(&mut after.protocol);
        }
        after.port = input.number("Port").unwrap_or(before.port);
        if input.has("DefaultActions") {
            after.forward = self.read_actions(input, &after.protocol)?;
        }
        let mut after = with_tls(after, input)?;
        let taken = |l: &Listener| l.balancer == before.balancer && l.port == after.port && l.arn != before.arn;
        if self.listeners.find(taken).is_some() {
            return Code::DuplicateListener.refuse(format!("A listener already exists on port {}", after.port));
        }
        self.check_listener(&after)?;
        if after.forward != before.forward {
            let until = self.now + self.settings.listener_change;
            after.previous = Some((before.routes(self.now).clone(), until));
            self.agenda.add(until, crate::agenda::Due::Listener(key));
        }
        let balancer = before.balancer;
        if let Some(listener) = self.listeners.get_mut(key) {
            *listener = after;
        }
        self.review_listening(balancer);
        for (group, _) in before.forward.groups {
            self.review_group(group);
        }
        self.review_groups_of(balancer);
        Ok(listing("Listeners", self.show_listener(key).into_iter(), None))
    }

    /// Deletes a listener: its groups go out of use, its flows live on.
    pub(super) fn remove_listener(&mut self, key: ListenerKey) {
        let Some(listener) = self.listeners.remove(key) else { return };
        let most = self.settings.consistency_release;
        for (group, _) in listener.forward.groups {
            let released_at = self.now + self.random.within(most);
            if let Some(group) = self.groups.get_mut(group) {
                group.released_at = released_at;
            }
            self.review_group(group);
        }
        self.review_listening(listener.balancer);
    }

    pub(crate) fn listeners_of(&self, balancer: BalancerKey) -> Vec<ListenerKey> {
        self.listeners.iter().filter(|(_, l)| l.balancer == balancer).map(|(key, _)| key).collect()
    }

    pub(super) fn listeners_to(&self, group: GroupKey) -> Vec<ListenerKey> {
        self.listeners.iter().filter(|(_, l)| l.forwards_to(group)).map(|(key, _)| key).collect()
    }

    fn show_listener(&self, key: ListenerKey) -> Option<Value> {
        let listener = self.listeners.get(key)?;
        let balancer = self.balancers.get(listener.balancer)?;
        let default = listener.certificates.first().map(|arn| record! { "CertificateArn": arn.as_str() });
        let alpn: Value = listener.alpn.iter().map(|p| Value::from(p.as_str())).collect();
        Some(record! {
            "ListenerArn": listener.arn.as_str(),
            "LoadBalancerArn": balancer.arn.as_str(),
            "Port": listener.port,
            "Protocol": listener.protocol.as_str(),
            ? "Certificates": default.map(|certificate| Value::List(vec![certificate])),
            ? "SslPolicy": listener.ssl_policy.as_deref(),
            "DefaultActions": self.show_actions(listener),
            ? "AlpnPolicy": (!listener.alpn.is_empty()).then_some(alpn),
        })
    }
}

/// The listener with the TLS settings of a call. Only TLS listeners have any.
fn with_tls(mut listener: Listener, input: &Input) -> Result<Listener> {
    if listener.protocol != "TLS" {
        for name in ["SslPolicy", "Certificates", "AlpnPolicy"] {
            if input.has(name) {
                return Code::InvalidConfigurationRequest
                    .refuse(format!("{name} can be specified only for TLS listeners, not for {}", listener.protocol));
            }
        }
        (listener.ssl_policy, listener.certificates, listener.alpn) = (None, Vec::new(), Vec::new());
        return Ok(listener);
    }
    if input.has("Certificates") {
        // Another default leaves those besides it alone.
        let others = listener.certificates.into_iter().skip(1);
        listener.certificates = certificates::read(input)?.into_iter().chain(others).collect();
    }
    if listener.certificates.is_empty() {
        return Code::ValidationError.refuse("A certificate must be specified for TLS listeners");
    }
    if let Some(policy) = input.text("SslPolicy") {
        if !policy.starts_with("ELBSecurityPolicy-") {
            return Code::SslPolicyNotFound.refuse(format!("SSL policy '{policy}' not found"));
        }
        listener.ssl_policy = Some(policy.to_owned());
    }
    listener.ssl_policy.get_or_insert_with(|| "ELBSecurityPolicy-2016-08".to_owned());
    if input.has("AlpnPolicy") {
        let policies = input.texts("AlpnPolicy");
        if policies.len() > 1 || policies.iter().any(|p| !ALPN_POLICIES.contains(p)) {
            return Code::AlpnPolicyNotSupported.refuse(format!("ALPN policy '{}' not found", policies.join(",")));
        }
        listener.alpn = policies.into_iter().map(str::to_owned).collect();
    }
    Ok(listener)
}
