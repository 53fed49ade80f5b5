//! A cluster brought back on this machine: from what it has itself, or from a backup.
//!
//! Either is decided at one moment: when the new store has its name beside the old one, or, for a machine that
//! had none, when it has its identity. A crash before that leaves what was; one after it is finished at the
//! next start.

use super::{JOIN_BOUND, Node};
use crate::identity::{Identity, Who};
use crate::listen;
use crate::member::{self, Member};
use anyhow::{Context, Result, bail};
use api::convert;
use api::model::{ClusterId, Role};
use api::proto::{RecoverDone, RecoverProgress, RestoreStart};
use manager::backup::{Host, Restored};
use manager::recovery;
use raft_store::swap;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Status;
use zeroize::Zeroizing;

/// Who watches a recovery.
pub type Steps = mpsc::Sender<Result<RecoverProgress, Status>>;

/// How long a manager that is alone may take to lead.
const LEAD_BOUND: Duration = Duration::from_secs(30);

async fn say(steps: &Steps, message: &str) {
    let step = RecoverProgress {
        message: message.into(),
        done: None,
    };
    // Whoever has stopped watching doesn't care.
    let _ = steps.send(Ok(step)).await;
}

impl Node {
    /// Puts in place what a crash has left half done.
    pub(super) fn settle_store(&self, who: Option<&Who>) -> Result<()> {
        let dir = self.places.raft();
        match who {
            Some(_) if swap::settle(&dir)? => {
                tracing::info!("this manager's state was replaced, as was decided before");
            }
            Some(_) => {}
            None => {
                swap::discard(&dir)?;
                // Of a membership that was never decided, or is over.
                if !dir.exists() {
                    self.vault.forget()?;
                }
            }
        }
        // A backup that was cut off.
        let scratch = self.places.scratch();
        match std::fs::remove_dir_all(&scratch) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("can't remove {}", scratch.display()))
            }
            _ => Ok(()),
        }
    }

    /// Makes this manager, whose cluster has lost its majority, the only one.
    ///
    /// # Errors
    /// When there is a majority, or the state can't be read or written; all is as it was then.
    pub async fn force_new_cluster(&self, steps: &Steps) -> Result<RecoverDone> {
        let mut slot = self.member.write().await;
        self.refuse_locked()?;
        let Some(member) = slot.as_ref() else {
            bail!(
                "this machine belongs to no cluster; `clusterctl init` makes one, `clusterctl restore` brings one back from a backup"
            );
        };
        let who = member.papers().load().who.clone();
        say(steps, "asking the other managers whether they are there").await;
        let Some(quorum) = member.quorum().await else {
            bail!(
                "this machine is a worker: run this on a manager that is left, or restore a backup (`clusterctl restore`)"
            );
        };
        // Of one cluster there would be two.
        if quorum.removed_by.is_some() {
            bail!(quorum.explain(0, Vec::new()));
        }
        if !quorum.is_lost() {
            bail!(
                "{} of {} managers can be reached, which is a majority: the cluster works, or is about to; take managers that are gone out with `clusterctl node rm --force`",
                quorum.up,
                quorum.voters
            );
        }
        let keys = self.vault.existing()?;
        say(steps, "stopping this manager; containers run on").await;
        if let Some(member) = slot.take() {
            member
                .shutdown("this manager is being made the only one")
                .await;
        }
        say(steps, "making it the only one").await;
        let id = manager::identity::Identity {
            cluster: who.cluster,
            node: who.node,
            role: who.role,
        };
        let dir = self.places.raft();
        let addr = who.endpoint();
        let made = recovery::force_new(&dir, keys.data(), id, addr.clone(), manager::now()).await;
        let settled = match &made {
            Ok(_) => swap::settle(&dir).map(drop),
            Err(_) => swap::discard(&dir),
        };
        say(steps, "starting it").await;
        // Whatever came of it: with the new state, or with the old one.
        let started = self.start_again(&who).await;
        if let Ok(member) = started {
            *slot = Some(member);
        } else {
            self.shown.send_replace(None);
            started.map(drop)?;
        }
        let alone = made.context("all is as it was")?;
        settled.context(
            "the new state is written, and takes the old one's place at the next start of clusterd",
        )?;
        let Some(member) = slot.as_ref() else {
            bail!("this manager has not started");
        };
        let revision = member.wait_alone(LEAD_BOUND).await?;
        tracing::warn!(dropped = ?alone.dropped, revision, "this manager goes on alone");
        Ok(RecoverDone {
            cluster_id: convert::id_bytes(who.cluster.0),
            node_id: convert::id_bytes(who.node.0),
            addr,
            revision,
            dropped: alone.dropped,
            kept: alone.kept,
            known: Vec::new(),
            created_at: 0,
        })
    }

    async fn start_again(&self, who: &Who) -> Result<Member> {
        let identity = Identity::load(&self.places.identity(), &self.vault)?
            .with_context(|| format!("the identity of node {} is gone", who.node))?;
        self.begin(identity).await
    }

    /// Makes a cluster of this one manager from a backup, or leaves everything as it was.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn restore(
        &self,
        start: RestoreStart,
        file: Vec<u8>,
        steps: &Steps,
    ) -> Result<RecoverDone> {
        let mut slot = self.member.write().await;
        self.refuse_locked()?;
        let passphrase = Zeroizing::new(start.passphrase);
        let envelope = api::backup::Envelope::read(&file)?;
        let of = convert::cluster_id(&envelope.header.cluster_id)?;
        let member = slot
            .as_ref()
            .map(|member| member.papers().load().who.clone());
        refuse_other(member.as_ref(), of, &start.cluster)?;
        self.check_machine()?;
        let dir = self.places.raft();
        if dir.exists() {
            bail!(manager::StartError::NotEmpty(dir));
        }
        let place = self.wished_address(&start.advertise_addr)?;
        let addr = place.addr;
        let port = self.cli.listen_addr.port();
        let listener = listen::bind_tcp(self.cli.listen_addr).await?;
        say(steps, "decrypting").await;
        let host = Host {
            description: member::describe(&self.hostname),
            addr,
            port,
        };
        let open = move || Restored::open(&file, &passphrase, host, manager::now());
        let restored = tokio::task::spawn_blocking(open).await??;
        say(steps, "writing the state").await;
        let own = format!("{addr}:{port}");
        let who = Who {
            cluster: restored.identity.cluster,
            node: restored.identity.node,
            role: Role::Manager,
            addr,
            addr_origin: place.origin,
            port,
            managers: vec![own.clone()],
        };
        let identity = Identity {
            who: who.clone(),
            key_pem: restored.material.key_pem.clone(),
            cert_pem: restored.material.cert_pem.clone(),
            ca_pem: restored.material.ca_pem.clone(),
        };
        let started = async {
            let keys = self.vault.keys()?;
            restored.fresh.write(&dir, keys.data()).await?;
            identity.create(&self.places.identity(), &self.vault)?;
            swap::settle(&dir)?;
            say(steps, "starting the manager").await;
            let member = Member::start(self.setup(), identity, listener, None, None).await?;
            let ready = async {
                let revision = member.wait_alone(LEAD_BOUND).await?;
                member.wait_ready(JOIN_BOUND).await?;
                Ok::<_, anyhow::Error>(revision)
            };
            match ready.await {
                Ok(revision) => Ok((member, revision)),
                Err(error) => {
                    for problem in member.leave().await.problems {
                        tracing::error!(%problem, "taking the restore back");
                    }
                    Err(error)
                }
            }
        };
        let (member, revision) = match started.await {
            Ok(started) => started,
            Err(error) => {
                self.undo();
                if let Err(error) = swap::discard(&dir) {
                    tracing::error!(%error, "taking the restore back");
                }
                return Err(error);
            }
        };
        self.show(&member);
        *slot = Some(member);
        tracing::warn!(cluster = %who.cluster, node = %who.node, revision, "restored from a backup");
        Ok(RecoverDone {
            cluster_id: convert::id_bytes(who.cluster.0),
            node_id: convert::id_bytes(who.node.0),
            addr: own,
            revision,
            dropped: restored.dropped,
            kept: restored.kept,
            known: restored.known,
            created_at: restored.header.created_at,
        })
    }
}

