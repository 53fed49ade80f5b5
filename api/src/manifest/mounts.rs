//! Volumes and binds of a service.

use super::field::{Field, Report};
use super::keys::{self, MOUNT};
use super::service::Scope;
use super::yaml::shorten;
use crate::model::{Mount, MountSource};
use std::collections::BTreeSet;
use std::path::{Component, Path};

/// Reads `volumes:` of a service. Each target is there once.
pub(super) fn read(scope: &Scope<'_>, field: &Field<'_>, report: &mut Report<'_>) -> Vec<Mount> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut targets = BTreeSet::new();
    for item in field.items(report, "a list of volumes").unwrap_or_default() {
        let read = if item.is_map() {
            long(scope, &item, report)
        } else {
            short(scope, &item, report)
        };
        let Some(mount) = read else { continue };
        if !targets.insert(mount.target.clone()) {
            report.refuse(
                &item,
                format!("{:?} is mounted twice", shorten(&mount.target)),
            );
        }
        mounts.push(mount);
    }
    mounts
}

/// `[SOURCE:]TARGET[:ro|rw]`.
fn short(scope: &Scope<'_>, item: &Field<'_>, report: &mut Report<'_>) -> Option<Mount> {
    let text = item.text(report, "a volume such as data:/data, or a mapping")?;
    let usage = "write it as NAME:/PATH, or ./PATH:/PATH, with :ro for read-only";
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] => (None, *target, "rw"),
        [source, target] => (Some(*source), *target, "rw"),
        [source, target, mode] => (Some(*source), *target, *mode),
        _ => {
            report.refuse_with(
                item,
                format!("{:?} has too many colons", shorten(text)),
                usage,
            );
            return None;
        }
    };
    let read_only = match mode {
        "ro" => true,
        "rw" => false,
        _ => {
            let problem = format!("the volume's mode {:?} is not supported", shorten(mode));
            report.refuse_with(item, problem, "ro and rw are");
            return None;
        }
    };
    let source = match source {
        None => Some(MountSource::Anonymous),
        Some("") => {
            report.refuse_with(item, format!("{:?} has no source", shorten(text)), usage);
            None
        }
        Some(source) if is_path(source) => bind(scope, item, source, report),
        Some(source) => volume(scope, item, source, report),
    };
    let target = check_target(item, target, report);
    Some(Mount {
        source: source?,
        target: target?,
        read_only,
    })
}

/// `{type: volume, source: data, target: /data, read_only: true}`.
fn long(scope: &Scope<'_>, item: &Field<'_>, report: &mut Report<'_>) -> Option<Mount> {
    #[derive(Clone, Copy, PartialEq)]
    enum Kind {
        Volume,
        Bind,
        Later,
    }
    let (mut kind, mut source, mut target, mut read_only) = (None, None, None, false);
    let fields = item.fields(report, "a volume")?;
    let (has_type, has_target) = (
        fields.iter().any(|f| f.key == "type"),
        fields.iter().any(|f| f.key == "target"),
    );
    for key in fields {
        match key.key {
            "type" => {
                let words = [
                    ("volume", Kind::Volume),
                    ("bind", Kind::Bind),
                    ("tmpfs", Kind::Later),
                    ("image", Kind::Later),
                    ("npipe", Kind::Later),
                    ("cluster", Kind::Later),
                ];
                kind = key.word(report, &words);
                if kind == Some(Kind::Later) {
                    report.refuse_with(&key, "not supported yet", "volume and bind are");
                }
            }
            "source" => source = Some((key.text(report, "a name or a path"), key)),
            "target" => {
                target = key
                    .text(report, "an absolute path")
                    .and_then(|t| check_target(&key, t, report));
            }
            "read_only" => read_only = key.flag(report).unwrap_or_default(),
            _ => keys::refuse(report, &key, &MOUNT),
        }
    }
    if !has_type {
        report.refuse_with(item, "it has no type", "add type: volume or type: bind");
    }
    if !has_target {
        report.refuse_with(
            item,
            "it has no target",
            "add target: the path in the container",
        );
    }
    let source = match (kind?, source) {
        (Kind::Later, _) => None,
        (Kind::Volume, None) => Some(MountSource::Anonymous),
        (Kind::Volume, Some((text, key))) => volume(scope, &key, text?, report),
        (Kind::Bind, None) => {
            report.refuse_with(item, "it has no source", "add source: the path on the node");
            None
        }
        (Kind::Bind, Some((text, key))) => bind(scope, &key, text?, report),
    };
    Some(Mount {
        source: source?,
        target: target?,
        read_only,
    })
}

/// Whether a short form's source is a path, not a name.
fn is_path(source: &str) -> bool {
    source.starts_with(['/', '~'])
        || source == "."
        || source == ".."
        || source.starts_with("./")
        || source.starts_with("../")
}

fn volume(
    scope: &Scope<'_>,
    field: &Field<'_>,
    name: &str,
    report: &mut Report<'_>,
) -> Option<MountSource> {
    if let Some(full) = scope.volumes.full_name(name) {
        return Some(MountSource::Volume(full));
    }
    let shown = shorten(name);
    if name.contains(['/', '\\']) {
        let cure = format!("write ./{shown} for a path beside the file");
        report.refuse_with(
            field,
            format!("{shown:?} is neither a volume's name nor a path"),
            cure,
        );
    } else {
        let cure = match keys::nearest(name, scope.volumes.keys()) {
            Some(near) => format!("did you mean {near}?"),
            None => "declare it under volumes:".into(),
        };
        report.refuse_with(field, format!("the volume {shown:?} is not declared"), cure);
    }
    None
}

/// A path on the node: absolute, or from the file's folder.
fn bind(
    scope: &Scope<'_>,
    field: &Field<'_>,
    source: &str,
    report: &mut Report<'_>,
) -> Option<MountSource> {
    if source.is_empty() {
        report.refuse(field, "the path is empty");
        return None;
    }
    if source.starts_with('~') {
        report.refuse_with(
            field,
            "~ is not supported: each node has its own",
            "write the path out",
        );
        return None;
    }
    let path = clean(&scope.input.base_dir.join(source));
    if !path.starts_with('/') {
        let folder = scope.input.base_dir.display();
        report.refuse(
            field,
            format!(
                "{:?} can't be found from the folder {folder}",
                shorten(source)
            ),
        );
        return None;
    }
    Some(MountSource::Bind(path))
}

/// A path in the container, cleaned.
pub(super) fn check_target(
    field: &Field<'_>,
    target: &str,
    report: &mut Report<'_>,
) -> Option<String> {
    let shown = shorten(target);
    if !target.starts_with('/') {
        report.refuse_with(
            field,
            format!("the target {shown:?} is no absolute path"),
            "it is a path in the container, such as /data",
        );
        return None;
    }
    if target.split('/').any(|part| part == "..") {
        report.refuse(field, format!("the target {shown:?} holds \"..\""));
        return None;
    }
    let target = clean(Path::new(target));
    if target == "/" {
        report.refuse(field, "the target is the container's root");
        return None;
    }
    Some(target)
}

/// Without `.`, `..` and doubled slashes, by the text alone; empty when it is no UTF-8.
fn clean(path: &Path) -> String {
    let mut out = std::path::PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out.to_str().unwrap_or_default().into()
}
