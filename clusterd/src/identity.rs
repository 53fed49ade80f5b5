//! This machine's membership on disk: who it is, in which cluster, and the key that proves it.
//!
//! `identity/` holds `node.key`, `node.crt`, `ca.crt` and `node.json`; it is made beside and renamed, so that
//! it is there whole or not at all. A manager's `node.key` is sealed with the key of its state: who has it is let in
//! by the other managers, which then give all they have.

use crate::address::Place;
use crate::follow::Origin;
use crate::vault::Vault;
use anyhow::{Context, Result, bail};
use api::model::{ClusterId, NodeId, Role};
use manager::identity::Material;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use serde::{Deserialize, Serialize};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Who this machine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id there.
    pub node: NodeId,
    /// Manager or worker.
    pub role: Role,
    /// The address others reach it at.
    pub addr: Ipv4Addr,
    /// How it came by that.
    #[serde(default)]
    pub addr_origin: Origin,
    /// The port it listens on.
    pub port: u16,
    /// Managers known when it joined, `host:port`.
    pub managers: Vec<String>,
}

impl Who {
    /// Where others reach it, `host:port`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}:{}", self.addr, self.port)
    }
}

/// The membership.
#[derive(Clone)]
pub struct Identity {
    /// Who it is.
    pub who: Who,
    /// Private key, PEM.
    pub key_pem: String,
    /// Certificate, PEM.
    pub cert_pem: String,
    /// The cluster's root certificate, PEM.
    pub ca_pem: String,
}

/// The membership that is used now.
pub type Papers = arc_swap::ArcSwap<Identity>;

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.debug_struct("Identity")
            .field("who", &self.who)
            .finish_non_exhaustive()
    }
}

/// A private key's first byte when it is sealed; a PEM file begins otherwise.
const SEALED: u8 = 2;
/// What it is sealed for.
const PLACE: &[u8] = b"node.key";

fn damaged(dir: &Path, name: &str) -> String {
    format!(
        "{} is damaged; put it back from a backup, or remove {} and join again",
        dir.join(name).display(),
        dir.display()
    )
}

const FILES: [&str; 4] = ["node.json", "node.key", "node.crt", "ca.crt"];

