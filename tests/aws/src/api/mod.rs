//! The AWS API over HTTP: which service a request is for, who sent it, what it says; and the reply as its service's XML.

mod authorization;
mod form;
mod token;
mod xml;

use std::sync::Arc;

use aws_model::{Request, Service};
use http_body_util::Full;
use hyper::{Response, body::Bytes};
pub use token::Oidc;

use crate::{
    Engine,
    server::{Handler, Lost, Received, reply},
};

/// Answers AWS requests from the model.
pub(crate) struct Api {
    pub(crate) engine: Arc<Engine>,
    pub(crate) oidc: Option<Oidc>,
}

impl Handler for Api {
    async fn answer(&self, received: Received) -> Result<Response<Full<Bytes>>, Lost> {
        let scope = authorization::scope(&received.headers);
        if let Some(refusal) = foreign(&received, scope.as_ref()) {
            return Ok(refusal);
        }
        let request = self.read(&received, scope);
        let answer = self.engine.with(|model, now| model.handle(&request, now));
        if !answer.delivery.after.is_zero() {
            tokio::time::sleep(self.engine.real(answer.delivery.after)).await;
        }
        if answer.delivery.lost {
            return Err(Lost);
        }
        let body = xml::render(request.service, &answer);
        let headers = [("content-type", "text/xml"), ("x-amzn-requestid", answer.request_id.as_str())];
        Ok(reply(answer.status, &headers, body))
    }
}

impl Api {
    fn read(&self, received: &Received, scope: Option<authorization::Scope>) -> Request {
        let mut form = form::read(received.uri.query().unwrap_or_default().as_bytes(), &received.body);
        let action = form.take("Action");
        let service = scope
            .as_ref()
            .and_then(|scope| Service::ALL.into_iter().find(|s| s.signing_name() == scope.service))
            .unwrap_or_else(|| guess(action.as_deref(), form.get("Version")));
        let token = form.get("WebIdentityToken").map(|token| match &self.oidc {
            Some(oidc) => oidc.verify(token),
            None => {
                Err("No OpenIDConnect provider found: start the emulator with --oidc-jwks and --oidc-issuer".to_owned())
            }
        });
        let caller = scope.map(|scope| scope.caller);
        Request { service, action, fields: form.fields, defect: form.defect, caller, token }
    }
}

/// The service of an unsigned request.
fn guess(action: Option<&str>, version: Option<&str>) -> Service {
    if action == Some("AssumeRoleWithWebIdentity") {
        return Service::Sts;
    }
    Service::ALL.into_iter().find(|s| Some(s.version()) == version).unwrap_or(Service::Elb)
}

/// The answer for services that are not emulated. Clients must not take it for a failure that may pass.
fn foreign(received: &Received, scope: Option<&authorization::Scope>) -> Option<Response<Full<Bytes>>> {
    let service = &scope?.service;
    if Service::ALL.into_iter().any(|known| known.signing_name() == service) {
        return None;
    }
    let message = format!("The service {service} is not emulated; elasticloadbalancing, ec2 and sts are");
    if received.headers.contains_key("x-amz-target") {
        let body = serde_json::json!({ "__type": "UnknownOperationException", "message": message }).to_string();
        return Some(reply(400, &[("content-type", "application/x-amz-json-1.1")], body));
    }
    Some(reply(400, &[("content-type", "text/xml")], xml::unknown_service(&message)))
}
