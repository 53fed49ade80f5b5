//! What is on the disk tells nothing, stays in its place, and opens with its key alone.

use super::disk::copy;
use super::*;
use crate::recover;
use std::fs;

const SECRET: &str = "correct-horse-battery-staple";

/// Every file of a folder.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.push(path);
        }
    }
    all
}

fn who_holds(dir: &Path, text: &str) -> Vec<std::path::PathBuf> {
    let holds = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).unwrap();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    files(dir).into_iter().filter(holds).collect()
}

/// Two snapshots, and entries after them.
async fn written(dir: &Path) {
    let net = Net::default();
    let settings = Options {
        snapshot_every: 20,
        ..options(dir, 1)
    };
    let handle = open_with(&net, 1, settings).await;
    handle.initialize(stack("first")).await.unwrap();
    for n in 0..50 {
        let filler = "x".repeat([4, 6_000, 300][n % 3]);
        let name = format!("{n}-{filler}{SECRET}");
        handle.propose(stack(&name)).await.unwrap();
    }
    handle.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_state_can_be_read_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path()).await;
    assert!(
        files(&dir.path().join("1")).len() >= 5,
        "{:?}",
        files(dir.path())
    );
    for text in [SECRET, "xxxxxxxx", &addr(1)] {
        assert_eq!(
            who_holds(dir.path(), text),
            Vec::<std::path::PathBuf>::new(),
            "{text}"
        );
    }
    // It is there: with the key.
    let found = recover::read(&dir.path().join("1"), &key()).await.unwrap();
    assert!(
        found
            .state
            .stacks()
            .keys()
            .any(|name| name.contains(SECRET))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_does_not_fit_is_not_called_damage_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path()).await;
    for _ in 0..2 {
        let settings = Options {
            key: DataKey::random(),
            ..options(dir.path(), 1)
        };
        let refused = Handle::open(settings, Net::default().links(1)).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("the key doesn't fit"), "{error}");
        assert!(error.contains(&dir.path().display().to_string()), "{error}");
    }
    let found = recover::read(&dir.path().join("1"), &key()).await.unwrap();
    assert_eq!(found.state.stacks().len(), 51);
}

/// A store of an earlier version, cut off at any point of being sealed, is whole at the next start, and nothing is
/// left of what could be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_was_not_encrypted_is_sealed_through_any_crash() {
    let dir = tempfile::tempdir().unwrap();
    let old = dir.path().join("old");
    super::fixtures::unpack_first(&old);
    let text = "xxxxxxxx";
    assert!(who_holds(&old, text).len() >= 3);
    let sealed = dir.path().join("sealed");
    copy(&old, &sealed);
    recover::read(&sealed.join("1"), &key()).await.unwrap();

    // What is there, by part: the old, half of the new, the new beside the old, the new alone.
    for case in 0..5 {
        let place = dir.path().join(case.to_string());
        copy(if case < 4 { &old } else { &sealed }, &place);
        let store = place.join("1");
        let log = |name: &str| store.join(name);
        match case {
            // Half of the snapshots, half of the log.
            1 => {
                let newest = files(&sealed.join("1/snapshots")).pop().unwrap();
                fs::copy(
                    &newest,
                    store.join("snapshots").join(newest.file_name().unwrap()),
                )
                .unwrap();
                fs::create_dir(log("log.half")).unwrap();
                fs::write(log("log.half/db"), "half").unwrap();
            }
            2 | 3 => {
                for file in files(&sealed.join("1/snapshots")) {
                    fs::copy(
                        &file,
                        store.join("snapshots").join(file.file_name().unwrap()),
                    )
                    .unwrap();
                }
                copy(&sealed.join("1/log"), &log("log.new"));
                if case == 3 {
                    fs::rename(log("log"), log("log.old")).unwrap();
                }
            }
            4 => copy(&old.join("1/log"), &log("log.old")),
            _ => {}
        }
        let handle = Handle::open(options(&place, 1), Net::default().links(1)).await;
        let handle = handle.unwrap_or_else(|error| panic!("{case}: {error}"));
        handle.linearizable().await.unwrap();
        let count = handle.read(|state| state.stacks().len());
        assert_eq!(count, 51, "{case}");
        handle.propose(stack("more")).await.unwrap();
        handle.shutdown().await;
        assert_eq!(
            who_holds(&place, text),
            Vec::<std::path::PathBuf>::new(),
            "{case}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_store_that_is_damaged_is_not_sealed_over() {
    let dir = tempfile::tempdir().unwrap();
    super::fixtures::unpack_first(dir.path());
    fs::remove_file(dir.path().join("1/log/db")).unwrap();
    for _ in 0..2 {
        let refused = Handle::open(options(dir.path(), 1), Net::default().links(1)).await;
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("join the cluster again"), "{error}");
    }
}
