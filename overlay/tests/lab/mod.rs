//! Nodes in network namespaces, joined by a bridge; each node's overlay runs on a thread of its own
//! inside its node's namespace.
#![allow(dead_code)]

pub mod dns;

use ipnet::Ipv4Net;
use overlay::{
    Attached, Attachment, Config, Endpoint, Network, NetworkId, Overlay, Protocol, PublishedPort,
    Service, ServiceId, TaskId, TaskNet, View, linux::Ns,
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    future::Future,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
    pin::Pin,
    process::Command,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How long anything may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Waits until `check` gives something.
pub fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < until, "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Runs a program in a namespace and returns its output; it must succeed.
pub fn run_in(ns: &Ns, command: &str) -> String {
    let (ok, text) = try_in(ns, command);
    assert!(ok, "{command}: {text}");
    text
}

/// Runs a program in a namespace: whether it succeeded, and its output.
pub fn try_in(ns: &Ns, command: &str) -> (bool, String) {
    ns.run(|| {
        let output = Command::new("sh").args(["-c", command]).output().unwrap();
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        Ok((output.status.success(), text))
    })
    .unwrap()
}

/// Runs `f` in a namespace.
pub fn inside<T: Send>(ns: &Ns, f: impl FnOnce() -> T + Send) -> T {
    ns.run(|| Ok(f())).unwrap()
}

fn path_of(ns: &Ns) -> String {
    format!("/proc/{}/fd/{}", std::process::id(), ns.as_fd().as_raw_fd())
}

pub struct Lab {
    pub wire: Ns,
    pub nodes: Vec<Node>,
}

pub struct Node {
    pub ns: Ns,
    pub addr: Ipv4Addr,
    pub dir: TempDir,
    pub overlay: Option<Arc<Overlay>>,
    jobs: Option<tokio::sync::mpsc::UnboundedSender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Address of node `n` on the wire.
pub fn node_addr(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 205, 10 + n)
}

/// Address of the outside world on the wire.
pub const WORLD: Ipv4Addr = Ipv4Addr::new(192, 168, 205, 1);

impl Lab {
    /// Nodes with their overlays started.
    pub fn new(nodes: u8) -> Self {
        let mut lab = Self::bare(nodes);
        for node in &mut lab.nodes {
            node.start();
        }
        lab
    }

    /// Nodes without overlays.
    pub fn bare(nodes: u8) -> Self {
        let wire = Ns::anonymous().unwrap();
        run_in(
            &wire,
            &format!(
                "ip link set lo up; ip link add br0 type bridge && ip link set br0 up && ip addr add {WORLD}/24 dev br0"
            ),
        );
        let nodes = (0..nodes).map(|n| Node::new(&wire, n)).collect();
        Self { wire, nodes }
    }

    pub fn set_view(&self, view: &View) {
        for node in &self.nodes {
            node.overlay().set_view(view.clone());
        }
    }
}

impl Node {
    fn new(wire: &Ns, n: u8) -> Self {
        let ns = Ns::anonymous().unwrap();
        let addr = node_addr(n);
        run_in(
            wire,
            &format!(
                "ip link add n{n} master br0 up type veth peer name und0 netns {}",
                path_of(&ns)
            ),
        );
        run_in(
            &ns,
            &format!(
                "ip link set lo up && ip addr add {addr}/24 dev und0 && ip link set und0 up && ip route add default via {WORLD}"
            ),
        );
        let (jobs, mut queue) = tokio::sync::mpsc::unbounded_channel::<Job>();
        let inside = ns.clone();
        let thread = thread::spawn(move || {
            inside.enter().unwrap();
            let rt = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            rt.block_on(async {
                while let Some(job) = queue.recv().await {
                    tokio::spawn(job);
                }
            });
        });
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("resolv.conf"), "").unwrap();
        Self {
            ns,
            addr,
            dir,
            overlay: None,
            jobs: Some(jobs),
            thread: Some(thread),
        }
    }

    /// Runs a future on the node's thread.
    pub fn run<T: Send + 'static>(&self, f: impl Future<Output = T> + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        let job: Job = Box::pin(async move {
            let _ = done.send(f.await);
        });
        assert!(self.jobs.as_ref().unwrap().send(job).is_ok());
        result.recv().expect("the node's thread works")
    }

    pub fn config(&self) -> Config {
        Config {
            resolv_conf: self.dir.path().join("resolv.conf"),
            ..Config::new(self.dir.path().join("run"), self.addr)
        }
    }

    pub fn netns_dir(&self) -> PathBuf {
        self.dir.path().join("run/netns")
    }

    pub fn start(&mut self) {
        let overlay = self.run(Overlay::start(self.config())).unwrap();
        self.overlay = Some(Arc::new(overlay));
    }

    pub fn overlay(&self) -> Arc<Overlay> {
        self.overlay.clone().unwrap()
    }

    pub fn try_attach(&self, task: TaskNet) -> overlay::Result<Attached> {
        let overlay = self.overlay();
        self.run(async move { overlay.attach(task).await })
    }

    pub fn attach(&self, task: &TaskNet) -> Task {
        Task::new(self.try_attach(task.clone()).unwrap())
    }

    pub fn adopt(&self, task: &TaskNet, fds: Vec<OwnedFd>) -> overlay::Result<Attached> {
        let (overlay, task) = (self.overlay(), task.clone());
        self.run(async move { overlay.adopt(task, fds).await })
    }

    pub fn detach(&self, task: &TaskNet) {
        let (overlay, id) = (self.overlay(), task.id.clone());
        self.run(async move { overlay.detach(&id).await }).unwrap();
    }

    pub fn ready(&self) {
        let overlay = self.overlay();
        self.run(async move { overlay.ready().await }).unwrap();
    }

    pub fn resync(&self) {
        let overlay = self.overlay();
        self.run(async move { overlay.resync().await }).unwrap();
    }

    pub fn shutdown(&mut self) {
        let overlay = self.overlay.take().unwrap();
        self.run(async move { overlay.shutdown().await });
    }

    pub fn purge(&mut self) -> overlay::Result<()> {
        let overlay = self.overlay.take().unwrap();
        self.run(async move { overlay.purge().await })
    }

    /// Everything that could be left behind, as text.
    pub fn listing(&self) -> String {
        let mut text = run_in(
            &self.ns,
            "ip -o link | cut -d: -f2; ip -4 addr show | grep inet; ip route | sed 's/ linkdown//'; nft list ruleset",
        );
        if let Ok(folder) = std::fs::read_dir(self.netns_dir()) {
            let mut names: Vec<_> = folder.map(|e| e.unwrap().file_name()).collect();
            names.sort();
            let _ = writeln!(text, "{names:?}");
        }
        text
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.overlay.is_some() {
            let purged = self.purge();
            if !thread::panicking() {
                purged.unwrap();
            }
        }
        self.jobs = None;
        let _ = self.thread.take().unwrap().join();
        // What a failed test left mounted.
        if let Ok(folder) = std::fs::read_dir(self.netns_dir()) {
            for entry in folder.flatten() {
                let _ = Ns::unmount(&entry.path());
            }
        }
    }
}

