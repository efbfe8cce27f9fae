//! Every metric is documented, and every documented one exists.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail the test")]

use std::{collections::BTreeMap, collections::BTreeSet, time::Duration};

use prometheus_client::{encoding::text, registry::Registry};
use registrar::{
    aws::{Observed, Observer as _},
    metrics::Metrics,
};
use registrar_core::{
    Report,
    aws::{Account, Arn, Bucket, Call, Fault, Refusal, Reply},
    cluster::{Key, Kind},
    effect::{Action, Request},
    event::{Answer, Outcome},
    targets::{BindingReport, Counts},
};

const PAGE: &str = include_str!("../../manifests/METRICS.md");

/// Name -> type and labels.
type Table = BTreeMap<String, (String, BTreeSet<String>)>;

/// What the page says.
fn documented() -> Table {
    let cell = |text: &str| -> BTreeSet<String> { text.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
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

/// Makes everything happen that is counted.
fn exercise(metrics: &Metrics) {
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
    let request = Action::Kubernetes(Request::GetPod { pod: Key::new("default", "web") });
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

/// What the program shows.
fn registered() -> Table {
    let mut registry = Registry::default();
    exercise(&Metrics::register(&mut registry));
    let mut shown = String::new();
    text::encode(&mut shown, &registry).unwrap();
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

#[test]
fn page_of_metrics_is_what_the_program_shows() {
    let (documented, registered) = (documented(), registered());
    assert!(documented.len() > 15, "the page can be read");
    for (name, row) in &registered {
        assert_eq!(documented.get(name), Some(row), "{name} as the page has it");
    }
    for name in documented.keys() {
        assert!(registered.contains_key(name), "{name} is on the page only");
    }
}

#[test]
fn each_refusal_of_aws_is_counted_as_what_it_is() {
    let mut registry = Registry::default();
    exercise(&Metrics::register(&mut registry));
    let mut shown = String::new();
    text::encode(&mut shown, &registry).unwrap();
    for (name, code) in [
        ("permission", "AccessDenied"),
        ("service_limit_exceeded", "TooManyTargets"),
        ("validation", "ValidationError"),
        ("throttled", "Throttling"),
    ] {
        let line = format!(
            "aws_api_call_{name}_errors_total{{service=\"Elastic Load Balancing v2\",operation=\"DescribeTargetHealth\",status_code=\"400\",error_code=\"{code}\"}} 1"
        );
        assert!(shown.lines().any(|shown| shown == line), "{line}\n{shown}");
    }
}
