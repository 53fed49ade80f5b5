//! `clusterctl`: the command line of the cluster. One file per command under `commands/`.

mod cli;
mod client;
mod commands;
mod failure;
mod names;
mod output;
mod passphrase;
mod patient;
mod progress;
mod time;

use clap::Parser;

fn main() -> std::process::ExitCode {
    let cli = cli::Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("clusterctl: can't start: {error}");
            return 1.into();
        }
    };
    let outcome = runtime.block_on(commands::run(cli));
    // A read of standard input may be blocked for ever; it must not hold the exit.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code.into(),
        Err(error) => failure::report(&error),
    }
}
