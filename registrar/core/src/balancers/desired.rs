//! The complete model of a Service's load balancer: what there is to be, with everything resolved that is known.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString};
use nlb::{
    annotations::attributes::{IDLE_TIMEOUT, Scope},
    service::spec::{self, AddressFamilies, Protocol, SecurityGroups},
    settings::Scheme,
    tags::STACK_LABELS,
    targetgroupbinding::{ServiceReference, TargetGroupBindingSpec, TargetGroupProtocol},
};
use serde::Serialize;

use super::{
    Gap, Inputs, Observed, Problem,
    managed::normal,
    placement::Placement,
    security_groups,
    subnets::role_tag,
    survey::{Survey, managed_security_group},
};
use crate::aws::{Arn, Call, Permission, SubnetMapping};

/// The model. Ids that are not known yet are logical ones, such as `$backend-sg`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Desired {
    /// The load balancer.
    pub load_balancer: LoadBalancer,
    /// Its listeners.
    pub listeners: Vec<spec::Listener>,
    /// Target groups, those of other Services that listeners forward to last.
    pub target_groups: Vec<TargetGroup>,
    /// The managed security group, if the Service has one.
    pub security_groups: Vec<SecurityGroup>,
    /// Bindings, one per target group.
    pub bindings: Vec<Binding>,
    /// What cannot be resolved.
    #[serde(skip)]
    pub problems: Vec<Problem>,
    /// What must be read to resolve more.
    #[serde(skip)]
    pub(crate) unread: Vec<Call>,
    /// How the load balancer has its security groups.
    #[serde(skip)]
    pub(crate) mode: SecurityGroups,
    /// Whether the subnets are to be made these, rather than left as they are.
    #[serde(skip)]
    pub(crate) subnets_chosen: bool,
}

/// A load balancer.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct LoadBalancer {
    /// Name.
    pub load_balancer_name: String,
    /// Always `network`.
    #[serde(rename = "Type")]
    pub load_balancer_type: &'static str,
    /// Scheme.
    pub scheme: Scheme,
    /// Address families.
    pub ip_address_type: AddressFamilies,
    /// Subnets with their addresses; nothing while they are not known.
    pub subnet_mappings: Option<Vec<SubnetMapping>>,
    /// The tag by which subnets are discovered, where neither the Service nor a load balancer says which.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet_discovery: Option<&'static str>,
    /// Security groups; nothing while they are not known.
    pub security_groups: Option<Vec<String>>,
    /// IPv6 source NAT, dualstack only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enable_prefix_for_ipv6_source_nat: Option<bool>,
    /// Whether inbound rules hold for `PrivateLink`; nothing leaves it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforce_security_group_inbound_rules_on_private_link_traffic: Option<bool>,
    /// Attributes that the Service sets.
    pub attributes: BTreeMap<String, String>,
    /// Capacity units to reserve.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_load_balancer_capacity: Option<u32>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A target group.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct TargetGroup {
    /// ARN; a logical id while there is none.
    #[serde(serialize_with = "arn")]
    pub target_group_arn: Arn,
    /// VPC.
    pub vpc_id: String,
    /// The rest.
    #[serde(flatten)]
    pub spec: spec::TargetGroup,
}

fn arn<S: serde::Serializer>(arn: &Arn, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(arn.as_str())
}

/// A managed security group.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct SecurityGroup {
    /// Id; a logical one while there is none.
    pub group_id: String,
    /// Name.
    pub group_name: String,
    /// Inbound rules.
    pub ip_permissions: Vec<Permission>,
    /// Tags.
    pub tags: BTreeMap<String, String>,
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// Namespace.
    pub namespace: String,
    /// Name, that of the target group when it was made.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Spec; its ARN is a logical id while the target group has none.
    pub spec: TargetGroupBindingSpec,
}

