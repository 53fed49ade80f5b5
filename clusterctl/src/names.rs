//! What the user may name things, checked before anything is sent.

use anyhow::{Result, bail};

/// A stack's name: it becomes part of every name below it, so it keeps to what a DNS label may hold.
///
/// # Errors
/// Says which character is wrong, or that it is too long.
pub fn check_stack(name: &str) -> Result<()> {
    let Some(first) = name.chars().next() else {
        bail!("a stack needs a name")
    };
    if name.len() > 40 {
        bail!("the stack name {name:?} is longer than 40 characters");
    }
    if !first.is_ascii_alphanumeric() {
        bail!("the stack name {name:?} has to begin with a letter or a digit");
    }
    match name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_'))
    {
        Some(wrong) => {
            bail!("the stack name {name:?} holds {wrong:?}; letters, digits, - and _ are allowed")
        }
        None => Ok(()),
    }
}

/// A label as it is written on the command line: `KEY=VALUE`.
///
/// # Errors
/// When it is not.
pub fn label(text: &str) -> Result<(String, String)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => bail!("the label {text:?} is not KEY=VALUE"),
    }
}
