//! Every metric is documented, every documented one exists, and alerts and the dashboard name no others.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use manifests::text;
use nlb::{
    annotations::Object,
    violation::{Severity, Violation},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use registrar::aws::{Observed, Observer as _};
use registrar_core::{
    Report,
    aws::{Account, Arn, Bucket, Call, Fault, Refusal, Reply},
    cluster::{Key, Kind},
    effect::{Action, Request},
    event::{Answer, Outcome},
    targets::{BindingReport, Counts},
};
use serde_json::Value;
use webhook::admission::Hook;

/// What a histogram and a counter append to their name.
const ENDINGS: [&str; 4] = ["", "_bucket", "_sum", "_count"];

/// Name -> type and labels.
type Table = BTreeMap<String, (String, BTreeSet<String>)>;

/// What the page says.
fn documented() -> Table {
    let page = text("manifests/METRICS.md").unwrap();
    let cell = |text: &str| -> BTreeSet<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(name, rest)| {
        let mut cells = rest.split(" | ");
        let kind = cells.next().unwrap().to_owned();
        // An empty cell leaves two bars next to each other.
        let labels =
            if rest.starts_with(&format!("{kind} | |")) { BTreeSet::new() } else { cell(cells.next().unwrap()) };
        (name.to_owned(), (kind, labels))
    })
    .collect()
}

/// Makes everything happen that the registrar counts.
fn exercise_registrar(metrics: &registrar::metrics::Metrics) {
    let group = Arn::new("arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/a/1");
    let action = Action::Aws { account: Account::Own, call: Call::DescribeTargetHealth { group } };
    let refused = |code: &str| Fault::Refused(Refusal { code: code.to_owned(), message: String::new() });
    let faults = [
        refused("AccessDenied"),
        refused("TooManyTargets"),
        refused("ValidationError"),
        Fault::Throttled { code: "Throttling".to_owned() },
    ];
    let took = Duration::from_millis(1);
    metrics.ended(&action, &Outcome::Aws(Ok(Reply::Done)), took);
    for fault in faults {
        metrics.ended(&action, &Outcome::Aws(Err(fault)), took);
    }
    let request = Action::Kubernetes(Request::GetBinding { binding: Key::new("default", "web") });
    metrics.ended(&request, &Outcome::Kubernetes(Ok(Answer::Done)), took);
    let (service, operation) = ("EC2", "DescribeVpcs");
    let observed = Observed { service, operation, status: Some(200), error_code: None, fault: None, duration: took };
    metrics.observed(&observed);
    metrics.gate_opened("default", "web", 1.0);
    metrics.leads(true);
    metrics.lease_attempt(true);
    metrics.unreadable(Kind::Binding);
    metrics.watch_failed(Kind::Pod);
    metrics.stepped(took);
    metrics.effects(1, 1);
    let binding = BindingReport {
        binding: Key::new("default", "web"),
        group: None,
        counts: Counts::default(),
        pending_gates: 1,
        ungated: vec![("NamespaceNotLabelled", 1)],
        left_out: vec![("NoPod", 1)],
    };
    metrics.report(Report {
        leading: true,
        bindings: vec![binding],
        queued: vec![(Some((Account::Own, Bucket::Describe)), 1)],
        budgets: vec![(Account::Own, Bucket::Describe, 1, 40)],
        ..Report::default()
    });
}

/// Makes everything happen that the webhook counts.
fn exercise_webhook(metrics: &webhook::metrics::Metrics) {
    metrics.review(Hook::Service, "CREATE", "allowed", 0.001);
    metrics.ungated(1);
    let violation = Violation {
        rule: "unknown-key",
        key: "spec.type".to_owned(),
        value: String::new(),
        problem: String::new(),
        suggestion: String::new(),
        severity: Severity::Warn,
    };
    metrics.violations(Object::Service, &[violation]);
    metrics.cached("services", 1);
}

