//! What a machine makes of the ends of what it has sent.

use std::time::Duration;

use super::{
    fault::{Failure, explain},
    machine::{LONGEST, Machine, Send},
    view::View,
};
use crate::{
    aws::{Call, Fault, Reply},
    balancers,
    effect::Request,
    event::{Answer, Denial, Outcome},
};

impl Machine {
    /// Something that was sent has ended.
    pub(super) fn ended(&mut self, outcome: Outcome, view: &mut View, now: Duration) {
        let Some(sent) = self.sent.take() else { return };
        self.due_at = now;
        match (sent, outcome) {
            (Send::Aws(call, _), Outcome::Aws(result)) => self.called(&call, &result, view, now),
            (Send::Kubernetes(request), Outcome::Kubernetes(result)) => self.asked(&request, result, now),
            _ => self.due_at = now + Duration::from_secs(1),
        }
    }

    fn called(&mut self, call: &Call, result: &Result<Reply, Fault>, view: &mut View, now: Duration) {
        std::mem::swap(&mut self.observed.network, view.network);
        balancers::fold(&mut self.observed, call, result);
        std::mem::swap(&mut self.observed.network, view.network);
        match result {
            Ok(_) => {
                if !call.is_read() {
                    self.progressed_at = now;
                    self.polls = 0;
                }
                if !call.is_read() || self.failure.as_ref().is_some_and(|failure| failure.operation == call.operation())
                {
                    self.failure = None;
                    self.attempt = 0;
                }
            }
            Err(Fault::Throttled { .. } | Fault::NotSent(_)) => self.retry_at = now + Duration::from_secs(1),
            Err(fault) if balancers::is_answer(call, fault) => {}
            Err(fault) if is_setting(call) && fault.code().is_some() => {
                self.refused.retain(|(refused, ..)| refused != call);
                self.refused.push((call.clone(), explain(call, fault), now + LONGEST));
                self.forget();
            }
            Err(fault) => {
                let failure = explain(call, fault);
                // Said once: the words of a server that has failed change from one time to the next.
                let known = self.failure.take().filter(|known| known.is_like(&failure));
                self.failure = Some(known.unwrap_or(failure));
                self.retry_at = now + Fault::backoff(self.attempt);
                self.attempt += 1;
                if !call.is_read() {
                    self.forget();
                } else if fault.code().is_some() {
                    self.read_at = None;
                }
            }
        }
    }

    fn asked(&mut self, request: &Request, result: Result<Answer, Denial>, now: Duration) {
        match result {
            Ok(_) => {
                if !matches!(request, Request::PatchServiceStatus { .. } | Request::Publish(_)) {
                    self.progressed_at = now;
                }
                if let Request::SetServiceFinalizer { present, .. } = request {
                    self.finalized = *present;
                }
                // What was written comes back by a watch; until then it is not written again.
                self.told = Some((request.clone(), now + Duration::from_secs(2)));
                self.status.written(request);
            }
            // It is gone, and another may have its name: a watch says so.
            Err(Denial::NotFound | Denial::Replaced) => {
                if matches!(request, Request::PatchServiceStatus { .. } | Request::Publish(_)) {
                    self.status.written(request);
                }
                self.due_at = now + Duration::from_secs(2);
            }
            Err(Denial::Conflict | Denial::NotSent(_)) => self.due_at = now + Duration::from_secs(1),
            // What cannot be said is no reason not to do it. It is tried again with the next audit.
            Err(Denial::Refused(_) | Denial::Forbidden(_)) if matches!(request, Request::PatchServiceStatus { .. }) => {
                self.status.written(request);
            }
            Err(denial) => {
                self.due_at = now + Fault::backoff(self.attempt);
                self.attempt += 1;
                self.failure = Some(Failure::kubernetes(request, &denial));
                if matches!(request, Request::Publish(_)) {
                    self.status.written(request);
                }
            }
        }
    }
}

/// Whether a call sets something that nothing else depends on.
fn is_setting(call: &Call) -> bool {
    matches!(
        call,
        Call::ModifyLoadBalancerAttributes { .. }
            | Call::ModifyTargetGroupAttributes { .. }
            | Call::ModifyListenerAttributes { .. }
            | Call::ModifyCapacityReservation { .. }
            | Call::AddListenerCertificates { .. }
            | Call::RemoveListenerCertificates { .. }
            | Call::AddTags { .. }
            | Call::RemoveTags { .. }
            | Call::CreateEc2Tags { .. }
            | Call::DeleteEc2Tags { .. }
    )
}
