//! Where a story is played: runs commands, shows them, and keeps what was expected and seen.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use tokio::{process::Command, time::timeout};

/// How long one command may take. They wait for conditions themselves.
const LIMIT: Duration = Duration::from_mins(2);

/// One line of the table at the end.
struct Scene {
    title: String,
    expected: String,
    seen: String,
    good: bool,
    took: Duration,
}

/// A point in time.
pub struct Deadline(Instant);

impl Deadline {
    /// Whether it has passed.
    pub fn is_over(&self) -> bool {
        Instant::now() > self.0
    }
}

/// Runs the commands of a story.
pub struct Stage {
    directory: PathBuf,
    environment: BTreeMap<String, OsString>,
    scenes: Vec<Scene>,
    began: Instant,
}

impl Stage {
    /// A stage whose commands run in `directory`.
    pub fn new(directory: &std::path::Path, environment: &BTreeMap<String, OsString>) -> Self {
        Self {
            directory: directory.to_owned(),
            environment: environment.clone(),
            scenes: Vec::new(),
            began: Instant::now(),
        }
    }

    /// Begins a scene with what it is about.
    pub fn scene(&mut self, about: &str) {
        self.began = Instant::now();
        println!("\n# {about}");
    }

    /// Runs a shell command, shows it with everything it prints, and returns its output. One that fails or hangs shows
    /// what it said, and its output is what there was.
    pub async fn run(&self, command: &str) -> String {
        println!("$ {command}");
        let output = self.ask(command).await;
        print!("{output}");
        if !output.is_empty() && !output.ends_with('\n') {
            println!();
        }
        output
    }

    /// Sets a variable for the commands that follow, and shows it.
    pub fn keep(&mut self, name: &str, value: &str) {
        println!("$ {name}='{value}'");
        self.environment.insert(name.to_owned(), value.into());
    }

    /// Runs a shell command without showing it.
    pub async fn ask(&self, command: &str) -> String {
        let run = Command::new("sh")
            .args(["-c", command])
            .current_dir(&self.directory)
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .output();
        match timeout(LIMIT, run).await {
            Ok(Ok(output)) => {
                String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
            }
            Ok(Err(e)) => format!("sh: {e}\n"),
            Err(_) => format!("no end within {} s\n", LIMIT.as_secs()),
        }
    }

    /// Runs a command without showing it until its output is as wanted, or for as long as one command may take.
    pub async fn until(&self, command: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Self::deadline();
        loop {
            let output = self.ask(command).await;
            if wanted(&output) || deadline.is_over() {
                return output;
            }
        }
    }

    /// When to stop waiting for what should happen.
    pub fn deadline() -> Deadline {
        Deadline(Instant::now() + LIMIT)
    }

    /// Ends a scene: what should have been seen and what was.
    pub fn expect(&mut self, title: &str, expected: &str, seen: impl Into<String>, good: bool) {
        let (expected, seen) = (expected.to_owned(), seen.into());
        self.scenes.push(Scene { title: title.to_owned(), expected, seen, good, took: self.began.elapsed() });
    }

    /// Prints the table. Success only if there were scenes and all were good.
    pub fn finish(self) -> ExitCode {
        let width = |text: fn(&Scene) -> &str| self.scenes.iter().map(|s| text(s).chars().count()).max().unwrap_or(0);
        let (title, expected, seen) = (width(|s| &s.title), width(|s| &s.expected), width(|s| &s.seen));
        println!("\n     {:title$}  {:expected$}  {:seen$}  time", "step", "expected", "seen");
        for s in &self.scenes {
            let mark = if s.good { " ok " } else { "FAIL" };
            let took = s.took.as_secs_f64();
            println!("{mark} {:title$}  {:expected$}  {:seen$}  {took:.1} s", s.title, s.expected, s.seen);
        }
        let bad = self.scenes.iter().filter(|s| !s.good).count();
        println!("\n{} of {} steps as expected", self.scenes.len() - bad, self.scenes.len());
        if bad == 0 && !self.scenes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
