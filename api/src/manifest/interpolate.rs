//! `$VAR` and `${VAR…}` in values, as Docker reads them.
//!
//! | written | gives |
//! | --- | --- |
//! | `$VAR`, `${VAR}` | its value; empty, with a warning, when unset |
//! | `${VAR:-text}`, `${VAR-text}` | the text when unset; with `:` also when empty |
//! | `${VAR:?text}`, `${VAR?text}` | an error with the text when unset; with `:` also when empty |
//! | `${VAR:+text}`, `${VAR+text}` | the text when set; with `:` only when not empty; else nothing |
//! | `$$` | a dollar sign |
//!
//! The texts may hold variables themselves. Braces inside them have to be balanced. Keys, and what is
//! below an extension `x-…`, are left alone. A variable's value is never read again.

use super::error::Position;
use super::field::Report;
use super::yaml::{Node, Value, join_path, shorten};
use std::collections::BTreeSet;

/// Variables inside texts of variables, and so on.
const DEPTH_LIMIT: usize = 20;
/// What all values together may grow by, bytes.
const GROWTH_LIMIT: usize = 4 << 20;

/// Looks a variable up.
type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Replaces the variables of all values. A value that can't be is reported and becomes broken.
pub(super) fn tree(root: &mut Node, env: Env<'_>, report: &mut Report<'_>) {
    let mut run = Run {
        env,
        report,
        warned: BTreeSet::new(),
        left: GROWTH_LIMIT,
    };
    let at = root.at;
    run.node(root, at, "", "");
}

/// Mappings whose keys are the author's names: there `x-…` is no extension.
const NAMED: [&str; 7] = [
    "services",
    "networks",
    "volumes",
    "secrets",
    "configs",
    "environment",
    "labels",
];

struct Run<'a, 'r> {
    env: Env<'a>,
    report: &'a mut Report<'r>,
    /// Variables that were warned about.
    warned: BTreeSet<String>,
    /// Bytes that values may still grow by.
    left: usize,
}

impl Run<'_, '_> {
    fn node(&mut self, node: &mut Node, at: Position, path: &str, key: &str) {
        match &mut node.value {
            Value::Text(old) if old.contains('$') => match self.value(old, at, path) {
                Ok(new) => *old = new,
                Err(problem) => {
                    self.report.error(Some(at), path, problem, None);
                    node.value = Value::Broken;
                }
            },
            Value::List(items) => {
                for (i, item) in items.iter_mut().enumerate() {
                    let at = item.at;
                    self.node(item, at, &format!("{path}[{i}]"), "");
                }
            }
            Value::Map(entries) => {
                let named = NAMED.contains(&key);
                for entry in entries
                    .iter_mut()
                    .filter(|e| named || !e.key.starts_with("x-"))
                {
                    self.node(
                        &mut entry.node,
                        entry.at,
                        &join_path(path, &entry.key),
                        &entry.key,
                    );
                }
            }
            Value::Text(_) | Value::Null | Value::Bool(_) | Value::Number(..) | Value::Broken => {}
        }
    }

    fn value(&mut self, old: &str, at: Position, path: &str) -> Result<String, String> {
        let mut unset = Vec::new();
        let new = text(
            old,
            self.env,
            self.left.saturating_add(old.len()),
            &mut unset,
        )?;
        self.left = self
            .left
            .saturating_sub(new.len().saturating_sub(old.len()));
        for name in &unset {
            if !self.warned.contains(name) {
                self.report.warn_at(
                    at,
                    path,
                    format!("the variable {name} is not set; it is taken as empty"),
                );
                self.warned.insert(name.clone());
            }
        }
        if !unset.is_empty() {
            self.report.unset(path, unset);
        }
        Ok(new)
    }
}

/// A text with its variables replaced, of at most `limit` bytes; the names of those that are unset are
/// added to `unset`.
pub(super) fn text(
    text: &str,
    env: Env<'_>,
    limit: usize,
    unset: &mut Vec<String>,
) -> Result<String, String> {
    let mut scan = Scan {
        text,
        at: 0,
        env,
        limit,
        unset,
    };
    let mut out = String::with_capacity(text.len());
    scan.until_end(&mut out, 0, true)?;
    Ok(out)
}

