//! What a binding's status says.

use std::time::Duration;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};
use nlb::targetgroupbinding::TargetGroupBindingStatus;

use super::{
    Counts,
    binding::Binding,
    desk::{Desk, What},
    group::Resolution,
    retry::Alarm,
    spot::Presence,
};
use crate::{
    aws::HealthState,
    cluster::BindingRecord,
    effect::{Priority, Request},
    event::Denial,
};

/// Between two writes of one status.
const SPACING: Duration = Duration::from_secs(1);
/// For how long something that happened is still said.
const RECENT: Duration = Duration::from_secs(20);

/// A condition: type, status, reason, message.
type Said = (&'static str, bool, &'static str, String);

impl Binding {
    /// How many targets are how.
    pub fn counts(&self, now: Duration) -> Counts {
        let mut counts = Counts { desired: self.wanted.len(), ..Counts::default() };
        let takeover = self.facts().and_then(|facts| facts.takeover);
        for state in self.wanted.keys().filter_map(|spot| self.spots.get(spot)) {
            counts.registered += usize::from(state.presence(now) == Presence::Present);
            let verdict = match &state.holder {
                Some(holder) if holder.owner.gated => state.fresh_verdict(takeover, true),
                _ => state.verdict.as_ref(),
            };
            counts.healthy += usize::from(verdict.is_some_and(|verdict| verdict.state == HealthState::Healthy));
        }
        counts
    }

    fn conditions(&self, record: &BindingRecord, desk: &Desk<'_>, alarm: &mut Alarm) -> Vec<Said> {
        let now = desk.now;
        let counts = self.counts(now);
        let ratio = format!("{}/{}", counts.healthy, counts.desired);
        let mut said: Vec<Said> = Vec::new();
        if let Some(problem) = self.problem() {
            said.push(("Resolved", false, problem.reason, problem.message.clone()));
            said.push(("Ready", false, problem.reason, problem.message));
            return said;
        }
        let unresolved = matches!(self.resolution, Resolution::Ask);
        let backend = self.backend.missing;
        said.push(match (unresolved, backend) {
            (true, _) => {
                let because = self.looks.problem.clone().unwrap_or_else(|| "the target group is being read".to_owned());
                ("Resolved", false, "Reading", because)
            }
            (false, Some((_, what))) => {
                let service = &record.spec.service_ref.name;
                let message = match what {
                    "port" => format!("Service {service} does not have the port"),
                    _ => format!("there is no Service {service}"),
                };
                ("Resolved", false, "BackendNotFound", message)
            }
            (false, None) => match self.authority.complaint(desk.settings) {
                Some(complaint) => ("Resolved", true, "NotAuthorised", complaint),
                None => ("Resolved", true, "Resolved", "the target group is known".to_owned()),
            },
        });
        said.push(self.registered_condition(counts, desk));
        said.push(match (self.fail_open.is_some(), counts) {
            (true, _) => ("Healthy", false, "FailOpen", format!("{ratio}; open gates stay open")),
            (false, Counts { desired: 0, .. }) => ("Healthy", false, "NoTargets", ratio.clone()),
            (false, counts) if counts.healthy == counts.desired => ("Healthy", true, "AllHealthy", ratio.clone()),
            _ => ("Healthy", false, "NotAllHealthy", ratio.clone()),
        });
        let recent = |at: Duration, alarm: &mut Alarm| {
            let recent = now.saturating_sub(at) < RECENT;
            if recent {
                alarm.at(at + RECENT);
            }
            recent
        };
        said.push(match &self.drifted {
            Some(message) => ("Drifted", true, "Repairing", message.clone()),
            None => ("Drifted", false, "AsLeft", String::new()),
        });
        said.push(match self.throttled_at {
            Some(at) if recent(at, alarm) => (
                "Throttled",
                true,
                "RateExceeded",
                "AWS throttles calls of this account; they are made later".to_owned(),
            ),
            _ => ("Throttled", false, "WithinRate", String::new()),
        });
        let ready = !unresolved && backend.is_none() && counts.desired > 0 && counts.healthy == counts.desired;
        let reason = match () {
            () if unresolved => "Reading",
            () if backend.is_some() => "BackendNotFound",
            () if self.fail_open.is_some() => "FailOpen",
            () if counts.desired == 0 => "NoTargets",
            () if counts.registered < counts.desired => "Registering",
            () if !ready => "NotAllHealthy",
            () => "AllHealthy",
        };
        said.push(("Ready", ready, reason, ratio));
        said
    }

