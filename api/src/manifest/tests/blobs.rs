//! Secrets and configs: where their content comes from, and the files that services see.

use super::*;
use crate::model::{BlobFile, BlobKey, BlobKind, Labels};

const FILE: &str = r#"
services:
  web:
    image: nginx
    secrets:
      - password
      - source: token
        target: app/api_token
        uid: "103"
        gid: 104
        mode: 0440
      - {source: given, target: /etc/given.key, mode: 0o400}
    configs:
      - site
      - {source: motd, target: /etc/motd, x-note: ours}
secrets:
  password: {file: password.txt, labels: {tier: db}}
  token: {environment: PASSED, name: "token_${TWO}"}
  given: {external: true, name: vault_key}
configs:
  site: {file: ./conf/./site.conf}
  motd:
    content: |
      Welcome to ${TAG}, $${you}
"#;

fn key(kind: BlobKind, name: &str) -> BlobKey {
    let name = name.into();
    BlobKey { kind, name }
}

#[test]
fn contents_and_files() {
    let (mut spec, warnings) = read_file(FILE).expect("good");
    assert_eq!(warnings, Vec::<String>::new());
    let made: Vec<_> = spec
        .blobs
        .iter()
        .map(|blob| {
            (
                blob.key().to_string(),
                String::from_utf8_lossy(blob.data.as_bytes()),
            )
        })
        .collect();
    let want = [
        ("secret shop_password", "hunter2\n"),
        ("secret token_2", "on"),
        ("config shop_motd", "Welcome to 7.2, ${you}\n"),
        ("config shop_site", "listen 80;"),
    ];
    assert_eq!(made, want.map(|(k, v)| (k.to_owned(), v.into())));
    assert_eq!(
        spec.blobs[0].labels,
        Labels::from([("tier".into(), "db".into())])
    );
    assert!(
        spec.blobs
            .iter()
            .all(|b| b.stack.as_deref() == Some("shop"))
    );
    assert_eq!(spec.external_blobs, [key(BlobKind::Secret, "vault_key")]);
    let file = |kind, name, target: &str, uid, gid, mode| BlobFile {
        source: key(kind, name),
        target: target.into(),
        uid,
        gid,
        mode,
    };
    use BlobKind::{Config, Secret};
    let web = spec.services.remove("shop_web").expect("web");
    assert_eq!(
        web.blobs,
        [
            file(Secret, "vault_key", "/etc/given.key", 0, 0, 0o400),
            file(Config, "shop_motd", "/etc/motd", 0, 0, 0o444),
            file(
                Secret,
                "token_2",
                "/run/secrets/app/api_token",
                103,
                104,
                0o440
            ),
            file(
                Secret,
                "shop_password",
                "/run/secrets/password",
                0,
                0,
                0o444
            ),
            file(Config, "shop_site", "/site", 0, 0, 0o444),
        ]
    );
}

#[test]
fn every_refusal_has_its_line_and_no_content() {
    let text = "\
services:
  web:
    image: nginx
    volumes: [/etc/motd]
    secrets:
      - passwort
      - password
      - {source: password, mode: 440}
      - {target: x}
      - {source: password, target: ../x, mode: 0888, uid: www, colour: red}
      - {source: password, target: a, mode: 01000}
    configs:
      - {source: site, target: /run/secrets/password}
      - {source: site, target: /etc/motd}
secrets:
  password: {file: password.txt}
  twice: {file: password.txt, environment: TAG}
  none: {}
  nothing:
  absent: {file: nope.txt}
  home: {file: ~/x}
  empty: {file: empty}
  big: {file: big}
  unset: {environment: NOT_SET}
  inline: {content: hunter2}
  vault: {driver: vault, file: password.txt}
  outside: {external: true, file: password.txt}
  same: {name: shop_password, file: password.txt}
configs:
  site: {file: /etc/site.conf}
  bad/name: {content: x}
  typed: {content: 5}
  templated: {content: x, template_driver: golang}
";
    insta::assert_snapshot!(refused(text).join("\n"));
}

#[test]
fn together_they_have_to_fit_into_one_deploy() {
    let many = |count: usize| {
        let configs: String = (0..count)
            .map(|n| format!("  c{n}: {{file: full}}\n"))
            .collect();
        format!("services: {{web: {{image: a}}}}\nconfigs:\n{configs}")
    };
    assert!(read_file(&many(6)).is_ok());
    let errors = refused(&many(7));
    assert_eq!(
        errors,
        [
            "stack.yml:2: configs: secrets and configs have 7168000 bytes together, one deploy may have 6291456; the \
             largest are config shop_c0 (1024000 bytes), config shop_c1 (1024000 bytes), config shop_c2 (1024000 bytes); \
             make the largest beforehand with `clusterctl config create` or `secret create`, and declare them external: true"
        ]
    );
}
