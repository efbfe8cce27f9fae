//! Alerts and dashboard: every metric in them is registered by a program.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files has failed")]

use std::collections::BTreeSet;

use manifests::text;
use serde_json::Value;

/// What a metric's name may end with, by what kind of metric it is.
const ENDINGS: [&str; 5] = ["", "_total", "_bucket", "_sum", "_count"];

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

/// The metrics that a program registers, without what their kind appends.
fn registered(program: &str, prefix: &str) -> BTreeSet<String> {
    let source = text(&format!("{program}/src/metrics.rs")).unwrap();
    assert!(source.contains(&format!("sub_registry_with_prefix(\"{prefix}\")")), "{program}: other prefix");
    let calls = source.split("registry.register(").skip(1);
    let names = calls.filter_map(|call| call.trim_start().strip_prefix('"')?.split('"').next());
    // Those that go by the peer's names have no prefix.
    let peers = |name: &str| name.starts_with("aws_") || name.starts_with("awslbc_");
    names.map(|name| if peers(name) { name.to_owned() } else { format!("{prefix}_{name}") }).collect()
}

/// The metrics that a query names, apart from Prometheus's own `up`.
fn metrics(query: &str) -> BTreeSet<&str> {
    let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| ["sluice_", "aws_", "awslbc_"].iter().any(|prefix| word.starts_with(prefix))).collect()
}

#[test]
fn every_metric_of_alerts_and_dashboard_exists() {
    let mut known = registered("webhook", "sluice_webhook");
    known.extend(registered("registrar", "sluice_registrar"));
    let queries = queries();
    assert!(queries.len() > 20, "{queries:?}");
    let mut problems = Vec::new();
    for (place, query) in queries {
        let metrics = metrics(&query);
        assert!(!metrics.is_empty() || query.contains("up{job="), "{place}: no metric in {query}");
        for metric in metrics {
            if !ENDINGS.iter().any(|ending| metric.strip_suffix(ending).is_some_and(|name| known.contains(name))) {
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
