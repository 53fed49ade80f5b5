//! Image references: `[registry[:port]/]repository[:tag][@digest]`, as Docker's registries have them.

use super::yaml::shorten;

const NAME_LIMIT: usize = 255;
const TAG_LIMIT: usize = 128;

/// Says what is wrong with a reference.
pub(super) fn check(text: &str) -> Result<(), String> {
    find(text).map_err(|reason| format!("{:?} is no image reference: {reason}", shorten(text)))
}

fn find(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("it is empty".into());
    }
    if let Some(wrong) = text.chars().find(|c| !c.is_ascii_graphic()) {
        return Err(format!("it holds {wrong:?}"));
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    let slash = rest.rfind('/').map_or(0, |i| i + 1);
    let (name, tag) = match rest.get(slash..).unwrap_or("").find(':') {
        Some(colon) => {
            let (name, tag) = rest.split_at(slash + colon);
            (name, Some(tag.trim_start_matches(':')))
        }
        None => (rest, None),
    };
    if name.len() > NAME_LIMIT {
        return Err(format!("the name has more than {NAME_LIMIT} characters"));
    }
    let (registry, repository) = match name.split_once('/') {
        Some((first, more)) if first.contains(['.', ':']) || first == "localhost" => {
            (Some(first), more)
        }
        _ => (None, name),
    };
    registry.map_or(Ok(()), check_registry)?;
    repository.split('/').try_for_each(check_component)?;
    tag.map_or(Ok(()), check_tag)?;
    digest.map_or(Ok(()), check_digest)
}

fn check_registry(registry: &str) -> Result<(), String> {
    let (host, port) = match registry.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    if port.is_some_and(|p| {
        p.parse::<u16>().map_or(true, |p| p == 0) || !p.bytes().all(|b| b.is_ascii_digit())
    }) {
        return Err(format!(
            "{:?} has no port from 1 to 65535",
            shorten(registry)
        ));
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    if host.split('.').all(label) {
        Ok(())
    } else {
        Err(format!("{:?} is no registry's host", shorten(host)))
    }
}

/// `[a-z0-9]` runs with one of `.`, `_`, `__` or any number of `-` between them.
fn check_component(component: &str) -> Result<(), String> {
    let shown = shorten(component);
    if component.is_empty() {
        return Err("a part of its name is empty".into());
    }
    if component.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!(
            "{shown:?} has capital letters; names are lower case"
        ));
    }
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if let Some(wrong) = component
        .chars()
        .find(|c| !plain(*c) && !"._-".contains(*c))
    {
        return Err(format!("{shown:?} holds {wrong:?}"));
    }
    let separators = component.split(plain).filter(|s| !s.is_empty());
    let ends = component.starts_with(plain) && component.ends_with(plain);
    let good = |s: &str| s == "." || s == "_" || s == "__" || s.bytes().all(|b| b == b'-');
    if ends && separators.into_iter().all(good) {
        Ok(())
    } else {
        Err(format!(
            "{shown:?} has a \".\", \"_\" or \"-\" where none may be"
        ))
    }
}

fn check_tag(tag: &str) -> Result<(), String> {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let good = tag.starts_with(first) && tag.chars().all(|c| first(c) || c == '.' || c == '-');
    if good && tag.len() <= TAG_LIMIT {
        Ok(())
    } else {
        Err(format!("{:?} is no tag", shorten(tag)))
    }
}

fn check_digest(digest: &str) -> Result<(), String> {
    let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    match digest.strip_prefix("sha256:") {
        Some(rest) if rest.len() == 64 && rest.chars().all(hex) => Ok(()),
        _ => Err(format!(
            "{:?} is no digest: sha256: and 64 hexadecimal digits are",
            shorten(digest)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn good_references_are_taken() {
        let digest = "0123456789abcdef".repeat(4);
        for text in [
            "redis",
            "redis:7",
            "library/redis:7-alpine",
            "docker.io/library/redis",
            "localhost/a",
            "localhost:5000/a/b-c/d__e:V1.2_x",
            "192.168.205.10:5000/flask",
            "ghcr.io/Org".to_lowercase().as_str(),
            "a--b/c.d",
            &format!("redis@sha256:{digest}"),
            &format!("reg.example.com/redis:7@sha256:{digest}"),
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn bad_references_are_refused_with_the_reason() {
        for (text, want) in [
            ("", "it is empty"),
            ("my image", "it holds ' '"),
            (
                "Redis",
                "\"Redis\" has capital letters; names are lower case",
            ),
            ("a//b", "a part of its name is empty"),
            ("/a", "a part of its name is empty"),
            ("redis:", "\"\" is no tag"),
            ("redis:-1", "\"-1\" is no tag"),
            ("redis:a:b", "\"a:b\" is no tag"),
            (
                "a..b",
                "\"a..b\" has a \".\", \"_\" or \"-\" where none may be",
            ),
            ("-a", "\"-a\" has a \".\", \"_\" or \"-\" where none may be"),
            ("a_", "\"a_\" has a \".\", \"_\" or \"-\" where none may be"),
            ("a~b", "\"a~b\" holds '~'"),
            ("https://a/b", "\"https:\" has no port from 1 to 65535"),
            (
                "localhost:99999/a",
                "\"localhost:99999\" has no port from 1 to 65535",
            ),
            ("a_b.c/d", "\"a_b.c\" is no registry's host"),
            (
                "redis@sha256:12",
                "\"sha256:12\" is no digest: sha256: and 64 hexadecimal digits are",
            ),
        ] {
            assert_eq!(
                check(text),
                Err(format!("{text:?} is no image reference: {want}")),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_or_refused(text in "[a-zA-Z0-9:/@._ä-]{0,40}") {
            let _ = check(&text);
        }
    }
}
