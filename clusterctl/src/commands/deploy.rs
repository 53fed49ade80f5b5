//! `clusterctl deploy` (and `clusterctl stack deploy`)

use super::{blob, wait};
use crate::client::Client;
use crate::{names, output, progress::Progress};
use anyhow::{Context, Result, bail};
use api::manifest;
use api::proto::{DeployStackRequest, ListServicesRequest};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Deploy a Compose file as a stack, or change the stack to what the file says
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Services that are no longer in the file are removed. Deploying the same file again changes \
                        nothing.\n\nExamples:\n  clusterctl deploy -c flask-redis.yml shop\n  clusterctl deploy --detach -c \
                        - shop < flask-redis.yml"
)]
pub struct Args {
    /// The Compose file; - reads standard input
    #[arg(short, long, value_name = "FILE")]
    compose_file: PathBuf,
    /// Don't wait until all tasks run
    #[arg(short, long)]
    detach: bool,
    /// How long to wait until all tasks run
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
    /// The stack's name
    #[arg(value_name = "STACK")]
    stack: String,
}

/// A file larger than this is no Compose file, bytes.
const FILE_LIMIT: u64 = 1 << 20;
/// A task that still runs after this long is taken for one that runs.
const STEADY: Duration = Duration::from_secs(1);

pub async fn run(client: &Client, args: Args) -> Result<()> {
    names::check_stack(&args.stack)?;
    let spec = read_manifest(&args.compose_file, &args.stack)?;
    let request = DeployStackRequest {
        spec: Some((&spec).into()),
    };
    let done = client.control().deploy_stack(request).await?.into_inner();
    let progress = Progress::start();
    for (what, names) in [
        ("created", &done.created),
        ("updated", &done.updated),
        ("removed", &done.removed),
        ("unchanged", &done.unchanged),
    ] {
        for name in names {
            progress.note(&format!("{what} {name}"));
        }
    }
    drop(progress);
    if args.detach {
        return output::line(format!("Stack {} is being deployed.", args.stack));
    }
    let filter = ListServicesRequest {
        stack: Some(args.stack.clone()),
        ..ListServicesRequest::default()
    };
    // What starts may fail then, also what a deploy before this one has begun: it is looked at a moment longer.
    let wait = wait::Wait {
        bound: Duration::from_secs(args.timeout),
        steady: STEADY,
        exact: false,
        cure: &format!("`clusterctl stack rm {}` takes the stack back", args.stack),
    };
    wait::services_running(client, &filter, wait).await?;
    output::line(format!("Stack {} is deployed: all tasks run.", args.stack))
}

fn read_manifest(path: &Path, stack: &str) -> Result<api::model::StackSpec> {
    let (shown, text) = if path == Path::new("-") {
        let text = read_limited(std::io::stdin().lock())
            .context("can't read the Compose file from standard input")?;
        (PathBuf::from("<stdin>"), text)
    } else {
        let file = std::fs::File::open(path)
            .with_context(|| format!("can't read the Compose file {}", path.display()))?;
        let text = read_limited(file)
            .with_context(|| format!("can't read the Compose file {}", path.display()))?;
        (path.to_owned(), text)
    };
    let here = std::env::current_dir().context("can't tell the current folder")?;
    let base_dir = match path.parent() {
        Some(parent) if path != Path::new("-") => here.join(parent),
        _ => here,
    };
    let env = |name: &str| std::env::var(name).ok();
    let input = manifest::Input {
        stack,
        files: vec![(shown, text)],
        env: &env,
        read_file: &blob::read_file,
        base_dir: &base_dir,
    };
    match manifest::read(input) {
        Ok((spec, warnings)) => {
            for warning in warnings {
                // With stderr closed there is nobody to tell.
                drop(writeln!(std::io::stderr().lock(), "warning: {warning}"));
            }
            Ok(spec)
        }
        Err(errors) => {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            match lines.as_slice() {
                [one] => bail!("{one}"),
                many => bail!(
                    "{} errors; nothing was deployed:\n  {}",
                    many.len(),
                    many.join("\n  ")
                ),
            }
        }
    }
}

fn read_limited(source: impl std::io::Read) -> Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    source.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_LIMIT {
        bail!("it is larger than {}", output::bytes(FILE_LIMIT));
    }
    String::from_utf8(bytes).context("it is not UTF-8 text")
}
