//! From objects to what a plan depends on.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use nlb::{
    service::{self, Ownership, ownership},
    tags::STACK_LABELS,
    targetgroupbinding::TargetGroupBinding,
    violation::Violation,
};
use registrar_core::{
    balancers::{Environment, Inputs, Intent, KnownBinding, ManagedFields, backends, managed},
    cluster::{Key, Uid},
};

use crate::status::view::{has_finalizer, hostname};

/// Objects of the cluster, or of files.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Services, ours and others.
    pub services: Vec<Service>,
    /// Bindings.
    pub bindings: Vec<TargetGroupBinding>,
}

/// What is to be planned for a Service.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// A plan can be made.
    Plan(Box<Inputs>, Vec<Violation>),
    /// Nothing is built while the Service is so.
    Refused(Vec<Violation>),
}

/// The task for a Service; nothing for one that is none of ours and never was.
pub fn task(
    service: &Service,
    objects: &Objects,
    environment: &Arc<Environment>,
    shared: Option<&str>,
) -> Option<Task> {
    let settings = environment.settings.as_ref();
    let intent = match ownership::of(service, settings) {
        Ownership::Ours => Intent::Keep,
        Ownership::Related | Ownership::Foreign if has_finalizer(service) => Intent::Remove,
        Ownership::Related | Ownership::Foreign => return None,
    };
    // One that may have a load balancer is judged by the scheme of that, once it is known.
    let reading = if has_finalizer(service) {
        service::read_undecided(service, settings)
    } else {
        service::read(service, settings)
    };
    if reading.accepted().is_err() && intent == Intent::Keep {
        return Some(Task::Refused(reading.violations));
    }
    let key = key(service);
    let annotations = service.metadata.annotations.as_ref();
    let recorded = ManagedFields::read(
        annotations.and_then(|annotations| annotations.get(managed::ANNOTATION)).map(String::as_str),
    );
    let hostname = hostname(service).map(ToOwned::to_owned);
    let sibling = |name: &str| {
        let is_it = |other: &&Service| other.metadata.name.as_deref() == Some(name) && same_namespace(other, service);
        objects.services.iter().find(is_it).cloned()
    };
    let inputs = Inputs {
        environment: Arc::clone(environment),
        uid: Uid(service.metadata.uid.as_deref().unwrap_or_default().into()),
        intent,
        fresh: !has_finalizer(service) && recorded == ManagedFields::default() && hostname.is_none(),
        backends: backends(service, &reading.spec, settings, sibling),
        spec: Arc::new(reading.spec),
        hostname,
        backend_group: shared.map(ToOwned::to_owned),
        bindings: objects.bindings.iter().filter(|binding| is_of_stack(binding, &key)).map(known).collect(),
        recorded,
        remembered: ManagedFields::default(),
        settled: BTreeSet::new(),
        kept_groups: None,
        service: key,
    };
    Some(Task::Plan(Box::new(inputs), reading.violations))
}

/// A Service of a file as it would be if the file were applied: what only the cluster knows is taken from the Service that
/// is stored under its name.
pub fn applied(mut written: Service, stored: Option<&Service>) -> Service {
    let Some(stored) = stored else { return written };
    let metadata = &mut written.metadata;
    metadata.uid.clone_from(&stored.metadata.uid);
    metadata.finalizers.clone_from(&stored.metadata.finalizers);
    metadata.deletion_timestamp.clone_from(&stored.metadata.deletion_timestamp);
    let record = stored.metadata.annotations.as_ref().and_then(|known| known.get(managed::ANNOTATION));
    if let Some(record) = record {
        metadata.annotations.get_or_insert_default().insert(managed::ANNOTATION.to_owned(), record.clone());
    }
    if let (Some(written), Some(stored)) = (&mut written.spec, &stored.spec) {
        keep(written, stored);
    }
    // Node ports are allocated once and stay.
    let allocated = stored.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    let ports = written.spec.as_mut().and_then(|spec| spec.ports.as_mut());
    for port in ports.into_iter().flatten().filter(|port| port.node_port.is_none()) {
        let same = |known: &&k8s_openapi::api::core::v1::ServicePort| {
            known.port == port.port
                && known.protocol.as_deref().unwrap_or("TCP") == port.protocol.as_deref().unwrap_or("TCP")
        };
        port.node_port = allocated.into_iter().flatten().find(same).and_then(|known| known.node_port);
    }
    written.status.clone_from(&stored.status);
    written
}