/// An attached task, with its namespace open.
pub struct Task {
    pub ns: Ns,
    pub attached: Attached,
}

impl Task {
    pub fn new(attached: Attached) -> Self {
        Self {
            ns: Ns::open(&attached.netns).unwrap(),
            attached,
        }
    }

    /// Serves TCP on `port` from a thread: each connection hears `word` and the client's address.
    pub fn serve(&self, port: u16, word: &str) {
        let listener = inside(&self.ns, || {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
        });
        let word = word.to_owned();
        thread::spawn(move || {
            use std::io::Write;
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let peer = stream.peer_addr().unwrap().ip();
                let _ = write!(stream, "{word} {peer}");
            }
        });
    }

    /// Serves UDP on `port`, echoing with `word` before.
    pub fn serve_udp(&self, port: u16, word: &str) {
        let socket = inside(&self.ns, || {
            UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
        });
        let word = word.to_owned();
        thread::spawn(move || {
            let mut buffer = [0; 2000];
            while let Ok((n, from)) = socket.recv_from(&mut buffer) {
                let mut answer = word.clone().into_bytes();
                answer.extend_from_slice(&buffer[..n]);
                let _ = socket.send_to(&answer, from);
            }
        });
    }

    pub fn get(&self, addr: Ipv4Addr, port: u16) -> std::io::Result<String> {
        inside(&self.ns, || get(addr, port))
    }

    pub fn ask_udp(&self, addr: Ipv4Addr, port: u16, text: &[u8]) -> Option<Vec<u8>> {
        inside(&self.ns, || ask_udp(addr, port, text))
    }

    /// Addresses of a name, by the resolver over UDP.
    pub fn resolve(&self, name: &str) -> Vec<Ipv4Addr> {
        let answer = self.query(name, 1);
        dns::addresses(&answer)
    }

    /// The resolver's whole answer over UDP.
    pub fn query(&self, name: &str, kind: u16) -> Vec<u8> {
        let question = dns::question(name, kind);
        self.ask_udp(Ipv4Addr::new(127, 0, 0, 11), 53, &question)
            .expect("the resolver answers")
    }
}

