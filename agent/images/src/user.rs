//! Whom a container runs as: `user[:group]` by the image's own /etc/passwd and /etc/group.
//!
//! The rules are Docker's: a number needs no entry; without a group the user's own and all that list the
//! user; with one, that group alone. The files are read without following a link out of the root.

use std::path::Path;

use crate::error::{Error, Result};
use crate::root::RootDir;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";
const FILE_BYTES_MAX: u64 = 16 << 20;
/// Ids above are reserved.
const ID_MAX: u32 = i32::MAX as u32;

/// A resolved user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary group ids, sorted.
    pub additional_gids: Vec<u32>,
    /// Its home folder; `/` if the image has no such user.
    pub home: String,
}

/// Resolves `user[:group]`, names or numbers, inside a mounted root; empty is root.
pub fn resolve_user(rootfs: &Path, user: &str) -> Result<User> {
    let root = RootDir::open(rootfs)?;
    let read = |path: &str| {
        Ok(
            String::from_utf8_lossy(&root.read_file(path, FILE_BYTES_MAX)?.unwrap_or_default())
                .into_owned(),
        )
    };
    lookup(user, &read(PASSWD)?, &read(GROUP)?)
}

/// The decision, given both files' text.
fn lookup(spec: &str, passwd: &str, group: &str) -> Result<User> {
    let (name, group_name) = spec.split_once(':').unwrap_or((spec, ""));
    let name = if name.is_empty() { "0" } else { name };
    let number = id(name);
    let entry = accounts(passwd)
        .find(|account| account.name == name || (number.is_some() && account.uid == number));
    // A name wins over a number of the same text, wherever it stands.
    let entry = accounts(passwd)
        .find(|account| account.name == name)
        .or(entry);
    let (uid, own_gid, home, login) = match (entry, number) {
        (Some(account), _) => (account.uid, account.gid, account.home, Some(account.name)),
        (None, Some(uid)) => (Some(uid), Some(0), "/", None),
        (None, None) => return Err(missing("user", name, PASSWD)),
    };
    // An entry with a broken id is as good as none.
    let uid = uid.ok_or_else(|| missing("user", name, PASSWD))?;
    let mut additional_gids = Vec::new();
    let gid = if group_name.is_empty() {
        let gid = own_gid.ok_or_else(|| missing("user", name, PASSWD))?;
        if let Some(login) = login {
            additional_gids = groups(group)
                .filter(|entry| entry.members.split(',').any(|member| member == login))
                .filter_map(|entry| entry.gid)
                .filter(|other| *other != gid)
                .collect();
            additional_gids.sort_unstable();
            additional_gids.dedup();
        }
        gid
    } else {
        let named = groups(group)
            .find(|entry| entry.name == group_name)
            .and_then(|entry| entry.gid);
        named
            .or_else(|| id(group_name))
            .ok_or_else(|| missing("group", group_name, GROUP))?
    };
    let home = if home.is_empty() { "/" } else { home };
    Ok(User {
        uid,
        gid,
        additional_gids,
        home: home.to_owned(),
    })
}

fn missing(kind: &'static str, name: &str, file: &'static str) -> Error {
    Error::NoSuchAccount {
        kind,
        name: name.to_owned(),
        file,
    }
}

fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id <= ID_MAX)
}

struct Account<'a> {
    name: &'a str,
    uid: Option<u32>,
    gid: Option<u32>,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    lines(passwd).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (fields.next().and_then(id), fields.next().and_then(id));
        let home = fields.nth(1).unwrap_or("");
        Some(Account {
            name,
            uid,
            gid,
            home,
        })
    })
}

struct Group<'a> {
    name: &'a str,
    gid: Option<u32>,
    members: &'a str,
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        Some(Group {
            name,
            gid: fields.next().and_then(id),
            members: fields.next().unwrap_or(""),
        })
    })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD_TEXT: &str = "root:x:0:0:root:/root:/bin/sh\n# comment\nbad\nredis:x:999:998::/data:/bin/false\n\
                               1000:x:5:6::/five:/bin/sh\nkilo:x:1000:1000::/home/kilo:/bin/sh\nbroken:x:y:z::/:\n";
    const GROUP_TEXT: &str = "root:x:0:\nredis:x:998:\nssl:x:50:www,redis\ntape:x:26:redis\nself:x:998:redis\nwheel:x:10:root\n";

    #[test]
    fn docker_rules() {
        // spec -> uid, gid, additional, home
        for (spec, uid, gid, additional, home) in [
            ("", 0, 0, vec![10], "/root"),
            ("root", 0, 0, vec![10], "/root"),
            ("0", 0, 0, vec![10], "/root"),
            ("redis", 999, 998, vec![26, 50], "/data"),
            ("999", 999, 998, vec![26, 50], "/data"),
            ("redis:redis", 999, 998, vec![], "/data"),
            ("redis:26", 999, 26, vec![], "/data"),
            ("redis:4000", 999, 4000, vec![], "/data"),
            ("1000", 5, 6, vec![], "/five"),
            ("1001", 1001, 0, vec![], "/"),
            ("1001:tape", 1001, 26, vec![], "/"),
            (":50", 0, 50, vec![], "/root"),
        ] {
            let user = lookup(spec, PASSWD_TEXT, GROUP_TEXT).unwrap();
            let expected = User {
                uid,
                gid,
                additional_gids: additional,
                home: home.to_owned(),
            };
            assert_eq!(user, expected, "{spec}");
        }
        for (spec, text) in [
            ("nobody", "no user `nobody`"),
            ("redis:none", "no group `none`"),
            ("-1", "no user `-1`"),
            ("4294967295", "no user"),
            ("broken", "no user `broken`"),
        ] {
            let error = lookup(spec, PASSWD_TEXT, GROUP_TEXT)
                .unwrap_err()
                .to_string();
            assert!(error.contains(text), "{spec}: {error}");
        }
        assert_eq!(lookup("7:8", "", "").unwrap().gid, 8);
    }

    proptest::proptest! {
        #[test]
        fn noise_never_panics(spec in ".{0,20}", passwd in "(.|\n|:){0,200}", group in "(.|\n|:){0,200}") {
            let _ = lookup(&spec, &passwd, &group);
        }
    }
}