/// Fills in what an apply that does not say it leaves as it is: what the API server allocated, what cannot change, and what
/// our webhook set. The conditions are those of the API server (`patchAllocatedValues`, `dropTypeDependentFields`).
fn keep(written: &mut ServiceSpec, stored: &ServiceSpec) {
    let both = |which: fn(&ServiceSpec) -> bool| which(written) && which(stored);
    let balanced = both(|spec| kind(spec) == "LoadBalancer");
    let local = both(|spec| spec.external_traffic_policy.as_deref() == Some("Local"));
    let addressed = both(|spec| kind(spec) != "ExternalName");
    if balanced {
        fill(&mut written.load_balancer_class, stored.load_balancer_class.as_ref());
    }
    if balanced && local {
        let said = written.health_check_node_port.filter(|number| *number != 0);
        written.health_check_node_port = said.or(stored.health_check_node_port);
    }
    if addressed {
        fill(&mut written.cluster_ip, stored.cluster_ip.as_ref());
        if written.cluster_ip == stored.cluster_ip {
            fill(&mut written.cluster_ips, stored.cluster_ips.as_ref());
        }
        fill(&mut written.ip_families, stored.ip_families.as_ref());
        fill(&mut written.ip_family_policy, stored.ip_family_policy.as_ref());
        if written.ip_family_policy.as_deref() == Some("SingleStack") {
            release_second(&mut written.ip_families, stored.ip_families.as_ref());
            release_second(&mut written.cluster_ips, stored.cluster_ips.as_ref());
        }
    }
}

fn kind(spec: &ServiceSpec) -> &str {
    spec.type_.as_deref().unwrap_or("ClusterIP")
}

fn fill<T: Clone>(written: &mut Option<T>, stored: Option<&T>) {
    if written.is_none() {
        *written = stored.cloned();
    }
}

/// One address family is asked for: the second of what is as it was goes.
fn release_second(written: &mut Option<Vec<String>>, stored: Option<&Vec<String>>) {
    if let Some(values) = written.as_mut().filter(|values| Some(&**values) == stored) {
        values.truncate(1);
    }
}

/// Namespace and name.
pub fn key(service: &Service) -> Key {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Key::new(&text(&service.metadata.namespace), &text(&service.metadata.name))
}

fn same_namespace(one: &Service, other: &Service) -> bool {
    one.metadata.namespace == other.metadata.namespace
}

fn is_of_stack(binding: &TargetGroupBinding, key: &Key) -> bool {
    let [namespace, name] = STACK_LABELS;
    let label = |key: &str| binding.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    label(namespace) == Some(&key.namespace)
        && label(name) == Some(&key.name)
        && binding.metadata.namespace.as_deref() == Some(&key.namespace)
}

