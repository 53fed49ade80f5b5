//! A measurement: `cargo test -p raft-store --release -- --ignored --nocapture throughput`

use super::*;

async fn measure(handle: &Handle, writers: u32, total: u32) -> f64 {
    let each = total / writers;
    let began = std::time::Instant::now();
    let all: Vec<_> = (0..writers)
        .map(|w| {
            let handle = handle.clone();
            tokio::spawn(async move {
                for n in 0..each {
                    handle
                        .propose(stack(&format!("{w}-{}", n % 8)))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for one in all {
        one.await.unwrap();
    }
    f64::from(each * writers) / began.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: it prints durable proposals a second"]
async fn throughput() {
    for managers in [1, 3] {
        let dir = tempfile::tempdir().unwrap();
        let net = Net::default();
        // As a daemon has it.
        let settings = |n| Options {
            heartbeat_ms: 100,
            election_ms: 500..1_000,
            snapshot_every: 5_000,
            ..options(dir.path(), n)
        };
        let handles = cluster_with(&net, managers, settings).await;
        for (writers, total) in [(1, 2_000), (64, 12_800)] {
            let rate = measure(&handles[0], writers, total).await;
            println!("{managers} managers, {writers} writers: {rate:.0} proposals/s");
        }
        close(handles).await;
    }
}
