//! The command that the load accompanies. Its output goes through the counter, line by line.

use std::{ffi::OsString, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use crate::{Error, counter::Counter};

/// Runs the command, shows what it prints, and says whether it succeeded. Without one it never ends.
pub async fn run(command: &[OsString], counter: &mut Counter) -> Result<bool, Error> {
    let Some((program, arguments)) = command.split_first() else { counter.run().await };
    let failed = |e| Error::Command(program.to_string_lossy().into_owned(), e);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let (Some(out), Some(complaints)) = (child.stdout.take(), child.stderr.take()) else { return Ok(false) };
    let (mut out, mut complaints) = (BufReader::new(out).lines(), BufReader::new(complaints).lines());
    let (mut more, mut more_complaints) = (true, true);
    while more || more_complaints {
        tokio::select! {
            line = out.next_line(), if more => match line.map_err(failed)? {
                Some(line) => counter.line(&line),
                None => more = false,
            },
            line = complaints.next_line(), if more_complaints => match line.map_err(failed)? {
                Some(line) => counter.line(&line),
                None => more_complaints = false,
            },
            never = counter.run() => match never {},
        }
    }
    let status = child.wait().await.map_err(failed)?;
    if !status.success() {
        counter.line(&format!("load: the command ended with {status}"));
    }
    Ok(status.success())
}
