//! Where a story is played: runs commands, shows them, and keeps what was expected and seen.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::{process::Command, time::timeout};

use super::report::{Rollout, Step, Story};

/// How long one command may take. They wait for conditions themselves.
const LIMIT: Duration = Duration::from_mins(2);

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
    story: Story,
    scene: Scene,
}

/// What is being played.
struct Scene {
    about: String,
    commands: Vec<String>,
    began: Instant,
}

impl Scene {
    fn new(about: &str) -> Self {
        Self { about: about.to_owned(), commands: Vec::new(), began: Instant::now() }
    }
}

impl Stage {
    /// A stage whose commands run in `directory`.
    pub fn new(directory: &Path, environment: &BTreeMap<String, OsString>) -> Self {
        Self {
            directory: directory.to_owned(),
            environment: environment.clone(),
            story: Story::default(),
            scene: Scene::new(""),
        }
    }

    /// Begins a scene with what it is about.
    pub fn scene(&mut self, about: &str) {
        self.scene = Scene::new(about);
        println!("\n# {about}");
    }

    /// Runs a shell command, shows it with everything it prints, and returns its output. One that fails or hangs shows
    /// what it said, and its output is what there was.
    pub async fn run(&mut self, command: &str) -> String {
        self.echo(command);
        let output = self.ask(command).await;
        print!("{output}");
        if !output.is_empty() && !output.ends_with('\n') {
            println!();
        }
        output
    }

    /// Runs a shell command that shows itself what it does, as it does it.
    pub async fn follow(&mut self, command: &str) {
        self.echo(command);
        let mut run = self.shell(command);
        // It ends in good time, or never; either way its own words have been shown.
        match timeout(LIMIT, run.status()).await {
            Ok(Ok(_)) => {}
            Ok(Err(e)) => println!("sh: {e}"),
            Err(_) => println!("no end within {} s", LIMIT.as_secs()),
        }
    }

    /// Sets a variable for the commands that follow, and shows it.
    pub fn keep(&mut self, name: &str, value: &str) {
        self.echo(&format!("{name}='{value}'"));
        self.environment.insert(name.to_owned(), value.into());
    }

    /// Runs a shell command without showing it.
    pub async fn ask(&self, command: &str) -> String {
        match timeout(LIMIT, self.shell(command).output()).await {
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

    /// A file that a command of the story wrote.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A variable of the commands; empty if there is none.
    pub fn variable(&self, name: &str) -> &str {
        self.environment.get(name).and_then(|value| value.to_str()).unwrap_or_default()
    }

    /// Keeps a rollout for the report.
    pub fn keep_rollout(&mut self, rollout: Rollout) {
        self.story.rollouts.push(rollout);
    }

    /// Ends a scene: what should have been seen and what was. More of the same scene may follow.
    pub fn expect(&mut self, title: &str, expected: &str, seen: impl Into<String>, good: bool) {
        let about = self.scene.about.clone();
        let scene = std::mem::replace(&mut self.scene, Scene::new(&about));
        self.story.steps.push(Step {
            title: title.to_owned(),
            about,
            commands: scene.commands,
            expected: expected.to_owned(),
            seen: seen.into(),
            good,
            seconds: scene.began.elapsed().as_secs_f64(),
        });
    }

    /// The story as it was played.
    pub fn finish(self) -> Story {
        self.story
    }

    fn echo(&mut self, command: &str) {
        println!("$ {command}");
        self.scene.commands.push(command.to_owned());
    }

    fn shell(&self, command: &str) -> Command {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", command])
            .current_dir(&self.directory)
            .envs(&self.environment)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        shell
    }
}