/// A text on its way. `live` is false inside a text that is not taken: it is checked and makes nothing.
struct Scan<'a> {
    text: &'a str,
    /// Byte offset, always on a character's beginning.
    at: usize,
    env: Env<'a>,
    limit: usize,
    unset: &'a mut Vec<String>,
}

impl<'a> Scan<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn eat(&mut self, token: &str) -> bool {
        let there = self.rest().starts_with(token);
        if there {
            self.at += token.len();
        }
        there
    }

    fn push(&self, out: &mut String, text: &str) -> Result<(), String> {
        if out.len().saturating_add(text.len()) > self.limit {
            return Err("the values of its variables make the text too long".into());
        }
        out.push_str(text);
        Ok(())
    }

    /// Up to the text's end, or, at a depth, to the brace that closes it, which is left standing.
    fn until_end(&mut self, out: &mut String, depth: usize, live: bool) -> Result<(), String> {
        let mut open = 0usize;
        loop {
            let rest = self.rest();
            let plain = rest.find(['$', '{', '}']).unwrap_or(rest.len());
            let (before, after) = rest.split_at(plain);
            if live {
                self.push(out, before)?;
            }
            self.at += plain;
            let Some(special) = after.chars().next() else {
                return Ok(());
            };
            match special {
                '$' => self.dollar(out, depth, live)?,
                '}' if depth > 0 && open == 0 => return Ok(()),
                brace => {
                    open = if brace == '{' {
                        open + 1
                    } else {
                        open.saturating_sub(1)
                    };
                    self.at += 1;
                    if live {
                        self.push(out, after.get(..1).unwrap_or(""))?;
                    }
                }
            }
        }
    }

    fn dollar(&mut self, out: &mut String, depth: usize, live: bool) -> Result<(), String> {
        let start = self.at;
        self.at += 1;
        if self.eat("$") {
            return if live { self.push(out, "$") } else { Ok(()) };
        }
        if self.eat("{") {
            return self.braces(out, start, depth, live);
        }
        let name = self.name();
        if name.is_empty() {
            return Err(self.invalid(start));
        }
        if live {
            let value = (self.env)(name);
            self.take(out, name, value)?;
        }
        Ok(())
    }

    fn name(&mut self) -> &'a str {
        let rest = self.rest();
        let first = rest
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let more = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let len = if first {
            rest.bytes().take_while(|b| more(*b)).count()
        } else {
            0
        };
        self.at += len;
        rest.get(..len).unwrap_or("")
    }

    fn take(&mut self, out: &mut String, name: &str, value: Option<String>) -> Result<(), String> {
        match value {
            Some(value) => self.push(out, &value),
            None => {
                self.unset.push(name.into());
                Ok(())
            }
        }
    }

    /// After `${`.
    fn braces(
        &mut self,
        out: &mut String,
        start: usize,
        depth: usize,
        live: bool,
    ) -> Result<(), String> {
        if depth >= DEPTH_LIMIT {
            return Err(format!("variables are nested more than {DEPTH_LIMIT} deep"));
        }
        let name = self.name();
        if name.is_empty() {
            return Err(self.invalid(start));
        }
        let value = if live { (self.env)(name) } else { None };
        if self.eat("}") {
            return if live {
                self.take(out, name, value)
            } else {
                Ok(())
            };
        }
        let colon = self.eat(":");
        let Some(operator) = ["-", "?", "+"].into_iter().find(|op| self.eat(op)) else {
            return Err(self.invalid(start));
        };
        let there = value.filter(|v| !(colon && v.is_empty()));
        let inner_live = live && (there.is_some() == (operator == "+"));
        let mut inner = String::new();
        self.until_end(&mut inner, depth + 1, inner_live)?;
        if !self.eat("}") {
            return Err(format!(
                "{:?} has no closing brace",
                shorten(self.text.get(start..).unwrap_or(""))
            ));
        }
        match (operator, there) {
            _ if !live => Ok(()),
            ("+", _) | ("-", None) => self.push(out, &inner),
            (_, Some(value)) => self.push(out, &value),
            (_, None) => {
                let state = if colon { "not set or empty" } else { "not set" };
                let message = if inner.is_empty() {
                    String::new()
                } else {
                    format!(": {}", shorten(&inner))
                };
                Err(format!("the variable {name} is {state}{message}"))
            }
        }
    }

    fn invalid(&self, start: usize) -> String {
        let text = shorten(self.text.get(start..).unwrap_or(""));
        format!(
            "{text:?} is no variable; write $NAME, ${{NAME}}, ${{NAME:-default}}, or $$ for a dollar sign"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "SET" => Some("value".into()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("${SET}$".into()),
            _ => None,
        }
    }

    fn read(written: &str) -> Result<(String, Vec<String>), String> {
        let mut unset = Vec::new();
        text(written, &env, 1000, &mut unset).map(|text| (text, unset))
    }

    #[test]
    fn variables_are_replaced_as_docker_does() {
        for (written, want) in [
            ("plain { } text", "plain { } text"),
            ("$SET-${SET}", "value-value"),
            ("$$SET $${SET} $$$SET", "$SET ${SET} $value"),
            ("a${EMPTY}b", "ab"),
            ("${UNSET:-d} ${EMPTY:-d} ${SET:-d}", "d d value"),
            ("${UNSET-d} ${EMPTY-d} ${SET-d}", "d  value"),
            ("${UNSET:+d} ${EMPTY:+d} ${SET:+d}", "  d"),
            ("${UNSET+d} ${EMPTY+d} ${SET+d}", " d d"),
            ("${SET:?e} ${SET?e} ${EMPTY?e}", "value value "),
            (
                "${UNSET:-${SET}} ${UNSET:-${OTHER:-deep $SET}}",
                "value deep value",
            ),
            ("${UNSET:-}", ""),
            ("${UNSET:-{\"a\": {}}}", "{\"a\": {}}"),
            ("${UNSET:-a$$b}", "a$b"),
            // A value is not read again.
            ("$DOLLAR", "${SET}$"),
            // What is not taken is not looked up.
            ("${SET:-$UNSET}", "value"),
            ("${UNSET:-http://a:80/?q}", "http://a:80/?q"),
        ] {
            assert_eq!(read(written), Ok((want.into(), vec![])), "{written}");
        }
    }

    #[test]
    fn unset_variables_are_named() {
        assert_eq!(
            read("$A${B}c"),
            Ok(("c".into(), vec!["A".into(), "B".into()]))
        );
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        for (written, want) in [
            ("cost: 5$", "\"$\" is no variable"),
            ("$1", "\"$1\" is no variable"),
            ("${}", "\"${}\" is no variable"),
            ("${SET", "\"${SET\" is no variable"),
            ("${SET!x}", "\"${SET!x}\" is no variable"),
            ("${SET:x}", "\"${SET:x}\" is no variable"),
            ("${UNSET:-a", "\"${UNSET:-a\" has no closing brace"),
            ("${SET:-$}", "\"$}\" is no variable"),
            (
                "${UNSET:?set it to $SET}",
                "the variable UNSET is not set or empty: set it to value",
            ),
            ("${UNSET?}", "the variable UNSET is not set"),
            ("${EMPTY:?}", "the variable EMPTY is not set or empty"),
        ] {
            let error = read(written).expect_err(written);
            assert!(error.starts_with(want), "{written}: {error}");
        }
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!("{}{}", "${A:-".repeat(1000), "}".repeat(1000));
        assert_eq!(
            read(&deep),
            Err("variables are nested more than 20 deep".into())
        );
        let long = "$SET".repeat(1000);
        assert_eq!(
            read(&long),
            Err("the values of its variables make the text too long".into())
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[${}:?+a-cSET-]{0,40}") {
            let _ = read(&text);
        }

        #[test]
        fn an_escaped_text_is_read_as_it_was(text in ".{0,40}") {
            prop_assert_eq!(read(&text.replace('$', "$$")), Ok((text, vec![])));
        }

        /// Without `$` nothing is changed.
        #[test]
        fn a_text_without_variables_is_left_alone(text in "[^$]{0,40}") {
            prop_assert_eq!(read(&text), Ok((text, vec![])));
        }

        /// Whatever a variable holds comes out as it is.
        #[test]
        fn a_value_is_taken_as_it_is(value in ".{0,40}") {
            let env = |_: &str| Some(value.clone());
            prop_assert_eq!(text("<${X}>", &env, 1000, &mut Vec::new()), Ok(format!("<{value}>")));
        }

        #[test]
        fn a_default_is_taken_when_unset(default in "[^${}]{0,40}") {
            let written = format!("${{UNSET:-{default}}}");
            prop_assert_eq!(read(&written), Ok((default, vec![])));
        }
    }
}
