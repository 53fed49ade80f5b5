//! The little HTTP that talking to dockerd's socket takes.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Long enough for a loaded machine's `swarm init`.
const LIMIT: Duration = Duration::from_secs(60);

/// Sends one request, and returns the JSON of the answer: null for an empty one.
pub fn call(socket: &Path, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
    let raw = body.map(Value::to_string).unwrap_or_default();
    let answer = send(socket, method, path, "application/json", raw.as_bytes())?;
    if answer.trim().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&answer)
        .with_context(|| format!("{method} {path} answered no JSON: {answer}"))
}

/// Sends one request with any body, and returns the body of the answer.
pub fn send(socket: &Path, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<String> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    // 1.0: the answer comes in one piece and ends with the connection.
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: docker\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .with_context(|| format!("{method} {path}"))?;
    parse(&String::from_utf8_lossy(&bytes)).with_context(|| format!("{method} {path}"))
}

fn parse(answer: &str) -> Result<String> {
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .context("the answer is cut off")?;
    let status: u16 = head
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .context("the answer has no status")?;
    if status >= 400 {
        bail!("{status}: {}", body.trim());
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn answers_are_told_from_refusals() {
        assert_eq!(
            parse("HTTP/1.0 200 OK\r\nA: b\r\n\r\n{}").expect("fine"),
            "{}"
        );
        assert!(
            parse("HTTP/1.0 409 Conflict\r\n\r\nname in use")
                .expect_err("409")
                .to_string()
                .contains("in use")
        );
        parse("HTTP/1.0 200").expect_err("cut off");
    }
}
