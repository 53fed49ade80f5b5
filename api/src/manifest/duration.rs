//! Durations as Go writes them: `90s`, `1m30s`, `1.5h`, `500ms`.

use super::field::{Field, Report};
use super::yaml::shorten;

const UNITS: [(&str, u64); 7] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Milliseconds, a begun one counted whole.
pub(super) fn read(report: &mut Report<'_>, field: &Field<'_>) -> Option<u64> {
    let what = "a duration such as 5s or 1m30s";
    let text = match &field.node.value {
        super::yaml::Value::Text(text) => text,
        _ => {
            report.expected(field, what);
            return None;
        }
    };
    let read = parse(text);
    if read.is_none() {
        report.refuse(field, format!("expected {what}, found {:?}", shorten(text)));
    }
    read
}

fn parse(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let (digits, after) = rest.split_at(number);
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let nanos = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        total = total.checked_add(part(digits, nanos)?)?;
        rest = after;
    }
    Some(total.div_ceil(1_000_000))
}

/// A decimal number of units, in nanoseconds; what is below one is cut off.
fn part(digits: &str, nanos: u64) -> Option<u64> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let mut total = whole.checked_mul(nanos)?;
    let mut scale = nanos;
    for digit in fraction.chars() {
        scale /= 10;
        total = total.checked_add(scale * u64::from(digit.to_digit(10)?))?;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations() {
        for (text, want) in [
            ("5s", Some(5_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            (".5s", Some(500)),
            ("500ms", Some(500)),
            ("100us", Some(1)),
            ("1µs", Some(1)),
            ("0", Some(0)),
            ("0s", Some(0)),
            ("+1s", Some(1_000)),
            ("120s", Some(120_000)),
            ("5", None),
            ("", None),
            ("s", None),
            ("1d", None),
            ("-1s", None),
            ("1.2.3s", None),
            (".s", None),
            ("5 s", None),
            ("99999999999h", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[0-9.hmsnuµ+ -]{0,20}") {
            let _ = parse(&text);
        }

        #[test]
        fn whole_seconds_are_read(h in 0u64..100, m in 0u64..100, s in 0u64..100) {
            prop_assert_eq!(parse(&format!("{h}h{m}m{s}s")), Some((h * 3600 + m * 60 + s) * 1000));
        }
    }
}
