//! kill -9 of a real process with three managers in it, at any moment, again and again: who was told "done" finds
//! it done.

use super::image::Dice;
use crate::tests::*;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Command, Stdio};

/// Says to the child where its folder is.
const FOLDER: &str = "RAFT_STORE_KILLED";
const MANAGERS: u128 = 3;

fn paced(dir: &Path, n: u128) -> Options {
    Options {
        heartbeat_ms: 20,
        election_ms: 60..120,
        snapshot_every: 40,
        ..options(dir, n)
    }
}

/// Writes until it is killed; says each name once it was acknowledged.
async fn write(dir: &Path, life: &str) {
    let before = fs::read_to_string(dir.join("acknowledged")).unwrap();
    let net = Net::default();
    let mut handles = Vec::new();
    for n in 1..=MANAGERS {
        handles.push(open_with(&net, n, paced(dir, n)).await);
    }
    if !handles[0].is_initialized().await {
        assert_eq!(before, "", "its cluster is gone");
        handles[0].initialize(stack("first")).await.unwrap();
    }
    // Those that were not taken in when the last life ended.
    while handles
        .iter()
        .any(|handle| handle.managers().iter().filter(|m| m.voter).count() < 3)
    {
        if let Some(leader) = leader(&handles) {
            for n in 2..=MANAGERS {
                let _ = leader.add_manager(NodeId(n), addr(n)).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    propose(&handles, stack(&format!("{life}.begin"))).await;
    let leads = leader(&handles).map(number);
    let known = |handle: &Handle| handle.read(|state| before.lines().all(|name| has(state, name)));
    for handle in handles
        .iter()
        .filter(|handle| leads == Some(number(handle)))
    {
        let lost: Vec<String> = handle.read(|state| {
            let lost = before.lines().filter(|name| !has(state, name));
            lost.map(|name| format!("{:.20}… of {} bytes", name, name.len()))
                .collect()
        });
        assert_eq!(lost, [""; 0], "the leader has lost what was acknowledged");
    }
    until("all managers have it", || handles.iter().all(known)).await;
    println!("\nready");
    for n in 0.. {
        let name = format!("{life}.{n}-{}", "x".repeat([10, 3_000, 60_000][n % 3]));
        propose(&handles, stack(&name)).await;
        println!("\nacknowledged {name}");
        std::io::stdout().flush().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "is the process that the test below kills"]
async fn child() {
    let dir = std::env::var(FOLDER).unwrap();
    let life = std::env::var("LIFE").unwrap();
    write(Path::new(&dir), &life).await;
}

/// What was said to its end: of a long name the child may have told only half when it was killed.
fn whole_lines(from: ChildStdout) -> impl Iterator<Item = String> {
    let mut from = BufReader::new(from);
    std::iter::from_fn(move || {
        let mut line = String::new();
        from.read_line(&mut line).unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    })
}

fn kill_again_and_again(seed: u64, lives: usize) {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("acknowledged");
    let mut dice = Dice::new(seed);
    let mut acknowledged: Vec<String> = Vec::new();
    for life in 0..=lives {
        fs::write(&list, acknowledged.join("\n")).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "tests::disk::kill::child",
                "--ignored",
                "--nocapture",
            ])
            .env(FOLDER, dir.path())
            .env("LIFE", life.to_string())
            .env("RUST_BACKTRACE", "0")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = whole_lines(child.stdout.take().unwrap());
        // At times it doesn't get as far as to be ready; in its last life it does.
        let (early, count) = (
            dice.below(4) == 0 && life > 0 && life < lives,
            dice.below(40),
        );
        let mut told = 0;
        for line in lines.by_ref() {
            if early || life == lives && line == "ready" {
                break;
            }
            if let Some(name) = line.strip_prefix("acknowledged ") {
                acknowledged.push(name.to_owned());
                told += 1;
                if told > count {
                    break;
                }
            }
        }
        // In the middle of what comes next.
        std::thread::sleep(Duration::from_micros(dice.next() % 20_000));
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        // What it had said before.
        for line in lines {
            acknowledged.extend(line.strip_prefix("acknowledged ").map(str::to_owned));
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(ended.is_none(), "seed {seed}, life {life}: {said}");
    }
    assert!(acknowledged.len() > lives);
}

#[test]
fn what_was_acknowledged_survives_kills() {
    kill_again_and_again(1, 5);
}

#[test]
#[ignore = "minutes: SEEDS=n says how many"]
fn what_was_acknowledged_survives_many_kills() {
    let seeds = std::env::var("SEEDS").ok();
    for seed in 0..seeds.and_then(|n| n.parse().ok()).unwrap_or(20) {
        kill_again_and_again(seed, 12);
    }
}
