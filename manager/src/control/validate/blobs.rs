//! Rules of secrets and configs.

use super::{Problems, bounded, is_path, labels, object};
use api::model::{BlobFile, BlobKey, BlobSpec, ContainerSpec, StackSpec};
use std::collections::BTreeSet;

/// A secret or a config.
pub fn blob(spec: &BlobSpec, problems: &mut Problems) {
    let what = spec.key().to_string();
    object(spec.kind.as_str(), &spec.name, problems);
    labels(&what, &spec.labels, problems);
    if let Some(problem) = spec.kind.refuse(spec.data.as_bytes().len()) {
        problems.push(format!("{what}: {problem}"));
    }
}

/// The files of secrets and configs of a container.
pub(super) fn files<'a>(
    what: &str,
    files: impl ExactSizeIterator<Item = &'a BlobFile>,
    container: &ContainerSpec,
    problems: &mut Problems,
) {
    bounded(what, "secrets and configs", files.len(), problems);
    let mut targets: BTreeSet<&String> = container.mounts.iter().map(|m| &m.target).collect();
    for file in files {
        let (source, target) = (&file.source, &file.target);
        if !is_path(target) || target == "/" {
            problems.push(format!(
                "{what}: {source}: target {target:?} is no absolute path below /"
            ));
        }
        if !targets.insert(target) {
            problems.push(format!(
                "{what}: {source}: something else has the target {target} already"
            ));
        }
        if file.mode > 0o777 {
            problems.push(format!(
                "{what}: {source}: {:o} are no permission bits",
                file.mode
            ));
        }
    }
}

/// A stack's secrets and configs: each is there once, and together they fit into one transaction.
pub(super) fn of_stack(spec: &StackSpec, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for part in &spec.blobs {
        blob(part, problems);
        let key = part.key();
        if part.stack.as_deref() != Some(spec.name.as_str()) {
            problems.push(format!("{key}: it is not one of stack {}", spec.name));
        }
        if spec.external_blobs.contains(&key) {
            problems.push(format!("{key}: it can't be the stack's own and external"));
        }
        if !seen.insert(key.clone()) {
            problems.push(format!("{key}: it is there twice"));
        }
    }
    bounded(
        &format!("stack {}", spec.name),
        "external secrets and configs",
        spec.external_blobs.len(),
        problems,
    );
    if let Some(problem) = api::manifest::too_much(&spec.blobs) {
        problems.push(format!("stack {}: {problem}", spec.name));
    }
}

/// Whether a stack's services may name it.
pub(super) fn has(spec: &StackSpec, key: &BlobKey) -> bool {
    spec.external_blobs.contains(key) || spec.blobs.iter().any(|part| part.key() == *key)
}