impl Identity {
    /// Who this machine is, which needs no key; none when it belongs to no cluster.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn who(dir: &Path) -> Result<Option<Who>> {
        if !dir.exists() {
            return Ok(None);
        }
        let text = fs::read(dir.join("node.json")).with_context(|| damaged(dir, "node.json"))?;
        let who = serde_json::from_slice(&text).with_context(|| damaged(dir, "node.json"))?;
        Ok(Some(who))
    }

    /// Reads the membership; none when this machine belongs to no cluster. The private key is sealed from now on, or
    /// not, as its role wants it.
    ///
    /// # Errors
    /// When a file is missing or damaged, or the key that one is sealed with.
    pub fn load(dir: &Path, vault: &Vault) -> Result<Option<Self>> {
        if !dir.exists() {
            return Ok(None);
        }
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read(&path).with_context(|| {
                format!(
                    "can't read {}; put it back from a backup, or remove {} and join again",
                    path.display(),
                    dir.display()
                )
            })
        };
        let text = |name: &str| {
            let text = String::from_utf8(read(name)?).map_err(|error| error.utf8_error());
            text.with_context(|| damaged(dir, name))
        };
        let who: Who =
            serde_json::from_str(&text("node.json")?).with_context(|| damaged(dir, "node.json"))?;
        let key = read("node.key")?;
        let sealed = key.strip_prefix(&[SEALED]);
        let is_sealed = sealed.is_some();
        let key_pem = match sealed {
            Some(sealed) => {
                let keys = vault.existing()?;
                let mut key = Vec::new();
                if !keys.data().open_onto(&mut key, PLACE, sealed) {
                    bail!(
                        "{}: or it was sealed with another key than that in {}",
                        damaged(dir, "node.key"),
                        vault.path().display()
                    );
                }
                String::from_utf8(key).map_err(|error| error.utf8_error())
            }
            None => String::from_utf8(key).map_err(|error| error.utf8_error()),
        };
        let identity = Self {
            key_pem: key_pem.with_context(|| damaged(dir, "node.key"))?,
            cert_pem: text("node.crt")?,
            ca_pem: text("ca.crt")?,
            who,
        };
        if is_sealed != (identity.who.role == Role::Manager) {
            identity.replace(dir, vault)?;
        }
        Ok(Some(identity))
    }

    /// Writes a new membership.
    ///
    /// # Errors
    /// When there is one already, or the disk refuses; nothing is left then.
    pub fn create(&self, dir: &Path, vault: &Vault) -> Result<()> {
        if dir.exists() {
            bail!("{} is there already", dir.display());
        }
        let half = dir.with_extension("new");
        if half.exists() {
            fs::remove_dir_all(&half)
                .with_context(|| format!("can't remove {}", half.display()))?;
        }
        let written = self.write_into(&half, vault).and_then(|()| {
            fs::rename(&half, dir).with_context(|| format!("can't rename to {}", dir.display()))?;
            sync_parent(dir)
        });
        if written.is_err() {
            // What can't be removed is removed before the next try.
            let _ = fs::remove_dir_all(&half);
        }
        written
    }

    /// Writes a membership in place of the one that is there, in one step.
    ///
    /// # Errors
    /// When the disk refuses; the one before stays then.
    pub fn replace(&self, dir: &Path, vault: &Vault) -> Result<()> {
        agent::aside(|| self.replace_here(dir, vault))
    }

    fn replace_here(&self, dir: &Path, vault: &Vault) -> Result<()> {
        let next = dir.with_extension("new");
        if next.exists() {
            fs::remove_dir_all(&next)
                .with_context(|| format!("can't remove {}", next.display()))?;
        }
        self.write_into(&next, vault)?;
        renameat2(AT_FDCWD, &next, AT_FDCWD, dir, RenameFlags::RENAME_EXCHANGE)
            .with_context(|| format!("can't put {} in place", next.display()))?;
        sync_parent(dir)?;
        // It is the one before now.
        fs::remove_dir_all(&next).with_context(|| format!("can't remove {}", next.display()))
    }

    /// The same node at another address; a manager finds itself there, too.
    #[must_use]
    pub fn moved(&self, to: Place) -> Self {
        let mut next = self.clone();
        let who = &mut next.who;
        let before = who.endpoint();
        who.addr = to.addr;
        who.addr_origin = to.origin;
        let now = who.endpoint();
        for manager in &mut who.managers {
            if *manager == before {
                manager.clone_from(&now);
            }
        }
        next
    }

    /// What TLS needs of it.
    #[must_use]
    pub fn material(&self) -> Material {
        Material {
            ca_pem: self.ca_pem.clone(),
            cert_pem: self.cert_pem.clone(),
            key_pem: self.key_pem.clone(),
        }
    }

    fn write_into(&self, dir: &Path, vault: &Vault) -> Result<()> {
        let mut key = self.key_pem.clone().into_bytes();
        if let Some(seals) = vault.seals(self.who.role)? {
            key = vec![SEALED];
            seals.seal_onto(&mut key, PLACE, self.key_pem.as_bytes())?;
        }
        DirBuilder::new()
            .mode(0o700)
            .create(dir)
            .with_context(|| format!("can't make {}", dir.display()))?;
        let json = serde_json::to_string_pretty(&self.who)?;
        let contents: [&[u8]; 4] = [
            json.as_bytes(),
            &key,
            self.cert_pem.as_bytes(),
            self.ca_pem.as_bytes(),
        ];
        for (name, bytes) in FILES.into_iter().zip(contents) {
            let path = dir.join(name);
            let context = || format!("can't write {}", path.display());
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .with_context(context)?;
            file.write_all(bytes)
                .and_then(|()| file.sync_all())
                .with_context(context)?;
        }
        File::open(dir)
            .and_then(|d| d.sync_all())
            .with_context(|| format!("can't sync {}", dir.display()))
    }

    /// Forgets the membership: the folder goes in one step, then its files.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(dir: &Path) -> Result<()> {
        let gone = dir.with_extension("old");
        if gone.exists() {
            fs::remove_dir_all(&gone)
                .with_context(|| format!("can't remove {}", gone.display()))?;
        }
        fs::rename(dir, &gone).with_context(|| format!("can't remove {}", dir.display()))?;
        sync_parent(dir)?;
        fs::remove_dir_all(&gone).with_context(|| format!("can't remove {}", gone.display()))
    }
}

