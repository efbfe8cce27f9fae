//! See [`lab::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    match lab::run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lab: {error}");
            // Told apart from the status of a command that ran.
            ExitCode::from(125)
        }
    }
}
