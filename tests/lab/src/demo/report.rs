//! What is left of a story that was played: a table, `report.json`, and `report.html`, which needs no other file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use load::Report;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;

use super::{
    picture,
    timeline::{Timeline, now},
};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error("write {0}: {1}")]
    Write(PathBuf, #[source] io::Error),
    /// The values.
    #[error("the report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A picture.
    #[error(transparent)]
    Picture(#[from] picture::Error),
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// What was tried, in a few words.
    pub title: String,
    /// The same in a sentence.
    pub about: String,
    /// The commands, as typed.
    pub commands: Vec<String>,
    /// What should have been seen.
    pub expected: String,
    /// What was.
    pub seen: String,
    /// Whether that is as it should be.
    pub good: bool,
    /// How long it took.
    pub seconds: f64,
}

/// A rollout under load. The times of the timeline are those of the load's run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Rollout {
    /// What was rolled out, and how.
    pub title: String,
    /// The requests.
    pub load: Report,
    /// Pods and targets.
    pub timeline: Timeline,
}

/// A story that was played.
#[derive(Debug, Clone, PartialEq, Serialize, Default)]
pub struct Story {
    /// Its steps.
    pub steps: Vec<Step>,
    /// Its rollouts.
    pub rollouts: Vec<Rollout>,
}

/// `report.json`.
#[derive(Serialize)]
struct File<'a> {
    version: u32,
    /// When it was written, in seconds since 1970.
    written: f64,
    good: bool,
    #[serde(flatten)]
    story: &'a Story,
}

impl Story {
    /// Whether there was anything to see, and all was as expected.
    pub fn good(&self) -> bool {
        !self.steps.is_empty() && self.steps.iter().all(|step| step.good)
    }

    /// The table for a terminal.
    pub fn table(&self) -> String {
        let width = |text: fn(&Step) -> &str| self.steps.iter().map(|s| text(s).chars().count()).max().unwrap_or(0);
        let (title, expected, seen) = (width(|s| &s.title), width(|s| &s.expected), width(|s| &s.seen));
        let mut lines = vec![format!("     {:title$}  {:expected$}  {:seen$}  time", "step", "expected", "seen")];
        lines.extend(self.steps.iter().map(|s| {
            let mark = if s.good { " ok " } else { "FAIL" };
            format!("{mark} {:title$}  {:expected$}  {:seen$}  {:.1} s", s.title, s.expected, s.seen, s.seconds)
        }));
        let good = self.steps.iter().filter(|s| s.good).count();
        lines.push(format!("\n{good} of {} steps as expected", self.steps.len()));
        lines.join("\n")
    }

    /// Writes `report.json` and `report.html` into a directory, which is made if need be.
    pub fn write(&self, directory: &Path) -> Result<(), Error> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |e| Error::Write(path, e)
        };
        fs::create_dir_all(directory).map_err(failed(directory))?;
        let file = File { version: 1, written: now(), good: self.good(), story: self };
        let (json, page) = (directory.join("report.json"), directory.join("report.html"));
        fs::write(&json, serde_json::to_string_pretty(&file)? + "\n").map_err(failed(&json))?;
        fs::write(&page, self.page()?.into_string()).map_err(failed(&page))
    }

    fn page(&self) -> Result<Markup, Error> {
        let pictures =
            self.rollouts.iter().map(|rollout| Ok((rollout, picture::draw(&rollout.timeline, &rollout.load)?)));
        let pictures = pictures.collect::<Result<Vec<_>, picture::Error>>()?;
        Ok(html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    title { "Sluice: the story, as it was played" }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    h1 { "The story, as it was played" }
                    (self.steps())
                    @for (rollout, picture) in &pictures { (rollout.section(picture)) }
                }
            }
        })
    }

    fn steps(&self) -> Markup {
        html! {
            table {
                tr { th {} th { "step" } th { "expected" } th { "seen" } th { "time" } }
                @for step in &self.steps {
                    tr class=(if step.good { "good" } else { "bad" }) {
                        td { (if step.good { "ok" } else { "FAIL" }) }
                        td {
                            details {
                                summary title=(step.about) { (step.title) }
                                p { (step.about) }
                                pre { @for command in &step.commands { "$ " (command) "\n" } }
                            }
                        }
                        td { (step.expected) }
                        td { (step.seen) }
                        td.number { (format!("{:.1} s", step.seconds)) }
                    }
                }
            }
        }
    }
}

impl Rollout {
    fn section(&self, picture: &str) -> Markup {
        let load = &self.load;
        html! {
            h2 { (self.title) }
            p {
                (load.requests) " requests, " b { (load.failures_in_words()) } " failed; first byte p50 "
                (format!("{:.1} ms, p99 {:.1} ms, max {:.1} ms.", load.first_byte.p50, load.first_byte.p99, load.first_byte.max))
            }
            (PreEscaped(picture))
            @if !self.timeline.marks.is_empty() {
                p { "Vertical lines: "
                    @for mark in &self.timeline.marks { (format!("{:.1} s {}; ", mark.at, mark.what)) }
                }
            }
            @if !load.failures.is_empty() {
                details {
                    summary { "the first failures" }
                    table {
                        tr { th { "at" } th { "address" } th { "what" } th { "said" } }
                        @for failure in &load.failures {
                            tr {
                                td.number { (format!("{:.2} s", failure.at)) }
                                td { (failure.address) }
                                td { (failure.kind) }
                                td { (failure.detail) }
                            }
                        }
                    }
                }
            }
        }
    }
}

const STYLE: &str = "
body { font: 15px/1.45 system-ui, sans-serif; max-width: 1120px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse } td, th { padding: .25em .9em .25em 0; text-align: left; vertical-align: top }
tr { border-bottom: 1px solid #eee } .number { text-align: right; white-space: nowrap }
tr.good td:first-child { color: #2e7d32 } tr.bad { background: #fdecea } tr.bad td:first-child { color: #c62828; font-weight: bold }
pre { background: #f6f6f6; padding: .6em; white-space: pre-wrap } svg { max-width: 100%; height: auto } summary { cursor: pointer }
";

#[cfg(test)]
mod tests {
    use super::*;

    fn step(good: bool) -> Step {
        Step {
            title: "spread".to_owned(),
            about: "Requests & answers".to_owned(),
            commands: vec!["curl http://$NAME/ | grep '<b>'".to_owned()],
            expected: "2 pods".to_owned(),
            seen: "2 pods".to_owned(),
            good,
            seconds: 1.25,
        }
    }

    #[test]
    fn story_is_good_only_if_there_was_one_and_every_step_was() {
        let story = |steps| Story { steps, rollouts: Vec::new() };
        assert!(!story(vec![]).good());
        assert!(story(vec![step(true)]).good());
        assert!(!story(vec![step(true), step(false)]).good());
        assert!(story(vec![step(true), step(false)]).table().ends_with("1 of 2 steps as expected"));
    }

    #[test]
    fn page_needs_no_other_file_and_shows_text_as_text() {
        let page = Story { steps: vec![step(true)], rollouts: Vec::new() }.page().expect("a page").into_string();
        assert!(page.contains("Requests &amp; answers") && page.contains("grep '&lt;b&gt;'"), "{page}");
        assert!(!page.contains("src=") && !page.contains("href="), "{page}");
    }
}
