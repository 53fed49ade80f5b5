//! The lab tool: a small network of hosts on one machine, for demo, tests, benches and curiosity.

use std::{
    ffi::OsString,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use cluster_tests::{
    lab::{
        self, Options, daemon, enter, holder,
        links::{self, Cut},
        names,
        record::{self, Record},
        status,
    },
    places,
};
use ipnet::Ipv4Net;

const EXAMPLES: &str = "\
Examples:
  lab up                                      two nodes, one manager, one cluster
  lab up --name big --nodes 5 --managers 3    another one beside it
  lab run node1 -- clusterctl node ls
  lab run node2 -- sh                         a shell on node2
  lab kill node1; lab start node1             a crash of clusterd, and its return
  lab cut node2; lab heal node2               a pulled cable
  lab logs -f node1
  lab down --all

Each node has its own network, mounts and host name: node1 is 192.168.205.10, node2 is
192.168.205.11 and so on; this machine is 192.168.205.1. The files of a lab are in
/var/tmp/cluster-lab/NAME; CLUSTER_LAB_DIR moves that.";

/// A lab: hosts in network namespaces on this machine, each with a clusterd of its own
#[derive(Parser)]
#[command(version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Args)]
struct Which {
    /// Which lab
    #[arg(long, default_value = names::DEFAULT, global = true)]
    name: String,
}

#[derive(Args)]
struct OneNode {
    /// node1, node2, ... (or just the number)
    node: String,
    #[command(flatten)]
    which: Which,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Subcommand)]
enum Cmd {
    /// Make a lab and a cluster in it
    #[command(
        after_help = "Examples:\n  lab up --nodes 3 --managers 3\n  lab up --no-init       \
        clusterd runs on every node, in no cluster yet\n  lab up --no-clusterd   bare hosts"
    )]
    Up(Up),
    /// Run a command on a node; its exit code is lab's
    #[command(after_help = "Examples:\n  lab run node1 -- clusterctl node ls\n  \
        lab run --name big node3 -- ip addr\n  lab run node2 -- sh")]
    Run {
        /// node1, node2, ... (or just the number)
        node: String,
        #[command(flatten)]
        which: Which,
        /// What to run
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Remove a lab and every trace of it, also after a crash
    Down {
        #[command(flatten)]
        which: Which,
        /// Remove all labs
        #[arg(long, conflicts_with = "name")]
        all: bool,
        /// Keep the logs
        #[arg(long)]
        keep: bool,
    },
    /// Show the labs and their nodes
    Status {
        /// Only this lab
        #[arg(long)]
        name: Option<String>,
        /// How to print it
        #[arg(long, value_enum, default_value = "table")]
        format: Format,
    },
    /// Start clusterd on a node
    Start(OneNode),
    /// Stop clusterd on a node by SIGTERM; its containers go on
    Stop(OneNode),
    /// Kill clusterd on a node by SIGKILL; its containers go on
    Kill(OneNode),
    /// Show what clusterd on a node has logged
    Logs {
        #[command(flatten)]
        of: OneNode,
        /// Go on showing what is added
        #[arg(short, long)]
        follow: bool,
        /// Only the last lines
        #[arg(short = 'n', long)]
        tail: Option<u32>,
    },
    /// Cut a node off: pull its cable
    Cut {
        #[command(flatten)]
        of: OneNode,
        /// Drop everything without a sign instead
        #[arg(long)]
        silent: bool,
    },
    /// Connect a node again
    Heal(OneNode),
}

#[derive(Args)]
struct Up {
    #[command(flatten)]
    which: Which,
    /// How many nodes
    #[arg(long, default_value_t = 2)]
    nodes: usize,
    /// How many of them are managers
    #[arg(long, default_value_t = 1)]
    managers: usize,
    /// Its addresses [default: 192.168.205.0/24 for demo, else a free one]
    #[arg(long)]
    subnet: Option<Ipv4Net>,
    /// Where clusterd and clusterctl are [default: beside lab]
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Start clusterd, but make no cluster
    #[arg(long)]
    no_init: bool,
    /// Don't even start clusterd
    #[arg(long)]
    no_clusterd: bool,
    /// Arguments for every clusterd
    #[arg(last = true)]
    clusterd_args: Vec<String>,
}

