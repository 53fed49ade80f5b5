//! `init` and `join`.

use super::*;

/// This machine belongs to no cluster, holds no identity and listens on no port.
fn assert_belongs_to_none(node: &Node<'_>) {
    refused(node, &["leave"], &["this machine belongs to no cluster"]);
    let left = "find /var/lib/clusterd -type f -not -path '*/images/*' -not -name lock; ss -Hltn sport = :2377";
    assert_eq!(
        node.run_ok(["sh", "-c", left]).expect("lists"),
        "",
        "left on {}",
        node.name()
    );
}

fn token(node: &Node<'_>, more: &[&str]) -> String {
    let output = ctl(node, &[&["join-token", "-q"], more].concat());
    output.checked().expect("a token").stdout.trim().to_owned()
}

#[test]
fn a_machine_that_may_not_join_is_told_why_and_stays_as_it_was() {
    let lab = Lab::builder().nodes(3).init(false).up().expect("a lab");
    let (first, joiner, other) = (lab.node(1), lab.node(2), lab.node(3));
    let address = first.address().to_string();

    // Another program has the port: no cluster begins, none is joined.
    let mut holder = first
        .command(["busybox", "nc", "-ll", "-p", "2377"])
        .expect("nc")
        .spawn()
        .expect("runs");
    wait_for("nc listens", LIMIT, || {
        Ok(!first.run_ok(["ss", "-Hltn", "sport = :2377"])?.is_empty())
    })
    .expect("listens");
    refused(
        &first,
        &["init"],
        &[
            "port 2377 is taken by another program",
            "ss -ltnp",
            "--listen-addr",
        ],
    );
    holder.kill().expect("kill");
    holder.wait().expect("ends");
    assert_belongs_to_none(&first);

    let not_ours = ["init", "--advertise-addr", "192.0.2.7"];
    refused(
        &first,
        &not_ours,
        &["192.0.2.7 is not this machine's", &address, "eth0"],
    );
    refused(
        &first,
        &["init", "--advertise-addr", "node1"],
        &["\"node1\"", "no IPv4 address"],
    );
    assert_belongs_to_none(&first);
    refused(
        &first,
        &["node", "ls"],
        &[
            "belongs to no cluster",
            "clusterctl init",
            "clusterctl join",
        ],
    );

    ctl(&first, &["init"]).checked().expect("init");
    ctl(&other, &["init"]).checked().expect("init of another");
    let good = token(&first, &["worker"]);
    let shown = listed(&first, &["join-token", "worker"]);
    assert_eq!(shown["token"], good);
    assert_eq!(
        shown["command"],
        format!("clusterctl join --token {good} {address}:2377")
    );
    let join = |token: &str, parts: &[&str]| {
        refused(&joiner, &["join", "--token", token, &address], parts);
        assert_belongs_to_none(&joiner);
        assert_eq!(
            count(&first, &["node", "ls"]),
            1,
            "a node is left of the join with {token}"
        );
    };
    join(
        "hello",
        &[
            "not a join token",
            "CLSTR-1-",
            "clusterctl join-token worker",
        ],
    );
    join(
        &good[..good.len() - 3],
        &[
            "cut short",
            "secret has 22 characters instead of 25",
            "join-token worker",
        ],
    );
    join(
        &good.replacen("CLSTR-1", "CLSTR-9", 1),
        &["version \"9\"", "knows version 1", "upgrade"],
    );
    let last = if good.ends_with('0') { "1" } else { "0" };
    let wrong = format!("{}{last}", &good[..good.len() - 1]);
    join(&wrong, &["token is not valid", "clusterctl join-token"]);
    join(
        &token(&other, &["worker"]),
        &["not of the cluster at", &address, "join-token"],
    );
    let rotated = token(&first, &["--rotate", "worker"]);
    assert_ne!(rotated, good);
    join(
        &good,
        &[
            "token is not valid",
            "tokens were changed",
            "clusterctl join-token",
        ],
    );

    let at = |manager: &str, parts: &[&str]| {
        refused(&joiner, &["join", "--token", &rotated, manager], parts);
        assert_belongs_to_none(&joiner);
    };
    at(
        &format!("{address}:1"),
        &[
            "can't reach a manager",
            &format!("{address}:1"),
            "refused",
            "clusterd running there",
        ],
    );
    at("a b", &["\"a b\"", "HOST:PORT"]);
    let not_ours = [
        "join",
        "--token",
        &rotated,
        "--advertise-addr",
        &address,
        &address,
    ];
    refused(
        &joiner,
        &not_ours,
        &[
            &address,
            "not this machine's",
            &joiner.address().to_string(),
        ],
    );
    assert_belongs_to_none(&joiner);
    assert_eq!(count(&first, &["node", "ls"]), 1);

    // Who belongs to a cluster stays in it.
    let own = listed(&other, &["status"])["cluster"]
        .as_str()
        .expect("an id")
        .to_owned();
    for words in [&["join", "--token", &rotated, &address][..], &["init"]] {
        refused(
            &other,
            words,
            &[
                "already belongs to cluster",
                &own,
                "as a manager",
                "clusterctl leave",
            ],
        );
    }
    assert_eq!(listed(&other, &["status"])["cluster"], own.as_str());
    assert_eq!(
        (
            count(&first, &["node", "ls"]),
            count(&other, &["node", "ls"])
        ),
        (1, 1)
    );

    // Nothing of all that stands in the way of the right call.
    ctl(&joiner, &["join", "--token", &rotated, &address])
        .checked()
        .expect("joins");
    assert_eq!(count(&first, &["node", "ls"]), 2);
}

#[test]
fn a_worker_takes_nobody_in_and_leaves_unheard_only_when_forced() {
    let lab = Lab::builder().nodes(3).init(false).up().expect("a lab");
    let (manager, worker, joiner) = (lab.node(1), lab.node(2), lab.node(3));
    ctl(&manager, &["init"]).checked().expect("init");
    let good = token(&manager, &["worker"]);
    let address = manager.address().to_string();
    ctl(&worker, &["join", "--token", &good, &address])
        .checked()
        .expect("joins");
    let at_worker = worker.address().to_string();
    refused(
        &joiner,
        &["join", "--token", &good, &at_worker],
        &[&at_worker, "one of its workers", "clusterctl node ls"],
    );
    assert_belongs_to_none(&joiner);

    manager.stop().expect("stops");
    let alone = ctl(&worker, &["status"]);
    assert_says(&alone, 1, &[&address]);
    let who = format!("{} (", worker.name());
    let shown = alone.stdout.contains(&who) && alone.stdout.contains("worker at");
    assert!(shown, "it does not say who it is: {alone:#?}");
    refused(
        &worker,
        &["leave"],
        &[
            "no manager can be told",
            &address,
            "clusterctl leave --force",
        ],
    );
    let left = ctl(&worker, &["leave", "--force"]);
    assert_says(&left, 0, &["clusterctl node rm --force"]);
    assert_belongs_to_none(&worker);
    manager.start().expect("starts");
    wait_for("the manager leads", LIMIT, || {
        Ok(ctl(&manager, &["node", "ls"]).code() == 0)
    })
    .expect("leads");
    // Word for word what it was told to run.
    let words = left
        .stderr
        .lines()
        .find_map(|line| line.split_once("back: "));
    let words: Vec<&str> = words.expect("a command").1.split(' ').collect();
    manager.run_ok(words).expect("removes the node");
    assert_eq!(count(&manager, &["node", "ls"]), 1);
}
