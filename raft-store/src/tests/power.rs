//! What is left when all that was not synced is lost, and when the disk refuses.

use super::*;
use std::fs::{self, File};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

fn copy(from: &Path, to: &Path, names: impl Fn(&str) -> bool) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if entry.file_type().unwrap().is_file() && names(name.to_str().unwrap()) {
            // A snapshot may be superseded meanwhile.
            match fs::copy(entry.path(), to.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
                _ => {}
            }
        }
    }
}

/// Before each sync, a copy of what it is about to make last: of the log its one file that is synced, then
/// the snapshots, which are synced before the log counts on them. Of every seventh write, for it is much to copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_write_survives_the_loss_of_all_that_was_not_synced() {
    let dir = tempfile::tempdir().unwrap();
    let images = tempfile::tempdir().unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let looks = Arc::new(AtomicBool::new(false));
    let hook = {
        let (dir, images) = (dir.path().to_owned(), images.path().to_owned());
        let (taken, looks) = (taken.clone(), looks.clone());
        move |file: &File| {
            if looks.load(Ordering::SeqCst) {
                let image = images.join(taken.load(Ordering::SeqCst).to_string());
                copy(&dir.join("1/log"), &image.join("1/log"), |name| {
                    name == "db" || name == "conf"
                });
                if dir.join("1/snapshots").exists() {
                    copy(
                        &dir.join("1/snapshots"),
                        &image.join("1/snapshots"),
                        |name| name.ends_with(".snap"),
                    );
                }
            }
            file.sync_data()?;
            taken.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    };
    let net = Net::default();
    let mut settings = options(dir.path(), 1);
    settings.snapshot_every = 20;
    let handle = Handle::open_with(settings.clone(), net.links(1), hook)
        .await
        .unwrap();
    handle.initialize(stack("first")).await.unwrap();
    // The image that was the last when a write was acknowledged, and that write.
    let mut acknowledged = Vec::new();
    let sizes = [3, 500, 9_000, 40_000, 200_000, 5, 5, 700_000];
    for n in 0..96 {
        let name = format!("{n}-{}", "x".repeat(sizes[n % sizes.len()]));
        looks.store(n % 7 == 95 % 7, Ordering::SeqCst);
        // Again where a loaded machine takes longer than a write may: it is the same one.
        propose(std::slice::from_ref(&handle), stack(&name)).await;
        acknowledged.push((taken.load(Ordering::SeqCst) - 1, name));
    }
    handle.shutdown().await;
    for end in (0..96).rev().step_by(7) {
        let (image, _) = acknowledged[end];
        let place = images.path().join(image.to_string());
        let settings = Options {
            dir: place.join("1"),
            ..settings.clone()
        };
        let handle = Handle::open(settings, Net::default().links(1))
            .await
            .unwrap();
        handle.linearizable().await.unwrap();
        handle.read(|state| {
            for (n, (_, name)) in acknowledged[..=end].iter().enumerate() {
                assert!(
                    has(state, name),
                    "write {n} is lost in image {image} of write {end}"
                );
            }
        });
        handle.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_disk_refuses_nothing_is_acknowledged_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let refuses = Arc::new(AtomicBool::new(false));
    let hook = {
        let refuses = refuses.clone();
        move |file: &File| match refuses.load(Ordering::SeqCst) {
            true => Err(io::Error::other("no space left on device")),
            false => file.sync_data(),
        }
    };
    let net = Net::default();
    let handle = Handle::open_with(options(dir.path(), 1), net.links(1), hook)
        .await
        .unwrap();
    handle.initialize(stack("first")).await.unwrap();
    let written = Arc::new(Mutex::new(Vec::new()));
    for n in 0..20 {
        handle.propose(stack(&format!("s{n}"))).await.unwrap();
        written.lock().unwrap().push(n);
    }
    refuses.store(true, Ordering::SeqCst);
    let error = handle
        .propose(stack("refused"))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("has ended"), "{error}");
    let why = tokio::time::timeout(LONG, handle.failure()).await.unwrap();
    assert!(why.contains("no space left on device"), "{why}");
    until("it does not lead", || !handle.leadership().borrow().own).await;
    assert!(handle.linearizable().await.is_err());
    // It went by itself: the disk's recovery is not enough.
    refuses.store(false, Ordering::SeqCst);
    assert!(handle.propose(stack("late")).await.is_err());
    handle.shutdown().await;
    let handle = open(&net, dir.path(), 1).await;
    handle.linearizable().await.unwrap();
    handle.read(|state| {
        assert!(
            written
                .lock()
                .unwrap()
                .iter()
                .all(|n| has(state, &format!("s{n}")))
        )
    });
    handle.shutdown().await;
}
