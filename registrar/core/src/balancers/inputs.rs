//! What a plan depends on besides AWS.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::util::intstr::IntOrString};
use nlb::{
    annotations::keys,
    names::{self, Identity},
    service::{
        self, LoadBalancerSpec,
        spec::{self, GroupRef, SecurityGroups},
    },
    settings::{ModelSettings, Scheme},
    tags,
    targetgroupbinding::TargetGroupBindingSpec,
};

use super::{managed::ManagedFields, observed::Observed, placement::may_be_replaced, survey::Survey};
use crate::{
    aws::{Arn, LoadBalancer},
    cluster::{Key, Uid},
};

/// What holds for every Service of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Environment {
    /// What the model depends on; admission reads the same.
    pub settings: Arc<ModelSettings>,
    /// The VPC of the cluster; empty where none is known, offline.
    pub vpc_id: String,
    /// What the operator has chosen besides.
    pub options: Options,
}

/// Choices of the operator that only who builds load balancers needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// A security group that takes the place of the shared one (`--backend-security-group`).
    pub backend_security_group: Option<String>,
    /// Rules at the targets name each port, instead of one range from the lowest to the highest
    /// (`--disable-restricted-sg-rules`).
    pub exact_endpoint_rules: bool,
    /// Tags that tell which of several security groups of a node gets the rules
    /// (`--service-target-eni-security-group-tags`).
    pub endpoint_group_tags: BTreeMap<String, String>,
    /// Subnets that carry the tag of other clusters only are left out (feature gate `SubnetsClusterTagCheck`).
    pub subnets_cluster_tag_check: bool,
    /// Where no subnet has the tag of the role, routes decide (feature gate `SubnetDiscoveryByReachability`).
    pub subnet_discovery_by_reachability: bool,
    /// How many inbound rules AWS takes in one security group, of IPv4 and of IPv6 each.
    pub rules_per_security_group: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            backend_security_group: None,
            exact_endpoint_rules: false,
            endpoint_group_tags: BTreeMap::new(),
            subnets_cluster_tag_check: true,
            subnet_discovery_by_reachability: true,
            rules_per_security_group: 60,
        }
    }
}

/// What is to become of a Service's load balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// It is to be as the spec says.
    Keep,
    /// It is to go, with all that belongs to it.
    Remove,
}

/// A binding that carries the labels of the Service's stack.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownBinding {
    /// Namespace and name.
    pub key: Key,
    /// UID.
    pub uid: Uid,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Its spec.
    pub spec: Arc<TargetGroupBindingSpec>,
}

impl KnownBinding {
    /// The target group that it binds, once that is known.
    pub fn group(&self) -> Option<Arn> {
        self.spec.target_group_arn.as_deref().filter(|arn| !arn.is_empty()).map(Arn::new)
    }
}

/// A target group of another Service that a listener forwards to.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// The Service.
    pub service: String,
    /// The port as the action names it.
    pub port: IntOrString,
    /// Its target group, see [`nlb::service::backend_target_group`]; nothing if there is no such Service or port.
    pub group: Option<spec::TargetGroup>,
}

/// All that a plan for one Service depends on besides AWS.
#[derive(Debug, Clone, PartialEq)]
pub struct Inputs {
    /// What holds for every Service.
    pub environment: Arc<Environment>,
    /// The Service.
    pub service: Key,
    /// Its UID.
    pub uid: Uid,
    /// What is to become of its load balancer.
    pub intent: Intent,
    /// What the Service asks for; for [`Intent::Remove`] only its names and its word on deletion protection are used.
    pub spec: Arc<LoadBalancerSpec>,
    /// Whether nothing can be there yet: the Service has no finalizer, no record and no hostname.
    pub fresh: bool,
    /// The hostname in the status of the Service, which begins with the name of its load balancer.
    pub hostname: Option<String>,
    /// The security group that all load balancers share towards their targets, once its id is known.
    pub backend_group: Option<String>,
    /// Bindings of the Service's stack.
    pub bindings: Vec<KnownBinding>,
    /// Target groups of other Services that its listeners forward to.
    pub backends: Vec<Backend>,
    /// The record as it is stored on the Service (`elbv2.k8s.aws/managed-fields`).
    pub recorded: ManagedFields,
    /// Fields that this process has set or found set on the Service's behalf before, recorded or not.
    pub remembered: ManagedFields,
    /// Target groups that have been out of use for so long that no new connection reaches their targets.
    pub settled: BTreeSet<Arn>,
    /// How security groups are, where the load balancer has some and the Service wants none, see
    /// [`Self::follow_existing`].
    pub kept_groups: Option<SecurityGroups>,
}

