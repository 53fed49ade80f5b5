//! What bad input gets: one clear error that names object, cause and cure, a code other than 0, and nothing
//! half done. Each case goes through the real binaries, in a lab.

use std::{io::Write, time::Duration};

use cluster_tests::{Lab, Node, Output, places, wait_for};
use serde_json::Value;

mod compose;
mod images;
mod join;
mod tasks;

const LIMIT: Duration = Duration::from_secs(60);

fn ctl(node: &Node<'_>, words: &[&str]) -> Output {
    let words = std::iter::once("clusterctl").chain(words.iter().copied());
    node.run(words).expect("clusterctl ends")
}

fn listed(node: &Node<'_>, words: &[&str]) -> Value {
    let words = std::iter::once("clusterctl").chain(words.iter().copied());
    node.run_json(words.chain(["--format", "json"]))
        .expect("JSON")
}

/// The output is a refusal of exit code `code` whose text holds each of `parts`, and is not a crash's.
fn assert_says(output: &Output, code: i32, parts: &[&str]) {
    assert_eq!(output.code(), code, "{output:#?}");
    for part in parts {
        assert!(
            output.stderr.contains(part),
            "`{part}` is not in {output:#?}"
        );
    }
    assert!(!output.stderr.contains("panicked"), "{output:#?}");
}

/// The cluster refuses it, and says all of `parts`.
fn refused(node: &Node<'_>, words: &[&str], parts: &[&str]) {
    assert_says(&ctl(node, words), 1, parts);
}

fn count(node: &Node<'_>, list: &[&str]) -> usize {
    listed(node, list).as_array().expect("a list").len()
}

/// A Compose file of this text, and what `deploy` says to it.
fn deploy(node: &Node<'_>, text: &str, more: &[&str]) -> Output {
    let mut file = tempfile::Builder::new()
        .suffix(".yml")
        .tempfile()
        .expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    let path = file.path().to_str().expect("a path").to_owned();
    let output = ctl(node, &[&["deploy", "-c", &path], more].concat());
    Output {
        stderr: output.stderr.replace(&path, "FILE"),
        ..output
    }
}

/// A service that sleeps, with more keys.
fn sleeper(name: &str, keys: &str) -> String {
    format!("services:\n  {name}:\n    image: busybox:1\n    command: [sleep, '100000']\n{keys}")
}

fn load_busybox(node: &Node<'_>) {
    let path = places::image("busybox").expect("an image");
    ctl(
        node,
        &["image", "load", "-i", path.to_str().expect("a path")],
    )
    .checked()
    .expect("loads");
}
