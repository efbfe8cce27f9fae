//! One Service, the objects of the cluster that belong to it, and an AWS account: carries out its plans as the machine of
//! the registrar does, one call at a time, and can stop anywhere.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use aws_model::{Model, Settings, control::Counts, settings::Profile};
use k8s_openapi::api::core::v1::Service;
use nlb::{
    service::{self, spec::AddressFamily},
    settings::{ModelSettings, TargetType},
    targetgroupbinding::TargetGroupBindingSpec,
};
use registrar_core::{
    aws::{Arn, Call, Fault, Reply, Target},
    balancers::{
        self, Desired, Environment, Inputs, Intent, KnownBinding, ManagedFields, Network, Observed, Operation, Plan,
        Wait,
    },
    cluster::{Key, Uid},
    effect::Request,
};
use simulation::aws;
use world::World;

pub(crate) const VPC: &str = "vpc-0a1b2c3d4e5f60718";
/// Addresses of pods, one per zone.
const PODS: [&str; 3] = ["192.168.11.21", "192.168.12.21", "192.168.13.21"];
const IPV6_PODS: [&str; 3] = ["2001:db8:0:1a11::15", "2001:db8:0:1a12::15", "2001:db8:0:1a13::15"];

/// Where to stop, as a process that is killed does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before a call or request is sent, or sent and not carried out.
    Before,
    /// It was carried out, and the answer was lost.
    NoReply,
    /// The answer was read.
    After,
}

pub(crate) const CUTS: [Cut; 3] = [Cut::Before, Cut::NoReply, Cut::After];

pub(crate) struct Bench {
    pub(crate) model: Model,
    pub(crate) now: Duration,
    pub(crate) environment: Environment,
    pub(crate) service: Service,
    pub(crate) intent: Intent,
    pub(crate) shared: Option<String>,
    pub(crate) bindings: BTreeMap<String, KnownBinding>,
    pub(crate) annotation: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) others: Vec<Service>,
    remembered: ManagedFields,
    settled: BTreeSet<Arn>,
    fresh: bool,
    pub(crate) observed: Observed,
    /// Operations that were called, and requests to the API server, in order.
    pub(crate) log: Vec<String>,
    /// After how many more operations to stop, and how.
    pub(crate) cut: Option<(usize, Cut)>,
    /// What AWS went on refusing.
    pub(crate) refused: Option<String>,
    uids: u32,
}

/// The process was stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopped;

impl Bench {
    pub(crate) fn new(manifest: &str) -> Self {
        Self::with(manifest, Profile::Instant, 1)
    }

    pub(crate) fn with(manifest: &str, profile: Profile, seed: u64) -> Self {
        let world = World::parse(world::DEFAULT).expect("the shipped world");
        let settings = ModelSettings {
            cluster_name: world.cluster.clone(),
            region: Some(world.region.clone()),
            ..ModelSettings::default()
        };
        let mut bench = Self {
            model: Model::new(&world, Settings::profile(profile), seed),
            now: Duration::ZERO,
            environment: Environment { settings: Arc::new(settings), vpc_id: VPC.to_owned(), ..Environment::default() },
            service: serde_saphyr::from_str(manifest).expect("a Service"),
            intent: Intent::Keep,
            shared: None,
            bindings: BTreeMap::new(),
            annotation: None,
            hostname: None,
            others: Vec::new(),
            remembered: ManagedFields::default(),
            settled: BTreeSet::new(),
            fresh: true,
            observed: Observed::default(),
            log: Vec::new(),
            cut: None,
            refused: None,
            uids: 0,
        };
        let metadata = &mut bench.service.metadata;
        metadata.namespace.get_or_insert_with(|| "default".to_owned());
        metadata.uid.get_or_insert_with(|| "bdca2bd0-bfc6-449a-88a3-03451f05f18c".to_owned());
        bench.shared = Some(bench.security_group("k8s-traffic-lab"));
        bench
    }