/// A machine that is part of a cluster is not restored over; and the backup has to be the one that is meant.
fn refuse_other(member: Option<&Who>, of: ClusterId, expected: &str) -> Result<()> {
    if !expected.is_empty() && expected.parse::<ClusterId>().ok() != Some(of) {
        bail!(
            "this is a backup of cluster {of}, not of {expected}; take the right file, or leave --cluster out"
        );
    }
    match member {
        Some(who) if who.cluster != of => bail!(
            "this is a backup of another cluster ({of}): this machine belongs to {}; take the right file, or a machine that belongs to none",
            who.cluster
        ),
        Some(who) if who.role == Role::Manager => bail!(
            "this machine is a manager of the cluster that is to be restored: if it has lost its majority, `clusterctl init --force-new-cluster` keeps what is newer than the backup; to restore all the same, `clusterctl leave --force` first"
        ),
        Some(_) => bail!(
            "this machine is a worker of the cluster that is to be restored, and its containers are kept by that; restore on a machine that belongs to no cluster"
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::model::NodeId;

    #[test]
    fn only_a_machine_of_no_cluster_is_restored_on_and_only_the_cluster_that_is_meant() {
        let who = |cluster, role| Who {
            cluster: ClusterId(cluster),
            node: NodeId(1),
            role,
            addr: [10, 0, 0, 1].into(),
            addr_origin: Default::default(),
            port: 1,
            managers: vec![],
        };
        let said = |member: Option<&Who>, expected: &str| {
            refuse_other(member, ClusterId(7), expected)
                .map_err(|e| e.to_string())
                .err()
                .unwrap_or_default()
        };
        assert_eq!(said(None, ""), "");
        assert_eq!(said(None, &ClusterId(7).to_string()), "");
        assert!(said(None, &ClusterId(8).to_string()).contains("not of"));
        assert!(said(None, "x").contains("not of x"));
        let other = who(8, Role::Manager);
        assert!(said(Some(&other), "").contains("backup of another cluster"));
        assert!(said(Some(&who(7, Role::Manager)), "").contains("--force-new-cluster"));
        assert!(said(Some(&who(7, Role::Worker)), "").contains("is a worker"));
    }
}
