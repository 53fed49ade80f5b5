//! What is honoured, what is refused and in which words, and that nothing can hurt.

mod blobs;
mod errors;
mod honoured;
mod properties;
mod samples;
mod values;

use super::*;
use crate::model::StackService;

fn env(name: &str) -> Option<String> {
    match name {
        "TAG" => Some("7.2".into()),
        "TWO" => Some("2".into()),
        "PASSED" => Some("on".into()),
        _ => None,
    }
}

/// The files beside it.
fn disk(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    match path.to_str() {
        Some("/home/me/shop/password.txt") => Ok(b"hunter2\n".to_vec()),
        Some("/home/me/shop/conf/site.conf" | "/etc/site.conf") => Ok(b"listen 80;".to_vec()),
        Some("/home/me/shop/empty") => Ok(vec![]),
        Some("/home/me/shop/big") => Ok(vec![b'x'; limit + 1]),
        Some("/home/me/shop/full") => Ok(vec![b'x'; limit]),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

/// Reads `stack.yml` of the stack `shop`; warnings and errors as they are shown.
fn read_file(text: &str) -> Result<(StackSpec, Vec<String>), Vec<String>> {
    let files = vec![(PathBuf::from("stack.yml"), text.to_owned())];
    let input = Input {
        stack: "shop",
        files,
        env: &env,
        read_file: &disk,
        base_dir: Path::new("/home/me/shop"),
    };
    match read(input) {
        Ok((spec, warnings)) => Ok((spec, warnings.iter().map(ToString::to_string).collect())),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

/// Lines of the service `web` that has an image, from line 4.
fn web(lines: &str) -> String {
    let indented: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!("services:\n  web:\n    image: nginx\n{indented}")
}

/// The service `web` of a file that has to be taken.
fn taken(text: &str) -> (StackService, Vec<String>) {
    let (mut spec, warnings) =
        read_file(text).unwrap_or_else(|errors| panic!("{text}\n{errors:#?}"));
    (
        spec.services
            .remove("shop_web")
            .expect("the file has a service web"),
        warnings,
    )
}

/// The errors of a file that has to be refused.
fn refused(text: &str) -> Vec<String> {
    match read_file(text) {
        Ok((spec, _)) => panic!("{text}\nwas taken: {spec:#?}"),
        Err(errors) => errors,
    }
}
