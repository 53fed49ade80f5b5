//! Bad archives: each gets one clear error, nothing outside is touched and nothing is left behind.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use images::{Digest, Limits, LoadOptions, Store, quiet};
use support::*;
use tar::EntryType;

#[test]
fn hostile_layers_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("images");
    let outside = temp.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "v").unwrap();
    let store = Store::open(&dir).unwrap();
    let outside_text = outside.to_str().unwrap();
    let long = "a".repeat(300);
    for (what, layer, texts) in [
        (
            "traversal",
            Layer::new().file("../evil", "x"),
            &["../evil", "outside"][..],
        ),
        (
            "inner traversal",
            Layer::new().file("a/../../evil", "x"),
            &["a/../../evil"],
        ),
        (
            "whiteout of ..",
            Layer::new().file("a/.wh...", ""),
            &["a/.wh..."],
        ),
        (
            "whiteout of .",
            Layer::new().file("a/.wh..", ""),
            &["a/.wh.."],
        ),
        (
            "whiteout of nothing",
            Layer::new().file(".wh.", ""),
            &[".wh."],
        ),
        (
            "hard link out",
            Layer::new().link("l", "../../outside/victim"),
            &["`l`", "victim", "outside"],
        ),
        (
            "hard link to nothing",
            Layer::new().link("l", "/etc/passwd"),
            &["`l`", "/etc/passwd", "does not hold"],
        ),
        (
            "hard link through a symlink out",
            Layer::new()
                .symlink("d", outside_text)
                .link("l", "d/victim"),
            &["`l`", "does not hold"],
        ),
        (
            "write through a symlink out",
            Layer::new().symlink("d", outside_text).file("d/evil", "x"),
            &["`d`", "cannot create"],
        ),
        (
            "below a file",
            Layer::new().file("f", "x").file("f/g", "x"),
            &["`f`", "Not a directory"],
        ),
        (
            "link loop",
            Layer::new()
                .symlink("a", "b")
                .symlink("b", "a")
                .file("a/x", "x"),
            &["symbolic links"],
        ),
        (
            "hard link to a folder",
            Layer::new().dir("d", 0o755).link("l", "d"),
            &["`l`", "folder `d`"],
        ),
        (
            "hard link to the root",
            Layer::new().link("l", "./"),
            &["`l`"],
        ),
        (
            "root as a file",
            Layer::new().file("./", "").symlink(".", "/"),
            &["names the root"],
        ),
        (
            "long name",
            Layer::new()
                .pax(&[("path", long.as_bytes())])
                .file("x", "x"),
            &["aaa", "too long"],
        ),
        (
            "zero byte",
            Layer::new().pax(&[("path", b"a\0b")]).file("x", "x"),
            &["zero byte"],
        ),
        (
            "huge uid",
            Layer::new().pax(&[("uid", b"4294967295")]).file("x", "x"),
            &["`x`", "uid 4294967295"],
        ),
        (
            "bad pax",
            Layer::new().pax(&[("size", b"-1")]).file("x", "x"),
            &["bad size"],
        ),
        (
            "sparse",
            Layer::new()
                .pax(&[("GNU.sparse.major", b"1")])
                .file("x", "x"),
            &["`x`", "sparse"],
        ),
        (
            "old sparse",
            Layer::new().raw("x", EntryType::GNUSparse, 0o644, (0, 0), "", b""),
            &["sparse"],
        ),
        (
            "unknown type",
            Layer::new().raw("x", EntryType::new(b'Z'), 0o644, (0, 0), "", b""),
            &["type 'Z'"],
        ),
        (
            "link to nowhere",
            Layer::new().symlink("x", ""),
            &["`x`", "nowhere"],
        ),
        (
            "bad capability",
            Layer::new()
                .pax(&[("SCHILY.xattr.security.capability", b"x")])
                .file("x", "x"),
            &["`x`"],
        ),
    ] {
        let image = TestImage::new(vec![(GZIP, layer.tar())]);
        let layer = Digest::of(&image.layers[0].1).to_string();
        let texts: Vec<&str> = texts.iter().copied().chain([layer.as_str()]).collect();
        refused_with(
            &store,
            &dir,
            what,
            &pack(&image.layout(None)),
            &LoadOptions::default(),
            &texts,
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "{what}");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 2, "{what}");
    }
}

