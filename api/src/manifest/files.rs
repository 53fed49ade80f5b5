//! The secrets or the configs of a service, as files in its containers.

use super::blobs::Blobs;
use super::field::{Field, Report};
use super::keys::{self, SERVICE_BLOB};
use super::mounts::check_target;
use super::yaml::{Value, shorten};
use crate::model::{BlobFile, BlobKind, FILE_MODE};

/// Reads `secrets:` or `configs:` of a service.
pub(super) fn read(
    blobs: &Blobs,
    field: &Field<'_>,
    kind: BlobKind,
    report: &mut Report<'_>,
) -> Vec<BlobFile> {
    let mut files: Vec<BlobFile> = Vec::new();
    let items = field.items(report, &format!("a list of {kind}s"));
    for item in items.unwrap_or_default() {
        let read = if item.is_map() {
            long(blobs, &item, kind, report)
        } else {
            item.text(report, &format!("the name of a {kind}, or a mapping"))
                .and_then(|key| source(blobs, &item, key, kind, report))
        };
        let Some(file) = read else { continue };
        if files.iter().any(|other| other.target == file.target) {
            let shown = shorten(&file.target);
            report.refuse_with(
                &item,
                format!("{shown:?} is there twice"),
                "give one another target",
            );
        }
        files.push(file);
    }
    files
}

/// The file of a declared one, where it goes by default.
fn source(
    blobs: &Blobs,
    field: &Field<'_>,
    key: &str,
    kind: BlobKind,
    report: &mut Report<'_>,
) -> Option<BlobFile> {
    let shown = shorten(key);
    let Some(source) = blobs.find(key) else {
        let cure = match keys::nearest(key, blobs.keys()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("declare it under {kind}s:"),
        };
        report.refuse_with(field, format!("the {kind} {shown:?} is not declared"), cure);
        return None;
    };
    let target = check_target(field, &kind.target(key), report)?;
    Some(BlobFile {
        source,
        target,
        uid: 0,
        gid: 0,
        mode: FILE_MODE,
    })
}

/// `{source: password, target: db_password, uid: "103", gid: "103", mode: 0440}`.
fn long(
    blobs: &Blobs,
    item: &Field<'_>,
    kind: BlobKind,
    report: &mut Report<'_>,
) -> Option<BlobFile> {
    let (mut file, mut target) = (None, None);
    let (mut uid, mut gid, mut mode) = (0, 0, FILE_MODE);
    let fields = item.fields(report, "a mapping")?;
    if !fields.iter().any(|field| field.key == "source") {
        let cure = format!("add source: the {kind}'s name in this file");
        report.refuse_with(item, "it has no source", cure);
    }
    for key in fields {
        match key.key {
            "source" => {
                file = key
                    .text(report, &format!("the name of a {kind}"))
                    .and_then(|name| source(blobs, &key, name, kind, report));
            }
            "target" => {
                target = key
                    .text(report, "a file name or an absolute path")
                    .and_then(|name| check_target(&key, &kind.target(name), report));
            }
            "uid" => uid = key.number(report, 0, u32::MAX).unwrap_or_default(),
            "gid" => gid = key.number(report, 0, u32::MAX).unwrap_or_default(),
            "mode" => mode = permissions(&key, report).unwrap_or(FILE_MODE),
            _ => keys::refuse(report, &key, &SERVICE_BLOB),
        }
    }
    let file = file?;
    Some(BlobFile {
        target: target.unwrap_or(file.target),
        uid,
        gid,
        mode,
        ..file
    })
}

/// Octal, and seen to be so: what `440` means to readers is not what it means to YAML.
fn permissions(key: &Field<'_>, report: &mut Report<'_>) -> Option<u32> {
    let written = match &key.node.value {
        Value::Number(text, _) | Value::Text(text) => text.as_str(),
        _ => "",
    };
    let digits = written.strip_prefix("0o").or(written.strip_prefix('0'));
    let mode = match digits {
        Some("") => Some(0),
        Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
            u32::from_str_radix(digits, 8).ok()
        }
        _ => None,
    };
    let mode = mode.filter(|mode| *mode <= 0o777);
    if mode.is_none() {
        let problem = format!(
            "expected permission bits in octal, found {}",
            key.node.value.kind()
        );
        report.refuse_with(
            key,
            problem,
            "write them with a leading zero, from 0000 to 0777, such as 0440",
        );
    }
    mode
}
