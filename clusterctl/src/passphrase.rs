//! What opens a backup: from a file, the environment, or a person at a terminal. Never from the command line,
//! which every user of the machine can read.

use crate::failure::Interrupted;
use anyhow::{Context, Result, bail};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, tcgetattr, tcsetattr};
use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use zeroize::{Zeroize, Zeroizing};

/// Most that can be typed, bytes: what a terminal takes of one line.
const TYPED_MAX: usize = 4096;
/// The environment's name for it.
pub const VARIABLE: &str = "CLUSTERCTL_PASSPHRASE";

/// Where it comes from.
#[derive(Debug, clap::Args)]
pub struct PassphraseArgs {
    /// Read the passphrase from the first line of this file [default: $CLUSTERCTL_PASSPHRASE, or asked for]
    #[arg(long, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
}

impl PassphraseArgs {
    /// The passphrase, where it is given or can be asked for: twice where it is new.
    ///
    /// # Errors
    /// When there is nobody to ask, or the file can't be read.
    pub fn read(&self, is_new: bool) -> Result<Zeroizing<String>> {
        match self.given()? {
            Some(passphrase) => Ok(passphrase),
            None if std::io::stdin().is_terminal() => ask(is_new),
            None => bail!(
                "no passphrase: give --passphrase-file FILE, set {VARIABLE}, or run this at a terminal"
            ),
        }
    }

    /// The passphrase, where it is given.
    ///
    /// # Errors
    /// When the file can't be read, or is empty.
    pub fn given(&self) -> Result<Option<Zeroizing<String>>> {
        if let Some(path) = &self.passphrase_file {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("can't read the passphrase from {}", path.display()))?;
            let text = Zeroizing::new(text);
            let line = text.lines().next().unwrap_or_default();
            if line.is_empty() {
                bail!("the first line of {} is empty", path.display());
            }
            return Ok(Some(Zeroizing::new(line.to_owned())));
        }
        match std::env::var(VARIABLE) {
            Ok(text) if !text.is_empty() => Ok(Some(Zeroizing::new(text))),
            _ => Ok(None),
        }
    }
}

fn ask(is_new: bool) -> Result<Zeroizing<String>> {
    let first = prompt("Passphrase: ")?;
    if is_new && *prompt("Once more: ")? != *first {
        bail!("the two passphrases differ");
    }
    Ok(first)
}

/// Asks at the terminal; what is typed is not shown. Ctrl-C comes as a character meanwhile: as a signal it would end the
/// program and leave a terminal that shows nothing of what is typed.
///
/// # Errors
/// When the terminal can't be read, nothing is typed, or Ctrl-C is.
pub fn prompt(text: &str) -> Result<Zeroizing<String>> {
    let stdin = std::io::stdin();
    let shown = tcgetattr(&stdin).context("can't read the terminal's settings")?;
    let mut hidden = shown.clone();
    hidden
        .local_flags
        .remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG);
    hidden.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
    hidden.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
    let mut stderr = std::io::stderr();
    write!(stderr, "{text}")?;
    stderr.flush()?;
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &hidden).context("can't hide what is typed")?;
    let line = typed(stdin.lock().bytes());
    // Whatever was read, the terminal shows again what is typed.
    tcsetattr(&stdin, SetArg::TCSAFLUSH, &shown).context("can't reset the terminal")?;
    writeln!(stderr)?;
    let line = line?;
    if line.is_empty() {
        bail!("nothing was typed");
    }
    Ok(line)
}

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

/// A line as typed, with the keys that a terminal knows by itself otherwise.
fn typed(keys: impl Iterator<Item = std::io::Result<u8>>) -> Result<Zeroizing<String>> {
    // Never moved: what it held would stay behind.
    let mut line = Zeroizing::new(String::with_capacity(TYPED_MAX));
    let mut char = Vec::with_capacity(4);
    for key in keys {
        match key? {
            CTRL_C => return Err(Interrupted("interrupted; nothing was done".into()).into()),
            b'\n' | b'\r' | CTRL_D => return Ok(line),
            BACKSPACE | DELETE => drop(line.pop()),
            CTRL_U => line.zeroize(),
            byte => {
                char.push(byte);
                match std::str::from_utf8(&char) {
                    Ok(whole) if line.len() + whole.len() <= TYPED_MAX => {
                        line.push_str(whole);
                        char.clear();
                    }
                    Ok(_) => bail!("more than {TYPED_MAX} bytes were typed"),
                    Err(error) if error.error_len().is_none() => {}
                    Err(_) => bail!("what was typed is no UTF-8"),
                }
            }
        }
    }
    Ok(line)
}

/// A recovery key: 160 random bits, to be kept on paper.
#[must_use]
pub fn generate() -> Zeroizing<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let random = Zeroizing::new([
        api::model::TaskId::random().0.to_be_bytes(),
        api::model::TaskId::random().0.to_be_bytes(),
    ]);
    let bytes = random.iter().flatten();
    let mut key = Zeroizing::new(String::with_capacity(40));
    for (at, byte) in bytes.enumerate() {
        if at > 0 && at % 4 == 0 {
            key.push('-');
        }
        let letter = LETTERS.get(usize::from(byte % 32)).copied().unwrap_or(b'a');
        key.push(char::from(letter));
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_key_is_long_and_another_each_time() {
        let (one, two) = (generate(), generate());
        assert_eq!(one.len(), 39, "{one:?}");
        assert_ne!(*one, *two);
        assert!(!one.contains(['l', 'o', '0', '1']), "{one:?}");
    }

    #[test]
    fn what_is_typed_can_be_mended_and_given_up() {
        let read = |keys: &[u8]| typed(keys.iter().copied().map(Ok));
        let line = |keys: &[u8]| read(keys).unwrap().to_string();
        assert_eq!(line(b"correct horse\nmore"), "correct horse");
        assert_eq!(
            line("wrongk\u{15}kä\u{7f}\u{8}orrect\r".as_bytes()),
            "orrect"
        );
        assert_eq!(line("gr\u{fc}n\u{4}".as_bytes()), "gr\u{fc}n");
        assert_eq!(line(b"\x7f\n"), "");
        assert!(read(b"abc\x03").unwrap_err().is::<Interrupted>());
        assert!(read(b"\xff\n").is_err());
        assert!(read(&[b'x'; TYPED_MAX + 1]).is_err());
    }

    #[test]
    fn a_file_gives_its_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let args = PassphraseArgs {
            passphrase_file: Some(path.clone()),
        };
        std::fs::write(&path, "correct horse\nmore\n").unwrap();
        assert_eq!(*args.read(true).unwrap(), "correct horse");
        std::fs::write(&path, "\n").unwrap();
        assert!(
            args.read(true)
                .unwrap_err()
                .to_string()
                .contains("is empty")
        );
        std::fs::remove_file(&path).unwrap();
        assert!(
            args.read(true)
                .unwrap_err()
                .to_string()
                .contains("can't read")
        );
    }
}
