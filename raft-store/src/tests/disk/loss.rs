//! The power goes at any moment: what was acknowledged is there, and nothing is there without what came before.

use super::image::{self, Dice, FATES};
use super::world::{Call, Done, World};
use crate::tests::*;
use futures_util::future::join_all;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Quick elections: there is one manager.
pub fn quick(dir: &Path) -> Options {
    Options {
        heartbeat_ms: 5,
        election_ms: 15..30,
        snapshot_every: 20,
        ..options(dir, 1)
    }
}

/// Copies of what was left, until it was found whole: with KEEP=folder the images before a failure stay there.
struct Kept(Option<PathBuf>);

impl Kept {
    fn new(dir: &Path, done: Option<&[Done]>) -> Self {
        let Some(keep) = std::env::var_os("KEEP").map(PathBuf::from) else {
            return Self(None);
        };
        let to = keep.join(format!(
            "{}-{}",
            std::process::id(),
            dir.file_name().unwrap().display()
        ));
        copy(dir, &to);
        if let Some(done) = done {
            let mut text = String::new();
            for (n, step) in done.iter().enumerate() {
                let _ = match &step.call {
                    Call::Write(path, at, bytes) => {
                        writeln!(text, "{n} write {} {at} {}", path.display(), bytes.len())
                    }
                    Call::Sync(path) => {
                        writeln!(text, "{n} sync {} covers {}", path.display(), step.covers)
                    }
                    other => writeln!(text, "{n} {other:?}"),
                };
            }
            std::fs::write(to.join("calls"), text).unwrap();
        }
        Self(Some(to))
    }

    fn forget(self) {
        if let Some(dir) = self.0 {
            let _ = std::fs::remove_dir_all(dir);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = (
            entry.as_ref().unwrap().path(),
            to.join(entry.unwrap().file_name()),
        );
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(path, to).unwrap();
        }
    }
}

/// Opens what is left: the first so many writes are there, in all of them a beginning.
async fn check(dir: &Path, names: &[String], acknowledged: usize, what: &str) {
    let net = Net::default();
    let opened = Handle::open(quick(dir), net.links(1)).await;
    let handle = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
    if acknowledged > 0 || handle.is_initialized().await {
        let read = handle.linearizable().await;
        read.unwrap_or_else(|error| panic!("{what}: {error}"));
        let found: Vec<bool> =
            handle.read(|state| names.iter().map(|name| has(state, name)).collect());
        let whole = found.iter().take_while(|is| **is).count();
        assert!(
            whole >= acknowledged,
            "{what}: of {acknowledged} writes {whole} are left"
        );
        assert!(found[whole..].iter().all(|is| !is), "{what}: {found:?}");
        // It goes on.
        let more = handle.propose(stack("more")).await;
        more.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    handle.shutdown().await;
}

async fn lose_power(seed: u64, writes: usize, cuts: usize, agains: usize) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("disk");
    std::fs::create_dir(&root).unwrap();
    let mut dice = Dice::new(seed);
    let world = World::record(&root);
    let net = Net::default();
    let handle = Handle::open(quick(&root), net.links(1)).await.unwrap();
    handle.initialize(stack("first")).await.unwrap();
    // In their order; and how many were acknowledged when so much had been done.
    let mut names = vec!["first".to_owned()];
    let mut acknowledged = vec![(world.done(), 1)];
    let sizes = [3, 500, 9_000, 40_000, 5, 200_000, 5, 700_000, 60];
    while names.len() < writes {
        let from = names.len();
        let together = (0..1 + dice.below(4)).map(|n| {
            let name = format!("{from}.{n}-{}", "x".repeat(sizes[dice.below(sizes.len())]));
            let handle = &handle;
            async move { (handle.propose(stack(&name)).await.unwrap(), name) }
        });
        let mut together = join_all(together.collect::<Vec<_>>()).await;
        together.sort();
        names.extend(together.into_iter().map(|(_, name)| name));
        acknowledged.push((world.done(), names.len()));
    }
    handle.shutdown().await;
    let done = world.take();
    for cut in 0..cuts {
        let (end, fate) = (dice.below(done.len() + 1), FATES[cut % FATES.len()]);
        let before = acknowledged.iter().rev().find(|(at, _)| *at <= end);
        let count = before.map_or(0, |(_, count)| *count);
        let what = format!(
            "seed {seed}, cut {cut} ({fate:?}) after {end} of {} calls",
            done.len()
        );
        let left = dir.path().join(format!("left{cut}"));
        image::write(&done, end, fate, &mut dice, &root, &left);
        let kept = Kept::new(&left, Some(&done[..end]));
        let world = World::record(&left);
        let base = world.done();
        check(&left, &names, count, &what).await;
        // And again, while it was repairing itself.
        let done = world.take();
        for n in 0..agains {
            let end = base + dice.below(done.len() + 1 - base);
            let fate = FATES[dice.below(FATES.len())];
            let again = dir.path().join(format!("again{cut}.{n}"));
            image::write(&done, end, fate, &mut dice, &left, &again);
            let what = format!(
                "{what}; again ({fate:?}) after {end} of {base}..{} calls",
                done.len()
            );
            let also = Kept::new(&again, Some(&done[..end]));
            check(&again, &names, count, &what).await;
            also.forget();
            let _ = std::fs::remove_dir_all(&again);
        }
        kept.forget();
        // The database may still be at it.
        let _ = std::fs::remove_dir_all(&left);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_the_loss_of_power() {
    lose_power(1, 60, 16, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: SEEDS=n says how many"]
async fn what_was_acknowledged_survives_many_losses_of_power() {
    let seeds = std::env::var("SEEDS").ok();
    for seed in 0..seeds.and_then(|n| n.parse().ok()).unwrap_or(50) {
        lose_power(seed, 80, 40, 3).await;
    }
}
