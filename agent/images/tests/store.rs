//! The store's life: names, removal, crashes, a full disk, several threads.

mod support;

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, SystemTime};

use images::{Error, LoadOptions, Phase, ProgressFn, PrunePolicy, Store, quiet};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use support::*;

fn image(text: &str) -> TestImage {
    let base = Layer::new()
        .dir("etc", 0o755)
        .file("etc/base", "shared")
        .tar();
    TestImage::new(vec![
        (GZIP, base),
        (ZSTD, Layer::new().file("own", text).tar()),
    ])
}

#[test]
fn every_kind_of_archive_loads_to_the_same_image() {
    let temp = tempfile::tempdir().unwrap();
    let tars = || {
        vec![
            (PLAIN, Layer::new().file("a", "a").tar()),
            (PLAIN, Layer::new().file("b", "b").tar()),
        ]
    };
    let image = TestImage::new(tars());
    let layout = pack(&image.layout(Some("reg.example.com/x/y:1")));
    let mut both = image.layout(None);
    // What newer `docker save` writes: a layout, and the names beside it.
    let blobs: Vec<String> = image
        .layers
        .iter()
        .map(|(_, blob)| blob_name(blob))
        .collect();
    let saved = serde_json::json!([{ "Config": blob_name(&image.config), "RepoTags": ["x:both"], "Layers": blobs }]);
    both.insert(
        "manifest.json".to_owned(),
        serde_json::to_vec(&saved).unwrap(),
    );
    for (what, archive, name) in [
        ("layout", layout.clone(), "reg.example.com/x/y:1"),
        ("layout.gz", gzip(&layout), "reg.example.com/x/y:1"),
        ("layout.zst", zstd(&layout), "reg.example.com/x/y:1"),
        (
            "saved",
            pack(&image.saved(&["x:saved", "x:also"])),
            "x:saved",
        ),
        ("both", pack(&both), "x:both"),
    ] {
        let dir = temp.path().join(what);
        let store = Store::open(&dir).unwrap();
        let infos = load(&store, &archive).unwrap();
        assert_eq!(infos.len(), 1, "{what}");
        assert_eq!(infos[0].id, image.id(), "{what}");
        assert_eq!((infos[0].size_bytes, infos[0].layers), (2, 2), "{what}");
        assert_eq!(infos[0].created.as_deref(), Some("2024-05-06T07:08:09Z"));
        let found = store.get(name).unwrap();
        assert_eq!(fs::read_to_string(found.layers[1].join("b")).unwrap(), "b");
        assert_eq!(holds(&dir), (2, 2, 0), "{what}");
        // Loading it again changes nothing.
        assert_eq!(load(&store, &archive).unwrap(), infos, "{what}");
        drop(store);
        assert_eq!(Store::open(&dir).unwrap().list(), infos, "{what}");
    }
    // A layout's folder, and a name given by hand to a bare tag.
    let folder = temp.path().join("folder");
    for (name, bytes) in image.layout(Some("latest")) {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let store = Store::open(&temp.path().join("from-folder")).unwrap();
    let infos = store
        .load_path(&folder, &LoadOptions::default(), &quiet())
        .unwrap();
    assert!(infos[0].references.is_empty());
    let options = LoadOptions {
        name: Some("by/hand".parse().unwrap()),
        ..LoadOptions::default()
    };
    let infos = store.load_path(&folder, &options, &quiet()).unwrap();
    assert_eq!(
        infos[0].references[0].to_string(),
        "docker.io/by/hand:latest"
    );
    assert_eq!(store.get(&image.id().hex()[..8]).unwrap().id, image.id());
}

#[test]
fn linked_layers_of_docker_save_are_followed() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path()).unwrap();
    let tar = Layer::new().file("a", "a").tar();
    let image = TestImage::new(vec![(PLAIN, tar.clone()), (PLAIN, tar)]);
    let mut files = image.saved(&["x:1"]);
    files.remove("1abc/layer.tar");
    let mut archive = tar::Builder::new(pack(&files));
    // pack() wrote the end already; the link goes before it.
    let mut bytes = std::mem::take(archive.get_mut());
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(
        Layer::new()
            .symlink("1abc/layer.tar", "../0abc/layer.tar")
            .tar(),
    );
    drop(archive);
    assert_eq!(load(&store, &bytes).unwrap()[0].layers, 2);
}

