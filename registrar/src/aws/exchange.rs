//! One request and its answer: its deadline, whether it was sent, what it counts as, and who is told.

use std::{
    error::Error,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeTransmitInterceptorContextRef, dyn_dispatch_hint},
        orchestrator::HttpResponse,
        result::SdkError,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{config_bag::ConfigBag, error::metadata::ProvideErrorMetadata};
use registrar_core::aws::Fault;
use tokio::time::timeout_at;

use super::{fault, standing::Standing};

/// What became of one request, for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed<'a> {
    /// `EC2`, `Elastic Load Balancing v2` or `STS`: names of the services, as the peer labels them.
    pub service: &'static str,
    /// `DescribeTargetHealth`, ...
    pub operation: &'static str,
    /// HTTP status; nothing if there was no answer.
    pub status: Option<u16>,
    /// Code of an error reply.
    pub error_code: Option<&'a str>,
    /// What it counts as; nothing for a success.
    pub fault: Option<&'a Fault>,
    /// From the request to the answer or the end of waiting for it.
    pub duration: Duration,
}

/// Who is told of every request: one for each page, and for each repetition.
pub trait Observer: fmt::Debug + Send + Sync {
    /// A request has ended.
    fn observed(&self, request: &Observed<'_>);
}

/// Tells nobody.
impl Observer for () {
    fn observed(&self, _: &Observed<'_>) {}
}

/// Learns whether a request has left us. Set just before a connection is asked for: an error of connecting is told apart by
/// [`fault::of`].
#[derive(Debug, Clone, Default)]
pub(super) struct Sent(Arc<AtomicBool>);

#[dyn_dispatch_hint]
impl Intercept for Sent {
    fn name(&self) -> &'static str {
        "Sent"
    }

    fn read_before_transmit(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// What the requests of one call have in common.
#[derive(Debug)]
pub(super) struct Exchange<'a> {
    pub(super) service: &'static str,
    pub(super) operation: &'static str,
    pub(super) deadline: Instant,
    /// Limit of each request.
    pub(super) patience: Duration,
    pub(super) observer: &'a dyn Observer,
    /// Who learns how we stand with AWS; nobody for accounts of others.
    pub(super) standing: Option<&'a Standing>,
}

impl Exchange<'_> {
    /// Makes a request, if there is time for it.
    pub(super) async fn request<T, E, F>(&self, ask: impl FnOnce(Sent) -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let begun = Instant::now();
        if begun >= self.deadline {
            return Err(Fault::NotSent(format!("no time was left for {}", self.operation)));
        }
        let sent = Sent::default();
        let until = self.deadline.min(begun + self.patience);
        let answer = timeout_at(until.into(), ask(sent.clone())).await;
        let duration = begun.elapsed();
        let sent = sent.0.load(Ordering::Relaxed);
        let (result, status, code) = match answer {
            Ok(Ok(output)) => (Ok(output), Some(200), None),
            Ok(Err(error)) => {
                let status = error.raw_response().map(|response| response.status().as_u16());
                let fault = match fault::problem(&error, sent) {
                    Some(problem) => {
                        let fault = Fault::NotSent(format!("{}: {problem}", self.operation));
                        self.standing.inspect(|standing| standing.broken(problem));
                        fault
                    }
                    None => fault::of(self.operation, &error, sent),
                };
                (Err(fault), status, error.code().map(ToOwned::to_owned))
            }
            Err(_) if sent => {
                (Err(Fault::Unknown(format!("{}: no reply in {duration:.1?}", self.operation))), None, None)
            }
            Err(_) => {
                let why = format!("{}: no credentials in {duration:.1?}", self.operation);
                (Err(Fault::NotSent(why)), None, None)
            }
        };
        if let Some(standing) = self.standing {
            result.as_ref().map_or_else(|fault| standing.learn(fault), |_| standing.accepted());
        }
        let fault = result.as_ref().err();
        let (service, operation) = (self.service, self.operation);
        let error_code = code.as_deref();
        self.observer.observed(&Observed { service, operation, status, error_code, fault, duration });
        result
    }

    /// Follows the pages of a list: `page` takes where one begins, and gives what is on it and where the next one begins.
    pub(super) async fn pages<T, F>(&self, page: impl Fn(Option<String>) -> F) -> Result<Vec<T>, Fault>
    where
        F: Future<Output = Result<(Vec<T>, Option<String>), Fault>>,
    {
        let (mut all, mut from) = (Vec::new(), None);
        loop {
            let (some, next) = page(from.clone()).await?;
            all.extend(some);
            match next.filter(|next| !next.is_empty()) {
                None => return Ok(all),
                next if next == from => {
                    return Err(Fault::Unknown(format!("{}: a page that names itself as the next", self.operation)));
                }
                next => from = next,
            }
        }
    }
}
