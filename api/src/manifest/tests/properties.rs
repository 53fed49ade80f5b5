//! Nothing that is read can hurt.

use super::*;
use proptest::prelude::*;

/// Texts that look like Compose files more often than random ones.
fn fragments() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "services:",
        "networks:",
        "volumes:",
        "secrets:",
        "configs:",
        "content:",
        "file:",
        "mode:",
        "  web:",
        "    image:",
        " nginx",
        " *a",
        " &a",
        "<<:",
        "    ports:",
        " [",
        "]",
        " {",
        "}",
        ",",
        "\n",
        "\n",
        "\n",
        "      - ",
        " \"8080:80\"",
        " 80",
        " ./a:/b:ro",
        " ${X:-",
        "}",
        "$",
        "    deploy:",
        "      replicas:",
        " 3",
        "x-y:",
        "\"",
        "'",
        " |",
        "\n    ",
        "\n  ",
        ": ",
        "#",
        "\t",
        " ~",
        "    environment:",
        " A=1",
        "    command:",
        " a b",
        "!!str",
        " !x",
        "---\n",
        "é",
        "external:",
        " true",
    ]);
    proptest::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "\\PC{0,80}") {
        let _ = read_file(&text);
    }

    #[test]
    fn anything_like_a_file_is_read_or_refused(text in fragments()) {
        if let Err(errors) = read_file(&text) {
            prop_assert!(!errors.is_empty());
            for error in errors {
                prop_assert!(error.starts_with("stack.yml") && !error.contains('\n'), "{}", error);
            }
        }
    }

    /// Any value of any key: nothing panics, and what is taken survives the wire.
    #[test]
    fn any_value_of_any_key(
        key in prop::sample::select(vec![
            "image", "command", "entrypoint", "environment", "networks", "ports", "volumes", "deploy", "labels",
            "secrets", "configs",
        ]),
        value in "[a-z0-9:./${}\\[\\]\"', -]{0,24}",
    ) {
        let text = format!("services:\n  web:\n    image: a\n    x-y: 1\n    {key}: {value}\n");
        if let Ok((spec, _)) = read_file(&text) {
            let wire = crate::proto::StackSpec::from(&spec);
            prop_assert_eq!(StackSpec::try_from(wire), Ok(spec));
        }
    }

    /// Whatever an environment variable holds, it gets to the container as it is.
    #[test]
    fn a_quoted_value_gets_through(value in "[^\\p{C}\u{85}\u{2028}\u{2029}\u{feff}]{0,30}") {
        let quoted = value.replace('\'', "''").replace('$', "$$");
        let (web, _) = taken(&web(&format!("environment: {{A: '{quoted}'}}")));
        prop_assert_eq!(web.spec.template.container.env, [format!("A={value}")]);
    }

    #[test]
    fn numbers_are_kept_as_they_are_written(value in "[1-9][0-9]{0,3}(\\.[0-9]{1,3})?") {
        let (web, _) = taken(&web(&format!("environment: {{A: {value}}}")));
        prop_assert_eq!(web.spec.template.container.env, [format!("A={value}")]);
    }
}
