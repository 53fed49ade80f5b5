//! Figures, not assertions: run by hand with
//! `cargo test --release -p overlay --test figures -- --ignored --nocapture --test-threads 1`.

mod lab;

use lab::{Cluster, Lab, eventually, node_addr, run_in};
use overlay::linux::Ns;
use std::{
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let of = |t: nix::sys::time::TimeVal| {
        Duration::new(
            t.tv_sec().try_into().unwrap(),
            u32::try_from(t.tv_usec()).unwrap() * 1000,
        )
    };
    of(usage.user_time()) + of(usage.system_time())
}

#[test]
#[ignore = "a measurement"]
fn cost_of_100_tasks() {
    let lab = Lab::new(1);
    let node = &lab.nodes[0];
    let mut cluster = Cluster::with_network(lab::NET, "demo", 4097, "10.0.0.0/20");
    for service in 0..20_u8 {
        cluster.service(&format!("s{service}"), Some(&format!("10.0.1.{service}")));
    }
    let tasks: Vec<_> = (0..100_u8)
        .map(|n| cluster.task(&format!("s{}", n % 20), n, 0, &format!("10.0.2.{n}")))
        .collect();
    for task in &tasks {
        cluster.set_ready(task, false);
    }
    node.overlay().set_view(cluster.view.clone());
    let overlay = node.overlay();
    let (ids, calls) = (tasks.clone(), tasks.clone());
    let (start, used) = (Instant::now(), cpu());
    node.run(async move {
        let calls = calls.into_iter().map(|task| overlay.attach(task));
        for attached in futures_util::future::join_all(calls).await {
            attached.unwrap();
        }
    });
    println!(
        "attach 100: {:?} wall, {:?} cpu each",
        start.elapsed(),
        (cpu() - used) / 100
    );
    let first = Ns::open(&node.netns_dir().join(format!("t-{}", tasks[1].id))).unwrap();
    let (start, used) = (Instant::now(), cpu());
    for task in &tasks {
        cluster.set_ready(task, true);
        node.overlay().set_view(cluster.view.clone());
    }
    node.resync();
    println!(
        "100 views and a resync: {:?} wall, {:?} cpu",
        start.elapsed(),
        cpu() - used
    );
    cluster.set_ready(&tasks[0], false);
    let name = format!("{}.", tasks[0].names[0]);
    let question = lab::dns::question(&name, 1);
    let (start, used) = (Instant::now(), cpu());
    node.overlay().set_view(cluster.view.clone());
    // Names follow when all namespaces have their rules.
    lab::inside(&first, || {
        while lab::dns::rcode(&lab::ask_udp([127, 0, 0, 11].into(), 53, &question).unwrap()) == 0 {}
    });
    println!(
        "one service changes in 100 namespaces, then its name: {:?} wall, {:?} cpu",
        start.elapsed(),
        cpu() - used
    );
    let used = cpu();
    node.resync();
    println!("a resync that finds nothing: {:?} cpu", cpu() - used);
    drop(first);
    let overlay = node.overlay();
    let (start, used) = (Instant::now(), cpu());
    node.run(async move {
        let calls = ids.iter().map(|task| overlay.detach(&task.id));
        for detached in futures_util::future::join_all(calls).await {
            detached.unwrap();
        }
    });
    println!(
        "detach 100: {:?} wall, {:?} cpu each",
        start.elapsed(),
        (cpu() - used) / 100
    );
}

#[test]
#[ignore = "a measurement"]
fn throughput_beside_a_vxlan_made_by_hand() {
    let lab = Lab::new(2);
    let mut cluster = Cluster::new();
    cluster.service("web", Some("10.0.9.100"));
    let tasks = [
        cluster.task("web", 1, 0, "10.0.9.2"),
        cluster.task("web", 2, 1, "10.0.9.3"),
    ];
    cluster.set_ready(&tasks[0], false);
    lab.set_view(&cluster.view);
    let ours = [
        lab.nodes[0].attach(&tasks[0]),
        lab.nodes[1].attach(&tasks[1]),
    ];
    let by_hand: Vec<_> = (0..2_u8)
        .map(|n| {
            let (task, node) = (Ns::anonymous().unwrap(), &lab.nodes[usize::from(n)].ns);
            let there = node_addr(1 - n);
            run_in(node, &format!(
                "ip link add vxh type vxlan id 99 dstport 4790 local {} remote {there} dev und0 && ip link add brh type bridge && ip link set vxh master brh up mtu 1450 && ip link set brh up && ip link add hh mtu 1450 master brh up type veth peer name eth0 mtu 1450 netns /proc/{}/fd/{}",
                node_addr(n), std::process::id(), task.as_fd().as_raw_fd()
            ));
            run_in(&task, &format!("ip link set lo up; ip addr add 10.7.0.{}/24 dev eth0; ip link set eth0 up", n + 1));
            task
        })
        .collect();
    let measure = |server: &Ns, client: &Ns, addr: &str| {
        let mut child = server
            .run(|| {
                Ok(std::process::Command::new("iperf3")
                    .args(["-s", "-1"])
                    .stdout(std::process::Stdio::null())
                    .spawn()
                    .unwrap())
            })
            .unwrap();
        eventually("iperf3 listens", || {
            let listening = run_in(server, "ss -ltnH sport = :5201");
            (!listening.is_empty()).then_some(())
        });
        let text = run_in(
            client,
            &format!("iperf3 -J -t 4 -c {addr} | grep bits_per_second | tail -1"),
        );
        child.wait().unwrap();
        text.trim().to_owned()
    };
    for _ in 0..3 {
        println!("by hand: {}", measure(&by_hand[1], &by_hand[0], "10.7.0.2"));
        println!("overlay: {}", measure(&ours[1].ns, &ours[0].ns, "10.0.9.3"));
        println!(
            "by vip:  {}",
            measure(&ours[1].ns, &ours[0].ns, "10.0.9.100")
        );
    }
}