#[test]
fn several_platforms_are_told_apart() {
    let temp = tempfile::tempdir().unwrap();
    let store = Store::open(temp.path()).unwrap();
    let (ours, theirs) = (image("ours"), image("theirs"));
    let platform = |image: &TestImage, arch: &str| {
        let mut entry = descriptor(MANIFEST, &image.manifest);
        entry["platform"] = serde_json::json!({ "os": "linux", "architecture": arch });
        entry
    };
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [platform(&theirs, "pdp11"), platform(&ours, host_arch())] });
    let index = serde_json::to_vec(&index).unwrap();
    // Once directly in the layout, once in an index of the layout; the other platform's blobs are not there.
    let mut files = ours.blobs();
    files.insert("index.json".to_owned(), index.clone());
    assert_eq!(load(&store, &pack(&files)).unwrap()[0].id, ours.id());
    let mut entry = descriptor(INDEX, &index);
    entry["annotations"] =
        serde_json::json!({ "io.containerd.image.name": "docker.io/library/multi:1" });
    files.insert(blob_name(&index), index);
    let outer = serde_json::to_vec(&serde_json::json!({ "manifests": [entry] })).unwrap();
    files.insert("index.json".to_owned(), outer);
    load(&store, &pack(&files)).unwrap();
    assert_eq!(store.get("multi:1").unwrap().id, ours.id());
}

#[test]
fn removal_frees_what_nobody_shares() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let store = Store::open(dir).unwrap();
    let (a, b) = (image("a"), image("b"));
    load(&store, &pack(&a.layout(Some("a:1")))).unwrap();
    load(&store, &pack(&b.layout(Some("b:1")))).unwrap();
    assert_eq!(holds(dir), (4, 3, 0), "the lowest layer is shared");
    let error = store.remove("a:1", &[a.id()], false).unwrap_err();
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    assert!(store.get("a:1").is_ok());
    let removed = store.remove("a:1", &[b.id()], false).unwrap();
    assert_eq!(removed.deleted, Some(a.id()));
    assert_eq!(holds(dir), (2, 2, 0));
    let error = store.get("a:1").unwrap_err().to_string();
    for text in [
        "`a:1`",
        "docker.io/library/a:1",
        "image load -i FILE",
        "image pull a:1",
    ] {
        assert!(error.contains(text), "{error}");
    }
    assert!(matches!(
        store.remove("a:1", &[], false),
        Err(Error::NotFound { .. })
    ));
    // Forced while in use it only loses its name, and goes when it is free.
    assert_eq!(store.remove("b:1", &[b.id()], true).unwrap().deleted, None);
    assert!(store.get(&b.id().to_string()).is_ok());
    let policy = PrunePolicy {
        now: SystemTime::now() + Duration::from_secs(7200),
        untagged_after: Duration::from_secs(3600),
        pulled_after: None,
    };
    assert_eq!(store.prune(&[b.id()], &policy).unwrap(), []);
    let later = PrunePolicy {
        now: policy.now + Duration::from_secs(3600),
        ..policy
    };
    assert_eq!(store.prune(&[], &later).unwrap(), [b.id()]);
    assert_eq!(holds(dir), (0, 0, 0));
}

#[test]
fn leftovers_of_a_crash_go_at_the_next_start() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let (whole, torn) = (image("whole"), image("torn"));
    let (lost_layer, lost_blob);
    {
        let store = Store::open(dir).unwrap();
        load(&store, &pack(&whole.layout(Some("whole:1")))).unwrap();
        load(&store, &pack(&torn.layout(Some("torn:1")))).unwrap();
        lost_layer = store.get("torn:1").unwrap().layers[1].clone();
        lost_blob = dir.join(blob_name(&torn.config));
        assert!(
            matches!(Store::open(dir), Err(Error::Locked { .. })),
            "one process at a time"
        );
    }
    // Killed while unpacking, while writing the index, and between a rename and the commit.
    fs::create_dir_all(dir.join("tmp/7/diff/usr/bin")).unwrap();
    fs::write(dir.join("tmp/7/diff/usr/bin/half"), "ha").unwrap();
    fs::write(dir.join("tmp/stray"), "x").unwrap();
    fs::create_dir_all(dir.join("layers").join("0".repeat(64)).join("etc")).unwrap();
    fs::write(dir.join("blobs/sha256").join("1".repeat(64)), "x").unwrap();
    fs::write(dir.join("index.json.new"), "{\"ver").unwrap();
    // And a disk that lost something.
    fs::remove_dir_all(&lost_layer).unwrap();
    let store = Store::open(dir).unwrap();
    assert_eq!(holds(dir), (2, 2, 0));
    assert_eq!(store.list().len(), 1);
    assert!(store.get("whole:1").is_ok() && store.resolve("torn:1").unwrap().is_none());
    load(&store, &pack(&torn.layout(Some("torn:1")))).unwrap();
    drop(store);
    fs::write(lost_blob, "rotten").unwrap();
    let store = Store::open(dir).unwrap();
    assert_eq!(store.list().len(), 1);
    drop(store);
    fs::write(dir.join("index.json"), "{").unwrap();
    let error = Store::open(dir).err().unwrap();
    assert!(matches!(&error, Error::DamagedIndex { .. }), "{error}");
    assert_eq!(
        fs::read_dir(dir.join("layers")).unwrap().count(),
        2,
        "nothing is lost over a damaged index"
    );
}

