//! The lab itself: bare hosts, no clusterd.

use std::{path::Path, time::Duration};

use cluster_tests::{
    Lab,
    lab::{Options, down, links, links::Cut, record, record::Record, up},
    places, procfs,
    procfs::ProcessId,
    wait_for,
};

fn bare(nodes: usize) -> Lab {
    Lab::builder()
        .nodes(nodes)
        .start(false)
        .up()
        .expect("a lab")
}

fn reaches(lab: &Lab, from: usize, to: &str) -> bool {
    let words = ["busybox", "ping", "-c1", "-W1", to];
    lab.node(from).run(words).expect("busybox runs").success()
}

/// Nothing of this lab is on the machine any more.
fn assert_gone(record: &Record) {
    assert!(!links::exists(&record.link), "link {} is left", record.link);
    assert!(
        !record.dir().expect("a folder").exists(),
        "the folder is left"
    );
    let holders: Vec<ProcessId> = record.nodes.iter().filter_map(|n| n.holder).collect();
    assert!(holders.iter().all(|h| !h.is_alive()), "a holder is left");
}

#[test]
fn hosts_have_names_addresses_and_reach_each_other() {
    let lab = bare(3);
    for (number, node) in (1..).zip(lab.nodes()) {
        assert_eq!(
            node.run_ok(["hostname"]).expect("hostname").trim(),
            format!("node{number}")
        );
    }
    assert!(reaches(&lab, 1, "node2") && reaches(&lab, 3, "node1"));
    assert!(reaches(
        &lab,
        2,
        &lab.host_address().expect("address").to_string()
    ));
    let own = lab.node(1).run_ok(["ls", "/sys/class/net"]).expect("ls");
    assert_eq!(own.split_whitespace().collect::<Vec<_>>(), ["eth0", "lo"]);
}

#[test]
fn nodes_share_no_state() {
    let lab = bare(2);
    for dir in ["/var/lib/clusterd", "/run/clusterd", "/run/netns"] {
        lab.node(1)
            .run_ok(["touch", &format!("{dir}/mine")])
            .expect("touch");
        assert_eq!(
            lab.node(2).run_ok(["ls", dir]).expect("ls"),
            "",
            "{dir} is shared"
        );
        assert!(
            !Path::new(dir).join("mine").exists(),
            "{dir} is the machine's"
        );
    }
}

#[test]
fn a_cut_node_is_alone_until_healed() {
    let lab = bare(2);
    for how in [Cut::Unplugged, Cut::Silent] {
        lab.node(2).cut(how).expect("cut");
        assert!(!reaches(&lab, 1, "node2"), "{how:?}");
        lab.node(2).heal().expect("heal");
        wait_for("node2 is back", Duration::from_secs(20), || {
            Ok(reaches(&lab, 1, "node2"))
        })
        .expect("healed");
    }
}

#[test]
fn down_finds_what_a_crash_left_and_nothing_else() {
    let (lab, other) = (bare(2), bare(1));
    // As a daemon's containers are: own mounts, own network, not a child of anything of the lab.
    let script = "setsid unshare -m -n sh -c 'sleep 100000 & sleep 100000' </dev/null >/dev/null 2>&1 &
        ip netns add inner; setsid nsenter --net=/run/netns/inner sleep 100000 </dev/null >/dev/null 2>&1 &";
    lab.node(1).run_ok(["sh", "-c", script]).expect("runs");
    let inside = || -> Vec<ProcessId> {
        let marker = format!(
            "cluster-lab:{}",
            lab.record().node_dir("node1").expect("a folder").display()
        );
        let all = procfs::processes().expect("processes");
        let ours = all
            .iter()
            .filter(|p| p.command == "sleep" && p.state != 'Z');
        let ours = ours.filter(|p| procfs::mounts(p.id.pid).iter().any(|m| m.source == marker));
        ours.map(|p| p.id).collect()
    };
    wait_for("three sleep", Duration::from_secs(20), || {
        Ok(inside().len() == 3)
    })
    .expect("they run");
    let sleepers = inside();
    for node in lab.record().nodes.iter().filter_map(|n| n.holder) {
        node.signal(libc::SIGKILL).expect("kill");
    }
    let record = lab.record().clone();
    down(&record.name, false).expect("down");
    assert_gone(&record);
    assert!(sleepers.iter().all(|s| !s.is_alive()), "a process is left");
    assert_eq!(
        other
            .node(1)
            .run_ok(["hostname"])
            .expect("the other lab lives")
            .trim(),
        "node1"
    );
    down(&record.name, false).expect("down again is no error");
}

#[test]
fn a_lab_of_a_dead_owner_is_removed_by_the_next() {
    let mut child = std::process::Command::new("true")
        .spawn()
        .expect("true runs");
    let pid = i32::try_from(child.id()).expect("a pid");
    let owner = ProcessId::of(pid).expect("not reaped yet");
    child.wait().expect("ends");
    let mut options = Options::new(
        format!("orphan-{}", std::process::id()),
        places::bin_dir().expect("a folder"),
    );
    (options.start, options.init, options.owner) = (false, false, Some(owner));
    let orphan = up(&options, &|_| ()).expect("a lab");
    let _next = bare(1);
    assert_gone(&orphan);
}

#[test]
fn what_can_not_be_made_leaves_nothing() {
    let lab = bare(1);
    let name = format!("bad-{}", std::process::id());
    let mut options = Options::new(name.clone(), places::bin_dir().expect("a folder"));
    (options.start, options.init) = (false, false);
    let refused = |change: &dyn Fn(&mut Options), reason: &str| {
        let mut changed = options.clone();
        change(&mut changed);
        let error = format!("{:#}", up(&changed, &|_| ()).expect_err(reason));
        assert!(error.contains(reason), "{error}");
        assert!(
            !record::all().expect("labs").contains(&name),
            "{reason}: a folder is left"
        );
    };
    refused(&|o| o.nodes = 0, "1 to 200 nodes");
    refused(&|o| o.managers = 3, "1 to 2 managers");
    refused(&|o| o.name = "No Name".into(), "is no name for a lab");
    refused(&|o| o.subnet = Some(lab.record().subnet), "overlaps");
    refused(
        &|o| o.subnet = Some("10.213.0.0/29".parse().expect("a subnet")),
        "too small",
    );
    refused(
        &|o| o.bin_dir = "/nowhere".into(),
        "there is no lab in /nowhere",
    );
}

/// Measured with this going wrong, Docker Swarm was four times as slow as it is.
#[test]
fn a_node_without_name_servers_is_told_so_at_once() {
    let lab = bare(1);
    let list = lab
        .node(1)
        .run_ok(["cat", "/etc/resolv.conf"])
        .expect("a resolv.conf");
    let server = list.split_whitespace().nth(1).expect("a server").to_owned();
    let pid = lab.node(1).holder_pid().expect("a holder");
    let unanswered = std::thread::spawn(move || {
        let namespace = std::fs::File::open(format!("/proc/{pid}/ns/net")).expect("a namespace");
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("enter");
        let ask = || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket
                .set_read_timeout(Some(Duration::from_secs(5)))
                .expect("a timeout");
            socket.connect((server.as_str(), 53)).expect("connects");
            socket.send(b"a question").expect("sends");
            socket
                .recv(&mut [0; 16])
                .expect_err("nobody answers")
                .kind()
        };
        (0..50)
            .filter(|_| ask() != std::io::ErrorKind::ConnectionRefused)
            .count()
    });
    assert_eq!(
        unanswered.join().expect("asked"),
        0,
        "questions wait for a timeout"
    );
}
