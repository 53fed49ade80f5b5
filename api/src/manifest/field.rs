//! A value at its place, read as this or that; what doesn't fit is reported and read as absent.

use super::error::{ManifestError, Position, Warning};
use super::yaml::{Node, Value, join_path, shorten};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Errors beyond so many are only counted.
const ERRORS_LIMIT: usize = 200;

/// What has been found wrong or remarkable so far.
pub(super) struct Report<'a> {
    file: &'a Path,
    errors: Vec<ManifestError>,
    more: usize,
    warnings: Vec<Warning>,
    /// The variables without a value, by the paths of the values that name them.
    unset: BTreeMap<String, Vec<String>>,
}

/// Said of a value that is wrong and names variables without a value.
fn are_empty(names: &[String]) -> String {
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let names: Vec<&str> = names.into_iter().collect();
    match names[..] {
        [name] => format!("the variable {name} is not set and taken as empty"),
        _ => format!(
            "the variables {} are not set and taken as empty",
            names.join(" and ")
        ),
    }
}

impl<'a> Report<'a> {
    pub fn new(file: &'a Path) -> Self {
        Self {
            file,
            errors: Vec::new(),
            more: 0,
            warnings: Vec::new(),
            unset: BTreeMap::new(),
        }
    }

    pub fn error(
        &mut self,
        at: Option<Position>,
        path: &str,
        problem: String,
        cure: Option<String>,
    ) {
        if self.errors.len() >= ERRORS_LIMIT {
            self.more += 1;
            return;
        }
        // Perhaps that is what is wrong; where it is known what is, that is said.
        let cure = cure.or_else(|| Some(are_empty(self.unset.get(path)?)));
        self.errors.push(ManifestError {
            file: self.file.into(),
            at,
            path: path.into(),
            problem,
            cure,
        });
    }

    /// The value at this path names variables that have none.
    pub fn unset(&mut self, path: &str, names: Vec<String>) {
        self.unset.insert(path.into(), names);
    }

    /// An error without a known cure.
    pub fn refuse(&mut self, field: &Field<'_>, problem: impl Into<String>) {
        self.error(Some(field.at), &field.path, problem.into(), None);
    }

    /// An error and its cure.
    pub fn refuse_with(
        &mut self,
        field: &Field<'_>,
        problem: impl Into<String>,
        cure: impl Into<String>,
    ) {
        self.error(
            Some(field.at),
            &field.path,
            problem.into(),
            Some(cure.into()),
        );
    }

    /// A value of the wrong type.
    pub fn expected(&mut self, field: &Field<'_>, what: &str) {
        if field.node.value != Value::Broken {
            self.refuse(
                field,
                format!("expected {what}, found {}", field.node.value.kind()),
            );
        }
    }

    pub fn warn(&mut self, field: &Field<'_>, text: impl Into<String>) {
        self.warn_at(field.at, &field.path, text.into());
    }

    pub fn warn_at(&mut self, at: Position, path: &str, text: String) {
        if self.warnings.len() < ERRORS_LIMIT {
            self.warnings.push(Warning {
                file: self.file.into(),
                at: Some(at),
                path: path.into(),
                text,
            });
        }
    }

    /// In the file's order.
    pub fn finish(mut self) -> Result<Vec<Warning>, Vec<ManifestError>> {
        if self.errors.is_empty() {
            self.warnings.sort_by_key(|w| w.at);
            return Ok(self.warnings);
        }
        self.errors.sort_by_key(|e| e.at);
        if self.more > 0 {
            let problem = format!("{} more errors", self.more);
            let file = self.file.into();
            self.errors.push(ManifestError {
                file,
                at: None,
                path: String::new(),
                problem,
                cure: None,
            });
        }
        Err(self.errors)
    }
}

/// A value, its key, and the way there.
pub(super) struct Field<'n> {
    /// `services.web.ports[0]`
    pub path: String,
    /// Empty for an item of a list.
    pub key: &'n str,
    /// Of its key, or of an item itself.
    pub at: Position,
    pub node: &'n Node,
}

