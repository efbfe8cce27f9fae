//! What is known of the cluster when a review comes: Services and bindings, kept so that a pod finds the few that
//! concern it without looking at the others.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use nlb::{
    annotations::keys,
    prediction::{BindingFacts, PodFacts, ServiceFacts},
    settings::ModelSettings,
    targetgroupbinding::TargetGroupBinding,
};

/// What the keys of annotations begin with that are read here.
const FAMILIES: [&str; 2] = ["service.beta.kubernetes.io/", keys::OWN];

/// What belongs to each of many texts, seldom more than one thing.
type Index<T> = HashMap<String, Vec<T>>;

/// All that admission decides by, besides the review itself.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The settings of the model.
    pub settings: Arc<ModelSettings>,
    /// The Services of the cluster.
    pub services: Services,
    /// The bindings of the cluster.
    pub bindings: Bindings,
}

/// The Services and bindings that decide about one pod.
#[derive(Debug, Default)]
pub struct Relevant<'a> {
    /// Services that select the pod, and those that may forward to them.
    pub services: Vec<&'a ServiceFacts>,
    /// Bindings to those Services.
    pub bindings: Vec<&'a BindingFacts>,
}

impl Snapshot {
    /// What decides about a pod of a namespace. Everything that is left out could not make a difference.
    pub fn relevant(&self, namespace: &str, pod: &PodFacts) -> Relevant<'_> {
        let mut relevant = Relevant::default();
        let Some(services) = self.services.namespaces.get(namespace) else { return relevant };
        let bindings = self.bindings.namespaces.get(namespace);
        let mut names = BTreeSet::new();
        for (key, value) in pod.labels.into_iter().flatten() {
            for name in services.by_label.get(key).and_then(|values| values.get(value)).into_iter().flatten() {
                let Some(service) = services.entries.get(name).filter(|service| service.selects(pod)) else { continue };
                relevant.services.push(&service.facts);
                names.insert(name);
                let bound = bindings.and_then(|bindings| bindings.by_service.get(name)).into_iter().flatten();
                relevant.bindings.extend(bound.filter_map(|binding| Some(&bindings?.entries.get(binding)?.facts)));
            }
        }
        if !names.is_empty() {
            let forwarding = services.forwarding.iter().filter(|name| !names.contains(name));
            relevant.services.extend(forwarding.filter_map(|name| Some(&services.entries.get(name)?.facts)));
        }
        relevant
    }
}

/// The Services of a cluster.
#[derive(Debug, Default)]
pub struct Services {
    namespaces: HashMap<String, NamespacedServices>,
}

#[derive(Debug, Default)]
struct NamespacedServices {
    entries: HashMap<String, CachedService>,
    /// Names of Services by the first label of their selectors.
    by_label: HashMap<String, Index<String>>,
    /// Names of Services whose listeners may forward to others.
    forwarding: BTreeSet<String>,
}

/// A Service as it is cached.
#[derive(Debug)]
pub struct CachedService {
    service: Arc<Service>,
    facts: ServiceFacts,
}

impl CachedService {
    /// Reads a Service; that is the work, storing it is little.
    pub fn of(mut service: Service, settings: &Arc<ModelSettings>) -> Self {
        service.status = None;
        trim(&mut service.metadata);
        if let Some(ports) = service.spec.as_mut().and_then(|spec| spec.ports.as_mut()) {
            ports.shrink_to_fit();
        }
        let service = Arc::new(service);
        Self { facts: ServiceFacts::of(&service, settings), service }
    }

    fn selector(&self) -> Option<&BTreeMap<String, String>> {
        self.service.spec.as_ref()?.selector.as_ref()
    }

    fn selects(&self, pod: &PodFacts) -> bool {
        let has = |key, value| pod.labels.and_then(|labels| labels.get(key)) == Some(value);
        self.selector()
            .is_some_and(|selector| !selector.is_empty() && selector.iter().all(|(key, value)| has(key, value)))
    }

    fn forwards(&self) -> bool {
        self.service.metadata.annotations.iter().flatten().any(|(key, _)| key.starts_with(keys::ACTIONS))
    }
}

/// Leaves out what nothing here is decided by. It is the larger part of most objects.
fn trim(metadata: &mut ObjectMeta) {
    let annotations = metadata.annotations.take().map(|mut annotations| {
        annotations.retain(|key, _| FAMILIES.iter().any(|family| key.starts_with(family)));
        annotations
    });
    *metadata = ObjectMeta {
        annotations: annotations.filter(|annotations| !annotations.is_empty()),
        deletion_timestamp: metadata.deletion_timestamp.take(),
        name: metadata.name.take(),
        namespace: metadata.namespace.take(),
        uid: metadata.uid.take(),
        ..ObjectMeta::default()
    };
}