    pub(crate) fn security_group(&mut self, name: &str) -> String {
        let create = Call::CreateSecurityGroup {
            name: name.to_owned(),
            description: "of a test".to_owned(),
            vpc_id: VPC.to_owned(),
            tags: [("Name".to_owned(), name.to_owned())].into(),
        };
        match self.call(&create) {
            Ok(Reply::SecurityGroupId(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn annotate(&mut self, key: &str, value: &str) {
        let annotations = self.service.metadata.annotations.get_or_insert_default();
        annotations.insert(format!("service.beta.kubernetes.io/aws-load-balancer-{key}"), value.to_owned());
    }

    pub(crate) fn unannotate(&mut self, key: &str) {
        let annotations = self.service.metadata.annotations.get_or_insert_default();
        annotations.remove(&format!("service.beta.kubernetes.io/aws-load-balancer-{key}"));
    }

    pub(crate) fn call(&mut self, call: &Call) -> Result<Reply, Fault> {
        let answered = aws::call(&mut self.model, call, self.now);
        self.pass(Duration::ZERO);
        answered.outcome
    }

    /// Lets time pass. Every check of a target succeeds.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            for command in self.model.tick(self.now) {
                if let aws_model::Command::Probe(probe) = command {
                    let outcome = match probe.check {
                        aws_model::Check::Tcp => aws_model::ProbeOutcome::Connected,
                        aws_model::Check::Http { .. } => aws_model::ProbeOutcome::Status(200),
                    };
                    self.model.probed(probe.id, &outcome, self.now);
                }
            }
            match self.model.deadline() {
                Some(next) if next <= end => self.now = next.max(self.now),
                _ => break,
            }
        }
        self.now = end;
    }

    pub(crate) fn key(&self) -> Key {
        let metadata = &self.service.metadata;
        Key::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }

    pub(crate) fn inputs(&self) -> Inputs {
        let settings = &self.environment.settings;
        let spec = service::read(&self.service, settings).spec;
        let backends = balancers::backends(&self.service, &spec, settings, |name| {
            self.others.iter().find(|other| other.metadata.name.as_deref() == Some(name)).cloned()
        });
        let mut inputs = Inputs {
            environment: Arc::new(self.environment.clone()),
            service: self.key(),
            uid: Uid(self.service.metadata.uid.as_deref().unwrap_or_default().into()),
            intent: self.intent,
            spec: Arc::new(spec),
            fresh: self.fresh,
            hostname: self.hostname.clone(),
            backend_group: self.shared.clone(),
            bindings: self.bindings.values().cloned().collect(),
            backends,
            recorded: ManagedFields::read(self.annotation.as_deref()),
            remembered: self.remembered.clone(),
            settled: self.settled.clone(),
            kept_groups: None,
        };
        inputs.follow_existing(&self.service, &self.observed);
        inputs
    }

    pub(crate) fn desired(&self) -> registrar_core::balancers::Desired {
        Desired::of(&self.inputs(), &self.observed)
    }

    /// What is planned, once everything has been read. Panics if a call for that is refused.
    pub(crate) fn plan(&mut self) -> Plan {
        loop {
            let inputs = self.inputs();
            let Some(read) = balancers::next_reads(&inputs, &self.observed).into_iter().next() else {
                return balancers::plan(&Desired::of(&inputs, &self.observed), &inputs, &self.observed);
            };
            assert!(read.is_read(), "{read:?}");
            let outcome = self.call(&read);
            self.log.push(read.operation().to_owned());
            balancers::fold(&mut self.observed, &read, &outcome);
            assert!(self.log.len() < 2000, "reads without end: {:?}", &self.log[self.log.len() - 20..]);
        }
    }

    /// Carries out plans until there is nothing left to do; what then remains.
    pub(crate) fn run(&mut self) -> Result<Plan, Stopped> {
        let mut refusals = 0;
        for _ in 0..300 {
            let plan = self.plan();
            let Some(step) = plan.steps.first() else {
                self.remember();
                return Ok(plan);
            };
            assert!(step.ready, "the first step names something that is not there: {step}");
            let cut = self.take_cut(step.operation_is_sent());
            if cut == Some(Cut::Before) {
                return Err(self.stop());
            }
            match step.operation.clone() {
                Operation::Aws(call) => {
                    self.log.push(call.operation().to_owned());
                    let outcome = self.call(&call);
                    if cut == Some(Cut::NoReply) {
                        return Err(self.stop());
                    }
                    if let Err(fault) = &outcome {
                        self.log.push(format!("{}: {fault}", call.operation()));
                        self.pass(Duration::from_secs(1));
                        refusals += 1;
                        if refusals > 40 {
                            self.refused = Some(format!("{}: {fault}", call.operation()));
                            return Ok(plan);
                        }
                    }
                    balancers::fold(&mut self.observed, &call, &outcome);
                }
                Operation::Kubernetes(_) | Operation::Wait(_) => self.carry_out(step),
            }
            if cut.is_some() {
                return Err(self.stop());
            }
        }
        panic!("never done: {:?}", &self.log[self.log.len().saturating_sub(30)..]);
    }

    /// Carries out one step.
    pub(crate) fn carry_out(&mut self, step: &balancers::Step) {
        match step.operation.clone() {
            Operation::Aws(call) => {
                let outcome = self.call(&call);
                balancers::fold(&mut self.observed, &call, &outcome);
            }
            Operation::Kubernetes(request) => self.kubernetes(request),
            Operation::Wait(wait) => self.wait(&wait),
        }
    }

    pub(crate) fn done(&mut self) -> Plan {
        let rest = self.run().expect("not stopped");
        assert_eq!(self.refused, None);
        rest
    }

    fn remember(&mut self) {
        let inputs = self.inputs();
        if self.intent == Intent::Keep {
            let groups: Vec<_> = inputs.spec.target_groups.iter().collect();
            self.remembered = ManagedFields::of(&inputs.spec, &groups);
            self.hostname = balancers::hostname(&inputs, &self.observed).or(self.hostname.take());
        }
    }

    fn take_cut(&mut self, sent: bool) -> Option<Cut> {
        let (left, cut) = self.cut.as_mut().filter(|_| sent)?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let cut = *cut;
        self.cut = None;
        Some(cut)
    }

    /// What a process forgets when it ends.
    pub(crate) fn stop(&mut self) -> Stopped {
        self.observed = Observed::default();
        self.remembered = ManagedFields::default();
        self.settled.clear();
        self.fresh = false;
        self.cut = None;
        Stopped
    }

    /// A look at everything anew, as an audit does.
    pub(crate) fn audit(&mut self) -> Plan {
        self.observed.forget();
        self.observed.network = Network::default();
        self.log.clear();
        self.plan()
    }

    fn kubernetes(&mut self, request: Request) {
        match request {
            Request::SetManagedFields { fields, .. } => {
                self.log.push("SetManagedFields".to_owned());
                self.annotation = Some(fields);
            }
            Request::ApplyBinding { binding, spec, .. } => {
                self.log.push("ApplyBinding".to_owned());
                self.uids += 1;
                let uid = Uid(format!("uid-{}", self.uids).as_str().into());
                let group = Arn::new(spec.target_group_arn.as_deref().expect("an ARN"));
                assert!(!format!("{spec:?}").contains("\"$"), "a logical id: {spec:?}");
                let spec = Arc::new(*spec);
                let known = KnownBinding { key: binding.clone(), uid, deleting: false, spec: Arc::clone(&spec) };
                if let Some(before) = self.bindings.insert(binding.name.to_string(), known) {
                    assert_eq!(before.group(), Some(group), "the ARN of a binding cannot be changed");
                } else {
                    self.targets(&group, &spec, true);
                }
            }
            Request::DeleteBinding { binding, .. } => {
                self.log.push("DeleteBinding".to_owned());
                let known = self.bindings.remove(&*binding.name).expect("a binding");
                self.targets(&known.group().expect("an ARN"), &known.spec, false);
            }
            other => panic!("{other:?}"),
        }
    }

    /// Registers or deregisters the pods, as the planner of targets does for a binding.
    fn targets(&mut self, group: &Arn, spec: &TargetGroupBindingSpec, register: bool) {
        let target = |id: &str| Target { id: id.to_owned(), port: 8080, availability_zone: None, quic_server_id: None };
        let instances = ["i-0a0000000000000a1", "i-0b0000000000000b1"];
        let targets: Vec<Target> = match (spec.target_type, spec.ip_address_type) {
            (Some(TargetType::Instance), _) => instances.map(target).into(),
            (_, Some(AddressFamily::Ipv6)) => IPV6_PODS.map(target).into(),
            _ => PODS.map(target).into(),
        };
        let call = if register {
            Call::RegisterTargets { group: group.clone(), targets }
        } else {
            Call::DeregisterTargets { group: group.clone(), targets }
        };
        let _ = self.call(&call);
    }

    fn wait(&mut self, wait: &Wait) {
        self.log.push(format!("wait until {wait}"));
        match wait {
            Wait::Active(name) => _ = self.observed.load_balancers.remove(name),
            Wait::Healthy(_) | Wait::Drained(_) => self.observed.health.clear(),
            Wait::Settled(group) => _ = self.settled.insert(group.clone()),
            Wait::BindingGone(_) => {}
            Wait::SharedGroup => panic!("the shared group is there"),
        }
        self.pass(Duration::from_secs(10));
    }

    pub(crate) fn counts(&self) -> Counts {
        self.model.counts()
    }

    /// What was written since the log was cleared.
    pub(crate) fn writes(&self) -> Vec<&str> {
        self.log
            .iter()
            .map(String::as_str)
            .filter(|name| !name.starts_with("Describe") && !name.starts_with("wait"))
            .collect()
    }
}

trait Sent {
    fn operation_is_sent(&self) -> bool;
}

impl Sent for balancers::Step {
    fn operation_is_sent(&self) -> bool {
        !matches!(self.operation, Operation::Wait(_))
    }
}