impl<'n> Field<'n> {
    pub fn root(node: &'n Node) -> Self {
        Self {
            path: String::new(),
            key: "",
            at: node.at,
            node,
        }
    }

    /// The fields of a mapping.
    pub fn fields(&self, report: &mut Report<'_>, what: &str) -> Option<Vec<Field<'n>>> {
        let Value::Map(entries) = &self.node.value else {
            report.expected(self, what);
            return None;
        };
        let field = |entry: &'n super::yaml::Entry| Field {
            path: join_path(&self.path, &entry.key),
            key: &entry.key,
            at: entry.at,
            node: &entry.node,
        };
        Some(entries.iter().map(field).collect())
    }

    /// The items of a list.
    pub fn items(&self, report: &mut Report<'_>, what: &str) -> Option<Vec<Field<'n>>> {
        let Value::List(nodes) = &self.node.value else {
            report.expected(self, what);
            return None;
        };
        let item = |(i, node): (usize, &'n Node)| Field {
            path: format!("{}[{i}]", self.path),
            key: "",
            at: node.at,
            node,
        };
        Some(nodes.iter().enumerate().map(item).collect())
    }

    pub fn is_null(&self) -> bool {
        self.node.value == Value::Null
    }

    pub fn is_list(&self) -> bool {
        matches!(self.node.value, Value::List(_))
    }

    pub fn is_map(&self) -> bool {
        matches!(self.node.value, Value::Map(_))
    }

    /// A text, and only that.
    pub fn text(&self, report: &mut Report<'_>, what: &str) -> Option<&'n str> {
        match &self.node.value {
            Value::Text(text) if text.contains('\0') => {
                report.refuse(self, "the text holds a zero byte");
                None
            }
            Value::Text(text) => Some(text),
            Value::Bool(_) | Value::Number(..) => {
                report.refuse_with(
                    self,
                    format!("expected {what}, found {}", self.node.value.kind()),
                    "write it in quotes",
                );
                None
            }
            _ => {
                report.expected(self, what);
                None
            }
        }
    }

    /// A text, number or boolean, as text.
    pub fn scalar(&self, report: &mut Report<'_>, what: &str) -> Option<String> {
        match &self.node.value {
            Value::Bool(value) => Some(value.to_string()),
            Value::Number(text, _) => Some(text.clone()),
            _ => self.text(report, what).map(Into::into),
        }
    }

    /// True or false; also the words that Docker takes.
    pub fn flag(&self, report: &mut Report<'_>) -> Option<bool> {
        match &self.node.value {
            Value::Bool(value) => Some(*value),
            Value::Text(text) => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "y" | "on" => Some(true),
                "false" | "no" | "n" | "off" => Some(false),
                _ => {
                    report.expected(self, "true or false");
                    None
                }
            },
            _ => {
                report.expected(self, "true or false");
                None
            }
        }
    }

    /// A whole number up to `most`; in quotes too, as a variable's value always is a text.
    pub fn number<T: TryFrom<i128> + Into<i128>>(
        &self,
        report: &mut Report<'_>,
        least: T,
        most: T,
    ) -> Option<T> {
        let value = match &self.node.value {
            Value::Number(_, Some(value)) => Some(*value),
            Value::Text(text) if text.len() <= 20 && text.bytes().all(|b| b.is_ascii_digit()) => {
                text.parse().ok()
            }
            _ => None,
        };
        let (least, most): (i128, i128) = (least.into(), most.into());
        let fits = value
            .filter(|v| (least..=most).contains(v))
            .and_then(|v| T::try_from(v).ok());
        if fits.is_none() {
            report.expected(self, &format!("a whole number from {least} to {most}"));
        }
        fits
    }

    /// One of several words.
    pub fn word<T: Copy>(&self, report: &mut Report<'_>, words: &[(&str, T)]) -> Option<T> {
        let all = words
            .iter()
            .map(|(word, _)| *word)
            .collect::<Vec<_>>()
            .join(", ");
        let what = if words.len() == 1 {
            all
        } else {
            format!("one of {all}")
        };
        let text = self.text(report, &what)?;
        let found = words
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            report.refuse(self, format!("expected {what}, found {:?}", shorten(text)));
        }
        found
    }
}