impl Inputs {
    /// `<namespace>/<name>`, the value of the tag that its resources carry.
    pub fn stack(&self) -> String {
        format!("{}/{}", self.service.namespace, self.service.name)
    }

    pub(crate) fn settings(&self) -> &ModelSettings {
        &self.environment.settings
    }

    pub(crate) fn identity(&self) -> Identity<'_> {
        Identity {
            cluster: &self.settings().cluster_name,
            namespace: &self.service.namespace,
            name: &self.service.name,
            uid: &self.uid.0,
        }
    }

    /// Whether tags say that something belongs to this Service of this cluster.
    pub(crate) fn owns(&self, found: &BTreeMap<String, String>) -> bool {
        let is = |key: &str, value: &str| found.get(key).is_some_and(|found| found == value);
        is(tags::CLUSTER, &self.settings().cluster_name) && is(tags::STACK, &self.stack())
    }

    /// The name that a load balancer of this scheme gets if the Service does not name it.
    pub(crate) fn generated_name(&self, scheme: Scheme) -> String {
        names::load_balancer(&self.identity(), scheme.as_str())
    }

    /// All target groups that are wanted: those of the Service's own ports, then those of other Services.
    pub(crate) fn wanted_groups(&self) -> Vec<&spec::TargetGroup> {
        let mut wanted: Vec<&spec::TargetGroup> = self.spec.target_groups.iter().collect();
        for group in self.backends.iter().filter_map(|backend| backend.group.as_ref()) {
            if !wanted.iter().any(|other| other.name == group.name) {
                wanted.push(group);
            }
        }
        wanted
    }

    /// Where the Service does not say the scheme, that of the load balancer that it has holds. Where it wants no security
    /// groups and its load balancer has some, those hold until another one may be made.
    pub fn follow_existing(&mut self, service: &Service, observed: &Observed) {
        let ours = |found: &&LoadBalancer| observed.tags.get(&found.arn).is_some_and(|tags| self.owns(tags));
        let Some(found) = observed.load_balancers.values().flatten().find(ours) else { return };
        let scheme = match &*found.scheme {
            _ if self.spec.scheme_given => None,
            "internal" => Some(Scheme::Internal),
            "internet-facing" => Some(Scheme::InternetFacing),
            _ => None,
        };
        if let Some(scheme) = scheme.filter(|scheme| *scheme != self.spec.scheme) {
            self.spec = Arc::new(service::read_existing(service, self.settings(), Some(scheme)).spec);
        }
        let is_kept = matches!(self.spec.security_groups, SecurityGroups::None { .. })
            && !found.security_groups.is_empty()
            && !may_be_replaced(self, found);
        if is_kept {
            let (mut service, mut settings) = (service.clone(), self.settings().clone());
            service.metadata.annotations.get_or_insert_default().remove(keys::DISABLE_SECURITY_GROUPS);
            settings.features.nlb_security_group = true;
            let spec = service::read_existing(&service, &settings, scheme).spec;
            self.kept_groups = Some(spec.security_groups);
        }
    }

    /// Whether it is known what of the Service is there, and so which load balancer [`Self::follow_existing`] follows. No
    /// plan is made before.
    pub(crate) fn is_surveyed(&self, observed: &Observed) -> bool {
        Survey::of(self, observed).reads.is_empty()
    }

    /// The fields that may have to go back to their defaults.
    pub(crate) fn managed(&self) -> ManagedFields {
        self.recorded.union(&self.remembered)
    }
}

/// The target groups of other Services that the listeners of a Service forward to. `find` gives a Service of the same
/// namespace by its name.
pub fn backends(
    service: &Service,
    spec: &LoadBalancerSpec,
    settings: &ModelSettings,
    find: impl Fn(&str) -> Option<Service>,
) -> Vec<Backend> {
    let mut backends: Vec<Backend> = Vec::new();
    for listener in &spec.listeners {
        for weighted in &listener.default_actions.target_groups {
            let GroupRef::Service { name, port } = &weighted.group else { continue };
            if backends.iter().any(|known| known.service == *name && known.port == *port) {
                continue;
            }
            let group = find(name)
                .and_then(|other| service::backend_target_group(service, &other, port, listener.protocol, settings));
            backends.push(Backend { service: name.clone(), port: port.clone(), group });
        }
    }
    backends
}
