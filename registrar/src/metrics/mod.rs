//! What is counted. `manifests/METRICS.md` describes every metric; a test holds the two together.
//!
//! Metrics that mean what the peer's mean have its names, so that alerts go on working. All others begin with
//! `sluice_registrar_`.

mod report;

use std::{fmt::Write as _, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use registrar_core::{
    Report,
    aws::{Call, Fault},
    cluster::Kind,
    effect::Action,
    event::{Denial, Outcome},
};

use crate::{
    aws::{Observed, Observer},
    kubernetes,
};

/// Seconds: of calls to AWS and requests to the API server.
const CALLS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Seconds: of decisions, which take microseconds.
const STEPS: [f64; 9] = [0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.1, 1.0];
/// Seconds: of waiting for a gate.
const GATES: [f64; 13] = [0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 240.0, 360.0, 600.0];

/// A word out of a fixed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Word(&'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
        encoder.write_str(self.0)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AwsCall {
    service: Word,
    operation: Word,
    status_code: String,
    error_code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AwsOperation {
    service: Word,
    operation: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BindingLabels {
    namespace: String,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KubernetesRequest {
    request: Word,
    outcome: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    request: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: Word,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: Word,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// All metrics of the process. Clones are the same metrics.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    aws_calls: Family<AwsCall, Counter>,
    aws_durations: Histograms<AwsOperation>,
    aws_requests: Family<AwsCall, Counter>,
    aws_request_durations: Histograms<AwsOperation>,
    aws_permission: Family<AwsCall, Counter>,
    aws_limits: Family<AwsCall, Counter>,
    aws_throttled: Family<AwsCall, Counter>,
    aws_validation: Family<AwsCall, Counter>,
    gates: Histograms<BindingLabels>,
    kubernetes_requests: Family<KubernetesRequest, Counter>,
    kubernetes_durations: Histograms<RequestLabels>,
    leader: Gauge,
    lease_attempts: Family<OutcomeLabels, Counter>,
    unreadable: Family<KindLabels, Counter>,
    watch_failures: Family<KindLabels, Counter>,
    steps: Histogram,
    waiting: Gauge,
    running: Gauge,
    report: report::Last,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(registry: &mut Registry) -> Self {
        let calls: fn() -> Histogram = || Histogram::new(CALLS);
        let gates: fn() -> Histogram = || Histogram::new(GATES);
        let inner = Inner {
            aws_calls: Family::default(),
            aws_durations: Family::new_with_constructor(calls),
            aws_requests: Family::default(),
            aws_request_durations: Family::new_with_constructor(calls),
            aws_permission: Family::default(),
            aws_limits: Family::default(),
            aws_throttled: Family::default(),
            aws_validation: Family::default(),
            gates: Family::new_with_constructor(gates),
            kubernetes_requests: Family::default(),
            kubernetes_durations: Family::new_with_constructor(calls),
            leader: Gauge::default(),
            lease_attempts: Family::default(),
            unreadable: Family::default(),
            watch_failures: Family::default(),
            steps: Histogram::new(STEPS),
            waiting: Gauge::default(),
            running: Gauge::default(),
            report: report::Last::default(),
        };
        inner.register_peers(registry);
        registry.register_collector(Box::new(inner.report.clone()));
        inner.register_own(registry.sub_registry_with_prefix("sluice_registrar"));
        Self(Arc::new(inner))
    }

    /// Counts the end of an effect, which took so long.
    pub fn ended(&self, action: &Action, outcome: &Outcome, took: Duration) {
        match (action, outcome) {
            (Action::Aws { call, .. }, Outcome::Aws(answer)) => self.aws(call, answer.as_ref().err(), took),
            (Action::Kubernetes(request), Outcome::Kubernetes(answer)) => {
                let request = Word(kubernetes::name(request));
                let outcome = Word(answer.as_ref().map_or_else(word, |_| "ok"));
                self.0.kubernetes_requests.get_or_create(&KubernetesRequest { request, outcome }).inc();
                if !matches!(answer, Err(Denial::NotSent(_))) {
                    self.0.kubernetes_durations.get_or_create(&RequestLabels { request }).observe(took.as_secs_f64());
                }
            }
            _ => {}
        }
    }

    fn aws(&self, call: &Call, fault: Option<&Fault>, took: Duration) {
        let (service, operation) = (Word(service(call)), Word(call.operation()));
        let (status_code, error_code) = match fault {
            None => ("200", String::new()),
            Some(Fault::Refused(refusal)) => ("400", refusal.code.clone()),
            Some(Fault::Throttled { code }) => ("400", code.clone()),
            Some(Fault::Unknown(_)) => ("", "Unknown".to_owned()),
            // Nothing was asked of AWS.
            Some(Fault::NotSent(_)) => return,
        };
        let labels = AwsCall { service, operation, status_code: status_code.to_owned(), error_code };
        self.0.aws_calls.get_or_create(&labels).inc();
        self.0.aws_durations.get_or_create(&AwsOperation { service, operation }).observe(took.as_secs_f64());
        let family = match fault {
            Some(Fault::Throttled { .. }) => &self.0.aws_throttled,
            Some(Fault::Refused(refusal)) => match Refused::of(&refusal.code) {
                Refused::Permission => &self.0.aws_permission,
                Refused::Limit => &self.0.aws_limits,
                Refused::Validation => &self.0.aws_validation,
                Refused::Other => return,
            },
            _ => return,
        };
        family.get_or_create(&labels).inc();
    }

    /// A gate opened so long after the pod's containers were ready.
    pub fn gate_opened(&self, namespace: &str, binding: &str, seconds: f64) {
        let labels = BindingLabels { namespace: namespace.to_owned(), name: binding.to_owned() };
        self.0.gates.get_or_create(&labels).observe(seconds);
    }

    /// Whether this process leads.
    pub fn leads(&self, leads: bool) {
        self.0.leader.set(leads.into());
    }

    /// An attempt at the lease had an answer, or none.
    pub fn lease_attempt(&self, answered: bool) {
        let outcome = Word(if answered { "answered" } else { "failed" });
        self.0.lease_attempts.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// An object could not be read.
    pub fn unreadable(&self, kind: Kind) {
        self.0.unreadable.get_or_create(&KindLabels { kind: Word(plural(kind)) }).inc();
    }

    /// A watch failed.
    pub fn watch_failed(&self, kind: Kind) {
        self.0.watch_failures.get_or_create(&KindLabels { kind: Word(plural(kind)) }).inc();
    }

    /// How things are now.
    pub fn report(&self, report: Report) {
        self.0.report.put(report);
    }

    /// A decision took so long.
    pub fn stepped(&self, took: Duration) {
        self.0.steps.observe(took.as_secs_f64());
    }

    /// So many effects wait in the lane that moved last, and so many are under way.
    pub fn effects(&self, waiting: usize, running: usize) {
        self.0.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.0.running.set(i64::try_from(running).unwrap_or(i64::MAX));
    }
}

impl Observer for Metrics {
    fn observed(&self, request: &Observed<'_>) {
        let (service, operation) = (Word(request.service), Word(request.operation));
        let status_code = request.status.map(|status| status.to_string()).unwrap_or_default();
        let error_code = request.error_code.unwrap_or_default().to_owned();
        self.0.aws_requests.get_or_create(&AwsCall { service, operation, status_code, error_code }).inc();
        let seconds = request.duration.as_secs_f64();
        self.0.aws_request_durations.get_or_create(&AwsOperation { service, operation }).observe(seconds);
    }
}

impl Inner {
    fn register_peers(&self, registry: &mut Registry) {
        registry.register("aws_api_calls", "Calls to AWS that were sent", self.aws_calls.clone());
        registry.register("aws_api_call_duration_seconds", "Time until AWS answered", self.aws_durations.clone());
        registry.register(
            "aws_api_requests",
            "Requests to AWS: a call takes one for each page",
            self.aws_requests.clone(),
        );
        registry.register(
            "aws_api_request_duration_seconds",
            "Time until AWS answered a request",
            self.aws_request_durations.clone(),
        );
        registry.register(
            "aws_api_call_permission_errors",
            "Calls that AWS refused for want of permission",
            self.aws_permission.clone(),
        );
        registry.register(
            "aws_api_call_service_limit_exceeded_errors",
            "Calls that AWS refused because of a quota",
            self.aws_limits.clone(),
        );
        registry.register("aws_api_call_throttled_errors", "Calls over AWS's request rate", self.aws_throttled.clone());
        registry.register(
            "aws_api_call_validation_errors",
            "Calls that AWS refused as not valid",
            self.aws_validation.clone(),
        );
        registry.register(
            "awslbc_readiness_gate_ready_seconds",
            "Time from a pod's containers being ready to its gate being open",
            self.gates.clone(),
        );
    }

    fn register_own(&self, registry: &mut Registry) {
        registry.register("kubernetes_requests", "Requests by what came of them", self.kubernetes_requests.clone());
        registry.register(
            "kubernetes_request_duration_seconds",
            "Time until the API server answered",
            self.kubernetes_durations.clone(),
        );
        registry.register("leader", "1 if this replica leads", self.leader.clone());
        registry.register("lease_attempts", "Attempts to take, renew or read the lease", self.lease_attempts.clone());
        registry.register("unreadable_objects", "Objects that could not be read", self.unreadable.clone());
        registry.register("watch_failures", "Watches that broke or could not begin", self.watch_failures.clone());
        registry.register("decision_duration_seconds", "Time that one decision took", self.steps.clone());
        registry.register("effects_waiting", "Decided and not begun", self.waiting.clone());
        registry.register("effects_running", "Under way", self.running.clone());
    }
}

/// What a refusal of AWS is about.
enum Refused {
    Permission,
    Limit,
    Validation,
    Other,
}

impl Refused {
    fn of(code: &str) -> Self {
        match code {
            "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" | "AuthFailure" => Self::Permission,
            "ValidationError" | "ValidationException" => Self::Validation,
            code if code.starts_with("TooMany") || code.ends_with("LimitExceeded") => Self::Limit,
            code if code.starts_with("Invalid") => Self::Validation,
            _ => Self::Other,
        }
    }
}

fn service(call: &Call) -> &'static str {
    use registrar_core::aws::Bucket;
    match call.bucket() {
        Bucket::Ec2Describe | Bucket::Ec2Write => "EC2",
        _ => "Elastic Load Balancing v2",
    }
}

fn word(denial: &Denial) -> &'static str {
    match denial {
        Denial::NotFound => "not_found",
        Denial::Conflict => "conflict",
        Denial::Replaced => "replaced",
        Denial::Forbidden(_) => "forbidden",
        Denial::Refused(_) => "refused",
        Denial::Unknown(_) => "unknown",
        Denial::NotSent(_) => "not_sent",
    }
}

fn plural(kind: Kind) -> &'static str {
    match kind {
        Kind::Service => "services",
        Kind::Binding => "targetgroupbindings",
        Kind::Slice => "endpointslices",
        Kind::Pod => "pods",
        Kind::Node => "nodes",
        Kind::Namespace => "namespaces",
    }
}
