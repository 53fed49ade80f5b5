//! Labels, as a mapping or as a list.

use super::field::{Field, Report};
use super::yaml::shorten;
use crate::model::Labels;

/// `{key: value}` or `[key=value, key]`.
pub(super) fn read(report: &mut Report<'_>, field: &Field<'_>) -> Labels {
    let mut labels = Labels::new();
    if field.is_list() {
        for item in field.items(report, "a list of labels").unwrap_or_default() {
            let Some(text) = item.text(report, "a label such as key=value") else {
                continue;
            };
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            add(report, &item, &mut labels, key, value.into());
        }
        return labels;
    }
    for entry in field
        .fields(report, "a mapping or a list of labels")
        .unwrap_or_default()
    {
        let value = if entry.is_null() {
            Some(String::new())
        } else {
            entry.scalar(report, "a text")
        };
        if let Some(value) = value {
            add(report, &entry, &mut labels, entry.key, value);
        }
    }
    labels
}

fn add(report: &mut Report<'_>, field: &Field<'_>, labels: &mut Labels, key: &str, value: String) {
    if key.trim().is_empty() {
        report.refuse(field, "the label has no key");
    } else if labels.insert(key.into(), value).is_some() {
        report.refuse(
            field,
            format!("the label {:?} is there twice", shorten(key)),
        );
    }
}
