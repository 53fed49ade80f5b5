//! Compose files, and calls that a worker does not take.

use super::*;

#[test]
fn a_compose_file_with_errors_deploys_nothing() {
    let lab = Lab::builder().up().expect("a lab");
    let (manager, worker) = (lab.node(1), lab.node(2));
    let refuses = |text: &str, parts: &[&str]| {
        let before = listed(&manager, &["status"])["revision"].clone();
        let output = deploy(&manager, text, &["--detach", "shop"]);
        assert_says(&output, 1, parts);
        for list in ["stack", "service", "network"] {
            assert_eq!(
                count(&manager, &[list, "ls"]),
                0,
                "a {list} is left of:\n{text}"
            );
        }
        assert_eq!(
            listed(&manager, &["status"])["revision"],
            before,
            "the state was written for:\n{text}"
        );
    };

    // Both errors are told, and the service that has none isn't deployed either.
    let good = "  good:\n    image: busybox:1\n";
    let two = sleeper(
        "bad",
        &format!("    enviroment: {{A: b}}\n    deploy:\n      replcas: 2\n{good}"),
    );
    let first = "FILE:5: services.bad.enviroment: unknown key; did you mean environment?";
    let second = "FILE:7: services.bad.deploy.replcas: unknown key; did you mean replicas?";
    refuses(&two, &["2 errors", "nothing was deployed", first, second]);
    refuses(
        &sleeper("a", "    healthcheck: {}\n"),
        &["FILE:5: services.a.healthcheck", "not supported yet"],
    );
    refuses(
        &sleeper("a", "   ports: []\n"),
        &["FILE:5:", "not readable as YAML"],
    );
    refuses("", &["FILE:", "empty", "services"]);
    refuses(
        &sleeper("a", "    ports: ['99999:1']\n"),
        &["FILE:5: services.a.ports", "99999"],
    );
    refuses(&sleeper("a", "    networks: [nope]\n"), &["FILE:5", "nope"]);

    let demo = "    networks: [demo]\nnetworks:\n  demo: {external: true}\n";
    let cure = "clusterctl network create -d overlay demo";
    refuses(
        &sleeper("a", demo),
        &["network demo is external and is not there", cure],
    );

    let on_worker = deploy(&worker, &sleeper("a", ""), &["shop"]);
    assert_says(
        &on_worker,
        1,
        &[
            "this node is a worker",
            "run it on a manager",
            "node1",
            &manager.address().to_string(),
        ],
    );
    for words in [
        &["network", "create", "-d", "overlay", "demo"][..],
        &["node", "rm", "node1"],
        &["join-token", "worker"],
    ] {
        refused(
            &worker,
            words,
            &["this node is a worker", "run it on a manager", "node1"],
        );
    }
    refuses("services: {}", &["services"]);
    let missing = ctl(&manager, &["deploy", "-c", "/nowhere.yml", "shop"]);
    assert_says(&missing, 1, &["can't read", "/nowhere.yml", "No such file"]);
    assert_says(&ctl(&manager, &["deploy", "shop"]), 2, &["--compose-file"]);
}