fn sync_parent(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent() {
        File::open(parent)
            .and_then(|d| d.sync_all())
            .with_context(|| format!("can't sync {}", parent.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Candidate;
    use std::os::unix::fs::MetadataExt;

    fn identity() -> Identity {
        let who = Who {
            cluster: ClusterId(1),
            node: NodeId(2),
            role: Role::Worker,
            addr: Ipv4Addr::new(10, 0, 0, 1),
            addr_origin: Origin::default(),
            port: 2377,
            managers: vec!["10.0.0.2:2377".into()],
        };
        Identity {
            who,
            key_pem: "key".into(),
            cert_pem: "crt".into(),
            ca_pem: "ca".into(),
        }
    }

    #[test]
    fn a_membership_is_kept_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path().join("raft.key"));
        let path = dir.path().join("identity");
        assert!(Identity::load(&path, &vault).unwrap().is_none());
        identity().create(&path, &vault).unwrap();
        assert_eq!(
            fs::metadata(path.join("node.key")).unwrap().mode() & 0o777,
            0o600
        );
        let read = Identity::load(&path, &vault).unwrap().unwrap();
        assert_eq!((read.who, read.key_pem), (identity().who, "key".into()));
        assert!(
            identity()
                .create(&path, &vault)
                .unwrap_err()
                .to_string()
                .contains("there already")
        );
        Identity::remove(&path).unwrap();
        assert!(Identity::load(&path, &vault).unwrap().is_none());
    }

    #[test]
    fn a_membership_is_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path().join("raft.key"));
        let path = dir.path().join("identity");
        identity().create(&path, &vault).unwrap();
        // What an earlier try has left is no hindrance.
        fs::create_dir(path.with_extension("new")).unwrap();
        let mut next = identity();
        next.who.role = Role::Manager;
        next.cert_pem = "other".into();
        next.replace(&path, &vault).unwrap();
        let read = Identity::load(&path, &vault).unwrap().unwrap();
        assert_eq!((read.who, read.cert_pem), (next.who, "other".into()));
        assert!(!path.with_extension("new").exists());
    }

    #[test]
    fn a_manager_that_moves_finds_itself_where_it_is() {
        let mut before = identity();
        before.who.managers.push(before.who.endpoint());
        let at = Candidate {
            interface: "eth0".into(),
            addr: Ipv4Addr::new(10, 9, 9, 9),
        };
        let now = before.moved(Place::new(at, true)).who;
        assert_eq!(now.managers, ["10.0.0.2:2377", "10.9.9.9:2377"]);
        assert_eq!(now.addr_origin.interface.as_deref(), Some("eth0"));
    }

    #[test]
    fn a_membership_of_before_this_was_noted_is_read() {
        let text = serde_json::to_string(&identity().who).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value.as_object_mut().unwrap().remove("addr_origin");
        let read: Who = serde_json::from_value(value).unwrap();
        assert_eq!(read, identity().who);
    }

    #[test]
    fn a_damaged_membership_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::new(dir.path().join("raft.key"));
        let path = dir.path().join("identity");
        identity().create(&path, &vault).unwrap();
        fs::write(path.join("node.json"), "{").unwrap();
        assert!(
            format!("{:#}", Identity::load(&path, &vault).unwrap_err())
                .contains("node.json is damaged")
        );
    }

    #[test]
    fn a_managers_private_key_is_sealed_and_a_workers_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        let vault = Vault::new(dir.path().join("raft.key"));
        let mut identity = identity();
        identity.key_pem = "the private key".into();
        let is_plain = || fs::read(path.join("node.key")).unwrap() == b"the private key";
        identity.create(&path, &vault).unwrap();
        assert!(is_plain() && !vault.path().exists());
        // Promoted; and read again by the next daemon.
        identity.who.role = Role::Manager;
        identity.replace(&path, &vault).unwrap();
        assert!(!is_plain());
        let again = Vault::new(vault.path().to_owned());
        let read = |vault: &Vault| Identity::load(&path, vault).map(Option::unwrap);
        assert_eq!(read(&again).unwrap().key_pem, "the private key");
        // As an earlier version has left it.
        fs::write(path.join("node.key"), "the private key").unwrap();
        read(&again).unwrap();
        assert!(!is_plain());
        // Without its key, and with another.
        again.forget().unwrap();
        let error = format!("{:#}", read(&again).unwrap_err());
        assert!(error.contains("raft.key is gone"), "{error}");
        again.keys().unwrap();
        let error = format!("{:#}", read(&again).unwrap_err());
        assert!(error.contains("another key"), "{error}");
    }
}
