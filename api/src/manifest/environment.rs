//! The variables of a container, as a mapping or as a list.

use super::field::{Field, Report};
use super::yaml::shorten;
use std::collections::BTreeMap;

/// `KEY=value`, ordered by key, so that the order in the file makes no difference. A key without a value
/// takes the caller's.
pub(super) fn read(
    report: &mut Report<'_>,
    field: &Field<'_>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut set: BTreeMap<String, String> = BTreeMap::new();
    for (item, key, value) in pairs(report, field) {
        if key.is_empty() || key.contains(['=', '\0']) || key.trim() != key {
            report.refuse(
                &item,
                format!("{:?} can't be the name of a variable", shorten(&key)),
            );
            continue;
        }
        let value = match value {
            Some(value) => value,
            None => match env(&key) {
                Some(value) => value,
                None => {
                    let text = format!(
                        "{} has no value, here or in your environment; it is left out",
                        shorten(&key)
                    );
                    report.warn(&item, text);
                    continue;
                }
            },
        };
        if set.contains_key(&key) {
            report.refuse(
                &item,
                format!("the variable {} is set twice", shorten(&key)),
            );
        }
        set.insert(key, value);
    }
    set.into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect()
}

fn pairs<'n>(
    report: &mut Report<'_>,
    field: &Field<'n>,
) -> Vec<(Field<'n>, String, Option<String>)> {
    let mut out = Vec::new();
    if field.is_list() {
        for item in field
            .items(report, "a list of variables")
            .unwrap_or_default()
        {
            let Some(text) = item.text(report, "a variable such as KEY=value") else {
                continue;
            };
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (text, None),
            };
            out.push((item, key.to_owned(), value));
        }
        return out;
    }
    for entry in field
        .fields(report, "a mapping or a list of variables")
        .unwrap_or_default()
    {
        let key = entry.key.to_owned();
        if entry.is_null() {
            out.push((entry, key, None));
        } else if let Some(value) = entry.scalar(report, "a text, a number or nothing") {
            out.push((entry, key, Some(value)));
        }
    }
    out
}
