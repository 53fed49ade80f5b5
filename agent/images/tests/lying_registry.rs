//! Pulls from servers that misbehave.

mod support;

use std::sync::Arc;
use std::time::Duration;

use images::{Auth, Digest, Phase, ProgressFn, PullOptions, Store, quiet};
use support::registry::*;
use support::*;

async fn pull(store: &Store, name: &str, auth: &Auth) -> images::Result<images::ImageInfo> {
    store
        .pull(&reference(name), auth, &PullOptions::default(), &quiet())
        .await
}

/// A registry that serves the image but for what `change` makes of an answer.
async fn lying(
    image: &TestImage,
    change: impl Fn(&str, Answer) -> Answer + Send + Sync + 'static,
) -> (String, Scripted) {
    let image = image.clone();
    scripted(move |head| {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let blobs = image.blobs();
        let found = path
            .rsplit("sha256:")
            .next()
            .and_then(|hex| blobs.get(&format!("blobs/sha256/{hex}")));
        let honest = match found {
            Some(blob) => Answer::new("200 OK", blob),
            None if path.contains("/manifests/") => Answer::new("200 OK", &image.manifest),
            None if path.ends_with("/v2/") => Answer::new("200 OK", b"{}"),
            None => Answer::new("404 Not Found", b"{}"),
        };
        change(path, honest)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn lying_registries_are_caught() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("images");
    let store = Store::open(&dir).unwrap();
    let image = image("x");
    let blob = |n: usize| Digest::of(&image.layers[n].1).hex();
    let (first, second, config) = (blob(0), blob(1), image.id().hex());
    type Change = Box<dyn Fn(&str, Answer) -> Answer + Send + Sync>;
    let on = |part: &str, change: fn(Answer) -> Answer| -> Change {
        let part = part.to_owned();
        Box::new(move |path, answer| {
            if path.contains(&part) {
                change(answer)
            } else {
                answer
            }
        })
    };
    let cases: Vec<(&str, Change, &[&str])> = vec![
        (
            "another layer",
            on(&second, |mut a| {
                a.body[20] ^= 1;
                a
            }),
            &["layer sha256:", "wrong digest"],
        ),
        (
            "another config",
            on(&config, |mut a| {
                a.body[20] ^= 1;
                a
            }),
            &["config sha256:", "wrong digest"],
        ),
        (
            "a layer cut off",
            on(&first, |mut a| {
                a.body.truncate(100);
                a
            }),
            &["cannot reach registry"],
        ),
        (
            "a layer too short",
            on(&first, |a| Answer::new("200 OK", &a.body[..100])),
            &["layer sha256:", "wrong digest"],
        ),
        (
            "a layer without end",
            on(&first, |a| Answer {
                head: "HTTP/1.1 200 OK".to_owned(),
                endless: true,
                body: a.body,
            }),
            &["layer sha256:", "too large"],
        ),
        (
            "a config without end",
            on(&config, |a| Answer {
                head: "HTTP/1.1 200 OK".to_owned(),
                endless: true,
                body: a.body,
            }),
            &["config sha256:", "too large"],
        ),
        (
            "a manifest without end",
            on("/manifests/", |_| Answer {
                head: "HTTP/1.1 200 OK".to_owned(),
                endless: true,
                body: vec![b' '; 4096],
            }),
            &["manifest", "too large", "4194304"],
        ),
        (
            "a manifest of another digest",
            on("/manifests/", |a| Answer {
                head: format!(
                    "{}\r\ndocker-content-digest: {}",
                    a.head,
                    Digest::of(b"other")
                ),
                ..a
            }),
            &["manifest", "wrong digest"],
        ),
        (
            "a missing layer",
            on(&second, |_| Answer::new("404 Not Found", b"{}")),
            &["has no image"],
        ),
        (
            "an old manifest",
            on("/manifests/", |_| {
                Answer::new("200 OK", b"{\"schemaVersion\":1}")
            }),
            &["manifest.v1"],
        ),
        (
            "a web page",
            on("/manifests/", |_| Answer::new("200 OK", b"<html>")),
            &["cannot be understood"],
        ),
        (
            "an error",
            on("/manifests/", |_| {
                Answer::new("503 Service Unavailable", b"later")
            }),
            &["503", "later"],
        ),
        (
            "an endless error",
            on("/manifests/", |_| Answer {
                head: "HTTP/1.1 500 Oops".to_owned(),
                endless: true,
                body: vec![b'e'; 4096],
            }),
            &["500"],
        ),
    ];
    for (what, change, texts) in cases {
        let (host, _server) = lying(&image, change).await;
        let error = pull(&store, &format!("{host}/app:1"), &Auth::Anonymous)
            .await
            .unwrap_err()
            .full();
        for text in texts.iter().chain(&[host.as_str()]) {
            assert!(error.contains(text), "{what}: `{text}` is not in `{error}`");
        }
        assert_eq!(holds(&dir), (0, 0, 0), "{what}");
    }
    // And the honest one, as proof that the others fail for their lies.
    let (host, _server) = lying(&image, |_, answer| answer).await;
    pull(&store, &format!("{host}/app:1"), &Auth::Anonymous)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_pull_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("images");
    let store = Store::open(&dir).unwrap();
    let image = image("x");
    let last = Digest::of(&image.layers[2].1).hex();
    // The last layer never comes.
    let (host, _server) = lying(&image, move |path, mut answer| {
        if path.contains(&last) {
            answer.head = answer.head.replace("content-length: ", "content-length: 9");
        }
        answer
    })
    .await;
    let seen = Arc::new(tokio::sync::Notify::new());
    let notify = seen.clone();
    let progress: ProgressFn = Arc::new(move |report| {
        if report.phase == Phase::Done {
            notify.notify_one();
        }
    });
    let name = reference(&format!("{host}/app:1"));
    let options = PullOptions::default();
    let auth = Auth::Anonymous;
    let pulling = store.pull(&name, &auth, &options, &progress);
    tokio::select! {
        result = pulling => assert!(result.is_err()),
        () = seen.notified() => {}
    }
    while holds(&dir) != (0, 0, 0) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(store.list().is_empty());
}
