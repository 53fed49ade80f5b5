//! The log by itself: what a crash leaves, what is damaged, what is large.

use super::*;
use crate::types::Proposal;
use crate::wire;
use api::proto;
use openraft::EntryPayload;
use openraft::type_config::TypeConfigExt;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn id(index: u64) -> LogId {
    let leader = Some(proto::LeaderId { term: 1, node: 1 });
    wire::read_log_id(&proto::LogId { leader, index }).unwrap()
}

fn entry(index: u64, bytes: usize) -> Entry {
    let fill = u8::try_from(index % 251).unwrap();
    Entry::new(
        id(index),
        EntryPayload::Normal(Proposal(vec![fill; bytes].into())),
    )
}

fn sealed() -> Cover {
    Cover::Sealed(seal::DataKey::from([7; 32]))
}

async fn open(dir: &Path) -> Log {
    let mut log = Log::open(dir, sealed(), File::sync_data).unwrap();
    log.tidy().await.unwrap();
    log
}

async fn append(log: &mut Log, entries: Vec<Entry>) {
    let (tx, done) = <TypeConfig as TypeConfigExt>::oneshot();
    log.append(entries, IOFlushed::signal(tx)).await.unwrap();
    done.await.unwrap().unwrap();
}

async fn close(log: Log) {
    let (flusher, dir) = (log.flusher(), log.dir());
    drop(log);
    tokio::task::spawn_blocking(move || {
        flusher.close();
        database::wait_until_free(&dir);
    })
    .await
    .unwrap();
}

fn indexes(log: &Log) -> Vec<u64> {
    log.read(.., usize::MAX)
        .unwrap()
        .iter()
        .map(|entry| entry.log_id().index)
        .collect()
}

/// Every range, as it is told and as it stands on the disk.
async fn compare(log: &mut Log, end: u64) {
    for from in 0..end {
        for upto in from..=end {
            let told = log.try_get_log_entries(from..upto).await.unwrap();
            assert_eq!(told, log.read(from..upto, usize::MAX).unwrap());
        }
    }
}

#[tokio::test]
async fn the_newest_entries_are_told_as_they_stand_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await;
    append(&mut log, (0..12).map(|n| entry(n, 100)).collect()).await;
    compare(&mut log, 14).await;
    log.truncate_after(Some(id(7))).await.unwrap();
    compare(&mut log, 14).await;
    append(&mut log, (8..11).map(|n| entry(n, 50)).collect()).await;
    compare(&mut log, 14).await;
    log.purge(id(3)).await.unwrap();
    compare(&mut log, 14).await;
    close(log).await;
    let mut log = open(dir.path()).await;
    append(&mut log, vec![entry(11, 10)]).await;
    compare(&mut log, 14).await;
    close(log).await;
}

#[tokio::test]
async fn what_is_committed_is_noted_at_once_or_a_little_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await;
    append(&mut log, (0..3).map(|n| entry(n, 10)).collect()).await;
    log.save_committed(Some(id(1))).await.unwrap();
    assert_eq!(log.read_committed().await.unwrap(), Some(id(1)));
    let noted = async {
        while log.read_committed().await.unwrap() != Some(id(2)) {
            tokio::task::yield_now().await;
            log.save_committed(Some(id(2))).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), noted)
        .await
        .unwrap();
    close(log).await;
}

#[tokio::test]
async fn large_entries_are_read_again_and_sled_syncs_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await;
    let sizes = [1, 4 << 10, 300 << 10, 10, 8 << 20, 0, 127 << 10, 129 << 10];
    let mut all: Vec<Entry> = (0..)
        .zip(sizes)
        .map(|(index, bytes)| entry(index, bytes))
        .collect();
    append(&mut log, all.clone()).await;
    for index in 8..120 {
        let more = entry(index, 40 << 10);
        append(&mut log, vec![more.clone()]).await;
        all.push(more);
    }
    let blobs = std::fs::read_dir(dir.path().join("blobs")).unwrap().count();
    assert_eq!(
        blobs, 0,
        "sled keeps something in files that it never syncs"
    );
    assert!(log.read(.., usize::MAX).unwrap() == all);
    assert!(
        log.limited_get_log_entries(0, 120).await.unwrap() == all[..5],
        "it stops once it has enough"
    );
    close(log).await;
    let log = open(dir.path()).await;
    assert!(log.read(.., usize::MAX).unwrap() == all);
    close(log).await;
}

