//! What a plan says, for people and for machines. `manifests/schemas/plan.json` describes the latter.

use std::fmt::Write as _;

use nlb::{
    service::spec,
    violation::{Severity, Violation},
};
use registrar_core::balancers::{
    Binding, Desired, LoadBalancer, Plan, Problem, SecurityGroup, Step, TargetGroup, Verb,
};
use serde::Serialize;
use serde_json::Value;

use super::outline;
use crate::status::paint::{Color, Paint};

/// Of the format; it changes when a field loses or changes its meaning.
const VERSION: u32 = 1;

/// Everything that was planned.
#[derive(Debug, Serialize)]
pub struct Report {
    version: u32,
    /// Whether AWS was not asked, so that there is a model and no steps.
    offline: bool,
    /// One for each Service that is ours, or was.
    services: Vec<ServicePlan>,
}

/// The plan of one Service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePlan {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What there is to be; nothing for a Service whose load balancer goes, and for one that is refused.
    #[serde(flatten)]
    pub model: Model,
    /// What would be done, in this order.
    pub steps: Vec<Step>,
    /// Changes that wait for consent.
    pub waiting: Vec<Problem>,
    /// What stands in the way.
    pub problems: Vec<Problem>,
    /// What is wrong with the Service. Nothing is built while one of them denies it.
    pub violations: Vec<Violation>,
    /// What else is to be known about this plan.
    pub notes: Vec<String>,
}

/// What there is to be, with the field names of AWS.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Model {
    load_balancer: Option<LoadBalancer>,
    listeners: Vec<spec::Listener>,
    target_groups: Vec<TargetGroup>,
    security_groups: Vec<SecurityGroup>,
    bindings: Vec<Binding>,
}

impl From<Desired> for Model {
    fn from(desired: Desired) -> Self {
        Self {
            load_balancer: Some(desired.load_balancer),
            listeners: desired.listeners,
            target_groups: desired.target_groups,
            security_groups: desired.security_groups,
            bindings: desired.bindings,
        }
    }
}

impl ServicePlan {
    /// Of a Service that nothing is known of yet.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            model: Model::default(),
            steps: Vec::new(),
            waiting: Vec::new(),
            problems: Vec::new(),
            violations: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Takes in what was planned.
    pub fn planned(&mut self, plan: Plan) {
        self.steps = plan.steps;
        self.waiting = plan.waiting;
        for problem in plan.problems {
            self.hindered(problem);
        }
    }

    /// Takes in something that stands in the way, once.
    pub fn hindered(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn is_denied(&self) -> bool {
        self.violations.iter().any(|violation| violation.severity == Severity::Deny)
    }

    fn is_quiet(&self) -> bool {
        self.steps.is_empty() && self.waiting.is_empty() && self.problems.is_empty() && !self.is_denied()
    }
}

impl Report {
    /// Of these Services, in the order of their names.
    pub fn new(mut services: Vec<ServicePlan>, offline: bool) -> Self {
        services.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
        Self { version: VERSION, offline, services }
    }

    /// Whether there is something to report: a change, or something that keeps one from being made.
    pub fn has_changes(&self) -> bool {
        !self.services.iter().all(ServicePlan::is_quiet)
    }

    /// Whether every Service could be read.
    pub fn is_complete(&self) -> bool {
        let problems = self.services.iter().flat_map(|service| &service.problems);
        problems.into_iter().all(|problem| problem.reason != super::observe::UNREADABLE)
    }

    /// One object.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// For a person.
    pub fn text(&self, paint: Paint) -> String {
        let mut out = String::new();
        for service in &self.services {
            service.text(&mut out, paint, self.offline);
        }
        let _ = writeln!(out, "{}", self.summary());
        out
    }

    fn summary(&self) -> String {
        let all = self.services.len();
        let services = if all == 1 { "1 Service".to_owned() } else { format!("{all} Services") };
        let denied = self.services.iter().filter(|service| service.is_denied()).count();
        let mut parts = Vec::new();
        let steps = || self.services.iter().flat_map(|service| &service.steps);
        for (verb, word) in [
            (Verb::Create, "to create"),
            (Verb::Change, "to change"),
            (Verb::Replace, "to replace"),
            (Verb::Delete, "to delete"),
        ] {
            let count = steps().filter(|step| step.verb == verb).count();
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        let waiting: usize = self.services.iter().map(|service| service.waiting.len()).sum();
        let problems: usize = self.services.iter().map(|service| service.problems.len()).sum();
        for (count, word) in [(waiting, "waiting for consent"), (problems, "in the way"), (denied, "refused")] {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        match (parts.is_empty(), self.offline) {
            (true, true) => format!("{services}; AWS was not asked."),
            (true, false) => format!("{services}: nothing to change."),
            (false, _) => format!("{services}: {}. Nothing was changed.", parts.join(", ")),
        }
    }
}

impl ServicePlan {
    fn text(&self, out: &mut String, paint: Paint, offline: bool) {
        let verdict = if self.is_quiet() && !offline { ": nothing to change" } else { "" };
        let title = format!("Service {}/{}", self.namespace, self.name);
        let _ = writeln!(out, "{}{verdict}", paint.bold(&title));
        for violation in &self.violations {
            let (word, color) = match violation.severity {
                Severity::Deny => ("error", Color::Red),
                Severity::Warn => ("warning", Color::Yellow),
            };
            let _ = writeln!(out, "  {}: {violation}", paint.color(color, word));
        }
        for note in &self.notes {
            let _ = writeln!(out, "  note: {note}");
        }
        if offline {
            self.model.text(out);
        }
        for step in &self.steps {
            step_text(out, step, paint);
        }
        for (word, color, all) in [("waiting", Color::Yellow, &self.waiting), ("problem", Color::Red, &self.problems)] {
            for problem in all {
                indented(out, &format!("{}: {problem}", paint.color(color, word)));
            }
        }
        let _ = writeln!(out);
    }
}

impl Model {
    fn text(&self, out: &mut String) {
        let value = serde_json::to_value(self).unwrap_or_default();
        let Value::Object(fields) = value else { return };
        for (title, key) in [
            ("load balancer", "loadBalancer"),
            ("listener", "listeners"),
            ("target group", "targetGroups"),
            ("security group", "securityGroups"),
            ("binding", "bindings"),
        ] {
            let items = match fields.get(key) {
                Some(Value::Array(items)) => items.clone(),
                Some(Value::Null) | None => Vec::new(),
                Some(one) => vec![one.clone()],
            };
            for item in items {
                let name = ["LoadBalancerName", "Name", "GroupName", "name", "Port"]
                    .into_iter()
                    .find_map(|field| item.get(field))
                    .map(|name| name.as_str().map_or_else(|| name.to_string(), ToOwned::to_owned));
                let _ = writeln!(out, "  {title} {}", name.unwrap_or_default());
                outline::write(out, &item, 4);
            }
        }
    }
}

fn step_text(out: &mut String, step: &Step, paint: Paint) {
    let (sign, color) = match step.verb {
        Verb::Create => ("+", Color::Green),
        Verb::Change => ("~", Color::Yellow),
        Verb::Replace => ("±", Color::Yellow),
        Verb::Delete => ("-", Color::Red),
        Verb::Wait => (" ", Color::Dim),
    };
    // The step says it in words, fields under it.
    indented(out, &format!("{} {step}", paint.color(color, sign)));
}

/// A text of several lines, two spaces in; lines after the first stand under it.
fn indented(out: &mut String, text: &str) {
    for (n, line) in text.lines().enumerate() {
        let _ = writeln!(out, "{}{line}", if n == 0 { "  " } else { "    " });
    }
}
