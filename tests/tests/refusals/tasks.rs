//! Tasks that can not run, and names that are nearly right.

use super::*;

/// The tasks of a service whose state is `state`, as `service ps` lists them: their errors.
fn errors(node: &Node<'_>, service: &str, state: &str) -> Vec<String> {
    let rows = listed(node, &["service", "ps", service]);
    let rows = rows.as_array().expect("a list").iter();
    let of_state = rows.filter(|row| row["status"]["state"] == state);
    of_state
        .map(|row| {
            row["status"]["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        })
        .collect()
}

/// `service ps` shows a task in `state` with an error that holds all of `parts`.
fn shown(node: &Node<'_>, service: &str, state: &str, parts: &[&str]) {
    let what = format!("{service} is {state}: {parts:?}");
    wait_for(what, LIMIT, || {
        let errors = errors(node, service, state);
        anyhow::ensure!(
            errors
                .iter()
                .any(|e| parts.iter().all(|part| e.contains(part))),
            "{errors:?}"
        );
        Ok(true)
    })
    .expect("shown");
    let table = ctl(node, &["service", "ps", service])
        .checked()
        .expect("a table")
        .stdout;
    assert!(parts.iter().all(|part| table.contains(part)), "{table}");
}

#[test]
fn a_task_that_can_not_run_says_why_and_leaves_nothing() {
    let lab = Lab::builder().up().expect("a lab");
    let node = lab.node(1);
    load_busybox(&node);
    let start = |stack: &str, text: &str| {
        deploy(&node, text, &["--detach", stack])
            .checked()
            .expect("deployed");
    };
    let here = |keys: &str| {
        format!("{keys}    deploy: {{placement: {{constraints: [node.hostname==node1]}}}}\n")
    };

    start(
        "place",
        &sleeper(
            "a",
            "    deploy: {placement: {constraints: [node.labels.disk==ssd]}}\n",
        ),
    );
    shown(
        &node,
        "place_a",
        "pending",
        &["no suitable node", "2 of 2 nodes", "node.labels.disk==ssd"],
    );

    start(
        "image",
        &here("services:\n  a:\n    image: 127.0.0.1:1/nothing:1\n"),
    );
    let cure = "clusterctl image load -i FILE";
    shown(
        &node,
        "image_a",
        "rejected",
        &[
            "127.0.0.1:1/nothing:1",
            "not on this node",
            cure,
            "Connection refused",
        ],
    );

    let mut program = node
        .command(["busybox", "nc", "-ll", "-p", "5000"])
        .expect("nc")
        .spawn()
        .expect("runs");
    wait_for("nc listens", LIMIT, || {
        Ok(!node.run_ok(["ss", "-Hltn", "sport = :5000"])?.is_empty())
    })
    .expect("listens");
    start("port", &sleeper("a", &here("    ports: ['5000:80']\n")));
    shown(
        &node,
        "port_a",
        "rejected",
        &[
            "port 5000/tcp",
            "taken by",
            &format!("pid {}", program.id()),
        ],
    );
    // A deploy that waits says it once, however many tasks fail of it, and again at the end.
    let waited = deploy(
        &node,
        &sleeper("a", &here("    ports: ['5000:80']\n")),
        &["--timeout", "3", "port"],
    );
    assert_says(&waited, 1, &["taken by", "clusterctl stack rm"]);
    assert_eq!(waited.stderr.matches("taken by").count(), 2, "{waited:#?}");
    // What none of them has left: no container, no address. Their networks go with their stacks.
    for stack in ["image", "port", "place"] {
        ctl(&node, &["stack", "rm", stack])
            .checked()
            .expect("removed");
    }
    for list in
        ["stack", "service", "network", "node ps node1"].map(|l| l.split(' ').collect::<Vec<_>>())
    {
        let words = if list.len() == 1 {
            vec![list[0], "ls"]
        } else {
            list
        };
        assert_eq!(count(&node, &words), 0, "{words:?}");
    }
    let left = "ls /var/lib/clusterd/containers; nft list ruleset | grep -w 5000";
    assert_eq!(node.run(["sh", "-c", left]).expect("lists").stdout, "");

    program.kill().expect("kill");
    program.wait().expect("ends");
    deploy(
        &node,
        &sleeper("a", &here("    ports: ['5000:80']\n")),
        &["one"],
    )
    .checked()
    .expect("it runs now");
    start("two", &sleeper("a", &here("    ports: ['5000:80']\n")));
    shown(
        &node,
        "two_a",
        "pending",
        &["no suitable node", "port 5000/tcp taken by one_a.1"],
    );

    // Names that are nearly right; and calls that begin well and end badly change nothing.
    for (words, parts) in [
        (
            &["service", "ps", "one_aa"][..],
            &["\"one_aa\"", "did you mean \"one_a\"?"][..],
        ),
        (
            &["service", "ps", "-f", "node=nod1", "one_a"],
            &["\"nod1\"", "did you mean \"node1\"?"],
        ),
        (
            &["stack", "ps", "-f", "state=up", "one"],
            &["state=up", "running"],
        ),
        (
            &["service", "logs", "onea"],
            &["\"onea\"", "did you mean \"one_a\"?"],
        ),
        (
            &["service", "rm", "one-a"],
            &["\"one-a\"", "did you mean \"one_a\"?"],
        ),
        (
            &["service", "inspect", "zzzzz"],
            &["\"zzzzz\"", "clusterctl service ls"],
        ),
        (
            &["service", "scale", "one_a=2", "nope=1"],
            &["\"nope\"", "clusterctl service ls"],
        ),
        (
            &["service", "scale", "one_a=100001"],
            &["one_a", "too many", "100000"],
        ),
        (
            &["node", "inspect", "nod1"],
            &["\"nod1\"", "did you mean \"node1\"?"],
        ),
        (
            &["node", "rm", "node2"],
            &["node2", "clusterctl leave", "--force"],
        ),
        (
            &["network", "inspect", "one_defalt"],
            &["did you mean \"one_default\"?"],
        ),
        (
            &["network", "rm", "one_default"],
            &["one_default", "used by one_a", "remove it first"],
        ),
        (
            &["network", "create", "one_default"],
            &["one_default", "there already", "another name"],
        ),
        (&["network", "create", "a b"], &["\"a b\"", "a name has"]),
        (
            &["stack", "rm", "ome"],
            &["\"ome\"", "did you mean \"one\"?"],
        ),
        (&["stack", "ps", "ome"], &["\"ome\"", "there is: one, two"]),
        (
            &["exec", "one_a.7", "ls"],
            &["\"one_a.7\"", "did you mean \"one_a.1\"?"],
        ),
        (
            &["exec", "two_a.1", "ls"],
            &["two_a.1", "does not run yet", "no suitable node"],
        ),
        (
            &["exec", "-t", "one_a.1", "ls"],
            &["exec -t", "not supported yet", "-i"],
        ),
        (
            &["image", "rm", "nope"],
            &["`nope`", "clusterctl image load"],
        ),
        (&["image", "rm", "busybox:1"], &["`busybox:1`", "in use"]),
        (
            &["leave"],
            &["only manager", "state is lost", "clusterctl leave --force"],
        ),
    ] {
        refused(&node, words, parts);
    }
    // Of several services those that are there are listed, and what is not is named.
    let several = ctl(&node, &["service", "ps", "-q", "one_a", "nope", "two_a"]);
    assert_says(&several, 1, &["\"nope\""]);
    assert_eq!(several.stdout.lines().count(), 2, "{several:#?}");
    for name in ["node1", "self"] {
        let on = format!("node={name}");
        let placed = ["service", "ps", "-f", &on, "one_a", "two_a", "one_a"];
        assert_eq!(count(&node, &placed), 1, "the other waits for a node");
    }
    let status = ctl(&node, &["status"]).stdout;
    assert!(
        status.contains("service two_a runs 0 of 1 task: no suitable node"),
        "{status}"
    );
    assert_says(
        &ctl(&node, &["exec", "-w", "/nosuch", "one_a.1", "ls"]),
        127,
        &["can't enter the folder /nosuch"],
    );
    let wanted = &listed(&node, &["service", "ls"]);
    assert!(
        wanted
            .as_array()
            .expect("a list")
            .iter()
            .all(|row| row["wanted"] == 1),
        "{wanted}"
    );
    assert_eq!(
        (
            count(&node, &["image", "ls"]),
            count(&node, &["node", "ls"])
        ),
        (1, 2)
    );
    let removed = ctl(&node, &["service", "rm", "one_a", "nope", "two_a"]);
    assert_says(&removed, 1, &["\"nope\""]);
    assert_eq!(removed.stdout, "one_a\ntwo_a\n", "{removed:#?}");
    assert_eq!(count(&node, &["service", "ls"]), 0);
}

#[test]
fn a_deploy_does_not_wait_for_what_is_not_started_again() {
    let lab = Lab::builder().nodes(1).up().expect("a lab");
    let node = lab.node(1);
    load_busybox(&node);
    let once = |code: u8, policy: &str| {
        format!(
            "services:\n  a:\n    image: busybox:1\n    command: sh -c 'exit {code}'\n    deploy: {{restart_policy: {policy}}}\n"
        )
    };
    let says = [
        "a.1 has failed and is not started again",
        "exit code 3",
        "clusterctl service logs",
    ];
    let never = deploy(&node, &once(3, "{condition: none}"), &["never"]);
    assert_says(&never, 1, &says);
    let tried = "{condition: on-failure, delay: 100ms, max_attempts: 2}";
    let tried = deploy(&node, &once(3, tried), &["tried"]);
    assert_says(&tried, 1, &says);
    let ran = listed(&node, &["service", "ps", "tried_a"]);
    assert_eq!(ran.as_array().map(Vec::len), Some(3), "{ran}");
    // A job that has done its work is what was asked for.
    deploy(&node, &once(0, "{condition: on-failure}"), &["job"])
        .checked()
        .expect("done");
}

#[test]
fn what_fails_again_and_again_is_never_called_deployed_and_what_is_scaled_away_has_ended() {
    let lab = Lab::builder().nodes(1).up().expect("a lab");
    let node = lab.node(1);
    load_busybox(&node);
    let loops = "services:\n  a:\n    image: busybox:1\n    command: sh -c 'sleep 0.4; exit 3'\n    deploy: {restart_policy: {delay: 1s}}\n";
    for _ in 0..3 {
        let again = deploy(&node, loops, &["--timeout", "5", "loops"]);
        assert_says(
            &again,
            1,
            &[
                "loops_a.1",
                "exit code 3",
                "clusterctl service logs loops_a",
            ],
        );
    }
    let many = "services:\n  a:\n    image: busybox:1\n    command: [sh, -c, 'trap \"exit 0\" TERM; sleep 100000 & wait']\n    deploy: {replicas: 3}\n";
    assert_says(&deploy(&node, many, &["many"]), 0, &[]);
    let scaled = ctl(&node, &["service", "scale", "many_a=1"]);
    assert_says(&scaled, 0, &["many_a 1/1"]);
    let tasks = listed(&node, &["service", "ps", "many_a"]);
    let live = tasks.as_array().expect("a list").iter();
    let live = live.filter(|row| row["status"]["state"] == "running");
    assert_eq!(live.count(), 1, "{tasks}");
}
