//! Making a backup, and showing that it is good.

use super::key::{self, Key};
use super::seal::{self, OpenError};
use crate::clock::now;
use api::convert;
use api::model::{NodeId, Timestamp};
use api::proto::{BackupContent, BackupCounts, BackupHeader, BackupKdf, RaftPeer, StateSnapshot};
use api::state::Tables;
use prost::Message;
use raft_store::recover::{self, Fresh};
use raft_store::{DataKey, Handle, Peer, ProposeError};
use std::path::Path;
use zeroize::Zeroizing;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// There is nothing to keep.
    #[error("there is no cluster yet")]
    Empty,
    /// Encrypting it.
    #[error("the backup can't be encrypted: {0}")]
    Seal(String),
    /// It can't be opened again.
    #[error("the backup that was made can't be opened again: {0}")]
    Open(#[from] OpenError),
    /// The scratch store.
    #[error("the backup that was made can't be restored: {0}")]
    Scratch(String),
    /// What came out is something else.
    #[error(
        "the backup that was made, restored, is not the state that was to be kept; nothing was written"
    )]
    Other,
}

/// What a backup is made of.
pub struct Maker {
    /// The state.
    pub tables: Tables,
    /// The term it was read in.
    pub term: u64,
    /// The managers then.
    pub managers: Vec<Peer>,
    /// When that was.
    pub at: Timestamp,
    /// Where: a host's name.
    pub made_by: String,
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

impl Maker {
    /// The state after every write that was acknowledged before.
    ///
    /// # Errors
    /// When this manager doesn't lead, or no majority answers.
    pub async fn read(handle: &Handle, me: NodeId) -> Result<Self, ProposeError> {
        handle.linearizable().await?;
        let (tables, made_by) = handle.read(|state| {
            let host = state.nodes().get(&me);
            let host = host.map(|node| node.description.hostname.clone());
            (state.tables(), host.unwrap_or_default())
        });
        Ok(Self {
            tables,
            term: handle.leadership().borrow().term,
            managers: handle.managers().into_iter().map(|m| m.peer).collect(),
            at: now(),
            made_by,
        })
    }

    fn header(&self, kdf: BackupKdf) -> Result<BackupHeader, MakeError> {
        let cluster = self.tables.cluster.as_deref().ok_or(MakeError::Empty)?;
        let counts = BackupCounts {
            managers: count(self.managers.len()),
            nodes: count(self.tables.nodes.len()),
            networks: count(self.tables.networks.len()),
            services: count(self.tables.services.len()),
            stacks: count(self.tables.stacks.len()),
            tasks: count(self.tables.tasks.len()),
        };
        Ok(BackupHeader {
            cluster_id: convert::id_bytes(cluster.id.0),
            created_at: self.at.0,
            revision: self.tables.revision,
            version: env!("CARGO_PKG_VERSION").into(),
            made_by: self.made_by.clone(),
            kdf: Some(kdf),
            counts: Some(counts),
            ..BackupHeader::default()
        })
    }

    fn content(&self) -> BackupContent {
        let managers = self.managers.iter().map(|peer| RaftPeer {
            node_id: convert::id_bytes(peer.node_id.0),
            addr: peer.addr.clone(),
        });
        BackupContent {
            term: self.term,
            managers: managers.collect(),
            state: Some(StateSnapshot::from(&self.tables)),
        }
    }

    /// A file for this passphrase. Blocks, for as long as a key takes.
    ///
    /// # Errors
    /// When there is no cluster.
    pub fn seal(&self, passphrase: &str) -> Result<Vec<u8>, MakeError> {
        let kdf = key::fresh();
        let key = key::derive(passphrase, &kdf)
            .ok_or_else(|| MakeError::Seal("no key can be made".into()))?;
        self.seal_with(kdf, &key)
    }

    pub(super) fn seal_with(&self, kdf: BackupKdf, key: &Key) -> Result<Vec<u8>, MakeError> {
        let content = Zeroizing::new(self.content().encode_to_vec());
        seal::seal(self.header(kdf)?, &content, key).map_err(MakeError::Seal)
    }

    /// Restores what was opened into a store at `scratch`, which goes again, and compares what that then holds.
    ///
    /// # Errors
    /// When it is not what was to be kept.
    pub async fn verify(
        &self,
        (header, content): (BackupHeader, BackupContent),
        scratch: &Path,
    ) -> Result<BackupHeader, MakeError> {
        let wrong = |error: &dyn std::fmt::Display| MakeError::Scratch(error.to_string());
        let tables = Tables::try_from(content.state.unwrap_or_default()).map_err(|e| wrong(&e))?;
        let fresh = Fresh {
            index: tables.revision,
            tables,
            term: content.term,
            own: self.managers.first().cloned().unwrap_or_default(),
        };
        remove(scratch).await?;
        // Kept nowhere: what a crash leaves of it is nothing to anybody, and the next start removes it.
        let key = DataKey::random();
        let found = async {
            let written = fresh.write_into(scratch, &key).await;
            written.map_err(|e| wrong(&e))?;
            recover::read(scratch, &key).await.map_err(|e| wrong(&e))
        };
        let found = found.await;
        // It goes whatever came of it: it is the whole state.
        let removed = remove(scratch).await;
        let restored = StateSnapshot::from(&found?.state.tables());
        removed?;
        match restored == StateSnapshot::from(&self.tables) {
            true => Ok(header),
            false => Err(MakeError::Other),
        }
    }
}

async fn remove(dir: &Path) -> Result<(), MakeError> {
    match tokio::fs::remove_dir_all(dir).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(MakeError::Scratch(
            format!("can't remove {}: {error}", dir.display()),
        )),
        _ => Ok(()),
    }
}
