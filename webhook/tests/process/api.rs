//! A stand-in for an API server, as far as the webhook asks one: two kinds are listed and watched.
//!
//! What it promises: a list has all objects, one resource version, and no second page. A watch begins at the version it is
//! asked for and shows changes that are made afterwards: none, because nothing changes here, so it stays silent until the
//! client goes. A kind that it does not know is 404. Everything is plain HTTP without authentication.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use daemon::http::{Limits, Plain, Shutdown, serve};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full, combinators::UnsyncBoxBody};
use hyper::{
    body::{Body, Bytes, Frame},
    service::service_fn,
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// A running one; it ends with this value.
pub struct Api {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Asked,
    _task: JoinSet<()>,
}

/// Method, path and query of what was asked.
type Asked = Arc<Mutex<BTreeSet<String>>>;

/// A body that never ends.
struct Silence;

impl Body for Silence {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Pending
    }
}

fn answer(
    request: &Request<impl Body>,
    services: &[Value],
    bindings: Option<&[Value]>,
) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
    let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    let (kind, api_version, items) = match (request.uri().path(), bindings) {
        ("/api/v1/services", _) => ("ServiceList", "v1", services),
        ("/apis/elbv2.k8s.aws/v1beta1/targetgroupbindings", Some(bindings)) => {
            ("TargetGroupBindingList", "elbv2.k8s.aws/v1beta1", bindings)
        }
        _ => {
            let mut response = Response::new(Empty::new().boxed_unsync());
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    if watches {
        return Response::new(Silence.boxed_unsync());
    }
    let list = json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": "1"}, "items": items});
    Response::new(Full::from(list.to_string()).boxed_unsync())
}

impl Api {
    /// One with these objects; without bindings it does not know their kind.
    pub async fn start(services: Vec<Value>, bindings: Option<Vec<Value>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of the loopback device");
        let address = listener.local_addr().expect("it has an address");
        let objects = Arc::new((services, bindings));
        let asked = Asked::default();
        let heard = Arc::clone(&asked);
        let service = service_fn(move |request: Request<_>| {
            let question = format!("{} {}", request.method(), request.uri());
            heard.lock().unwrap_or_else(PoisonError::into_inner).insert(question);
            let response = answer(&request, &objects.0, objects.1.as_deref());
            async move { Ok::<_, Infallible>(response) }
        });
        let mut task = JoinSet::new();
        task.spawn(async move {
            let shutdown = Shutdown { stop: CancellationToken::new(), linger: Duration::ZERO };
            let Ok(()) = serve(listener, Plain, service, Limits::default(), shutdown).await;
        });
        Self { address, asked, _task: task }
    }

    /// What it was asked so far, as permissions say it: verb and kind.
    pub fn used(&self) -> BTreeSet<String> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let verb = |question: &str| match question.split_once(' ') {
            Some(("GET", uri)) => {
                let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
                let verb = if query.contains("watch=true") { "watch" } else { "list" };
                format!("{verb} {}", path.rsplit('/').next().unwrap_or_default())
            }
            _ => question.to_owned(),
        };
        asked.iter().map(|question| verb(question)).collect()
    }

    /// What a kubeconfig for it says.
    pub fn kubeconfig(&self) -> String {
        let address = self.address;
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
        })
        .to_string()
    }
}
