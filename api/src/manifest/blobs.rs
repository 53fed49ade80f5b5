//! The secrets or the configs of the file, and their content.

use super::field::{Field, Report};
use super::keys::{self, CONFIG, SECRET};
use super::volume::external;
use super::yaml::shorten;
use super::{Input, names};
use crate::model::{BlobKey, BlobKind, BlobSpec, Data, Labels, STACK_DATA_MAX};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What the file declares of one kind.
pub(super) struct Blobs {
    kind: BlobKind,
    /// Full names by key; absent when the section could not be read.
    keys: Option<BTreeMap<String, String>>,
    /// In the order of their names.
    pub own: Vec<BlobSpec>,
    pub external: Vec<BlobKey>,
}

impl Blobs {
    pub fn none(kind: BlobKind) -> Self {
        Self {
            kind,
            keys: Some(BTreeMap::new()),
            own: Vec::new(),
            external: Vec::new(),
        }
    }

    pub fn keys(&self) -> Vec<&String> {
        self.keys.iter().flat_map(BTreeMap::keys).collect()
    }

    /// One that is declared. When the section could not be read, any is taken.
    pub fn find(&self, key: &str) -> Option<BlobKey> {
        let name = match &self.keys {
            Some(keys) => keys.get(key)?.clone(),
            None => key.to_owned(),
        };
        let kind = self.kind;
        Some(BlobKey { kind, name })
    }
}

/// Reads `secrets:` or `configs:`.
pub(super) fn read(
    input: &Input<'_>,
    section: &Field<'_>,
    kind: BlobKind,
    report: &mut Report<'_>,
) -> Blobs {
    let mut blobs = Blobs::none(kind);
    let Some(fields) = section.fields(report, &format!("a mapping of {kind}s")) else {
        blobs.keys = None;
        return blobs;
    };
    for field in fields {
        let One {
            mut name,
            labels,
            is_external,
            data,
        } = one(input, &field, kind, report);
        if name.is_empty() {
            name = if is_external {
                field.key.into()
            } else {
                format!("{}_{}", input.stack, field.key)
            };
        }
        if let Err(problem) = names::check_blob(kind, &name) {
            report.refuse(&field, problem);
        }
        let keys = blobs.keys.get_or_insert_default();
        if keys.values().any(|taken| *taken == name) {
            let shown = shorten(&name);
            report.refuse(
                &field,
                format!("another {kind} of this file is called {shown:?} too"),
            );
        }
        keys.insert(field.key.to_owned(), name.clone());
        if is_external {
            blobs.external.push(BlobKey { kind, name });
        } else {
            blobs.own.push(BlobSpec {
                kind,
                name,
                stack: Some(input.stack.into()),
                labels,
                data,
            });
        }
    }
    blobs.own.sort_by(|a, b| a.name.cmp(&b.name));
    blobs.external.sort();
    blobs
}

/// One transaction holds them all.
pub(super) fn check_total(report: &mut Report<'_>, section: &Field<'_>, own: &[BlobSpec]) {
    if let Some(problem) = too_much(own) {
        let cure = "make the largest beforehand with `clusterctl config create` or `secret create`, and declare them \
                    external: true";
        report.refuse_with(section, problem, cure);
    }
}

/// Says that they are too large together, and which are the largest.
#[must_use]
pub fn too_much(own: &[BlobSpec]) -> Option<String> {
    let size = |spec: &BlobSpec| spec.data.as_bytes().len();
    let total: usize = own.iter().map(size).sum();
    if total <= STACK_DATA_MAX {
        return None;
    }
    let mut largest: Vec<&BlobSpec> = own.iter().collect();
    largest.sort_by_key(|spec| std::cmp::Reverse(size(spec)));
    let largest: Vec<String> = largest
        .iter()
        .take(3)
        .map(|spec| format!("{} ({} bytes)", spec.key(), size(spec)))
        .collect();
    Some(format!(
        "secrets and configs have {total} bytes together, one deploy may have {STACK_DATA_MAX}; the largest are {}",
        largest.join(", ")
    ))
}

#[derive(Default)]
struct One {
    /// Empty when none is written.
    name: String,
    labels: Labels,
    is_external: bool,
    data: Data,
}

fn one(input: &Input<'_>, field: &Field<'_>, kind: BlobKind, report: &mut Report<'_>) -> One {
    let mut one = One::default();
    let known = match kind {
        BlobKind::Secret => &SECRET,
        BlobKind::Config => &CONFIG,
    };
    let Some(fields) = field.fields(report, "a mapping with file, environment or external") else {
        return one;
    };
    one.is_external = external(report, &fields, &mut one.name);
    let mut sources = 0;
    for key in &fields {
        let content = match key.key {
            "external" => continue,
            "name" => {
                one.name = key.text(report, "a name").unwrap_or_default().into();
                continue;
            }
            other if one.is_external && !other.starts_with("x-") => {
                let problem = format!("an external {kind} is already there as it is");
                report.refuse_with(key, problem, "remove this key");
                continue;
            }
            "labels" => {
                one.labels = super::labels::read(report, key);
                continue;
            }
            "file" => file(input, key, kind, report),
            "environment" => variable(input, key, report),
            "content" if kind == BlobKind::Config => key
                .text(report, "a text")
                .map(|text| text.as_bytes().to_vec()),
            _ => {
                keys::refuse(report, key, known);
                continue;
            }
        };
        sources += 1;
        if sources > 1 {
            report.refuse_with(key, "its content is given twice", "keep one of them");
        }
        let Some(content) = content else { continue };
        if let Some(problem) = kind.refuse(content.len()) {
            report.refuse(key, problem);
        }
        one.data = content.into();
    }
    if sources == 0 && !one.is_external {
        let cure = match kind {
            BlobKind::Secret => "add file: PATH, environment: VARIABLE, or external: true",
            BlobKind::Config => {
                "add file: PATH, content: TEXT, environment: VARIABLE, or external: true"
            }
        };
        report.refuse_with(field, "it has no content", cure);
    }
    one
}

fn file(
    input: &Input<'_>,
    key: &Field<'_>,
    kind: BlobKind,
    report: &mut Report<'_>,
) -> Option<Vec<u8>> {
    let text = key.text(report, "a path")?;
    if text.is_empty() {
        report.refuse(key, "the path is empty");
        return None;
    }
    if text.starts_with('~') {
        report.refuse_with(key, "~ is not supported", "write the path out");
        return None;
    }
    // Collected so that "./" goes; ".." is for the file system, which knows links.
    let path: PathBuf = input.base_dir.join(text).components().collect();
    match (input.read_file)(&path, kind.limit()) {
        Ok(content) => Some(content),
        Err(error) => {
            let problem = format!("can't read {}: {error}", path.display());
            report.refuse_with(
                key,
                problem,
                "relative paths start from the Compose file's folder",
            );
            None
        }
    }
}

fn variable(input: &Input<'_>, key: &Field<'_>, report: &mut Report<'_>) -> Option<Vec<u8>> {
    let name = key.text(report, "the name of a variable")?;
    let value = (input.env)(name).filter(|value| !value.is_empty());
    if value.is_none() {
        let shown = shorten(name);
        report.refuse_with(
            key,
            format!("the variable {shown:?} is not set, or is empty"),
            "set it where you deploy",
        );
    }
    value.map(String::into_bytes)
}
