//! Operations: what each accepts and answers stands in one `Operation` beside its code; here they are found and run.

use std::time::Duration;

use serde::Serialize;

use crate::{
    Body, Delivery, Event, Model, Reply, Request, Service, Value, ec2, elb,
    fault::{self, Code, Fault, Result},
    faults::Effect,
    limits::Bucket,
    schema::{self, Field, Input, Kind},
    sts,
};

/// One API operation. To add one, write it beside its like and name it in its service's table.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    /// Which rate limit it draws on.
    pub(crate) bucket: Bucket,
    /// Its input.
    pub(crate) accepts: &'static [Field],
    /// Its errors, besides those that every operation has.
    pub(crate) refuses: &'static [Code],
    /// Its effect and its result.
    pub(crate) run: fn(&mut Model, &Input) -> Result<Value>,
}

/// The operations of a service.
pub(crate) const fn table(service: Service) -> &'static [&'static Operation] {
    match service {
        Service::Elb => elb::OPERATIONS,
        Service::Ec2 => ec2::OPERATIONS,
        Service::Sts => sts::OPERATIONS,
    }
}

/// An operation as documentation and conformance checks see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Described {
    /// Service.
    pub service: Service,
    /// Name.
    pub name: &'static str,
    /// Input fields.
    pub fields: Vec<DescribedField>,
    /// Error codes besides those that every operation has.
    pub errors: Vec<&'static str>,
}

/// A field of a [`Described`] operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DescribedField {
    /// Name.
    pub name: &'static str,
    /// Whether a call without it is refused.
    pub required: bool,
    /// `text`, `integer`, `boolean`, `enum`, `list` or `record`.
    pub kind: &'static str,
    /// Least length or value, of texts and integers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// Greatest length or value, of texts and integers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
    /// Words of an enum.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub values: &'static [&'static str],
    /// Fields of a record, or of the records of a list.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<DescribedField>,
}

/// Every operation, service by service.
pub fn catalogue() -> Vec<Described> {
    let of = |service| {
        table(service).iter().map(move |op| Described {
            service,
            name: op.name,
            fields: op.accepts.iter().map(describe).collect(),
            errors: op.refuses.iter().map(|code| code.wire()).collect(),
        })
    };
    Service::ALL.into_iter().flat_map(of).collect()
}

/// The error codes that every operation of a service may answer without naming them.
pub fn common_errors(service: Service) -> Vec<&'static str> {
    Code::ALL.iter().filter(|code| fault::common(service, **code)).map(|code| code.wire()).collect()
}

fn describe(field: &Field) -> DescribedField {
    let plain = |kind| DescribedField {
        name: field.name,
        required: field.required,
        kind,
        min: None,
        max: None,
        values: &[],
        fields: Vec::new(),
    };
    let bounds = |n: usize| i64::try_from(n).ok().filter(|n| *n > 0);
    match field.kind {
        Kind::Text { min, max } => DescribedField { min: bounds(min), max: bounds(max), ..plain("text") },
        Kind::Int { min, max } => DescribedField { min: Some(min), max: Some(max), ..plain("integer") },
        Kind::Bool => plain("boolean"),
        Kind::OneOf(values) => DescribedField { values, ..plain("enum") },
        Kind::List { of: Kind::Record(fields), .. } => {
            DescribedField { fields: fields.iter().map(describe).collect(), ..plain("list") }
        }
        Kind::List { .. } => plain("list"),
        Kind::Record(fields) => DescribedField { fields: fields.iter().map(describe).collect(), ..plain("record") },
    }
}