/// Waits until so many parts of entries are left.
async fn gone(log: &Log, left: usize) {
    while log.entries.len() > left {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(log.entries.len(), left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_purged_is_not_read_any_more_and_goes_aside() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await;
    let many = (1..=300).map(|index| entry(index, 20_000)).collect();
    append(&mut log, many).await;
    let parts = log.entries.len();
    // Nothing of an entry that goes meanwhile is read, and the others are.
    let reader = log.clone();
    let readings = tokio::task::spawn_blocking(move || {
        let mut least = 0;
        while least < 295 {
            let mut reader = reader.clone();
            let all = reader.try_get_log_entries(1..301).now_or_never();
            let all = all.unwrap().unwrap();
            let all: Vec<u64> = all.iter().map(|entry| entry.log_id().index).collect();
            assert!(all.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{all:?}");
            assert_eq!(all.last(), Some(&300));
            assert!(all[0] >= least);
            least = all[0];
        }
    });
    for upto in (4..=294).step_by(10) {
        log.purge(id(upto)).await.unwrap();
        assert_eq!(indexes(&log), (upto + 1..=300).collect::<Vec<_>>());
    }
    readings.await.unwrap();
    assert!(parts > 300 * 4);
    gone(&log, 6 * (parts / 300)).await;
    // All of it.
    log.purge(id(300)).await.unwrap();
    let state = log.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_log_id, state.last_purged_log_id),
        (Some(id(300)), Some(id(300)))
    );
    append(&mut log, vec![entry(301, 10)]).await;
    assert_eq!(indexes(&log), [301]);
    close(log).await;
    let log = open(dir.path()).await;
    assert_eq!(indexes(&log), [301]);
    gone(&log, 1).await;
    close(log).await;
}

#[tokio::test]
async fn what_a_crash_leaves_half_done_is_removed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await;
    append(
        &mut log,
        (1..=9).map(|index| entry(index, 10_000)).collect(),
    )
    .await;
    // A large entry, cut off before its beginning was written; one whose truncation was cut off.
    for part in 20..400 {
        log.entries.insert(key(11, part), vec![0; PART]).unwrap();
    }
    log.entries.insert(key(10, 2), vec![0; PART]).unwrap();
    // A purge, cut off after its mark and the first of the parts.
    log.put("purged", &id(3)).unwrap();
    log.entries.remove(key(1, 0)).unwrap();
    close(log).await;
    let mut log = open(dir.path()).await;
    assert_eq!(indexes(&log), [4, 5, 6, 7, 8, 9]);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(
        (state.last_log_id, state.last_purged_log_id),
        (Some(id(9)), Some(id(3)))
    );
    gone(&log, 6 * 3).await;
    close(log).await;
}

#[tokio::test]
async fn what_is_damaged_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).await;
    append(
        &mut log,
        (1..=3).map(|index| entry(index, 10_000)).collect(),
    )
    .await;
    log.entries.remove(key(2, 1)).unwrap();
    let error = log.read(.., usize::MAX).unwrap_err().to_string();
    assert!(
        error.contains(&format!("log entry 2 in {}", dir.path().display())),
        "{error}"
    );
    log.entries.remove(key(2, 2)).unwrap();
    let error = log.read(.., usize::MAX).unwrap_err().to_string();
    assert!(
        error.contains("log entry 2") && error.contains("a part of it is missing"),
        "{error}"
    );
    log.entries.insert(b"odd", vec![]).unwrap();
    assert!(log.read(.., usize::MAX).is_err());
    close(log).await;
}

