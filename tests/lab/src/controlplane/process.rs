//! One program of the control plane: started with its log in a file, and an error with its last words when it ends.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use tokio::process::{Child, Command};

const LAST_LINES: usize = 15;

/// How a program ended or why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("start {program}: {source}")]
    Start {
        /// The program.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// It ended although the lab goes on.
    #[error("{program} ended ({status}); its last words:\n{words}")]
    Ended {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        words: String,
    },
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    program: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program in a process group of its own, so that a Ctrl-C on the terminal does not reach it.
    pub fn start(program: &'static str, file: &Path, arguments: &[String], logs: &Path) -> Result<Self, Error> {
        let failed = |source| Error::Start { program, source };
        let log = logs.join(format!("{program}.log"));
        let output = File::create(&log).map_err(failed)?;
        let child = Command::new(file)
            .args(arguments)
            .env_clear()
            // A lab is short and its cores are few: memory is collected when there is much of it, not whenever it doubled.
            .env("GOGC", "1000")
            .env("GOMEMLIMIT", "2GiB")
            .stdin(Stdio::null())
            .stdout(output.try_clone().map_err(failed)?)
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        Ok(Self { program, child, log })
    }

    /// The program's name.
    pub fn name(&self) -> &'static str {
        self.program
    }

    /// Waits for the program, which is meant to run as long as the lab.
    pub async fn ended(mut self) -> Result<(), Error> {
        let status = self.child.wait().await.map_err(|source| Error::Start { program: self.program, source })?;
        Err(Error::Ended { program: self.program, status, words: last_words(&self.log) })
    }
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}