/// Namespace and name of an object; empty where it has none.
fn place(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

impl Services {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.namespaces.values().map(|services| services.entries.len()).sum()
    }

    /// Stores a Service in the place of the one of its name.
    pub fn apply(&mut self, service: CachedService) {
        let (namespace, name) = place(&service.service.metadata);
        self.remove(&namespace, &name);
        let services = self.namespaces.entry(namespace).or_default();
        if let Some((key, value)) = service.selector().and_then(BTreeMap::first_key_value) {
            put(services.by_label.entry(key.clone()).or_default(), value, name.clone());
        }
        if service.forwards() {
            services.forwarding.insert(name.clone());
        }
        services.entries.insert(name, service);
    }

    /// Forgets a Service.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let Some(services) = self.namespaces.get_mut(namespace) else { return };
        let Some(service) = services.entries.remove(name) else { return };
        services.forwarding.remove(name);
        if let Some((key, value)) = service.selector().and_then(BTreeMap::first_key_value)
            && let Some(values) = services.by_label.get_mut(key)
        {
            take(values, value, &name.to_owned());
            if values.is_empty() {
                services.by_label.remove(key);
            }
        }
        if services.entries.is_empty() {
            self.namespaces.remove(namespace);
        }
    }
}

/// Adds an item to what belongs to a text.
fn put<T>(index: &mut Index<T>, key: &str, item: T) {
    match index.get_mut(key) {
        Some(items) => items.push(item),
        None => drop(index.insert(key.to_owned(), vec![item])),
    }
}

/// Takes an item out of what belongs to a text, and the text away with the last one.
fn take<T: PartialEq>(index: &mut Index<T>, key: &str, item: &T) {
    if let Some(items) = index.get_mut(key) {
        items.retain(|other| other != item);
        if items.is_empty() {
            index.remove(key);
        }
    }
}

/// The bindings of a cluster.
#[derive(Debug, Default)]
pub struct Bindings {
    namespaces: HashMap<String, NamespacedBindings>,
    /// Namespace and name of bindings by the target group that they name.
    by_arn: Index<(String, String)>,
}

#[derive(Debug, Default)]
struct NamespacedBindings {
    entries: HashMap<String, CachedBinding>,
    /// Names of bindings by the Service that they name.
    by_service: Index<String>,
}

/// A binding as it is cached.
#[derive(Debug)]
pub struct CachedBinding {
    binding: Box<TargetGroupBinding>,
    facts: BindingFacts,
}

impl CachedBinding {
    /// Reads a binding.
    pub fn of(mut binding: TargetGroupBinding) -> Self {
        let facts = BindingFacts::of(&binding);
        binding.status = None;
        trim(&mut binding.metadata);
        Self { facts, binding: Box::new(binding) }
    }
}

impl Bindings {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.namespaces.values().map(|bindings| bindings.entries.len()).sum()
    }

    /// Stores a binding in the place of the one of its name.
    pub fn apply(&mut self, cached: CachedBinding) {
        let (namespace, name) = place(&cached.binding.metadata);
        self.remove(&namespace, &name);
        if let Some(arn) = &cached.binding.spec.target_group_arn {
            put(&mut self.by_arn, arn, (namespace.clone(), name.clone()));
        }
        let bindings = self.namespaces.entry(namespace).or_default();
        put(&mut bindings.by_service, &cached.binding.spec.service_ref.name, name.clone());
        bindings.entries.insert(name, cached);
    }

    /// Forgets a binding.
    pub fn remove(&mut self, namespace: &str, name: &str) {
        let Some(bindings) = self.namespaces.get_mut(namespace) else { return };
        let Some(cached) = bindings.entries.remove(name) else { return };
        take(&mut bindings.by_service, &cached.binding.spec.service_ref.name, &name.to_owned());
        if bindings.entries.is_empty() {
            self.namespaces.remove(namespace);
        }
        if let Some(arn) = &cached.binding.spec.target_group_arn {
            take(&mut self.by_arn, arn, &(namespace.to_owned(), name.to_owned()));
        }
    }

    /// The bindings that name a target group by its ARN.
    pub fn of_target_group(&self, arn: &str) -> impl Iterator<Item = &TargetGroupBinding> {
        self.by_arn
            .get(arn)
            .into_iter()
            .flatten()
            .filter_map(|(namespace, name)| Some(&*self.namespaces.get(namespace)?.entries.get(name)?.binding))
    }
}