    fn registered_condition(&self, counts: Counts, desk: &Desk<'_>) -> Said {
        let ratio = format!("{}/{}", counts.registered, counts.desired);
        if let Some(full) = &self.full {
            return ("Registered", false, "TargetQuotaReached", format!("{ratio}; {}", full.because));
        }
        let rejected = self.spots.iter().find_map(|(spot, state)| Some((spot, state.rejected.as_ref()?)));
        if let Some((spot, rejected)) = rejected {
            return ("Registered", false, "TargetRefused", format!("{ratio}; {spot}: {}", rejected.because));
        }
        let refused = self.register.problem.as_ref().filter(|_| counts.registered < counts.desired);
        let problem = refused.or(self.deregister.problem.as_ref()).or(self.looks.problem.as_ref());
        if let Some(problem) = problem {
            return ("Registered", false, "AwsRefuses", format!("{ratio}; {problem}"));
        }
        if desk.settings.most_targets.is_some_and(|most| counts.desired > most) && counts.registered < counts.desired {
            return ("Registered", false, "TargetLimitReached", format!("{ratio}; the configured limit is reached"));
        }
        if self.brake.held > 0 {
            let message = format!("{ratio}; {} targets that would leave are kept until it is certain", self.brake.held);
            return ("Registered", counts.registered == counts.desired, "RemovalHeld", message);
        }
        if counts.registered == counts.desired {
            return ("Registered", true, "AllRegistered", ratio);
        }
        ("Registered", false, "Registering", ratio)
    }

    /// Writes the status if it has changed.
    pub fn write_status(&mut self, record: &BindingRecord, desk: &mut Desk<'_>, alarm: &mut Alarm) {
        if self.writing || (record.meta.deleting && !record.has_finalizer) {
            return;
        }
        // Before the first look there is nothing to say that is not said already.
        let read = self.looks.last.is_some() && self.authority.is_known(desk.settings);
        let blind = !read && self.problem().is_none() && self.looks.problem.is_none();
        if blind {
            return;
        }
        if let Some(written) = &self.written
            && record.status.as_deref().is_some_and(|stored| same(stored, written))
        {
            self.written = None;
        }
        let stored = self.written.as_ref().or(record.status.as_deref());
        let due = self.status(record, stored, desk, alarm);
        if stored.is_some_and(|stored| same(stored, &due)) {
            return;
        }
        if !self.write_retry.is_due(desk.now) {
            alarm.at(self.write_retry.at);
            return;
        }
        self.writing = true;
        self.write_retry.at = desk.now + SPACING;
        let (binding, uid) = (self.key.clone(), self.uid.clone());
        let ready = due.conditions.iter().flatten().find(|condition| condition.type_ == "Ready");
        let because = ready.map(|ready| format!("{}: {}", ready.reason, ready.message)).unwrap_or_default();
        self.written = Some(due.clone());
        let request = Request::PatchBindingStatus { binding, uid, status: Box::new(due) };
        desk.request(self.ask(What::Status), request, Priority::Gates, because);
    }

    fn status(
        &self,
        record: &BindingRecord,
        stored: Option<&TargetGroupBindingStatus>,
        desk: &Desk<'_>,
        alarm: &mut Alarm,
    ) -> TargetGroupBindingStatus {
        let before = |name: &str| {
            let conditions = stored.and_then(|stored| stored.conditions.as_ref());
            conditions.into_iter().flatten().find(|condition| condition.type_ == name)
        };
        let conditions = self.conditions(record, desk, alarm).into_iter().map(|(name, is_true, reason, message)| {
            let status = if is_true { "True" } else { "False" };
            let unmoved = before(name).filter(|before| before.status == status);
            Condition {
                type_: name.to_owned(),
                status: status.to_owned(),
                reason: reason.to_owned(),
                message,
                observed_generation: Some(record.generation),
                last_transition_time: unmoved
                    .map_or(Time(Timestamp::UNIX_EPOCH), |before| before.last_transition_time.clone()),
            }
        });
        TargetGroupBindingStatus {
            observed_generation: Some(record.generation),
            conditions: Some(conditions.collect()),
        }
    }

    /// The status has been written, or not.
    pub fn status_written(&mut self, result: &Result<(), Denial>, desk: &Desk<'_>) {
        self.writing = false;
        match result {
            Ok(()) => {
                self.write_retry.failures = 0;
            }
            Err(denial) => {
                self.written = None;
                match denial {
                    Denial::Conflict | Denial::NotSent(_) => self.write_retry.at = desk.now + SPACING,
                    _ => self.write_retry.failed(desk.now),
                }
            }
        }
    }
}

/// Whether two statuses say the same, whenever they began to.
fn same(one: &TargetGroupBindingStatus, other: &TargetGroupBindingStatus) -> bool {
    let said = |status: &TargetGroupBindingStatus| {
        let conditions = status.conditions.iter().flatten();
        conditions
            .map(|condition| {
                let Condition { type_, status, reason, message, observed_generation, .. } = condition.clone();
                (type_, status, reason, message, observed_generation)
            })
            .collect::<Vec<_>>()
    };
    one.observed_generation == other.observed_generation && said(one) == said(other)
}
