//! Bytes on the disk are flipped, files are cut or gone: what was acknowledged is all there, or the start is
//! refused and says what is wrong. sled alone would leave out what it can't read.

use super::image::Dice;
use super::loss::quick;
use crate::tests::*;
use std::fs;

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A folder with some writes in it.
async fn written(dir: &Path) -> Vec<String> {
    let net = Net::default();
    let mut settings = quick(dir);
    // Two snapshots, and entries after them.
    settings.snapshot_every = 25;
    let mut names = Vec::new();
    // The second life writes the page table.
    for life in 0..2 {
        let handle = Handle::open(settings.clone(), net.links(1)).await.unwrap();
        if life == 0 {
            handle.initialize(stack("first")).await.unwrap();
        }
        for n in 0..30 {
            let name = format!("{life}.{n}-{}", "x".repeat([10, 9_000, 70_000][n % 3]));
            handle.propose(stack(&name)).await.unwrap();
            names.push(name);
        }
        handle.shutdown().await;
    }
    names
}

/// What a start says, if it is refused; else all is there.
async fn start(dir: &Path, names: &[String], what: &str) -> Option<String> {
    let mut settings = quick(dir);
    settings.snapshot_every = 25;
    match Handle::open(settings, Net::default().links(1)).await {
        Err(error) => Some(error.to_string()),
        Ok(handle) => {
            if handle.linearizable().await.is_err() {
                // It was found a moment after the start.
                let why = tokio::time::timeout(Duration::from_secs(30), handle.failure()).await;
                handle.shutdown().await;
                return Some(why.unwrap_or_else(|_| panic!("{what}: neither leads nor fails")));
            }
            handle.read(|state| {
                for name in names {
                    assert!(
                        has(state, name),
                        "{what}: {} is lost without a word",
                        &name[..5]
                    );
                }
            });
            handle.shutdown().await;
            None
        }
    }
}

async fn damage(seed: u64, times: usize) {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let names = written(&whole).await;
    let mut dice = Dice::new(seed);
    let mut refused = 0;
    for n in 0..times {
        let place = dir.path().join(n.to_string());
        copy(&whole, &place);
        let files = [
            "log/db", "log/db", "log/db", "log/conf", "log/mark", "log/snap",
        ];
        let kind = files[n % files.len()];
        let mut files: Vec<_> = fs::read_dir(place.join("1/log"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .collect();
        files.retain(|path| {
            path.starts_with(place.join("1/log")) && path.to_string_lossy().contains(kind)
        });
        let Some(file) = files.first() else { continue };
        let mut bytes = fs::read(file).unwrap();
        let at = dice.below(bytes.len());
        let what = match n / 6 % 3 {
            0 | 1 => {
                bytes[at] ^= 1 << dice.below(8);
                format!("seed {seed}: {kind}, byte {at} flipped")
            }
            _ => {
                bytes.truncate(at);
                format!("seed {seed}: {kind}, cut at {at}")
            }
        };
        fs::write(file, bytes).unwrap();
        if let Some(error) = start(&place, &names, &what).await {
            refused += 1;
            let folder = place.display().to_string();
            assert!(error.contains(&folder), "{what}: {error}");
            // It is refused again: nothing was made to look whole.
            assert!(
                start(&place, &names, &what).await.is_some(),
                "{what}: {error}"
            );
        }
        let _ = fs::remove_dir_all(place);
    }
    assert!(refused > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_is_named_and_what_is_gone_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let names = written(&whole).await;
    let db = fs::read(whole.join("1/log/db")).unwrap();
    // In large entries, the last first: a place may be one that is used no more.
    let is_large = |at: &usize| !db[*at..*at + 400].windows(4).any(|part| part == [0; 4]);
    let places = (0..db.len() - 400).step_by(2_000).filter(is_large).rev();
    let (file, mut refused) = (dir.path().join("flipped/1/log/db"), None);
    for at in places {
        let place = dir.path().join("flipped");
        copy(&whole, &place);
        let mut bad = db.clone();
        bad[at] ^= 1;
        fs::write(&file, bad).unwrap();
        if let Some(error) = start(&place, &names, "flipped").await {
            refused = Some((at, error));
            break;
        }
        fs::remove_dir_all(place).unwrap();
    }
    let (at, error) = refused.unwrap();
    let told = error
        .split_once("can't be read at byte")
        .map(|(before, places)| {
            assert!(before.contains(&file.display().to_string()), "{error}");
            places
                .split(|c: char| !c.is_ascii_digit())
                .filter_map(|place| place.parse().ok())
                .collect::<Vec<usize>>()
        });
    // Where its page begins.
    let near = |place: &usize| *place <= at && at - place < 128 << 10;
    assert!(
        told.is_some_and(|places| places.iter().any(near)),
        "{at}: {error}"
    );

    for gone in ["log/db", "log", "snapshots"] {
        let place = dir.path().join("gone").join(gone);
        copy(&whole, &place);
        let path = place.join("1").join(gone);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        let error = start(&place, &names, gone).await;
        assert!(
            error.is_some_and(|e| e.contains("join the cluster again")),
            "{gone}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_left_out_without_a_word() {
    damage(1, 36).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes: SEEDS=n says how many"]
async fn nothing_acknowledged_is_left_out_with_much_damage() {
    let seeds = std::env::var("SEEDS").ok();
    for seed in 0..seeds.and_then(|n| n.parse().ok()).unwrap_or(20) {
        damage(seed, 60).await;
    }
}
