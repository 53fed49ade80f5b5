//! How a command ends badly: one line on stderr, and an exit code.
//!
//! 1 for whatever the cluster or the machine refused, 2 for a wrong call (clap's own), 130 after Ctrl-C;
//! `exec` passes its command's code on.

use std::io::Write;
use std::process::ExitCode;

/// Ctrl-C, where there was nothing to clean up or it has been done.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Interrupted(pub String);

/// Prints the error and says the exit code.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if is_broken_pipe(error) {
        return ExitCode::SUCCESS;
    }
    let text = text(error);
    let mut stderr = std::io::stderr().lock();
    // With stderr closed there is nobody to tell.
    let _ = writeln!(stderr, "clusterctl: {text}");
    if error.downcast_ref::<Interrupted>().is_some() {
        ExitCode::from(130)
    } else {
        ExitCode::FAILURE
    }
}

/// An error with all its causes, in one line.
pub fn text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let part = match cause.downcast_ref::<tonic::Status>() {
            Some(status) if status.message().is_empty() => status.code().to_string(),
            Some(status) => status.message().to_owned(),
            None => cause.to_string(),
        };
        if part.is_empty() || text.contains(&part) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&part);
    }
    text
}

/// `clusterctl node ls | head -1` is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|io| io.kind() == std::io::ErrorKind::BrokenPipe)
}
