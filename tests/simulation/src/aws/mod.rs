//! The AWS port over the emulator's model, by value: a [`Call`] becomes the query that a client would send, the model's
//! answer becomes a [`Reply`] or a [`Fault`]. It stands where the SDK stands in the registrar, and follows pages as that does.

mod form;
mod reply;

use std::time::Duration;

use aws_model::{Body, Caller, Model, Request, Service, Value};
use registrar_core::aws::{Call, Fault, Refusal, Reply};

/// What becomes of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Answered {
    /// What the caller is told, once the answer has arrived.
    pub outcome: Result<Reply, Fault>,
    /// How long the answer takes on its way, in model time.
    pub after: Duration,
}

/// Names that results bear a list and perhaps a mark of the next page under.
const PAGED: [&str; 4] = ["LoadBalancers", "TargetGroups", "Listeners", "Certificates"];

/// Makes a call: its effect is in the model when this returns, whatever the caller gets to hear of it.
///
/// The model's commands are not taken: call [`Model::tick`] afterwards.
pub fn call(model: &mut Model, call: &Call, now: Duration) -> Answered {
    let mut answered = send(model, call, None, now);
    if asks_for_one_page(call) {
        return answered.map(call);
    }
    while let Ok(Value::Record(fields)) = &mut answered.outcome {
        let Some(place) = fields.iter().position(|(name, _)| *name == "NextMarker") else { break };
        let (_, marker) = fields.remove(place);
        let next = send(model, call, marker.text(), now);
        answered.after += next.after;
        answered.outcome = match (answered.outcome, next.outcome) {
            (Ok(so_far), Ok(page)) => Ok(joined(so_far, page)),
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
        };
    }
    answered.map(call)
}

/// A call whose marker is the caller's business.
fn asks_for_one_page(call: &Call) -> bool {
    use registrar_core::aws::{LoadBalancerQuery, TargetGroupQuery};
    matches!(
        call,
        Call::DescribeLoadBalancers(LoadBalancerQuery::All { .. })
            | Call::DescribeTargetGroups(TargetGroupQuery::All { .. })
    )
}

/// A page with the items of the next one behind its own, and the next one's mark.
fn joined(so_far: Value, page: Value) -> Value {
    let (Value::Record(mut fields), Value::Record(more)) = (so_far, page) else { return Value::empty() };
    for (name, value) in more {
        let own = fields.iter_mut().find(|(n, _)| *n == name && PAGED.contains(n));
        match (own, value) {
            (Some((_, Value::List(items))), Value::List(new)) => items.extend(new),
            (_, value) => fields.push((name, value)),
        }
    }
    Value::Record(fields)
}

struct Raw {
    outcome: Result<Value, Fault>,
    after: Duration,
}

impl Raw {
    fn map(self, call: &Call) -> Answered {
        Answered { outcome: self.outcome.and_then(|value| reply::read(call, &value)), after: self.after }
    }
}

fn send(model: &mut Model, call: &Call, marker: Option<&str>, now: Duration) -> Raw {
    let reply = model.handle(&request(call, marker), now);
    let outcome = match reply.body {
        _ if reply.delivery.lost => Err(Fault::Unknown(format!("{}: the connection was closed", call.operation()))),
        Body::Result { value, .. } => Ok(value),
        Body::Error { code, message } => Err(fault(reply.status, code, message)),
    };
    Raw { outcome, after: reply.delivery.after }
}

/// The query that a client would send.
pub fn request(call: &Call, marker: Option<&str>) -> Request {
    let service = service(call);
    let mut fields = form::fields(call);
    fields.extend(marker.map(|marker| ("Marker".to_owned(), marker.to_owned())));
    fields.push(("Version".to_owned(), service.version().to_owned()));
    let agent = "simulation".to_owned();
    let caller = Some(Caller { access_key: "AKIASIMULATION".to_owned(), agent, ..Caller::default() });
    Request { service, action: Some(call.operation().to_owned()), fields, defect: None, caller, token: None }
}

fn service(call: &Call) -> Service {
    match call {
        Call::DescribeSubnets { .. }
        | Call::DescribeRouteTables { .. }
        | Call::DescribeVpcs { .. }
        | Call::DescribeAvailabilityZones { .. }
        | Call::DescribeSecurityGroups { .. }
        | Call::CreateSecurityGroup { .. }
        | Call::DeleteSecurityGroup { .. }
        | Call::AuthorizeSecurityGroupIngress { .. }
        | Call::RevokeSecurityGroupIngress { .. }
        | Call::CreateEc2Tags { .. }
        | Call::DeleteEc2Tags { .. }
        | Call::DescribeInstances { .. }
        | Call::DescribeNetworkInterfaces { .. } => Service::Ec2,
        _ => Service::Elb,
    }
}

/// What an error answer means to the caller: throttling comes first, for EC2 answers it with 503.
fn fault(status: u16, code: String, message: String) -> Fault {
    match code.as_str() {
        "Throttling" | "ThrottlingException" | "RequestLimitExceeded" => Fault::Throttled { code },
        _ if status >= 500 => Fault::Unknown(format!("{status} {code}: {message}")),
        _ => Fault::Refused(Refusal { code, message }),
    }
}
