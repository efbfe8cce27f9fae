//! The control API: what a test changes and asks, as JSON over HTTP. `tests/aws/README.md` describes it.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use aws_model::{
    Entry, Resolution,
    faults::Order,
    operations,
    settings::{Profile, TABLE},
};
use http::Method;
use http_body_util::Full;
use hyper::{Response, body::Bytes};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    Engine, journal,
    server::{Handler, Lost, Received, reply},
};

/// Entries in one answer.
const MOST_ENTRIES: usize = 10_000;
/// The longest that a query waits for entries.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// Answers control requests.
pub(crate) struct Control {
    pub(crate) engine: Arc<Engine>,
}

/// What is wrong with a control request: status and message.
struct Refusal(u16, String);

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(400, error.to_string())
    }
}

type Answer = Result<Value, Refusal>;

impl Handler for Control {
    async fn answer(&self, request: Received) -> Result<Response<Full<Bytes>>, Lost> {
        let path: Vec<&str> = request.uri.path().split('/').filter(|part| !part.is_empty()).collect();
        let query: BTreeMap<String, String> =
            form_urlencoded::parse(request.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        if (&request.method, path.as_slice()) == (&Method::GET, &["v1", "log"]) {
            return Ok(match self.log(&query).await {
                Ok(body) => reply(200, &[JSON], body),
                Err(refusal) => refused(&refusal),
            });
        }
        Ok(match self.route(&request.method, &path, &request.body) {
            Ok(value) => reply(200, &[JSON], value.to_string()),
            Err(refusal) => refused(&refusal),
        })
    }
}

const JSON: (&str, &str) = ("content-type", "application/json");

fn refused(Refusal(status, message): &Refusal) -> Response<Full<Bytes>> {
    reply(*status, &[JSON], json!({ "error": message }).to_string())
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|e| Refusal(400, format!("the body is not as it should be: {e}")))
}

/// The one boolean of a body such as `{"unreachable": true}`.
fn flag(body: &[u8], name: &str) -> Result<bool, Refusal> {
    let fields: BTreeMap<String, bool> = read(body)?;
    match fields.get(name) {
        Some(value) if fields.len() == 1 => Ok(*value),
        _ => Err(Refusal(400, format!("the body must be {{\"{name}\": true}} or false"))),
    }
}

impl Control {
    fn route(&self, method: &Method, path: &[&str], body: &[u8]) -> Answer {
        match (method.as_str(), path) {
            ("GET", ["healthz"]) => Ok(json!("ok")),
            ("GET", ["v1", "time"]) => Ok(json!({ "now": self.engine.now().as_secs_f64() })),
            ("GET", ["v1", "counts"]) => Ok(serde_json::to_value(self.engine.with(|model, _| model.counts()))?),
            ("GET", ["v1", "operations"]) => Ok(serde_json::to_value(operations::catalogue())?),
            ("GET", ["v1", "settings"]) => Ok(self.settings()),
            ("PUT", ["v1", "settings"]) => self.set(read(body)?),
            ("PUT", ["v1", "profile", name]) => self.set_profile(name.parse()?),
            ("POST", ["v1", "faults"]) => {
                let order: Order = read(body)?;
                self.engine.with(|model, now| model.order(order, now))?;
                Ok(json!({}))
            }
            ("PUT", ["v1", "addresses", address]) => {
                let address: IpAddr = address.parse()?;
                let unreachable = flag(body, "unreachable")?;
                self.engine.with(|model, now| model.set_unreachable(address, unreachable, now));
                Ok(json!({}))
            }
            ("PUT", ["v1", "zones", zone]) => {
                let impaired = flag(body, "impaired")?;
                self.engine.with(|model, now| model.set_impaired(zone, impaired, now))?;
                Ok(json!({}))
            }
            ("PUT", ["v1", "instances", id]) => {
                let stopped = flag(body, "stopped")?;
                self.engine.with(|model, now| model.set_stopped(id, stopped, now))?;
                Ok(json!({}))
            }
            ("GET", ["v1", "names", name]) => Ok(self.resolve(name)),
            _ => Err(Refusal(404, format!("there is no {method} /{}", path.join("/")))),
        }
    }

