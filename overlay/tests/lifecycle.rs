//! What is left, what is kept, what is repaired.

mod lab;

use lab::{Cluster, Lab, Task, eventually, inside, ip, run_in, tcp};
use overlay::{Error, TaskId, linux::Ns};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

fn two_nodes() -> (Lab, Cluster, overlay::TaskNet, overlay::TaskNet) {
    let lab = Lab::new(2);
    let mut cluster = Cluster::new();
    cluster.service("web", Some("10.0.9.100"));
    let mut a = cluster.task("web", 1, 0, "10.0.9.2");
    let b = cluster.task("web", 2, 1, "10.0.9.3");
    a.ports = vec![tcp(8080, 80)];
    lab.set_view(&cluster.view);
    (lab, cluster, a, b)
}

#[test]
fn detach_leaves_nothing() {
    let lab = Lab::new(1);
    let node = &lab.nodes[0];
    let before = node.listing();
    let mut cluster = Cluster::new();
    cluster.service("web", Some("10.0.9.100"));
    let mut tasks: Vec<_> = (1..=6)
        .map(|n| cluster.task("web", n, 0, &format!("10.0.9.{}", n + 1)))
        .collect();
    for (n, task) in tasks.iter_mut().enumerate() {
        task.ports = vec![tcp(8080 + u16::try_from(n).unwrap(), 80)];
    }
    lab.set_view(&cluster.view);
    for task in &tasks {
        node.attach(task);
    }
    assert_ne!(node.listing(), before);
    for task in &tasks {
        node.detach(task);
        node.detach(task);
    }
    assert_eq!(node.listing(), before);
    // The VNI is free at once.
    node.attach(&tasks[0]).serve(80, "again");
    node.detach(&tasks[0]);
    assert_eq!(node.listing(), before);
}

#[test]
fn detach_gets_rid_of_a_namespace_that_somebody_still_holds() {
    let (lab, _, a, _) = two_nodes();
    let node = &lab.nodes[0];
    let before = node.listing();
    let task = node.attach(&a);
    task.serve(80, "held");
    node.detach(&a);
    assert_eq!(node.listing(), before);
    // The holder has the namespace, and nothing in it.
    assert!(!run_in(&task.ns, "ip -o link").contains("eth0"));
}

#[test]
fn purge_removes_every_trace() {
    let mut lab = Lab::bare(1);
    let node = &mut lab.nodes[0];
    run_in(
        &node.ns,
        "nft add table ip mine; nft add chain ip mine c; ip link add clother type veth peer name clpeer; ip link add brmine type bridge",
    );
    let before = node.listing();
    node.start();
    let mut cluster = Cluster::new();
    cluster.service("web", Some("10.0.9.100"));
    let mut a = cluster.task("web", 1, 0, "10.0.9.2");
    a.ports = vec![tcp(8080, 80)];
    let b = cluster.task("web", 2, 0, "10.0.9.3");
    node.overlay().set_view(cluster.view.clone());
    node.attach(&a);
    node.attach(&b);
    node.purge().unwrap();
    assert_eq!(node.listing(), before);
}

