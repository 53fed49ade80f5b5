//! Waiting for conditions, never for a fixed time.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Calls `condition` until it yields true, or until `limit` has passed.
///
/// An error of the condition means "not yet"; the last one is part of the final error.
pub fn wait_for(
    what: impl AsRef<str>,
    limit: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        let outcome = condition();
        if matches!(outcome, Ok(true)) {
            return Ok(());
        }
        if Instant::now() >= end {
            let why = outcome
                .err()
                .map_or_else(String::new, |e| format!("; last error: {e:#}"));
            bail!(
                "gave up after {:.1} s waiting until {}{why}",
                limit.as_secs_f64(),
                what.as_ref()
            );
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_told() {
        let error =
            wait_for("the cow is home", Duration::ZERO, || bail!("no cow")).expect_err("never");
        let text = error.to_string();
        assert!(
            text.contains("until the cow is home") && text.contains("no cow"),
            "{text}"
        );
    }

    #[test]
    fn it_ends_once_the_condition_holds() {
        let mut calls = 0;
        wait_for("three calls", Duration::from_secs(60), || {
            calls += 1;
            Ok(calls == 3)
        })
        .expect("holds at the third call");
        assert_eq!(calls, 3);
    }
}