impl Model {
    /// Answers an API call. Its effects are in the state when this returns, whatever becomes of the reply.
    pub fn handle(&mut self, request: &Request, now: Duration) -> Reply {
        self.advance(now);
        let request_id = self.random.uuid();
        let mut delivery = Delivery { after: self.latency(), lost: false };
        let who = self.identify(request);
        let operation = find(request);
        let outcome = match (&who, &operation) {
            (Err(fault), _) | (_, Err(fault)) => Err(fault.clone()),
            (Ok(caller), Ok(operation)) => self.perform(operation, request, caller.clone(), &mut delivery),
        };
        let action = operation.map_or("", |op| op.name);
        let (status, body) = match outcome {
            Ok(value) => (200, Body::Result { action, value }),
            Err(Fault { code, message }) => (code.status(), Body::Error { code: code.wire().to_owned(), message }),
        };
        let reply = Reply { request_id, status, body, delivery };
        self.log_call(request, who.map_or_else(|_| "anonymous".to_owned(), |id| id.arn), &reply);
        reply
    }

    fn perform(
        &mut self,
        operation: &'static Operation,
        request: &Request,
        caller: crate::identity::Identity,
        delivery: &mut Delivery,
    ) -> Result<Value> {
        self.take_token(operation.bucket, request.service)?;
        let effect = self.next_effect(request.service, operation.name);
        match &effect {
            Some(Effect::Refuse(fault)) => return Err(fault.clone()),
            Some(Effect::Delay(by)) => delivery.after += *by,
            Some(Effect::Lose | Effect::FailAfter(_)) | None => {}
        }
        let fields = schema::read(request.service, operation.accepts, &request.fields)?;
        let result = (operation.run)(self, &Input { fields, caller, token: request.token.clone() });
        match effect {
            Some(Effect::Lose) => delivery.lost = true,
            Some(Effect::FailAfter(fault)) => return Err(fault),
            Some(Effect::Refuse(_) | Effect::Delay(_)) | None => {}
        }
        result
    }

    fn log_call(&mut self, request: &Request, who: String, reply: &Reply) {
        let (error, message) = match &reply.body {
            Body::Result { .. } => (None, None),
            Body::Error { code, message } => (Some(code.clone()), Some(message.clone())),
        };
        let public = |(name, _): &&(String, String)| name != "WebIdentityToken" && name != "Version";
        self.note(Event::Api {
            who,
            agent: request.caller.as_ref().map(|c| c.agent.clone()).unwrap_or_default(),
            service: request.service,
            action: request.action.clone().unwrap_or_default(),
            fields: request.fields.iter().filter(public).cloned().collect(),
            status: reply.status,
            error,
            message,
            request_id: reply.request_id.clone(),
            lost: reply.delivery.lost,
        });
    }
}

fn find(request: &Request) -> Result<&'static Operation> {
    let service = request.service;
    if let Some(defect) = &request.defect {
        return Code::MalformedQueryString.refuse(defect);
    }
    let version = request.fields.iter().find(|(name, _)| name == "Version").map_or("", |(_, value)| value.as_str());
    let Some(action) = request.action.as_deref().filter(|action| !action.is_empty()) else {
        return match service {
            Service::Ec2 => Code::MissingParameter.refuse("The request must contain the parameter Action"),
            Service::Elb | Service::Sts => Code::MissingAction.refuse("The request is missing an action"),
        };
    };
    let known = table(service).iter().find(|op| op.name == action).copied();
    match (known, service) {
        (Some(operation), Service::Ec2) => Ok(operation),
        (Some(operation), _) if version == service.version() => Ok(operation),
        (None, Service::Ec2) => {
            Code::InvalidAction.refuse(format!("The action {action} is not valid for this web service."))
        }
        _ => Code::InvalidAction.refuse(format!("Could not find operation {action} for version {version}")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn operations_are_named_once_and_every_code_is_some_operations_or_common() {
        let mut names = BTreeSet::new();
        let mut used = BTreeSet::new();
        for service in Service::ALL {
            for operation in table(service) {
                assert!(names.insert((service, operation.name)), "{} stands in its table twice", operation.name);
                used.extend(operation.refuses.iter().copied());
            }
            used.extend(Code::ALL.iter().filter(|code| fault::common(service, **code)));
        }
        let unused: Vec<_> = Code::ALL.iter().filter(|code| !used.contains(code)).collect();
        assert!(unused.is_empty(), "no operation answers {unused:?}");
    }
}
