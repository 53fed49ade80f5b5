//! A lab that lasts as long as the test that made it.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::Result;

use super::{
    Options, down,
    node::{self, Node},
    record::Record,
    up,
};
use crate::{places, procfs::ProcessId};

/// A running lab. Dropping it removes it; during a panic the logs stay and their ends are printed.
#[derive(Debug)]
pub struct Lab {
    record: Record,
}

/// What lab to make: two nodes, one manager and one cluster unless told otherwise.
#[derive(Debug)]
pub struct Builder {
    nodes: usize,
    managers: usize,
    start: bool,
    init: bool,
    bin_dir: Option<PathBuf>,
    clusterd_args: Vec<String>,
    false_clocks: bool,
}

impl Lab {
    /// Describe the lab.
    #[must_use]
    pub fn builder() -> Builder {
        Builder {
            nodes: 2,
            managers: 1,
            start: true,
            init: true,
            bin_dir: None,
            clusterd_args: vec![],
            false_clocks: false,
        }
    }

    /// The node of this number, counted from 1.
    ///
    /// # Panics
    /// When the lab has no such node.
    #[must_use]
    pub fn node(&self, number: usize) -> Node<'_> {
        match Node::find(&self.record, &format!("node{number}")) {
            Ok(node) => node,
            Err(e) => panic!("{e}"),
        }
    }

    /// All nodes, node1 first.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        (1..=self.record.nodes.len()).map(|number| self.node(number))
    }

    /// What is on record of it.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The address by which nodes reach the machine.
    pub fn host_address(&self) -> Result<std::net::Ipv4Addr> {
        super::names::host_address(self.record.subnet)
    }

    /// Makes one cluster of the nodes, where the builder was told not to.
    pub fn make_cluster(&self) -> Result<()> {
        node::make_cluster(&self.record, &|_| ())
    }

    /// Waits until node1's list shows every node Ready.
    pub fn wait_ready(&self) -> Result<()> {
        node::wait_ready(&self.record)
    }
}

impl Builder {
    /// How many nodes.
    #[must_use]
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// How many of them are managers, from node1 on.
    #[must_use]
    pub fn managers(mut self, managers: usize) -> Self {
        self.managers = managers;
        self
    }

    /// Whether to make one cluster of the nodes.
    #[must_use]
    pub fn init(mut self, init: bool) -> Self {
        self.init = init;
        self
    }

    /// Whether to start clusterd; without it there is no cluster either.
    #[must_use]
    pub fn start(mut self, start: bool) -> Self {
        self.start = start;
        self
    }

    /// An argument for every clusterd.
    #[must_use]
    pub fn clusterd_arg(mut self, arg: impl Into<String>) -> Self {
        self.clusterd_args.push(arg.into());
        self
    }

    /// Gives every clusterd a wall clock of its own, which [`Node::set_clock`] makes wrong.
    #[must_use]
    pub fn false_clocks(mut self) -> Self {
        self.false_clocks = true;
        self
    }

    /// Where the binaries are; those built together with the test otherwise.
    #[must_use]
    pub fn bin_dir(mut self, dir: PathBuf) -> Self {
        self.bin_dir = Some(dir);
        self
    }

    /// Makes the lab, after removing those of tests that were killed.
    pub fn up(self) -> Result<Lab> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        down::down_orphans()?;
        let own = ProcessId::own()?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let bin_dir = self.bin_dir.map_or_else(places::bin_dir, Ok)?;
        let mut options = Options::new(format!("t{}-{count}", own.pid), bin_dir);
        options.nodes = self.nodes;
        options.managers = self.managers;
        options.start = self.start;
        options.init = self.start && self.init;
        options.clusterd_args = self.clusterd_args;
        options.false_clocks = self.false_clocks;
        options.owner = Some(own);
        Ok(Lab {
            record: up(&options, &|_| ())?,
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let panicking = std::thread::panicking();
        if panicking {
            for node in self.nodes() {
                eprintln!(
                    "--- end of the log of {} ---\n{}",
                    node.name(),
                    node.log_tail(40)
                );
            }
        }
        match down::down(&self.record.name, panicking) {
            Ok(logs) => logs
                .iter()
                .for_each(|log| eprintln!("whole log: {}", log.display())),
            // A test that leaves something behind has failed.
            Err(e) if !panicking => panic!("{e:#}"),
            Err(e) => eprintln!("{e:#}"),
        }
    }
}