#[test]
fn a_restart_loses_no_packet_and_no_question() {
    let (mut lab, cluster, a, b) = two_nodes();
    let mut first = lab.nodes[0].attach(&a);
    let second = lab.nodes[1].attach(&b);
    // A stream that never pauses.
    let listener = inside(&second.ns, || TcpListener::bind("0.0.0.0:9000").unwrap());
    let client = inside(&first.ns, || {
        TcpStream::connect((ip("10.0.9.3"), 9000)).unwrap()
    });
    let server = listener.accept().unwrap().0;
    let (stop, received) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let sender = {
        let (mut client, stop) = (client, stop.clone());
        std::thread::spawn(move || {
            let mut sent = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                client.write_all(&[7; 1000]).unwrap();
                sent += 1000;
                std::thread::sleep(Duration::from_millis(1));
            }
            sent
        })
    };
    let receiver = {
        let (mut server, received) = (server, received.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4000];
            while let Ok(n @ 1..) = server.read(&mut buffer) {
                received.fetch_add(n as u64, Ordering::Relaxed);
            }
        })
    };
    // And a published port in use.
    first.serve(80, "web");
    let shim = std::mem::take(&mut first.attached.dns_fds);
    let rules = run_in(&lab.nodes[0].ns, "nft list ruleset");
    lab.nodes[0].shutdown();
    assert_eq!(run_in(&lab.nodes[0].ns, "nft list ruleset"), rules);
    // A question asked while nobody serves waits in the socket that the shim holds.
    let waiting = {
        let ns = first.ns.clone();
        std::thread::spawn(move || inside(&ns, || one_question("tasks.web")))
    };
    let before = received.load(Ordering::Relaxed);
    eventually("the stream flows on without a daemon", || {
        (received.load(Ordering::Relaxed) > before + 50_000).then_some(())
    });
    lab.nodes[0].start();
    let node = &lab.nodes[0];
    assert!(run_in(&lab.wire, "true").is_empty());
    let node_addr = node.addr;
    assert!(inside(&lab.wire, || lab::get(node_addr, 8080)).is_ok());
    node.overlay().set_view(cluster.view.clone());
    let again = node.adopt(&a, shim).unwrap();
    assert_eq!(again.gateway_addr, first.attached.gateway_addr);
    node.ready();
    assert_eq!(
        waiting.join().unwrap(),
        [ip("10.0.9.2"), ip("10.0.9.3")],
        "the question is answered"
    );
    let before = received.load(Ordering::Relaxed);
    eventually("the stream flows on", || {
        (received.load(Ordering::Relaxed) > before + 50_000).then_some(())
    });
    assert!(inside(&lab.wire, || lab::get(node_addr, 8080)).is_ok());
    stop.store(true, Ordering::Relaxed);
    let sent = sender.join().unwrap();
    receiver.join().unwrap();
    assert_eq!(sent, received.load(Ordering::Relaxed));
    drop(again);
    node.detach(&a);
}

/// Asks once and waits long, as a resolver does.
fn one_question(name: &str) -> Vec<std::net::Ipv4Addr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("127.0.0.11:53").unwrap();
    socket.set_read_timeout(Some(lab::PATIENCE)).unwrap();
    socket.send(&lab::dns::question(name, 1)).unwrap();
    let mut buffer = [0; 512];
    let n = socket.recv(&mut buffer).unwrap();
    lab::dns::addresses(&buffer[..n])
}

#[test]
fn after_a_restart_leftovers_go_when_ready_and_not_before() {
    let (mut lab, cluster, a, b) = two_nodes();
    let mut c = a.clone();
    c.id = TaskId::new("gone").unwrap();
    c.networks[0].addr = ip("10.0.9.9");
    c.ports = vec![tcp(8081, 80)];
    let empty = lab.nodes[1].listing();
    let before = lab.nodes[0].listing();
    let mut first = lab.nodes[0].attach(&a);
    lab.nodes[0].attach(&c).serve(80, "left");
    lab.nodes[1].attach(&b);
    lab.nodes[0].shutdown();
    lab.nodes[0].start();
    let node = &lab.nodes[0];
    node.overlay().set_view(cluster.view.clone());
    // Nobody kept the resolver's sockets.
    first.attached.dns_fds.clear();
    node.adopt(&a, Vec::new()).unwrap();
    node.resync();
    let full = node.listing();
    assert!(full.contains("t-gone") && full.contains("8081"), "{full}");
    node.ready();
    let full = node.listing();
    assert!(!full.contains("t-gone") && !full.contains("8081"), "{full}");
    assert!(full.contains("8080"), "{full}");
    drop(first);
    node.detach(&a);
    assert_eq!(node.listing(), before);
    // A whole node's leftovers, networks too.
    lab.nodes[1].shutdown();
    lab.nodes[1].start();
    lab.nodes[1].ready();
    assert_eq!(lab.nodes[1].listing(), empty);
    let missing = lab.nodes[1].adopt(&b, Vec::new()).unwrap_err();
    assert!(
        matches!(
            missing,
            Error::NamespaceGone { .. } | Error::UnknownNetwork { .. }
        ),
        "{missing}"
    );
}

