//! The host's side: published ports, the way out, refusals.

mod lab;

use lab::{Cluster, Lab, WORLD, get, inside, ip, run_in, tcp};
use overlay::{Error, Protocol, PublishedPort};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};

fn one_task() -> (Cluster, overlay::TaskNet) {
    let mut cluster = Cluster::new();
    cluster.service("web", None);
    let task = cluster.task("web", 1, 0, "10.0.9.2");
    (cluster, task)
}

#[test]
fn a_published_port_keeps_the_clients_address() {
    let lab = Lab::new(1);
    let (cluster, mut web) = one_task();
    web.ports = vec![
        tcp(8080, 80),
        PublishedPort {
            protocol: Protocol::Udp,
            published: 8080,
            target: 7000,
        },
    ];
    lab.set_view(&cluster.view);
    let node = &lab.nodes[0];
    let task = node.attach(&web);
    task.serve(80, "web");
    task.serve_udp(7000, "echo ");
    let seen = inside(&lab.wire, || get(node.addr, 8080)).unwrap();
    assert_eq!(seen, format!("web {WORLD}"));
    let udp = inside(&lab.wire, || lab::ask_udp(node.addr, 8080, b"x"));
    assert_eq!(udp.unwrap(), b"echo x");
    // From the node itself, by its address and by its loopback.
    let own = inside(&node.ns, || get(node.addr, 8080)).unwrap();
    assert_eq!(own, format!("web {}", node.addr));
    assert!(
        inside(&node.ns, || get(Ipv4Addr::LOCALHOST, 8080))
            .unwrap()
            .starts_with("web 172.30.0.1")
    );
    // From a task of the node, and from the very task.
    let mut other = one_task().1;
    other.id = overlay::TaskId::new("other").unwrap();
    other.networks.clear();
    let other = node.attach(&other);
    for from in [&other, &task] {
        assert_eq!(from.get(node.addr, 8080).unwrap(), "web 172.30.0.1");
    }
    // What isn't published can't be reached by a route into the pool.
    run_in(
        &lab.wire,
        &format!("ip route add 172.30.0.0/16 via {}", node.addr),
    );
    let direct = inside(&lab.wire, || {
        std::net::TcpStream::connect_timeout(
            &(task.attached.gateway_addr, 80).into(),
            std::time::Duration::from_millis(300),
        )
    });
    assert!(direct.is_err());
    // After the task, the port is free again.
    node.detach(&web);
    drop(inside(&node.ns, || TcpListener::bind("0.0.0.0:8080")).unwrap());
    assert!(inside(&lab.wire, || get(node.addr, 8080)).is_err());
}

#[test]
fn tasks_reach_the_world_by_the_nodes_address() {
    let lab = Lab::new(1);
    let (cluster, web) = one_task();
    lab.set_view(&cluster.view);
    let node = &lab.nodes[0];
    let task = node.attach(&web);
    let listener = inside(&lab.wire, || TcpListener::bind((WORLD, 9000)).unwrap());
    let seen = std::thread::spawn(move || listener.accept().unwrap().1.ip());
    assert_eq!(task.get(WORLD, 9000).unwrap(), "");
    assert_eq!(seen.join().unwrap(), node.addr);
}

#[test]
fn a_port_that_is_taken_is_refused_by_name_and_nothing_is_left() {
    let lab = Lab::new(1);
    let node = &lab.nodes[0];
    let (mut cluster, mut web) = one_task();
    let mut second = cluster.task("web", 2, 0, "10.0.9.3");
    lab.set_view(&cluster.view);
    let before = node.listing();
    let listener = inside(&node.ns, || TcpListener::bind("0.0.0.0:8080").unwrap());
    web.ports = vec![tcp(8081, 80), tcp(8080, 80)];
    let error = node.try_attach(web.clone()).unwrap_err();
    assert!(matches!(error, Error::PortTaken { port: 8080, .. }));
    let pid = format!("(pid {})", std::process::id());
    assert!(error.to_string().contains(&pid), "{error}");
    assert_eq!(node.listing(), before);
    // The other port isn't held for a task that doesn't run.
    drop(inside(&node.ns, || TcpListener::bind("0.0.0.0:8081")).unwrap());
    drop(listener);
    let _web = node.attach(&web);
    // Now it is a task's, and another program can't have it either.
    second.ports = vec![tcp(8080, 80)];
    let error = node.try_attach(second).unwrap_err();
    assert!(
        error.to_string().contains("is taken by task web1id"),
        "{error}"
    );
    assert!(inside(&node.ns, || UdpSocket::bind("0.0.0.0:8080")).is_ok());
    assert!(inside(&node.ns, || TcpListener::bind("0.0.0.0:8080")).is_err());
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let lab = Lab::new(1);
    let node = &lab.nodes[0];
    let (cluster, good) = one_task();
    lab.set_view(&cluster.view);
    let before = node.listing();
    let refuse = |change: &dyn Fn(&mut overlay::TaskNet), says: &str| {
        let mut task = good.clone();
        change(&mut task);
        let error = node.try_attach(task).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    refuse(
        &|t| t.networks[0].addr = ip("10.9.9.9"),
        "10.9.9.9 is no host address of network demo (10.0.9.0/24)",
    );
    refuse(
        &|t| t.networks[0].addr = ip("10.0.9.255"),
        "is no host address",
    );
    refuse(
        &|t| t.networks[0].network = overlay::NetworkId::new("nonet").unwrap(),
        "network nonet is not known",
    );
    refuse(&|t| t.ports = vec![tcp(0, 80)], "port 0");
    refuse(
        &|t| t.ports = vec![tcp(80, 80), tcp(80, 81)],
        "published twice",
    );
    assert_eq!(node.listing(), before);
}

#[test]
fn a_machine_that_cannot_is_told_why() {
    let lab = Lab::bare(1);
    let node = &lab.nodes[0];
    let start = |change: &dyn Fn(&mut overlay::Config)| {
        let mut config = node.config();
        change(&mut config);
        node.run(overlay::Overlay::start(config))
            .unwrap_err()
            .to_string()
    };
    let before = node.listing();
    let error = start(&|c| c.vtep = ip("10.1.2.3"));
    assert_eq!(
        error,
        format!(
            "advertise address 10.1.2.3 is not an address of this machine, which has {}",
            node.addr
        )
    );
    let error = start(&|c| c.gateway_pools = vec!["192.168.0.0/16".parse().unwrap()]);
    assert!(error.contains("192.168.205.0/24"), "{error}");
    assert_eq!(node.listing(), before);
}
