//! What things may be called.

use super::yaml::shorten;
use crate::model::BlobKind;

/// Of a stack, so that its services' names have room for themselves.
const STACK_LIMIT: usize = 40;
/// Of a DNS label, and of the full names of services and networks.
const LABEL_LIMIT: usize = 63;
/// Of a volume's name, which is a folder's name on the nodes.
const VOLUME_LIMIT: usize = 128;
/// Of a secret's or a config's name.
const BLOB_LIMIT: usize = 128;

/// Letters, digits, `-` and `_`, a letter or digit first and last, and not too long.
fn label(what: &str, name: &str, limit: usize) -> Result<(), String> {
    let shown = shorten(name);
    if name.is_empty() {
        return Err(format!("the {what} name is empty"));
    }
    if let Some(wrong) = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_'))
    {
        return Err(format!(
            "the {what} name {shown:?} holds {wrong:?}; letters, digits, - and _ are allowed"
        ));
    }
    let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if !ends(name.chars().next()) || !ends(name.chars().next_back()) {
        return Err(format!(
            "the {what} name {shown:?} has to begin and end with a letter or a digit"
        ));
    }
    if name.len() > limit {
        return Err(format!(
            "the {what} name {shown:?} has {} characters, at most {limit} are allowed",
            name.len()
        ));
    }
    Ok(())
}

/// The stack's name.
pub(super) fn check_stack(name: &str) -> Result<(), String> {
    label("stack", name, STACK_LIMIT)
}

/// A service's name and its full name, which is resolved by DNS.
pub(super) fn check_service(name: &str, full: &str) -> Result<(), String> {
    label("service", name, LABEL_LIMIT)?;
    label("service", full, LABEL_LIMIT)
}

/// Another name of a service: labels with dots between them.
pub(super) fn check_alias(name: &str) -> Result<(), String> {
    const NAME_LIMIT: usize = 253;
    if name.len() > NAME_LIMIT {
        return Err(format!(
            "the alias {:?} has more than {NAME_LIMIT} characters",
            shorten(name)
        ));
    }
    name.split('.')
        .try_for_each(|part| label("alias", part, LABEL_LIMIT))
}

/// Docker's rule for volumes, networks, secrets and configs.
fn object(what: &str, name: &str, limit: usize) -> Result<(), String> {
    let shown = shorten(name);
    let Some(first) = name.chars().next() else {
        return Err(format!("the {what} name is empty"));
    };
    if let Some(wrong) = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "_.-".contains(*c)))
    {
        return Err(format!(
            "the {what} name {shown:?} holds {wrong:?}; letters, digits, \"-\", \"_\" and \".\" are allowed"
        ));
    }
    if !first.is_ascii_alphanumeric() {
        return Err(format!(
            "the {what} name {shown:?} has to begin with a letter or a digit"
        ));
    }
    if name.len() > limit {
        return Err(format!(
            "the {what} name {shown:?} has {} characters, at most {limit} are allowed",
            name.len()
        ));
    }
    Ok(())
}

/// A network's full name.
pub(super) fn check_network(name: &str) -> Result<(), String> {
    object("network", name, LABEL_LIMIT)
}

/// A volume's full name.
pub(super) fn check_volume(name: &str) -> Result<(), String> {
    object("volume", name, VOLUME_LIMIT)
}

/// A secret's or a config's full name.
pub(super) fn check_blob(kind: BlobKind, name: &str) -> Result<(), String> {
    object(kind.as_str(), name, BLOB_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "a".repeat(64);
        for (name, ok) in [
            ("web", true),
            ("Web-1_x", true),
            ("1", true),
            ("", false),
            ("-a", false),
            ("a_", false),
            ("a.b", false),
            ("ä", false),
            ("a b", false),
            (&long, false),
        ] {
            assert_eq!(check_service(name, name).is_ok(), ok, "{name}");
        }
        for (name, ok) in [
            ("data", true),
            ("a.b-c_", true),
            ("", false),
            (".a", false),
            ("a/b", false),
            (&long, false),
        ] {
            assert_eq!(check_network(name).is_ok(), ok, "{name}");
        }
        for (name, ok) in [
            ("db.internal", true),
            ("db", true),
            ("a..b", false),
            (".a", false),
        ] {
            assert_eq!(check_alias(name).is_ok(), ok, "{name}");
        }
        assert!(check_volume(&long).is_ok());
        assert!(check_stack(&long[..41]).is_err());
    }
}
