//! The volumes of the file.

use super::field::{Field, Report};
use super::keys::{self, EXTERNAL, VOLUME};
use super::names;
use super::yaml::shorten;
use crate::model::Labels;
use std::collections::BTreeMap;

/// What the file declares.
pub(super) struct Volumes {
    /// Full names by key; absent when the section could not be read.
    keys: Option<BTreeMap<String, String>>,
    /// Labels by full name; external ones are not among them.
    pub own: BTreeMap<String, Labels>,
}

impl Volumes {
    pub fn none() -> Self {
        Self {
            keys: Some(BTreeMap::new()),
            own: BTreeMap::new(),
        }
    }

    pub fn keys(&self) -> Vec<&String> {
        self.keys.iter().flat_map(BTreeMap::keys).collect()
    }

    /// The full name of a declared volume. When the section could not be read, any is taken.
    pub fn full_name(&self, key: &str) -> Option<String> {
        match &self.keys {
            Some(keys) => keys.get(key).cloned(),
            None => Some(key.into()),
        }
    }
}

/// Reads `volumes:`.
pub(super) fn read(report: &mut Report<'_>, section: &Field<'_>, stack: &str) -> Volumes {
    let mut keys = BTreeMap::new();
    let mut own = BTreeMap::new();
    let Some(fields) = section.fields(report, "a mapping of volumes") else {
        return Volumes { keys: None, own };
    };
    for field in fields {
        let (mut name, labels, is_external) = read_one(report, &field);
        if name.is_empty() {
            name = if is_external {
                field.key.into()
            } else {
                format!("{stack}_{}", field.key)
            };
        }
        if let Err(problem) = names::check_volume(&name) {
            report.refuse(&field, problem);
        }
        if keys.values().any(|taken| *taken == name) {
            report.refuse(
                &field,
                format!(
                    "another volume of this file is called {:?} too",
                    shorten(&name)
                ),
            );
        }
        keys.insert(field.key.to_owned(), name.clone());
        if !is_external {
            own.insert(name, labels);
        }
    }
    Volumes {
        keys: Some(keys),
        own,
    }
}

fn read_one(report: &mut Report<'_>, field: &Field<'_>) -> (String, Labels, bool) {
    let (mut name, mut labels) = (String::new(), Labels::new());
    if field.is_null() {
        return (name, labels, false);
    }
    let Some(fields) = field.fields(report, "a mapping or nothing") else {
        return (name, labels, false);
    };
    let outside = external(report, &fields, &mut name);
    for key in fields {
        match key.key {
            "external" => {}
            "name" => name = key.text(report, "a name").unwrap_or_default().into(),
            other if outside && !other.starts_with("x-") => {
                report.refuse_with(
                    &key,
                    "an external volume is already there as it is",
                    "remove this key",
                );
            }
            "driver" => {
                if let Some(driver) = key.text(report, "local")
                    && driver != "local"
                {
                    let problem = format!("the driver {:?} is not supported", shorten(driver));
                    report.refuse_with(&key, problem, "local is the only one; remove this key");
                }
            }
            "labels" => labels = super::labels::read(report, &key),
            _ => keys::refuse(report, &key, &VOLUME),
        }
    }
    (name, labels, outside)
}

/// `external: true`, or the older `external: {name: x}`, of a network or a volume.
pub(super) fn external(report: &mut Report<'_>, fields: &[Field<'_>], name: &mut String) -> bool {
    let Some(field) = fields.iter().find(|f| f.key == "external") else {
        return false;
    };
    if !field.is_map() {
        return field.flag(report).unwrap_or_default();
    }
    for key in field.fields(report, "true or false").unwrap_or_default() {
        match key.key {
            "name" if fields.iter().any(|f| f.key == "name") => {
                report.refuse_with(
                    &key,
                    "there is a name beside it already",
                    "remove one of the two",
                );
            }
            "name" => *name = key.text(report, "a name").unwrap_or_default().into(),
            _ => keys::refuse(report, &key, &EXTERNAL),
        }
    }
    true
}
