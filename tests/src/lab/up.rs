//! Making a lab.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use ipnet::Ipv4Net;
use nix::sys::statfs::{OVERLAYFS_SUPER_MAGIC, statfs};

use super::{
    clock, daemon, down,
    holder::{self, Role},
    links, names,
    node::{self, ROOT_HINT},
    record::{self, NodeRecord, Record},
};
use crate::{places, procfs::ProcessId};

/// What lab to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name.
    pub name: String,
    /// How many nodes.
    pub nodes: usize,
    /// How many of them, from node1 on, are managers.
    pub managers: usize,
    /// Its addresses; none picks a free /24.
    pub subnet: Option<Ipv4Net>,
    /// Where `lab`, `clusterd` and `clusterctl` are.
    pub bin_dir: PathBuf,
    /// Start clusterd on every node.
    pub start: bool,
    /// Make them one cluster (needs `start`).
    pub init: bool,
    /// Arguments every clusterd is started with.
    pub clusterd_args: Vec<String>,
    /// Every clusterd has a wall clock of its own, right at first.
    pub false_clocks: bool,
    /// The process that the lab must not outlive.
    pub owner: Option<ProcessId>,
}

impl Options {
    /// Two nodes, one manager, no cluster yet.
    #[must_use]
    pub fn new(name: String, bin_dir: PathBuf) -> Self {
        Self {
            name,
            nodes: 2,
            managers: 1,
            subnet: None,
            bin_dir,
            start: true,
            init: true,
            clusterd_args: vec![],
            false_clocks: false,
            owner: None,
        }
    }

    fn check(&self) -> Result<()> {
        if !nix::unistd::geteuid().is_root() {
            bail!("{ROOT_HINT}");
        }
        names::check(&self.name)?;
        if !(1..=200).contains(&self.nodes) {
            bail!("a lab has 1 to 200 nodes, not {}", self.nodes);
        }
        if !(1..=self.nodes).contains(&self.managers) {
            bail!(
                "a lab of {} nodes has 1 to {} managers, not {}",
                self.nodes,
                self.nodes,
                self.managers
            );
        }
        places::binary(&self.bin_dir, "lab")?;
        if self.start {
            places::binary(&self.bin_dir, "clusterd")?;
        }
        if self.init {
            places::binary(&self.bin_dir, "clusterctl")?;
        }
        let labs = places::labs()?;
        fs::create_dir_all(&labs).with_context(|| format!("cannot make {}", labs.display()))?;
        if statfs(&labs)?.filesystem_type() == OVERLAYFS_SUPER_MAGIC {
            bail!(
                "{} is on an overlay file system, on which containers' own overlays can't stand: \
                 set {} to a folder on ext4, xfs or tmpfs",
                labs.display(),
                places::LABS_VARIABLE
            );
        }
        Ok(())
    }
}

/// Makes a lab, telling each step to `say`. When a step fails, what was made is removed again.
pub fn up(options: &Options, say: &dyn Fn(&str)) -> Result<Record> {
    options.check()?;
    let mut record = reserve(options)?;
    let made = make(options, &mut record, say);
    if let Err(error) = made {
        return match down::down(&record.name, false) {
            Ok(_) => Err(error),
            Err(second) => Err(error.context(format!("and afterwards: {second:#}"))),
        };
    }
    Ok(record)
}

/// Puts name and subnet on record, so that no other lab takes them.
fn reserve(options: &Options) -> Result<Record> {
    let name = &options.name;
    let _lock = record::lock()?;
    if let Some(old) = Record::load(name)? {
        let alive = old
            .nodes
            .iter()
            .filter_map(|n| n.holder)
            .any(|h| h.is_alive());
        let state = if alive {
            "is up already"
        } else {
            "was left by a crash"
        };
        bail!("lab {name} {state}: run `lab down --name {name}` first, or choose another --name");
    }
    let link = names::link(name);
    if links::exists(&link) {
        bail!("interface {link} exists already: run `lab down --name {name}` first");
    }
    let subnet = choose_subnet(options)?;
    let mut record = Record::new(name.clone(), subnet, link, options.bin_dir.clone());
    record.owner = options.owner;
    record.clusterd_args.clone_from(&options.clusterd_args);
    if options.false_clocks {
        record.false_clock = Some(clock::library(&options.bin_dir)?);
    }
    for number in 1..=options.nodes {
        record.nodes.push(NodeRecord {
            name: names::node(number),
            address: names::node_address(subnet, number)?,
            manager: number <= options.managers,
            holder: None,
        });
    }
    record.save()?;
    Ok(record)
}

fn choose_subnet(options: &Options) -> Result<Ipv4Net> {
    let mut used = links::used_subnets()?;
    for other in record::all()? {
        used.extend(Record::load(&other).ok().flatten().map(|r| r.subnet));
    }
    let wanted = match options.subnet {
        Some(subnet) => subnet.trunc(),
        None if options.name == names::DEFAULT => names::default_subnet(),
        None => return names::free_subnet(&used),
    };
    match names::overlap(wanted, &used) {
        Some(taken) => {
            bail!("subnet {wanted} overlaps {taken}, in use on this machine: give another --subnet")
        }
        None => Ok(wanted),
    }
}

fn make(options: &Options, record: &mut Record, say: &dyn Fn(&str)) -> Result<()> {
    let dir = record.dir()?;
    say(&format!(
        "lab {}: {} nodes in {} ({})",
        record.name,
        options.nodes,
        record.subnet,
        dir.display()
    ));
    write_files(record, &dir)?;
    let lab = options.bin_dir.join("lab");
    record.switch = Some(holder::spawn(&lab, Role::Switch, &dir.join("switch"))?);
    record.save()?;
    for index in 0..record.nodes.len() {
        let node_dir = dir.join(&record.nodes[index].name);
        record.nodes[index].holder = Some(holder::spawn(&lab, Role::Node, &node_dir)?);
        record.save()?;
    }
    links::make(record)?;
    if options.start {
        say("starting clusterd on every node");
        for node in &record.nodes {
            daemon::start(record, &node.name)?;
        }
        if options.init {
            node::make_cluster(record, say)?;
        }
    }
    Ok(())
}

fn write_files(record: &Record, dir: &Path) -> Result<()> {
    let mut hosts = String::from("127.0.0.1 localhost\n");
    for node in &record.nodes {
        hosts += &format!("{} {}\n", node.address, node.name);
    }
    let write = || -> std::io::Result<()> {
        for node in &record.nodes {
            for part in ["state", "log"] {
                fs::create_dir_all(dir.join(&node.name).join(part))?;
            }
        }
        for point in holder::MOUNT_POINTS {
            fs::create_dir_all(point)?;
        }
        fs::write(dir.join("hosts"), hosts)?;
        // Nothing answers there unless a test does, and a loopback refuses every question at once. The
        // machine's own address would not: the kernel limits the refusals it sends over a link, and
        // each question beyond that costs a resolver its timeout, as when dockerd looks for a registry.
        fs::write(dir.join("resolv.conf"), "nameserver 127.0.0.1\n")
    };
    write().with_context(|| format!("cannot make the files of the lab in {}", dir.display()))
}
