//! Each call on the disk fails in turn, once or for good: nothing is acknowledged that is not there afterwards,
//! and who waits is told why.

use super::image::Dice;
use super::loss::quick;
use super::world::{Fault, Watched, World};
use crate::tests::*;

/// What came of a run.
struct Ran {
    acknowledged: Vec<String>,
    /// Why it ended, if it did.
    why: Option<String>,
}

/// Opens, writes, closes, opens, writes: what a manager does. It stops at the first error.
async fn run(dir: &Path, world: &Watched) -> Ran {
    let mut acknowledged = Vec::new();
    for life in 0..2 {
        world.forget();
        let net = Net::default();
        let handle = match Handle::open(quick(dir), net.links(1)).await {
            Ok(handle) => handle,
            Err(error) => {
                let why = Some(error.to_string());
                return Ran { acknowledged, why };
            }
        };
        let mut why = None;
        for n in 0..25 {
            let name = format!("{life}.{n}-{}", "x".repeat([10, 9_000, 200_000][n % 3]));
            let wrote = match (life, n) {
                (0, 0) => handle.initialize(stack(&name)).await,
                _ => handle.propose(stack(&name)).await,
            };
            match wrote {
                Ok(_) => acknowledged.push(name),
                Err(error) => {
                    why = Some(error.to_string());
                    break;
                }
            }
        }
        // One that failed says so to whoever runs it, too.
        if why.is_some() {
            let told = tokio::time::timeout(LONG, handle.failure()).await;
            why = Some(told.unwrap_or_else(|_| format!("no word of it: {why:?}")));
        }
        handle.shutdown().await;
        if why.is_some() {
            return Ran { acknowledged, why };
        }
    }
    Ran {
        acknowledged,
        why: None,
    }
}

async fn fail(fault: Fault) -> Option<String> {
    let dir = tempfile::tempdir().unwrap();
    let world = World::fail(dir.path(), Some(fault));
    let ran = tokio::time::timeout(LONG, run(dir.path(), &world)).await;
    let ran = ran.unwrap_or_else(|_| panic!("{fault:?} ({:?}): it hangs", world.failed()));
    let failed = world.failed();
    let what = format!("{fault:?} ({failed:?}), {:?}", ran.why);
    world.mend();
    let errno = std::io::Error::from_raw_os_error(fault.errno).to_string();
    let errno = errno.split(" (").next().unwrap();
    assert!(ran.why.is_none_or(|why| why.contains(errno)), "{what}");
    let handle = Handle::open(quick(dir.path()), Net::default().links(1)).await;
    let handle = handle.unwrap_or_else(|error| panic!("{what}: {error}"));
    if !ran.acknowledged.is_empty() {
        let read = handle.linearizable().await;
        read.unwrap_or_else(|error| panic!("{what}: {error}"));
        handle.read(|state| {
            for name in &ran.acknowledged {
                assert!(has(state, name), "{what}: {} is lost", &name[..5]);
            }
        });
        handle.propose(stack("after")).await.unwrap();
    }
    handle.shutdown().await;
    failed
}

async fn fail_at(calls: impl IntoIterator<Item = usize>) {
    for (n, at) in calls.into_iter().enumerate() {
        let errno = [libc::ENOSPC, libc::EIO][n % 2];
        let stays = n % 4 < 2;
        fail(Fault { at, errno, stays }).await;
    }
}

/// All calls, by what they are.
async fn kinds() -> (usize, std::collections::BTreeMap<String, Vec<usize>>) {
    let dir = tempfile::tempdir().unwrap();
    let world = World::fail(dir.path(), None);
    let ran = run(dir.path(), &world).await;
    assert_eq!((ran.acknowledged.len(), ran.why), (50, None));
    let kinds = world.kinds();
    (kinds.values().map(Vec::len).sum(), kinds)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_call_may_fail() {
    let (count, kinds) = kinds().await;
    println!("{count} calls");
    for (kind, at) in &kinds {
        println!("{kind}: {} times", at.len());
    }
    let mut dice = Dice::new(1);
    let calls = kinds.values().flat_map(|at| {
        let any = at[dice.below(at.len())];
        [at[0], any]
    });
    fail_at(calls.collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: every call of a run fails in turn"]
async fn every_call_may_fail() {
    let (count, _) = kinds().await;
    fail_at(0..count).await;
}