#[test]
fn odd_but_honest_layers_are_taken() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("images");
    let store = Store::open(&dir).unwrap();
    let layer = Layer::new()
        .file("/abs/file", "rooted here")
        .symlink("link", "/abs")
        .file("link/through", "inside")
        .link("hard", "/abs/file")
        .file("twice", "1")
        .file("twice", "2")
        .dir("turns", 0o755)
        .file("turns/x", "x")
        .file("turns", "into a file")
        .file(".wh.early", "")
        .file("early", "made after its whiteout")
        .pax(&[
            ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
            ("comment", b"x"),
        ])
        .dir("redirected", 0o755)
        .raw(
            "global",
            EntryType::XGlobalHeader,
            0,
            (0, 0),
            "",
            b"11 path=no\n",
        )
        .file("after", "x")
        .tar();
    let image = TestImage::new(vec![(PLAIN, layer)]);
    load(&store, &pack(&image.layout(Some("odd:1")))).unwrap();
    let tree = &store.get("odd:1").unwrap().layers[0];
    let read = |path: &str| fs::read_to_string(tree.join(path)).unwrap();
    assert_eq!(read("abs/through"), "inside");
    assert_eq!(read("hard"), "rooted here");
    assert_eq!(read("twice"), "2");
    assert_eq!(read("turns"), "into a file");
    assert_eq!(read("early"), "made after its whiteout");
    assert_eq!(read("after"), "x");
    assert!(!tree.join("no").exists());
    assert_eq!(fs::read_link(tree.join("link")).unwrap(), Path::new("/abs"));
    // SAFETY: both names are NUL-terminated, and no value is asked for.
    let redirect = unsafe {
        let path = std::ffi::CString::new(tree.join("redirected").to_str().unwrap()).unwrap();
        libc::lgetxattr(
            path.as_ptr(),
            c"trusted.overlay.redirect".as_ptr(),
            std::ptr::null_mut(),
            0,
        )
    };
    assert_eq!(redirect, -1, "an archive does not command overlayfs");
}

#[test]
fn bad_archives_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("images");
    let store = Store::open(&dir).unwrap();
    let image = TestImage::new(vec![(
        GZIP,
        Layer::new().file("f", &"x".repeat(9000)).tar(),
    )]);
    let archive = pack(&image.layout(None));
    let default = LoadOptions::default();
    refused_with(&store, &dir, "empty", b"", &default, &["no tar archive"]);
    refused_with(
        &store,
        &dir,
        "garbage",
        &[7; 4096],
        &default,
        &["no tar archive"],
    );
    refused_with(
        &store,
        &dir,
        "truncated",
        &archive[..700],
        &default,
        &["truncated"],
    );
    let packed = gzip(&archive);
    refused_with(
        &store,
        &dir,
        "truncated gzip",
        &packed[..packed.len() - 200],
        &default,
        &["truncated"],
    );
    for (what, layer, texts) in [
        (
            "traversal",
            Layer::new().file("../index.json", "{}"),
            &["../index.json", "outside"][..],
        ),
        (
            "link out",
            Layer::new().symlink("manifest.json", "../../etc/passwd"),
            &["manifest.json", "etc/passwd"],
        ),
        (
            "device",
            Layer::new().device("index.json", EntryType::Char, 1, 5),
            &["index.json", "device"],
        ),
        (
            "link loop",
            Layer::new().symlink("index.json", "index.json"),
            &["neither an OCI layout"],
        ),
    ] {
        refused_with(&store, &dir, what, &layer.tar(), &default, texts);
    }
    let two = LoadOptions {
        name: Some("one:name".parse().unwrap()),
        ..LoadOptions::default()
    };
    let other = TestImage::new(vec![]);
    let mut files = image.layout(None);
    files.extend(other.blobs());
    let index = serde_json::json!({ "manifests":
        [descriptor(MANIFEST, &image.manifest), descriptor(MANIFEST, &other.manifest)] });
    files.insert("index.json".to_owned(), serde_json::to_vec(&index).unwrap());
    refused_with(
        &store,
        &dir,
        "a name for two",
        &pack(&files),
        &two,
        &["holds 2 images"],
    );
    let missing = store
        .load_path(&temp.path().join("no.tar"), &default, &quiet())
        .unwrap_err()
        .full();
    assert!(
        missing.contains("no.tar") && missing.contains("No such file"),
        "{missing}"
    );
}

