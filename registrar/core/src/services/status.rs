//! What is said of a Service's load balancer: hostname, conditions, and Events where something changes.

use k8s_openapi::api::core::v1::Service;

use crate::{
    balancers::Problem,
    cluster::ServiceRecord,
    effect::{About, Notice, Request, ServiceCondition},
};

/// Condition: the load balancer is there, and as the Service asks.
pub const ACTIVE: &str = "Active";
/// Condition: it is being built or changed.
pub const PROVISIONING: &str = "Provisioning";
/// Condition: something is in the way.
pub const BLOCKED: &str = "Blocked";
/// All of these.
pub const CONDITIONS: [&str; 3] = [ACTIVE, PROVISIONING, BLOCKED];

/// How things are, to be said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Said {
    /// Name of the load balancer, once there is one.
    pub(super) hostname: Option<String>,
    /// Everything is in place.
    pub(super) active: bool,
    /// What is being done.
    pub(super) busy: Option<String>,
    /// What is in the way.
    pub(super) blocked: Option<Problem>,
}

/// What is to be said, and what has been.
#[derive(Debug, Default)]
pub(super) struct Status {
    pub(super) wanted: Option<Said>,
    written: Option<(Option<String>, Vec<ServiceCondition>)>,
    notices: Vec<Notice>,
    announced: Option<Said>,
}

impl Status {
    /// What to send so that what is stored says what is wanted. Nothing where a load balancer that was taken over is as it
    /// should be and nothing has been said of it yet.
    pub(super) fn next(&mut self, record: &ServiceRecord, object: &Service) -> Option<Request> {
        if let Some(notice) = self.notices.first() {
            return Some(Request::Publish(notice.clone()));
        }
        let wanted = self.wanted.clone()?;
        let stored = stored(object);
        let conditions = conditions(&wanted);
        let published = hostname_of(object).map(str::to_owned);
        // A name is never taken back while there is a load balancer to be looked for.
        // Nothing but Services of type LoadBalancer can have one.
        let hostname = wanted.hostname.clone().filter(|_| may_have_hostname(object)).or_else(|| published.clone());
        let same_name = hostname == published;
        let silent = stored.is_empty() && self.written.is_none() && wanted.active && wanted.blocked.is_none();
        if same_name && (silent || stored == conditions) {
            self.announced = Some(wanted);
            return None;
        }
        if self.written.as_ref() == Some(&(hostname.clone(), conditions.clone())) {
            return None;
        }
        self.announce(record, &wanted, &stored);
        let (service, uid) = (record.meta.key.clone(), record.meta.uid.clone());
        Some(Request::PatchServiceStatus { service, uid, hostname, conditions })
    }

    /// What was written may have been changed by others since.
    pub(super) fn doubt(&mut self) {
        self.written = None;
    }

    /// A request of [`Self::next`] has ended for good.
    pub(super) fn written(&mut self, request: &Request) {
        match request {
            Request::PatchServiceStatus { hostname, conditions, .. } => {
                self.written = Some((hostname.clone(), conditions.clone()));
            }
            Request::Publish(notice) => self.notices.retain(|other| other != notice),
            _ => {}
        }
    }

    /// Events for what is new.
    fn announce(&mut self, record: &ServiceRecord, wanted: &Said, stored: &[ServiceCondition]) {
        let about = || About::Service(record.meta.key.clone(), record.meta.uid.clone());
        let before = |condition: &str| stored.iter().find(|stored| stored.condition_type == condition);
        let known = |condition: &str, message: &str| {
            before(condition).is_some_and(|stored| stored.status && stored.message == message)
        };
        let last = self.announced.clone().unwrap_or_default();
        if let Some(problem) = &wanted.blocked
            && last.blocked.as_ref() != Some(problem)
            && !known(BLOCKED, &problem.to_string())
        {
            let message = problem.to_string();
            self.notices.push(Notice { about: about(), warning: true, reason: problem.reason, message });
        }
        if wanted.active && !last.active && before(ACTIVE).is_none_or(|stored| !stored.status) {
            let name = wanted.hostname.as_deref().unwrap_or("the load balancer");
            let so = if wanted.blocked.is_none() { ", and as the Service asks" } else { "" };
            let message = format!("{name} is active{so}");
            self.notices.push(Notice { about: about(), warning: false, reason: ACTIVE, message });
        }
        self.announced = Some(wanted.clone());
    }
}

fn conditions(said: &Said) -> Vec<ServiceCondition> {
    let condition = |condition_type, status, reason: &str, message: &str| ServiceCondition {
        condition_type,
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
    };
    let busy = said.busy.as_deref();
    vec![
        match (said.active, busy, &said.blocked) {
            (true, _, None) => {
                condition(ACTIVE, true, "Active", "the load balancer is active, and as the Service asks")
            }
            (true, _, Some(_)) => {
                let message =
                    "the load balancer is active; condition Blocked says in what it is not as the Service asks";
                condition(ACTIVE, true, "Active", message)
            }
            (false, Some(busy), _) => condition(ACTIVE, false, PROVISIONING, busy),
            (false, None, _) => condition(ACTIVE, false, "NotBuilt", "there is no load balancer as the Service asks"),
        },
        match busy {
            Some(busy) => condition(PROVISIONING, true, "InProgress", busy),
            None => condition(PROVISIONING, false, "Idle", "nothing is being done"),
        },
        match &said.blocked {
            Some(problem) => condition(BLOCKED, true, problem.reason, &problem.to_string()),
            None => condition(BLOCKED, false, "Free", "nothing is in the way"),
        },
    ]
}

fn may_have_hostname(object: &Service) -> bool {
    object.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer")
}

/// Whether the status says anything of a load balancer of ours.
pub(super) fn is_said(object: &Service) -> bool {
    hostname_of(object).is_some() || !stored(object).is_empty()
}

/// Our conditions as they are stored, in our order.
fn stored(object: &Service) -> Vec<ServiceCondition> {
    let conditions = object.status.as_ref().and_then(|status| status.conditions.as_ref());
    let find = |condition_type: &'static str| {
        let found = conditions.into_iter().flatten().find(|condition| condition.type_ == condition_type)?;
        Some(ServiceCondition {
            condition_type,
            status: found.status == "True",
            reason: found.reason.clone(),
            message: found.message.clone(),
        })
    };
    CONDITIONS.into_iter().filter_map(find).collect()
}

/// The hostname that is published.
pub(super) fn hostname_of(object: &Service) -> Option<&str> {
    let ingress = object.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?;
    ingress.iter().find_map(|entry| entry.hostname.as_deref())
}