/// What a registry shows.
fn shown(registry: &Registry) -> Table {
    let mut shown = String::new();
    encode(&mut shown, registry).unwrap();
    let mut table = Table::new();
    for line in shown.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let name = if kind == "counter" { format!("{name}_total") } else { name.to_owned() };
        let sample = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        let sample = shown.lines().find_map(|line| line.strip_prefix(&sample));
        let labels = sample.unwrap_or_else(|| panic!("{name} is never counted")).split_once('}');
        let labels = labels.map_or("", |(labels, _)| labels.trim_start_matches('{'));
        let labels = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned())).collect();
        table.insert(name, (kind.to_owned(), labels));
    }
    table
}

/// What both programs show.
fn registered() -> Table {
    let (mut registrar, mut webhook) = (Registry::default(), Registry::default());
    exercise_registrar(&registrar::metrics::Metrics::register(&mut registrar));
    exercise_webhook(&webhook::metrics::Metrics::register(&mut webhook));
    [registrar, webhook, daemon::process::registry()].iter().flat_map(shown).collect()
}

#[test]
fn page_of_metrics_is_what_the_programs_show() {
    let (documented, registered) = (documented(), registered());
    assert!(documented.len() > 30, "the page can be read");
    for (name, row) in &registered {
        assert_eq!(documented.get(name), Some(row), "{name} as the page has it");
    }
    for name in documented.keys() {
        assert!(registered.contains_key(name), "{name} is on the page only");
    }
}

/// The queries of a file with where each stands.
fn queries() -> Vec<(String, String)> {
    let rules: Value = serde_saphyr::from_str(&text("manifests/monitoring/alerts.yaml").unwrap()).unwrap();
    let groups = rules["groups"].as_array().unwrap().iter();
    let alerts = groups
        .flat_map(|group| group["rules"].as_array().unwrap())
        .map(|rule| (rule["alert"].as_str().unwrap().to_owned(), rule["expr"].as_str().unwrap().to_owned()));
    let dashboard: Value = serde_json::from_str(&text("manifests/monitoring/dashboard.json").unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().clone();
    let shown = panels.iter().flat_map(|panel| {
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        let title = panel["title"].as_str().unwrap().to_owned();
        targets.into_iter().map(move |target| {
            // Grafana puts a duration there.
            (title.clone(), target["expr"].as_str().unwrap().replace("$__rate_interval", "5m"))
        })
    });
    alerts.chain(shown).collect()
}

/// The metrics that a query names, apart from Prometheus's own `up`.
fn metrics(query: &str) -> BTreeSet<&str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words
        .filter(|word| ["sluice_", "aws_", "awslbc_", "process_"].iter().any(|prefix| word.starts_with(prefix)))
        .collect()
}

#[test]
fn every_metric_of_alerts_and_dashboard_exists() {
    let (known, queries) = (registered(), queries());
    assert!(queries.len() > 20, "{queries:?}");
    let mut problems = Vec::new();
    for (place, query) in queries {
        let metrics = metrics(&query);
        assert!(!metrics.is_empty() || query.contains("up{job="), "{place}: no metric in {query}");
        for metric in metrics {
            if !ENDINGS.iter().any(|ending| metric.strip_suffix(ending).is_some_and(|name| known.contains_key(name))) {
                problems.push(format!("{place}: {metric} is registered by nobody"));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn alerts_say_what_happened_and_what_it_means() {
    let rules: Value = serde_saphyr::from_str(&text("manifests/monitoring/alerts.yaml").unwrap()).unwrap();
    let mut names = BTreeSet::new();
    for rule in rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name), "{name} is there twice");
        assert!(matches!(rule["labels"]["severity"].as_str(), Some("warning" | "critical")), "{name}");
        for annotation in ["summary", "description"] {
            assert!(
                rule["annotations"][annotation].as_str().is_some_and(|text| text.len() > 20),
                "{name}: {annotation}"
            );
        }
    }
}
