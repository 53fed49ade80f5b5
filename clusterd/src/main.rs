//! `clusterd`: the node daemon. Composes the agent and, on managers, the manager; owns the listeners, the
//! local socket, and this machine's membership.

mod address;
mod checks;
mod cli;
mod control;
mod daemon;
mod door;
mod duty;
mod follow;
mod founding;
mod identity;
mod instance;
mod join;
mod keeper;
mod listen;
mod machine;
mod member;
mod node;
mod places;
mod run;
mod vault;
mod waiting;

use anyhow::Context;
use clap::Parser;
use std::io::IsTerminal;

fn main() -> std::process::ExitCode {
    // Before anything else, and before there is a second thread: a container's own process.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "shim") {
        return std::process::ExitCode::from(u8::try_from(runtime::shim_main(args)).unwrap_or(1));
    }
    spare_memory();
    let cli = cli::Cli::parse();
    init_logs(&cli);
    match start(cli) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("clusterd: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// A daemon that mostly waits: few arenas, and what a burst has used goes back to the system.
fn spare_memory() {
    const LARGE: libc::c_int = 128 * 1024;
    for (setting, value) in [
        (libc::M_ARENA_MAX, 2),
        (libc::M_MMAP_THRESHOLD, LARGE),
        (libc::M_TRIM_THRESHOLD, LARGE),
    ] {
        // SAFETY: called before there is a second thread; a setting that is refused stays as it was.
        unsafe { libc::mallopt(setting, value) };
    }
}

fn start(cli: cli::Cli) -> anyhow::Result<()> {
    let tokio = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(64)
        .thread_name("clusterd")
        .build()
        .context("can't start the async runtime")?;
    tokio.block_on(run::run(cli))
}

/// What the consensus and its store tell of each step and each try is for who looks into them: which managers can't be
/// reached is told by the manager part, once.
const QUIET: &str = "openraft=warn,openraft::core::heartbeat=error,openraft::core::raft_core=error,\
                     openraft::engine::handler=error,openraft::replication=error,sled=warn";

/// What is logged: what the user says, and where nothing is said of the consensus and its store, little of those.
fn log_filter(asked: &str) -> String {
    let own = |part: &str| asked.contains(part);
    let quiet = QUIET
        .split(',')
        .filter(|rule| !rule.split([':', '=']).next().is_some_and(own));
    quiet.chain([asked]).collect::<Vec<_>>().join(",")
}

fn init_logs(cli: &cli::Cli) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_new(log_filter(&cli.log)).unwrap_or_else(|error| {
        eprintln!("clusterd: --log {:?}: {error}; using info", cli.log);
        EnvFilter::new(log_filter("info"))
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

#[cfg(test)]
mod tests {
    use super::log_filter;
    use tracing_subscriber::EnvFilter;

    #[test]
    fn the_consensus_is_quiet_but_for_who_asks_for_it() {
        for asked in ["info", "debug", "warn,agent=debug"] {
            let filter = log_filter(asked);
            assert!(filter.ends_with(&format!(",sled=warn,{asked}")), "{filter}");
            assert!(
                filter.contains("openraft::core::heartbeat=error"),
                "{filter}"
            );
            EnvFilter::try_new(filter).unwrap();
        }
        let asked = log_filter("info,openraft=debug");
        assert_eq!(asked, "sled=warn,info,openraft=debug");
    }
}