#[tokio::test]
async fn an_entry_that_was_there_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut log = open(&path).await;
    append(&mut log, (1..=9).map(|n| entry(n, 100)).collect()).await;
    log.purge(id(4)).await.unwrap();
    close(log).await;
    let mut log = open(&path).await;
    // Not to be found any more, as in a tree that was damaged.
    log.entries.remove(key(9, 0)).unwrap();
    assert_eq!(log.try_get_log_entries(2..9).await.unwrap().len(), 4);
    let error = log.try_get_log_entries(8..12).await.unwrap_err();
    assert!(error.to_string().contains("log entry 9 in"), "{error}");
    assert!(error.to_string().contains(&path.display().to_string()));
    log.entries.remove(key(7, 0)).unwrap();
    let error = log.limited_get_log_entries(7, 9).await.unwrap_err();
    assert!(error.to_string().contains("log entry 7 in"), "{error}");
    close(log).await;
}

#[tokio::test]
async fn a_newer_format_is_refused_at_the_start() {
    for damage in ["vote", "purged", "committed", "entry"] {
        let dir = tempfile::tempdir().unwrap();
        let mut log = open(dir.path()).await;
        append(&mut log, vec![entry(0, 10)]).await;
        match damage {
            "entry" => drop(
                log.entries
                    .insert(key(0, 0), vec![cover::SEALED + 1, 0])
                    .unwrap(),
            ),
            name => drop(
                log.records
                    .insert(name, vec![cover::SEALED + 1, 0])
                    .unwrap(),
            ),
        }
        close(log).await;
        let mut log = Log::open(dir.path(), sealed(), File::sync_data).unwrap();
        let error = log.tidy().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{damage}");
        assert!(error.to_string().contains("upgrade clusterd"), "{error}");
        close(log).await;
    }
}

#[tokio::test]
async fn a_folder_has_one_user() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).await;
    let error = Log::open(dir.path(), sealed(), File::sync_data)
        .map(drop)
        .unwrap_err()
        .to_string();
    assert!(error.contains("is in use"), "{error}");
    close(log).await;
    close(open(dir.path()).await).await;
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<usize>),
    /// Of those that are there, in percent.
    Truncate(u64),
    Purge(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let size = prop_oneof![8 => 0..600usize, 3 => 3_000..20_000usize, 1 => 120_000..400_000usize];
    prop_oneof![
        6 => proptest::collection::vec(size, 1..12).prop_map(Step::Append),
        2 => (0..100u64).prop_map(Step::Truncate),
        2 => (0..100u64).prop_map(Step::Purge),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn it_is_what_a_map_would_be(steps in proptest::collection::vec(step(), 1..14)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let mut log = open(dir.path()).await;
            log.purge(id(0)).await.unwrap();
            let mut model: BTreeMap<u64, Entry> = BTreeMap::new();
            let (mut next, mut purged) = (1, 0);
            for step in steps {
                match step {
                    Step::Append(sizes) => {
                        let entries: Vec<Entry> = (next..).zip(sizes).map(|(index, size)| entry(index, size)).collect();
                        model.extend(entries.iter().map(|entry| (entry.log_id().index, entry.clone())));
                        next += entries.len() as u64;
                        append(&mut log, entries).await;
                    }
                    Step::Truncate(percent) => {
                        let last = purged + (next - 1 - purged) * percent / 100;
                        log.truncate_after((last > 0).then(|| id(last))).await.unwrap();
                        model.retain(|index, _| *index <= last);
                        next = last + 1;
                    }
                    Step::Purge(percent) => {
                        purged += (next - 1 - purged) * percent / 100;
                        if purged > 0 {
                            log.purge(id(purged)).await.unwrap();
                            model.retain(|index, _| *index > purged);
                        }
                    }
                    Step::Reopen => {
                        close(log).await;
                        log = open(dir.path()).await;
                    }
                }
                assert!(log.read(.., usize::MAX).unwrap().iter().eq(model.values()));
                let last = log.get_log_state().await.unwrap().last_log_id.map_or(0, |id| id.index);
                assert_eq!(last, next - 1);
            }
            close(log).await;
        });
    }
}
