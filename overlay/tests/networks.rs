//! Networks across nodes: packets, virtual addresses, names.

mod lab;

use lab::{
    Cluster, Lab,
    dns::{addresses, question, rcode},
    eventually, inside, ip, run_in,
};
use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

#[test]
fn packets_cross_nodes_by_vxlan() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::new();
    cluster.service("a", None);
    cluster.service("b", None);
    let (a, b) = (
        cluster.task("a", 1, 0, "10.0.9.2"),
        cluster.task("b", 1, 1, "10.0.9.3"),
    );
    lab.set_view(&cluster.view);
    let (a, b) = (lab.nodes[0].attach(&a), lab.nodes[1].attach(&b));
    b.serve(80, "b");
    b.serve_udp(7000, "echo ");
    assert_eq!(a.get(ip("10.0.9.3"), 80).unwrap(), "b 10.0.9.2");
    assert_eq!(
        a.ask_udp(ip("10.0.9.3"), 7000, b"hello").unwrap(),
        b"echo hello"
    );
    run_in(&a.ns, "busybox ping -c 2 -W 2 10.0.9.3");
    // The largest packet passes whole: UDP forbids fragments where it fits the link.
    let large = a.ask_udp(ip("10.0.9.3"), 7000, &[b'x'; 1450 - 28 - 5]);
    assert_eq!(large.unwrap().len(), 1450 - 28);
    // Nobody answers for an address that nobody has.
    assert!(!lab::try_in(&a.ns, "busybox ping -c 1 -W 1 10.0.9.99").0);
}

#[test]
fn tasks_of_one_node_and_of_two_networks_meet_only_where_they_should() {
    let lab = Lab::new(1);
    let mut cluster = Cluster::new();
    cluster.service("a", None);
    cluster.service("b", None);
    cluster.add_network("othernet", "other", 4098, "10.0.10.0/24");
    let mut a = cluster.task("a", 1, 0, "10.0.9.2");
    let b = cluster.task("b", 1, 0, "10.0.9.3");
    let mut c = cluster.task("b", 2, 0, "10.0.9.4");
    cluster.remove(&c);
    let other = |addr: &str| overlay::Attachment {
        network: overlay::NetworkId::new("othernet").unwrap(),
        addr: ip(addr),
        aliases: Vec::new(),
    };
    a.networks.push(other("10.0.10.2"));
    c.networks = vec![other("10.0.10.4")];
    lab.set_view(&cluster.view);
    let node = &lab.nodes[0];
    let (a, b, c) = (node.attach(&a), node.attach(&b), node.attach(&c));
    b.serve(80, "b");
    c.serve(80, "c");
    assert_eq!(a.get(ip("10.0.9.3"), 80).unwrap(), "b 10.0.9.2");
    assert_eq!(a.get(ip("10.0.10.4"), 80).unwrap(), "c 10.0.10.2");
    assert!(!lab::try_in(&b.ns, "busybox ping -c 1 -W 1 10.0.10.4").0);
    // Nor over the gateway bridge.
    let gw = c.attached.gateway_addr;
    assert!(!lab::try_in(&b.ns, &format!("busybox ping -c 1 -W 1 {gw}")).0);
}

#[test]
fn a_vip_spreads_connections_and_keeps_the_source() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::new();
    cluster.service("web", Some("10.0.9.100"));
    let specs = [
        cluster.task("web", 1, 0, "10.0.9.2"),
        cluster.task("web", 2, 1, "10.0.9.3"),
        cluster.task("web", 3, 1, "10.0.9.4"),
    ];
    lab.set_view(&cluster.view);
    let tasks = [
        lab.nodes[0].attach(&specs[0]),
        lab.nodes[1].attach(&specs[1]),
        lab.nodes[1].attach(&specs[2]),
    ];
    for (n, task) in tasks.iter().enumerate() {
        task.serve(80, &format!("web{}", n + 1));
    }
    let vip = ip("10.0.9.100");
    // Each reaches all, itself too.
    for (n, task) in tasks.iter().enumerate() {
        let own = format!("10.0.9.{}", n + 2);
        let mut heard = BTreeSet::new();
        eventually("all endpoints are reached by the vip", || {
            let text = task.get(vip, 80).unwrap();
            let (word, peer) = text.split_once(' ').unwrap();
            // From itself, the connection may seem to come from the vip: it has its own address.
            assert_eq!(peer, own, "{word}");
            heard.insert(word.to_owned());
            (heard.len() == 3).then_some(())
        });
    }
    // One that stops gets no new connection, and what isn't ready at all refuses at once.
    cluster.set_ready(&specs[0], false);
    cluster.set_ready(&specs[1], false);
    lab.set_view(&cluster.view);
    eventually("only the last is left", || {
        let all = (0..20).map(|_| tasks[0].get(vip, 80).unwrap());
        all.into_iter()
            .all(|text| text.starts_with("web3 "))
            .then_some(())
    });
    cluster.set_ready(&specs[2], false);
    lab.set_view(&cluster.view);
    // A connection that began while the rules changed may still find nobody; the next ones are refused.
    eventually("nobody is left, and connections are refused", || {
        let got = tasks[0].get(vip, 80);
        eprintln!("with nobody left: {got:?}");
        let refused = got.err()?.kind() == ErrorKind::ConnectionRefused;
        refused.then_some(())
    });
    eventually("a sender of UDP is refused, too", || {
        let got = inside(&tasks[0].ns, || {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect((vip, 80)).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_millis(1500)))
                .unwrap();
            socket.send(b"x").and_then(|_| socket.recv(&mut [0; 9]))
        });
        eprintln!("by UDP: {got:?}");
        // The kernel tells it by either, and may leave out a message to a sender when it has sent many.
        matches!(
            got.err()?.kind(),
            ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied
        )
        .then_some(())
    });
    cluster.set_ready(&specs[1], true);
    lab.set_view(&cluster.view);
    eventually("one is back", || tasks[0].get(vip, 80).ok());
    // A service that goes takes its address along.
    let listing = run_in(&tasks[0].ns, "nft list ruleset");
    assert!(listing.contains("10.0.9.100"), "{listing}");
}

