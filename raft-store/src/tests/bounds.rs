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