    fn settings(&self) -> Value {
        let entries = self.engine.with(|model, _| model.settings().entries());
        let row = |((key, value), row): ((&str, String), &aws_model::settings::Row)| json!({ "key": key, "value": value, "help": row.help });
        entries.into_iter().zip(TABLE).map(row).collect()
    }

    /// All or none: the first value that does not fit leaves everything as it was.
    fn set(&self, changes: BTreeMap<String, Value>) -> Answer {
        let text = |value: Value| if let Value::String(text) = value { text } else { value.to_string() };
        let changes: Vec<(String, String)> = changes.into_iter().map(|(key, value)| (key, text(value))).collect();
        self.engine.with(|model, now| {
            let mut trial = model.settings().clone();
            changes.iter().try_for_each(|(key, value)| trial.set(key, value))?;
            changes.iter().try_for_each(|(key, value)| model.set(key, value, now))
        })?;
        Ok(self.settings())
    }

    fn set_profile(&self, profile: Profile) -> Answer {
        let entries = aws_model::Settings::profile(profile).entries();
        self.engine.with(|model, now| entries.iter().try_for_each(|(key, value)| model.set(key, value, now)))?;
        Ok(self.settings())
    }

    fn resolve(&self, name: &str) -> Value {
        match self.engine.with(|model, _| model.resolve(name)) {
            Resolution::Addresses { addresses, ttl } => json!({ "addresses": addresses, "ttl": ttl.as_secs() }),
            Resolution::NoSuchName | Resolution::NotOurs => json!({ "addresses": [] }),
        }
    }

    /// Entries of the log as `{"last": <sequence>, "entries": [...]}`.
    async fn log(&self, query: &BTreeMap<String, String>) -> Result<String, Refusal> {
        let get = |name: &str| query.get(name).map(String::as_str);
        if let Some(unknown) =
            query.keys().find(|name| !["after", "kind", "who", "contains", "limit", "wait"].contains(&name.as_str()))
        {
            return Err(Refusal(
                400,
                format!("log has no parameter `{unknown}`; use after, kind, who, contains, limit, wait"),
            ));
        }
        let after: u64 = get("after").map_or(Ok(0), str::parse)?;
        let limit: usize = get("limit").map_or(Ok(MOST_ENTRIES), str::parse)?;
        let wait: f64 = get("wait").map_or(Ok(0.0), str::parse)?;
        let wait = Duration::try_from_secs_f64(wait)?.min(LONGEST_WAIT);
        let limit = limit.min(MOST_ENTRIES);
        let deadline = tokio::time::Instant::now() + wait;
        let mut news = self.engine.journal().watch();
        let (mut lines, mut seen) = (Vec::new(), after);
        loop {
            news.mark_unchanged();
            let batch = self.engine.journal().batch(seen);
            let exhausted = batch.is_empty();
            for entry in batch {
                if lines.len() == limit {
                    break;
                }
                seen = entry.sequence;
                if matches(&entry, get("kind"), get("who"), get("contains")) {
                    lines.push(journal::line(&entry));
                }
            }
            let over = tokio::time::Instant::now() >= deadline;
            if lines.len() == limit || exhausted && (over || !lines.is_empty()) {
                return Ok(format!("{{\"last\":{seen},\"entries\":[{}]}}", lines.join(",")));
            }
            if exhausted {
                let _ = tokio::time::timeout_at(deadline, news.changed()).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Whether an entry has the kind, has the actor, and contains the text somewhere in its JSON.
fn matches(entry: &Entry, kind: Option<&str>, who: Option<&str>, contains: Option<&str>) -> bool {
    if kind.is_none() && who.is_none() && contains.is_none() {
        return true;
    }
    let Ok(value) = serde_json::to_value(entry) else { return false };
    let is = |field: &str, wanted: Option<&str>| wanted.is_none_or(|w| value.get(field).is_some_and(|v| v == w));
    is("kind", kind) && is("who", who) && contains.is_none_or(|text| value.to_string().contains(text))
}