#[test]
fn when_the_last_endpoint_goes_open_connections_stay_and_new_ones_are_refused() {
    let lab = Lab::new(1);
    let mut cluster = Cluster::new();
    cluster.service("web", Some("10.0.9.100"));
    let server = cluster.task("web", 1, 0, "10.0.9.2");
    let client = cluster.task("web", 2, 0, "10.0.9.3");
    cluster.set_ready(&client, false);
    lab.set_view(&cluster.view);
    let serving = lab.nodes[0].attach(&server);
    let asking = lab.nodes[0].attach(&client);
    let vip = ip("10.0.9.100");
    serving.serve(80, "web");
    let listener = inside(&serving.ns, || TcpListener::bind("0.0.0.0:81").unwrap());
    let mut open = eventually("the endpoint is reached", || {
        asking.get(vip, 80).ok()?;
        inside(&asking.ns, || TcpStream::connect((vip, 81)).ok())
    });
    open.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let (mut other, _) = listener.accept().unwrap();
    cluster.set_ready(&server, false);
    lab.set_view(&cluster.view);
    let refusal = || asking.get(vip, 80).err().map(|e| e.kind());
    eventually("connections are refused", || {
        (refusal()? == ErrorKind::ConnectionRefused).then_some(())
    });
    // The kernel lets go of the rules that were replaced some time after: whatever hung on those is gone by the end.
    for round in 0..300 {
        let refusal = refusal();
        assert_eq!(refusal, Some(ErrorKind::ConnectionRefused), "round {round}");
        open.write_all(b"ping").unwrap();
        other.read_exact(&mut [0; 4]).unwrap();
        other.write_all(b"pong").unwrap();
        open.read_exact(&mut [0; 4]).unwrap();
    }
}

/// Says so when it is dropped.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn no_connection_fails_while_endpoints_come_and_go() {
    const CHANGES: usize = 300;
    let lab = Lab::new(1);
    let mut cluster = Cluster::new();
    cluster.service("web", Some("10.0.9.100"));
    let specs = [
        cluster.task("web", 1, 0, "10.0.9.2"),
        cluster.task("web", 2, 0, "10.0.9.3"),
        cluster.task("web", 3, 0, "10.0.9.4"),
    ];
    lab.set_view(&cluster.view);
    let tasks = specs.each_ref().map(|spec| lab.nodes[0].attach(spec));
    for task in &tasks {
        task.serve(80, "web");
    }
    let vip = ip("10.0.9.100");
    eventually("the vip is there", || tasks[0].get(vip, 80).ok());
    let changed = AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        // Also when what comes now fails.
        let ends = Ends(&changed);
        let calls: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    inside(&tasks[0].ns, || {
                        let mut made = 0;
                        while !changed.load(Ordering::Relaxed) {
                            let answer = lab::get(vip, 80);
                            answer.unwrap_or_else(|e| panic!("connection {made}: {e}"));
                            made += 1;
                        }
                        made
                    })
                })
            })
            .collect();
        let rules = || run_in(&tasks[0].ns, "nft list chain ip clusterd v-10.0.9.100");
        let mut before = rules();
        for n in 0..CHANGES {
            cluster.set_ready(&specs[1], n % 2 == 1);
            lab.set_view(&cluster.view);
            // The latest picture alone counts: this one shall have been there.
            eventually("the rules are others", || {
                let now = rules();
                (now != before).then(|| before = now)
            });
        }
        drop(ends);
        let made: Vec<i32> = calls.into_iter().map(|call| call.join().unwrap()).collect();
        made.into_iter().sum::<i32>()
    });
    assert!(made > 0, "no connection was made meanwhile");
}

