//! What a run is about: workloads and bindings, what is done to them, and what goes wrong.

pub(crate) mod faults;
pub(crate) mod random;
pub(crate) mod reference;
pub(crate) mod steps;

use std::{net::Ipv4Addr, time::Duration};

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nlb::{
    service::spec::AddressFamily,
    settings::TargetType,
    targetgroupbinding::{ServiceReference, TargetGroupBindingSpec},
};
use registrar_core::{
    Settings,
    cluster::Key,
    settings::{FeatureSets, Isolation},
};

use self::{faults::Fault, steps::Step};
use crate::cluster::{key, workload::Workload};

/// A binding, with a group of its own.
#[derive(Debug, Clone)]
pub(crate) struct BindingPlan {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) service: String,
    /// Whether other clusters have targets in the group.
    pub(crate) shared: bool,
    pub(crate) open_when_not_in_use: bool,
    pub(crate) gate_timeout: Option<u32>,
    /// Whether its spec names nothing but group and Service.
    pub(crate) sparse: bool,
}

impl BindingPlan {
    pub(crate) fn new(namespace: &str, name: &str, service: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            service: service.to_owned(),
            shared: false,
            open_when_not_in_use: false,
            gate_timeout: None,
            sparse: false,
        }
    }

    pub(crate) fn key(&self) -> Key {
        key(&self.namespace, &self.name)
    }

    pub(crate) fn spec(&self, group: &str) -> TargetGroupBindingSpec {
        let full = !self.sparse;
        TargetGroupBindingSpec {
            target_group_arn: Some(group.to_owned()),
            multi_cluster_target_group: self.shared.then_some(true),
            target_type: full.then_some(TargetType::Ip),
            ip_address_type: full.then_some(AddressFamily::Ipv4),
            vpc_id: full.then(|| "vpc-0a1b2c3d4e5f60718".to_owned()),
            service_ref: ServiceReference { name: self.service.clone(), port: IntOrString::Int(80) },
            ..TargetGroupBindingSpec::default()
        }
    }
}

/// A scene.
#[derive(Debug, Clone)]
pub struct Scene {
    /// Where creation times of objects count from: nothing may depend on it.
    pub(crate) epoch: i64,
    /// Clock rates of the registrars, in per cent.
    pub(crate) rates: Vec<u32>,
    /// How many addresses pods share.
    pub(crate) pool: usize,
    /// Addresses that AWS takes for no target, which pods get all the same.
    pub(crate) cursed: Vec<Ipv4Addr>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) bindings: Vec<BindingPlan>,
    /// Settings of the model that differ from an instant one.
    pub(crate) aws: Vec<(&'static str, String)>,
    pub(crate) steps: Vec<(Duration, Step)>,
    pub(crate) faults: Vec<(Duration, Fault)>,
    /// When all steps and faults are over.
    pub(crate) calm_at: Duration,
    /// How long nothing may happen once everything has settled.
    pub(crate) quiet: Duration,
    /// Whether API servers answer lists from the past.
    pub(crate) stale_lists: bool,
    /// Whether tags decide who may bind a group.
    pub(crate) enforced: bool,
    /// The defect that is switched on in the core.
    #[cfg(feature = "planted-bugs")]
    pub planted: Option<registrar_core::planted::Bug>,
}

impl Scene {
    /// One workload with one binding, and a registrar or two.
    pub(crate) fn simple(replicas: usize) -> Self {
        Self {
            epoch: 1_700_000_000,
            rates: vec![100, 100],
            pool: 4,
            cursed: Vec::new(),
            workloads: vec![Workload::new("shop", "web", replicas)],
            bindings: vec![BindingPlan::new("shop", "web-80", "web")],
            aws: vec![("lag.registration", "1s".to_owned()), ("lag.deregistration", "4s".to_owned())],
            steps: Vec::new(),
            faults: Vec::new(),
            calm_at: Duration::from_mins(1),
            quiet: Duration::from_mins(2),
            stale_lists: false,
            enforced: false,
            #[cfg(feature = "planted-bugs")]
            planted: None,
        }
    }

    /// Lets creation times count from this Unix time.
    pub const fn created_from(&mut self, epoch: i64) {
        self.epoch = epoch;
    }

    /// Settings of the registrars.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            isolation: if self.enforced { Isolation::Enforce } else { Isolation::Warn },
            features: FeatureSets { instance_targets: false, shared_groups: true, load_balancers: false },
            #[cfg(feature = "planted-bugs")]
            planted: self.planted,
            ..Settings::default()
        }
    }
}
