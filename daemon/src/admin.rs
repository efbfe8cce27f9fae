//! The port for those who run a process rather than use it: `/livez`, `/readyz` and `/metrics`, in plain HTTP.

use std::{convert::Infallible, sync::Arc};

use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{
    body::{Body, Bytes},
    service::service_fn,
};
use prometheus_client::{encoding::text, registry::Registry};
use tokio::net::TcpListener;

use crate::{
    http::{Limits, Plain, Shutdown, serve},
    process,
    readiness::Readiness,
};

/// Enough for a kubelet and a few scrapers.
const MEMORY: usize = 2 * 1024 * 1024;
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the port shows.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Behind `/readyz`.
    pub readiness: Readiness,
    /// Behind `/metrics`, besides those of [`process`].
    pub registry: Arc<Registry>,
}

impl Admin {
    /// Serves until shutdown is over.
    pub async fn serve(self, listener: TcpListener, shutdown: Shutdown) -> Result<(), Infallible> {
        let service = service_fn(move |request: Request<_>| {
            let response = self.answer(&request);
            async move { Ok::<_, Infallible>(response) }
        });
        let limits = Limits { memory: MEMORY, ..Limits::default() };
        serve(listener, Plain, service, limits, shutdown).await
    }

    /// The answer to one request, whatever its body.
    pub fn answer<B: Body>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match request.uri().path() {
            "/livez" => plain(StatusCode::OK, "ok\n"),
            "/readyz" => {
                let (ready, report) = self.readiness.report();
                plain(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, report)
            }
            "/metrics" => self.metrics(),
            _ => plain(StatusCode::NOT_FOUND, "there are /livez, /readyz and /metrics here\n"),
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut body = String::new();
        let encoded = text::encode_registry(&mut body, &self.registry)
            .and_then(|()| text::encode(&mut body, &process::registry()));
        match encoded {
            Ok(()) => typed(StatusCode::OK, OPENMETRICS, body),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

fn plain(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    async fn ask(admin: &Admin, method: Method, path: &str) -> (u16, String) {
        let request = Request::builder().method(method).uri(path).body(Full::<Bytes>::default()).unwrap();
        let response = admin.answer(&request);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_liveness_and_metrics_are_shown() {
        let readiness = Readiness::default();
        let mut registry = Registry::with_prefix("sluice");
        let counter = Counter::<u64>::default();
        registry.register("things", "Things that were counted", counter.clone());
        counter.inc();
        let condition = readiness.condition("cache", "no list yet");
        let admin = Admin { readiness, registry: Arc::new(registry) };

        assert_eq!(ask(&admin, Method::GET, "/livez").await, (200, "ok\n".into()));
        assert_eq!(ask(&admin, Method::GET, "/readyz").await, (503, "cache: not ready, no list yet\n".into()));
        condition.met("");
        assert_eq!(ask(&admin, Method::GET, "/readyz").await, (200, "cache: ok\n".into()));
        let (status, metrics) = ask(&admin, Method::GET, "/metrics").await;
        assert!(status == 200 && metrics.contains("sluice_things_total 1\n"), "{metrics}");
        assert!(metrics.contains("\nprocess_open_fds ") && metrics.ends_with("\n# EOF\n"), "{metrics}");
        assert_eq!(metrics.matches("# EOF").count(), 1);
        assert_eq!(ask(&admin, Method::GET, "/").await.0, 404);
        assert_eq!(ask(&admin, Method::POST, "/livez").await.0, 405);
    }
}
