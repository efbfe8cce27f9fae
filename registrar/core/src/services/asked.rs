//! What a Service asks for, and all else that its plan depends on.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use nlb::service::{self, LoadBalancerSpec, Ownership, Reading, ownership, spec::GroupRef};

use super::{
    machine::{Machine, annotation},
    status::hostname_of,
    view::{View, backend},
};
use crate::{
    balancers::{self, Inputs, Intent, KnownBinding, ManagedFields, Problem},
    cluster::{Key, ServiceRecord},
};

/// What a Service asks for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) ours: bool,
    /// For what it is refused.
    pub(super) denied: Option<Problem>,
    pub(super) spec: Arc<LoadBalancerSpec>,
    /// Whether it is refused depends on the scheme of the load balancer that it has.
    undecided: bool,
}

fn refusal(reading: &Reading) -> Option<Problem> {
    let violations = reading.accepted().err()?;
    let said: Vec<String> = violations.iter().map(ToString::to_string).collect();
    Some(Problem::new("Invalid", said.join("; "), ""))
}

impl Machine {
    /// What the Service asks for, read once for each of its states; more often where what is there decides whether it is
    /// refused.
    pub(super) fn asked_for(&mut self, object: &Arc<Service>, view: &View) -> Arc<Asked> {
        if let Some((of, asked)) = &self.asked
            && Arc::ptr_eq(of, object)
            && !asked.undecided
        {
            return Arc::clone(asked);
        }
        let settings = &view.environment.settings;
        let reading = service::read(object, settings);
        let ours = ownership::of(object, settings) == Ownership::Ours;
        let mut denied = refusal(&reading);
        let spec = Arc::new(reading.spec);
        // A load balancer that is there may have another scheme than the default one.
        let undecided = ours && denied.is_some() && service::read_undecided(object, settings).accepted().is_ok();
        if undecided {
            denied = self.refusal_by_existing(object, &spec, view, denied);
        }
        let asked = Arc::new(Asked { ours, denied, spec, undecided });
        let before = self.asked.as_ref().map(|(_, asked)| (asked.ours, &asked.spec));
        if before.is_some_and(|before| before != (asked.ours, &asked.spec)) {
            self.retry_at = std::time::Duration::ZERO;
        }
        self.asked = Some((Arc::clone(object), Arc::clone(&asked)));
        asked
    }

    /// For what a Service that says no scheme is refused: for nothing while it is not known what it has, and `by_default` if
    /// it has nothing.
    fn refusal_by_existing(
        &self,
        object: &Service,
        spec: &Arc<LoadBalancerSpec>,
        view: &View,
        by_default: Option<Problem>,
    ) -> Option<Problem> {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let key = Key::new(&text(&object.metadata.namespace), &text(&object.metadata.name));
        let Some(record) = view.cluster.services.get(&key) else { return by_default };
        let inputs = self.inputs(record, object, Intent::Keep, Arc::clone(spec), view);
        let scheme = inputs.spec.scheme;
        if scheme != spec.scheme {
            return refusal(&service::read_existing(object, &view.environment.settings, Some(scheme)));
        }
        by_default.filter(|_| self.fresh || inputs.is_surveyed(&self.observed))
    }

    /// Whether a listener of the Service forwards to another one.
    pub(super) fn forwards_to(&self, service: &Key) -> bool {
        let Some((_, asked)) = &self.asked else { return false };
        let groups = asked.spec.listeners.iter().flat_map(|listener| &listener.default_actions.target_groups);
        groups
            .into_iter()
            .any(|group| matches!(&group.group, GroupRef::Service { name, .. } if **name == *service.name))
    }

    /// All that a plan for the Service depends on besides AWS.
    pub(super) fn inputs(
        &self,
        record: &ServiceRecord,
        object: &Service,
        intent: Intent,
        spec: Arc<LoadBalancerSpec>,
        view: &View,
    ) -> Inputs {
        let settings = &view.environment.settings;
        let key = &record.meta.key;
        let backends = balancers::backends(object, &spec, settings, |name| {
            view.cluster.services.get(&Key::new(&key.namespace, name)).map(backend)
        });
        let bindings = view.bindings_of(key).map(|binding| KnownBinding {
            key: binding.meta.key.clone(),
            uid: binding.meta.uid.clone(),
            deleting: binding.meta.deleting,
            spec: Arc::clone(&binding.spec),
        });
        let settled = self.settling.iter().filter(|(_, since)| view.now >= **since + view.settled_after());
        let mut inputs = Inputs {
            environment: Arc::clone(view.environment),
            service: key.clone(),
            uid: self.uid.clone(),
            intent,
            spec,
            fresh: self.fresh,
            hostname: hostname_of(object).map(str::to_owned),
            backend_group: view.shared_group.clone(),
            bindings: bindings.collect(),
            backends,
            recorded: ManagedFields::read(annotation(object)),
            remembered: self.remembered.clone(),
            settled: settled.map(|(arn, _)| arn.clone()).collect(),
            kept_groups: None,
        };
        inputs.follow_existing(object, &self.observed);
        inputs
    }
}