fn main() -> ExitCode {
    // Before clap and anything else: a holder is as small as it gets.
    let mut args = std::env::args_os().skip(1);
    let result = if args.next().is_some_and(|a| a == holder::COMMAND) {
        holder::main(&args.collect::<Vec<_>>())
    } else {
        act(Cli::parse().command)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lab: {e:#}");
            // What a shell answers for a command that isn't there.
            let missing = e.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
            if missing == Some(std::io::ErrorKind::NotFound) {
                ExitCode::from(127)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn act(command: Cmd) -> Result<()> {
    if !nix::unistd::geteuid().is_root() && !matches!(command, Cmd::Logs { .. }) {
        bail!("a lab needs root, for namespaces and links: run it with sudo");
    }
    match command {
        Cmd::Up(options) => up(options),
        Cmd::Run {
            node,
            which,
            command,
        } => {
            let record = Record::find(&which.name)?;
            let mut ready = enter::command(&record, &node, &command)?;
            // Only comes back if it could not be run.
            let error = ready.exec();
            Err(error).with_context(|| format!("cannot run {}", command[0].display()))
        }
        Cmd::Down { which, all, keep } => down(&which.name, all, keep),
        Cmd::Status { name, format } => show_status(name, format),
        Cmd::Start(of) => {
            let id = daemon::start(&Record::find(&of.which.name)?, &of.node)?;
            println!("{}: clusterd runs as pid {}", of.node, id.pid);
            Ok(())
        }
        Cmd::Stop(of) => daemon::stop(&Record::find(&of.which.name)?, &of.node),
        Cmd::Kill(of) => daemon::kill(&Record::find(&of.which.name)?, &of.node),
        Cmd::Cut { of, silent } => {
            let how = if silent { Cut::Silent } else { Cut::Unplugged };
            links::cut(&Record::find(&of.which.name)?, &of.node, how)
        }
        Cmd::Heal(of) => links::heal(&Record::find(&of.which.name)?, &of.node),
        Cmd::Logs { of, follow, tail } => {
            let path = daemon::log_path(&Record::find(&of.which.name)?, &of.node)?;
            let lines = tail.map_or_else(|| "+1".to_owned(), |n| n.to_string());
            let mut command = Command::new("tail");
            command
                .args(["-n", &lines])
                .args(follow.then_some("-F"))
                .arg(&path);
            Err(command.exec()).with_context(|| format!("cannot show {}", path.display()))
        }
    }
}

fn up(up: Up) -> Result<()> {
    let bin_dir = match up.bin_dir {
        Some(dir) => dir
            .canonicalize()
            .with_context(|| format!("cannot use --bin-dir {}", dir.display()))?,
        None => places::bin_dir()?,
    };
    let mut options = Options::new(up.which.name, bin_dir);
    options.nodes = up.nodes;
    options.managers = up.managers;
    options.subnet = up.subnet;
    options.start = !up.no_clusterd;
    options.init = options.start && !up.no_init;
    options.clusterd_args = up.clusterd_args;
    let record = lab::up(&options, &|step| eprintln!("{step}"))?;
    for node in &record.nodes {
        eprintln!("{}: {}", node.name, node.address);
    }
    Ok(())
}

fn down(name: &str, all: bool, keep: bool) -> Result<()> {
    let names = if all {
        record::all()?
    } else {
        vec![name.to_owned()]
    };
    let mut problems = Vec::new();
    for name in names {
        match lab::down(&name, keep) {
            Ok(logs) => logs.iter().for_each(|log| println!("{}", log.display())),
            Err(e) => problems.push(format!("{e:#}")),
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        bail!("{}", problems.join("\n"))
    }
}

fn show_status(name: Option<String>, format: Format) -> Result<()> {
    let mut labs = Vec::new();
    match name {
        Some(name) => labs.push(status::status(&Record::find(&name)?)?),
        None => {
            for name in record::all()? {
                // A folder without a record holds kept logs.
                if let Some(record) = Record::load(&name)? {
                    labs.push(status::status(&record)?);
                }
            }
        }
    }
    if format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&labs)?);
        return Ok(());
    }
    if labs.is_empty() {
        println!("no labs: make one with `lab up`");
    }
    for lab in labs {
        println!("lab {} in {} ({})", lab.name, lab.subnet, lab.dir);
        for node in lab.nodes {
            let daemon = match (node.up, node.clusterd, node.answers) {
                (false, ..) => "gone: its holder was killed".to_owned(),
                (_, None, _) => "clusterd not running".to_owned(),
                (_, Some(pid), true) => format!("clusterd {pid}"),
                (_, Some(pid), false) => format!("clusterd {pid}, not answering"),
            };
            println!(
                "  {:<8} {:<16} {:<8} {daemon}",
                node.name, node.address, node.role
            );
        }
    }
    Ok(())
}
