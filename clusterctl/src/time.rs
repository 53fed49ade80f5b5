//! Times as people write and read them.

use anyhow::{Result, bail};
use jiff::{SignedDuration, Timestamp};

/// "5 minutes ago".
pub fn ago(at_ms: i64, now: Timestamp) -> String {
    let seconds = (now.as_millisecond().saturating_sub(at_ms) / 1000).max(0);
    format!("{} ago", span(seconds))
}

/// "5 minutes".
fn span(seconds: i64) -> String {
    parts(seconds, 1)
}

/// "1 hour 30 minutes", where an hour would be too little said.
pub fn spans(seconds: i64) -> String {
    parts(seconds, 2)
}

/// In its largest units, so many of them, one after the other.
fn parts(seconds: i64, units: usize) -> String {
    const STEPS: [(i64, &str); 4] = [
        (86_400, "day"),
        (3_600, "hour"),
        (60, "minute"),
        (1, "second"),
    ];
    let mut left = seconds;
    let counts = STEPS.map(|(size, name)| {
        let count = left / size;
        left %= size;
        (count, name)
    });
    let told: Vec<String> = counts
        .iter()
        .skip_while(|(count, _)| *count == 0)
        .take(units)
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}{}", if *count == 1 { "" } else { "s" }))
        .collect();
    if told.is_empty() {
        return "less than a second".into();
    }
    told.join(" ")
}

/// A length of time, as `--every` takes it: `30m`, `6h`, `1h30m`.
///
/// # Errors
/// When it is none.
pub fn length_ms(text: &str) -> Result<u64> {
    match text
        .parse::<SignedDuration>()
        .map(|length| u64::try_from(length.as_millis()))
    {
        Ok(Ok(length)) => Ok(length),
        _ => bail!("{text:?} is no length of time: write 30m, 6h or 1h30m"),
    }
}

/// A length of time as [`length_ms`] takes it.
pub fn shown_length(ms: u64) -> String {
    let length = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX));
    format!("{length:#}").replace(' ', "")
}

/// A point in time: `2026-01-02T03:04:05Z`.
pub fn show(at_ms: i64) -> String {
    // To the second: who compares more precisely takes JSON.
    Timestamp::from_second(at_ms.div_euclid(1000))
        .map_or_else(|_| at_ms.to_string(), |at| at.to_string())
}

/// A length of time, as Go and Compose write it: `90s`, `1h30m`, `720h`.
///
/// # Errors
/// When it is none, or not longer than nothing.
pub fn length(text: &str) -> Result<std::time::Duration> {
    match text
        .parse::<SignedDuration>()
        .map(std::time::Duration::try_from)
    {
        Ok(Ok(length)) if !length.is_zero() => Ok(length),
        _ => bail!("{text:?} is no length of time: write 90s, 1h30m or 720h"),
    }
}

/// A point in time, as `--since` takes it: `10m`, `1h30m`, or `2026-01-02T03:04:05Z`.
///
/// # Errors
/// When it is neither.
pub fn point(text: &str, now: Timestamp) -> Result<i64> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at.as_millisecond());
    }
    match text.parse::<SignedDuration>() {
        Ok(back) if !back.is_negative() => Ok((now - back).as_millisecond()),
        _ => bail!(
            "{text:?} is no time: write how long ago (10m, 1h30m) or when (2026-01-02T03:04:05Z)"
        ),
    }
}

/// A span in milliseconds, as `--heartbeat` takes it: `1s`, `500ms`.
///
/// # Errors
/// When it is none, or none that fits.
pub fn millis(text: &str) -> Result<u32> {
    let span = text.parse::<SignedDuration>().ok();
    match span.and_then(|span| u32::try_from(span.as_millis()).ok()) {
        Some(ms) if ms > 0 => Ok(ms),
        _ => bail!("{text:?} is no span of time: write it 1s or 500ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_its_largest_unit() {
        let now = Timestamp::from_millisecond(100_000_000_000).unwrap();
        let at = |seconds: i64| now.as_millisecond() - seconds * 1000;
        assert_eq!(ago(at(0), now), "less than a second ago");
        assert_eq!(ago(at(1), now), "1 second ago");
        assert_eq!(ago(at(119), now), "1 minute ago");
        assert_eq!(ago(at(7200), now), "2 hours ago");
        assert_eq!(ago(at(-5), now), "less than a second ago");
    }

    #[test]
    fn a_length_is_shown_as_it_is_read() {
        for text in ["6h", "30m", "1h30m", "1m30s"] {
            assert_eq!(shown_length(length_ms(text).unwrap()), text);
        }
    }

    #[test]
    fn spans_are_read_in_milliseconds() {
        assert_eq!(millis("1s").unwrap(), 1_000);
        assert_eq!(millis("500ms").unwrap(), 500);
        for wrong in ["1", "0s", "-1s", "soon", "2000h"] {
            assert!(millis(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn since_takes_a_span_or_a_time() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        assert_eq!(point("10m", now).unwrap(), now.as_millisecond() - 600_000);
        assert_eq!(
            point("1h30m", now).unwrap(),
            now.as_millisecond() - 5_400_000
        );
        assert_eq!(
            point("2026-01-02T03:04:05Z", now).unwrap(),
            now.as_millisecond()
        );
        assert!(point("yesterday", now).is_err());
    }
}
