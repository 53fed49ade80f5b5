//! Snapshots by themselves: what is kept, what is damaged, what is read later.

use super::*;
use crate::types::LogId;

fn meta(index: u64) -> SnapshotMeta {
    let leader = Some(proto::LeaderId { term: 1, node: 1 });
    let id: LogId = wire::read_log_id(&proto::LogId { leader, index }).unwrap();
    SnapshotMeta {
        last_log_id: Some(id),
        last_membership: Default::default(),
    }
}

fn index(stored: Option<Stored>) -> Option<u64> {
    stored
        .and_then(|stored| stored.meta.last_log_id)
        .map(|id| id.index)
}

fn open() -> (tempfile::TempDir, Snapshots) {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path().join("snapshots"), DataKey::from([7; 32])).unwrap();
    (dir, snapshots)
}

#[test]
fn two_are_kept() {
    let (_dir, snapshots) = open();
    assert!(snapshots.newest().unwrap().0.is_none());
    for index in [1, 20, 3_000, 40_000] {
        snapshots.write(&meta(index), b"data").unwrap();
    }
    assert_eq!(snapshots.files().unwrap().len(), 2);
    let newest = snapshots.newest().unwrap().0.unwrap();
    assert_eq!(
        (newest.meta, &newest.data[..]),
        (meta(40_000), &b"data"[..])
    );
}

#[test]
fn any_damage_is_named_and_the_older_one_taken() {
    let (_dir, snapshots) = open();
    snapshots.write(&meta(1), b"old").unwrap();
    snapshots.write(&meta(2), b"new").unwrap();
    let newer = snapshots.files().unwrap()[0].clone();
    let whole = fs::read(&newer).unwrap();
    let format = MAGIC.len();
    for at in (0..whole.len()).filter(|at| *at != format) {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        for bad in [&bad[..], &whole[..at]] {
            fs::write(&newer, bad).unwrap();
            let (found, wrong) = snapshots.newest().unwrap();
            assert_eq!(index(found), Some(1), "byte {at}");
            let wrong = wrong[0].to_string();
            assert!(
                wrong.contains("00000000000000000002.snap is damaged"),
                "{wrong}"
            );
        }
    }
    // The next one written takes the damaged one's place, not the whole one's.
    snapshots.write(&meta(3), b"next").unwrap();
    let names: Vec<_> = snapshots.files().unwrap();
    assert!(names.len() == 2 && !names.contains(&newer), "{names:?}");
}

#[tokio::test]
async fn the_newest_is_read_when_it_is_wanted_and_a_damaged_one_is_passed_over_then() {
    let (_dir, snapshots) = open();
    assert!(snapshots.newest_unread().unwrap().is_none());
    snapshots.write(&meta(1), b"old").unwrap();
    snapshots.write(&meta(2), b"new").unwrap();
    let (found, contents) = snapshots.newest_unread().unwrap().unwrap();
    assert_eq!(found, meta(2));
    let path = snapshots.files().unwrap()[0].clone();
    let whole = fs::read(&path).unwrap();
    // Gone by the time, and there all the same.
    fs::remove_file(&path).unwrap();
    assert_eq!(contents.load().await.unwrap(), b"new");
    // Its length and its beginning tell at once, the rest when it is read.
    for at in 0..whole.len() - 1 {
        if at == MAGIC.len() {
            continue;
        }
        let mut bad = whole.clone();
        bad[at] ^= 1;
        fs::write(&path, bad).unwrap();
        let (found, contents) = snapshots.newest_unread().unwrap().unwrap();
        if found == meta(2) {
            let error = contents.load().await.unwrap_err().to_string();
            assert!(
                error.contains("00000000000000000002.snap is damaged"),
                "{error}"
            );
            let (found, _) = snapshots.newest_unread().unwrap().unwrap();
            assert_eq!(found, meta(1), "byte {at}");
            snapshots.damaged().clear();
        } else {
            assert_eq!(found, meta(1), "byte {at}");
            assert_eq!(contents.load().await.unwrap(), b"old");
        }
    }
    // One that is written in its place is as good as any.
    snapshots.damaged().insert(path);
    snapshots.write(&meta(2), b"again").unwrap();
    let (_, contents) = snapshots.newest_unread().unwrap().unwrap();
    assert_eq!(contents.load().await.unwrap(), b"again");
}

#[test]
fn a_large_one_is_in_parts_which_stay_in_their_places() {
    let (dir, snapshots) = open();
    let data: Vec<u8> = (0..PART * 2 + 5).map(|n| (n % 251) as u8).collect();
    snapshots.write(&meta(1), &data).unwrap();
    let path = snapshots.files().unwrap()[0].clone();
    assert_eq!(read(&path, &snapshots.key).unwrap().data, data);
    let whole = fs::read(&path).unwrap();
    assert!(!whole.windows(40).any(|part| part == &data[..40]));
    // The two whole parts change places; the last is one of another file; the file is another's.
    let (sealed, end) = (PART + OVERHEAD, whole.len());
    let first = end - 5 - OVERHEAD - 2 * sealed;
    let mut swapped = whole.clone();
    swapped[first..first + 2 * sealed].rotate_left(sealed);
    snapshots.write(&meta(1), &data).unwrap();
    let mut mixed = whole.clone();
    mixed[end - 45..].copy_from_slice(&fs::read(&path).unwrap()[end - 45..]);
    for bad in [swapped, mixed] {
        fs::write(&path, bad).unwrap();
        let error = read(&path, &snapshots.key).unwrap_err().to_string();
        assert!(error.contains("snap is damaged: bytes "), "{error}");
    }
    fs::write(&path, whole).unwrap();
    let other = Snapshots::open(dir.path().join("snapshots"), DataKey::random()).unwrap();
    let (none, wrong) = other.newest().unwrap();
    assert!(none.is_none() && wrong[0].to_string().contains("another key"));
}

#[test]
fn a_newer_format_is_refused_with_a_cure() {
    let (_dir, snapshots) = open();
    snapshots.write(&meta(1), b"old").unwrap();
    snapshots.write(&meta(2), b"new").unwrap();
    let newer = snapshots.files().unwrap()[0].clone();
    let mut later = fs::read(&newer).unwrap();
    later[MAGIC.len()] = SEALED + 1;
    fs::write(&newer, &later).unwrap();
    let error = snapshots.newest().unwrap_err().to_string();
    assert!(
        error.contains("00000000000000000002.snap") && error.contains("upgrade clusterd"),
        "{error}"
    );
}

#[test]
fn half_a_snapshot_of_a_crash_is_removed() {
    let (dir, snapshots) = open();
    snapshots.write(&meta(1), b"whole").unwrap();
    let half = dir.path().join("snapshots/00000000000000000002.new");
    fs::write(&half, "half").unwrap();
    let again = Snapshots::open(dir.path().join("snapshots"), DataKey::from([7; 32])).unwrap();
    assert!(!half.exists());
    assert_eq!(index(again.newest().unwrap().0), Some(1));
}
