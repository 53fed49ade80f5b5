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
mod member;
mod node;
mod places;
mod run;

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

fn init_logs(cli: &cli::Cli) {
    use tracing_subscriber::EnvFilter;
    // The consensus tells every step of its own; whoever wants those asks for them.
    let with_defaults =
        |filter: &str| EnvFilter::try_new(format!("openraft=warn,sled=warn,{filter}"));
    let filter = with_defaults(&cli.log).unwrap_or_else(|error| {
        eprintln!("clusterd: --log {:?}: {error}; using info", cli.log);
        EnvFilter::new("info")
    });
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
