//! YAML to an untyped tree that keeps the keys' order and everything's position.
//!
//! Numbers keep the text they are written with: `1.20` in an environment is not `1.2`. Anchors and merge
//! keys are resolved here; the position of what came through them is where it is written. Duplicate keys
//! and tags are errors. Depth, nodes and what aliases may expand to are bounded.

use super::error::Position;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Spanned};
use std::collections::BTreeMap;
use std::fmt;

/// Levels of nesting. A Compose file has about 10.
const DEPTH_LIMIT: usize = 40;
/// Values, aliases expanded.
const NODES_LIMIT: usize = 100_000;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub at: Position,
    pub value: Value,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// As it is written; the whole number it is, if it is one.
    Number(String, Option<i128>),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Reported already: nothing more is to be said about it.
    Broken,
}

/// A key and its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub key: String,
    pub at: Position,
    pub node: Node,
}

/// What is wrong, where, and at which keys.
#[derive(Debug, PartialEq)]
pub(super) struct Fault {
    pub at: Option<Position>,
    pub path: String,
    pub problem: String,
    pub cure: Option<String>,
}

impl Value {
    /// As errors call it.
    pub fn kind(&self) -> String {
        match self {
            Self::Null => "nothing".into(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Number(text, _) => format!("the number {}", shorten(text)),
            Self::Text(text) => format!("the text {:?}", shorten(text)),
            Self::List(_) => "a list".into(),
            Self::Map(_) => "a mapping".into(),
            Self::Broken => "an error".into(),
        }
    }
}

/// The beginning of a text that may be long.
pub(super) fn shorten(text: &str) -> String {
    const MOST: usize = 60;
    let mut out: String = text.chars().take(MOST).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}

/// A key as it is shown in a path, on one line.
pub(super) fn show_key(key: &str) -> String {
    shorten(key)
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// The path of a key below another.
pub(super) fn join_path(path: &str, key: &str) -> String {
    if path.is_empty() {
        show_key(key)
    } else {
        format!("{path}.{}", show_key(key))
    }
}

/// Reads a file of one document.
pub(super) fn parse(text: &str) -> Result<Node, Vec<Fault>> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_LIMIT,
            max_nodes: NODES_LIMIT,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 2 * NODES_LIMIT,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        reject_unsupported_tags: true,
        strict_booleans: true,
        with_snippet: false,
    };
    let raw: Spanned<Raw> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| vec![fault(&error)])?;
    let mut faults = Vec::new();
    let node = node(text, raw, "", &mut faults);
    if faults.is_empty() {
        Ok(node)
    } else {
        Err(faults)
    }
}

fn fault(error: &serde_saphyr::Error) -> Fault {
    use serde_saphyr::Error;
    let location = error.location().filter(|l| l.line() > 0);
    let mut error = error.without_snippet();
    while let Error::AliasError { error: inner, .. } = error {
        error = inner.without_snippet();
    }
    let whole = error.to_string();
    let mut problem = whole.as_str();
    if let Some(l) = error.location() {
        let suffix = format!(" at line {}, column {}", l.line(), l.column());
        problem = problem.strip_suffix(&suffix).unwrap_or(problem);
    }
    let (problem, cure) = match error {
        Error::UnsupportedTag { .. } => (
            problem.to_owned(),
            Some("tags are not supported yet".to_owned()),
        ),
        Error::MultipleDocuments { .. } => (
            "a second document begins here".to_owned(),
            Some("write one file for each stack".to_owned()),
        ),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            let problem = "more values, or values nested deeper, than a Compose file may have";
            (
                problem.to_owned(),
                Some("check what its aliases (*name) expand to".to_owned()),
            )
        }
        Error::NullIntoString { .. } => ("an empty key".to_owned(), None),
        _ => (format!("not readable as YAML: {problem}"), None),
    };
    Fault {
        at: location.map(position),
        path: String::new(),
        problem,
        cure,
    }
}

fn position(location: Location) -> Position {
    Position {
        line: location.line(),
        column: location.column(),
    }
}

fn node(source: &str, raw: Spanned<Raw>, path: &str, faults: &mut Vec<Fault>) -> Node {
    let at = position(raw.defined);
    let value = match raw.value {
        Raw::Null => Value::Null,
        Raw::Bool(value) => Value::Bool(value),
        Raw::Whole(value) => Value::Number(
            written(source, raw.defined).unwrap_or_else(|| value.to_string()),
            Some(value),
        ),
        Raw::Float(value) => Value::Number(
            written(source, raw.defined).unwrap_or_else(|| value.to_string()),
            None,
        ),
        Raw::Text(text) => Value::Text(text),
        Raw::List(items) => {
            let item = |(i, item)| node(source, item, &format!("{path}[{i}]"), faults);
            Value::List(items.into_iter().enumerate().map(item).collect())
        }
        Raw::Map(entries) => Value::Map(map(source, entries, path, faults)),
    };
    Node { at, value }
}

fn map(
    source: &str,
    entries: Vec<(Spanned<String>, Spanned<Raw>)>,
    path: &str,
    faults: &mut Vec<Fault>,
) -> Vec<Entry> {
    let mut first: BTreeMap<String, Position> = BTreeMap::new();
    let mut out = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let at = position(key.defined);
        let here = join_path(path, &key.value);
        if let Some(earlier) = first.get(&key.value) {
            faults.push(Fault {
                at: Some(at),
                path: here,
                problem: format!("duplicate key, it stands on line {} already", earlier.line),
                cure: Some("remove one of the two".into()),
            });
            continue;
        }
        first.insert(key.value.clone(), at);
        let node = node(source, value, &here, faults);
        out.push(Entry {
            key: key.value,
            at,
            node,
        });
    }
    out
}

/// The text of a scalar, without its quotes.
fn written(source: &str, location: Location) -> Option<String> {
    let span = location.span();
    let start = usize::try_from(span.byte_offset()?).ok()?;
    let end = start.checked_add(usize::try_from(span.byte_len()?).ok()?)?;
    let text = source.get(start..end)?.trim().trim_matches(['"', '\'']);
    (!text.is_empty()).then(|| text.to_owned())
}

enum Raw {
    Null,
    Bool(bool),
    Whole(i128),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Whole(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Whole(value))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Raw, E> {
        i128::try_from(value)
            .map(Raw::Whole)
            .map_err(|_| E::custom(format!("{value} is too large")))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Text(text.into()))
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Raw, E> {
        std::str::from_utf8(bytes)
            .map(|t| Raw::Text(t.into()))
            .map_err(|_| E::custom("binary values are not supported"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
            if entries.len() > NODES_LIMIT {
                return Err(A::Error::custom("too many keys"));
            }
        }
        Ok(Raw::Map(entries))
    }
}
