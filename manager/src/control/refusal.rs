//! Why a call is refused, and how that is told over gRPC.

use crate::proxy::retry_elsewhere;
use api::convert::ConvertError;
use api::state::{ApplyError, ErrorKind};
use raft_store::ProposeError;
use tonic::{Code, Status};

/// A call that is refused: nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// What kind, for programs.
    pub code: Code,
    /// Object, cause and cure, for people.
    pub text: String,
}

impl Refusal {
    /// What it speaks of is not there.
    pub fn not_found(text: impl Into<String>) -> Self {
        Self {
            code: Code::NotFound,
            text: text.into(),
        }
    }

    /// It can't be meant so.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self {
            code: Code::InvalidArgument,
            text: text.into(),
        }
    }

    /// Something has to be done first.
    pub fn first(text: impl Into<String>) -> Self {
        Self {
            code: Code::FailedPrecondition,
            text: text.into(),
        }
    }

    /// The name is taken.
    pub fn taken(text: impl Into<String>) -> Self {
        Self {
            code: Code::AlreadyExists,
            text: text.into(),
        }
    }

    /// There is no room left.
    pub fn exhausted(text: impl Into<String>) -> Self {
        Self {
            code: Code::ResourceExhausted,
            text: text.into(),
        }
    }
}

/// A text is a header of the answer, of which HTTP/2 takes little: so many lines of it are told, and bytes.
const LINES_MAX: usize = 20;
const BYTES_MAX: usize = 4096;

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::new(refusal.code, shortened(refusal.text))
    }
}

/// The beginning of a text that is too long, and how much is left out.
fn shortened(text: String) -> String {
    let lines = text.lines().count();
    if lines <= LINES_MAX && text.len() <= BYTES_MAX {
        return text;
    }
    let (mut short, mut told) = (String::new(), 0);
    for line in text.lines().take(LINES_MAX) {
        if short.len() + line.len() > BYTES_MAX {
            break;
        }
        short.push_str(line);
        short.push('\n');
        told += 1;
    }
    if told == 0 {
        short.extend(text.chars().take(BYTES_MAX / 4));
        return short + " …";
    }
    short + &format!("… and {} more", lines - told)
}

impl From<ConvertError> for Refusal {
    fn from(error: ConvertError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<ApplyError> for Refusal {
    fn from(error: ApplyError) -> Self {
        let code = match error.kind {
            ErrorKind::NotFound => Code::NotFound,
            ErrorKind::Taken => Code::AlreadyExists,
            ErrorKind::InUse => Code::FailedPrecondition,
            ErrorKind::Conflict => Code::Aborted,
            ErrorKind::Invalid => Code::InvalidArgument,
        };
        Self {
            code,
            text: error.message,
        }
    }
}

impl From<scheduler::allocate::Refusal> for Refusal {
    fn from(refusal: scheduler::allocate::Refusal) -> Self {
        Self::exhausted(refusal.to_string())
    }
}

/// A read or a write that could not be made, as a status. `written` says whether a write was on its way.
pub fn propose_status(error: ProposeError, written: bool) -> Status {
    match error {
        ProposeError::Refused(refused) => Refusal::from(refused).into(),
        ProposeError::NotLeader { .. } if !written => {
            retry_elsewhere("this manager does not lead (any more)")
        }
        ProposeError::NotLeader { .. } => Status::unavailable(
            "this manager has lost the lead while the change was on its way; it may have been made: look before you make it again",
        ),
        ProposeError::TooLarge { bytes, limit } => Status::resource_exhausted(format!(
            "the change takes {bytes} bytes, one may take {limit}; make it in parts"
        )),
        ProposeError::Unavailable(cause) if !written => retry_elsewhere(cause),
        ProposeError::Unavailable(cause) => Status::unavailable(cause),
    }
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn a_long_text_is_told_from_its_beginning() {
        assert_eq!(shortened("a\nb".into()), "a\nb");
        let many: Vec<String> = (0..500).map(|n| format!("service s{n}: no")).collect();
        let short = shortened(many.join("\n"));
        assert!(short.starts_with("service s0: no\n"), "{short}");
        assert!(
            short.ends_with("service s19: no\n… and 480 more"),
            "{short}"
        );
        let wide = ["ä".repeat(1500), "b".repeat(3000)].join("\n");
        let short = shortened(wide);
        assert!(short.ends_with("ä\n… and 1 more"), "{short}");
        let one = shortened("ä".repeat(9000));
        assert!(one.ends_with("ä …") && one.len() < 4096, "{}", one.len());
    }
}