#[test]
fn limits_hold() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("images");
    let store = Store::open(&dir).unwrap();
    let bomb = TestImage::new(vec![(
        GZIP,
        Layer::new().file("zeros", &"\0".repeat(64 << 20)).tar(),
    )]);
    let archive = pack(&bomb.layout(None));
    assert!(archive.len() < 1 << 20);
    let limits = |change: fn(&mut Limits)| {
        let mut options = LoadOptions::default();
        change(&mut options.limits);
        options
    };
    let options = limits(|limits| limits.unpacked_bytes_max = 8 << 20);
    refused_with(
        &store,
        &dir,
        "bomb",
        &archive,
        &options,
        &["too large", "8388608", "layer sha256:"],
    );
    // What follows the archive's end counts too.
    let mut tail = Layer::new().file("f", "x").tar();
    tail.resize(tail.len() + (64 << 20), 0);
    let tail = TestImage::new(vec![(ZSTD, tail)]);
    refused_with(
        &store,
        &dir,
        "tail",
        &pack(&tail.layout(None)),
        &options,
        &["too large"],
    );

    let many = (0..500).fold(Layer::new(), |layer, n| layer.file(&format!("f{n}"), ""));
    let many = TestImage::new(vec![(GZIP, many.tar())]);
    let options = limits(|limits| limits.entries_max = 100);
    refused_with(
        &store,
        &dir,
        "entries",
        &pack(&many.layout(None)),
        &options,
        &["too large", "entries", "100"],
    );

    let long = Layer::new()
        .pax(&[("path", "d/".repeat(3000).as_bytes())])
        .file("x", "x")
        .tar();
    let long = TestImage::new(vec![(PLAIN, long)]);
    let default = LoadOptions::default();
    refused_with(
        &store,
        &dir,
        "path",
        &pack(&long.layout(None)),
        &default,
        &["too large", "path", "4096"],
    );
    let header = Layer::new()
        .pax(&[("comment", &vec![b'x'; 5 << 20])])
        .file("x", "x")
        .tar();
    let header = TestImage::new(vec![(GZIP, header)]);
    refused_with(
        &store,
        &dir,
        "header",
        &pack(&header.layout(None)),
        &default,
        &["too large", "extended header"],
    );

    // A bomb around the archive itself.
    let mut files = BTreeMap::new();
    files.insert("zeros".to_owned(), vec![0; 64 << 20]);
    let options = limits(|limits| limits.unpacked_bytes_max = 8 << 20);
    refused_with(
        &store,
        &dir,
        "outer bomb",
        &zstd(&pack(&files)),
        &options,
        &["too large"],
    );
}

/// Deeper than the kernel's paths and a process's descriptors reach, by links that lead ever deeper.
#[test]
fn a_very_deep_layer_is_refused_or_taken_and_goes_away() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("images");
    let store = Store::open(&dir).unwrap();
    let step = "d/".repeat(40);
    let mut layer = Layer::new();
    let mut at = String::new();
    for n in 0..60 {
        let deep = format!("{at}{step}");
        layer = layer
            .dir(&deep, 0o755)
            .symlink(&format!("l{n}"), deep.trim_end_matches('/'));
        at = format!("l{n}/");
    }
    let image = TestImage::new(vec![(PLAIN, layer.tar())]);
    match load(&store, &pack(&image.layout(Some("deep:1")))) {
        Ok(_) => drop(store.remove("deep:1", &[], false).unwrap()),
        Err(error) => {
            assert!(error.to_string().contains("bad.tar") || error.to_string().contains("test.tar"))
        }
    }
    assert_eq!(holds(&dir), (0, 0, 0));
}