/// What a TCP server says, from the calling thread's namespace.
pub fn get(addr: Ipv4Addr, port: u16) -> std::io::Result<String> {
    use std::io::Read;
    let to = SocketAddr::from((addr, port));
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// A UDP answer, asked a few times: a packet may be lost anywhere.
pub fn ask_udp(addr: Ipv4Addr, port: u16, text: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect(SocketAddrV4::new(addr, port)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(1500)))
        .unwrap();
    let mut buffer = [0; 4096];
    for _ in 0..4 {
        if socket.send(text).is_ok()
            && let Ok(n) = socket.recv(&mut buffer)
        {
            return Some(buffer[..n].to_vec());
        }
    }
    None
}

/// A view in the making, and the tasks in it.
pub struct Cluster {
    pub view: View,
}

pub const NET: &str = "demonet";

impl Cluster {
    /// One network `demo`, `10.0.9.0/24`.
    pub fn new() -> Self {
        Self::with_network(NET, "demo", 4097, "10.0.9.0/24")
    }

    pub fn with_network(id: &str, name: &str, vni: u32, subnet: &str) -> Self {
        let mut cluster = Self {
            view: View::default(),
        };
        cluster.add_network(id, name, vni, subnet);
        cluster
    }

    pub fn add_network(&mut self, id: &str, name: &str, vni: u32, subnet: &str) {
        self.view.networks.insert(
            NetworkId::new(id).unwrap(),
            Arc::new(Network {
                name: name.into(),
                vni,
                subnet: subnet.parse::<Ipv4Net>().unwrap(),
                endpoints: BTreeMap::new(),
                services: BTreeMap::new(),
            }),
        );
    }

    fn network(&mut self) -> &mut Network {
        Arc::make_mut(
            self.view
                .networks
                .get_mut(&NetworkId::new(NET).unwrap())
                .unwrap(),
        )
    }

    pub fn service(&mut self, name: &str, vip: Option<&str>) {
        let short = name.rsplit_once('_').map_or(name, |(_, short)| short);
        self.network().services.insert(
            ServiceId::new(name).unwrap(),
            Service {
                names: vec![name.into(), short.into()],
                stack: name.rsplit_once('_').map(|(stack, _)| stack.to_owned()),
                vip: vip.map(|vip| vip.parse().unwrap()),
            },
        );
    }

    /// Slot `slot` of a service on node `node`, as an endpoint and as what its node attaches.
    pub fn task(&mut self, service: &str, slot: u8, node: u8, addr: &str) -> TaskNet {
        let addr: Ipv4Addr = addr.parse().unwrap();
        let id = TaskId::new(format!("{}{slot}id", service.replace('_', "-"))).unwrap();
        let names = vec![
            format!("{service}.{slot}"),
            format!("{service}.{slot}.{id}"),
        ];
        self.network().endpoints.insert(
            id.clone(),
            Endpoint {
                addr,
                node: node_addr(node),
                service: Some(ServiceId::new(service).unwrap()),
                names: names.clone(),
                aliases: Vec::new(),
                ready: true,
            },
        );
        TaskNet {
            id,
            hostname: format!("host{slot}"),
            names,
            networks: vec![Attachment {
                network: NetworkId::new(NET).unwrap(),
                addr,
                aliases: Vec::new(),
            }],
            ports: Vec::new(),
        }
    }

    pub fn set_ready(&mut self, task: &TaskNet, ready: bool) {
        if let Some(endpoint) = self.network().endpoints.get_mut(&task.id) {
            endpoint.ready = ready;
        }
    }

    pub fn remove(&mut self, task: &TaskNet) {
        self.network().endpoints.remove(&task.id);
    }
}

pub fn tcp(published: u16, target: u16) -> PublishedPort {
    PublishedPort {
        protocol: Protocol::Tcp,
        published,
        target,
    }
}

pub fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}
