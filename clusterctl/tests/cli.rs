//! The real binary, without a clusterd: what a first call says.

use std::process::{Command, Output};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_clusterctl"))
        .args(args)
        .env_remove("CLUSTERCTL_HOST")
        .output()
        .expect("the binary can't be run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn without_a_daemon_it_says_what_to_do_on_stderr() {
    let dir = tempfile::tempdir().unwrap();
    let host = format!("unix://{}/none.sock", dir.path().display());
    let output = run(&["-H", &host, "node", "ls"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = text(&output.stderr);
    assert!(
        said.contains("clusterd is not running here") && said.contains("systemctl start clusterd"),
        "{said}"
    );
}

#[test]
fn a_host_that_is_no_socket_is_refused() {
    let output = run(&["-H", "tcp://1.2.3.4:2377", "status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("unix:///PATH"));
}

#[test]
fn a_wrong_call_is_exit_code_2_and_suggests_the_nearest() {
    let output = run(&["sevice", "ls"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("service"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn every_command_has_help() {
    let help = text(&run(&["--help"]).stdout);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(
        commands.contains(&"deploy") && commands.contains(&"exec"),
        "{commands:?}"
    );
    for command in commands.iter().filter(|c| **c != "help") {
        let output = run(&[command, "--help"]);
        assert!(output.status.success(), "{command}");
        let said = text(&output.stdout);
        assert!(
            said.lines().next().is_some_and(|line| line.len() > 15),
            "{command} doesn't say what it does: {said}"
        );
    }
}

#[test]
fn completions_and_man_pages_are_made() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert!(
            output.status.success() && text(&output.stdout).contains("clusterctl"),
            "{shell}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let output = run(&["man", dir.path().to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(dir.path().join("clusterctl-service-scale.1").exists());
}
