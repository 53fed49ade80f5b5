//! Archives, a full disk, and who is not root.

use std::{fs, path::Path};

use serde_json::json;
use sha2::{Digest, Sha256};
use tar::{EntryType, Header};

use super::*;

/// An archive as `docker save` writes it, of one layer that holds `entry`. `lie`: the configuration names
/// another layer's digest.
fn archive(path: &Path, lie: bool, entry: impl FnOnce(&mut Header), data: &[u8]) {
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(data.len() as u64);
    entry(&mut header);
    header.set_cksum();
    layer.append(&header, data).expect("appended");
    let layer = layer.into_inner().expect("a layer");
    let hex = |bytes: &[u8]| {
        Sha256::digest(bytes)
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    let digest = format!(
        "sha256:{}",
        hex(if lie { b"another layer" } else { &layer })
    );
    let config = json!({"architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest]}});
    let config = config.to_string().into_bytes();
    let name = format!("{}.json", hex(&config));
    let manifest =
        json!([{"Config": name, "RepoTags": ["hostile:1"], "Layers": ["l/layer.tar"]}]).to_string();
    let mut whole = tar::Builder::new(fs::File::create(path).expect("a file"));
    for (name, bytes) in [
        (name.as_str(), &config[..]),
        ("l/layer.tar", &layer),
        ("manifest.json", manifest.as_bytes()),
    ] {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        whole
            .append_data(&mut header, name, bytes)
            .expect("appended");
    }
    whole.finish().expect("written");
}

/// A name as it is, also one that the library would not write.
fn named(header: &mut Header, name: &str, kind: EntryType) {
    header.set_entry_type(kind);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
}

#[test]
fn an_archive_that_is_not_an_image_and_a_full_disk_leave_no_image() {
    let lab = Lab::builder().nodes(1).start(false).up().expect("a lab");
    let node = lab.node(1);
    // Images have a disk of their own, too small for the whole of busybox.
    let images = "/var/lib/clusterd/images";
    let mount = format!("mkdir -p {images} && mount -t tmpfs -o size=3m none {images}");
    node.run_ok(["sh", "-c", &mount]).expect("mounted");
    node.start().expect("clusterd");
    let used = || {
        node.run_ok(["find", images, "-type", "f", "-size", "+3k"])
            .expect("lists")
    };
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("archive.tar");
    let shown = path.to_str().expect("a path");
    let refuses = |parts: &[&str]| {
        refused(&node, &["image", "load", "-i", shown], parts);
        assert_eq!(
            count(&node, &["image", "ls"]),
            0,
            "an image is left: {parts:?}"
        );
        assert_eq!(used(), "", "files are left: {parts:?}");
    };
    let busybox = places::image("busybox").expect("an image");

    refuses(&[shown, "No such file"]);
    fs::write(&path, "this is no archive").expect("written");
    refuses(&[shown, "no tar archive", "get it again"]);
    let whole = fs::read(&busybox).expect("read");
    fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    refuses(&[shown, "truncated", "again"]);
    archive(
        &path,
        true,
        |h| named(h, "file", EntryType::Regular),
        b"data",
    );
    refuses(&[shown, "promises diff_id", "build the image again"]);
    archive(
        &path,
        false,
        |h| named(h, "../../../../../../tmp/escaped", EntryType::Regular),
        b"data",
    );
    refuses(&["../../../../../../tmp/escaped"]);
    assert!(!Path::new("/tmp/escaped").exists());
    let absurd = |h: &mut Header| {
        named(h, "big", EntryType::Regular);
        h.set_size(1 << 60);
    };
    archive(&path, false, absurd, b"");
    refuses(&[shown, "truncated", "again"]);

    let busybox = busybox.to_str().expect("a path");
    let load = ["image", "load", "-i", busybox];
    refused(
        &node,
        &load,
        &[
            "no space left for",
            images,
            "bytes free",
            "clusterctl image rm",
        ],
    );
    assert_eq!((count(&node, &["image", "ls"]), used().as_str()), (0, ""));
    node.run_ok(["mount", "-o", "remount,size=64m", images])
        .expect("room");
    ctl(&node, &load).checked().expect("with room it loads");
    assert_eq!(count(&node, &["image", "ls"]), 1);

    // Without being root.
    let nobody = |words: &[&str]| {
        let first = [
            "setpriv",
            "--reuid=nobody",
            "--regid=nogroup",
            "--clear-groups",
        ];
        node.run(first.into_iter().chain(words.iter().copied()))
            .expect("it ends")
    };
    assert_says(
        &nobody(&["clusterctl", "init"]),
        1,
        &[
            "/run/clusterd/clusterd.sock",
            "be root",
            "usermod -aG clusterd",
        ],
    );
    let dirs = [
        "clusterd",
        "--state-dir",
        "/tmp/refused-state",
        "--run-dir",
        "/tmp/refused-run",
    ];
    assert_says(&nobody(&dirs), 1, &["clusterd is not root", "sudo"]);
    assert!(!Path::new("/tmp/refused-state").exists());
    assert_says(
        &node.run(["clusterd"]).expect("ends"),
        1,
        &["another clusterd (pid ", "/var/lib/clusterd", "--state-dir"],
    );
    node.stop().expect("stops");
    refused(
        &node,
        &["node", "ls"],
        &[
            "clusterd is not running here",
            "/run/clusterd/clusterd.sock",
            "start it",
        ],
    );
    refused(
        &node,
        &["-H", "tcp://node1:2377", "node", "ls"],
        &["tcp://node1:2377", "unix:///PATH"],
    );
}