#[test]
fn names_are_those_of_the_tasks_networks() {
    let lab = Lab::new(1);
    let mut cluster = Cluster::new();
    cluster.service("shop_redis", Some("10.0.9.100"));
    cluster.service("shop_flask", None);
    let redis = cluster.task("shop_redis", 1, 0, "10.0.9.2");
    let flask = cluster.task("shop_flask", 1, 0, "10.0.9.3");
    lab.set_view(&cluster.view);
    let node = &lab.nodes[0];
    let task = node.attach(&flask);
    for name in [
        "redis",
        "shop_redis",
        "REDIS.",
        "redis.demo",
        "shop_redis.demo.",
    ] {
        assert_eq!(task.resolve(name), [ip("10.0.9.100")], "{name}");
    }
    for name in ["tasks.redis", "shop_redis.1", &redis.names[1]] {
        assert_eq!(task.resolve(name), [ip("10.0.9.2")], "{name}");
    }
    assert_eq!(task.resolve("flask"), [ip("10.0.9.3")]);
    assert_eq!(task.resolve("host1"), [ip("10.0.9.3")]);
    // IPv6 of a known name: known, and nothing.
    let answer = task.query("redis", 28);
    assert_eq!((rcode(&answer), addresses(&answer).len()), (0, 0));
    // Whose address is this.
    let pointer = task.query("2.9.0.10.in-addr.arpa", 12);
    let text = String::from_utf8_lossy(&pointer);
    assert!(text.contains("shop_redis"), "{text}");
    // Nobody to ask: a failure, not silence.
    assert_eq!(rcode(&task.query("example.org", 1)), 2);
    // By TCP.
    let by_tcp = inside(&task.ns, || {
        let mut stream = TcpStream::connect("127.0.0.11:53").unwrap();
        let packet = question("redis", 1);
        stream
            .write_all(&u16::try_from(packet.len()).unwrap().to_be_bytes())
            .unwrap();
        stream.write_all(&packet).unwrap();
        let mut len = [0; 2];
        stream.read_exact(&mut len).unwrap();
        let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    assert_eq!(addresses(&by_tcp), [ip("10.0.9.100")]);
    // A name is gone as soon as its task isn't ready.
    cluster.set_ready(&redis, false);
    lab.set_view(&cluster.view);
    eventually("the name is gone", || {
        task.resolve("tasks.redis").is_empty().then_some(())
    });
}

#[test]
fn other_names_are_asked_of_the_hosts_servers() {
    let lab = Lab::new(1);
    let node = &lab.nodes[0];
    let mut cluster = Cluster::new();
    cluster.service("a", None);
    let a = cluster.task("a", 1, 0, "10.0.9.2");
    lab.set_view(&cluster.view);
    let task = node.attach(&a);
    // A server on the host's loopback, which the container itself could not reach.
    let server = inside(&node.ns, || UdpSocket::bind("127.0.0.53:53").unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((n, from)) = server.recv_from(&mut buffer) {
            let mut answer = buffer[..n].to_vec();
            answer[2] |= 0x80;
            answer[7] = 1;
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 7]);
            let _ = server.send_to(&answer, from);
        }
    });
    std::fs::write(
        node.dir.path().join("resolv.conf"),
        "nameserver 127.0.0.53\n",
    )
    .unwrap();
    assert_eq!(task.resolve("example.org"), [ip("203.0.113.7")]);
    assert_eq!(task.resolve("a"), [ip("10.0.9.2")]);
}

#[test]
fn a_new_view_is_followed() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::new();
    cluster.service("web", Some("10.0.9.100"));
    let one = cluster.task("web", 1, 0, "10.0.9.2");
    lab.set_view(&cluster.view);
    let task = lab.nodes[0].attach(&one);
    let two = cluster.task("web", 2, 1, "10.0.9.3");
    lab.set_view(&cluster.view);
    lab.nodes[1].attach(&two).serve(80, "two");
    eventually("the new task's name", || {
        (task.resolve("web.2") == [ip("10.0.9.3")]).then_some(())
    });
    assert_eq!(task.get(ip("10.0.9.3"), 80).unwrap(), "two 10.0.9.2");
    lab.nodes[1].detach(&two);
    cluster.remove(&two);
    lab.set_view(&cluster.view);
    let ns = overlay::linux::Ns::open(&lab.nodes[0].netns_dir().join("n-4097")).unwrap();
    eventually("its entries are gone", || {
        let text = run_in(
            &ns,
            "bridge fdb show dev vx0 | grep dst; ip neigh show dev vx0",
        );
        (!text.contains("02:42:0a:00:09:03")).then_some(())
    });
}
