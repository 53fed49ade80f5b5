//! What is on the disk is bounded, however much was written.

use super::*;
use std::fs;

fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().filter_map(Result::ok);
    let sizes = entries.map(|entry| match entry.path().is_dir() {
        true => size(&entry.path()),
        // It may be gone by now.
        false => entry.metadata().map_or(0, |file| file.len()),
    });
    sizes.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_is_bounded_however_much_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let mut settings = options(dir.path(), 1);
    settings.snapshot_every = 50;
    let handle = open_with(&net, 1, settings).await;
    handle.initialize(stack("first")).await.unwrap();
    let large = "x".repeat(20_000);
    let mut sizes = Vec::new();
    for _ in 0..6 {
        // Some come, the same go.
        for n in 0..100 {
            let name = format!("{n}-{large}");
            handle.propose(stack(&name)).await.unwrap();
            let gone = Transaction {
                at: Timestamp(1),
                ops: vec![Op::RemoveStack(name)],
            };
            handle.propose(gone).await.unwrap();
        }
        sizes.push(size(&dir.path().join("1")));
    }
    // 24 MB were written; what is kept are the entries of two snapshots' time.
    let written = 6 * 200 * 20_000;
    assert!(sizes[5] < written / 2, "{sizes:?}");
    assert!(sizes[5] <= sizes[2] * 3 / 2, "it grows: {sizes:?}");
    let snapshots = fs::read_dir(dir.path().join("1/snapshots")).unwrap();
    assert!(snapshots.count() <= 3, "old ones are removed");
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn few_large_entries_are_cut_as_many_small_ones_are() {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let mut settings = options(dir.path(), 1);
    settings.snapshot_every = 1_000_000;
    settings.snapshot_bytes = 4 << 20;
    let handle = open_with(&net, 1, settings.clone()).await;
    handle.initialize(stack("first")).await.unwrap();
    let round = async |handle: &Handle, n: u32| {
        let name = format!("{n}-{}", "x".repeat(500_000));
        handle.propose(stack(&name)).await.unwrap();
        let gone = Transaction {
            at: Timestamp(1),
            ops: vec![Op::RemoveStack(name)],
        };
        handle.propose(gone).await.unwrap();
    };
    for n in 0..60 {
        round(&handle, n).await;
    }
    // What was written before counts, too.
    handle.shutdown().await;
    let handle = open_with(&net, 1, settings).await;
    handle.linearizable().await.unwrap();
    for n in 60..240 {
        round(&handle, n).await;
    }
    handle.linearizable().await.unwrap();
    // 240 MB were written. Of the entries are left those since the snapshot before the last, some 10 MB, and the
    // database's file grows to several times that, and no further.
    until("the log is cut", || {
        size(&dir.path().join("1")) < 120_000_000
    })
    .await;
    handle.shutdown().await;
}

/// A state of so many MB; a manager joins it while another task writes. How many writes were made meanwhile, and
/// how long the slowest took.
async fn join_a_large_state(megabytes: usize) -> (usize, Duration) {
    let dir = tempfile::tempdir().unwrap();
    let net = Net::default();
    let mut handles = cluster(&net, dir.path(), 1).await;
    for n in 0..megabytes {
        let name = format!("{n}-{}", "x".repeat(1 << 20));
        handles[0].propose(stack(&name)).await.unwrap();
    }
    // A snapshot holds them, and the log no more.
    for n in 0..600 {
        handles[0]
            .propose(stack(&format!("small {n}")))
            .await
            .unwrap();
    }
    handles.push(open(&net, dir.path(), 2).await);
    let (joined, mut until) = tokio::sync::oneshot::channel::<()>();
    let leader = handles[0].clone();
    let writer = tokio::spawn(async move {
        let (mut writes, mut slowest) = (0, Duration::ZERO);
        while until.try_recv().is_err() {
            let begun = std::time::Instant::now();
            leader
                .propose(stack(&format!("meanwhile {writes}")))
                .await
                .unwrap();
            slowest = slowest.max(begun.elapsed());
            writes += 1;
        }
        (writes, slowest)
    });
    handles[0].add_manager(NodeId(2), addr(2)).await.unwrap();
    joined.send(()).unwrap();
    let (writes, slowest) = writer.await.unwrap();
    assert!(net.snapshots() > 0, "it came by a snapshot");
    let last = format!("meanwhile {}", writes - 1);
    until_has(&handles[1], &last).await;
    handles[1].read(|state| assert_eq!(state.stacks().len(), 1 + megabytes + 600 + writes));
    close(handles).await;
    (writes, slowest)
}

async fn until_has(handle: &Handle, name: &str) {
    until("it has caught up", || handle.read(|state| has(state, name))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_joins_a_large_state_and_writes_go_on() {
    let (writes, _) = join_a_large_state(16).await;
    assert!(writes > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: minutes, and some GiB; prints the slowest write and the most memory"]
async fn a_manager_joins_500_mb() {
    let (writes, slowest) = join_a_large_state(500).await;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM"));
    println!("{writes} writes meanwhile, the slowest {slowest:?}; {peak:?}");
}
