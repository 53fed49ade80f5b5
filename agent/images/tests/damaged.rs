//! Images that don't hold together: each gets one clear error, and nothing is left behind.

mod support;

use std::collections::BTreeMap;

use images::{LoadOptions, Store};
use support::*;

#[test]
fn bad_images_are_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("images");
    let store = Store::open(&dir).unwrap();
    let layer = || Layer::new().file("f", &"data".repeat(1000)).tar();
    let good = TestImage::new(vec![
        (GZIP, layer()),
        (PLAIN, Layer::new().file("g", "g").tar()),
    ]);
    let default = LoadOptions::default();
    let blob = |at: usize| blob_name(&good.layers[at].1);
    let check = |what: &str, files: &BTreeMap<String, Vec<u8>>, texts: &[&str]| {
        refused_with(&store, &dir, what, &pack(files), &default, texts);
    };

    let mut files = good.layout(None);
    let cut = files[&blob(0)].len() / 2;
    files.get_mut(&blob(0)).unwrap().truncate(cut);
    check(
        "layer with a wrong digest",
        &files,
        &["layer sha256:", "wrong digest"],
    );

    let mut files = good.layout(None);
    files.get_mut(&blob_name(&good.config)).unwrap().push(b' ');
    check(
        "config with a wrong digest",
        &files,
        &["config sha256:", "wrong digest"],
    );

    let mut files = good.layout(None);
    files
        .get_mut(&blob_name(&good.manifest))
        .unwrap()
        .push(b' ');
    check(
        "manifest with a wrong digest",
        &files,
        &["manifest sha256:", "wrong digest"],
    );

    for (what, missing) in [
        ("layer", blob(1)),
        ("config", blob_name(&good.config)),
        ("manifest", blob_name(&good.manifest)),
    ] {
        let mut files = good.layout(None);
        files.remove(&missing);
        check(
            "missing blob",
            &files,
            &[&format!("names {what} sha256:"), "missing"],
        );
    }

    let mut image = good.clone();
    image.layers[0].1 = gzip(&Layer::new().file("f", "other").tar());
    image.describe();
    check(
        "diff_id mismatch",
        &image.layout(None),
        &["diff_id", "unpacks to"],
    );

    let mut image = good.clone();
    image.layers[0].1.truncate(cut);
    image.describe();
    check(
        "truncated layer",
        &image.layout(None),
        &["layer sha256:", "truncated"],
    );

    let mut image = good.clone();
    image.layers[0].1 = b"not a tar at all".repeat(100);
    image.describe();
    check("garbage layer", &image.layout(None), &["no tar archive"]);

    for kind in [
        "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
        "application/wasm",
    ] {
        let mut image = good.clone();
        image.layers[0].0 = kind.to_owned();
        image.describe();
        check(
            "media type",
            &image.layout(None),
            &[kind, "not supported", "layer sha256:"],
        );
    }

    let mut image = good.clone();
    image.layers.pop();
    image.describe();
    check(
        "too few layers",
        &image.layout(None),
        &["2 diff_ids, its manifest 1 layers"],
    );

    let mut image = good.clone();
    image.config = b"{\"rootfs\": 7}".to_vec();
    image.describe();
    check(
        "bad config",
        &image.layout(None),
        &["config sha256:", "cannot be understood"],
    );

    let mut image = good.clone();
    image.config.extend(vec![b' '; 5 << 20]);
    image.describe();
    check(
        "huge config",
        &image.layout(None),
        &["too large", "4194304"],
    );

    let mut files = good.layout(None);
    files.insert("index.json".to_owned(), b"[".to_vec());
    check("bad index", &files, &["index.json", "cannot be understood"]);
    files.insert("index.json".to_owned(), vec![b' '; 5 << 20]);
    check("huge index", &files, &["index.json", "too large"]);
    files.insert("index.json".to_owned(), br#"{"manifests":[]}"#.to_vec());
    check("empty index", &files, &["no variant"]);
    files.insert(
        "index.json".to_owned(),
        br#"{"manifests":[{"digest":"sha512:00","size":1}]}"#.to_vec(),
    );
    check("other digest", &files, &["sha512:00", "only sha256"]);
    files.remove("index.json");
    check("no index", &files, &["neither an OCI layout"]);

    // An index that names itself.
    let mut files = good.layout(None);
    let nested = serde_json::to_vec(
        &serde_json::json!({ "manifests": [descriptor(MANIFEST, &good.manifest)] }),
    );
    let mut nested = nested.unwrap();
    for _ in 0..6 {
        files.insert(blob_name(&nested), nested.clone());
        nested =
            serde_json::to_vec(&serde_json::json!({ "manifests": [descriptor(INDEX, &nested)] }))
                .unwrap();
    }
    files.insert("index.json".to_owned(), nested);
    check("deep index", &files, &["nest too deep"]);

    let plain = TestImage::new(vec![(PLAIN, layer())]);
    let mut files = plain.saved(&["saved:1"]);
    files.remove("0abc/layer.tar");
    check(
        "saved without its layer",
        &files,
        &["manifest.json", "0abc/layer.tar", "missing"],
    );
    let mut files = plain.saved(&["saved:1"]);
    files
        .get_mut(&format!("{}.json", plain.id().hex()))
        .unwrap()
        .push(b' ');
    check(
        "saved with another config",
        &files,
        &["config", "wrong digest"],
    );
    let mut files = plain.saved(&["Bad Name"]);
    check(
        "saved with a bad name",
        &files,
        &["manifest.json", "Bad Name"],
    );
    files.insert("manifest.json".to_owned(), b"[]".to_vec());
    check("saved with nothing", &files, &["manifest.json"]);
}
