//! Running a command within a bound of time.

use std::{
    ffi::OsStr,
    io::{Read, Write},
    process::{Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

/// How a command ended and what it printed.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command as one would type it.
    pub command: String,
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// True for exit code 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The exit code, or 128 + the signal that ended it.
    #[must_use]
    pub fn code(&self) -> i32 {
        use std::os::unix::process::ExitStatusExt;
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Itself when it succeeded, else an error that shows command, status and what it printed.
    pub fn checked(self) -> Result<Self> {
        if self.success() {
            return Ok(self);
        }
        bail!(
            "`{}` failed ({})\n{}{}",
            self.command,
            self.status,
            self.stdout,
            self.stderr
        )
    }
}

/// The command as one would type it, without quoting.
#[must_use]
pub fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command to its end, feeding it `input`. After `limit` it is killed, and that is an error.
///
/// Whatever inherits its output and lives on is not waited for beyond `limit` either.
pub fn bounded(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    let text = shown(command);
    let end = Instant::now() + limit;
    let mut child = command
        .stdin(if input.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run `{text}`"))?;
    let writer = child.stdin.take().map(|mut pipe| {
        let input = input.to_vec();
        // A command that doesn't read all of its input is its own affair.
        thread::spawn(move || drop(pipe.write_all(&input)))
    });
    let stdout = child
        .stdout
        .take()
        .map(read_all)
        .ok_or_else(|| anyhow!("no stdout of `{text}`"))?;
    let stderr = child
        .stderr
        .take()
        .map(read_all)
        .ok_or_else(|| anyhow!("no stderr of `{text}`"))?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if Instant::now() >= end {
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        thread::sleep(Duration::from_millis(2));
    };
    while !(stdout.is_finished() && stderr.is_finished()) && Instant::now() < end {
        thread::sleep(Duration::from_millis(1));
    }
    if status.is_some() && !(stdout.is_finished() && stderr.is_finished()) {
        bail!("`{text}` ended, but something it started still holds its output open");
    }
    let Some(status) = status else {
        let said = [stdout, stderr].map(|t| {
            if t.is_finished() {
                t.join().unwrap_or_default()
            } else {
                vec![]
            }
        });
        let said = said
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .concat();
        bail!(
            "`{text}` did not end within {:.0} s and was killed\n{said}",
            limit.as_secs_f64()
        );
    };
    if let Some(writer) = writer {
        let _ = writer.join();
    }
    let [stdout, stderr] = [stdout, stderr]
        .map(|t| String::from_utf8_lossy(&t.join().unwrap_or_default()).into_owned());
    Ok(Output {
        command: text,
        status,
        stdout,
        stderr,
    })
}

fn read_all(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn input_output_and_code_pass_through() {
        let output = bounded(
            &mut sh("cat; echo oops >&2; exit 3"),
            b"hello",
            Duration::from_secs(60),
        )
        .expect("runs");
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("hello", "oops\n")
        );
        assert_eq!(output.code(), 3);
        assert!(
            output
                .checked()
                .expect_err("code 3")
                .to_string()
                .contains("oops")
        );
    }

    #[test]
    fn a_command_that_hangs_is_killed() {
        let error = bounded(&mut sh("exec sleep 1000"), b"", Duration::from_millis(50))
            .expect_err("killed");
        assert!(error.to_string().contains("did not end within"), "{error}");
    }
}
