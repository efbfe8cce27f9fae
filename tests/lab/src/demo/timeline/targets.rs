//! Targets over time, from the emulator's ordered log: what the API says of them, and whether they get new connections.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::Span;

/// The emulator's clock and ours.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// A time of ours, in seconds since 1970.
    pub unix: f64,
    /// The emulator's time then.
    pub model: f64,
    /// How many times faster it runs.
    pub scale: f64,
}

impl Clock {
    fn unix_of(self, model: f64) -> f64 {
        self.unix + (model - self.model) / self.scale
    }
}

/// A target over time.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetLine {
    /// As `id:port`.
    pub target: String,
    /// Its states as the AWS API tells them.
    pub states: Vec<Span>,
    /// What new connections it gets: `in-service` or `fallback`. Where there is no span it gets none.
    pub standings: Vec<Span>,
}

/// What is read of an entry; the emulator's README has the form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    at: f64,
    kind: String,
    #[serde(default)]
    who: String,
    #[serde(default)]
    target_group: String,
    #[serde(default)]
    to: String,
    #[serde(default)]
    standing: String,
}

/// The lines of all targets so far.
#[derive(Debug)]
pub struct Targets {
    clock: Clock,
    lines: Vec<TargetLine>,
    by_target: HashMap<(String, String), usize>,
}

impl Targets {
    /// No target yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, lines: Vec::new(), by_target: HashMap::new() }
    }

    /// Takes in one line of the log. One that is not of a target, or is half written, changes nothing.
    pub fn read(&mut self, line: &str) {
        // Most lines are of connections, and need not be understood.
        if !(line.contains("\"kind\":\"target\"") || line.contains("\"kind\":\"routing\"")) {
            return;
        }
        let Ok(entry) = serde_json::from_str::<Entry>(line) else { return };
        let at = self.clock.unix_of(entry.at);
        let new = self.lines.len();
        let index = *self.by_target.entry((entry.target_group, entry.who.clone())).or_insert(new);
        if index == new {
            self.lines.push(TargetLine { target: entry.who, states: Vec::new(), standings: Vec::new() });
        }
        let line = &mut self.lines[index];
        match entry.kind.as_str() {
            "target" => turn(&mut line.states, at, &entry.to),
            _ => turn(&mut line.standings, at, &entry.standing),
        }
    }

    /// All lines.
    pub fn finish(self) -> Vec<TargetLine> {
        self.lines
    }
}

/// Ends the last span and begins another, unless it is `none`.
fn turn(spans: &mut Vec<Span>, at: f64, what: &str) {
    if let Some(last) = spans.last_mut().filter(|last| last.to.is_none()) {
        if last.what == what {
            return;
        }
        last.to = Some(at);
    }
    if what != "none" {
        spans.push(Span { from: at, to: None, what: what.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_model::{Entry as Logged, Event, Standing};

    use super::*;

    fn line(at: u64, event: Event) -> String {
        serde_json::to_string(&Logged { sequence: at, at: Duration::from_secs(at), event }).expect("JSON")
    }

    fn state(at: u64, from: &str, to: &str) -> String {
        let (who, target_group) = ("192.168.1.7:8080".to_owned(), "arn".to_owned());
        line(at, Event::Target { who, target_group, from: from.to_owned(), to: to.to_owned(), reason: None })
    }

    fn routing(at: u64, standing: Standing) -> String {
        let (who, target_group) = ("192.168.1.7:8080".to_owned(), "arn".to_owned());
        line(at, Event::Routing { who, target_group, standing })
    }

    #[test]
    fn log_of_a_target_becomes_spans_on_our_clock() {
        let mut targets = Targets::new(Clock { unix: 1000.0, model: 100.0, scale: 20.0 });
        for line in [
            state(100, "none", "initial"),
            state(140, "initial", "healthy"),
            routing(140, Standing::InService),
            "{\"sequence\":1,\"at\":141,\"kind\":\"flow-refused\"}".to_owned(),
            "{\"sequence\":1,\"kind\":\"target\",\"half".to_owned(),
            state(200, "healthy", "draining"),
            routing(320, Standing::None),
        ] {
            targets.read(&line);
        }
        let span = |from, to, what: &str| Span { from, to, what: what.to_owned() };
        assert_eq!(
            targets.finish(),
            [TargetLine {
                target: "192.168.1.7:8080".to_owned(),
                states: vec![
                    span(1000.0, Some(1002.0), "initial"),
                    span(1002.0, Some(1005.0), "healthy"),
                    span(1005.0, None, "draining"),
                ],
                standings: vec![span(1002.0, Some(1011.0), "in-service")],
            }]
        );
    }
}
