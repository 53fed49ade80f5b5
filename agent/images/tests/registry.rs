//! Pulls from Debian's docker-registry on loopback.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use images::{Auth, Digest, Error, Limits, Phase, ProgressFn, PullOptions, Store, quiet};
use rcgen::SigningKey;
use support::registry::*;
use support::*;

fn basic(password: &str) -> Auth {
    Auth::Basic {
        username: "me".to_owned(),
        password: password.to_owned(),
    }
}

async fn pull(store: &Store, name: &str, auth: &Auth) -> images::Result<images::ImageInfo> {
    store
        .pull(&reference(name), auth, &PullOptions::default(), &quiet())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn pulls_from_a_real_registry() {
    let temp = tempfile::tempdir().unwrap();
    let (registry, http) = (
        Registry::start(&temp.path().join("registry"), "", None).await,
        http(),
    );
    let dir = temp.path().join("images");
    let store = Store::open(&dir).unwrap();
    let ours = image("ours");
    registry.push(&http, "team/app", "1", &ours).await;
    let name = registry.name("team/app:1");

    let reports = Arc::new(Mutex::new(Vec::new()));
    let kept = reports.clone();
    let progress: ProgressFn = Arc::new(move |report| kept.lock().unwrap().push(report));
    let info = store
        .pull(
            &reference(&name),
            &Auth::Anonymous,
            &PullOptions::default(),
            &progress,
        )
        .await
        .unwrap();
    assert_eq!(info.id, ours.id());
    assert_eq!(info.manifest_digest, Digest::of(&ours.manifest));
    assert!(info.pulled && info.layers == 3);
    let done = reports
        .lock()
        .unwrap()
        .iter()
        .filter(|report| report.phase == Phase::Done)
        .count();
    assert_eq!(done, 3);
    let stored = store.get(&name).unwrap();
    assert_eq!(
        fs::read_to_string(stored.layers[1].join("own")).unwrap(),
        "ours"
    );
    assert_eq!(holds(&dir), (2, 3, 0));

    // A second image fetches only what is new.
    let theirs = image("theirs");
    registry.push(&http, "team/app", "2", &theirs).await;
    reports.lock().unwrap().clear();
    let name2 = registry.name("team/app:2");
    store
        .pull(
            &reference(&name2),
            &Auth::Anonymous,
            &PullOptions::default(),
            &progress,
        )
        .await
        .unwrap();
    let downloads = |phase| {
        reports
            .lock()
            .unwrap()
            .iter()
            .filter(|r| r.phase == phase && r.done_bytes == 0)
            .count()
    };
    assert_eq!(
        downloads(Phase::Downloading),
        2,
        "the lowest layer was there"
    );

    // An index over platforms, by tag and by digest.
    let mut entries = Vec::new();
    for (image, arch) in [(&theirs, "pdp11"), (&ours, host_arch())] {
        let mut entry = descriptor(MANIFEST, &image.manifest);
        entry["platform"] = serde_json::json!({ "os": "linux", "architecture": arch });
        entries.push(entry);
    }
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": entries });
    let index = serde_json::to_vec(&index).unwrap();
    registry
        .push_manifest(&http, "team/app", "multi", INDEX, &index)
        .await;
    let info = pull(&store, &registry.name("team/app:multi"), &Auth::Anonymous)
        .await
        .unwrap();
    assert_eq!(info.id, ours.id());
    assert_eq!(info.references.len(), 2);
    let pinned = registry.name(&format!("team/app@{}", Digest::of(&index)));
    assert_eq!(
        store.get(&pinned).unwrap().id,
        ours.id(),
        "known by its index too"
    );
    let fresh = Store::open(&temp.path().join("fresh")).unwrap();
    assert_eq!(
        pull(&fresh, &pinned, &Auth::Anonymous).await.unwrap().id,
        ours.id()
    );
    assert!(fresh.get(&pinned).is_ok() && fresh.list()[0].references.is_empty());

    // The registry's own pinned image is answered without it.
    drop(registry);
    pull(&store, &pinned, &Auth::Anonymous).await.unwrap();
    let error = pull(&store, &name, &Auth::Anonymous).await.unwrap_err();
    assert!(matches!(error, Error::Registry { .. }), "{}", error.full());
    assert!(error.full().contains("refused"), "{}", error.full());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_pulls_of_one_image_share_the_work() {
    let temp = tempfile::tempdir().unwrap();
    let (registry, http) = (
        Registry::start(&temp.path().join("registry"), "", None).await,
        http(),
    );
    let dir = temp.path().join("images");
    let store = Store::open(&dir).unwrap();
    registry.push(&http, "app", "a", &image("a")).await;
    registry.push(&http, "app", "b", &image("b")).await;
    let downloads = Arc::new(Mutex::new(0));
    let mut pulls = tokio::task::JoinSet::new();
    for n in 0..10 {
        let name = reference(&registry.name(if n % 2 == 0 { "app:a" } else { "app:b" }));
        let (store, downloads) = (store.clone(), downloads.clone());
        pulls.spawn(async move {
            let progress: ProgressFn = Arc::new(move |report| {
                if report.phase == Phase::Downloading && report.done_bytes == 0 {
                    *downloads.lock().unwrap() += 1;
                }
            });
            store
                .pull(&name, &Auth::Anonymous, &PullOptions::default(), &progress)
                .await
        });
    }
    while let Some(result) = pulls.join_next().await {
        result.unwrap().unwrap();
    }
    // A shared base; above it two layers of each.
    assert_eq!(*downloads.lock().unwrap(), 5);
    assert_eq!(holds(&dir), (4, 5, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_lacks_is_said() {
    let temp = tempfile::tempdir().unwrap();
    let (registry, http) = (
        Registry::start(&temp.path().join("registry"), "", None).await,
        http(),
    );
    let dir = temp.path().join("images");
    let store = Store::open(&dir).unwrap();
    registry.push(&http, "app", "1", &image("x")).await;
    for name in ["app:2", "none:1", &format!("app@{}", Digest::of(b"none"))] {
        let name = registry.name(name);
        let error = pull(&store, &name, &Auth::Anonymous).await.unwrap_err();
        assert!(
            matches!(error, Error::NotInRegistry { .. }),
            "{}",
            error.full()
        );
        assert!(
            error.to_string().contains(&name) && error.to_string().contains("image load"),
            "{error}"
        );
    }
    let entry = serde_json::json!({ "mediaType": MANIFEST, "digest": Digest::of(&image("x").manifest),
        "size": image("x").manifest.len(), "platform": { "os": "linux", "architecture": "pdp11" } });
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [entry] });
    registry
        .push_manifest(
            &http,
            "app",
            "pdp",
            INDEX,
            &serde_json::to_vec(&index).unwrap(),
        )
        .await;
    let error = pull(&store, &registry.name("app:pdp"), &Auth::Anonymous)
        .await
        .unwrap_err()
        .full();
    assert!(
        error.contains("linux/pdp11") && error.contains(&format!("linux/{}", host_arch())),
        "{error}"
    );
    let options = PullOptions {
        limits: Limits {
            unpacked_bytes_max: 100_000,
            ..Limits::default()
        },
        ..PullOptions::default()
    };
    let name = reference(&registry.name("app:1"));
    let error = store
        .pull(&name, &Auth::Anonymous, &options, &quiet())
        .await
        .unwrap_err()
        .full();
    assert!(error.contains("too large"), "{error}");
    assert_eq!(holds(&dir), (0, 0, 0));
    assert!(store.list().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_authentication() {
    let temp = tempfile::tempdir().unwrap();
    let passwords = temp.path().join("htpasswd");
    fs::write(&passwords, HTPASSWD).unwrap();
    let auth = format!(
        "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
        passwords.display()
    );
    let registry = Registry::start(&temp.path().join("registry"), &auth, None)
        .await
        .with_auth("me", "secret");
    let store = Store::open(&temp.path().join("images")).unwrap();
    registry.push(&http(), "app", "1", &image("x")).await;
    let name = registry.name("app:1");
    for wrong in [
        Auth::Anonymous,
        basic("wrong"),
        Auth::Bearer("wrong".to_owned()),
    ] {
        let error = pull(&store, &name, &wrong).await.unwrap_err();
        assert!(
            matches!(error, Error::Unauthorized { .. }),
            "{wrong:?}: {}",
            error.full()
        );
        assert!(
            error.to_string().contains(&name) && error.to_string().contains("credentials"),
            "{error}"
        );
        assert!(!error.full().contains("wrong"), "{}", error.full());
    }
    assert_eq!(
        pull(&store, &name, &basic("secret")).await.unwrap().id,
        image("x").id()
    );
}

/// Certificate and key in files.
fn certificate(dir: &Path, name: &str) -> (PathBuf, PathBuf, rcgen::CertifiedKey<rcgen::KeyPair>) {
    let certified =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()])
            .unwrap();
    let (cert, key) = (
        dir.join(format!("{name}.crt")),
        dir.join(format!("{name}.key")),
    );
    fs::write(&cert, certified.cert.pem()).unwrap();
    fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    (cert, key, certified)
}

#[tokio::test(flavor = "multi_thread")]
async fn https_with_a_given_authority() {
    let temp = tempfile::tempdir().unwrap();
    let (cert, key, _) = certificate(temp.path(), "server");
    let registry = Registry::start(&temp.path().join("registry"), "", Some((&cert, &key))).await;
    let store = Store::open(&temp.path().join("images")).unwrap();
    let _ = http();
    let trusting = reqwest::Client::builder()
        .tls_certs_merge(vec![
            reqwest::Certificate::from_pem(&fs::read(&cert).unwrap()).unwrap(),
        ])
        .build()
        .unwrap();
    registry.push(&trusting, "app", "1", &image("x")).await;
    let name = registry.name("app:1");
    let error = pull(&store, &name, &Auth::Anonymous)
        .await
        .unwrap_err()
        .full();
    assert!(error.contains(&registry.host), "{error}");
    let options = PullOptions {
        ca_file: Some(cert),
        ..PullOptions::default()
    };
    store
        .pull(&reference(&name), &Auth::Anonymous, &options, &quiet())
        .await
        .unwrap();
    let options = PullOptions {
        ca_file: Some(temp.path().join("none.pem")),
        ..PullOptions::default()
    };
    let error = store
        .pull(&reference(&name), &Auth::Anonymous, &options, &quiet())
        .await
        .unwrap_err()
        .full();
    assert!(error.contains("none.pem"), "{error}");
}

fn base64(bytes: &[u8], alphabet: &[u8; 64], pad: bool) -> String {
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            out.push(char::from(alphabet[(word >> (18 - 6 * at)) as usize & 63]));
        }
        if pad {
            (chunk.len()..3).for_each(|_| out.push('='));
        }
    }
    out
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The two 32-byte numbers of a DER ECDSA signature.
fn raw_signature(der: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    let mut at = 2;
    for _ in 0..2 {
        let length = usize::from(der[at + 1]);
        let number = &der[at + 2..at + 2 + length];
        let number = &number[number.len().saturating_sub(32)..];
        raw.extend(vec![0; 32 - number.len()]);
        raw.extend(number);
        at += 2 + length;
    }
    raw
}

#[tokio::test(flavor = "multi_thread")]
async fn token_authentication() {
    let temp = tempfile::tempdir().unwrap();
    let (cert, _, signer) = certificate(temp.path(), "tokens");
    let der = base64(signer.cert.der(), STANDARD, true);
    // A token server: anybody may pull `open`, `me` with the right password everything.
    let token = move |access: &str| {
        let header = serde_json::json!({ "typ": "JWT", "alg": "ES256", "x5c": [der] }).to_string();
        let access: serde_json::Value = serde_json::from_str(access).unwrap();
        let claims = serde_json::json!({ "iss": "test", "sub": "me", "aud": "registry", "exp": 4_000_000_000_u32,
            "nbf": 1, "iat": 1, "jti": "1", "access": access });
        let signed = format!(
            "{}.{}",
            base64(header.as_bytes(), URL, false),
            base64(claims.to_string().as_bytes(), URL, false)
        );
        let signature = raw_signature(&signer.signing_key.sign(signed.as_bytes()).unwrap());
        format!("{signed}.{}", base64(&signature, URL, false))
    };
    let full = r#"[{"type":"repository","name":"closed","actions":["pull","push"]},
        {"type":"repository","name":"open","actions":["pull","push"]}]"#;
    let all = token(full);
    let given = all.clone();
    let account = base64(b"me:secret", STANDARD, true).to_lowercase();
    let (realm, _server) = scripted(move |head| {
        let access = if head.contains(&account) {
            given.clone()
        } else if head.contains("authorization:") {
            return Answer::new(
                "401 Unauthorized",
                b"{\"details\":\"incorrect username or password\"}",
            );
        } else if head.contains("open") {
            token(r#"[{"type":"repository","name":"open","actions":["pull"]}]"#)
        } else {
            token("[]")
        };
        Answer::new(
            "200 OK",
            serde_json::json!({ "token": access })
                .to_string()
                .as_bytes(),
        )
    })
    .await;
    let auth = format!(
        "auth:\n  token:\n    realm: http://{realm}/token\n    service: registry\n    issuer: test\n    \
         rootcertbundle: {}\n",
        cert.display()
    );
    let registry = Registry::start(&temp.path().join("registry"), &auth, None).await;
    let mut headers = reqwest::header::HeaderMap::new();
    headers.insert("authorization", format!("Bearer {all}").parse().unwrap());
    let _ = http();
    let pusher = reqwest::Client::builder()
        .default_headers(headers)
        .build()
        .unwrap();
    for name in ["open", "closed"] {
        registry.push(&pusher, name, "1", &image(name)).await;
    }
    let store = Store::open(&temp.path().join("images")).unwrap();
    let (open, closed) = (registry.name("open:1"), registry.name("closed:1"));
    pull(&store, &open, &Auth::Anonymous).await.unwrap();
    for wrong in [Auth::Anonymous, basic("wrong")] {
        let error = pull(&store, &closed, &wrong).await.unwrap_err();
        assert!(
            matches!(error, Error::Unauthorized { .. }),
            "{wrong:?}: {}",
            error.full()
        );
    }
    pull(&store, &closed, &basic("secret")).await.unwrap();
    store.remove(&closed, &[], false).unwrap();
    pull(&store, &closed, &Auth::Bearer(all)).await.unwrap();
}
