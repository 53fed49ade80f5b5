//! A signal by name or number, real-time signals included (`STOPSIGNAL SIGRTMIN+3`).

use std::{fmt, str::FromStr};

use nix::sys::signal::Signal as Named;
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// A signal's number, 1 to 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i32", into = "i32")]
pub struct Signal(i32);

/// The first real-time signal as C libraries on Linux count them.
const RT_MIN: i32 = 34;
/// The last one.
const RT_MAX: i32 = 64;

impl Signal {
    /// Terminate politely.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// Kill; can't be caught.
    pub const KILL: Self = Self(libc::SIGKILL);
    /// Interrupt, as from a terminal.
    pub const INT: Self = Self(libc::SIGINT);
    /// Hang up; many daemons reload on it.
    pub const HUP: Self = Self(libc::SIGHUP);

    /// The number.
    pub const fn number(self) -> i32 {
        self.0
    }
}

impl TryFrom<i32> for Signal {
    type Error = Error;

    fn try_from(number: i32) -> Result<Self, Error> {
        if (1..=RT_MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Error::InvalidSignal(number.to_string()))
        }
    }
}

impl From<Signal> for i32 {
    fn from(signal: Signal) -> Self {
        signal.0
    }
}

impl FromStr for Signal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::InvalidSignal(text.to_owned());
        if let Ok(number) = text.parse::<i32>() {
            return Self::try_from(number).map_err(|_| invalid());
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
            _ if rest.is_empty() => Some(0),
            Some(digits) => digits.parse::<i32>().ok().filter(|n| (0..=30).contains(n)),
            None => None,
        };
        if let Some(rest) = name.strip_prefix("RTMIN") {
            let number = RT_MIN + offset(rest, '+').ok_or_else(invalid)?;
            return Self::try_from(number).map_err(|_| invalid());
        }
        if let Some(rest) = name.strip_prefix("RTMAX") {
            let number = RT_MAX - offset(rest, '-').ok_or_else(invalid)?;
            return Self::try_from(number).map_err(|_| invalid());
        }
        Named::from_str(&format!("SIG{name}"))
            .map(|named| Self(named as i32))
            .map_err(|_| invalid())
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Named::try_from(self.0) {
            Ok(named) => f.write_str(named.as_str()),
            Err(_) if self.0 >= RT_MIN => write!(f, "SIGRTMIN+{}", self.0 - RT_MIN),
            Err(_) => write!(f, "signal {}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals_are_read() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("9", 9),
            ("SIGRTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGRTMIN", 34),
        ] {
            assert_eq!(text.parse::<Signal>().unwrap().number(), number, "{text}");
        }
        for text in ["", "0", "65", "-1", "SIGNOPE", "RTMIN+99", "RTMIN3", "SIG"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }

    #[test]
    fn every_signal_reads_back_from_its_text() {
        for number in (1..=31).chain(34..=64) {
            let signal = Signal::try_from(number).unwrap();
            assert_eq!(signal.to_string().parse::<Signal>().unwrap(), signal);
        }
    }
}
