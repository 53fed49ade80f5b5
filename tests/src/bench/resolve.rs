//! When does a name resolve in a task's network?

use std::{
    fs,
    net::UdpSocket,
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// Both systems' resolver, in the namespace of each task.
const RESOLVER: &str = "127.0.0.11:53";
const EVERY: Duration = Duration::from_millis(2);

/// Asks for a name from the network of a process, again and again, until there is an address.
/// Yields when that was: seconds since 1970.
pub fn watch(pid: i32, name: &str, limit: Duration) -> thread::JoinHandle<Result<f64>> {
    let name = name.to_owned();
    thread::spawn(move || {
        let path = format!("/proc/{pid}/ns/net");
        let namespace = fs::File::open(&path).with_context(|| format!("cannot open {path}"))?;
        // Only this thread, which ends with its answer.
        setns(&namespace, CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter {path}"))?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(RESOLVER)?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        let end = Instant::now() + limit;
        for id in (1..=u16::MAX).cycle() {
            if Instant::now() >= end {
                break;
            }
            let mut answer = [0; 1500];
            // Refused or late: ask again.
            if socket.send(&query(id, &name)).is_ok()
                && let Ok(length) = socket.recv(&mut answer)
                && has_address(id, &answer[..length])
            {
                return Ok(SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)?
                    .as_secs_f64());
            }
            thread::sleep(EVERY);
        }
        bail!("{name} did not resolve within {:.0} s", limit.as_secs_f64())
    })
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        // A DNS label has at most 63 bytes.
        bytes.push(u8::try_from(label.len()).unwrap_or(63));
        bytes.extend(label.bytes().take(63));
    }
    // The root; type A; class IN.
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

fn has_address(id: u16, answer: &[u8]) -> bool {
    let head = answer.get(..12);
    head.is_some_and(|h| h[..2] == id.to_be_bytes() && h[3] & 0x0f == 0 && (h[6], h[7]) != (0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers() {
        let bytes = query(0x1234, "a.bc");
        assert_eq!(bytes[..12], [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[12..], [1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]);
        assert!(has_address(7, &[0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]));
        assert!(
            !has_address(7, &[0, 7, 0x81, 0x83, 0, 1, 0, 0, 0, 0, 0, 0]),
            "no such name"
        );
        assert!(
            !has_address(8, &[0, 7, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]),
            "another question's"
        );
        assert!(!has_address(7, &[0, 7]));
    }
}