impl Desired {
    /// Whether the load balancer is to have the group that all share towards their targets.
    pub fn needs_shared_group(&self) -> bool {
        security_groups::needs_shared(&self.mode)
    }

    /// The model of a Service, with what AWS is known to have. With nothing known it is that of a first creation.
    pub fn of(inputs: &Inputs, observed: &Observed) -> Self {
        Self::surveyed(inputs, observed, &Survey::of(inputs, observed))
    }

    pub(crate) fn surveyed(inputs: &Inputs, observed: &Observed, survey: &Survey) -> Self {
        let mut gaps = Gaps::default();
        let spec = &inputs.spec;
        let existing = survey.load_balancer;
        let mode = security_groups::mode(inputs, existing);
        let managed = managed_security_group(observed).map(|group| group.id.as_str());
        let placement = gaps.take(Placement::of(inputs, observed, existing));
        let mappings = placement.as_ref().map(|placement| placement.mappings().to_vec());
        let balancer_subnets: Vec<String> =
            mappings.iter().flatten().map(|mapping| mapping.subnet_id.clone()).collect();

        let target_groups: Vec<TargetGroup> = inputs
            .wanted_groups()
            .into_iter()
            .map(|wanted| TargetGroup {
                target_group_arn: survey
                    .current(inputs, wanted)
                    .map_or_else(|| logical(&wanted.resource), |found| found.arn.clone()),
                vpc_id: inputs.environment.vpc_id.clone(),
                spec: spec::TargetGroup {
                    attributes: normal_all(Scope::TargetGroup, &wanted.attributes),
                    ..wanted.clone()
                },
            })
            .collect();
        let mut bindings = Vec::new();
        for group in &target_groups {
            let networking =
                security_groups::networking(inputs, observed, &mode, managed, &group.spec, &balancer_subnets);
            let Some(networking) = gaps.take(networking) else { continue };
            let name = survey.current(inputs, &group.spec).map_or(&group.spec.name, |found| &found.name);
            bindings.push(binding(inputs, group, name, networking));
        }
        let mut managed_groups = Vec::new();
        if let SecurityGroups::Managed { group_name, ingress, tags, .. } = &mode {
            let rules = security_groups::managed_rules(ingress, inputs.environment.options.rules_per_security_group);
            managed_groups.push(SecurityGroup {
                group_id: managed.unwrap_or(security_groups::MANAGED).to_owned(),
                group_name: group_name.clone(),
                ip_permissions: gaps.take(rules.map_err(Gap::Problem)).unwrap_or_default(),
                tags: tags.clone(),
            });
        }
        let dualstack = spec.ip_address_type == AddressFamilies::Dualstack;
        let load_balancer = LoadBalancer {
            load_balancer_name: existing.map_or_else(|| spec.name.clone(), |found| found.name.clone()),
            load_balancer_type: "network",
            scheme: spec.scheme,
            ip_address_type: spec.ip_address_type,
            subnet_discovery: (mappings.is_none() && spec.subnets.is_none()).then(|| role_tag(spec.scheme)),
            subnet_mappings: mappings,
            security_groups: gaps.take(security_groups::of_balancer(inputs, observed, &mode, managed)),
            enable_prefix_for_ipv6_source_nat: dualstack.then_some(spec.enable_prefix_for_ipv6_source_nat),
            enforce_security_group_inbound_rules_on_private_link_traffic: spec
                .enforce_security_group_inbound_rules_on_private_link_traffic,
            attributes: normal_all(Scope::LoadBalancer, &spec.attributes),
            minimum_load_balancer_capacity: spec.minimum_load_balancer_capacity,
            tags: spec.tags.clone(),
        };
        let listeners = spec
            .listeners
            .iter()
            .map(|listener| spec::Listener { attributes: attributes_of_listener(listener), ..listener.clone() })
            .collect();
        for backend in inputs.backends.iter().filter(|backend| backend.group.is_none()) {
            let port = port_text(&backend.port);
            let message =
                format!("an action forwards to port {port} of Service {}, which is not there", backend.service);
            gaps.problems.push(Problem::new("BackendNotFound", message, "create it, or change the action"));
        }
        Self {
            load_balancer,
            listeners,
            target_groups,
            security_groups: managed_groups,
            bindings,
            problems: gaps.problems,
            unread: gaps.unread,
            mode,
            subnets_chosen: matches!(placement, Some(Placement::Chosen(_))),
        }
    }
}

