//! Commands and entrypoints: a list is taken as it is, a text is split into words as a shell splits it.
//! No shell reads them: `|`, `>`, `*` and the like are ordinary characters.

use super::field::{Field, Report};
use super::yaml::shorten;

/// The words; absent when nothing is written, so that the image's is used.
pub(super) fn read(report: &mut Report<'_>, field: &Field<'_>) -> Option<Vec<String>> {
    if field.is_null() {
        return None;
    }
    if field.is_list() {
        let items = field.items(report, "a list")?;
        let words: Vec<_> = items
            .iter()
            .filter_map(|item| item.scalar(report, "a text"))
            .collect();
        return Some(words);
    }
    let text = field.text(report, "a text or a list")?;
    match split(text) {
        Ok(words) => Some(words),
        Err(problem) => {
            report.refuse(field, problem);
            None
        }
    }
}

/// Words apart by white space; quotes and backslashes as POSIX has them.
pub(super) fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars();
    let unclosed = |quote| {
        Err(format!(
            "{:?} has a {quote} that is not closed",
            shorten(text)
        ))
    };
    while let Some(c) = chars.next() {
        match c {
            c if c.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => word.push(c),
                        None => return unclosed('\''),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => word.push(c),
                            Some('\n') => {}
                            Some(c) => word.extend(['\\', c]),
                            None => return unclosed('"'),
                        },
                        Some(c) => word.push(c),
                        None => return unclosed('"'),
                    }
                }
            }
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err(format!("{:?} ends with a backslash", shorten(text))),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_is_split_as_a_shell_splits_it() {
        for (text, want) in [
            ("", &[][..]),
            ("  \n ", &[]),
            (
                "redis-server --appendonly yes",
                &["redis-server", "--appendonly", "yes"],
            ),
            (
                "sh -c 'echo \"a b\" \\n'",
                &["sh", "-c", "echo \"a b\" \\n"],
            ),
            (r#"a "b c"d'e f' "" '' g"#, &["a", "b cde f", "", "", "g"]),
            (r#""\" \\ \$ \` \n""#, &["\" \\ $ ` \\n"]),
            (r"a\ b \'c", &["a b", "'c"]),
            ("a \\\n b \"c\\\nd\"", &["a", "b", "cd"]),
            ("a | b > c # d *", &["a", "|", "b", ">", "c", "#", "d", "*"]),
        ] {
            assert_eq!(
                split(text).as_deref(),
                Ok(want
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .as_slice()),
                "{text}"
            );
        }
        for (text, want) in [
            ("a 'b", "' that is not closed"),
            ("\"", "\" that is not closed"),
            ("a\\", "ends with a backslash"),
        ] {
            let error = split(text).expect_err(text);
            assert!(error.ends_with(want), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_split_or_refused(text in "[ab '\"\\\\\n$]{0,30}") {
            let _ = split(&text);
        }

        #[test]
        fn quoted_words_come_out_as_they_were(words in proptest::collection::vec(".{0,10}", 0..5)) {
            let quoted: Vec<_> = words.iter().map(|w| format!("'{}'", w.replace('\'', r"'\''"))).collect();
            prop_assert_eq!(split(&quoted.join(" ")), Ok(words));
        }
    }
}
