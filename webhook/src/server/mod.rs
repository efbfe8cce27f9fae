//! The HTTP edge: every question gets an answer that says whose failure it was, a metric, and a line in the log.

mod body;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::Instant,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
    routing::post,
};
use daemon::{http::Seat, readiness::Condition};
use http::{HeaderValue, StatusCode, header::CONTENT_TYPE};
use nlb::annotations::Object;
use ring::rand::{SecureRandom as _, SystemRandom};

use self::body::Memory;
use crate::{
    admission::{self, Answer, Hook},
    aside::aside,
    caches::Shared,
    metrics::Metrics,
};

/// Larger bodies are read by a thread of their own, so that the others need not wait for tens of milliseconds.
const INLINE: usize = 256 * 1024;

/// What reviews are answered with.
#[derive(Debug)]
pub struct App {
    /// What is known of the cluster.
    pub shared: Shared,
    /// What must be met before anything is answered.
    pub synced: Vec<Condition>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    memory: Memory,
    random: SystemRandom,
}

/// Why there is no answer. None of these is a denial: the failure policy decides what becomes of the object.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Body(#[from] body::Error),
    #[error("not everything that is needed is known yet: {0}")]
    Unsynced(String),
    #[error(transparent)]
    Malformed(admission::review::Malformed),
    #[error("{0}")]
    Internal(String),
}

impl Failure {
    fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Body(error) => error.status(),
            Self::Unsynced(_) => (StatusCode::SERVICE_UNAVAILABLE, "unsynced"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        }
    }
}

impl App {
    /// An application that knows nothing yet.
    pub fn new(shared: Shared, synced: Vec<Condition>, metrics: Arc<Metrics>) -> Self {
        Self { shared, synced, metrics, memory: Memory::default(), random: SystemRandom::new() }
    }

    /// All paths.
    pub fn router(self: Arc<Self>) -> Router {
        Hook::ALL
            .into_iter()
            .fold(Router::new(), |router, hook| {
                router.route(
                    hook.path(),
                    post(async move |State(app): State<Arc<App>>, request| app.serve(hook, request).await),
                )
            })
            .with_state(self)
    }

    async fn serve(self: Arc<Self>, hook: Hook, request: Request) -> Response {
        let start = Instant::now();
        let answered = self.answer(hook, request).await;
        let seconds = start.elapsed().as_secs_f64();
        match answered {
            Ok(answer) => {
                self.metrics.review(hook, answer.operation.as_str(), answer.outcome.as_str(), seconds);
                self.metrics.violations(object(hook), &answer.violations);
                self.metrics.ungated(answer.ungated);
                log(hook, &answer, seconds);
                response(StatusCode::OK, "application/json", answer.body)
            }
            Err(failure) => {
                let (status, outcome) = failure.status();
                self.metrics.review(hook, "UNKNOWN", outcome, seconds);
                let status_code = status.as_u16();
                tracing::warn!(path = hook.path(), status = status_code, outcome, error = %failure, seconds, "no answer");
                response(status, "text/plain; charset=utf-8", format!("{failure}\n"))
            }
        }
    }

    async fn answer(self: &Arc<Self>, hook: Hook, mut request: Request) -> Result<Answer, Failure> {
        let seat = request.extensions_mut().remove::<Arc<Seat>>();
        let received = self.memory.receive(request.into_body(), seat.as_deref()).await?;
        if let Some(missing) = self.synced.iter().find(|condition| !condition.is_met()) {
            return Err(Failure::Unsynced(missing.name().to_owned()));
        }
        let entropy = self.entropy()?;
        if received.as_ref().len() <= INLINE {
            return self.decide(hook, received.as_ref(), entropy);
        }
        let (app, bytes) = (Arc::clone(self), received.bytes());
        aside(move || app.decide(hook, &bytes, entropy))
            .await
            .unwrap_or_else(|error| Err(Failure::Internal(error.to_string())))
    }

    /// A bug answers one review with 500, and is not the end of the others.
    fn decide(&self, hook: Hook, body: &[u8], entropy: u64) -> Result<Answer, Failure> {
        let decided = catch_unwind(AssertUnwindSafe(|| {
            let snapshot = self.shared.read().unwrap_or_else(PoisonError::into_inner);
            admission::answer(hook, body, &snapshot, entropy)
        }));
        match decided {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(admission::Error::Malformed(malformed))) => Err(Failure::Malformed(malformed)),
            Ok(Err(error)) => Err(Failure::Internal(error.to_string())),
            Err(_) => Err(Failure::Internal("a bug, reported on standard error".to_owned())),
        }
    }

    fn entropy(&self) -> Result<u64, Failure> {
        let mut bytes = [0; 8];
        self.random.fill(&mut bytes).map_err(|_| Failure::Internal("the system has no random bytes".to_owned()))?;
        Ok(u64::from_be_bytes(bytes))
    }
}

fn object(hook: Hook) -> Object {
    match hook {
        Hook::PodGates | Hook::PodDrain | Hook::PodServerId => Object::Pod,
        Hook::ServiceClass | Hook::Service => Object::Service,
        Hook::Binding => Object::TargetGroupBinding,
    }
}

fn response(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(Body::from(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// One line per review, without the object.
fn log(hook: Hook, answer: &Answer, seconds: f64) {
    let rules: BTreeSet<_> = answer.violations.iter().map(|violation| violation.rule).collect();
    let rules: Vec<_> = rules.into_iter().collect();
    tracing::info!(
        path = hook.path(),
        uid = answer.uid,
        operation = answer.operation.as_str(),
        namespace = answer.namespace,
        name = answer.name,
        dry_run = answer.dry_run,
        outcome = answer.outcome.as_str(),
        rules = rules.join(","),
        warnings = answer.warnings,
        ungated = answer.ungated,
        seconds,
        "review"
    );
}