fn known(binding: &TargetGroupBinding) -> KnownBinding {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    KnownBinding {
        key: Key::new(&text(&binding.metadata.namespace), &text(&binding.metadata.name)),
        uid: Uid(binding.metadata.uid.as_deref().unwrap_or_default().into()),
        deleting: binding.metadata.deletion_timestamp.is_some(),
        spec: Arc::new(binding.spec.clone()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn service(spec: &Value) -> Service {
        serde_json::from_value(json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": spec})).unwrap()
    }

    #[test]
    fn what_an_apply_does_not_say_stays_where_the_api_server_keeps_it() {
        let class = json!({"type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb"});
        let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000});
        let dual = json!({
            "type": "LoadBalancer", "ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"],
            "clusterIP": "fd00::1", "clusterIPs": ["fd00::1", "10.0.0.1"],
        });
        let single = json!({
            "type": "LoadBalancer", "ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv6"],
            "clusterIP": "fd00::1", "clusterIPs": ["fd00::1"],
        });
        let balancer = json!({"type": "LoadBalancer"});
        let cases = [
            ("class", &class, balancer.clone(), class.clone()),
            (
                "class that the file says",
                &class,
                json!({"type": "LoadBalancer", "loadBalancerClass": "other"}),
                json!({"type": "LoadBalancer", "loadBalancerClass": "other"}),
            ),
            ("class of another type", &class, json!({"type": "NodePort"}), json!({"type": "NodePort"})),
            ("class, no type", &class, json!({}), json!({})),
            ("health check", &local, json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}), local.clone()),
            (
                "health check, not allocated",
                &local,
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 0}),
                local.clone(),
            ),
            (
                "health check that the file says",
                &local,
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}),
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000}),
            ),
            (
                "health check without local traffic",
                &local,
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}),
                json!({"type": "LoadBalancer", "externalTrafficPolicy": "Cluster"}),
            ),
            (
                "health check of another type",
                &local,
                json!({"type": "NodePort", "externalTrafficPolicy": "Local"}),
                json!({"type": "NodePort", "externalTrafficPolicy": "Local"}),
            ),
            ("families and addresses", &dual, balancer, dual.clone()),
            ("one family asked for", &dual, json!({"type": "LoadBalancer", "ipFamilyPolicy": "SingleStack"}), single),
            (
                "families that the file says",
                &dual,
                json!({"type": "LoadBalancer", "ipFamilies": ["IPv6"], "clusterIP": "fd00::2"}),
                json!({
                    "type": "LoadBalancer", "ipFamilies": ["IPv6"], "clusterIP": "fd00::2",
                    "ipFamilyPolicy": "PreferDualStack",
                }),
            ),
            ("addresses of a name", &dual, json!({"type": "ExternalName"}), json!({"type": "ExternalName"})),
        ];
        for (case, stored, written, expected) in cases {
            let found = applied(service(&written), Some(&service(stored)));
            assert_eq!(found.spec, service(&expected).spec, "{case}");
            assert_eq!(applied(service(&written), None), service(&written), "{case}, not stored");
        }
    }

    #[test]
    fn service_that_may_have_a_load_balancer_is_not_refused_for_the_default_scheme() {
        let environment = Arc::new(Environment {
            settings: Arc::default(),
            vpc_id: "vpc-0123abcd".to_owned(),
            options: registrar_core::balancers::Options::default(),
        });
        let class = json!({
            "type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb",
            "ports": [{"name": "web", "port": 80, "protocol": "TCP"}],
        });
        let mut service = service(&class);
        let addresses = "service.beta.kubernetes.io/aws-load-balancer-eip-allocations".to_owned();
        service.metadata.annotations = Some([(addresses, "eipalloc-0a1b2c3d".to_owned())].into());
        let mut refused = |finalizers: &[&str]| {
            service.metadata.finalizers = Some(finalizers.iter().map(|name| (*name).to_owned()).collect());
            matches!(task(&service, &Objects::default(), &environment, None), Some(Task::Refused(_)))
        };
        assert!(refused(&[]), "a load balancer of the default scheme would be made");
        assert!(!refused(&["service.k8s.aws/resources"]), "one may be there");
    }

    #[test]
    fn file_without_the_class_that_the_webhook_set_plans_no_removal() {
        let mut stored = service(&json!({"type": "LoadBalancer", "loadBalancerClass": "service.k8s.aws/nlb"}));
        stored.metadata.finalizers = Some(vec!["service.k8s.aws/resources".to_owned()]);
        let environment = Arc::new(Environment {
            settings: Arc::default(),
            vpc_id: "vpc-0123abcd".to_owned(),
            options: registrar_core::balancers::Options::default(),
        });
        let intent = |written: Value| {
            let service = applied(service(&written), Some(&stored));
            match task(&service, &Objects::default(), &environment, None) {
                Some(Task::Plan(inputs, _)) => Some(inputs.intent),
                _ => None,
            }
        };
        let ports = json!([{"name": "web", "port": 80, "protocol": "TCP"}]);
        assert_eq!(intent(json!({"type": "LoadBalancer", "ports": ports})), Some(Intent::Keep));
        assert_eq!(intent(json!({"type": "ClusterIP", "ports": ports})), Some(Intent::Remove));
    }
}