/// What stands for the ARN of a target group that is not there yet.
pub(crate) fn logical(resource: &str) -> Arn {
    Arn::new(&format!("${resource}"))
}

fn normal_all(scope: Scope, attributes: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    attributes.iter().map(|(key, value)| (key.clone(), normal(scope, key, value))).collect()
}

/// Attributes that a listener of its protocol has. Others have no effect, and AWS would refuse them.
fn attributes_of_listener(listener: &spec::Listener) -> BTreeMap<String, String> {
    let carries_tcp = matches!(listener.protocol, Protocol::Tcp | Protocol::TcpUdp | Protocol::TcpQuic);
    let mut attributes = normal_all(Scope::Listener, &listener.attributes);
    attributes.retain(|key, _| carries_tcp || key != IDLE_TIMEOUT);
    attributes
}

fn binding(
    inputs: &Inputs,
    group: &TargetGroup,
    name: &str,
    networking: Option<nlb::targetgroupbinding::Networking>,
) -> Binding {
    let spec = &group.spec;
    // `<namespace>/<service>:<port>`: the Service is another one where a listener forwards to it by weight.
    let service =
        spec.resource.rsplit_once(':').and_then(|(stack, _)| stack.rsplit_once('/')).map_or("", |(_, name)| name);
    let selector = LabelSelector { match_labels: Some(spec.node_selector.clone()), match_expressions: None };
    Binding {
        namespace: inputs.service.namespace.to_string(),
        name: name.to_owned(),
        labels: STACK_LABELS
            .into_iter()
            .map(str::to_owned)
            .zip([inputs.service.namespace.to_string(), inputs.service.name.to_string()])
            .collect(),
        spec: TargetGroupBindingSpec {
            target_group_arn: Some(group.target_group_arn.to_string()),
            target_group_name: None,
            multi_cluster_target_group: Some(spec.multi_cluster),
            target_type: Some(spec.target_type),
            target_group_protocol: Some(match spec.protocol {
                Protocol::Tcp => TargetGroupProtocol::Tcp,
                Protocol::Udp => TargetGroupProtocol::Udp,
                Protocol::Tls => TargetGroupProtocol::Tls,
                Protocol::TcpUdp => TargetGroupProtocol::TcpUdp,
                Protocol::Quic => TargetGroupProtocol::Quic,
                Protocol::TcpQuic => TargetGroupProtocol::TcpQuic,
            }),
            service_ref: ServiceReference {
                name: service.to_owned(),
                port: IntOrString::Int(i32::from(spec.service_port)),
            },
            networking,
            node_selector: (!spec.node_selector.is_empty()).then_some(selector),
            ip_address_type: Some(spec.ip_address_type),
            vpc_id: Some(group.vpc_id.clone()),
            iam_role_arn_to_assume: None,
            assume_role_external_id: None,
        },
    }
}

/// A port as it is written.
pub(crate) fn port_text(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

#[derive(Default)]
struct Gaps {
    problems: Vec<Problem>,
    unread: Vec<Call>,
}

impl Gaps {
    fn take<T>(&mut self, known: Result<T, Gap>) -> Option<T> {
        match known {
            Ok(known) => return Some(known),
            Err(Gap::Unread(call)) if !self.unread.contains(&call) => self.unread.push(*call),
            Err(Gap::Problem(problem)) if !self.problems.contains(&problem) => self.problems.push(problem),
            Err(_) => {}
        }
        None
    }
}