/// A reader that waits at a barrier after its first bytes, so that loads overlap for certain.
struct Meeting<'a>(&'a [u8], Option<Arc<Barrier>>);

impl Read for Meeting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(buffer)?;
        if let Some(barrier) = self.1.take() {
            barrier.wait();
        }
        Ok(n)
    }
}

#[test]
fn threads_share_one_store() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let store = Store::open(dir).unwrap();
    let barrier = Arc::new(Barrier::new(8));
    let images: Vec<TestImage> = (0..4).map(|n| image(&format!("{n}"))).collect();
    let unpacked = Arc::new(Mutex::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            // Each image twice, all on one base layer, and a bad one among them.
            let (store, barrier, unpacked) = (store.clone(), barrier.clone(), unpacked.clone());
            let bad = thread == 7;
            let mut image = images[thread % 4].clone();
            if bad {
                image = self::image("bad");
                image.layers[1].1 = gzip(b"bad");
                image.describe();
            }
            scope.spawn(move || {
                let progress: ProgressFn = Arc::new(move |report| {
                    if report.phase == Phase::Unpacking && report.done_bytes == 0 {
                        *unpacked.lock().unwrap() += 1;
                    }
                });
                let archive = pack(&image.layout(Some(&format!("t:{}", thread % 4))));
                let result = store.load(
                    "t",
                    Meeting(&archive, Some(barrier)),
                    &LoadOptions::default(),
                    &progress,
                );
                assert_eq!(result.is_err(), bad, "{result:?}");
            });
        }
    });
    assert_eq!(store.list().len(), 4);
    assert_eq!(holds(dir), (8, 5, 0));
    for n in 0..4 {
        let image = store.get(&format!("t:{n}")).unwrap();
        assert_eq!(
            fs::read_to_string(image.layers[1].join("own")).unwrap(),
            n.to_string()
        );
    }
    assert_eq!(
        *unpacked.lock().unwrap(),
        6,
        "each layer is unpacked once, the bad one tried"
    );
}

/// A small file system, unmounted however the test ends.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn new(at: &Path, options: &str) -> Self {
        fs::create_dir(at).unwrap();
        mount(
            Some("tmpfs"),
            at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options),
        )
        .unwrap();
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_is_said_and_left_clean() {
    let temp = tempfile::tempdir().unwrap();
    let small = TestImage::new(vec![(GZIP, Layer::new().file("small", "fits").tar())]);
    let big = Layer::new()
        .file("big", &"0123456789abcdef".repeat(1 << 19))
        .tar();
    for (what, image) in [
        // The archive does not fit; it fits and what it holds does not; a layer of many empty files.
        ("archive", TestImage::new(vec![(PLAIN, big.clone())])),
        ("layer", TestImage::new(vec![(GZIP, big.clone())])),
        ("files", {
            let layer = (0..2000).fold(Layer::new(), |layer, n| layer.file(&format!("f{n}"), ""));
            TestImage::new(vec![(GZIP, layer.tar())])
        }),
    ] {
        let disk = SmallDisk::new(&temp.path().join(what), "size=4m,nr_inodes=1000");
        let dir = disk.0.join("images");
        let store = Store::open(&dir).unwrap();
        load(&store, &pack(&small.layout(Some("small:1")))).unwrap();
        let error = load(&store, &pack(&image.layout(Some("big:1")))).unwrap_err();
        let Error::DiskFull { path, .. } = &error else {
            panic!("{what}: {error:?}")
        };
        assert!(path.starts_with(&dir), "{error}");
        assert!(error.to_string().contains("bytes free"), "{error}");
        assert_eq!(holds(&dir), (2, 1, 0), "{what}");
        assert!(store.get("small:1").is_ok());
        // And there is room again.
        load(&store, &pack(&small.layout(Some("small:2")))).unwrap();
        drop(store);
        assert_eq!(Store::open(&dir).unwrap().list()[0].references.len(), 2);
    }
}