#[test]
fn what_somebody_broke_is_repaired() {
    let (lab, _, a, b) = two_nodes();
    let node = &lab.nodes[0];
    let first = node.attach(&a);
    let second = lab.nodes[1].attach(&b);
    first.serve(80, "first");
    second.serve(80, "second");
    let network = Ns::open(&node.netns_dir().join("n-4097")).unwrap();
    let veth = run_in(
        &node.ns,
        "ip -o link | grep -o 'clg[0-9a-z]\\{12\\}' | head -1",
    );
    let veth = veth.trim();
    let wire = |what: &str, ns: &Ns, command: &str| {
        run_in(ns, command);
        node.resync();
        works(&lab, &first, what);
    };
    works(&lab, &first, "nothing broken");
    wire("vxlan port", &network, "ip link del vx0");
    wire("vxlan port down", &network, "ip link set vx0 down");
    wire(
        "vxlan port out of its bridge",
        &network,
        "ip link set vx0 nomaster",
    );
    wire("bridge", &network, "ip link del br0");
    wire(
        "forwarding entries",
        &network,
        "bridge fdb del 02:42:0a:00:09:03 dev vx0 dst 192.168.205.11",
    );
    wire(
        "neighbours",
        &network,
        "ip neigh flush dev vx0 nud permanent; ip neigh del 10.0.9.3 dev vx0 2>/dev/null; true",
    );
    wire("a task's link", &first.ns, "ip link del eth0");
    wire("a task's address", &first.ns, "ip addr flush dev eth0");
    wire("a task's route", &first.ns, "ip route del default");
    wire("a task's rules", &first.ns, "nft flush ruleset");
    wire("a gateway link", &node.ns, &format!("ip link del {veth}"));
    wire(
        "a gateway link down",
        &node.ns,
        &format!("ip link set {veth} down"),
    );
    wire(
        "a gateway link's route",
        &node.ns,
        &format!("ip addr flush dev {veth}"),
    );
    wire("the gateway bridge", &node.ns, "ip link del clgw0");
    wire("the host's rules", &node.ns, "nft flush ruleset");
    wire("one rule", &node.ns, "nft flush chain ip clusterd dnat_in");
    wire(
        "one port",
        &node.ns,
        "nft flush map ip clusterd published_tcp",
    );
    let path = &first.attached.netns;
    Ns::unmount(path).unwrap();
    node.resync();
    assert!(Ns::open(path).is_ok());
}

/// All of it: network, VIP, published port, way out.
fn works(lab: &Lab, task: &Task, what: &str) {
    let addr = lab.nodes[0].addr;
    eventually(what, || {
        let there = task.get(ip("10.0.9.3"), 80).ok()?;
        let vip = task.get(ip("10.0.9.100"), 80).ok()?;
        let published = inside(&lab.wire, || lab::get(addr, 8080)).ok()?;
        (there.starts_with("second") && !vip.is_empty() && published.starts_with("first"))
            .then_some(())
    });
    run_in(&task.ns, &format!("busybox ping -c 1 -W 2 {}", lab::WORLD));
}

#[test]
fn many_tasks_are_attached_side_by_side_and_twice_is_once() {
    let lab = Lab::new(1);
    let node = &lab.nodes[0];
    let mut cluster = Cluster::new();
    cluster.service("web", Some("10.0.9.100"));
    let tasks: Vec<_> = (1..=20)
        .map(|n| cluster.task("web", n, 0, &format!("10.0.9.{}", n + 1)))
        .collect();
    lab.set_view(&cluster.view);
    let overlay = node.overlay();
    let attached = node.run(async move {
        let calls = tasks
            .iter()
            .chain(&tasks)
            .map(|task| overlay.attach(task.clone()));
        futures_util::future::join_all(calls).await
    });
    let mut paths: Vec<_> = attached.into_iter().map(|a| a.unwrap().netns).collect();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), 20);
    let first = Ns::open(&paths[0]).unwrap();
    let listing = run_in(&first, "nft list ruleset");
    assert!(listing.contains("mod 20 map"), "{listing}");
}
